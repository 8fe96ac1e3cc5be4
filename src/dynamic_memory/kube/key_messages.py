# SPDX-License-Identifier: Apache-2.0
"""What `certificates` and `keys` say to each other over standard input and output."""

import msgspec

__all__ = ["Check", "Checked", "Made", "Make", "Request"]


class Make(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Make a request for a certificate, for a new key or for the one that is given (PEM)."""

    identity: str
    dns: tuple[str, ...] = ()
    key: str = ""

    def __repr__(self) -> str:
        return f"Make(identity={self.identity!r})"


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Key and PKCS#10 request in PEM, and the SHA-256 of the public key in hex."""

    key: str
    csr: str
    key_hash: str

    def __repr__(self) -> str:
        return f"Made(key_hash={self.key_hash!r})"


class Check(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Check that a certificate is for this key and by this authority; all PEM."""

    ca: str
    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Check(...)"


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that is right: its dates (seconds since 1970, UTC) and names."""

    not_before: float
    not_after: float
    uris: list[str]
    dns: list[str]


Request = Make | Check
