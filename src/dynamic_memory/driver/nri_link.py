# SPDX-License-Identifier: Apache-2.0
"""The driver's connection to the container runtime: kept for ever, and not ready while it is lost.

A runtime without its plugin starts containers all the same. So Prepare refuses claims while the connection is lost, and
what the plugin must know of the node is read before it connects, never while a container waits. Where there is no
socket and there has been no connection, or where no connection came about for a minute, that is a state to live with
(see `enforcement`), not one to wait out.

Of two drivers on a node only the one that leads connects: two plugins would set the same field of a container. It tells
the other one how its connection is (see `lock`), and as long as it has told nothing the other one gives nothing: an
earlier version of the driver tells nothing at all, and one that was killed does not tell any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
from prometheus_client import Counter, Gauge

from dynamic_memory.driver.config import NriConfig
from dynamic_memory.driver.nri_plan import Facts
from dynamic_memory.driver.nri_plugin import MemoryPlugin
from dynamic_memory.driver.records import Records
from dynamic_memory.host.errors import HostError
from dynamic_memory.host.interface import Host
from dynamic_memory.host.mounts import cgroup_mounts, parse_mountinfo
from dynamic_memory.host.node_facts import read_mounts
from dynamic_memory.host.pod_cgroups import PodCgroups
from dynamic_memory.host.topology import TopologyReader
from dynamic_memory.nri.stub import Stub
from dynamic_memory.process import clock
from dynamic_memory.process.readiness import Readiness

__all__ = ["Link", "NriLink"]

log = logging.getLogger(__name__)

LATE = Counter("dynamic_memory_driver_nri_late_total", "Answers that came near the runtime's patience.", ["method"])
CONNECTED = Gauge("dynamic_memory_driver_nri_connected", "Whether the runtime is connected and synchronized.")
LOOK_AGAIN = 10.0
"""Seconds between looks at the node (a memory block that comes online may be its first) and at cgroups of pods."""
GONE = 60.0
"""Seconds without a connection after which it is not waited for any more: a runtime restarts in less."""
MOUNTINFO = Path("/proc/self/mountinfo")


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connection to the container runtime, as far as it matters to claims; as JSON also what drivers tell each other.

    Attributes:
        wanted: the configuration has `nri`.
        lost: why it is not there for the moment.
        absent: why there is no NRI, or none that works.
        off: nobody listens: it is off, or the runtime has none.
        runtime: name of the runtime, while it is connected.

    """

    wanted: bool
    lost: str = ""
    absent: str = ""
    off: bool = True
    runtime: str = ""


