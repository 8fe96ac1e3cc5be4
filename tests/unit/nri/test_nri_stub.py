# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002 - a hook is given more than each test looks at
"""A plugin on a real socket against a runtime: handshake, both wire styles, budgets, loss and return."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest
from tests.support.nri_runtime import Answered, Lost, Runtime, container, pod
from tests.unit.nri.conftest import Link

from dynamic_memory.errors import InvalidInput
from dynamic_memory.nri import Refused, Stub
from dynamic_memory.nri.errors import Disconnected, UnsafeRuntime
from dynamic_memory.nri.events import Event
from dynamic_memory.nri.proto import nri_pb2 as pb


class Everything:
    """Implements every hook and writes down what it heard."""

    def __init__(self) -> None:
        self.heard = []
        self.runtime = None
        self.updates = []

    def configure(self, runtime):
        self.runtime = runtime

    def synchronize(self, pods, containers):
        self.heard.append(("sync", len(pods), len(containers)))
        return self.updates

    def shutdown(self):
        self.heard.append("shutdown")

    def update_pod_sandbox(self, pod, overhead, resources):
        self.heard.append(("update_pod", pod.uid, resources.memory.limit.value))

    def create_container(self, pod, container):
        self.heard.append(("create", pod.uid, container.name))
        return pb.CreateContainerResponse(
            adjust=pb.ContainerAdjustment(env=[pb.KeyValue(key="A", value="x" * int(container.args[0]))])
            if container.args
            else None
        )

    def update_container(self, pod, container, resources):
        self.heard.append(("update", container.name, resources.memory.limit.value))
        return [pb.ContainerUpdate(container_id=container.id)]

    def stop_container(self, pod, container):
        self.heard.append(("stop", container.name))
        return [pb.ContainerUpdate(container_id="other")]

    def validate_container_adjustment(self, request):
        return "not like this" if request.container.name == "bad" else None


def _note(name, of_container):
    if of_container:
        return lambda self, pod, container: self.heard.append((name, pod.uid, container.name))
    return lambda self, pod: self.heard.append((name, pod.uid))


for name, of_container in {
    "run_pod_sandbox": False,
    "stop_pod_sandbox": False,
    "remove_pod_sandbox": False,
    "post_update_pod_sandbox": False,
    "post_create_container": True,
    "start_container": True,
    "post_start_container": True,
    "post_update_container": True,
    "remove_container": True,
}.items():
    setattr(Everything, name, _note(name, of_container))


TOLD = {
    Event.RUN_POD_SANDBOX: ("run_pod_sandbox", "pod-uid"),
    Event.STOP_POD_SANDBOX: ("stop_pod_sandbox", "pod-uid"),
    Event.REMOVE_POD_SANDBOX: ("remove_pod_sandbox", "pod-uid"),
    Event.POST_CREATE_CONTAINER: ("post_create_container", "pod-uid", "app"),
    Event.START_CONTAINER: ("start_container", "pod-uid", "app"),
    Event.POST_START_CONTAINER: ("post_start_container", "pod-uid", "app"),
    Event.POST_UPDATE_CONTAINER: ("post_update_container", "pod-uid", "app"),
    Event.REMOVE_CONTAINER: ("remove_container", "pod-uid", "app"),
    Event.POST_UPDATE_POD_SANDBOX: ("post_update_pod_sandbox", "pod-uid"),
}


@pytest.mark.parametrize("reply_first", [True, False], ids=["reply-first", "configure-first"])
async def test_N1_the_handshake_registers_and_subscribes_to_what_the_plugin_has(connect, reply_first):
    class Few:
        def run_pod_sandbox(self, pod):
            return None

        def create_container(self, pod, container):
            return None

    _runtime, connection, link = await connect(Few(), reply_first=reply_first, request_timeout=20.0)
    assert connection.registered == pb.RegisterPluginRequest(
        plugin_name="dra.memory", plugin_idx="00", nri_version="v0.12.2"
    )
    assert connection.events == 0b1001
    assert link.states == [(True, "")]
    assert link.stub.runtime.request_timeout == 20.0
    assert str(link.stub.runtime) == "containerd v2.4.2 (NRI v0.12.3)"
    # what it does not have is answered all the same, and what nobody knows is said to be so
    await connection.call("StopContainer", pb.EventRequest())
    for method in ("Frobnicate", ""):
        with pytest.raises(Answered) as caught:
            await connection.call(method, b"")
        assert caught.value.code == 12


@pytest.mark.parametrize(("version", "events"), [("v2.1.0", 0x7FF), ("v2.2.0", 0x3FFF)])
async def test_N1_a_runtime_is_not_asked_for_events_that_it_does_not_know(connect, version, events):
    _, connection, _ = await connect(Everything(), version=version, nri="", known_mask=events)
    assert connection.events == events


async def test_N2_a_split_synchronize_of_12000_containers_is_joined(connect):
    plugin = Everything()
    plugin.updates = [pb.ContainerUpdate(container_id="c7")]

    def setup(runtime):
        runtime.pods = [pod(f"p{n}") for n in range(3000)]
        runtime.containers = [container(f"c{n}", env=[f"K{i}=value" for i in range(20)]) for n in range(12_000)]

    _, connection, _ = await connect(plugin, setup=setup, request_timeout=60)
    assert plugin.heard == [("sync", 3000, 12_000)]
    assert [update.container_id for update in connection.sync_updates] == ["c7"]


async def test_N2_pieces_of_a_lost_connection_are_forgotten(connect):
    plugin = Everything()
    runtimes = []

    def setup(runtime):
        runtimes.append(runtime)
        runtime.containers = [container(f"c{n}") for n in range(25)]
        runtime.piece = 10
        runtime.lose_at_piece = 3

    async def heal():
        while not (runtimes and runtimes[0].failures):  # noqa: ASYNC110 - the runtime of the test tells nobody
            await asyncio.sleep(0.005)
        runtimes[0].lose_at_piece = 0

    await asyncio.gather(connect(plugin, setup=setup), heal())
    assert plugin.heard == [("sync", 0, 25)]


@pytest.mark.parametrize("legacy", [False, True], ids=["a-call-for-each", "state-change"])
async def test_N3_both_wire_styles_reach_the_same_hooks(connect, legacy):
    plugin = Everything()
    _, connection, _ = await connect(plugin, legacy=legacy)
    plugin.heard.clear()
    for event in TOLD:
        await connection.event(event, pod(), container())
    assert plugin.heard == list(TOLD.values())
    assert connection.deprecated == 0


async def test_N3_a_state_change_that_nobody_knows_is_no_error(connect):
    _, connection, _ = await connect(Everything())
    await connection.call("StateChange", pb.StateChangeEvent(event=99))


async def test_events_with_answers(connect):
    plugin = Everything()
    _, connection, _ = await connect(plugin)
    limit = pb.LinuxResources(memory=pb.LinuxMemory(limit=pb.OptionalInt64(value=7)))
    update = pb.UpdateContainerRequest(pod=pod(), container=container(), linux_resources=limit)
    answer = await connection.call("UpdateContainer", update, pb.UpdatesResponse)
    assert answer.update[0].container_id == container().id
    answer = await connection.call(
        "StopContainer", pb.EventRequest(pod=pod(), container=container()), pb.UpdatesResponse
    )
    assert answer.update[0].container_id == "other"
    await connection.call("UpdatePodSandbox", pb.UpdatePodSandboxRequest(pod=pod(), linux_resources=limit))
    check = pb.ValidateContainerAdjustmentRequest(container=container("bad"))
    answer = await connection.call("ValidateContainerAdjustment", check, pb.ValidateContainerAdjustmentResponse)
    assert (answer.reject, answer.reason) == (True, "not like this")
    await connection.call("Shutdown", pb.Empty())
    assert plugin.heard[1:] == [("update", "app", 7), ("stop", "app"), ("update_pod", "pod-uid", 7), "shutdown"]


@pytest.mark.parametrize("size", [0, 1, 4000, 4085, 4086, 4087, 100_000, 1 << 20])
async def test_answers_of_any_size_pass_the_reader_of_the_runtime(connect, size):
    _, connection, _ = await connect(Everything())
    answer = await connection.create(pod(), container(args=[str(size)]))
    assert len(answer.adjust.env[0].value) == size
    await connection.create(pod(), container())  # and it still lives


@pytest.mark.parametrize("size", [4000, 4087, 1 << 20])
async def test_updates_of_any_size_pass_the_reader_of_the_runtime(connect, size):
    _, connection, link = await connect(Everything())
    connection.rejects_updates = {"b"}
    updates = [pb.ContainerUpdate(container_id="a" * size), pb.ContainerUpdate(container_id="b")]
    failed = await link.stub.update(updates)
    assert [update.container_id for update in failed] == ["b"]
    assert [len(update.container_id) for update in connection.updates] == [size, 1]


@pytest.mark.parametrize("nri", ["v0.12.0", ""])
async def test_no_unsolicited_update_to_a_runtime_that_it_could_block(connect, nri):
    _, connection, link = await connect(Everything(), nri=nri)
    with pytest.raises(UnsafeRuntime, match=r"0\.12\.1"):
        await link.stub.update([pb.ContainerUpdate(container_id="a")])
    assert connection.updates == []


async def test_no_unsolicited_update_from_within_a_hook(connect):
    class Inside:
        stub = None
        error = ""

        async def stop_container(self, pod, container):
            try:
                await self.stub.update([])
            except RuntimeError as error:
                self.error = str(error)
            return []

    plugin = Inside()
    _, connection, link = await connect(plugin)
    plugin.stub = link.stub
    await connection.call("StopContainer", pb.EventRequest(), pb.UpdatesResponse)
    assert "within a hook" in plugin.error


class Failing:
    def __init__(self, error) -> None:
        self.error = error

    def run_pod_sandbox(self, pod):
        raise self.error

    async def create_container(self, pod, container):
        raise self.error

    def stop_container(self, pod, container):
        raise self.error

    async def remove_container(self, pod, container):
        raise self.error

    def stop_pod_sandbox(self, pod):
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "text"), [(Refused("not yours"), 9, "not yours"), (ValueError("a bug"), 2, "a bug")]
)
async def test_errors_stop_what_begins_and_never_what_ends(connect, error, code, text):
    _, connection, _ = await connect(Failing(error))
    for method in ("RunPodSandbox", "CreateContainer"):
        with pytest.raises(Answered) as caught:
            await connection.call(method, pb.EventRequest(pod=pod(), container=container()))
        assert (caught.value.code, caught.value.message) == (code, text)
    for method in ("StopContainer", "RemoveContainer", "StopPodSandbox"):
        await connection.call(method, pb.EventRequest(pod=pod(), container=container()))


@pytest.mark.looptime
async def test_a_slow_hook_is_answered_with_an_error_before_the_runtime_gives_up(connect):
    class Slow:
        async def create_container(self, pod, container):
            await asyncio.get_running_loop().create_future()

        async def stop_container(self, pod, container):
            await asyncio.get_running_loop().create_future()

    _, connection, link = await connect(Slow(), request_timeout=1.2)
    with pytest.raises(Answered, match="could not be answered in"):
        await connection.create(pod(), container())
    await connection.call("StopContainer", pb.EventRequest(), pb.UpdatesResponse)
    assert [method for method, _ in link.late] == ["CreateContainer", "StopContainer"]
    assert [seconds for _, seconds in link.late] == pytest.approx([0.9, 0.9])
    assert link.stub.synchronized


@pytest.mark.looptime
async def test_the_time_that_the_caller_has_left_counts(connect):
    class Slow:
        async def create_container(self, pod, container):
            await asyncio.get_running_loop().create_future()

    _, connection, link = await connect(Slow(), request_timeout=60)
    with pytest.raises(Answered):
        await connection.call("CreateContainer", pb.EventRequest(), timeout=0.8)
    assert link.late[0][1] == pytest.approx(0.6)


async def test_a_plugin_that_was_too_slow_comes_back(connect):
    class Blocking:
        blocks = True

        def create_container(self, pod, container):
            if self.blocks:
                self.blocks = False
                # what no hook may do: the event loop stands still; here, so does the runtime of the test
                import time

                time.sleep(0.6)

    runtime, connection, link = await connect(Blocking())
    with pytest.raises(Lost):
        await connection.call("CreateContainer", pb.EventRequest(), timeout=0.5)
    again = await runtime.plugin()
    await link.until(lambda: link.stub.synchronized)
    await again.create(pod(), container())
    assert [ok for ok, _ in link.states] == [True, False, True]
    assert link.late[0][0] == "CreateContainer"


async def test_N19_it_connects_again_for_ever_and_says_so_meanwhile(connect):
    plugin = Everything()
    runtime, _, link = await connect(plugin)
    for _ in range(8):
        await runtime.stop()
        await link.until(lambda: not link.stub.synchronized)
        assert not link.states[-1][0]
        with pytest.raises(Disconnected):
            await link.stub.update([])
        await asyncio.sleep(0.03)
        await runtime.start()
        await runtime.plugin()
        await link.until(lambda: link.stub.synchronized)
        assert link.states[-1] == (True, "")
    assert plugin.heard == [("sync", 0, 0)] * 9


@pytest.mark.parametrize(
    "harm",
    [
        struct.pack(">II", 1, (4 << 20) + 11),
        struct.pack(">II", 1, 0xFFFFFFFF) + b"x",
        b"\xff" * 64,
    ],
    ids=["above-the-limit", "absurd", "garbage"],
)
async def test_a_broken_stream_is_closed_and_the_plugin_comes_back(connect, harm):
    runtime, connection, link = await connect(Everything())
    connection.raw(harm)
    await runtime.plugin()
    await link.until(lambda: link.stub.synchronized)
    assert [ok for ok, _ in link.states] == [True, False, True]


async def test_a_connection_cut_in_the_middle_of_a_frame_is_a_loss_like_any_other(connect):
    runtime, connection, link = await connect(Everything())
    await connection.cut()
    await runtime.plugin()
    await link.until(lambda: link.stub.synchronized)
    assert "in the middle of a frame" in link.states[1][1]


async def test_noise_of_other_connections_and_kinds_harms_nothing(connect):
    _, connection, _ = await connect(Everything())
    for channel in (0, 3, 77):
        connection.raw(struct.pack(">II", channel, 4) + b"what")
    for channel, stream, kind in ((2, 999, 2), (2, 1, 2), (1, 4001, 3), (1, 4001, 9)):
        connection.send(channel, stream, kind, b"")
    connection.raw(struct.pack(">II", 1, 0))
    await connection.create(pod(), container())


async def test_requests_that_are_none_are_answered_as_such(connect):
    _, connection, _ = await connect(Everything())
    for method in ("CreateContainer", "StateChange", "Synchronize", "Configure"):
        with pytest.raises(Answered) as caught:
            await connection.call(method, b"\xff\xff\xff\xff")
        assert caught.value.code == 3


async def test_a_synchronize_that_fails_ends_the_connection_and_is_tried_again(connect):
    class Once:
        fails = True

        def synchronize(self, pods, containers):
            if self.fails:
                self.fails = False
                raise ValueError("not this time")
            return []

    runtime, _, link = await connect(Once())
    assert runtime.failures == ["2: not this time"]
    assert link.states[-1] == (True, "")


async def test_a_runtime_that_starts_the_plugin_gives_it_a_socket_and_a_name(tmp_path):
    runtime = Runtime(tmp_path / "unused.sock")
    here, there = socket.socketpair()
    server = await asyncio.open_unix_connection(sock=here)
    task = asyncio.create_task(runtime._accept(*server))
    link = Link(
        Everything(),
        socket=tmp_path / "nowhere.sock",
        environ={
            "NRI_PLUGIN_SOCKET": str(os.dup(there.fileno())),
            "NRI_PLUGIN_NAME": "given",
            "NRI_PLUGIN_IDX": "77",
        },
    )
    there.close()
    connection = await runtime.plugin()
    await task
    assert (connection.registered.plugin_name, connection.registered.plugin_idx) == ("given", "77")
    await link.until(lambda: link.stub.synchronized)
    await connection.close()
    await link.task  # there is nothing that it could connect to
    assert [ok for ok, _ in link.states] == [True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"index": "7"},
        {"index": "abc"},
        {"environ": {"NRI_PLUGIN_SOCKET": "x"}},
    ],
    ids=str,
)
def test_an_identity_that_no_runtime_takes_is_refused(wrong):
    with pytest.raises(InvalidInput):
        Stub(object(), **{"name": "dra.memory", "environ": {}, **wrong})
