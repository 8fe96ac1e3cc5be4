# SPDX-License-Identifier: Apache-2.0
"""What controller and `ca` say to each other over standard input and output."""

import msgspec

__all__ = ["Create", "Created", "Inspect", "Request", "Sign", "Signed"]


class Create(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Make a new authority. `name` is its subject, for people."""

    name: str


class Inspect(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read a PKCS#10 request in PEM; the answer is `approver.Requested`."""

    csr: str


class Sign(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Sign a request for exactly these names, whatever it says itself.

    Attributes:
        csr: PKCS#10 in PEM; only its public key is used.
        ca_certificate: PEM.
        ca_key: PEM, never logged.
        identity: URI.
        dns: DNS names.
        server: it may be the certificate of a server, too.
        lifetime: seconds.

    """

    csr: str
    ca_certificate: str
    ca_key: str
    identity: str
    dns: tuple[str, ...] = ()
    server: bool = False
    lifetime: float

    def __repr__(self) -> str:
        return f"Sign(identity={self.identity!r})"


Request = Create | Inspect | Sign


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """A new authority: certificate and key, both PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Created(...)"


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate, PEM."""

    certificate: str
