# SPDX-License-Identifier: Apache-2.0
"""The driver's NRI plugin under the real containerd: what containers have is read back from cgroups and from runc.

No kubelet takes part: the test speaks CRI as the kubelet does, and writes the ledger as Prepare does.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
from tests.cluster.support.containerd import Containerd, Sandbox
from tests.unit.driver.nri_world import GIB, MIB, World, grant, uid

from dynamic_memory.driver import cdi
from dynamic_memory.driver.nri_plan import Facts
from dynamic_memory.driver.spec import spec_of
from dynamic_memory.nri import Stub
from dynamic_memory.nri.proto import nri_pb2 as pb
from dynamic_memory.nri.rpcs import RPCS
from dynamic_memory.process.backoff import Backoff

STATE_CHANGES = ("RunPodSandbox", "RemovePodSandbox", "RemoveContainer", "PostUpdatePodSandbox")


class Node(World):
    """A ledger and a plugin that is connected to a containerd."""

    def __init__(self, folder: Path, containerd: Containerd) -> None:
        super().__init__(folder)
        self.containerd = containerd
        self.states: list[bool] = []

    def restart(self) -> None:
        super().restart()
        self.plugin.facts = Facts(home=(0,))

    def connect(self) -> None:
        self.stub = Stub(
            self.plugin,
            name="dra.memory",
            socket=self.containerd.nri,
            environ={},
            state=lambda ok, _why: self.states.append(ok),
            backoff=Backoff(initial=0.05, maximum=0.2),
        )
        self.task = asyncio.create_task(self.stub.run())

    async def __aenter__(self) -> Self:
        self.connect()
        await self.until(lambda: self.stub.synchronized)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.disconnect()
        await asyncio.to_thread(self.containerd.remove_pods)

    async def disconnect(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def until(self, what: Any, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not what():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.02)

    async def claim(self, number: int, size: int, *, pod: str = "pod-a", containers: Any = ("app",)) -> str:
        """Prepare a claim: ledger first, then the CDI file; return the name of its device."""
        claim = await self.prepare(number, grant(0, size), pod=pod, containers=containers)
        text = spec_of(claim, self.records.get(claim).local, simulated=False)
        (self.containerd.cdi / f"dra.memory-{claim}.json").write_text(text)
        return cdi.device_id(claim)

    async def pod(self, name: str = "pod-a") -> Sandbox:
        return await asyncio.to_thread(self.containerd.run_pod, name)

    async def start(self, sandbox: Sandbox, name: str = "app", **how: Any) -> str:
        identity = await asyncio.to_thread(lambda: self.containerd.create(sandbox, name, **how))
        await asyncio.to_thread(self.containerd.start_container, identity)
        return identity

    async def refused(self, sandbox: Sandbox, name: str = "app", **how: Any) -> str:
        """The sentence with which a container is refused."""
        with pytest.raises(grpc.RpcError) as caught:
            await asyncio.to_thread(lambda: self.containerd.create(sandbox, name, **how))
        return str(caught.value.details())

    def limit(self, sandbox: Sandbox, identity: str) -> int:
        return self.containerd.memory_limit(sandbox, identity)


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    folder = Path(tempfile.mkdtemp(prefix="nri-"))
    made = Containerd(folder)
    try:
        made.start()
        yield made
    finally:
        made.remove()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def node(tmp_path: Path, containerd: Containerd) -> AsyncIterator[Node]:
    async with Node(tmp_path, containerd) as made:
        yield made


async def test_N1_the_handshake_tells_versions_and_patience(node):
    runtime = node.stub.runtime
    assert (runtime.name, runtime.nri_version >= (0, 12, 0), runtime.shows_cdi) == ("containerd", True, True)
    assert (runtime.request_timeout, runtime.registration_timeout) == (6.0, 15.0)


async def test_N4_N5_containers_get_the_nodes_and_the_limit_of_their_claims(node):
    device = await node.claim(1, 64 * MIB)
    sandbox = await node.pod()
    identity = await node.start(sandbox, cdi=(device,), memory=GIB)
    other = await node.start(sandbox, "plain", memory=GIB)
    spec = await asyncio.to_thread(node.containerd.spec, identity)
    assert spec["linux"]["resources"]["cpu"]["mems"] == "0"
    assert f"DRAMEMORY_{uid(1)}_memory=numanode:0,size:64Mi" in spec["process"]["env"]
    assert node.containerd.cgroup_of(sandbox, identity, "cpuset.mems") == "0"
    assert (node.limit(sandbox, identity), node.limit(sandbox, other)) == (64 * MIB, GIB)


async def test_N7_N8_N9_what_is_not_the_containers_own_is_refused_with_a_sentence(node):
    device = await node.claim(1, 64 * MIB)
    sandbox, other = await node.pod(), await node.pod("pod-b")
    await node.start(sandbox, cdi=(device,))
    assert "pod pod-a owns it" in await node.refused(other, cdi=(device,))
    assert "may not use claim" in await node.refused(sandbox, "second", cdi=(device,))
    victim = {f"DRAMEMORY_{uid(1)}_hugepages_1Gi": "numanode:0,size:1Ti"}
    assert "may not use claim" in await node.refused(other, env=victim)
    assert "malformed" in await node.refused(other, env={"DRAMEMORY_x": "y"})


async def test_N10_N11_N12_only_unprepare_frees_a_claim(node):
    device = await node.claim(1, 64 * MIB)
    sandbox = await node.pod()
    first = await node.start(sandbox, cdi=(device,))
    for attempt in range(2):
        intruder = await node.pod("pod-b")
        await node.refused(intruder, cdi=(device,), attempt=attempt)
        await asyncio.to_thread(node.containerd.remove_pod, intruder)
    await asyncio.to_thread(node.containerd.stop_container, first)
    again = await node.start(sandbox, cdi=(device,), attempt=1)
    assert node.limit(sandbox, again) == 64 * MIB
    await asyncio.to_thread(node.containerd.stop_container, again)
    await node.unprepare(1)
    await node.claim(1, 32 * MIB, pod="pod-c")
    other = await node.pod("pod-c")  # the first pod's sandbox is still there
    assert node.limit(other, await node.start(other, cdi=(device,))) == 32 * MIB


async def test_N15_N19_what_was_started_without_us_is_mended(node):
    device = await node.claim(1, 64 * MIB)
    sandbox = await node.pod()
    await node.disconnect()
    identity = await node.start(sandbox, cdi=(device,), memory=GIB)
    assert node.limit(sandbox, identity) == GIB
    node.connect()
    await node.until(lambda: node.limit(sandbox, identity) == 64 * MIB)


async def test_N20_a_pod_that_requires_the_plugin_does_not_start_without_it(node):
    device = await node.claim(1, 64 * MIB)
    requires = {"required-plugins.noderesource.dev": '["dra.memory"]'}
    await node.disconnect()
    # the runtime strikes a plugin off its list after the first request without it, which for a new pod is this one
    sandbox = await asyncio.to_thread(node.containerd.run_pod, "pod-a", requires)
    assert "dra.memory" in await node.refused(sandbox, cdi=(device,))
    node.connect()
    await node.until(lambda: node.stub.synchronized)
    assert node.limit(sandbox, await node.start(sandbox, cdi=(device,))) == 64 * MIB


async def test_N15_N19_containerd_restarts_and_the_driver_is_there_again(node):
    device = await node.claim(1, 64 * MIB)
    sandbox = await node.pod()
    identity = await node.start(sandbox, cdi=(device,))
    node.containerd.stop()
    await node.until(lambda: not node.stub.synchronized)
    node.containerd.start()
    await node.until(lambda: node.stub.synchronized)
    assert node.states == [True, False, True]
    assert node.limit(sandbox, identity) == 64 * MIB
    live = node.plugin.pods.get("pod-a")
    assert [claim.key for claim in live.containers["app"].claims] == [uid(1)]
    await asyncio.to_thread(node.containerd.resize, identity, 128 * MIB)
    assert node.limit(sandbox, identity) == 64 * MIB


async def test_the_driver_dies_between_prepare_and_start(node):
    device = await node.claim(1, 64 * MIB)
    sandbox = await node.pod()
    await node.disconnect()
    node.restart()
    node.connect()
    await node.until(lambda: node.stub.synchronized)
    identity = await node.start(sandbox, cdi=(device,))
    assert node.limit(sandbox, identity) == 64 * MIB
    other = await node.pod("pod-b")
    assert "pod pod-a owns it" in await node.refused(other, cdi=(device,))


async def test_N17_a_resize_does_not_lift_the_limit_of_a_claim(node):
    device = await node.claim(1, 64 * MIB)
    sandbox = await node.pod()
    identity = await node.start(sandbox, cdi=(device,), memory=GIB)
    for asked, expected in ((2 * GIB, 64 * MIB), (32 * MIB, 32 * MIB), (GIB, 64 * MIB)):
        await asyncio.to_thread(node.containerd.resize, identity, asked)
        assert node.limit(sandbox, identity) == expected
    assert node.containerd.cgroup_of(sandbox, identity, "cpuset.mems") == "0"


async def test_N3_the_older_wire_style_does_the_same(node, monkeypatch):
    for method in STATE_CHANGES:
        monkeypatch.delitem(RPCS, method)
    device = await node.claim(1, 64 * MIB)
    sandbox = await node.pod()
    identity = await node.start(sandbox, cdi=(device,))
    assert node.limit(sandbox, identity) == 64 * MIB
    await asyncio.to_thread(node.containerd.stop_container, identity)
    await asyncio.to_thread(node.containerd.remove_container, identity)
    await asyncio.to_thread(node.containerd.remove_pod, sandbox)
    assert node.plugin.pods.get("pod-a") is None


async def test_a_slow_answer_refuses_the_container_and_keeps_the_connection(node, monkeypatch):
    async def slow(*_arguments):
        await asyncio.sleep(60)

    sandbox = await node.pod()
    monkeypatch.setattr(node.plugin, "create_container", slow)
    assert "could not be answered" in await node.refused(sandbox)  # else the runtime would say that it has timed out
    monkeypatch.undo()
    await node.start(sandbox)
    assert node.states == [True]


async def test_large_answers_pass(node, monkeypatch):
    """What is sent as one frame of more than 4096 bytes would end the connection."""
    original = node.plugin.create_container

    def large(pod, container):
        answer = original(pod, container)
        answer.adjust.annotations["dra.memory/large"] = "x" * 200_000
        return answer

    device = await node.claim(1, 64 * MIB)
    sandbox = await node.pod()
    monkeypatch.setattr(node.plugin, "create_container", large)
    identity = await asyncio.to_thread(lambda: node.containerd.create(sandbox, "app", cdi=(device,)))
    assert len((await asyncio.to_thread(node.containerd.spec, identity))["annotations"]["dra.memory/large"]) == 200_000
    assert node.states == [True]


async def test_containers_can_be_updated_unasked(node):
    sandbox = await node.pod()
    identity = await node.start(sandbox, memory=GIB)
    update = pb.ContainerUpdate(container_id=identity)
    update.linux.resources.memory.limit.value = 128 * MIB
    assert await node.stub.update([update]) == []
    assert node.limit(sandbox, identity) == 128 * MIB
