# SPDX-License-Identifier: Apache-2.0
"""The updater as it runs: a simulated host, cgroup files, a Node object."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry

from dynamic_memory.api import kinds, names
from dynamic_memory.capacity.config import CapacityConfig, CeilingConfig
from dynamic_memory.capacity.lid import Lid
from dynamic_memory.capacity.metrics import Metrics
from dynamic_memory.capacity.updater import Updater
from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.cgroups import Ceiling, Unwritable
from dynamic_memory.host.config import HostConfig, SimulatedHostConfig
from dynamic_memory.host.simulated.host import SimulatedHost
from dynamic_memory.kube.errors import Unavailable
from dynamic_memory.process import clock
from dynamic_memory.process.config import Bytes, ConfigError, Seconds, loads
from dynamic_memory.process.readiness import Readiness

GIB = 1 << 30
MIB = 1 << 20
TAG = "5be13bce-ae34-4a77-b6c3-16df975fcf1a"
NODE = "n1"


def node_body(memory="16Gi"):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE},
        "status": {
            "capacity": {"cpu": "8", "memory": memory},
            "allocatable": {"cpu": "8", "memory": memory},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def write(path, text):
    """Write a file that is read meanwhile, as a kernel's changes: never empty, never half."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


class CountedUpdater(Updater):
    """An updater that counts its looks."""

    begun = 0

    async def look(self) -> None:
        self.begun += 1
        await super().look()


class Site:
    """A node with an updater that can be started and killed."""

    def __init__(self, tmp_path, kube, **settings) -> None:
        self.kube = kube
        self.cgroup = tmp_path / "cgroup/kubepods"
        self.cgroup.mkdir(parents=True)
        self.limit_file = self.cgroup / "memory.max"
        self.limit = 15 * GIB
        (self.cgroup / "memory.current").write_text("0\n")
        (tmp_path / "boot_id").write_text("b1\n")
        simulated = SimulatedHostConfig(root=tmp_path / "host", nodes=(Bytes(GIB),))
        self.config = CapacityConfig(
            **{
                "host": HostConfig(simulated=simulated),
                "node_name": NODE,
                "interval": Seconds(0.02),
                "ceiling": CeilingConfig(
                    cgroup_root=tmp_path / "cgroup",
                    state=tmp_path / "state/ceiling.json",
                    boot_id=tmp_path / "boot_id",
                ),
            }
            | settings
        )
        self.host = SimulatedHost(simulated)
        self.ready = Readiness()
        self.metrics = Metrics(CollectorRegistry())
        self.updater = None

    @property
    def limit(self):
        # a file is empty for a moment while it is written; a kernel's is not
        return int(self.limit_file.read_text() or -1)

    @limit.setter
    def limit(self, value):
        write(self.limit_file, f"{value}\n")

    def _use(self, value):
        write(self.cgroup / "memory.current", f"{value}\n")

    used = property(fset=_use)

    @contextlib.asynccontextmanager
    async def running(self):
        self.updater = CountedUpdater(
            self.config, kube=self.kube, host=self.host, ready=self.ready, metrics=self.metrics
        )
        task = asyncio.create_task(self.updater.run())
        try:
            yield self.updater
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def looks(self, number):
        """Wait until so many more looks of the loop are over; one beside it would write what the loop is writing."""
        seen = self.updater.begun
        await self.until(lambda: self.updater.begun > seen + number)

    async def attach(self, size=512 * MIB, tag=TAG):
        await self.host.create_region(tag, size, [(0, size)])
        await self.host.online(tag)

    async def detach(self, tag=TAG):
        await self.host.offline(tag)
        await self.host.destroy_region(tag)

    def status(self):
        return (self.kube.body(kinds.NODES, NODE) or {"status": {}})["status"]

    def shown(self):
        return self.status().get("capacity", {}).get(names.EXTENDED_RESOURCE)

    def condition(self):
        found = [c for c in self.status().get("conditions", []) if c["type"] == names.NODE_CONDITION]
        return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None

    async def until(self, condition):
        for _ in range(3000):
            if condition():
                return
            await clock.sleep(0.01)
        pytest.fail(f"never became true: shown={self.shown()} limit={self.limit} condition={self.condition()}")


@pytest.fixture
async def site(tmp_path, fake_kube):
    fake_kube.put(kinds.NODES, node_body())
    return Site(tmp_path, fake_kube)


async def test_memory_that_comes_and_goes_is_shown_and_usable(site):
    async with site.running():
        await site.until(lambda: site.shown() == "0")
        assert site.condition() == ("True", "MemoryUsable", "simulated host; 0 of fabric memory online")
        await site.attach()
        await site.until(lambda: site.shown() == "512Mi" and site.limit == 15 * GIB + 512 * MIB)
        await site.detach()
        await site.until(lambda: site.shown() == "0" and site.limit == 15 * GIB)
    assert site.ready
    assert site.status()["capacity"]["memory"] == "16Gi"
    assert site.status()["allocatable"] == {"cpu": "8", "memory": "16Gi"}
    assert [entry["type"] for entry in site.status()["conditions"]] == ["Ready", names.NODE_CONDITION]


