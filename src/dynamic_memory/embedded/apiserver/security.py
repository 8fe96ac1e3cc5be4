# SPDX-License-Identifier: Apache-2.0
"""Identities and rights, put together for one server.

Without options everybody who reaches the server may do everything, as on the seed's server; tokens of service accounts
are issued and understood all the same, so that a role knows in tests who it is. With RBAC, requests, parts of claims'
statuses and the giving of rights are checked, and the roles that every cluster has are made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.audit import AuditLog
from dynamic_memory.embedded.apiserver.authentication import Authenticator, read_tokens
from dynamic_memory.embedded.apiserver.authorization import AllowAll, Decider, RbacAuthorizer
from dynamic_memory.embedded.apiserver.claim_rights import ClaimRights
from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.escalation import RoleRights
from dynamic_memory.embedded.apiserver.node_restriction import NodeRestriction
from dynamic_memory.embedded.apiserver.rbac import GROUP
from dynamic_memory.embedded.apiserver.rbac_defaults import default_objects
from dynamic_memory.embedded.apiserver.records import Object, encode
from dynamic_memory.embedded.apiserver.request import INTERNAL, Request, Response, UserInfo
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.reviews import Reviews
from dynamic_memory.embedded.apiserver.store import Store
from dynamic_memory.embedded.apiserver.token_requests import TokenRequests
from dynamic_memory.embedded.apiserver.tokens import ISSUER, TokenKey, Tokens
from dynamic_memory.embedded.apiserver.watch import Selection

__all__ = ["Security", "SecurityOptions", "StoreWorld", "secured"]

PLURALS = {"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings"}


@dataclass(frozen=True)
class SecurityOptions:
    """What is checked.

    Attributes:
        rbac: whether roles and bindings decide; else everything is allowed.
        token_file: static bearer tokens, one `token,user,uid,"group1,group2"` a line.
        anonymous: whether requests without credentials are those of `system:anonymous`, or 401.
        audit_log: file that gets one line of JSON a request.

    """

    rbac: bool = False
    token_file: Path | None = None
    anonymous: bool = True
    audit_log: Path | None = None


class StoreWorld:
    """The stored objects that are on disk, read only, as RBAC and tokens need them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, group: str, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object in its storage version, or None."""
        record = self._store.get(StorageKey(group, plural), (namespace, name))
        return None if record is None else record.object

    def list(self, group: str, plural: str, namespace: str | None = None) -> Collection[dict[str, Any]]:
        """Return the objects in their storage version."""
        return [record.object for record in self._store.select(StorageKey(group, plural), Selection(namespace or ""))]


class Security:
    """See the module. Made by `secured`.

    Attributes:
        decider: who may do what.
        tokens: issues and reads tokens of service accounts.
        authenticator: says who asks over HTTP.
        audit: is told of each answered request; None without a log.

    """

    def __init__(self, api: Api, options: SecurityOptions, folder: Path | None, static: Mapping[str, UserInfo]) -> None:
        core = api.core
        world = StoreWorld(core.store)
        key = TokenKey(folder)
        self._api = api
        self._options = options
        self.tokens = Tokens(key, world, core.clock.now)
        self.audit: AuditLog | None = None
        self.decider: Decider = AllowAll()
        if options.rbac:
            authorizer = RbacAuthorizer(world)
            core.store.listen(authorizer.heard)
            inner = ClaimRights(RoleRights(core.admission, authorizer), authorizer)
            core.admission = NodeRestriction(inner, world, authorizer)
            api.authorizer = authorizer
            self.decider = authorizer
        self.authenticator = Authenticator(
            self.decider, tokens=static, identify=self.tokens.identify, anonymous=options.anonymous
        )
        api.subresources.tokens = TokenRequests(core, world, key, self.tokens)
        Reviews(api, self.decider, self._identify).install()

    def _identify(self, token: str, audiences: tuple[str, ...]) -> tuple[UserInfo, tuple[str, ...]] | None:
        found = self.tokens.reviewed(token, audiences)
        if found is None and ISSUER in audiences and (user := self.authenticator.of_static(token)) is not None:
            return user, (ISSUER,)  # who is named in a file is known to this server alone
        return found

    async def prepare(self) -> None:
        """Make the roles and bindings that every cluster has, if RBAC is on; what is there already stays as it is."""
        if not self._options.rbac:
            return
        for obj in default_objects():
            await self._make(obj)

    async def _make(self, obj: Object) -> None:
        plural = PLURALS[obj["kind"]]
        if self._api.core.store.head(StorageKey(GROUP, plural), ("", obj["metadata"]["name"])) is not None:
            return
        headers = {"content-type": "application/json"}
        path = f"/apis/{GROUP}/v1/{plural}"
        answer = await self._api.handle(Request("POST", path, {}, headers, encode(obj), INTERNAL))
        if answer.code >= 300:  # noqa: PLR2004 - not a success
            text = answer.body.decode() if isinstance(answer, Response) else ""
            raise StatusError(answer.code, "InternalError", f"{obj['kind']} {obj['metadata']['name']}: {text}")


@contextlib.asynccontextmanager
async def secured(api: Api, options: SecurityOptions, folder: Path | None = None) -> AsyncIterator[Security]:
    """Have identities and rights checked, and keep the audit log, while the context is open.

    Admission policies have to be in `api.core.admission` before. The caller gives `authenticator` and `audit` to the
    edge, and calls `prepare` once the namespaces are there.

    Args:
        api: the pipeline.
        options: what is checked.
        folder: where the key of tokens is kept; None = in memory.

    Raises:
        InvalidInput: the token file is not one.
        OSError: the token file or the log cannot be used.

    """
    static = await asyncio.to_thread(read_tokens, options.token_file) if options.token_file is not None else {}
    security = Security(api, options, folder, static)
    if options.audit_log is None:
        yield security
        return
    security.audit = AuditLog(options.audit_log, api.core.clock)
    try:
        yield security
    finally:
        await asyncio.to_thread(security.audit.close)
