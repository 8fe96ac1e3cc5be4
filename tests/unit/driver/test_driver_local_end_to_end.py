# SPDX-License-Identifier: Apache-2.0
"""A driver without a fabric in real time: real sockets, a kubelet's calls, and a file system that a kernel mounts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from tests.support.fake_kube import FakeKube
from tests.support.fake_kubelet import FakeKubelet
from tests.support.machine import GIB, MIB, Node, build, put
from tests.unit.driver.local_rig import local_claim, pod_body, result

from dynamic_memory.api.kinds import NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from dynamic_memory.driver.config import DriverConfig, LocalConfig
from dynamic_memory.driver.driver import Driver
from dynamic_memory.errors import InvalidInput
from dynamic_memory.fabric.errors import UnknownDevice
from dynamic_memory.fabric.none import NoFabric
from dynamic_memory.host.config import HostConfig, open_host
from dynamic_memory.host.errors import NoRegion, RegionFailed
from dynamic_memory.process import clock
from dynamic_memory.process.config import Bytes, ConfigError, Seconds, loads
from dynamic_memory.process.readiness import Readiness


@pytest.fixture
def short():
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("version", ["v1.DRAPlugin", "v1beta1.DRAPlugin"])
async def test_R1_R12_O14_a_node_without_a_fabric_serves_its_own_memory_and_ends_clean(short, version):
    root = build(short / "root", [Node(0, 4 * GIB, pools={2 * MIB: 64})])
    put(root / "proc/sys/kernel/random/boot_id", "a-boot")
    kube, ready = FakeKube(), Readiness()
    kube.put(NODES, {"metadata": {"name": "n1", "uid": "node-uid"}})
    config = DriverConfig(
        host=HostConfig(root=root),
        local=LocalConfig(root=root, preflight="off"),
        node_name="n1",
        pod_uid="11111111-2222-3333-4444-555555555555",
        kubelet_root=str(short / "k"),
        cdi_dir=str(short / "cdi"),
        state_dir=str(short / "state"),
    )
    driver = Driver(config, kube=kube, fabric=NoFabric(), host=open_host(config.host, fabric=False), ready=ready)
    kubelet = FakeKubelet(config.registry_folder)
    task = asyncio.create_task(driver.run())
    try:
        await kubelet.register()
        async with asyncio.timeout(30):
            while not ready:
                await clock.sleep(0.05)
        good = kube.put(RESOURCE_CLAIMS, local_claim(result(shareID="s1"), result(device="numa0-2mi", size="64Mi")))
        bad = kube.put(RESOURCE_CLAIMS, local_claim(result(device="numa7-4ki"), name="bad"))
        kube.put(PODS, pod_body())
        claims = [("app", body["metadata"]["name"], body["metadata"]["uid"]) for body in (good, bad)]
        answer = await kubelet.prepare(*claims, version=version)
        assert "numa7-4ki" in answer[claims[1][2]].error
        assert [device["device_name"] for device in answer[claims[0][2]].devices] == ["numa0-4ki", "numa0-2mi"]
        assert answer[claims[0][2]].devices[0].get("share_id", "s1") == "s1"
        assert [path.name for path in (short / "cdi").iterdir()] == [f"dra.memory-claim-{claims[0][2]}.json"]
        assert await kubelet.unprepare(*claims, version=version) == {claims[0][2]: "", claims[1][2]: ""}
        assert list((short / "cdi").iterdir()) == []
        assert [body["spec"]["pool"]["name"] for body in kube.bodies(RESOURCE_SLICES)] == ["n1/mem"]
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert list(short.rglob("*.sock")) == []


@contextlib.asynccontextmanager
async def running(short, size=4 * GIB):
    """A driver with local memory alone; gives the API server, a kubelet and what is ready."""
    root = build(short / "root", [Node(0, size, pools={2 * MIB: 64})])
    put(root / "proc/sys/kernel/random/boot_id", "a-boot")
    kube, ready = FakeKube(), Readiness()
    kube.put(NODES, {"metadata": {"name": "n1", "uid": "node-uid"}})
    config = DriverConfig(
        host=HostConfig(root=root),
        local=LocalConfig(root=root, preflight="off"),
        node_name="n1",
        kubelet_root=str(short / "k"),
        cdi_dir=str(short / "cdi"),
        state_dir=str(short / "state"),
    )
    driver = Driver(config, kube=kube, fabric=NoFabric(), host=open_host(config.host, fabric=False), ready=ready)
    task = asyncio.create_task(driver.run())
    try:
        yield kube, FakeKubelet(config.registry_folder), ready
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(what, seconds=30):
    async with asyncio.timeout(seconds):
        while not (found := what()):
            await clock.sleep(0.02)
    return found


async def test_O7_a_driver_is_ready_when_the_kubelet_has_taken_it_and_not_before(short):
    async with running(short) as (_, kubelet, ready):
        await until(lambda: "[+]slices" in ready.report())
        assert not ready
        assert "[-]kubelet" in ready.report()
        await kubelet.register()
        await until(lambda: bool(ready))
        kubelet.refuse = "the name is taken"
        await kubelet.register()
        assert not ready
        assert "the name is taken" in ready.report()


def metric(name, **labels):
    return REGISTRY.get_sample_value(f"dynamic_memory_driver_{name}", labels or None)


async def test_O8_what_is_there_what_is_held_and_what_was_done_can_be_measured(short):
    async with running(short) as (kube, kubelet, ready):
        await kubelet.register()
        await until(lambda: bool(ready))
        before = [metric("prepare_seconds_count", result=result) or 0 for result in ("ok", "error")]
        good = kube.put(RESOURCE_CLAIMS, local_claim(result(size="1Gi")))["metadata"]
        bad = kube.put(RESOURCE_CLAIMS, local_claim(result(device="numa7-4ki"), name="bad"))["metadata"]
        kube.put(PODS, pod_body())
        await kubelet.prepare(("app", "near", good["uid"]), ("app", "bad", bad["uid"]))
        after = [metric("prepare_seconds_count", result=result) for result in ("ok", "error")]
        assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1]
        assert metric("local_bytes", device="numa0-2mi") == 128 * MIB
        await until(lambda: metric("local_allocated_bytes", device="numa0-4ki") == GIB)
        done = metric("unprepare_seconds_count", result="ok") or 0
        await kubelet.unprepare(("app", "near", good["uid"]))
        assert metric("unprepare_seconds_count", result="ok") == done + 1


async def test_O10_200_claims_of_one_node_all_succeed(short):
    """All at once, over the real socket, with a record and a file each; prints what it took."""
    async with running(short, size=64 * GIB) as (kube, kubelet, ready):
        await kubelet.register()
        await until(lambda: bool(ready))
        claims = []
        for number in range(200):
            body = local_claim(result(size="256Mi"), name=f"c{number}", pods=(f"p{number}",))
            meta = kube.put(RESOURCE_CLAIMS, body)["metadata"]
            kube.put(PODS, pod_body(f"p{number}", claims={"mem": meta["name"]}))
            claims.append(("app", meta["name"], meta["uid"]))
        began = time.perf_counter()
        answers = [await kubelet.prepare(claim) for claim in claims]
        prepared = time.perf_counter() - began
        assert [answer.error for each in answers for answer in each.values()] == [""] * 200
        assert len(list((short / "cdi").iterdir())) == 200
        began = time.perf_counter()
        for claim in claims:
            assert await kubelet.unprepare(claim) == {claim[2]: ""}
        print(f"200 claims: Prepare {prepared:.1f} s, Unprepare {time.perf_counter() - began:.1f} s")
        assert list((short / "cdi").iterdir()) == []


def test_a_file_system_takes_the_claimed_bytes_and_not_one_more(tmp_path):
    """The mount of a CDI file, made by the kernel as the runtime makes it (mount namespace of its own)."""
    from dynamic_memory.driver import claim_config
    from dynamic_memory.driver.grants import Grant
    from dynamic_memory.driver.spec import spec_of

    grant = Grant(request="mem", pool="n1/mem", device="numa0-4ki", size=MIB, numa=0, path="/mnt/dynamic-memory")
    spec = json.loads(spec_of("u1", [grant], simulated=False))
    (mount,) = spec["devices"][0]["containerEdits"]["mounts"]
    where = tmp_path / "container"
    where.mkdir()
    script = f"""
