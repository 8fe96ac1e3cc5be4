# SPDX-License-Identifier: Apache-2.0
"""Who asks: a client certificate, a bearer token from a file, a token of a service account, or nobody in particular.

Wrong credentials are 401 and never fall back to anonymous. A user with the right to `impersonate` may act as another
(`kubectl --as`).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from dynamic_memory.embedded.apiserver.authorization import Decider
from dynamic_memory.embedded.apiserver.errors import StatusError, bad_request, unauthorized
from dynamic_memory.embedded.apiserver.rbac import Attributes, service_account
from dynamic_memory.embedded.apiserver.request import ANONYMOUS, Request, UserInfo, clean
from dynamic_memory.embedded.apiserver.tokens import account_groups
from dynamic_memory.errors import InvalidInput

__all__ = ["Authenticator", "certificate_user", "read_tokens"]

AUTHENTICATED = "system:authenticated"
AUTHENTICATION = "authentication.k8s.io"
CREDENTIAL = "authentication.kubernetes.io/credential-id"


def read_tokens(path: Path) -> dict[str, UserInfo]:
    """Read a token file: one `token,user,uid,"group1,group2"` a line, the uid and groups may be missing.

    Raises:
        InvalidInput: a line is not of that form, or a token stands there twice.

    """
    found: dict[str, UserInfo] = {}
    for number, line in enumerate(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))), 1):
        row = [entry.strip() for entry in line]
        if not row or row[0].startswith("#"):
            continue
        if len(row) not in {2, 3, 4} or not row[0] or not row[1]:
            raise InvalidInput(f"{path} line {number}", 'token,user,uid,"group1,group2"', f"{len(row)} entries")
        if row[0] in found:
            raise InvalidInput(f"{path} line {number}", "another token than those above", "one of them")
        uid, groups = [*row[2:], "", ""][:2]
        names = tuple(name.strip() for name in groups.split(",") if name.strip())
        found[row[0]] = UserInfo(row[1], (*names, AUTHENTICATED), uid)
    return found


def certificate_user(certificate: Mapping[str, Any], der: bytes = b"") -> UserInfo | None:
    """Return the user of a verified client certificate: common name, and organizations as groups.

    Args:
        certificate: as `ssl.SSLSocket.getpeercert` returns it.
        der: its bytes.

    """
    entries = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [value for key, value in entries if key == "commonName"]
    if not names or not names[-1]:
        return None
    groups = tuple(value for key, value in entries if key == "organizationName")
    extra = {CREDENTIAL: (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)} if der else {}
    return UserInfo(names[-1], (*groups, AUTHENTICATED), "", extra)


class Authenticator:
    """Finds out who asks.

    Args:
        tokens: users by static token.
        identify: says whose token of a service account something is.
        decider: decides about impersonation.
        anonymous: whether a request without credentials has a user at all.

    """

    def __init__(
        self,
        decider: Decider,
        *,
        tokens: Mapping[str, UserInfo] | None = None,
        identify: Callable[[str], UserInfo | None] | None = None,
        anonymous: bool = True,
    ) -> None:
        self._decider = decider
        self._tokens = {hashlib.sha256(token.encode()).digest(): user for token, user in (tokens or {}).items()}
        self._identify = identify
        self._anonymous = anonymous

    async def __call__(self, incoming: web.BaseRequest, request: Request) -> None:
        """Put into a request who sent it over HTTP.

        Raises:
            StatusError: 401, or 403 for an impersonation that is not allowed.

        """
        certificate: UserInfo | None = None
        transport = incoming.transport
        ssl_object = transport.get_extra_info("ssl_object") if transport is not None else None
        if ssl_object is not None and (seen := ssl_object.getpeercert()):
            certificate = certificate_user(seen, ssl_object.getpeercert(binary_form=True) or b"")
        headers = incoming.headers
        request.user = user = self.user(clean(headers.get("Authorization", "")), certificate)
        if any(name.lower().startswith("impersonate-") for name in headers):
            cleaned = [(clean(name.lower()), clean(value)) for name, value in headers.items()]
            request.user = self.impersonated(user, cleaned)
            request.impersonator = user

    def user(self, authorization: str, certificate: UserInfo | None = None) -> UserInfo:
        """Return the user of credentials.

        Raises:
            StatusError: 401.

        """
        if certificate is not None:
            return certificate
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() == "bearer" and token:
            found = self.of_token(token)
            if found is None:
                raise unauthorized()
            return found
        if not self._anonymous:
            raise unauthorized()
        return ANONYMOUS

    def of_token(self, token: str) -> UserInfo | None:
        """Return whose token it is."""
        found = self.of_static(token)
        if found is None and self._identify is not None:
            found = self._identify(token)
        return found

    def of_static(self, token: str) -> UserInfo | None:
        """Return whose token of the file it is; looked up by digest, so that the time taken tells nothing of others."""
        return self._tokens.get(hashlib.sha256(token.encode()).digest())

    def impersonated(self, user: UserInfo, headers: Iterable[tuple[str, str]]) -> UserInfo:
        """Return the user that somebody wants to act as.

        Args:
            user: who asks in truth.
            headers: all headers, names in lower case.

        Raises:
            StatusError: 400, no user is named; 403, it is not allowed.

        """
        wanted = _Impersonation(headers)
        if not wanted.name:
            raise bad_request(f"requested {wanted} without impersonating a user name")
        account = service_account(wanted.name)
        groups = list(wanted.groups)
        if account is not None:
            self._allow(user, Attributes("impersonate", "", "serviceaccounts", "", *account))
        else:
            self._allow(user, Attributes("impersonate", "", "users", name=wanted.name))
        for group in groups:
            self._allow(user, Attributes("impersonate", "", "groups", name=group))
        if wanted.uid:
            self._allow(user, Attributes("impersonate", AUTHENTICATION, "uids", name=wanted.uid))
        for key, value in wanted.extra:
            self._allow(user, Attributes("impersonate", AUTHENTICATION, "userextras", key, name=value))
        if account is not None and not groups:
            groups = list(account_groups(account[0]))
        if wanted.name != ANONYMOUS.name and AUTHENTICATED not in groups:
            groups.append(AUTHENTICATED)
        extra: dict[str, tuple[str, ...]] = {}
        for key, value in wanted.extra:
            extra[key] = (*extra.get(key, ()), value)
        return UserInfo(wanted.name, tuple(groups), wanted.uid, extra)

    def _allow(self, user: UserInfo, wanted: Attributes) -> None:
        decision = self._decider.decide(user, wanted)
        if decision.allowed:
            return
        resource = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
        qualified = f"{wanted.resource}.{wanted.group}" if wanted.group else wanted.resource
        where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
        text = (
            f'{qualified} "{wanted.name}" is forbidden: User "{user.name}" cannot impersonate resource "{resource}" '
            f'in API group "{wanted.group}" {where}'
        )
        text = f"{text}: {decision.reason}" if decision.reason else text
        raise StatusError(403, "Forbidden", text, group=wanted.group, kind=wanted.resource, name=wanted.name)


class _Impersonation:
    """What the Impersonate headers of a request say."""

    def __init__(self, headers: Iterable[tuple[str, str]]) -> None:
        self.name = ""
        self.uid = ""
        self.groups: list[str] = []
        self.extra: list[tuple[str, str]] = []
        for header, value in headers:
            kind = header.removeprefix("impersonate-")
            if kind == header:
                continue
            if kind == "user":
                self.name = value
            elif kind == "uid":
                self.uid = value
            elif kind == "group":
                self.groups.append(value)
            elif kind.startswith("extra-"):
                self.extra.append((unquote(kind.removeprefix("extra-")), value))

    def __str__(self) -> str:
        return str([*self.groups, *([self.uid] if self.uid else []), *(key for key, _ in self.extra)])
