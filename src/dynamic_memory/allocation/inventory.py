# SPDX-License-Identifier: Apache-2.0
"""What there is and who has it: nodes, slices, classes, and the allocations of claims.

One inventory serves many decisions. Events change it in place: a claim event touches the devices in the claim, a slice
event the pool of the slice. What a node sees (its view) is put together when it is first needed and stays until a slice
that the node can see, or the node itself, changes. Built from the same objects in any order of events, an inventory is
in the same state; `snapshot` says what that state is.

`journal` lists the nodes whose own pools were touched, in order, so that an index can follow without looking at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from dynamic_memory.allocation.amounts import Amount
from dynamic_memory.allocation.devices import Device, DeviceId, Models, Part, Usage
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.node_selectors import CompiledSelector
from dynamic_memory.allocation.pools import Pool, PoolKey, assemble, usable
from dynamic_memory.allocation.views import NodeView
from dynamic_memory.api import core, resource

__all__ = ["Inventory", "Journal"]

_JOURNAL_LIMIT = 4096

Share = tuple[DeviceId, bool, dict[str, int]]
"""Device, whether it is shared, and what the share takes."""


class Journal:
    """The last node positions that were touched; positions in the journal never repeat."""

    def __init__(self) -> None:
        self._entries: list[int] = []
        self._first = 0

    @property
    def end(self) -> int:
        """Position after the last entry."""
        return self._first + len(self._entries)

    def note(self, position: int) -> None:
        """Append a node."""
        self._entries.append(position)
        if len(self._entries) > 2 * _JOURNAL_LIMIT:
            del self._entries[:_JOURNAL_LIMIT]
            self._first += _JOURNAL_LIMIT

    def since(self, start: int) -> set[int] | None:
        """Return the nodes touched from a position on; None if that is too long ago."""
        if start < self._first:
            return None
        return set(self._entries[start - self._first :])


class _Node:
    """A node and what is kept for it."""

    __slots__ = ("known", "node", "position", "version", "view")

    def __init__(self, node: core.Node, position: int) -> None:
        self.node = node
        self.position = position
        self.known: dict[CompiledSelector, bool] = {}
        self.view: NodeView | None = None
        self.version = -1


class _PoolEntry:
    """All slices of a pool, and the pools that were made of them for nodes."""

    __slots__ = ("built", "devices", "nodes", "parts", "shared")

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.shared = 0
        self.built: dict[tuple[int, ...], Pool | None] = {}
        self.devices: dict[str, list[Device]] = {}
        self.nodes: set[str] = set()


class Inventory:
    """Nodes, classes, slices and claims of a cluster, kept up to date by events."""

    def __init__(self, features: Features | None = None) -> None:
        self.features = features if features is not None else Features()
        self.journal = Journal()
        self.structure = 0
        """Grows when shared slices change: then what nodes have in common may be different."""
        self.positions = 0
        """One more than the largest number of a node."""
        self._models = Models()
        self._serials = itertools.count()
        self._nodes: dict[str, _Node] = {}
        self._order: dict[int, str] = {}
        self._classes: dict[str, resource.DeviceClass] = {}
        self._pools: dict[PoolKey, _PoolEntry] = {}
        self._slices: dict[str, Part] = {}
        self._by_node: dict[str, dict[PoolKey, int]] = {}
        self._shared: dict[PoolKey, int] = {}
        self._claims: dict[str, list[Share]] = {}
        self._usages: dict[DeviceId, Usage] = {}

    # --- events

    def put_node(self, node: core.Node) -> None:
        """Add a node, or replace what is known of it; its place in the order of nodes stays."""
        name = node.metadata.name
        known = self._nodes.get(name)
        if known is None:
            position = self.positions
            self.positions += 1
            self._order[position] = name
        elif known.node.metadata.labels != node.metadata.labels or _declared(known.node) != _declared(node):
            position = known.position
        else:
            return
        self._nodes[name] = _Node(node, position)
        self.journal.note(position)

    def remove_node(self, name: str) -> None:
        """Forget a node; its slices and claims are events of their own."""
        known = self._nodes.pop(name, None)
        if known is not None:
            del self._order[known.position]
            self.journal.note(known.position)

    def put_class(self, device_class: resource.DeviceClass) -> None:
        """Add or replace a device class."""
        self._classes[device_class.metadata.name] = device_class

    def remove_class(self, name: str) -> None:
        """Forget a device class."""
        self._classes.pop(name, None)

    def put_slice(self, piece: resource.ResourceSlice, key: str = "") -> None:
        """Add a slice, or replace the one of the same key (its name, unless the caller says otherwise).

        Raises:
            InvalidInput: a counter is no quantity.

        """
        key = key or piece.metadata.name
        known = self._slices.get(key)
        if known is not None:
            if known.content == Part.digest(piece):
                return
            self.remove_slice(key)
        part = Part(key, next(self._serials) if known is None else known.serial, piece, self._models)
        self._slices[key] = part
        pool_key = (part.driver, part.pool)
        entry = self._pools.setdefault(pool_key, _PoolEntry())
        entry.parts[key] = part
        for device in part.devices:
            device.usage = self._usages.get(device.id)
            entry.devices.setdefault(device.id[2], []).append(device)
        if part.node:
            own = self._by_node.setdefault(part.node, {})
            own[pool_key] = own.get(pool_key, 0) + 1
        else:
            entry.shared += 1
            self._shared[pool_key] = self._shared.get(pool_key, 0) + 1
        self._changed(entry, part)

    def remove_slice(self, key: str) -> None:
        """Forget a slice."""
        part = self._slices.pop(key, None)
        if part is None:
            return
        pool_key = (part.driver, part.pool)
        entry = self._pools[pool_key]
        del entry.parts[key]
        for device in part.devices:
            same = entry.devices[device.id[2]]
            same.remove(device)
            if not same:
                del entry.devices[device.id[2]]
        places = self._by_node[part.node] if part.node else self._shared
        places[pool_key] -= 1
        if not places[pool_key]:
            del places[pool_key]
        if part.node and not places:
            del self._by_node[part.node]
        if not part.node:
            entry.shared -= 1
        self._changed(entry, part)
        if not entry.parts:
            del self._pools[pool_key]

    def put_claim(self, claim: resource.ResourceClaim, key: str = "") -> None:
        """Add a claim, or replace the one of the same key (its UID, else namespace/name); only allocated ones count.

        Raises:
            InvalidInput: a consumed capacity is no quantity.

        """
        key = key or claim_key(claim)
        shares = list(_shares(claim))
        known = self._claims.get(key)
        if known == shares:
            return
        if known is not None:
            self.remove_claim(key)
        if shares:
            self._claims[key] = shares
            for share in shares:
                self._count(share, 1)

    def remove_claim(self, key: str) -> None:
        """Forget a claim, or what it had allocated."""
        for share in self._claims.pop(key, ()):
            self._count(share, -1)

    def _count(self, share: Share, step: int) -> None:
        device_id, shared, used = share
        usage = self._usages.get(device_id)
        if usage is None:
            usage = self._usages[device_id] = Usage()
        if shared:
            usage.shares += step
            for name, amount in used.items():
                total = usage.used.get(name, 0) + step * amount
                if total:
                    usage.used[name] = total
                else:
                    usage.used.pop(name, None)
        else:
            usage.dedicated += step
        idle = usage.idle and not usage.used
        if idle:
            del self._usages[device_id]
        self._touch(device_id, None if idle else usage)

    def _touch(self, device_id: DeviceId, usage: Usage | None) -> None:
        """Hang a usage on its devices, and tell the pools that have them, or counters that they draw from."""
        entry = self._pools.get(device_id[:2])
        if entry is None:
            return
        parts = set()
        for device in entry.devices.get(device_id[2], ()):
            device.usage = usage
            parts.add(device.part.serial)
        for serials, pool in entry.built.items():
            if pool is not None and (pool.counters or not parts.isdisjoint(serials)):
                pool.touch()
        # Devices of a shared pool concern all nodes alike: an index looks at those pools itself.
        for device in entry.devices.get(device_id[2], ()):
            if device.part.node:
                self._note(device.part.node)
        if entry.shared == 0 and len(entry.nodes) > 1 and any(pool and pool.counters for pool in entry.built.values()):
            for node in entry.nodes:
                self._note(node)

    def _note(self, node: str) -> None:
        known = self._nodes.get(node)
        if known is not None:
            self.journal.note(known.position)

    def _changed(self, entry: _PoolEntry, part: Part) -> None:
        """Let go of what was derived from the slices of a pool."""
        entry.built.clear()
        if part.node and not entry.shared:
            for node in (*entry.nodes, part.node):
                known = self._nodes.get(node)
                if known is not None:
                    known.view = None
                    self.journal.note(known.position)
        else:
            self.structure += 1
        entry.nodes.clear()

    # --- questions

    def device_class(self, name: str) -> resource.DeviceClass | None:
        """Return a class by name."""
        return self._classes.get(name)

    def node_names(self) -> Iterator[str]:
        """Return the names of all nodes, in the order in which they were added."""
        return iter(self._nodes)

    def position(self, name: str) -> int | None:
        """Return the number of a node; numbers grow with the order of nodes and are never used twice."""
        known = self._nodes.get(name)
        return None if known is None else known.position

    def at(self, position: int) -> str | None:
        """Return the node with this number."""
        return self._order.get(position)

    def view(self, name: str) -> NodeView:
        """Return what a node sees.

        Raises:
            KeyError: there is no such node.
            InvalidNodeSelector: a slice that has to be asked has an invalid selector.

        """
        known = self._nodes[name]
        if known.view is None or known.version != self.structure:
            known.view = self._see(known)
            known.version = self.structure
        return known.view

    def _see(self, known: _Node) -> NodeView:
        name, labels = known.node.metadata.name, known.node.metadata.labels
        pools = []
        for key in dict.fromkeys((*self._by_node.get(name, ()), *self._shared)):
            entry = self._pools[key]
            relevant = [part for part in self._ordered(entry, name) if self._relevant(part, known)]
            if not relevant:
                continue
            entry.nodes.add(name)
            serials = tuple(part.serial for part in relevant)
            if serials not in entry.built:
                entry.built[serials] = assemble(key, relevant, entry.parts.values(), self.features)
            pool = entry.built[serials]
            if pool is not None:
                pools.append(pool)
        return NodeView(name, labels, _declared(known.node), known.known, pools)

    def _ordered(self, entry: _PoolEntry, node: str) -> list[Part]:
        """Return the slices of a pool that may concern a node, as upstream goes through them."""
        if self.features.variant == "stable":
            counting = (part for part in entry.parts.values() if _for(part, node) or part.spec.shared_counters)
            return sorted(counting, key=lambda part: part.serial)
        parts = (part for part in entry.parts.values() if _for(part, node))
        return sorted(parts, key=lambda part: (not part.node, part.serial))

    def _relevant(self, part: Part, known: _Node) -> bool:
        if not usable(part, self.features):
            return False
        if self.features.variant == "stable" and part.spec.shared_counters:
            return True
        name, labels = known.node.metadata.name, known.node.metadata.labels
        if part.filter.given:
            return part.filter.matches(name, labels, known.known)
        return any(
            device.filter is not None and device.filter.matches(name, labels, known.known) for device in part.devices
        )

    # --- state

    def usage(self, device_id: DeviceId) -> Usage | None:
        """Return what claims have of a device; None if nothing."""
        return self._usages.get(device_id)

    def snapshot(self) -> dict[str, object]:
        """Return the state in plain types, equal for inventories that got the same objects by other ways."""
        return {
            "nodes": sorted(self._nodes),
            "classes": sorted(self._classes),
            "slices": sorted(self._slices),
            "usages": {
                device_id: (usage.dedicated, usage.shares, dict(sorted(usage.used.items())))
                for device_id, usage in sorted(self._usages.items())
            },
            "hung": sorted(
                (device.id, part.key, None if device.usage is None else sorted(device.usage.used.items()))
                for part in self._slices.values()
                for device in part.devices
            ),
            "places": {node: dict(sorted(keys.items())) for node, keys in sorted(self._by_node.items())},
            "shared": dict(sorted(self._shared.items())),
            "views": {name: self._describe(name) for name in sorted(self._nodes)},
        }

    def _describe(self, name: str) -> list[object]:
        return [
            (
                pool.key,
                pool.incomplete,
                pool.invalid,
                [device.id for device in pool.devices],
                sorted(device.id for device in pool.others),
                sorted(pool.available().items()),
            )
            for pool in self.view(name).pools
        ]


def claim_key(claim: resource.ResourceClaim) -> str:
    """Return what identifies a claim: its UID, else namespace/name."""
    meta = claim.metadata
    return meta.uid or f"{meta.namespace}/{meta.name}"


def _for(part: Part, node: str) -> bool:
    return not part.node or part.node == node


def _declared(node: core.Node) -> list[str]:
    return node.status.declared_features


def _shares(claim: resource.ResourceClaim) -> Iterable[Share]:
    allocation = claim.status.allocation
    if allocation is None:
        return
    for result in allocation.devices.results:
        # Admin access shows a device to a claim without taking it from anybody.
        if result.admin_access:
            continue
        used = {name: Amount.read(text).nano for name, text in result.consumed_capacity.items()}
        yield (result.driver, result.pool, result.device), result.share_id is not None, used
