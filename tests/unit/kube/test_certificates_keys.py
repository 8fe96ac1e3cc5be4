# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from cryptography import x509

from dynamic_memory.controller import ca
from dynamic_memory.controller.authority_messages import Create, Sign
from dynamic_memory.kube import keys
from dynamic_memory.kube.certificates import Files, usages_for
from dynamic_memory.kube.key_messages import Check, Make

WHO = "dynamic-memory://c1/node/n1"


@pytest.fixture(scope="module")
def authority():
    return ca.answer(Create(name="test"))


def sign(authority, csr, lifetime=3600.0):
    request = Sign(csr=csr, ca_certificate=authority.certificate, ca_key=authority.key, identity=WHO, lifetime=lifetime)
    return ca.answer(request).certificate


def test_a_request_names_its_identity_and_nothing_else():
    made = keys.answer(Make(identity=WHO, dns=("a.b",)))
    csr = x509.load_pem_x509_csr(made.csr.encode())
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [n.value for n in names] == [WHO, "a.b"]
    assert list(csr.subject) == []


def test_the_same_key_gives_the_same_name_again():
    first = keys.answer(Make(identity=WHO))
    again = keys.answer(Make(identity=WHO, key=first.key))
    assert (again.key_hash, again.key) == (first.key_hash, first.key)
    assert keys.answer(Make(identity=WHO)).key_hash != first.key_hash


def test_a_certificate_is_checked_for_key_authority_and_names(authority):
    made = keys.answer(Make(identity=WHO))
    certificate = sign(authority, made.csr)
    checked = keys.answer(Check(ca=authority.certificate, certificate=certificate, key=made.key))
    assert checked.uris == [WHO]
    assert 3600 <= checked.not_after - checked.not_before <= 3600 + 301
    other = keys.answer(Make(identity=WHO))
    with pytest.raises(ValueError, match="not for this key"):
        keys.answer(Check(ca=authority.certificate, certificate=certificate, key=other.key))
    stranger = ca.answer(Create(name="test"))
    with pytest.raises(ValueError, match="not issued by this authority"):
        keys.answer(Check(ca=stranger.certificate, certificate=certificate, key=made.key))
    both = stranger.certificate + authority.certificate
    assert keys.answer(Check(ca=both, certificate=certificate, key=made.key)) == checked


def test_a_certificate_is_renewed_at_two_thirds_of_its_life(tmp_path):
    files = Files(ca=tmp_path, certificate=tmp_path, key=tmp_path, not_before=300.0, not_after=900.0)
    assert files.renew_at == pytest.approx(700.0)


@pytest.mark.parametrize(
    ("identity", "server"),
    [(WHO, False), ("dynamic-memory://c/role/controller", False), ("dynamic-memory://c/role/service", True)],
)
def test_only_the_service_asks_to_serve(identity, server):
    assert ("server auth" in usages_for(identity)) is server
    assert "client auth" in usages_for(identity)


def test_keys_are_not_part_of_what_is_printed():
    made = keys.answer(Make(identity=WHO))
    text = repr(made) + repr(Make(identity=WHO, key=made.key)) + repr(Check(ca="a", certificate="b", key=made.key))
    assert "PRIVATE" not in text
