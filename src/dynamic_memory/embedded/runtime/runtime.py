# SPDX-License-Identifier: Apache-2.0
"""The containers of one node, by pod and name, with their cgroups; it outlives a restart of the kubelet, as a real one.

Memory is looked at every now and then for the files of the cgroups, and for the limit over all pods: if all together
use more, the one that uses most is killed, as the kernel would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from dynamic_memory.embedded.runtime.cgroups import Cgroups, memory_files
from dynamic_memory.embedded.runtime.container import Container, ContainerSpec, SimulatedContainer
from dynamic_memory.embedded.runtime.curves import Reading
from dynamic_memory.embedded.runtime.processes import ProcessContainer

__all__ = ["Runtime"]


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

    def make_pod(self, uid: str, qos: str, limit: int | None) -> None:
        """Make the cgroup of a pod, or give it another limit."""
        folder = self._folders[uid] = self.cgroups.pod(uid, qos)
        self._containers.setdefault(uid, {})
        self.cgroups.write(folder, {"memory.max": f"{'max' if limit is None else limit}\n"})

    def run(self, uid: str, spec: ContainerSpec, *, id_: str = "", age: float = 0.0) -> Container:
        """Start a container in a pod that was made; with an `age`, one that was already running is taken over."""

        def ended() -> None:
            self._ended(uid)

        container: Container
        if self._processes:
            container = ProcessContainer(spec, ended, folder=self._folder)
        else:
            container = SimulatedContainer(spec, ended, id_=id_, age=age)
        self._containers[uid][spec.name] = container
        self._write(uid, container, container.read())
        return container

    def set_limit(self, uid: str, name: str, limit: int | None) -> None:
        """Give a container another memory limit."""
        container = self._containers[uid][name]
        container.set_limit(limit)
        self._write(uid, container, container.read())

    def remove_pod(self, uid: str) -> None:
        """Forget a pod whose containers have all ended."""
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
