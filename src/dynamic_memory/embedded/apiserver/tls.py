# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for one server: made when TLS is first switched on, kept in the data folder.

The authority signs the server's certificate (made anew at each start, for the names and addresses that it listens on)
and client certificates for kubeconfigs. Without a data folder everything is made anew at each start. ECDSA P-256
throughout.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_memory.process import durable

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["Authority", "Pair"]

NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
LOOPBACK = ("127.0.0.1", "::1")
YEARS = dt.timedelta(days=3650)
BACK = dt.timedelta(minutes=5)  # certificates are valid from a bit before now: clocks of two machines differ


class Pair:
    """A certificate and its key, both PEM."""

    __slots__ = ("certificate", "key")

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.certificate = certificate
        self.key = key


class Authority:
    """The authority. All methods block: they make keys and write files; call them in a thread.

    Args:
        folder: where `ca.crt` and `ca.key` are kept; None = in memory.
        now: the wall time; not a test's clock, since clients check certificates by theirs.

    """

    def __init__(self, folder: Path | None, now: dt.datetime) -> None:
        from cryptography import x509  # noqa: PLC0415 - 12 MB that only a server with TLS needs
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        self._now = now
        certificate = durable.read(folder / "ca.crt") if folder is not None else None
        key = durable.read(folder / "ca.key") if folder is not None else None
        if certificate is not None and key is not None:
            loaded = serialization.load_pem_private_key(key, password=None)
            self._key: ec.EllipticCurvePrivateKey = loaded  # type: ignore[assignment] # written below, of this type
            self._certificate = x509.load_pem_x509_certificate(certificate)
        else:
            self._key = _new_key()
            self._certificate = self._sign("dynamic-memory", self._key, authority=True)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                durable.write(folder / "ca.key", _key_pem(self._key))
                durable.write(folder / "ca.crt", self.certificate, mode=0o644)

    @property
    def certificate(self) -> bytes:
        """The authority's certificate, PEM."""
        return _pem(self._certificate)

    def server(self, hosts: Sequence[str] = ()) -> Pair:
        """Return a certificate for the server, good for loopback, the names of the service, and `hosts`."""
        key = _new_key()
        named = (host for host in hosts if host not in {"0.0.0.0", "::"})  # noqa: S104 - compared, not bound to
        wanted = dict.fromkeys([*NAMES, *LOOPBACK, *named])
        return Pair(_pem(self._sign("kube-apiserver", key, hosts=list(wanted))), _key_pem(key))

    def client(self, user: str, groups: Sequence[str] = ()) -> Pair:
        """Return a certificate that makes its owner a user with groups."""
        key = _new_key()
        return Pair(_pem(self._sign(user, key, groups=groups, client=True)), _key_pem(key))

    def server_context(self, hosts: Sequence[str] = ()) -> ssl.SSLContext:
        """Return the context of a listening socket; clients may show a certificate of this authority."""
        pair = self.server(hosts)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.certificate.decode())
        # ssl reads keys from files alone
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "server.pem"
            durable.write(file, pair.certificate + pair.key)
            context.load_cert_chain(file)
        return context

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        groups: Sequence[str] = (),
        hosts: Sequence[str] = (),
        authority: bool = False,
        client: bool = False,
    ) -> x509.Certificate:
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if authority else self._certificate.subject
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - BACK)
            .not_valid_after(self._now + YEARS)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(_usage(authority=authority), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if not authority:
            usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())


def _host(host: str) -> x509.GeneralName:
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, authority: bool) -> x509.KeyUsage:
    from cryptography import x509  # noqa: PLC0415

    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
