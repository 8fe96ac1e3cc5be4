# SPDX-License-Identifier: Apache-2.0
"""Keys and certificate requests, as a program of its own: `python -m dynamic_memory.kube.keys`.

It reads one JSON request from standard input and writes one JSON answer to standard output. Keys never stand on a
command line, and a daemon that has certificates never carries a cryptography library. Errors go to standard error,
with exit code 1, and never hold a key.
"""

from __future__ import annotations

import hashlib
import sys

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dynamic_memory.kube.key_messages import Check, Checked, Made, Make, Request

__all__ = ["answer", "main"]

MAX_INPUT = 256 * 1024


def answer(request: Request) -> Made | Checked:
    """Do what is asked.

    Raises:
        ValueError: the input is not what it should be.

    """
    return _make(request) if isinstance(request, Make) else _check(request)


def _make(request: Make) -> Made:
    if request.key:
        key = serialization.load_pem_private_key(request.key.encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the key that was kept is not an EC key")
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    sans: list[x509.GeneralName] = [x509.UniformResourceIdentifier(request.identity)]
    sans += [x509.DNSName(name) for name in request.dns]
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(sans), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Made(
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        csr=csr.public_bytes(serialization.Encoding.PEM).decode(),
        key_hash=hashlib.sha256(public).hexdigest(),
    )


def _check(request: Check) -> Checked:
    certificate = x509.load_pem_x509_certificate(request.certificate.encode())
    key = serialization.load_pem_private_key(request.key.encode(), password=None)
    if certificate.public_key() != key.public_key():
        raise ValueError("the certificate is not for this key")
    authorities = x509.load_pem_x509_certificates(request.ca.encode())
    if not any(_issued(certificate, authority) for authority in authorities):
        raise ValueError("the certificate was not issued by this authority")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return Checked(
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        uris=list(names.get_values_for_type(x509.UniformResourceIdentifier)),
        dns=list(names.get_values_for_type(x509.DNSName)),
    )


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def main() -> int:
    """Serve one request."""
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(MAX_INPUT), type=Request)
        sys.stdout.buffer.write(msgspec.json.encode(answer(request)))
    except (ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
