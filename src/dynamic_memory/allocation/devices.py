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

__all__ = ["Device", "DeviceId", "Kind", "Model", "Models", "NodeFilter", "Part", "Usage"]

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


class Model:
    """All that is published of a device, but for its name; devices that are alike share one."""

    __slots__ = ("__weakref__", "consumes", "kind", "spec", "taints")

    def __init__(self, spec: resource.Device, kind: Kind) -> None:
        self.spec = spec
        self.kind = kind
        self.taints = tuple(taint for taint in spec.taints if taint.effect in {"NoExecute", "NoSchedule"})
        self.consumes = tuple(
            ((entry.counter_set, name), Amount.read(counter.value).nano)
            for entry in spec.consumes_counters
            for name, counter in entry.counters.items()
        )


class Models:
    """All models and kinds there are, by content; each lives as long as a device has it."""

    def __init__(self) -> None:
        self._models: weakref.WeakValueDictionary[bytes, Model] = weakref.WeakValueDictionary()
        self._kinds: weakref.WeakValueDictionary[bytes, Kind] = weakref.WeakValueDictionary()
        self._numbers = itertools.count()

    def of(self, driver: str, device: resource.Device) -> Model:
        """Return the model of a device of this driver.

        Raises:
            InvalidInput: a counter is no quantity.

        """
        nameless = msgspec.structs.replace(device, name="")
        key = _digest((driver, nameless))
        model = self._models.get(key)
        if model is None:
            content = (driver, device.attributes, device.capacity, device.allow_multiple_allocations)
            kind_key = _digest(content)
            kind = self._kinds.get(kind_key)
            if kind is None:
                kind = self._kinds[kind_key] = Kind(next(self._numbers), driver, nameless)
            model = self._models[key] = Model(nameless, kind)
        return model


def _digest(content: object) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(content, order="deterministic"), digest_size=16).digest()


class Usage:
    """What claims have of a device: how many own it whole, how many have a share, and what the shares take in all.

    Counts, not flags: two claims on one device can be on record at once while one is being replaced by the other.
    """

    __slots__ = ("dedicated", "shares", "used")

    def __init__(self) -> None:
        self.dedicated = 0
        self.shares = 0
        self.used: dict[str, int] = {}

    def exclusive(self, *, shares: bool) -> bool:
        """Tell whether nobody else can have anything; `shares` count as the whole device if sharing is disabled."""
        return self.dedicated > 0 or (shares and self.shares > 0)

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
    """One device of one slice. What it shares with others is at hand in it; its name is in `id` only."""

    __slots__ = ("consumes", "filter", "id", "kind", "model", "part", "spec", "taints", "usage")

    def __init__(self, part: Part, name: str, model: Model) -> None:
        self.id: DeviceId = (part.driver, part.pool, name)
        self.part = part
        self.model = model
        self.kind = model.kind
        self.spec = model.spec
        self.taints = model.taints
        self.consumes = model.consumes
        self.usage: Usage | None = None
        self.filter: NodeFilter | None = None
        if part.spec.per_device_node_selection:
            own = model.spec
            self.filter = NodeFilter(f"device {'/'.join(self.id)}", own.node_name, own.all_nodes, own.node_selector)


class Part:
    """One ResourceSlice as a part of its pool; `spec` is without the devices."""

    __slots__ = (
        "content",
        "devices",
        "driver",
        "filter",
        "generation",
        "grouped",
        "key",
        "name",
        "pool",
        "serial",
        "spec",
    )

    def __init__(self, key: str, serial: int, piece: resource.ResourceSlice, models: Models) -> None:
        spec = piece.spec
        self.key = key
        self.serial = serial
        self.name = piece.metadata.name
        self.content = Part.digest(piece)
        self.spec = msgspec.structs.replace(spec, devices=[])
        self.driver = spec.driver
        self.pool = spec.pool.name
        self.generation = spec.pool.generation
        self.filter = NodeFilter(f"slice {self.name}", spec.node_name, spec.all_nodes, spec.node_selector)
        self.grouped = any(entry.compatibility_groups for device in spec.devices for entry in device.consumes_counters)
        self.devices = [Device(self, device.name, models.of(spec.driver, device)) for device in spec.devices]

    @staticmethod
    def digest(piece: resource.ResourceSlice) -> bytes:
        """Return what is equal for slices with the same content."""
        return _digest((piece.metadata.name, piece.spec))

    @property
    def node(self) -> str:
        """The node that alone can reach the devices; empty if the slice is shared."""
        return self.filter.name