async def test_nothing_is_written_that_is_not_different(site):
    async with site.running():
        await site.attach()
        await site.until(lambda: site.shown() == "512Mi" and site.condition()[1] == "MemoryUsable")
        await site.looks(1)
        writes, modified = site.kube.count("apply"), site.limit_file.stat().st_mtime_ns
        await site.looks(20)
        assert (site.kube.count("apply"), site.limit_file.stat().st_mtime_ns) == (writes, modified)
    async with site.running():
        await site.until(lambda: site.ready)
        await site.looks(1)
    assert (site.kube.count("apply"), site.limit_file.stat().st_mtime_ns) == (writes, modified)
    assert site.kube.count("patch") == site.kube.count("replace") == 0


async def test_rule_21_a_node_registered_anew_gets_its_key_again(site):
    async with site.running():
        await site.attach()
        await site.until(lambda: site.shown() == "512Mi")
        site.kube.remove(kinds.NODES, NODE)
        await site.until(lambda: "is not registered" in site.ready.report())
        assert not site.ready
        site.kube.put(kinds.NODES, node_body())
        await site.until(lambda: site.shown() == "512Mi" and site.condition())
        await site.until(lambda: site.ready)


async def test_rule_21_a_key_taken_away_comes_back(site):
    async with site.running():
        await site.until(lambda: site.shown() == "0")
        site.kube.put(kinds.NODES, node_body())
        await site.until(lambda: site.shown() == "0" and site.condition())


async def test_a_limit_reset_by_the_kubelet_is_raised_again(site):
    async with site.running():
        await site.attach()
        await site.until(lambda: site.limit == 15 * GIB + 512 * MIB)
        site.limit = 14 * GIB
        await site.until(lambda: site.limit == 14 * GIB + 512 * MIB)


async def test_a_restarted_updater_knows_what_the_kubelet_had_set(site):
    async with site.running():
        await site.attach()
        await site.until(lambda: site.limit == 15 * GIB + 512 * MIB)
    await site.detach()
    async with site.running():
        await site.until(lambda: site.limit == 15 * GIB)


async def test_memory_in_use_keeps_the_limit_up(site):
    async with site.running():
        await site.attach()
        await site.until(lambda: site.limit == 15 * GIB + 512 * MIB)
        site.used = 15 * GIB + 256 * MIB
        await site.detach()
        await site.until(lambda: site.limit == 15 * GIB + (256 + 64) * MIB)
        site.used = GIB
        await site.until(lambda: site.limit == 15 * GIB)


async def test_pods_without_a_limit_keep_none(site):
    site.limit_file.write_text("max\n")
    async with site.running():
        await site.attach()
        await site.until(lambda: site.shown() == "512Mi")
        assert site.condition()[:2] == ("True", "MemoryUsable")
    assert site.limit_file.read_text() == "max\n"


async def test_a_record_that_is_damaged_is_made_anew(site, caplog):
    site.config.ceiling.state.parent.mkdir()
    site.config.ceiling.state.write_text("{")
    async with site.running():
        await site.attach()
        await site.until(lambda: site.limit == 15 * GIB + 512 * MIB)
    assert "is not a record of the limit" in caplog.text


async def test_what_is_missing_is_said_in_the_condition_and_put_right(site):
    auto_online = site.host.root / "sys/devices/system/memory/auto_online_blocks"
    auto_online.write_text("online\n")
    site.limit_file.rename(site.cgroup / "away")
    async with site.running() as updater:
        await site.until(lambda: site.condition() and site.condition()[1] == "CeilingMissing")
        assert [finding.check.value for finding in updater.findings] == ["CeilingMissing", "AutoOnline"]
        assert "auto_online_blocks is online" in site.condition()[2]
        assert site.shown() == "0"
        (site.cgroup / "away").rename(site.limit_file)
        write(auto_online, "offline\n")
        await site.until(lambda: site.condition()[:2] == ("True", "MemoryUsable"))


async def test_a_pod_whose_limit_does_not_cover_its_claim_is_named(site):
    result = {
        "request": "r",
        "driver": "dra.memory",
        "pool": "fabric/a",
        "device": "x",
        "shareID": "s",
        "consumedCapacity": {"size": "1Gi"},
    }
    site.kube.put(
        kinds.RESOURCE_CLAIMS,
        {
            "metadata": {"name": "c", "namespace": "d"},
            "spec": {},
            "status": {"allocation": {"devices": {"results": [result]}}},
        },
    )
    for name, node in (("small", NODE), ("elsewhere", "n2")):
        site.kube.put(
            kinds.PODS,
            {
                "metadata": {"name": name, "namespace": "d"},
                "spec": {
                    "nodeName": node,
                    "containers": [{"name": "c", "resources": {"limits": {"memory": "512Mi"}}}],
                    "resourceClaims": [{"name": "m", "resourceClaimName": "c"}],
                },
                "status": {"phase": "Running"},
            },
        )
    async with site.running():
        await site.until(lambda: site.condition() and site.condition()[1] == "PodLimitTooLow")
        status, _, message = site.condition()
        assert status == "True"
        assert "pod d/small has a memory limit of 512Mi and claims 1Gi" in message
        assert "elsewhere" not in message
        site.kube.remove(kinds.PODS, "small", "d")
        await site.until(lambda: site.condition()[1] == "MemoryUsable")


