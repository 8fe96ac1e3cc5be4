# SPDX-License-Identifier: Apache-2.0
"""Conversations with containerd 2.4.2, played again: the same is heard and the same is answered, byte for byte."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from dynamic_memory.nri import rpcs
from dynamic_memory.nri.proto import nri_pb2 as pb
from dynamic_memory.nri.session import Session

CORPUS = Path(__file__).parent / "corpus"
NEW_IN_0_12 = (
    "RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "PostCreateContainer", "StartContainer",
    "PostStartContainer", "PostUpdateContainer", "RemoveContainer", "PostUpdatePodSandbox",
)  # fmt: skip
HEARD = [
    ("configure", "containerd 2.4.2+unknown (NRI v0.12.3)"),
    ("synchronize", 0, 0),
    ("run", "pod-a", "/dynamic-memory-nri/podpod-a"),
    ("create", "app", ["dra.memory/claim=claim-1"], ["DRAMEMORY_x_NUMANodes=0"], 64 << 20),
    ("post_create", "app"),
    ("start", "app"),
    ("post_start", "app"),
    ("update", "app", 96 << 20),
    ("post_update", "app"),
    ("stop", "app", pb.CONTAINER_STOPPED),
    ("remove", "app"),
    ("create", "short", [], [], 0),
    ("post_create", "short"),
    ("start", "short"),
    ("post_start", "short"),
    # a container that ends by itself is told as stopped, too
    ("stop", "short", pb.CONTAINER_STOPPED),
    ("stop_pod", "pod-a"),
    ("remove", "short"),
    ("remove_pod", "pod-a"),
]


class Recorded:
    """The plugin that was recorded."""

    def __init__(self) -> None:
        self.heard = []

    def configure(self, runtime):
        self.heard.append(("configure", str(runtime)))

    def synchronize(self, pods, containers):
        self.heard.append(("synchronize", len(pods), len(containers)))
        return []

    def run_pod_sandbox(self, pod):
        self.heard.append(("run", pod.uid, pod.linux.cgroup_parent))

    def stop_pod_sandbox(self, pod):
        self.heard.append(("stop_pod", pod.uid))

    def remove_pod_sandbox(self, pod):
        self.heard.append(("remove_pod", pod.uid))

    def update_pod_sandbox(self, pod, _overhead, _resources):
        self.heard.append(("update_pod", pod.uid))

    def post_update_pod_sandbox(self, pod):
        self.heard.append(("post_update_pod", pod.uid))

    def create_container(self, _pod, container):
        devices = [device.name for device in container.cdi_devices]
        env = [entry for entry in container.env if entry.startswith("DRAMEMORY_")]
        limit = container.linux.resources.memory.limit.value
        self.heard.append(("create", container.name, devices, env, limit))
        answer = pb.CreateContainerResponse()
        answer.adjust.linux.resources.cpu.mems = "0"
        answer.adjust.env.append(pb.KeyValue(key="A", value="b"))
        return answer

    def post_create_container(self, _pod, container):
        self.heard.append(("post_create", container.name))

    def start_container(self, _pod, container):
        self.heard.append(("start", container.name))

    def post_start_container(self, _pod, container):
        self.heard.append(("post_start", container.name))

    def update_container(self, _pod, container, resources):
        self.heard.append(("update", container.name, resources.memory.limit.value))
        return []

    def post_update_container(self, _pod, container):
        self.heard.append(("post_update", container.name))

    def stop_container(self, _pod, container):
        self.heard.append(("stop", container.name, container.state))
        return []

    def remove_container(self, _pod, container):
        self.heard.append(("remove", container.name))


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data):
        self.written += bytes(data)

    def is_closing(self):
        return False

    def close(self):
        pass


def conversation(name):
    lines = (CORPUS / f"containerd-2.4.2-{name}.txt").read_text().splitlines()
    return [(line.split()[0], base64.b64decode(line.split()[1])) for line in lines]


@pytest.mark.parametrize("step", [0, 1, 9, 4096], ids=["as-recorded", "byte-by-byte", "nine", "pages"])
@pytest.mark.parametrize("name", ["own-calls", "state-change"])
async def test_N3_a_recorded_conversation_is_held_again_byte_for_byte(monkeypatch, name, step):
    if name == "state-change":
        for method in NEW_IN_0_12:
            monkeypatch.delitem(rpcs.RPCS, method)
    plugin, transport = Recorded(), Transport()
    session = Session(plugin, lambda method, seconds: pytest.fail(f"{method} took {seconds}"))
    session.mux.connection_made(transport)
    registration = asyncio.create_task(session.register("dra.memory", "10"))
    await asyncio.sleep(0)
    said = conversation(name)
    for who, data in said:
        if who == "runtime":
            size = step or len(data)
            for at in range(0, len(data), size):
                session.mux.data_received(data[at : at + size])
    await registration
    assert plugin.heard == HEARD
    assert transport.written == b"".join(data for who, data in said if who == "plugin")
    assert session.synchronized.is_set()
    await session.close("the end")


async def test_a_conversation_cut_anywhere_does_no_harm():
    stream = b"".join(data for who, data in conversation("own-calls") if who == "runtime")
    for length in range(0, len(stream), 997):
        plugin = Recorded()
        session = Session(plugin, lambda *_: None)
        session.mux.connection_made(Transport())
        session.mux.data_received(stream[:length])
        session.mux.connection_lost(None)
        await session.close("lost")
        assert plugin.heard == HEARD[: len(plugin.heard)]
        assert session.mux.closed.done()
