# SPDX-License-Identifier: Apache-2.0
"""The simulated runtime and plugins of NRI, over a real socket: what they hear, change, refuse, and do not answer."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from dynamic_memory.embedded.runtime.container import ContainerSpec, Sandbox
from dynamic_memory.embedded.runtime.curves import parse
from dynamic_memory.embedded.runtime.plugins import PluginRefused, Plugins
from dynamic_memory.embedded.runtime.runtime import Runtime
from dynamic_memory.nri import Refused, Stub
from dynamic_memory.nri.proto import nri_pb2 as pb
from dynamic_memory.process.backoff import Backoff

MI = 1 << 20


class Recorder:
    """Hears of everything, and changes what it is told to."""

    def __init__(self) -> None:
        self.heard = []
        self.answer = None
        self.mends = []
        self.refused = ""
        self.pods, self.containers = [], []

    def synchronize(self, pods, containers):
        self.heard.append("synchronize")
        self.pods, self.containers = list(pods), list(containers)
        return self.mends

    def run_pod_sandbox(self, pod):
        self.heard.append(f"run {pod.name} {pod.linux.cgroup_parent}")

    def create_container(self, _pod, container):
        self.heard.append(f"create {container.name} {[each.name for each in container.cdi_devices]}")
        return self.answer(container) if self.answer else None

    def start_container(self, _pod, container):
        self.heard.append(f"start {container.name}")

    def update_container(self, _pod, container, resources):
        self.heard.append(f"update {container.name} {resources.memory.limit.value // MI}")
        return []

    def update_pod_sandbox(self, pod, _overhead, resources):
        self.heard.append(f"update pod {pod.name} {resources.memory.limit.value // MI}")
        if self.refused:
            raise Refused(self.refused)

    def post_update_pod_sandbox(self, pod):
        self.heard.append(f"updated pod {pod.name}")

    def post_update_container(self, _pod, container):
        self.heard.append(f"updated {container.name}")

    def stop_container(self, _pod, container):
        self.heard.append(f"stop {container.name}")
        return []

    def remove_container(self, _pod, container):
        self.heard.append(f"remove {container.name}")

    def remove_pod_sandbox(self, pod):
        self.heard.append(f"gone {pod.name}")


class Machine:
    """A runtime that takes plugins, with one pod."""

    def __init__(self, folder: Path) -> None:
        self.runtime = Runtime(folder)
        self.tasks = []

    async def start(self, **wishes) -> Runtime:
        runtime = self.runtime
        old, wishes = runtime.plugins, {"timeout": 30.0, **wishes}  # the machine may be busy
        runtime.plugins = Plugins(old.path, state=runtime._state, apply=runtime._apply, **wishes)
        runtime.cgroups.start(1 << 30)
        runtime.start(lambda _uid: None)
        runtime.make_pod("u", "Burstable", None, Sandbox(id="s", uid="u", name="a"))
        await runtime.plugins.listen()
        return runtime

    async def connect(self, plugin, name="p", index="10"):
        stub = Stub(plugin, name=name, index=index, socket=self.runtime.plugins.path, backoff=Backoff(0.01, 0.05))
        task = asyncio.create_task(stub.run())
        self.tasks.append(task)
        await self.until(lambda: f"{index}-{name}" in self.runtime.plugins.names)
        return task

    async def until(self, check):
        async with asyncio.timeout(30):
            while not check():  # noqa: ASYNC110 - what another side of a socket does
                await asyncio.sleep(0.005)

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.runtime.plugins.close()
        self.runtime.stop()

    def files(self, container):
        folder = self.runtime.cgroups.pods / "burstable/podu" / container.id
        return {path.name: path.read_text().strip() for path in folder.iterdir()}


@pytest.fixture
async def machine():
    folder = Path(tempfile.mkdtemp(prefix="dmr-"))
    made = Machine(folder)
    yield made
    await made.close()
    shutil.rmtree(folder)


def spec(name="main", **more):
    return ContainerSpec(name=name, model=parse("1Mi"), **more)


def memory(limit):
    return pb.LinuxResources(memory=pb.LinuxMemory(limit=pb.OptionalInt64(value=limit)))


def limited(container):
    answer = pb.CreateContainerResponse()
    resources = answer.adjust.linux.resources
    resources.cpu.mems = "1"
    resources.memory.limit.value = 64 * MI
    resources.hugepage_limits.add(page_size="2MB", limit=4 * MI)
    resources.unified["memory.min"] = str(8 * MI)
    answer.adjust.env.add(key="ADDED", value=container.name)
    answer.adjust.env.add(key="-TAKEN")
    policy = answer.adjust.linux.memory_policy
    policy.mode, policy.nodes = pb.MPOL_PREFERRED_MANY, "1-2"
    policy.flags.append(pb.MPOL_F_STATIC_NODES)
    return answer


async def test_a_plugin_hears_of_a_container_from_its_pod_to_its_end_in_order(machine):
    runtime, plugin = await machine.start(), Recorder()
    await machine.connect(plugin)
    container = await runtime.create("u", spec(devices=("v/c=d",)))
    await runtime.update_pod("u", memory(512 * MI))
    await runtime.resize("u", "main", 32 * MI)
    container.kill()
    await runtime.end_pod("u")
    assert plugin.heard == [
        "synchronize",
        "run a /kubepods/burstable/podu",
        "create main ['v/c=d']",
        "start main",
        "update pod a 512",
        "updated pod a",
        "update main 32",
        "updated main",
        "stop main",
        "remove main",
        "gone a",
    ]


async def test_what_a_plugin_refuses_a_pod_the_other_plugins_do_not_hear_is_done(machine):
    runtime, plugin = await machine.start(), Recorder()
    await machine.connect(plugin)
    await runtime.create("u", spec(limit=64 * MI))
    plugin.refused = "not yours"
    with pytest.raises(PluginRefused, match="10-p refused: not yours"):
        await runtime.update_pod("u", memory(32 * MI))
    assert plugin.heard[-1] == "update pod a 32"
    plugin.refused = ""
    await runtime.update_pod("u", memory(32 * MI))
    assert plugin.heard[-1] == "updated pod a"


async def test_the_limit_of_a_pod_is_the_kubelets_and_stays_when_the_pod_is_made_again(machine):
    runtime = await machine.start()
    file = runtime.cgroups.pods / "burstable/podu/memory.max"
    assert file.read_text() == "max\n"
    runtime.set_pod_limit("u", 64 * MI)
    runtime.make_pod("u", "Burstable", 32 * MI)
    assert file.read_text() == f"{64 * MI}\n"


async def test_what_a_plugin_changes_is_what_the_container_has(machine):
    runtime, plugin = await machine.start(), Recorder()
    plugin.answer = limited
    await machine.connect(plugin)
    container = await runtime.create("u", spec(limit=128 * MI, env={"TAKEN": "x", "KEPT": "y"}))
    found = machine.files(container)
    assert (found["cpuset.mems"], found["memory.max"], found["memory.min"]) == ("1", str(64 * MI), str(8 * MI))
    assert (found["hugetlb.2MB.max"], found["hugetlb.2MB.rsvd.max"]) == (str(4 * MI), str(4 * MI))
    assert container.spec.env == {"KEPT": "y", "ADDED": "main"}
    assert container.spec.policy == "preferred-many=static:1-2"


async def test_a_refusal_stops_the_container_and_leaves_nothing(machine):
    runtime, plugin = await machine.start(), Recorder()

    def refuse(_container):
        raise Refused("not yours")

    plugin.answer = refuse
    await machine.connect(plugin)
    with pytest.raises(PluginRefused, match="10-p refused: not yours"):
        await runtime.create("u", spec())
    assert runtime.get("u", "main") is None
    assert plugin.heard[-2:] == ["stop main", "remove main"]


async def test_containers_start_without_a_plugin_that_is_gone(machine):
    runtime, plugin = await machine.start(), Recorder()
    task = await machine.connect(plugin)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await machine.until(lambda: not runtime.plugins.names)
    assert (await runtime.create("u", spec())).ended is None
    assert plugin.heard == ["synchronize"]


async def test_a_plugin_that_does_not_answer_in_time_is_left_out(machine):
    runtime, plugin = await machine.start(timeout=0.3), Recorder()

    def hang(_container):
        # what blocks a plugin's process is the end of its connection, not of the container
        time.sleep(0.5)  # the loop of this test is the plugin's as well

    plugin.answer = hang
    await machine.connect(plugin)
    assert (await runtime.create("u", spec())).ended is None
    assert runtime.plugins.names == []


async def test_a_plugin_that_comes_back_hears_of_all_in_pieces_and_mends(machine):
    runtime, plugin = await machine.start(piece=100), Recorder()
    containers = [await runtime.create("u", spec(f"c{number}")) for number in range(5)]
    mend = pb.ContainerUpdate(container_id=containers[3].id)
    mend.linux.resources.cpu.mems = "0"
    plugin.mends = [mend]
    await machine.connect(plugin)
    assert [each.name for each in plugin.pods] == ["a"]
    assert [each.name for each in plugin.containers] == [f"c{number}" for number in range(5)]
    assert plugin.heard == ["synchronize"]
    assert [machine.files(each)["cpuset.mems"] for each in containers] == ["", "", "", "0", ""]