set -e
mount -t {mount["type"]} -o {",".join(mount["options"])} {mount["hostPath"]} {where}
head -c {MIB} /dev/zero > {where}/all
printf x >> {where}/all && echo MORE || echo FULL
stat -c %s {where}/all
grep ' {where} ' /proc/mounts
"""
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    full, size, line = done.stdout.splitlines()
    assert (full, int(size)) == ("FULL", MIB)
    assert "size=1024k" in line
    assert "mpol=bind:0" in line
    assert claim_config.FileSystem(path=mount["containerPath"])


def test_a_host_without_fabric_memory_makes_no_regions(tmp_path):
    build(tmp_path, [Node(0, GIB)])
    put(tmp_path / "proc/sys/kernel/random/boot_id", "a-boot")
    host = open_host(HostConfig(root=tmp_path), fabric=False)

    async def use():
        assert await host.boot_id() == "a-boot"
        assert await host.regions() == {}
        assert await host.region("t") is None
        await host.destroy_region("t")
        with pytest.raises(RegionFailed):
            await host.create_region("t", 1, ())
        for change in (host.online, host.offline):
            with pytest.raises(NoRegion):
                await change("t")

    asyncio.run(use())
    assert not host.simulated


async def test_without_a_fabric_there_is_nothing_to_hold_or_give_back():
    fabric = NoFabric()
    assert (await fabric.list_extents()).shares == ()
    assert (await fabric.get_capacity()).hosts == ()
    assert (await fabric.remove_memory("t")).state.value == "unknown"
    with pytest.raises(UnknownDevice):
        await fabric.add_memory(node="n1", pool="fabric/a", device="d", size=1, tag="t")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("owner: c\n", "fabric"),
        ("local: {rescan: 0}\n", "local.rescan"),
        ('local: {reserved: {"one": 1Gi}}\n', "local.reserved.one"),
        ('local: {reserved: {"0": -1Gi}}\n', "local.reserved.0"),
        ("local: {mode: most}\n", "local.mode"),
        ("local: {modes: limit}\n", "local.modes"),
        ("fabric: {address: a}\nlocal: {}\n", "owner"),
    ],
)
def test_a_configuration_that_is_none_is_refused_with_its_path(text, path):
    with pytest.raises((InvalidInput, ConfigError)) as caught:
        loads(text.encode(), DriverConfig)
    assert path in str(caught.value)


def test_a_configuration_of_the_nodes_own_memory_alone():
    config = loads(b'local: {reserved: {"0": 2Gi}, rescan: 10s, mode: protect}\n', DriverConfig)
    assert (config.fabric, config.local_root) == (None, Path("/"))
    assert config.local == LocalConfig(reserved={"0": Bytes(2 * GIB)}, rescan=Seconds(10), mode="protect")
