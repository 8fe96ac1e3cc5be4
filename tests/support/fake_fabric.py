# SPDX-License-Identifier: Apache-2.0
"""A fabric within the test's own process: the real service on the simulated backend, without gRPC and without files.

    rig = await FakeRig.open()                       # owner "c1": nodes n1, n2; pool fabric/rack-1, device cxl0, 8 GiB
    driver = rig.as_node("n1")                       # each a Fabric
    controller = rig.as_controller()
    rig.inject(Faults(failures=(Failure("add", times=1),)))
    rig.down()                                       # every call raises Unreachable, every watch ends
    await rig.up()                                   # the service is back, restarted; memory is where it was

It runs in virtual time (looptime): no threads, no sockets.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from dynamic_memory.fabric.backends.faults import FaultFile, Faults
from dynamic_memory.fabric.backends.interface import Device, Host
from dynamic_memory.fabric.backends.simulated import Simulated
from dynamic_memory.fabric.backends.store import MemoryStore
from dynamic_memory.fabric.directory import Directory, Owner
from dynamic_memory.fabric.errors import Unreachable
from dynamic_memory.fabric.identity import CONTROLLER, OPERATOR, Identity
from dynamic_memory.fabric.model import Capacity, Change, Removed, Share, Snapshot
from dynamic_memory.fabric.service import Service

__all__ = ["GIB", "MIB", "FakeFabric", "FakeRig", "share_of"]

MIB = 1 << 20
GIB = 1 << 30


class FakeRig:
    """A service that can be cut off and restarted, and clients of it.

    Args:
        devices: pool devices; one of 8 GiB in units of 128 MiB if not given.
        hosts: hosts; h1 and h2 with windows of 8 GiB and 8 extents if not given.
        owners: owners; c1 with nodes n1, n2 if not given.
        lapse: seconds after which a session lapses.

    """

    def __init__(
        self,
        devices: tuple[Device, ...] = (Device(domain="rack-1", name="cxl0", total=8 * GIB, unit=128 * MIB),),
        hosts: tuple[Host, ...] = (
            Host(domain="rack-1", name="h1", device="port0", window=8 * GIB, max_extents=8),
            Host(domain="rack-1", name="h2", device="port0", window=8 * GIB, max_extents=8),
        ),
        owners: tuple[Owner, ...] = (
            Owner(name="c1", nodes={"n1": "h1", "n2": "h2"}, pools=frozenset({"fabric/rack-1"})),
        ),
        lapse: float = 60.0,
    ) -> None:
        self._devices, self._hosts, self._owners, self._lapse = devices, hosts, owners, lapse
        self._store = MemoryStore()
        self._fault_file = FaultFile(None)
        self.backend = Simulated(devices, hosts, self._store, self._fault_file)
        self.service: Service | None = None
        self.went_down = asyncio.Event()
        self.calls: list[tuple[str, Mapping[str, object]]] = []

    @classmethod
    async def open(cls, **arguments: object) -> FakeRig:
        """A rig whose service is up."""
        rig = cls(**arguments)  # type: ignore[arg-type]  # passed through
        await rig.up()
        return rig

    async def up(self) -> None:
        """Start the service, or restart it: sessions and requests for release are forgotten, memory is not."""
        self.down()
        self.backend = Simulated(self._devices, self._hosts, self._store, self._fault_file)
        await self.backend.open()
        self.service = Service(Directory(self._owners), self.backend, lapse=self._lapse)
        self.went_down = asyncio.Event()

    def down(self) -> None:
        """Cut the service off, as if it had been killed: what it had begun does not reach the fabric any more."""
        self.service = None
        self.backend._store = MemoryStore()
        self.went_down.set()

    def inject(self, faults: Faults) -> None:
        """Put faults in force; they outlive restarts of the service."""
        self.backend.inject(faults)

    def as_node(self, node: str, owner: str = "c1") -> FakeFabric:
        """The fabric as the driver of a node sees it."""
        return FakeFabric(self, Identity.node(owner, node))

    def as_controller(self, owner: str = "c1") -> FakeFabric:
        """The fabric as the controller of a cluster sees it."""
        return FakeFabric(self, Identity.role(owner, CONTROLLER))

    def as_operator(self, owner: str = "c1") -> FakeFabric:
        """The fabric as an operator sees it."""
        return FakeFabric(self, Identity.role(owner, OPERATOR))


class FakeFabric:
    """A `Fabric` for one identity. `rig.calls` records what was asked."""

    def __init__(self, rig: FakeRig, identity: Identity) -> None:
        self._rig = rig
        self._identity = identity

    async def add_memory(self, *, node: str, pool: str, device: str, size: int, tag: str) -> Share:
        arguments = {"node": node, "pool": pool, "device": device, "size": size, "tag": tag}
        service = self._service("add_memory", arguments)
        return await service.add_memory(self._identity, node=node, pool=pool, device=device, size=size, tag=tag)

    async def remove_memory(self, tag: str, *, host_off: bool = False, force: bool = False) -> Removed:
        service = self._service("remove_memory", {"tag": tag, "host_off": host_off, "force": force})
        return await service.remove_memory(self._identity, tag, host_off=host_off, force=force)

    async def get_capacity(self, node: str | None = None) -> Capacity:
        return await self._service("get_capacity", {"node": node}).get_capacity(self._identity, node)

    async def list_extents(self) -> Snapshot:
        return await self._service("list_extents", {}).list_extents(self._identity)

    async def watch(self) -> AsyncIterator[Snapshot | Change]:
        service = self._service("watch", {})
        watcher = await service.watch(self._identity)
        went_down = asyncio.ensure_future(self._rig.went_down.wait())
        try:
            while True:
                item = asyncio.ensure_future(watcher.next())
                try:
                    await asyncio.wait({item, went_down}, return_when=asyncio.FIRST_COMPLETED)
                    if went_down.done():
                        raise Unreachable("the service went away")
                    yield item.result()
                finally:
                    item.cancel()
        finally:
            went_down.cancel()
            service.unwatch(watcher)

    async def close(self) -> None:
        return

    def _service(self, method: str, arguments: Mapping[str, object]) -> Service:
        self._rig.calls.append((method, arguments))
        if self._rig.service is None:
            raise Unreachable("connection refused")
        return self._rig.service


def share_of(
    node: str = "n1", size: int = GIB, device: str = "cxl0", pool: str = "fabric/rack-1", tag: str | None = None
) -> dict[str, Any]:
    """What is asked for by AddMemory."""
    return {"node": node, "pool": pool, "device": device, "size": size, "tag": tag or str(uuid.uuid4())}
