# SPDX-License-Identifier: Apache-2.0
"""A fabric that exists in a file: pools, hosts, windows and extents behave, latency and failures are injected.

It says of itself that it is simulated, and nothing else tells it apart: the conformance suite of the backends holds
for it. What it has composed survives the process, as it would on hardware, and a process that is killed between the
write and the answer leaves what hardware would leave: memory attached that nobody was told about.

Two books are kept. `_planned` includes what is being written, so that nothing is promised twice; `_durable` is what is
on disk, and what `view` shows. Bytes that are being released are free only when that is on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from dynamic_memory.fabric import steps
from dynamic_memory.fabric.backends.faults import FaultFile, Faults, Operation
from dynamic_memory.fabric.backends.interface import Allocation, Changed, Device, Host, Listener, Order, View
from dynamic_memory.fabric.backends.store import FileStore, MemoryStore, Store
from dynamic_memory.fabric.errors import BackendFailure, DeviceDown, Unreachable
from dynamic_memory.fabric.ledger import Ledger
from dynamic_memory.process import clock, faults

__all__ = ["Simulated"]

_POLL_SECONDS = 0.25
_Thing = TypeVar("_Thing", Device, Host)


class Simulated:
    """A backend without hardware.

    Args:
        devices: pool devices that work, unless a fault says otherwise.
        hosts: hosts that can be reached, unless a fault says otherwise.
        store: what it remembers in.
        fault_file: faults that are injected.

    """

    simulated = True

    def __init__(self, devices: Iterable[Device], hosts: Iterable[Host], store: Store, fault_file: FaultFile) -> None:
        self._devices = tuple(devices)
        self._hosts = tuple(hosts)
        self._store = store
        self._fault_file = fault_file
        self._planned = Ledger(self._devices, self._hosts)
        self._durable = Ledger(self._devices, self._hosts)
        self._releasing: set[str] = set()
        self._listeners: list[Listener] = []
        self._in_force = Faults()

    @classmethod
    def at(
        cls,
        path: Path | None,
        devices: Iterable[Device],
        hosts: Iterable[Host],
        latency: Mapping[Operation, float] | None = None,
    ) -> Simulated:
        """A fabric in a file, with `faults.json` in the same directory; in memory alone if there is no path.

        `latency` is what operations take without faults, seconds.
        """
        store = MemoryStore() if path is None else FileStore(path)
        return cls(devices, hosts, store, FaultFile(None if path is None else path.with_name("faults.json"), latency))

    def inject(self, injected: Faults) -> None:
        """Put faults in force from within the process (a fabric with a file takes them from there)."""
        self._fault_file.set(injected)
        self._look_at_faults()

    async def open(self) -> None:
        """Read the state file.

        Raises:
            InvalidInput: it is not one, or does not match the configuration.
            InUse: another process has it.

        """
        try:
            allocations = await self._store.open()
            self._planned = Ledger(self._devices, self._hosts, allocations)
            self._durable = Ledger(self._devices, self._hosts, allocations)
        except BaseException:
            await self._store.close()
            raise
        self._in_force = Faults()
        self._look_at_faults()

    async def run(self) -> None:
        """Notice changes of the file of faults."""
        while True:
            await clock.sleep(_POLL_SECONDS)
            self._look_at_faults()

    async def close(self) -> None:
        """Release the state file."""
        await self._store.close()

    async def refresh(self) -> None:
        """Nothing can be stale here, but the way to the fabric can be broken or slow."""
        await self._reach()
        await self._fault_file.suffer("read")
        await self._reach()

    def view(self) -> View:
        """What is on disk."""
        return View(devices=self._durable.devices, hosts=self._durable.hosts, allocations=self._durable.allocations)

    def subscribe(self, listener: Listener) -> None:
        """Call a function after each change."""
        self._listeners.append(listener)

    async def compose(self, order: Order) -> Allocation:
        """Take extents, and tell when they are on disk."""
        await self._reach()
        self._planned.plan(order)
        await self._fault_file.suffer("add", "/".join(order.key), order.host)
        await self._reach()
        # Planned again: another device's orders for the same host may have come first.
        allocation = self._planned.plan(order)
        if order.tag in self._durable.allocations:
            return allocation
        self._planned.add(allocation)
        faults.point(steps.ADD_BEFORE_WRITE)
        try:
            await self._store.commit(self._current)
        except OSError as error:
            self._planned.remove(order.tag)
            raise BackendFailure(f"state of the simulated fabric not written: {error}") from error
        self._durable.add(allocation)
        self._tell(Changed(tags=(order.tag,)))
        return allocation

    async def release(self, tag: str) -> None:
        """Give extents back, and tell when that is on disk."""
        await self._reach()
        held = self._durable.allocations.get(tag)
        if held is None:
            return
        device = self._durable.devices[held.key]
        if not device.healthy:
            raise DeviceDown(f"pool device {device.domain}/{device.name}", device.why)
        await self._fault_file.suffer("remove", "/".join(held.key), held.host)
        await self._reach()
        self._releasing.add(tag)
        faults.point(steps.REMOVE_BEFORE_WRITE)
        try:
            await self._store.commit(self._current)
        except OSError as error:
            raise BackendFailure(f"state of the simulated fabric not written: {error}") from error
        finally:
            self._releasing.discard(tag)
        self._planned.remove(tag)
        self._durable.remove(tag)
        self._tell(Changed(tags=(tag,)))

    def _current(self) -> list[Allocation]:
        return [entry for tag, entry in self._planned.allocations.items() if tag not in self._releasing]

    async def _reach(self) -> None:
        self._look_at_faults()
        if self._in_force.partition:
            raise Unreachable("the simulated fabric manager is cut off")

    def _look_at_faults(self) -> None:
        injected = self._fault_file.current()
        if injected is self._in_force:
            return
        before = (self._in_force.devices_down, self._in_force.hosts_down)
        self._in_force = injected
        if before == (injected.devices_down, injected.hosts_down):
            return
        devices = [_with_health(device, injected.devices_down.get("/".join(device.key))) for device in self._devices]
        hosts = [_with_health(host, injected.hosts_down.get(host.name)) for host in self._hosts]
        for ledger in (self._planned, self._durable):
            ledger.set_health(devices, hosts)
        self._tell(Changed(inventory=True))

    def _tell(self, changed: Changed) -> None:
        for listener in self._listeners:
            listener(changed)


def _with_health(thing: _Thing, why: str | None) -> _Thing:
    return thing if why is None else msgspec.structs.replace(thing, healthy=False, why=why)
