# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import datetime as dt
import ipaddress

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from dynamic_memory.controller import ca
from dynamic_memory.controller.approver import Grant
from dynamic_memory.controller.authority import Authority, inspect
from dynamic_memory.controller.authority_messages import Create, Created, Inspect, Request, Sign
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.process.child import ChildFailed

WHO = str(Identity.node("c1", "n1"))


@pytest.fixture(scope="module")
def made() -> Created:
    return ca.answer(Create(name="dynamic-memory c1"))


def csr(key=None, *, sans=(), extensions=()) -> str:
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


def sign(made, request, **changes):
    fields = {
        "csr": request,
        "ca_certificate": made.certificate,
        "ca_key": made.key,
        "identity": WHO,
        "lifetime": 3600.0,
    }
    return x509.load_pem_x509_certificate(ca.answer(Sign(**(fields | changes))).certificate.encode())


def extension(certificate, type_):
    return certificate.extensions.get_extension_for_class(type_).value


def test_a_new_authority_can_sign_and_nothing_below_it_can(made):
    certificate = x509.load_pem_x509_certificate(made.certificate.encode())
    constraints = extension(certificate, x509.BasicConstraints)
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert extension(certificate, x509.KeyUsage).key_cert_sign
    assert certificate.not_valid_after_utc - dt.datetime.now(dt.UTC) > dt.timedelta(days=3000)


def test_a_certificate_has_what_was_granted_and_nothing_that_was_asked(made):
    request = csr(
        sans=[x509.UniformResourceIdentifier("dynamic-memory://c1/role/operator"), x509.DNSName("evil")],
        extensions=[x509.BasicConstraints(ca=True, path_length=None)],
    )
    certificate = sign(made, request)
    names = extension(certificate, x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [WHO]
    assert names.get_values_for_type(x509.DNSName) == []
    assert not extension(certificate, x509.BasicConstraints).ca
    assert not extension(certificate, x509.KeyUsage).key_cert_sign
    assert list(extension(certificate, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(made.certificate.encode()))


def test_a_certificate_is_short_lived(made):
    certificate = sign(made, csr())
    left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(seconds=3590) < left <= dt.timedelta(seconds=3600)
    assert certificate.not_valid_before_utc < dt.datetime.now(dt.UTC) - dt.timedelta(minutes=4)


def test_a_certificate_never_outlives_its_authority(made):
    certificate = sign(made, csr(), lifetime=1e9)
    authority = x509.load_pem_x509_certificate(made.certificate.encode())
    assert certificate.not_valid_after_utc == authority.not_valid_after_utc


def test_the_service_gets_names_and_may_serve(made):
    certificate = sign(made, csr(), dns=("service.dm.svc",), server=True)
    assert extension(certificate, x509.SubjectAlternativeName).get_values_for_type(x509.DNSName) == ["service.dm.svc"]
    assert ExtendedKeyUsageOID.SERVER_AUTH in extension(certificate, x509.ExtendedKeyUsage)


def test_a_key_that_is_not_the_authoritys_is_refused(made):
    other = ca.answer(Create(name="other"))
    with pytest.raises(ValueError, match="not the one of its certificate"):
        sign(made, csr(), ca_key=other.key)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), ("ec", "secp256r1", 0)),
        (lambda: ec.generate_private_key(ec.SECP521R1()), ("ec", "secp521r1", 0)),
        (lambda: rsa.generate_private_key(65537, 2048), ("rsa", "", 2048)),
        (ed25519.Ed25519PrivateKey.generate, ("Ed25519PublicKey", "", 0)),
    ],
)
def test_a_request_is_read_for_its_key(key, expected):
    found = ca.answer(Inspect(csr=csr(key())))
    assert (found.key, found.curve, found.bits) == expected
    assert found.signature_valid


def test_a_request_is_read_for_its_names():
    sans = [
        x509.UniformResourceIdentifier(WHO),
        x509.DNSName("a.b"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.RFC822Name("a@b"),
    ]
    found = ca.answer(Inspect(csr=csr(sans=sans, extensions=[x509.BasicConstraints(ca=True, path_length=None)])))
    assert (found.uris, found.dns, found.others, found.ca) == ([WHO], ["a.b"], ["IPAddress", "RFC822Name"], True)


def test_a_request_that_was_tampered_with_is_seen():
    pem = csr(sans=[x509.UniformResourceIdentifier("dynamic-memory://c1/node/n1")])
    der = bytearray(x509.load_pem_x509_csr(pem.encode()).public_bytes(serialization.Encoding.DER))
    at = bytes(der).index(b"node/n1")
    der[at : at + 7] = b"node/n2"
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    found = ca.answer(Inspect(csr=forged))
    assert found.uris == ["dynamic-memory://c1/node/n2"]
    assert not found.signature_valid


async def test_the_child_process_reads_signs_and_refuses(made):
    request = csr(sans=[x509.UniformResourceIdentifier(WHO)])
    assert (await inspect(request)).uris == [WHO]
    grant = Grant(identity=WHO, dns=(), server=False)
    signed = await Authority(made.certificate, made.key).sign(request, grant, lifetime=600)
    assert x509.load_pem_x509_certificate(signed.encode()).issuer.rfc4514_string() == "CN=dynamic-memory c1"
    with pytest.raises(ChildFailed) as caught:
        await inspect("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
    assert "Traceback" not in caught.value.error


async def test_a_failure_to_sign_never_shows_the_key(made):
    grant = Grant(identity=WHO, dns=(), server=False)
    with pytest.raises(ChildFailed) as caught:
        await Authority(made.certificate, made.key).sign("no request", grant, lifetime=600)
    lines = [line for line in made.key.splitlines() if not line.startswith("-")]
    assert not any(line in str(caught.value) for line in lines)


def test_keys_are_not_part_of_what_is_printed(made):
    text = repr(made) + repr(Sign(csr="x", ca_certificate="y", ca_key=made.key, identity=WHO, lifetime=1.0))
    assert "PRIVATE" not in text
    assert msgspec.json.decode(msgspec.json.encode(Inspect(csr="x")), type=Request) == Inspect(csr="x")
