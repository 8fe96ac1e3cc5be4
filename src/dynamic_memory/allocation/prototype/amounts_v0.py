# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of v0: take an amount from the capacities of a resource, and reduce a resource by what was taken.

Everything is exact: amounts are integers, and blocks are rounded up for the one who asks and down for what there is.
Capacities are immutable; reducing makes new ones, so no node is changed by being looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, structs

from dynamic_memory.allocation.prototype.inventory import ceil_to
from dynamic_memory.allocation.prototype.types_v0 import (
    AccessModes,
    AccessRequest,
    Block,
    Capacity,
    CapacityRequest,
    Counter,
    CounterRequest,
    QuantityCapacity,
    QuantityRequest,
    Resource,
    ResourcePool,
)
from dynamic_memory.errors import NeverError
from dynamic_memory.quantity import Format, Quantity

__all__ = [
    "CapacityResult",
    "Place",
    "UnknownCapacity",
    "capacity_key",
    "reduce_capacity",
    "reduce_pool",
    "reduce_resource",
    "take",
]

MODES = ("ReadOnlyShared", "ReadWriteShared", "WriteExclusive", "ReadWriteExclusive")
_BLOCKED_BY = {
    "ReadWriteExclusive": MODES,
    "WriteExclusive": MODES[1:],
    "ReadWriteShared": MODES[2:],
    "ReadOnlyShared": MODES[3:],
}


