# SPDX-License-Identifier: Apache-2.0
"""The kubelet of one simulated node, put together. Ending it leaves containers and claims as they are."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from dynamic_memory.api.meta import ObjectMeta
from dynamic_memory.embedded.kubelet.claims import ClaimManager
from dynamic_memory.embedded.kubelet.config import Periods
from dynamic_memory.embedded.kubelet.feed import PodFeed
from dynamic_memory.embedded.kubelet.node import Machine, NodeKeeper
from dynamic_memory.embedded.kubelet.objects import Object, Pod
from dynamic_memory.embedded.kubelet.parts import Parts
from dynamic_memory.embedded.kubelet.plugins import Plugins
from dynamic_memory.embedded.kubelet.pod import PodRecord
from dynamic_memory.embedded.kubelet.resources import Lack, Resources, amounts, fit, requests
from dynamic_memory.embedded.kubelet.worker import Worker
from dynamic_memory.embedded.runtime.runtime import Runtime
from dynamic_memory.host.interface import Host
from dynamic_memory.kube.errors import ApiError
from dynamic_memory.kube.events import EventRecorder
from dynamic_memory.kube.informer import Change
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock

__all__ = ["Kubelet"]

log = logging.getLogger(__name__)


class Kubelet:
    """One node's kubelet; `run` may be called again after it was cancelled, which is its restart.

    Args:
        machine: what the node offers.
        folder: of the kubelet (`/var/lib/kubelet` of a real one).
        cdi: folder of CDI files.
        kube: the API server, as this node.
        feed: pods.
        host: the Linux of the node.
        runtime: the containers of the node.
        periods: how long to wait for what.
        number: tells the addresses of pods of several nodes apart.

    """

    def __init__(
        self,
        machine: Machine,
        *,
        folder: Path,
        cdi: Path,
        kube: Kube,
        feed: PodFeed,
        host: Host,
        runtime: Runtime,
        periods: Periods | None = None,
        number: int = 0,
    ) -> None:
        self.machine = machine
        self.folder = folder
        self.runtime = runtime
        self.periods = periods or Periods()
        self._feed = feed
        self.node = NodeKeeper(machine, host, kube, self.periods)
        self.plugins = Plugins(folder / "plugins_registry", self.periods, wipe=self._wipe)
        self.claims = ClaimManager(folder, kube, self.plugins)
        self.workers: dict[str, Worker] = {}
        self._addresses = (f"10.{64 + number // 256}.{number % 256}.{last}" for last in itertools.cycle(range(2, 255)))
        self._parts = Parts(
            name=machine.name,
            folder=folder,
            cdi=cdi,
            kube=kube,
            runtime=runtime,
            claims=self.claims,
            periods=self.periods,
            recorder=EventRecorder(kube, "kubelet", machine.name),
            node_ip=machine.address,
            admit=self._admit,
            others=self._others,
            address=lambda: next(self._addresses),
            left=self._left,
        )

    @property
    def name(self) -> str:
        """Of the node."""
        return self.machine.name

    def log_file(self, namespace: str, name: str, uid: str, container: str, number: int) -> Path:
        """Return where a container of a pod printed to at its `number`th start, from 0 on."""
        return self._parts.log_file(ObjectMeta(name=name, namespace=namespace, uid=uid), container, number)

    async def run(self) -> None:
        """Be this node's kubelet until cancelled."""
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._until(self.node.read_host)
        self.claims.load()
        self.runtime.cgroups.start(self.node.memory)
        self.runtime.start(self._ended)
        try:
            await self._until(self.node.register)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.node.keep_status())
                group.create_task(self.node.keep_lease())
                group.create_task(self.plugins.run())
                self._begin(await self._feed.attach(self.name, self._changed))
                # plugins are to hear of all that runs, which was found again only now
                await self.runtime.plugins.listen()
                await self._sync()
        finally:
            self._feed.detach(self.name)
            await asyncio.gather(*(worker.close() for worker in self.workers.values()))
            self.workers.clear()

    async def _until(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do something until it works."""
        while True:
            try:
                await step()
            except ApiError as error:
                log.info("node %s: %s", self.name, error)
                await clock.sleep(1.0)
            else:
                return

    async def _wipe(self, driver: str) -> None:
        try:
            await self.node.wipe(driver)
        except ApiError as error:
            log.warning("slices of %s are not deleted: %s", driver, error)

    async def _sync(self) -> None:
        """Look every now and then at what waits for something that nobody tells."""
        while True:
            self._orphans()
            for worker in self.workers.values():
                if worker.record.resize is not None or worker.record.resizing is not None:
                    worker.wake()
            await clock.sleep(self.periods.sync)

    # --- pods

    def _begin(self, pods: list[Pod]) -> None:
        """Take the pods that were there first; those that ran are admitted before the others, as after a restart."""
        workers = [self._add(pod) for pod in pods]
        for worker in sorted(workers, key=lambda each: not each.record.any_started):
            worker.wake()

    def _orphans(self) -> None:
        """Pods that vanished while nobody looked still run, or have claims in the checkpoint."""
        for uid in (self.claims.pods() | set(self.runtime.pods())) - self.workers.keys():
            namespaces = {state.namespace for state in self.claims.claims.values() if uid in state.pods}
            ghost = Object(metadata=ObjectMeta(name="", namespace=min(namespaces, default=""), uid=uid))
            self._add(ghost).vanish()

    def _add(self, pod: Pod) -> Worker:
        worker = self.workers[pod.metadata.uid] = Worker(self._parts, pod)
        return worker

    def _changed(self, change: Change[Pod]) -> None:
        uid = change.object.metadata.uid
        worker = self.workers.get(uid)
        if change.type == "deleted":
            if worker is not None:
                worker.vanish()
                if worker.record.finished:
                    self._forget(uid)
                    self._room()
        elif worker is None:
            self._add(change.object).wake()
        else:
            worker.update(change.object)

    def _ended(self, uid: str) -> None:
        """A container has ended."""
        worker = self.workers.get(uid)
        if worker is not None:
            worker.wake()

    def _left(self, record: PodRecord) -> None:
        """A pod has given back what it had."""
        if record.gone:
            self._forget(record.uid)
        self._room()

    def _forget(self, uid: str) -> None:
        """Forget a pod whose object is gone, and what its containers printed."""
        worker = self.workers.pop(uid, None)
        if worker is not None:
            shutil.rmtree(self._parts.pod_folder(worker.record.object.metadata), ignore_errors=True)

    def _room(self) -> None:
        for worker in self.workers.values():
            if worker.record.resize is not None:
                worker.wake()

    # --- resources

    def _admit(self, record: PodRecord) -> Lack | None:
        used, allocatable = self._others(record)
        wanted = requests(record.object.spec, _numbers(record) if record.any_started else None)
        known = {name: value for name, value in wanted.items() if name in allocatable or "/" not in name}
        return fit(known, used, allocatable)

    def _others(self, record: PodRecord) -> tuple[Resources, Resources]:
        used: dict[str, int] = {}
        for worker in self.workers.values():
            other = worker.record
            if other is record or not other.admitted or other.finished:
                continue
            for name, value in requests(other.object.spec, _numbers(other)).items():
                used[name] = used.get(name, 0) + value
        return used, amounts(self.node.allocatable)


def _numbers(record: PodRecord) -> dict[str, Resources]:
    """Return what the containers of a pod were given, or still have, if that is more."""
    found: dict[str, Resources] = {}
    for each in record.containers:
        fixed = amounts((each.spec.get("resources") or {}).get("requests"))
        given, actual = amounts(each.allocated["requests"]), amounts(each.actual["requests"])
        found[each.name] = fixed | {
            name: max(given.get(name, 0), actual.get(name, 0)) for name in given.keys() | actual.keys()
        }
    return found
