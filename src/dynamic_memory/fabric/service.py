# SPDX-License-Identifier: Apache-2.0
"""The Dynamic Memory Service without a transport: what each call means, for a caller whose identity is proven.

The backend is the ledger. The service adds the names of owners and nodes, who may do what, sessions of nodes, requests
for release, and the order of things: operations are serial for each tag and for each pool device, never globally, and
run to their end whatever becomes of the caller. A request for release is kept in memory only: whoever made it sees it
missing on its next Watch, and makes it again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import msgspec

from dynamic_memory.fabric import authority, capacity, steps
from dynamic_memory.fabric.backends.interface import Allocation, Backend, Changed, Order
from dynamic_memory.fabric.directory import Directory
from dynamic_memory.fabric.errors import BadArgument, Conflicts, Exhausted, Rejected, UnknownDevice, Unreachable
from dynamic_memory.fabric.flights import Flights
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.fabric.model import (
    MAX_SIZE,
    Capacity,
    Change,
    PoolDevice,
    Removed,
    RemovedState,
    Share,
    Snapshot,
)
from dynamic_memory.fabric.sessions import Sessions
from dynamic_memory.fabric.watching import Watcher
from dynamic_memory.process import clock, faults
from dynamic_memory.process.locks import KeyedLocks

__all__ = ["Limits", "Service"]

_MAX_NAME = 320
# The backend's words for the arguments of AddMemory.
_ARGUMENTS = {"host": "node", "domain": "pool", "device": "device", "size": "bytes"}


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Bounds of what callers can make the service keep.

    Attributes:
        watches: open Watches in all.
        watches_per_caller: open Watches of one identity.
        backlog: changes kept for a Watch that does not read.
        operations: additions and removals under way.

    """

    watches: int = 4096
    watches_per_caller: int = 8
    backlog: int = 4096
    operations: int = 1024