class _Result(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of what stands in result documents."""


class Place(_Result, frozen=True, kw_only=True):
    """A topology that something was taken from."""

    type: str
    name: str


class CapacityResult(_Result, frozen=True, kw_only=True):
    """What is taken from one capacity; `request` holds the allocated amount."""

    capacity: str
    counter: CounterRequest | None = None
    quantity: QuantityRequest | None = None
    access_mode: AccessRequest | None = None
    topologies: list[Place] = []


class UnknownCapacity(NeverError):
    """Something was taken from a capacity that the resource does not have."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f'allocated capacity "{self.key}" not found in resource capacities'


def capacity_key(name: str, places: Sequence[tuple[str, str]]) -> str:
    """Return the key of a capacity: its name, and `;type=name` of its topologies, sorted."""
    return name + "".join(sorted(f";{type_}={place}" for type_, place in places))


# --- taking


def take(request: CapacityRequest, resource: str, entries: Sequence[Capacity]) -> list[CapacityResult] | str:
    """Take a request from capacities of its name in list order; return what is taken from each, or why it cannot be.

    Args:
        request: what is asked.
        resource: its name, for the reason.
        entries: the capacities that may be used.

    """
    if not entries:
        return f'no capacity "{request.capacity}" present in resource "{resource}"'
    if request.access_mode is not None:
        return _take_access(request, request.access_mode.request, resource, entries)
    wanted = request.counter.request if request.counter is not None else _asked(request)
    together = all(topology.group_in_resource is not False for entry in entries for topology in entry.topologies)
    found: list[CapacityResult] = []
    missing = wanted
    for entry in entries:
        available = _available(request, entry, missing)
        if isinstance(available, str):
            return available
        if not together and available < missing:
            continue
        if available or not wanted:
            found.append(_result(request, entry, available))
            missing -= available
        if missing <= 0:
            return found
    return f'insufficient capacity "{request.capacity}" present in resource "{resource}"'


def _asked(request: CapacityRequest) -> int:
    return request.quantity.request.nanos if request.quantity is not None else 0


def _available(request: CapacityRequest, entry: Capacity, missing: int) -> int | str:
    """Return what an entry can give of what is still missing; with blocks it may be more."""
    if request.counter is not None and entry.counter is not None:
        return max(min(missing, entry.counter.capacity), 0)
    if request.quantity is not None and entry.quantity is not None:
        return max(min(missing, entry.quantity.capacity.nanos), 0)
    if request.quantity is not None and entry.block is not None:
        block = entry.block.size.nanos
        return max(min(ceil_to(missing, block), entry.block.capacity.nanos // block * block), 0)
    asked = "counter" if request.counter is not None else "quantity"
    return f'request/capacity type mismatch: "{request.capacity}" is asked for as a {asked}'


def _result(request: CapacityRequest, entry: Capacity, amount: int) -> CapacityResult:
    places = [Place(type=topology.type, name=topology.name) for topology in entry.topologies]
    if request.counter is not None:
        return CapacityResult(capacity=entry.name, counter=CounterRequest(request=amount), topologies=places)
    form = request.quantity.request.format if request.quantity is not None else Format.DECIMAL_SI
    taken = QuantityRequest(request=Quantity(amount, form))
    return CapacityResult(capacity=entry.name, quantity=taken, topologies=places)


def _take_access(
    request: CapacityRequest, mode: str, resource: str, entries: Sequence[Capacity]
) -> list[CapacityResult] | str:
    if mode not in MODES:
        return f'invalid request access mode "{mode}"'
    for entry in entries:
        if entry.access_mode is None:
            return f'request/capacity type mismatch: "{request.capacity}" is asked for as an access mode'
        granted = _upgraded(mode, entry.access_mode)
        if not any(_holders(entry.access_mode, other) for other in _BLOCKED_BY[granted]):
            places = [Place(type=topology.type, name=topology.name) for topology in entry.topologies]
            return [CapacityResult(capacity=entry.name, access_mode=AccessRequest(request=granted), topologies=places)]
    return f'insufficient capacity "{request.capacity}" present in resource "{resource}"'


def _upgraded(mode: str, modes: AccessModes) -> str:
    """Return the mode, or the next stronger one that is allowed; the strongest always is."""
    allowed = (modes.allow_read_only_shared, modes.allow_read_write_shared, modes.allow_write_exclusive, True)
    return next(
        name for name, may in zip(MODES, allowed, strict=True) if may and MODES.index(name) >= MODES.index(mode)
    )


def _holders(modes: AccessModes, mode: str) -> int:
    counts = (modes.read_only_shared, modes.read_write_shared, modes.write_exclusive, modes.read_write_exclusive)
    return counts[MODES.index(mode)]


# --- reducing


def reduce_capacity(capacity: Capacity, taken: CapacityResult) -> Capacity:
    """Return a capacity without what was taken of it.

    Raises:
        UnknownCapacity: what was taken is of another kind.

    """
    if capacity.counter is not None and taken.counter is not None:
        left = capacity.counter.capacity - taken.counter.request
        return structs.replace(capacity, counter=Counter(capacity=left))
    if taken.quantity is not None and capacity.quantity is not None:
        rest = capacity.quantity.capacity - taken.quantity.request
        return structs.replace(capacity, quantity=QuantityCapacity(capacity=rest))
    if taken.quantity is not None and capacity.block is not None:
        whole = Quantity(ceil_to(taken.quantity.request.nanos, capacity.block.size.nanos))
        rest = capacity.block.capacity - whole
        return structs.replace(capacity, block=Block(size=capacity.block.size, capacity=rest))
    if taken.access_mode is not None and capacity.access_mode is not None:
        modes = capacity.access_mode
        match taken.access_mode.request:
            case "ReadOnlyShared":
                modes = structs.replace(modes, read_only_shared=modes.read_only_shared + 1)
            case "ReadWriteShared":
                modes = structs.replace(modes, read_write_shared=modes.read_write_shared + 1)
            case "WriteExclusive":
                modes = structs.replace(modes, write_exclusive=modes.write_exclusive + 1)
            case _:
                modes = structs.replace(modes, read_write_exclusive=modes.read_write_exclusive + 1)
        return structs.replace(capacity, access_mode=modes)
    raise UnknownCapacity(_key(capacity))


def reduce_resource(resource: Resource, taken: Sequence[CapacityResult]) -> Resource:
    """Return a resource without what was taken of it.

    Raises:
        UnknownCapacity: it does not have such a capacity.

    """
    capacities = list(resource.capacities)
    keys = {_key(capacity): index for index, capacity in enumerate(capacities)}
    for part in taken:
        key = capacity_key(part.capacity, [(place.type, place.name) for place in part.topologies])
        if key not in keys:
            raise UnknownCapacity(key)
        capacities[keys[key]] = reduce_capacity(capacities[keys[key]], part)
    return structs.replace(resource, capacities=capacities)


def reduce_pool(pool: ResourcePool, resource: str, taken: Sequence[CapacityResult]) -> ResourcePool:
    """Return a pool without what was taken of one of its resources.

    Raises:
        UnknownCapacity: it does not have such a capacity.

    """
    resources = [reduce_resource(entry, taken) if entry.name == resource else entry for entry in pool.resources]
    return structs.replace(pool, resources=resources)


def _key(capacity: Capacity) -> str:
    return capacity_key(capacity.name, [(topology.type, topology.name) for topology in capacity.topologies])