async def test_a_host_that_cannot_be_read_is_unknown_and_keeps_its_number(site):
    async with site.running():
        await site.attach()
        await site.until(lambda: site.shown() == "512Mi")
        meminfo = site.host.root / "proc/meminfo"
        text = meminfo.read_text()
        meminfo.unlink()
        # the node is told first, then the readiness changes
        await site.until(lambda: site.condition()[0] == "Unknown" and not site.ready)
        assert site.condition()[1] == "HostUnreadable"
        assert site.shown() == "512Mi"
        write(meminfo, text)
        await site.until(lambda: site.condition()[0] == "True" and site.ready)


async def test_without_the_api_server_the_limit_is_raised_all_the_same(site):
    async with site.running():
        await site.until(lambda: site.shown() == "0")
        site.kube.fail(Unavailable(503, "Down", "down for maintenance"), verb="apply", times=3)
        await site.attach()
        await site.until(lambda: site.limit == 15 * GIB + 512 * MIB)
        await site.until(lambda: site.shown() == "512Mi" and site.ready)
    assert site.metrics.failures.collect()[0].samples[0].value == 3


async def test_the_view_status_moves_memory_itself(tmp_path, fake_kube):
    fake_kube.put(kinds.NODES, node_body("1Gi"))
    site = Site(tmp_path, fake_kube, view="status", ceiling=None)
    async with site.running():
        await site.attach()
        await site.until(lambda: site.status()["capacity"]["memory"] == "1536Mi")
        assert site.status()["allocatable"] == {
            "cpu": "8",
            "memory": "1536Mi",
            names.EXTENDED_RESOURCE: "512Mi",
        }
        await site.detach()
        await site.until(lambda: site.status()["capacity"]["memory"] == "1Gi")
    assert site.limit == 15 * GIB


async def test_it_measures_itself(site):
    async with site.running():
        await site.attach()
        await site.until(lambda: site.shown() == "512Mi" and site.ready)
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for metric in site.metrics.collect()
        for sample in metric.samples
    }
    prefix = "dynamic_memory_updater"
    assert samples[f"{prefix}_online_bytes", ()] == 512 * MIB
    assert samples[f"{prefix}_ceiling_bytes", ()] == 15 * GIB + 512 * MIB
    assert samples[f"{prefix}_writes_total", ("ceiling",)] >= 1
    assert samples[f"{prefix}_writes_total", ("capacity",)] >= 1
    assert samples[f"{prefix}_findings", ("AutoOnline",)] == 0


def test_configuration(monkeypatch):
    monkeypatch.setenv("NODE_NAME", "from-environment")
    config = loads(b"host: {simulated: {root: /tmp/h}}\nhealth: 0.0.0.0:8080\n", CapacityConfig)
    assert (config.node, config.view, config.interval) == ("from-environment", "extended", 1.0)
    assert str(config.ceiling.cgroup_root) == "/host/cgroup"
    assert loads(b"host: {}\nceiling: null\n", CapacityConfig).ceiling is None
    with pytest.raises(ConfigError, match="view"):
        loads(b"host: {}\nview: other\n", CapacityConfig)
    with pytest.raises(InvalidInput, match="interval"):
        loads(b"host: {}\ninterval: 0\n", CapacityConfig)


def test_a_limit_that_cannot_be_written_is_reported_with_the_reason(site_files, monkeypatch):
    config, memory = site_files

    def refuse(_, limit):
        raise Unwritable("memory.max", f"not permitted: {limit}")

    monkeypatch.setattr(Ceiling, "write", refuse)
    state = Lid(config, simulated=True).keep(memory, None)
    assert (state.limit, state.wanted, state.wrote) == (15 * GIB, 15 * GIB + 512 * MIB, False)
    assert state.error == f"memory.max: not permitted: {15 * GIB + 512 * MIB}"
    monkeypatch.undo()
    assert Lid(config, simulated=True).keep(memory, None).limit == 15 * GIB + 512 * MIB


def test_a_record_that_cannot_be_written_leaves_the_limit_alone(site_files):
    config, memory = site_files
    config.state.parent.write_text("a file where the folder should be")
    state = Lid(config, simulated=True).keep(memory, None)
    assert state.error
    assert int((config.cgroup_root / "kubepods/memory.max").read_text()) == 15 * GIB


@pytest.fixture
async def site_files(site):
    await site.attach()
    return site.config.ceiling, await site.host.memory()
