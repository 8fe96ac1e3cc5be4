# SPDX-License-Identifier: Apache-2.0
"""Resource pools as one node sees them.

A pool is spread over slices, and a node sees those that select it. Of these only the newest generation counts. Whether
the pool is complete is judged by the count that its slices state, first against what the node sees (then a newer
generation for other nodes does not disturb), else against all slices of the pool. A pool may also be invalid: a device
name twice, a counter set twice, counters that do not exist. Such pools are kept, not dropped: a request for all devices
must know of them.

The order of devices decides which are chosen: pools by driver and name, pools with binding conditions last, in a pool
the slices by name, in a slice the devices as listed. Source: `k8s.io/dynamic-resource-allocation` 0.37.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dynamic_memory.allocation.amounts import Amount
from dynamic_memory.allocation.devices import Device, Part
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.matching import Fault, Shape

__all__ = ["Candidates", "Counter", "Pool", "PoolKey", "assemble", "usable"]

PoolKey = tuple[str, str]
"""Driver and name of a pool."""

Counter = tuple[str, str]
"""Counter set and counter."""

_SHAPES_KEPT = 64


class Candidates:
    """Devices of a pool, or of a node, that the selectors of one shape let through, in order of preference.

    A device on which a selector fails is among them with its fault: the failure counts only if the search gets there.
    The list is `clean` if asking for any of its devices cannot fail, be it for selectors or for a bad node selector.
    """

    __slots__ = ("clean", "devices", "faults", "pools")

    def __init__(self) -> None:
        self.devices: list[Device] = []
        self.pools: list[Pool] = []
        self.faults: dict[int, Fault] = {}
        self.clean = True

    def add(self, device: Device, pool: Pool, fault: Fault | None) -> None:
        """Append one device."""
        if fault is not None:
            self.faults[len(self.devices)] = fault
        if fault is not None or not (device.filter is None or device.filter.valid):
            self.clean = False
        self.devices.append(device)
        self.pools.append(pool)

    def extend(self, other: Candidates) -> None:
        """Append those of another pool."""
        for position, fault in other.faults.items():
            self.faults[len(self.devices) + position] = fault
        self.devices += other.devices
        self.pools += other.pools
        self.clean &= other.clean


class Pool:
    """A pool, or the part of it that some nodes see.

    `version` grows with every change of what claims have of its devices; what is derived from that remembers it.
    """

    __slots__ = (
        "_available",
        "_available_at",
        "_candidates",
        "counters",
        "devices",
        "features",
        "have",
        "incomplete",
        "invalid",
        "key",
        "last",
        "others",
        "overdrawn",
        "ready",
        "shared",
        "version",
        "want",
    )

    def __init__(self, key: PoolKey, features: Features) -> None:
        self.key = key
        self.features = features
        self.incomplete = False
        self.have = self.want = 0
        self.invalid = ""
        self.devices: list[Device] = []
        self.others: list[Device] = []
        self.counters: dict[Counter, int] = {}
        self.last = False
        self.shared = False
        self.version = 0
        self.ready: dict[object, tuple[int, dict[tuple[str, object], int] | None]] = {}
        self._candidates: dict[int, Candidates] = {}
        self._available: dict[Counter, int] = {}
        self._available_at = -1
        self.overdrawn = False

    def __str__(self) -> str:
        return "/".join(self.key)

    @property
    def blocked(self) -> bool:
        """Nothing may be taken from the pool."""
        return self.incomplete or bool(self.invalid)

    def candidates(self, shape: Shape) -> Candidates:
        """Return the devices that the selectors of this shape let through."""
        found = self._candidates.get(shape.number)
        if found is None:
            if len(self._candidates) >= _SHAPES_KEPT:
                self._candidates.clear()
            found = self._candidates[shape.number] = Candidates()
            for device in self.devices:
                if device.spec.binding_conditions and not self.features.device_binding_and_status:
                    continue
                answer = shape.ask(device.kind)
                if answer is not False:
                    found.add(device, self, answer if isinstance(answer, Fault) else None)
        return found

    def available(self) -> dict[Counter, int]:
        """Return what allocated devices leave of the counters, in billionths; it can be negative."""
        if self._available_at != self.version:
            left = dict(self.counters)
            for device in (*self.devices, *self.others):
                if device.usage is not None and not device.usage.idle:
                    for counter, amount in device.consumes:
                        if counter in left:
                            left[counter] -= amount
            self._available, self._available_at = left, self.version
            self.overdrawn = any(amount < 0 for amount in left.values())
        return self._available

    def touch(self) -> None:
        """Note that what claims have of a device changed."""
        self.version += 1


def usable(part: Part, features: Features) -> bool:
    """Tell whether the features let a slice be looked at at all."""
    spec = part.spec
    if not features.partitionable_devices and (spec.per_device_node_selection is not None or spec.shared_counters):
        return False
    return features.compatibility_groups or not part.grouped


def assemble(key: PoolKey, relevant: Sequence[Part], everything: Iterable[Part], features: Features) -> Pool | None:
    """Make the pool of the slices that a node sees; None if a newer generation replaces what it sees.

    Args:
        key: driver and name.
        relevant: the usable slices that select the node, at least one.
        everything: all slices of the pool.
        features: what is enabled.

    """
    newest = max(part.generation for part in relevant)
    seen = [part for part in relevant if part.generation == newest]
    count = seen[0].spec.pool.resource_slice_count
    rest: list[Part] = []
    if len(seen) != count:
        every = list(everything)
        if any(part.generation > newest for part in every):
            return None
        same = [part for part in every if part.generation == newest]
        if not features.compatibility_groups:
            same = [part for part in same if not part.grouped]
        if len(same) != count:
            pool = Pool(key, features)
            pool.incomplete = True
            pool.have, pool.want = len(same), count
            return pool
        if len(seen) < len(same):
            names = {part.name for part in seen}
            rest = [part for part in same if part.name not in names]
    if features.variant != "stable":
        seen.sort(key=lambda part: part.name)
    return _build(key, seen, rest, features)


def _build(key: PoolKey, seen: Sequence[Part], rest: Sequence[Part], features: Features) -> Pool:
    pool = Pool(key, features)
    counting = features.partitionable_devices
    pool.have = pool.want = len(seen) + len(rest)
    pool.shared = any(not part.node for part in seen)
    sets = [part for part in seen if counting and part.spec.shared_counters]
    if features.variant != "stable":
        sets += [part for part in rest if counting and part.spec.shared_counters]
        rest = [part for part in rest if not (counting and part.spec.shared_counters)]
    devices = [device for part in seen if part not in sets for device in part.devices]
    others = [device for part in rest for device in part.devices]
    names: set[str] = set()
    for device in devices:
        name = device.id[2]
        if name in names:
            pool.invalid = f"duplicate device name {name}"
            return pool
        names.add(name)
    if counting:
        pool.invalid = _count(pool, sets, devices if features.variant != "stable" else _all(seen), others)
        if pool.invalid:
            pool.counters.clear()
            return pool
    pool.devices = devices
    pool.others = others if counting else []
    pool.last = features.variant != "stable" and any(device.spec.binding_conditions for device in devices)
    return pool


def _all(parts: Iterable[Part]) -> list[Device]:
    return [device for part in parts for device in part.devices]


def _count(pool: Pool, parts: Iterable[Part], *groups: Iterable[Device]) -> str:  # noqa: C901 - nested as the data is
    """Read the counter sets into the pool, check who consumes them, and return what is wrong."""
    sets: set[str] = set()
    for part in parts:
        for entry in part.spec.shared_counters:
            if entry.name in sets:
                return f"duplicate counter set name {entry.name}"
            sets.add(entry.name)
            for name, counter in entry.counters.items():
                pool.counters[entry.name, name] = Amount.read(counter.value).nano
    for devices in groups:
        for device in devices:
            for consumed in device.spec.consumes_counters:
                if consumed.counter_set not in sets:
                    return f"counter set {consumed.counter_set} not found"
                for name in consumed.counters:
                    if (consumed.counter_set, name) not in pool.counters:
                        return f"counter {name} not found in counter set {consumed.counter_set}"
    return ""
