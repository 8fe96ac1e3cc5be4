# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.support.fake_fabric import FakeRig
from tests.unit.controller.server import Server

import dynamic_memory.controller
from dynamic_memory.controller import role
from dynamic_memory.controller.config import ControllerConfig, FabricConfig, TlsConfig
from dynamic_memory.controller.faultpoints import ROLE
from dynamic_memory.fabric.client import FabricClient
from dynamic_memory.process import config, faults
from dynamic_memory.process.config import ConfigError
from dynamic_memory.process.run import Process


def test_every_fault_point_is_declared_and_every_declared_one_is_passed_somewhere():
    sources = Path(dynamic_memory.controller.__file__).parent.glob("*.py")
    used = {
        name
        for source in sources
        for name in re.findall(r'faults\.point\(f"\{ROLE\}\.([a-z-]+)"\)', source.read_text())
    }
    assert used == {name.partition(".")[2] for name in faults.names(ROLE)}


async def test_the_leader_signs_its_own_certificate_before_it_speaks_to_the_fabric(no_children, tmp_path):
    server, rig = Server(), await FakeRig.open()
    server.username = "system:serviceaccount:dm:controller"
    settings = ControllerConfig(
        owner="c1",
        namespace="dm",
        fabric=FabricConfig(address="127.0.0.1:1", tls=TlsConfig(directory=tmp_path / "tls")),
        election=None,
    )
    connected = asyncio.Event()

    async def connect():
        client = await role.connect(server, settings)
        assert isinstance(client, FabricClient)
        await client.close()
        connected.set()
        return rig.as_controller()

    process = Process("controller")
    task = asyncio.create_task(role.Controller(process, settings, server, connect).run())
    async with asyncio.timeout(30):
        await connected.wait()
        while not server.all("resourceslices"):
            await asyncio.wait([task], timeout=0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (tmp_path / "tls" / "tls.crt").read_text().startswith("-----BEGIN CERTIFICATE-----")
    (request,) = server.all("certificatesigningrequests")
    assert request["spec"]["username"] == server.username
    assert request["status"]["certificate"]


async def test_a_controller_that_may_not_have_its_certificate_ends_with_the_reason(no_children, tmp_path):
    server = Server()
    server.username = "system:serviceaccount:dm:default"
    settings = ControllerConfig(
        owner="c1",
        namespace="dm",
        fabric=FabricConfig(address="127.0.0.1:1", tls=TlsConfig(directory=tmp_path)),
        election=None,
    )
    controller = role.Controller(Process("controller"), settings, server, lambda: role.connect(server, settings))
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(30):
            await controller.run()
    assert "may not be role controller" in str(caught.value.exceptions[0])


def test_the_smallest_configuration_has_sane_values():
    found = config.loads(b"owner: cluster\nfabric: {address: 'service:7443'}", ControllerConfig)
    assert found.identity == "dynamic-memory://cluster/role/controller"
    assert found.fabric.tls is not None
    assert found.fabric.tls.obtain
    assert found.election is not None
    assert found.election.holder
    assert (found.orphans.at_once, found.orphans.part) == (5, 0.2)
    assert (found.waiting.after, found.waiting.binding_timeout) == (30, 600)
    assert found.rules().nodes == {"system:serviceaccount:dynamic-memory:driver"}
    assert found.rules().roles["operator"] == frozenset()


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("owner: C!\nfabric: {address: 'x:1'}", 1, "owner"),
        ("owner: c\nfabric: {address: ''}", 1, "address"),
        ("owner: c\nfabric: {address: 'x:1'}\norphan: {}", 3, "orphan"),
        ("owner: c\nfabric: {address: 'x:1'}\norphans: {part: 2}", 3, "orphans.part"),
        ("owner: c", 1, "fabric"),
    ],
)
def test_a_wrong_configuration_is_refused_where_it_is_wrong(text, line, word):
    with pytest.raises(ConfigError) as caught:
        config.loads(text.encode(), ControllerConfig, name="controller.yaml")
    assert caught.value.line == line
    assert word in str(caught.value)


def test_the_shipped_configuration_is_accepted():
    documents = Path("deploy/40-config.yaml").read_text().split("---")
    (text,) = [d for d in documents if "controller.yaml" in d]
    body = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    assert config.loads(body.encode(), ControllerConfig).fabric.address == "service.dynamic-memory.svc:7443"
