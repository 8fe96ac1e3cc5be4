# SPDX-License-Identifier: Apache-2.0
"""Devices as the search sees them.

Thousands of devices of a cluster are alike: what selectors, capacities and constraints look at is the same. Each such
*kind* exists once, and what was worked out for it (does this selector match? what does this request take?) is kept with
it, so that it lives exactly as long as a device of the kind does.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import weakref
from collections.abc import Mapping

import msgspec

from dynamic_memory.allocation.amounts import Amount
from dynamic_memory.allocation.capacity import Capacity, read_capacities
from dynamic_memory.allocation.errors import InvalidNodeSelector
from dynamic_memory.allocation.node_selectors import CompiledSelector, compile_selector
from dynamic_memory.api import core, resource

__all__ = ["Device", "DeviceId", "Kind", "Kinds", "NodeFilter", "Part", "Usage"]

DeviceId = tuple[str, str, str]
"""Driver, pool and name."""


class Kind:
    """What selectors, requests for capacity and constraints can tell of a device."""

    __slots__ = ("__dict__", "__weakref__", "driver", "matches", "multi", "number", "spec", "taken")

    def __init__(self, number: int, driver: str, device: resource.Device) -> None:
        self.number = number
        self.driver = driver
        self.spec = device
        self.multi = device.allow_multiple_allocations is True
        self.matches: dict[int, object] = {}
        self.taken: dict[int, object] = {}

    @property
    def attributes(self) -> Mapping[str, resource.DeviceAttribute]:
        """The attributes as published."""
        return self.spec.attributes

    @functools.cached_property
    def capacities(self) -> dict[str, Capacity]:
        """The capacities, parsed when first asked for.

        Raises:
            InvalidInput: a quantity is none.

        """
        return read_capacities(self.spec.capacity)


class Kinds:
    """All kinds there are; equal devices get the same one."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[bytes, Kind] = weakref.WeakValueDictionary()
        self._numbers = itertools.count()

    def of(self, driver: str, device: resource.Device) -> Kind:
        """Return the kind of a device of this driver."""
        content = (driver, device.attributes, device.capacity, device.allow_multiple_allocations)
        key = hashlib.blake2b(msgspec.json.encode(content, order="deterministic"), digest_size=16).digest()
        kind = self._known.get(key)
        if kind is None:
            kind = self._known[key] = Kind(next(self._numbers), driver, device)
        return kind


class Usage:
    """What claims have of a device: how many own it whole, how many have a share, and what the shares take in all.

    Counts, not flags: two claims on one device can be on record at once while one is being replaced by the other.
    """

    __slots__ = ("dedicated", "shares", "used")

    def __init__(self) -> None:
        self.dedicated = 0
        self.shares = 0
        self.used: dict[str, int] = {}

    @property
    def idle(self) -> bool:
        """Nobody has anything of the device."""
        return not self.dedicated and not self.shares


class NodeFilter:
    """Which nodes something is for: one by name, all, or those that a selector selects."""

    __slots__ = ("_name", "_selector", "everywhere", "given", "where")

    def __init__(
        self, where: str, name: str | None, everywhere: bool | None, selector: core.NodeSelector | None
    ) -> None:
        self.where = where
        self._name = name or ""
        self.everywhere = everywhere is True
        self._selector = selector
        self.given = bool(self._name) or self.everywhere or selector is not None

    @property
    def name(self) -> str:
        """The one node, if there is just one by name."""
        return self._name

    @property
    def valid(self) -> bool:
        """Asking it cannot be an error."""
        if self._name or self.everywhere or self._selector is None:
            return True
        try:
            compile_selector(self._selector, self.where)
        except InvalidNodeSelector:
            return False
        return True

    def matches(self, node: str, labels: Mapping[str, str], known: dict[CompiledSelector, bool]) -> bool:
        """Tell whether the node is meant; `known` keeps the answers of selectors for this node.

        Raises:
            InvalidNodeSelector: the selector is invalid.

        """
        if self._name:
            return node == self._name
        if self.everywhere:
            return True
        if self._selector is None:
            return False
        selector = compile_selector(self._selector, self.where)
        answer = known.get(selector)
        if answer is None:
            answer = known[selector] = selector.matches(node, labels)
        return answer


class Device:
    """One device of one slice."""

    __slots__ = ("consumes", "filter", "id", "kind", "part", "spec", "taints", "usage")

    def __init__(self, part: Part, spec: resource.Device, kind: Kind) -> None:
        self.id: DeviceId = (part.driver, part.pool, spec.name)
        self.kind = kind
        self.spec = spec
        self.part = part
        self.usage: Usage | None = None
        self.taints = tuple(taint for taint in spec.taints if taint.effect in {"NoExecute", "NoSchedule"})
        self.consumes = tuple(
            ((entry.counter_set, name), Amount.read(counter.value).nano)
            for entry in spec.consumes_counters
            for name, counter in entry.counters.items()
        )
        self.filter: NodeFilter | None = None
        if part.spec.per_device_node_selection:
            where = f"device {'/'.join(self.id)}"
            self.filter = NodeFilter(where, spec.node_name, spec.all_nodes, spec.node_selector)


class Part:
    """One ResourceSlice as a part of its pool."""

    __slots__ = ("devices", "driver", "filter", "generation", "grouped", "key", "name", "pool", "serial", "spec")

    def __init__(self, key: str, serial: int, piece: resource.ResourceSlice, kinds: Kinds) -> None:
        spec = piece.spec
        self.key = key
        self.serial = serial
        self.name = piece.metadata.name
        self.spec = spec
        self.driver = spec.driver
        self.pool = spec.pool.name
        self.generation = spec.pool.generation
        self.filter = NodeFilter(f"slice {self.name}", spec.node_name, spec.all_nodes, spec.node_selector)
        self.grouped = any(entry.compatibility_groups for device in spec.devices for entry in device.consumes_counters)
        self.devices = [Device(self, device, kinds.of(spec.driver, device)) for device in spec.devices]

    @property
    def node(self) -> str:
        """The node that alone can reach the devices; empty if the slice is shared."""
        return self.filter.name