class Service:
    """One fabric, served to its owners.

    Args:
        directory: whose is what.
        backend: the fabric, already open.
        lapse: seconds without a Watch after which a node's session has lapsed.
        limits: bounds.

    """

    def __init__(
        self, directory: Directory, backend: Backend, *, lapse: float = 60.0, limits: Limits | None = None
    ) -> None:
        self.directory = directory
        self.sessions = Sessions(started=clock.monotonic(), lapse=lapse)
        self._backend = backend
        self._limits = limits or Limits()
        self._flights = Flights(self._limits.operations)
        self._tags = KeyedLocks()
        self._devices = KeyedLocks()
        self._requested: set[str] = set()
        self._releasing: set[str] = set()
        self._watchers: set[Watcher] = set()
        # Microseconds of the wall clock: larger than any revision of an earlier run, which counted up from its start.
        self._revision = time.time_ns() // 1000
        self._shares: dict[str, Share] = {}
        for tag in backend.view().allocations:
            self._update(tag)
        backend.subscribe(self._changed)

    async def add_memory(self, caller: Identity, *, node: str, pool: str, device: str, size: int, tag: str) -> Share:
        """See `Fabric.add_memory`."""
        authority.check_add(caller, node)
        _check_name("pool", pool)
        _check_name("device", device)
        domain = self.directory.domain(caller.owner, pool, device)
        host = self.directory.host(caller.owner, node)
        _check_tag(tag)
        view = self._backend.view()
        pool_device = view.devices.get((domain, device))
        if pool_device is None:
            raise UnknownDevice(f"{pool}/{device}")
        if not 0 < size <= MAX_SIZE or size % pool_device.unit:
            raise BadArgument("bytes", f"a positive multiple of {pool_device.unit}, not above {MAX_SIZE}, got {size}")
        if view.hosts[host].domain != domain:
            raise BadArgument("node", f"a node of fabric domain {domain!r}")
        order = Order(tag=tag, host=host, domain=domain, device=device, size=size)
        return await self._flights.join((caller, order), lambda: self._add(caller, order))

    async def remove_memory(
        self, caller: Identity, tag: str, *, host_off: bool = False, force: bool = False
    ) -> Removed:
        """See `Fabric.remove_memory`."""
        self._check_served(caller)
        _check_tag(tag)
        key = (caller, tag, host_off, force)
        state = await self._flights.join(key, lambda: self._remove(caller, tag, host_off=host_off, force=force))
        return Removed(state=state)

    async def get_capacity(self, caller: Identity, node: str | None = None) -> Capacity:
        """See `Fabric.get_capacity`."""
        self._check_served(caller)
        _check_name("node", node or "")
        scope = authority.host_scope(caller, node)
        if scope is not None:
            self.directory.host(caller.owner, scope)
        await self._backend.refresh()
        return self._capacity(caller.owner, scope)

    async def list_extents(self, caller: Identity) -> Snapshot:
        """See `Fabric.list_extents`."""
        self._check_served(caller)
        await self._backend.refresh()
        return self._snapshot(caller)

    async def watch(self, caller: Identity) -> Watcher:
        """Open a Watch, whose first item is a snapshot; `unwatch` has to follow."""
        self._check_served(caller)
        await self._backend.refresh()
        if len(self._watchers) >= self._limits.watches:
            raise Unreachable("too many watches are open")
        if sum(watcher.caller == caller for watcher in self._watchers) >= self._limits.watches_per_caller:
            raise Unreachable(f"too many watches of {caller} are open")
        watcher = Watcher(caller, self._limits.backlog)
        watcher.put(self._snapshot(caller))
        self._watchers.add(watcher)
        if caller.is_node:
            self.sessions.opened(caller.owner, caller.name)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """End a Watch."""
        self._watchers.remove(watcher)
        if watcher.caller.is_node:
            self.sessions.closed(watcher.caller.owner, watcher.caller.name, clock.monotonic())

    def end_watches(self) -> None:
        """Tell every Watch that the service stops."""
        for watcher in self._watchers:
            watcher.end(Unreachable("the service stops"))

    @property
    def watches(self) -> int:
        """Watches that are open."""
        return len(self._watchers)

    def devices(self) -> tuple[PoolDevice, ...]:
        """All pool devices of all owners, for metrics."""
        owners = self.directory.owners
        view = self._backend.view()
        return tuple(
            device
            for owner in owners
            for device in capacity.pool_devices(view, self.directory, owner.name, self._shares)
        )

    async def drain(self) -> None:
        """Wait until no operation is under way."""
        await self._flights.drain()

    async def _add(self, caller: Identity, order: Order) -> Share:
        async with self._tags(order.tag):
            existing = self._backend.view().allocations.get(order.tag)
            if existing is None:
                async with self._devices(order.key):
                    faults.point(steps.ADD_BEFORE_COMPOSE)
                    existing = await self._compose(order)
                    faults.point(steps.ADD_COMPOSED)
            self._check_same(caller, existing, order)
            self._releasing.discard(order.tag)
            if order.tag in self._requested:
                self._requested.remove(order.tag)
                self._publish(order.tag)
            return self._shares[order.tag]

    async def _compose(self, order: Order) -> Allocation:
        try:
            return await self._backend.compose(order)
        except Exhausted as error:
            on_device = (
                entry.size
                for tag, entry in self._backend.view().allocations.items()
                if entry.key == order.key and tag in self._requested | self._releasing
            )
            raise Exhausted(error.want, error.have, sum(on_device), error.held) from error

    def _check_same(self, caller: Identity, existing: Allocation, order: Order) -> None:
        share = self._shares.get(order.tag)
        if share is None or share.owner != caller.owner:
            raise Conflicts(order.tag)
        if difference := existing.difference(order):
            raise Conflicts(order.tag, _ARGUMENTS[difference])

    async def _remove(self, caller: Identity, tag: str, *, host_off: bool, force: bool) -> RemovedState:
        async with self._tags(tag):
            if tag not in self._shares:
                # "Unknown" lets the caller forget the bytes: it has to be true, not remembered.
                await self._backend.refresh()
            share = self._shares.get(tag)
            if share is not None and share.owner != caller.owner:
                share = None
            removal = authority.removal(caller, share, host_off=host_off, force=force)
            if share is None:
                return RemovedState.UNKNOWN
            if removal is not authority.Removal.DO:
                self._request(tag)
                if removal is authority.Removal.REQUEST:
                    return RemovedState.REQUESTED
                self._check_lapsed(share)
            return await self._release(share)

    async def _release(self, share: Share) -> RemovedState:
        key = self._backend.view().allocations[share.tag].key
        # Also when it fails: it will be tried again, and whoever needs the bytes waits for that.
        self._releasing.add(share.tag)
        async with self._devices(key):
            faults.point(steps.REMOVE_BEFORE_RELEASE)
            await self._backend.release(share.tag)
            faults.point(steps.REMOVE_RELEASED)
        return RemovedState.DONE

    def _request(self, tag: str) -> None:
        if tag not in self._requested:
            self._requested.add(tag)
            self._publish(tag)

    def _check_lapsed(self, share: Share) -> None:
        now = clock.monotonic()
        if not self.sessions.lapsed(share.owner, share.node, now):
            missing = self.sessions.missing(share.owner, share.node, now)
            state = "open" if self.sessions.alive(share.owner, share.node) else f"gone for {missing:.1f} s"
            raise Rejected(f"session of {share.node} is {state}, lapses after {self.sessions.lapse:.1f} s")

    def _check_served(self, caller: Identity) -> None:
        authority.check_reader(caller)
        self.directory.owner(caller.owner)
        if caller.is_node:
            self.directory.host(caller.owner, caller.name)

    def _changed(self, changed: Changed) -> None:
        for tag in changed.tags:
            self._publish(tag)
        if changed.inventory:
            self._tell(self._capacity_change)

    def _update(self, tag: str) -> Share | None:
        """Bring `_shares` up to date for a tag; the share as it was."""
        before = self._shares.pop(tag, None)
        allocation = self._backend.view().allocations.get(tag)
        if allocation is None:
            self._requested.discard(tag)
            self._releasing.discard(tag)
            return before
        share = self.directory.share(allocation, release_requested=tag in self._requested)
        if share is not None:
            self._shares[tag] = share
        return before

    def _publish(self, tag: str) -> None:
        before = self._update(tag)
        share = self._shares.get(tag)
        if share is not None:
            shown = share
            self._tell(
                lambda watcher, revision: (
                    Change(revision=revision, share=shown) if authority.sees(watcher.caller, shown) else None
                )
            )
        elif before is not None:
            gone = before
            self._tell(
                lambda watcher, revision: (
                    Change(revision=revision, removed_tag=tag) if authority.sees(watcher.caller, gone) else None
                )
            )

    def _tell(self, item: Callable[[Watcher, int], Change | None]) -> None:
        self._revision += 1
        for watcher in self._watchers:
            change = item(watcher, self._revision)
            if change is not None:
                watcher.put(change)

    def _capacity_change(self, watcher: Watcher, revision: int) -> Change:
        caller = watcher.caller
        scope = caller.name if caller.is_node else None
        return Change(revision=revision, capacity=self._capacity(caller.owner, scope))

    def _snapshot(self, caller: Identity) -> Snapshot:
        shares = tuple(share for share in self._shares.values() if authority.sees(caller, share))
        return Snapshot(revision=self._revision, shares=shares)

    def _capacity(self, owner: str, node: str | None) -> Capacity:
        view = self._backend.view()
        nodes = self.directory.owner(owner).nodes
        now = clock.monotonic()
        return Capacity(
            revision=self._revision,
            pools=capacity.pool_devices(view, self.directory, owner, self._shares),
            hosts=tuple(
                capacity.host_window(view, self.directory, self.sessions, owner=owner, node=name, now=now)
                for name in sorted(nodes)
                if node in {None, name}
            ),
            simulated=self._backend.simulated,
        )


def _check_name(field: str, name: str) -> None:
    if len(name) > _MAX_NAME:
        raise BadArgument(field, f"a name of at most {_MAX_NAME} characters")


def _check_tag(tag: str) -> None:
    try:
        canonical = str(uuid.UUID(tag)) == tag
    except ValueError:
        canonical = False
    if not canonical:
        raise BadArgument("tag", "a UUID in its canonical form, lower case with hyphens")
