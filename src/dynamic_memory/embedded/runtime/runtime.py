# SPDX-License-Identifier: Apache-2.0
"""The containers of one node, by pod and name, with their cgroups; it outlives a restart of the kubelet, as a real one.

Plugins of the Node Resource Interface (`plugins`) take part in what is created, changed and removed by the methods that
are coroutines; `run`, `set_limit` and `remove_pod` are those without plugins.

Memory is looked at every now and then for the files of the cgroups, and for the limit over all pods: if all together
use more, the one that uses most is killed, as the kernel would.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from dynamic_memory.embedded.runtime import messages
from dynamic_memory.embedded.runtime.cgroups import Cgroups, hugetlb_files, memory_files
from dynamic_memory.embedded.runtime.container import Container, ContainerSpec, Sandbox, SimulatedContainer, new_id
from dynamic_memory.embedded.runtime.curves import Reading
from dynamic_memory.embedded.runtime.plugins import PluginRefused, Plugins
from dynamic_memory.embedded.runtime.processes import ProcessContainer
from dynamic_memory.nri.events import Event
from dynamic_memory.nri.proto import nri_pb2 as pb

__all__ = ["Runtime"]

MEMORY_MIN = "memory.min"


class Runtime:
    """See the module.

    Args:
        folder: of the node.
        processes: containers are real processes.
        refresh: seconds between two looks at the memory of all.

    """

    def __init__(self, folder: Path, *, processes: bool = False, refresh: float = 2.0) -> None:
        self.cgroups = Cgroups(folder / "cgroup")
        self._folder = folder
        self._processes = processes
        self._refresh = refresh
        self.plugins = Plugins(folder / "nri.sock", state=self._state, apply=self._apply)
        self._sandboxes: dict[str, Sandbox] = {}
        self._announced: set[str] = set()
        self._containers: dict[str, dict[str, Container]] = {}
        self._folders: dict[str, Path] = {}
        self._kills: dict[str, int] = {}
        self._seen: dict[str, Reading] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ended: Callable[[str], None] = lambda _: None

    def start(self, ended: Callable[[str], None]) -> None:
        """Begin to look at memory; `ended` is called with the UID of a pod one of whose containers has ended."""
        self._ended = ended
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._refresh, self._look)

    def stop(self) -> None:
        """Kill all containers and look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ended = lambda _: None
        for containers in self._containers.values():
            for container in containers.values():
                if container.ended is None:
                    container.kill()

    def get(self, uid: str, name: str) -> Container | None:
        """Return the last container of this name in a pod, running or ended."""
        return self._containers.get(uid, {}).get(name)

    def of(self, uid: str) -> dict[str, Container]:
        """Return the containers of a pod, by name."""
        return dict(self._containers.get(uid, {}))

    def pods(self) -> list[str]:
        """Return the UIDs of the pods that have containers."""
        return list(self._containers)

    def make_pod(self, uid: str, qos: str, limit: int | None, sandbox: Sandbox | None = None) -> None:
        """Make the cgroup of a pod with its limits, as the kubelet does; one that is there stays as it is."""
        folder = self._folders[uid] = self.cgroups.pod(uid, qos)
        self._containers.setdefault(uid, {})
        known = self._sandboxes.get(uid)
        made = sandbox or known or Sandbox(id=new_id(), uid=uid)
        self._sandboxes[uid] = made if known is None else msgspec.structs.replace(made, id=known.id)
        if known is None:
            files = {"memory.max": _max(limit), MEMORY_MIN: "0\n", "cpuset.mems": "\n"}
            self.cgroups.write(folder, files | hugetlb_files(made.hugepages))

    def run(self, uid: str, spec: ContainerSpec, *, id_: str = "", age: float = 0.0) -> Container:
        """Start a container in a pod that was made; with an `age`, one that was already running is taken over."""

        def ended() -> None:
            self._ended(uid)
            if uid in self._sandboxes:
                told = messages.container(container.spec, container.id, self._sandboxes[uid], container)
                self.plugins.post(Event.STOP_CONTAINER, self._pod(uid), told)

        container: Container
        if self._processes:
            container = ProcessContainer(spec, ended, folder=self._folder)
            container.id = id_ or container.id
        else:
            container = SimulatedContainer(spec, ended, id_=id_, age=age)
        self._containers[uid][spec.name] = container
        self._settle(uid, container)
        self._write(uid, container, container.read())
        return container

    async def create(self, uid: str, spec: ContainerSpec) -> Container:
        """Start a container in a pod that was made, as plugins would have it.

        Raises:
            PluginRefused: a plugin does not let it be; nothing of it is left.

        """
        await self.plugins.told()
        async with self.plugins.lock:
            pod, sandbox = self._pod(uid), self._sandboxes[uid]
            if uid not in self._announced:
                await self.plugins.tell(Event.RUN_POD_SANDBOX, pod)
                self._announced.add(uid)
            before = self._containers[uid].get(spec.name)
            id_ = new_id()
            made = messages.container(spec, id_, sandbox)
            try:
                policy = await self.plugins.create(pod, made)
                made.state = pb.CONTAINER_CREATED
                await self.plugins.tell(Event.POST_CREATE_CONTAINER, pod, made)
                await self.plugins.tell(Event.START_CONTAINER, pod, made)
            except PluginRefused:
                made.state = pb.CONTAINER_STOPPED
                await self._gone(pod, made, stopped=False)
                raise
            container = self.run(uid, messages.settled(spec, made, policy), id_=id_)
            made.state = pb.CONTAINER_RUNNING
            await self.plugins.tell(Event.POST_START_CONTAINER, pod, made)
            if before is not None:
                # the kubelet keeps the one before for its log; the plugins need not
                self.cgroups.remove(self._folders[uid] / before.id)
                await self._gone(pod, messages.container(before.spec, before.id, sandbox, before), stopped=True)
            return container

    async def _gone(self, pod: pb.PodSandbox, container: pb.Container, *, stopped: bool) -> None:
        """Tell that a container is removed."""
        for event in (Event.REMOVE_CONTAINER,) if stopped else (Event.STOP_CONTAINER, Event.REMOVE_CONTAINER):
            with contextlib.suppress(PluginRefused):
                await self.plugins.tell(event, pod, container)

    async def update_pod(self, uid: str, wanted: pb.LinuxResources) -> None:
        """Tell plugins what the kubelet is about to give a pod as a whole (UpdatePodSandboxResources of CRI).

        The runtime changes nothing: the kubelet writes the cgroup afterwards, when all have heard that it is done.

        Raises:
            PluginRefused: a plugin does not let it be.

        """
        async with self.plugins.lock:
            await self.plugins.update_pod(self._pod(uid), wanted)

    def set_pod_limit(self, uid: str, limit: int | None) -> None:
        """Write the memory limit of a pod, as the kubelet does at a resize: huge pages are limited to 0 with it."""
        self.cgroups.write(self._folders[uid], {"memory.max": _max(limit), **hugetlb_files({})})

    def sandbox_id(self, uid: str) -> str:
        """Return the id of a pod's sandbox."""
        return self._sandboxes[uid].id

    async def resize(self, uid: str, name: str, limit: int | None) -> None:
        """Give a container another memory limit, and whatever plugins want then.

        Raises:
            PluginRefused: a plugin does not let it be.

        """
        async with self.plugins.lock:
            pod, container = self._pod(uid), self._containers[uid][name]
            made = messages.container(container.spec, container.id, self._sandboxes[uid], container)
            wanted = pb.LinuxResources()
            if limit is not None:
                wanted.memory.limit.value = limit
            await self.plugins.update(pod, made, wanted)
            messages.merge(made.linux.resources, wanted)
            if limit is None and not wanted.memory.HasField("limit"):
                made.linux.resources.memory.ClearField("limit")
            self._change(uid, container, messages.settled(container.spec, made))
            with contextlib.suppress(PluginRefused):
                await self.plugins.tell(Event.POST_UPDATE_CONTAINER, pod, made)

    async def end_pod(self, uid: str) -> None:
        """Forget a pod whose containers have all ended, after plugins were told."""
        await self.plugins.told()
        if uid in self._announced:
            async with self.plugins.lock:
                pod, sandbox = self._pod(uid), self._sandboxes[uid]
                with contextlib.suppress(PluginRefused):
                    await self.plugins.tell(Event.STOP_POD_SANDBOX, pod)
                for container in self.of(uid).values():
                    await self._gone(
                        pod, messages.container(container.spec, container.id, sandbox, container), stopped=True
                    )
                with contextlib.suppress(PluginRefused):
                    await self.plugins.tell(Event.REMOVE_POD_SANDBOX, pod)
        self.remove_pod(uid)

    def set_limit(self, uid: str, name: str, limit: int | None) -> None:
        """Give a container another memory limit."""
        container = self._containers[uid][name]
        self._change(uid, container, msgspec.structs.replace(container.spec, limit=limit))

    def remove_pod(self, uid: str) -> None:
        """Forget a pod whose containers have all ended."""
        self._sandboxes.pop(uid, None)
        self._announced.discard(uid)
        for container in self._containers.pop(uid, {}).values():
            self._seen.pop(container.id, None)
            self._kills.pop(container.id, None)
            if container.ended is None:
                container.kill()
        folder = self._folders.pop(uid, None)
        if folder is not None:
            self.cgroups.remove(folder)

    def usage(self, uid: str) -> Reading:
        """Return what a pod uses now."""
        readings = [container.read() for container in self._containers.get(uid, {}).values()]
        return Reading(
            sum(each.anonymous for each in readings),
            sum(each.cache for each in readings),
            max((each.pressure for each in readings), default=0.0),
        )

    # --- what plugins are told, and what they want

    def _pod(self, uid: str) -> pb.PodSandbox:
        folder = self._folders[uid].relative_to(self.cgroups.root)
        return messages.sandbox(self._sandboxes[uid], folder.as_posix())

    def _state(self) -> tuple[list[pb.PodSandbox], list[pb.Container]]:
        containers = []
        for uid, container in self._all():
            # whoever hears of its containers has heard of the pod
            self._announced.add(uid)
            containers.append(messages.container(container.spec, container.id, self._sandboxes[uid], container))
        return [self._pod(uid) for uid in self._sandboxes if uid in self._announced], containers

    def _all(self) -> Iterator[tuple[str, Container]]:
        for uid, containers in list(self._containers.items()):
            for container in list(containers.values()):
                yield uid, container

    def _apply(self, updates: Sequence[pb.ContainerUpdate]) -> list[pb.ContainerUpdate]:
        """Change containers that are there; return the updates of others."""
        if not updates:
            return []
        known = {container.id: (uid, container) for uid, container in self._all()}
        failed = []
        for update in updates:
            found = known.get(update.container_id)
            if found is None:
                if not update.ignore_failure:
                    failed.append(update)
                continue
            uid, container = found
            made = messages.container(container.spec, container.id, self._sandboxes[uid], container)
            messages.merge(made.linux.resources, update.linux.resources)
            self._change(uid, container, messages.settled(container.spec, made))
        return failed

    def _change(self, uid: str, container: Container, spec: ContainerSpec) -> None:
        """Give a container other settings."""
        container.spec = spec
        container.set_limit(spec.limit)
        self._settle(uid, container)
        self._write(uid, container, container.read())

    def _settle(self, uid: str, container: Container) -> None:
        """Write what the cgroup of a container is set to, but for its memory limit."""
        spec = container.spec
        files: Mapping[str, str] = {name: f"{value}\n" for name, value in spec.unified.items()}
        own = {"cpuset.mems": f"{spec.mems}\n", MEMORY_MIN: "0\n"}
        self.cgroups.write(self._folders[uid] / container.id, {**own, **hugetlb_files(spec.hugepages), **files})

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._refresh, self._look)
        total = largest = 0
        victim: Container | None = None
        for uid, containers in list(self._containers.items()):
            for container in containers.values():
                reading = container.read()
                total += reading.current
                if reading.anonymous > largest:
                    largest, victim = reading.anonymous, container
                if self._seen.get(container.id) != reading:
                    self._write(uid, container, reading)
        self.cgroups.write(self.cgroups.pods, {"memory.current": f"{total}\n"})
        limit = self.cgroups.limit()
        anonymous = sum(reading.anonymous for reading in self._seen.values())
        if limit is not None and anonymous > limit and victim is not None:
            victim.kill("OOMKilled")

    def _write(self, uid: str, container: Container, reading: Reading) -> None:
        self._seen[container.id] = reading
        if container.ended is not None and container.ended.reason == "OOMKilled":
            self._kills[container.id] = 1
        files = memory_files(
            container.spec.limit,
            anonymous=reading.anonymous,
            cache=reading.cache,
            pressure=reading.pressure,
            kills=self._kills.get(container.id, 0),
        )
        self.cgroups.write(self._folders[uid] / container.id, files)


def _max(limit: int | None) -> str:
    return f"{'max' if limit is None else limit}\n"
