# SPDX-License-Identifier: Apache-2.0
"""Whom to sign a certificate for (rule 4). Pure.

A certificate names an owner and a node or role, and the service believes it. So a request is approved only if the API
server's own word about the requester says the same: the ServiceAccount of that role, and for a node the node that the
token is bound to (`authentication.kubernetes.io/node-name`, KEP-4193). Everything else is denied with a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from dynamic_memory.api.certificates import CertificateSigningRequestSpec
from dynamic_memory.errors import InvalidInput
from dynamic_memory.fabric import identity

__all__ = ["NODE_NAME_EXTRA", "Denial", "Grant", "Requested", "Rules", "decide"]

NODE_NAME_EXTRA = "authentication.kubernetes.io/node-name"
CLIENT_AUTH = "client auth"
SERVER_AUTH = "server auth"
_HARMLESS = frozenset({"digital signature", "key encipherment"})
_CURVES = frozenset({"secp256r1", "secp384r1"})
_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 8192


class Requested(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a PKCS#10 request says, as `ca` read it.

    Attributes:
        signature_valid: it is signed with its own key.
        key: `ec`, `rsa`, or the name of another kind.
        curve: of an EC key.
        bits: of an RSA key.
        uris: subject alternative names that are URIs.
        dns: subject alternative names that are DNS names.
        others: other subject alternative names, as text.
        ca: it asks to be a certificate authority.

    """

    signature_valid: bool
    key: str
    curve: str = ""
    bits: int = 0
    uris: list[str] = []
    dns: list[str] = []
    others: list[str] = []
    ca: bool = False


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Who may be what.

    Attributes:
        owner: name of this cluster at the service.
        nodes: usernames that may ask for the identity of the node they run on.
        roles: for each role, the usernames that may ask for it.
        service_names: DNS names that the service may have.

    """

    owner: str
    nodes: frozenset[str]
    roles: Mapping[str, frozenset[str]]
    service_names: frozenset[str]


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be signed, and with what."""

    identity: str
    dns: tuple[str, ...]
    server: bool


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may not be signed. `why` is a sentence for people."""

    reason: str
    why: str


class _Denied(Exception):
    def __init__(self, reason: str, why: str) -> None:
        self.denial = Denial(reason=reason, why=why)
        super().__init__(why)


def decide(spec: CertificateSigningRequestSpec, requested: Requested, rules: Rules) -> Grant | Denial:
    """Approve or deny a request.

    Args:
        spec: the CertificateSigningRequest; the API server vouches for username and extra.
        requested: its PKCS#10 request, decoded.
        rules: who may be what.

    """
    try:
        _check_key(requested)
        who = _identity(requested, rules)
        _check_requester(spec, who, rules)
        server = _check_usages(spec.usages, who)
        _check_names(requested, who, rules)
    except _Denied as denied:
        return denied.denial
    return Grant(identity=str(who), dns=tuple(requested.dns), server=server)


def _check_key(requested: Requested) -> None:
    if not requested.signature_valid:
        raise _Denied("BadRequest", "The request is not signed with the key that it is for.")
    ec = requested.key == "ec" and requested.curve in _CURVES
    rsa = requested.key == "rsa" and _MIN_RSA_BITS <= requested.bits <= _MAX_RSA_BITS
    if not ec and not rsa:
        raise _Denied("BadKey", "The key must be EC P-256 or P-384, or RSA with 2048 to 8192 bits.")
    if requested.ca:
        raise _Denied("BadRequest", "A certificate authority is never signed for.")


def _identity(requested: Requested, rules: Rules) -> identity.Identity:
    if len(requested.uris) != 1 or requested.others:
        raise _Denied("BadIdentity", "The request must name one URI as its identity, and only DNS names beside.")
    try:
        who = identity.parse(requested.uris[0])
    except InvalidInput as error:
        raise _Denied("BadIdentity", f"The URI is no identity: {error}.") from None
    if who.owner != rules.owner:
        raise _Denied("WrongOwner", f"This cluster is {rules.owner}, the request is for {who.owner}.")
    return who


def _check_requester(spec: CertificateSigningRequestSpec, who: identity.Identity, rules: Rules) -> None:
    allowed = rules.nodes if who.is_node else rules.roles.get(who.name, frozenset())
    if spec.username not in allowed:
        raise _Denied("WrongRequester", f"{spec.username or 'An unnamed user'} may not be {who.kind} {who.name}.")
    if who.is_node:
        bound: Sequence[str] = spec.extra.get(NODE_NAME_EXTRA, ())
        if list(bound) != [who.name]:
            shown = ", ".join(bound) or "no node"
            raise _Denied("WrongNode", f"The token is bound to {shown}, the request is for node {who.name}.")


def _check_usages(usages: Sequence[str], who: identity.Identity) -> bool:
    service = who.has_role(identity.SERVICE)
    allowed = _HARMLESS | {CLIENT_AUTH} | ({SERVER_AUTH} if service else set())
    extra = sorted(set(usages) - allowed)
    needed = SERVER_AUTH if service else CLIENT_AUTH
    if extra or needed not in usages:
        text = ", ".join(sorted(allowed))
        raise _Denied("BadUsages", f"The usages must contain '{needed}', and nothing else than: {text}.")
    return SERVER_AUTH in usages


def _check_names(requested: Requested, who: identity.Identity, rules: Rules) -> None:
    if requested.dns and not who.has_role(identity.SERVICE):
        raise _Denied("BadIdentity", "Only the service has DNS names.")
    wrong = sorted(set(requested.dns) - rules.service_names)
    if wrong:
        raise _Denied("BadIdentity", f"The service may not be called {wrong[0]}.")
