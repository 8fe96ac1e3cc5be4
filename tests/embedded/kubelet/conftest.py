# SPDX-License-Identifier: Apache-2.0
"""A kubelet against the API server in memory, with a simulated host, in a folder that sockets fit into."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from tests.embedded.support.fake_driver import FakeDriver
from tests.support.fake_kube import FakeKube

from dynamic_memory.embedded.kubelet import objects
from dynamic_memory.embedded.kubelet.config import Periods
from dynamic_memory.embedded.kubelet.feed import PodFeed
from dynamic_memory.embedded.kubelet.kubelet import Kubelet
from dynamic_memory.embedded.kubelet.node import Machine
from dynamic_memory.embedded.runtime.runtime import Runtime
from dynamic_memory.host.config import SimulatedHostConfig
from dynamic_memory.host.simulated.host import SimulatedHost
from dynamic_memory.process.config import Bytes, Seconds

GI = 1 << 30
QUICK = Periods(
    prepare=Seconds(0.1),
    unprepare=Seconds(0.05),
    call=Seconds(30),
    sync=Seconds(0.1),
    registry=Seconds(0.02),
    registration=Seconds(0.05),
    wipe=Seconds(0.2),
    node_status=Seconds(0.05),
    lease=Seconds(0.1),
    back_off=Seconds(0.2),
    back_off_most=Seconds(1),
)


class Bench:
    """A node under test, and what a test does to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kube = FakeKube()
        self.host = SimulatedHost(SimulatedHostConfig(root=folder / "host", nodes=(Bytes(2 * GI),)))
        self.runtime = Runtime(folder, refresh=0.05)
        self.cdi = folder / "cdi"
        self.cdi.mkdir()
        self.kubelet = None
        self.driver = FakeDriver(folder / "kubelet", self.cdi)
        self._tasks = []

    async def start(self, periods: Periods = QUICK) -> Kubelet:
        feed = PodFeed(self.kube, "n1")
        self.kubelet = Kubelet(
            Machine(name="n1", pods=5, reserved=GI // 2),
            folder=self.folder / "kubelet",
            cdi=self.cdi,
            kube=self.kube,
            feed=feed,
            host=self.host,
            runtime=self.runtime,
            periods=periods,
        )
        self._tasks = [asyncio.create_task(feed.run()), asyncio.create_task(self.kubelet.run())]
        await self.until(lambda: self.kube.body(objects.NODES, "n1"), "the node is registered")
        return self.kubelet

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def close(self) -> None:
        await self.stop()
        await self.driver.stop()
        await self.runtime.plugins.close()
        self.runtime.stop()

    async def until(self, check, what: str, seconds: float = 30.0):
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            with contextlib.suppress(LookupError, TypeError):
                if found := check():
                    return found
            if asyncio.get_running_loop().time() > deadline:
                pods = {body["metadata"]["name"]: body.get("status") for body in self.kube.bodies(objects.PODS)}
                raise AssertionError(f"not within {seconds} s: {what}; {pods}")
            await asyncio.sleep(0.01)

    async def ever(self, check, what: str, name: str = "a"):
        """Wait for a status of a pod, and return it: one that lasts for a moment counts although it is over."""

        def found():
            for record in self.kube._log:
                if record.kind == str(objects.PODS) and record.body["metadata"]["name"] == name:
                    with contextlib.suppress(LookupError, TypeError, AttributeError):
                        if check(record.body["status"]):
                            return record.body["status"]
            return None

        return await self.until(found, what)

    def pod(self, name: str = "a", *, claim: str = "", annotations=None, containers=None, **spec):
        """Bind a pod to the node."""
        container = {"name": "main", "image": "busybox", **spec.pop("container", {})}
        body = {
            "metadata": {"name": name, "namespace": "app", "annotations": annotations or {}},
            "spec": {"nodeName": "n1", "containers": containers or [container], **spec},
        }
        if claim:
            container["resources"] = {**container.get("resources", {}), "claims": [{"name": "far"}]}
            body["spec"]["resourceClaims"] = [{"name": "far", "resourceClaimName": claim}]
        return self.kube.put(objects.PODS, body)

    def claim(self, name: str, *pods, uid: str | None = None):
        """Make an allocated claim that is reserved for pods."""
        body = {
            "metadata": {"name": name, "namespace": "app", **({"uid": uid} if uid else {})},
            "status": {
                "allocation": {"devices": {"results": [{"driver": "dra.memory", "pool": "p", "device": "d"}]}},
                "reservedFor": [
                    {"resource": "pods", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]} for pod in pods
                ],
            },
        }
        return self.kube.put(objects.CLAIMS, body)

    def delete(self, name: str, grace: int = 1) -> None:
        """Begin a graceful deletion, as the API server does."""
        body = self.kube.body(objects.PODS, name, "app")
        body["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
        body["metadata"]["finalizers"] = [
            "grace"
        ]  # the fake has no grace: keeps the object until the kubelet deletes it
        self.kube.put(objects.PODS, body)

    def status(self, name: str = "a"):
        return (self.kube.body(objects.PODS, name, "app") or {}).get("status") or {}

    def phase(self, name: str = "a") -> str:
        return self.status(name).get("phase", "")

    def container(self, name: str = "a"):
        return self.status(name)["containerStatuses"][0]

    def condition(self, kind: str, name: str = "a", status=None):
        found = self.status(name) if status is None else status
        return next((each for each in found.get("conditions", []) if each["type"] == kind), None)

    def events(self):
        from dynamic_memory.kube.events import EVENTS

        return [(body["reason"], body["message"]) for body in self.kube.bodies(EVENTS)]


@pytest.fixture
async def bench():
    folder = Path(tempfile.mkdtemp(prefix="dmk-"))
    found = Bench(folder)
    yield found
    await found.close()
    shutil.rmtree(folder, ignore_errors=True)
