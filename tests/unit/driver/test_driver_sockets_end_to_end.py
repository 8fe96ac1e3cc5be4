# SPDX-License-Identifier: Apache-2.0
"""The whole driver in real time: real sockets, records and CDI files on the disk, a host made of files."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from pathlib import Path

import pytest
from tests.support.fake_fabric import FakeRig
from tests.support.fake_kube import FakeKube
from tests.support.fake_kubelet import FakeKubelet
from tests.unit.driver.conftest import claim_body

from dynamic_memory.api.kinds import NODES, RESOURCE_CLAIMS
from dynamic_memory.driver.config import DriverConfig, FabricConfig
from dynamic_memory.driver.driver import Driver
from dynamic_memory.host.config import HostConfig, SimulatedHostConfig, open_host
from dynamic_memory.process import clock
from dynamic_memory.process.config import Bytes
from dynamic_memory.process.readiness import Readiness


@pytest.fixture
def short():
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        yield Path(folder)


async def test_a_pod_gets_its_memory_and_gives_it_back(short):
    kube, rig, ready = FakeKube(), await FakeRig.open(), Readiness()
    kube.put(NODES, {"metadata": {"name": "n1", "uid": "node-uid"}})
    config = DriverConfig(
        owner="c1",
        fabric=FabricConfig(address="unused", tls=None),
        host=HostConfig(simulated=SimulatedHostConfig(root=short / "host", nodes=(Bytes(4 << 30),))),
        node_name="n1",
        pod_uid="11111111-2222-3333-4444-555555555555",
        kubelet_root=str(short / "k"),
        cdi_dir=str(short / "cdi"),
        state_dir=str(short / "state"),
    )
    host = open_host(config.host)
    driver = Driver(config, kube=kube, fabric=rig.as_node("n1"), host=host, ready=ready)
    kubelet = FakeKubelet(config.registry_folder)
    config.registry_folder.mkdir(parents=True)
    killed = config.registry_folder / "dra.memory-00000000-2222-3333-4444-555555555555-reg.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(killed))
    task = asyncio.create_task(driver.run())
    try:
        async with asyncio.timeout(30):
            while killed.exists():  # the kubelet would try it for ever
                await clock.sleep(0.05)
        await kubelet.register()
        body = kube.put(RESOURCE_CLAIMS, claim_body())
        claim = ("app", "far", body["metadata"]["uid"])
        tag = body["status"]["allocation"]["devices"]["results"][0]["shareID"]
        answer = await kubelet.prepare(claim)
        assert answer[claim[2]].error == ""
        assert answer[claim[2]].devices[0]["share_id"] == tag
        assert (await host.region(tag)).complete
        assert len(list((short / "cdi").iterdir())) == 1
        async with asyncio.timeout(30):
            while not ready:
                await clock.sleep(0.05)
        assert await kubelet.unprepare(claim) == {claim[2]: ""}
        assert await host.regions() == {}
        assert (await rig.as_operator().list_extents()).shares == ()
        assert list((short / "cdi").iterdir()) == []
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert list(short.rglob("*.sock")) == []
