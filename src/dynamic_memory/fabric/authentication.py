# SPDX-License-Identifier: Apache-2.0
"""Who a caller is, proven by its certificate.

TLS has checked that the certificate is signed by some owner's authority and that the caller has the key. What it
cannot check is done here: the owner that the certificate names is the one whose authority signed it, so that one
cluster's authority cannot make certificates of another. That takes a parser of certificates (`cryptography`), which
only the service loads; the answer is kept for each certificate.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from dynamic_memory.errors import InvalidInput
from dynamic_memory.fabric import identity, tls
from dynamic_memory.fabric.errors import Unauthenticated
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.process import clock

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["IDENTITY_KEY", "ByCertificate", "ByWord", "Caller", "Credentials"]

IDENTITY_KEY = "x-dynamic-memory-identity"
_CACHED = 4096
_LOOK_SECONDS = 1.0

AuthContext = Mapping[str, Sequence[bytes]]
Metadata = Sequence[tuple[str, str | bytes]]


class Caller(msgspec.Struct, frozen=True):
    """A proven identity, and when the proof ends."""

    identity: Identity
    expires: dt.datetime | None


class Credentials(Protocol):
    """A way to find out who calls."""

    def identify(self, context: AuthContext, metadata: Metadata) -> Caller:
        """The caller of one call.

        Raises:
            Unauthenticated: it is not proven.

        """
        ...


class ByWord:
    """The caller says who it is, and is believed: without TLS, for tests and laptops, on loopback only.

    Args:
        owners: names of all owners; with one alone, `node/<name>` is enough to say.

    """

    def __init__(self, owners: Sequence[str]) -> None:
        self._owners = tuple(owners)

    def identify(self, context: AuthContext, metadata: Metadata) -> Caller:
        """What the metadata says: an identity as in a certificate, `node/<name>`, or `<role>/<owner>`."""
        del context
        said = [str(value) for key, value in metadata if key == IDENTITY_KEY]
        if len(said) != 1:
            raise Unauthenticated(f"one {IDENTITY_KEY} is needed")
        try:
            return Caller(identity.parse(self._in_full(said[0])), None)
        except InvalidInput as error:
            raise Unauthenticated(str(error)) from error

    def _in_full(self, said: str) -> str:
        if identity.is_identity(said):
            return said
        kind, _, name = said.partition("/")
        if kind == identity.NODE:
            owner = self._owners[0] if len(self._owners) == 1 else ""
            return str(Identity.node(owner, name))
        return str(Identity.role(name, kind))


class ByCertificate:
    """The caller's certificate says who it is, and its owner's authority has signed it.

    Args:
        authorities: file of certificates (PEM) that sign for an owner, by owner; read again when it changes.

    """

    def __init__(self, authorities: Mapping[str, str]) -> None:
        self._files = dict(authorities)
        self._signature: tls.Signature = ()
        self._looked = -_LOOK_SECONDS
        self._known: dict[bytes, Caller] = {}

    def identify(self, context: AuthContext, metadata: Metadata) -> Caller:
        """The one identity in the certificate of the connection."""
        del metadata
        pem = next(iter(context.get("x509_pem_cert") or ()), b"")
        if not pem:
            raise Unauthenticated("a client certificate is needed")
        self._forget_if_changed()
        caller = self._known.get(pem)
        if caller is None:
            caller = self._examine(pem)
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[pem] = caller
        if caller.expires is not None and caller.expires <= clock.now():
            raise Unauthenticated("the client certificate has expired")
        return caller

    def _forget_if_changed(self) -> None:
        now = clock.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        found = tls.signature(*self._files.values())
        if found != self._signature:
            self._signature = found
            self._known.clear()

    def _examine(self, pem: bytes) -> Caller:
        from cryptography import x509  # noqa: PLC0415 - 12 MB that only a service with TLS needs

        try:
            certificate = x509.load_pem_x509_certificate(pem)
            caller = _identity(certificate)
        except ValueError as error:
            raise Unauthenticated(f"the client certificate cannot be read: {error}") from error
        path = self._files.get(caller.owner)
        if path is None:
            raise Unauthenticated(f"this service does not serve {caller.owner!r}")
        if not _signed_by(certificate, path):
            raise Unauthenticated(f"the client certificate is not signed by an authority of {caller.owner!r}")
        return Caller(caller, certificate.not_valid_after_utc)


def _identity(certificate: x509.Certificate) -> Identity:
    from cryptography import x509  # noqa: PLC0415 - loaded already

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if identity.is_identity(uri)]
    except x509.ExtensionNotFound:
        uris = []
    if len(uris) != 1:
        raise Unauthenticated(f"the client certificate names {len(uris)} identities, one is needed")
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        allowed = x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH in usages
    except x509.ExtensionNotFound:
        allowed = True
    if not allowed:
        raise Unauthenticated("the certificate is not one for clients")
    try:
        return identity.parse(uris[0])
    except InvalidInput as error:
        raise Unauthenticated(str(error)) from error


def _signed_by(certificate: x509.Certificate, path: str) -> bool:
    from cryptography import x509  # noqa: PLC0415 - loaded already
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - loaded already

    try:
        authorities = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise Unauthenticated(f"the owner's authority cannot be read: {error}") from error
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False
