# SPDX-License-Identifier: Apache-2.0
"""Certificates from end to end: the client of a role, the API server, the signer."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from cryptography import x509
from tests.unit.controller.server import Server

from dynamic_memory.api import kinds
from dynamic_memory.controller import authority
from dynamic_memory.controller.authority import BadAuthority
from dynamic_memory.controller.config import ControllerConfig, FabricConfig
from dynamic_memory.controller.signer import Signer
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.kube.certificates import CertificateDenied, CertificateTimeout, obtain
from dynamic_memory.process import clock

CONFIG = ControllerConfig(owner="c1", namespace="dm", fabric=FabricConfig(address="x:1"))
NODE = str(Identity.node("c1", "n1"))


class Cluster:
    @classmethod
    async def open(cls) -> Any:
        cluster = cls()
        cluster.server = Server()
        cluster.authority = await authority.ensure(cluster.server, namespace="dm", owner="c1")
        cluster.signer = Signer(cluster.server, cluster.authority, CONFIG.rules(), lifetime=3600)
        return cluster

    def be(self, account, node=""):
        self.server.username = f"system:serviceaccount:dm:{account}"
        self.server.node = node

    @property
    def requests(self):
        return self.server.all("certificatesigningrequests")

    async def serve(self):
        while True:
            for request in self.requests:
                await self.signer.handle(request["metadata"]["name"])
            await clock.sleep(0.02)

    async def obtain(self, directory, identity=NODE, **options):
        serving = asyncio.create_task(self.serve())
        try:
            return await obtain(self.server, identity, directory=directory, namespace="dm", **options)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
async def cluster(no_children):
    return await Cluster.open()


async def test_rule_4_a_node_gets_a_certificate_in_three_files(tmp_path):
    cluster = await Cluster.open()
    cluster.be("driver", "n1")
    files = await cluster.obtain(tmp_path / "tls")
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [NODE]
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(files.ca.read_bytes()))
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "tls").stat().st_mode & 0o077 == 0
    assert sorted(p.name for p in (tmp_path / "tls").iterdir() if not p.name.startswith("set-")) == [
        "ca.crt",
        "current",
        "tls.crt",
        "tls.key",
    ]
    assert files.not_before < files.renew_at < files.not_after
    (request,) = cluster.requests
    assert [c["type"] for c in request["status"]["conditions"]] == ["Approved"]


async def test_rule_4_I6_another_nodes_certificate_is_denied_with_a_sentence(cluster, tmp_path):
    cluster.be("driver", "n2")
    with pytest.raises(CertificateDenied) as caught:
        await cluster.obtain(tmp_path)
    assert caught.value.reason == "WrongNode"
    assert "bound to n2" in str(caught.value)
    assert list(tmp_path.glob("*.*")) == []
    # The next try asks anew, with another key: the first answer was final.
    cluster.be("driver", "n1")
    await cluster.obtain(tmp_path)
    assert len(cluster.requests) == 2


async def test_a_good_certificate_is_used_again_and_a_wrong_one_is_not(cluster, tmp_path):
    cluster.be("driver", "n1")
    first = await cluster.obtain(tmp_path)
    content = first.certificate.read_bytes()
    again = await cluster.obtain(tmp_path)
    assert again == first
    assert len(cluster.requests) == 1
    await cluster.obtain(tmp_path, renew=True)
    assert first.certificate.read_bytes() != content
    assert len(list(tmp_path.glob("set-*"))) == 1
    cluster.be("driver", "n7")
    await cluster.obtain(tmp_path, str(Identity.node("c1", "n7")))
    assert len(cluster.requests) == 3


async def test_a_process_that_was_killed_goes_on_with_its_request(cluster, tmp_path):
    cluster.be("driver", "n1")
    with pytest.raises(CertificateTimeout) as caught:
        await obtain(cluster.server, NODE, directory=tmp_path, namespace="dm", timeout=0.2)
    (request,) = cluster.requests
    assert caught.value.name == request["metadata"]["name"]
    await cluster.obtain(tmp_path)
    assert len(cluster.requests) == 1


async def test_the_service_gets_its_names(cluster, tmp_path):
    cluster.be("service")
    files = await cluster.obtain(tmp_path, str(Identity.role("c1", "service")), dns=("service.dm.svc",))
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["service.dm.svc"]


async def test_of_two_controllers_one_makes_the_authority(cluster):
    server = Server()
    both = await asyncio.gather(*(authority.ensure(server, namespace="dm", owner="c1") for _ in range(2)))
    assert both[0].certificate == both[1].certificate
    assert server.find("configmaps", "dynamic-memory-ca", "dm")["data"]["ca.crt"] == both[0].certificate
    assert server.count("patch", kinds.SECRETS) == server.count("apply", kinds.SECRETS) == 0
    third = await authority.ensure(server, namespace="dm", owner="c1")
    assert third.certificate == both[0].certificate


@pytest.mark.parametrize("data", [{}, {"tls.crt": "eA=="}, {"tls.crt": "eA==", "tls.key": "%%"}])
async def test_an_authority_that_is_broken_is_told_not_replaced(data):
    server = Server()
    secret = {"metadata": {"name": "dynamic-memory-ca", "namespace": "dm"}, "data": data}
    server.have("secrets", secret)
    with pytest.raises(BadAuthority, match=r"tls\.(crt|key)"):
        await authority.ensure(server, namespace="dm", owner="c1")
    assert server.find("secrets", "dynamic-memory-ca", "dm")["data"] == data


def request_object(name, request, *, conditions=(), signer="dynamicmemory.dev/fabric-client"):
    return {
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(request.encode()).decode(),
            "signerName": signer,
            "usages": ["client auth"],
            "username": "system:serviceaccount:dm:driver",
            "extra": {"authentication.kubernetes.io/node-name": ["n1"]},
        },
        "status": {"conditions": [{"type": t, "status": "True"} for t in conditions]},
    }


async def test_what_is_no_request_is_denied(cluster):
    for name, text in (("garbage", "hello"), ("long", "x" * 20000)):
        cluster.server.have("certificatesigningrequests", request_object(name, text))
        await cluster.signer.handle(name)
        (condition,) = cluster.server.find("certificatesigningrequests", name)["status"]["conditions"]
        assert (condition["type"], condition["reason"]) == ("Denied", "BadRequest")


async def test_a_request_that_a_person_approved_against_the_rules_fails(cluster):
    cluster.server.have("certificatesigningrequests", request_object("x", "hello", conditions=("Approved",)))
    await cluster.signer.handle("x")
    found = cluster.server.find("certificatesigningrequests", "x")["status"]
    assert [c["type"] for c in found["conditions"]] == ["Approved", "Failed"]
    assert "certificate" not in found


@pytest.mark.parametrize("case", ["another signer", "decided", "gone"])
async def test_what_is_not_ours_or_done_is_left_alone(cluster, case):
    if case == "another signer":
        cluster.server.have("certificatesigningrequests", request_object("x", "hello", signer="example.com/x"))
    if case == "decided":
        cluster.server.have("certificatesigningrequests", request_object("x", "hello", conditions=("Denied",)))
    cluster.server.calls.clear()
    await cluster.signer.handle("x")
    assert [call.verb for call in cluster.server.calls] == ["get"]
