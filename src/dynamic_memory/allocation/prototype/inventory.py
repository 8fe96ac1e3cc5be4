# SPDX-License-Identifier: Apache-2.0
"""Pools and devices as the allocators of v1 and v2 see them.

A cluster has many equal devices. What does not differ between them is kept once: attributes, and what a device draws
from its pool and offers. So a million devices need little more than their names, and an expression is evaluated once
for each different set of attributes (a *kind*).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dynamic_memory.allocation.prototype.types import DevicePool, PoolDevice, PoolResource, Value
from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import Quantity

__all__ = ["Device", "Inventory", "Kind", "Pool", "Resource", "ceil_to"]


def ceil_to(amount: int, block: int) -> int:
    """Return the smallest multiple of `block` that is not below `amount`, in integers."""
    return -(-amount // block) * block


class Resource:
    """An amount in billionths, given out in blocks."""

    __slots__ = ("block", "capacity", "quantity")

    def __init__(self, entry: PoolResource) -> None:
        self.quantity = entry.capacity
        self.capacity = entry.capacity.nanos
        # Without a block size the increment is 1; the capacity itself may be a fraction all the same.
        self.block = entry.block_size.nanos if entry.block_size is not None else 1
        if self.block <= 0:
            raise InvalidInput(f"blockSize of {entry.name}", "more than 0", str(entry.block_size))
        if self.capacity < 0:
            raise InvalidInput(f"capacity of {entry.name}", "at least 0", str(entry.capacity))

    def usable(self) -> int:
        """Return what can be given out: whole blocks only."""
        return self.capacity // self.block * self.block


class Kind:
    """A set of attributes; `answers` keeps what expressions said of it."""

    __slots__ = ("answers", "attributes", "number")

    def __init__(self, number: int, attributes: dict[str, Value]) -> None:
        self.number = number
        self.attributes = attributes
        self.answers: dict[str, bool | str] = {}


class Shape:
    """What a device draws from its pool and offers, in billionths."""

    __slots__ = ("consumes", "number", "provides")

    def __init__(self, number: int, consumes: dict[str, Quantity], provides: dict[str, Resource]) -> None:
        self.number = number
        self.consumes = {name: amount.nanos for name, amount in consumes.items()}
        self.provides = provides


class Device:
    """One device; it belongs to one pool."""

    __slots__ = ("kind", "name", "pool", "shape")

    def __init__(self, pool: Pool, name: str, kind: Kind, shape: Shape) -> None:
        self.pool = pool
        self.name = name
        self.kind = kind
        self.shape = shape

    def __str__(self) -> str:
        return f"{self.pool.name}/{self.name}"


class Pool:
    """Devices of one driver, on one node or (with no node) reachable from all."""

    __slots__ = ("count", "devices", "driver", "kind", "name", "node", "order", "shared")

    def __init__(self, order: int, name: str, *, node: str, driver: str, kind: Kind, count: int | None) -> None:
        self.order = order
        self.name = name
        self.node = node
        self.driver = driver
        self.kind = kind
        self.count = count
        self.devices: list[Device] = []
        self.shared: dict[str, Resource] = {}


class Inventory:
    """All pools, in the order in which they came."""

    def __init__(self) -> None:
        self.pools: dict[str, Pool] = {}
        self.devices = 0
        self._kinds: dict[frozenset[tuple[str, Value]], Kind] = {}
        self._shapes: dict[Any, Shape] = {}
        self._by_node: dict[str, list[Pool]] = {}

    def put(self, source: DevicePool) -> Pool:
        """Take a pool in; one of the same name is replaced in place.

        Raises:
            InvalidInput: names of devices repeat, or a device draws from what the pool does not have.

        """
        spec = source.spec
        common = {attribute.name: attribute.value for attribute in spec.attributes}
        old = self.pools.get(source.metadata.name)
        order = old.order if old is not None else len(self.pools)
        pool = Pool(
            order,
            source.metadata.name,
            node=spec.node_name,
            driver=spec.driver,
            kind=self._kind(common),
            count=spec.count,
        )
        if pool.count is not None and pool.count < 0:
            raise InvalidInput("spec.count", "at least 0", pool.count)
        pool.shared = {entry.name: Resource(entry) for entry in spec.shared_resources}
        names = set()
        for index, entry in enumerate(spec.devices):
            if entry.name in names:
                raise InvalidInput(f"spec.devices[{index}].name", "a name that no other device has", entry.name)
            names.add(entry.name)
            pool.devices.append(self._device(pool, index, entry, common))
        if old is not None:
            self.devices -= len(old.devices)
            self._by_node[old.node].remove(old)
        self.pools[pool.name] = pool
        self.devices += len(pool.devices)
        pools = self._by_node.setdefault(pool.node, [])
        pools.append(pool)
        if old is not None:
            pools.sort(key=lambda entry: entry.order)
        return pool

    def nodes(self) -> list[str]:
        """Return the names of all nodes that have a pool of their own, sorted."""
        return sorted(name for name, pools in self._by_node.items() if name and pools)

    def of_node(self, node: str) -> list[Pool]:
        """Return the pools that can be used on a node, in the order in which they came."""
        own, everywhere = self._by_node.get(node, []), self._by_node.get("", [])
        return sorted([*own, *everywhere], key=lambda pool: pool.order) if everywhere else own

    def unbound(self) -> list[Pool]:
        """Return the pools that belong to no node."""
        return self._by_node.get("", [])

    def device(self, pool: str, name: str) -> Device | None:
        """Find a device; None if it is gone."""
        found = self.pools.get(pool)
        return next((device for device in found.devices if device.name == name), None) if found else None

    def all_devices(self) -> Iterator[Device]:
        """Yield all devices."""
        for pool in self.pools.values():
            yield from pool.devices

    def _device(self, pool: Pool, index: int, entry: PoolDevice, common: Mapping[str, Value]) -> Device:
        kind = pool.kind
        if entry.attributes:
            kind = self._kind({**common, **{attribute.name: attribute.value for attribute in entry.attributes}})
        for name, amount in entry.shared_resources_consumed.items():
            if name not in pool.shared or amount.sign < 0:
                path = f"spec.devices[{index}].sharedResourcesConsumed.{name}"
                expected = "at least 0" if name in pool.shared else "the name of a shared resource of the pool"
                raise InvalidInput(path, expected, str(amount))
        return Device(pool, entry.name, kind, self._shape(entry))

    def _kind(self, attributes: dict[str, Value]) -> Kind:
        key = frozenset(attributes.items())
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = Kind(len(self._kinds), attributes)
        return kind

    def _shape(self, entry: PoolDevice) -> Shape:
        key = (_items(entry.shared_resources_consumed.items()), tuple(entry.claim_resources_provided))
        shape = self._shapes.get(key)
        if shape is None:
            provides = {resource.name: Resource(resource) for resource in entry.claim_resources_provided}
            shape = self._shapes[key] = Shape(len(self._shapes), entry.shared_resources_consumed, provides)
        return shape


def _items(items: Iterable[tuple[str, Quantity]]) -> tuple[tuple[str, Quantity], ...]:
    return tuple(sorted(items, key=lambda item: item[0]))