class NriLink:
    """The plugin and its connection.

    Args:
        config: where the runtime is.
        records: the ledger.
        host: the Linux of this node.
        root: folder in which `sys` and `proc` are.
        ready: where the connection is reported, as `nri`.
        own: `root` is the machine on which the runtime starts containers, also where `host` is simulated.
        whole: `root` is the simulated host itself: the runtime starts containers there (as an embedded cluster's does).
        mountinfo: the mounts of this process.

    """

    def __init__(
        self,
        config: NriConfig,
        records: Records,
        host: Host,
        *,
        root: Path,
        ready: Readiness,
        own: bool = False,
        whole: bool = False,
        mountinfo: Path = MOUNTINFO,
    ) -> None:
        self._host = host
        self._own = own
        self._whole = whole
        self._ready = ready
        self._socket = config.socket
        self._ever = self._another = False
        self._away_since: float | None = None
        self._absent = False
        self.nobody = False
        """Whether nobody listened when it was last tried."""
        self.changed: Callable[[], None] = lambda: None
        """Called when anything of the connection may have changed."""
        self.tell: Callable[[str], None] = lambda _text: None
        """How other drivers of the node come to know of this one's connection."""
        self.told: Callable[[], str] = lambda: ""
        """What the driver that leads told."""
        self._reader = TopologyReader(root)
        if whole:
            self._cgroups = PodCgroups(read_mounts(root, config.cgroup_root), root)
        else:
            self._cgroups = PodCgroups(cgroup_mounts(parse_mountinfo(mountinfo.read_text()), config.cgroup_root))
        self.plugin = MemoryPlugin(records, self._cgroups)
        self.stub = Stub(
            self.plugin,
            name=config.name,
            index=config.index,
            socket=config.socket,
            state=self._told,
            late=lambda method, _seconds: LATE.labels(method).inc(),
        )
        self._why = "the runtime has not been connected yet"

    def state(self) -> Link:
        """Return how the connection is: this process's own, or that of the driver that leads."""
        if self._another:
            return self._state_of_another()
        why, runtime = self._why, self.stub.runtime
        absent = bool(why) and self._absent
        return Link(
            wanted=True,
            lost="" if absent else why,
            absent=why if absent else "",
            off=self.nobody,
            runtime=runtime.name if runtime is not None else "",
        )

    def _state_of_another(self) -> Link:
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(self.told(), type=Link)
        if not self._socket.exists():
            return Link(wanted=True, absent=self._nobody())
        return Link(
            wanted=True, lost="the driver that leads on this node has not told that it is connected to the runtime"
        )

    def why_not(self) -> str:
        """Return why containers cannot be held to their claims now; empty if they can."""
        state = self.state()
        return state.lost or state.absent

    @property
    def absent(self) -> bool:
        """Whether there is no NRI, or none that works, and it is not to be waited for."""
        return bool(self.state().absent)

    @property
    def never(self) -> bool:
        """Whether the runtime has no NRI: nobody listens, and there has been no connection."""
        return self.absent and self.nobody and not self._ever

    @property
    def unknown(self) -> bool:
        """Whether this process cannot tell yet whether there is NRI that works."""
        return not (self._another or self._ever or self._absent)

    def left_to_another(self) -> None:
        """Take note that another process of the driver is the one that is connected."""
        self._another = True
        self._ready.set("nri", True, degraded=self.state().absent)
        self.changed()

    def taken_over(self) -> None:
        """Take note that no other process of the driver is connected any more: `run` has to connect this one."""
        self._another = False
        self._told(False, self._why)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        self.taken_over()
        try:
            await self._look()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_looking())
                await self.stub.run()
        finally:
            self._told(False, "the driver ends")

    async def _keep_looking(self) -> None:
        while True:
            await clock.sleep(LOOK_AGAIN)
            await self._look()
            if self.stub.synchronized:
                await self.plugin.keep_pods()

    async def _look(self) -> None:
        """Read what the plugin must know of the node; keep what was known if it cannot be read."""
        try:
            self.plugin.facts = await self._facts()
        except HostError as error:
            log.warning("the node cannot be read", extra={"why": str(error)})

    async def _facts(self) -> Facts:
        protects, accounting = self._cgroups.protects, self._cgroups.accounting
        machine = await asyncio.to_thread(self._reader.read) if self._cgroups.limits_hugepages or self._own else None
        pages = machine.huge_pages if machine is not None and self._cgroups.limits_hugepages else ()
        if self._host.simulated and machine is not None and self._own and not self._whole:
            # the node's own memory is real, its fabric is not
            return Facts(
                pages=pages,
                home=tuple(node.id for node in machine.nodes if node.cpus),
                movable=tuple(node.id for node in machine.nodes if not node.cpus),
                accounting=accounting,
                protects=protects,
                far=False,
            )
        if self._host.simulated and not self._whole:
            # nodes that are not there: containers of a real runtime cannot be placed on them
            return Facts(pages=pages, accounting=accounting, protects=protects, places=False)
        nodes = [node for node in (await self._host.memory()).nodes if node.total]
        return Facts(
            pages=pages,
            home=tuple(node.id for node in nodes if not node.movable),
            movable=tuple(node.id for node in nodes if node.movable),
            accounting=accounting,
            protects=protects,
        )

    def _told(self, connected: bool, why: str) -> None:
        nobody = not connected and self.stub.nobody_listens
        self._ever = self._ever or connected
        if connected:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = clock.monotonic()
        long = self._away_since is not None and clock.monotonic() - self._away_since >= GONE
        # a socket at which nobody listens is a killed runtime's, which comes back
        self._absent = long or (nobody and not self._ever and not self._socket.exists())
        self.nobody = nobody
        self._why = "" if connected else self._nobody() if nobody else why or "the runtime is not connected"
        CONNECTED.set(1 if connected else 0)
        if self._absent and nobody:
            self._ready.set("nri", True, degraded=self._why)
        else:
            self._ready.set("nri", connected, self._why)
        self.tell(msgspec.json.encode(self.state()).decode())
        self.changed()

    def _nobody(self) -> str:
        return f"nobody listens at {self._socket}: the container runtime has no NRI, or it is off"
