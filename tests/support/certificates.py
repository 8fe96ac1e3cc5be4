# SPDX-License-Identifier: Apache-2.0
"""Certificates of a throw-away authority, with the identities of this project as URIs.

authority = Authority()
files = authority.issue(tmp_path / "n1", Identity.node("c1", "n1"))          # a TlsFiles
server = authority.issue(tmp_path / "service", Identity.role("c1", "service"), dns=("localhost",), server=True)
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dynamic_memory.fabric.identity import Identity
from dynamic_memory.fabric.tls import TlsFiles

__all__ = ["Authority"]


class Authority:
    """A certificate authority."""

    def __init__(self) -> None:
        ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.pem = ca.cert_pem.bytes()
        self._certificate = x509.load_pem_x509_certificate(self.pem)
        self._key = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)

    def issue(
        self,
        directory: Path,
        *identities: Identity | str,
        dns: tuple[str, ...] = (),
        server: bool = False,
        lifetime: dt.timedelta = dt.timedelta(hours=1),
        ca: bytes | None = None,
    ) -> TlsFiles:
        """Make a key and a certificate, and write both with the authority's certificate (or `ca`) to a directory."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(identity)) for identity in identities]
        names += [x509.DNSName(name) for name in dns]
        if server:
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dynamic-memory test")]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + lifetime)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())  # type: ignore[arg-type]  # an EC key
        directory.mkdir(parents=True, exist_ok=True)
        files = TlsFiles(*(str(directory / name) for name in ("ca.crt", "tls.crt", "tls.key")))
        pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
        _replace(files.ca, ca or self.pem)
        _replace(files.key, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none))
        _replace(files.certificate, certificate.public_bytes(pem))
        return files


def _replace(path: str, content: bytes) -> None:
    fresh = Path(f"{path}.new")
    fresh.write_bytes(content)
    fresh.rename(path)
