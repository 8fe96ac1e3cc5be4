# SPDX-License-Identifier: Apache-2.0
"""The certificate authority, as a program of its own: `python -m dynamic_memory.controller.ca`.

It reads one JSON request from standard input and writes one JSON answer to standard output, so that keys never stand
on a command line, and so that the controller never carries the memory of a cryptography library. An error is one line
on standard error and exit code 1; no key is ever part of it.
"""

from __future__ import annotations

import datetime as dt
import sys
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dynamic_memory.controller.approver import Requested
from dynamic_memory.controller.authority_messages import Create, Created, Inspect, Request, Sign, Signed

__all__ = ["answer", "main"]

T = TypeVar("T", bound=x509.ExtensionType)

CA_LIFETIME = dt.timedelta(days=3650)
BACKDATE = dt.timedelta(minutes=5)
"""Clocks of nodes differ: a certificate is valid a little before it was made."""
MAX_INPUT = 256 * 1024


def answer(request: Request) -> Created | Requested | Signed:
    """Do what is asked.

    Raises:
        ValueError: the input is not what it should be.

    """
    match request:
        case Create():
            return _create(request)
        case Inspect():
            return _inspect(request)
        case Sign():
            return _sign(request)


def _create(request: Create) -> Created:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.name[:64])])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Created(certificate=_pem(certificate), key=_key_pem(key))


def _inspect(request: Inspect) -> Requested:
    csr = x509.load_pem_x509_csr(request.csr.encode())
    public = csr.public_key()
    names = _extension(csr, x509.SubjectAlternativeName)
    constraints = _extension(csr, x509.BasicConstraints)
    general = list(names.value) if names is not None else []
    is_ec, is_rsa = isinstance(public, ec.EllipticCurvePublicKey), isinstance(public, rsa.RSAPublicKey)
    return Requested(
        signature_valid=csr.is_signature_valid,
        key="ec" if is_ec else "rsa" if is_rsa else type(public).__name__,
        curve=public.curve.name if isinstance(public, ec.EllipticCurvePublicKey) else "",
        bits=public.key_size if isinstance(public, rsa.RSAPublicKey) else 0,
        uris=[n.value for n in general if isinstance(n, x509.UniformResourceIdentifier)],
        dns=[n.value for n in general if isinstance(n, x509.DNSName)],
        others=[type(n).__name__ for n in general if not isinstance(n, x509.UniformResourceIdentifier | x509.DNSName)],
        ca=constraints is not None and constraints.value.ca,
    )


def _sign(request: Sign) -> Signed:
    ca = x509.load_pem_x509_certificate(request.ca_certificate.encode())
    key = serialization.load_pem_private_key(request.ca_key.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("the authority's key must be EC or RSA")  # noqa: TRY004 - the content is wrong, not a type
    if key.public_key() != ca.public_key():
        raise ValueError("the authority's key is not the one of its certificate")
    csr = x509.load_pem_x509_csr(request.csr.encode())
    now = dt.datetime.now(dt.UTC)
    end = min(now + dt.timedelta(seconds=request.lifetime), ca.not_valid_after_utc)
    if end <= now:
        raise ValueError("the authority's certificate has expired")
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if request.server else [])]
    sans: list[x509.GeneralName] = [x509.UniformResourceIdentifier(request.identity)]
    sans += [x509.DNSName(name) for name in request.dns]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.identity.rsplit("/", 1)[1][:64])]))
        .issuer_name(ca.subject)
        .public_key(csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATE, ca.not_valid_before_utc))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(sans), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(csr.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Signed(certificate=_pem(certificate))


def _extension(csr: x509.CertificateSigningRequest, type_: type[T]) -> x509.Extension[T] | None:
    try:
        return csr.extensions.get_extension_for_class(type_)
    except x509.ExtensionNotFound:
        return None


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def main() -> int:
    """Serve one request."""
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(MAX_INPUT), type=Request)
        sys.stdout.buffer.write(msgspec.json.encode(answer(request)))
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
