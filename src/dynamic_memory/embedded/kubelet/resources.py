# SPDX-License-Identifier: Apache-2.0
"""Sums over the containers of a pod, as scheduler and kubelet make them (k8s.io/component-helpers/resource). Pure.

CPU counts in thousandths, all else in whole units. The sum of a pod is the larger of what its containers need together,
with the sidecars, and what an init container needs while it runs; plus the overhead. Requests of the pod as a whole
(`spec.resources`) take the place of the sum for cpu, memory and hugepages.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import Quantity

__all__ = ["Lack", "Resources", "amounts", "fit", "is_sidecar", "limit_of", "pod_limit", "qos", "requests"]

Resources = Mapping[str, int]
POD_LEVEL = ("cpu", "memory", "hugepages-")


class Lack(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that a node has too little of."""

    name: str
    requested: int
    used: int
    capacity: int

    @property
    def reason(self) -> str:
        """Reason of the pod that is refused, `OutOfmemory`."""
        return f"OutOf{self.name}"

    def __str__(self) -> str:
        return (
            f"Node didn't have enough resource: {self.name}, requested: {self.requested}, used: {self.used}, "
            f"capacity: {self.capacity}"
        )


def amounts(texts: Mapping[str, Any] | None) -> dict[str, int]:
    """Return a resource list as numbers; what cannot be read, which the API server does not let in, counts as 0."""
    found = ((name, _amount(str(text), name == "cpu")) for name, text in (texts or {}).items())
    return {name: value for name, value in found if value is not None}


@functools.lru_cache(maxsize=4096)
def _amount(text: str, thousandths: bool) -> int | None:
    # the same few sizes stand in thousands of pods, and are read at each admission
    try:
        quantity = Quantity.parse(text)
    except InvalidInput:
        return None
    return quantity.milli_value() if thousandths else quantity.value()


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Tell whether an init container goes on running beside the others."""
    return container.get("restartPolicy") == "Always"


def requests(spec: Mapping[str, Any], allocated: Mapping[str, Resources] | None = None) -> dict[str, int]:
    """Return what a pod requests of a node, `pods: 1` included.

    Args:
        spec: of the pod.
        allocated: what containers have been given instead of what they ask for, by name.

    """

    def of(container: Mapping[str, Any]) -> Resources:
        given = (allocated or {}).get(container["name"])
        return given if given is not None else _with_limits(container.get("resources") or {})

    total: dict[str, int] = {}
    for container in spec.get("containers") or ():
        _add(total, of(container))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        if is_sidecar(container):
            _add(sidecars, of(container))
            _add(total, of(container))
            _most(peak, sidecars)
        else:
            needed = dict(sidecars)
            _add(needed, of(container))
            _most(peak, needed)
    _most(total, peak)
    level = _with_limits(spec.get("resources") or {})
    total |= {name: value for name, value in level.items() if name.startswith(POD_LEVEL)}
    _add(total, amounts(spec.get("overhead")))
    total["pods"] = 1
    return total


def fit(wanted: Resources, used: Resources, allocatable: Resources) -> Lack | None:
    """Return the first resource, by name, that a node has too little of for `wanted`; None if all fits."""
    for name, value in sorted(wanted.items()):
        if value and value + used.get(name, 0) > allocatable.get(name, 0):
            return Lack(name=name, requested=value, used=used.get(name, 0), capacity=allocatable.get(name, 0))
    return None


def limit_of(resources: Mapping[str, Any] | None) -> int | None:
    """Return the memory limit of a container or pod in bytes; None if there is none."""
    return amounts((resources or {}).get("limits")).get("memory")


def pod_limit(
    spec: Mapping[str, Any], allocated: Mapping[str, Mapping[str, Any]] | None = None, name: str = "memory"
) -> int | None:
    """Return the limit of the cgroup of a pod: that of all containers, if each has one.

    Args:
        spec: of the pod.
        allocated: resources that containers were given instead of what they ask for, by name.
        name: memory, in bytes, or cpu, in thousandths.

    """
    if (level := amounts((spec.get("resources") or {}).get("limits")).get(name)) is not None:
        return level
    given = allocated or {}
    held = [given.get(container["name"], container.get("resources")) or {} for container in _lasting(spec)]
    limits = [amounts(each.get("limits")).get(name) for each in held]
    known = [limit for limit in limits if limit is not None]
    return sum(known) if len(known) == len(limits) else None


def qos(spec: Mapping[str, Any]) -> str:
    """Return the class of a pod: Guaranteed, Burstable or BestEffort."""
    holders = [spec["resources"]] if spec.get("resources") else []
    if not holders:
        both = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
        holders = [container.get("resources") or {} for container in both]
    guaranteed, anything = True, False
    for holder in holders:
        limits, wanted = amounts(holder.get("limits")), _with_limits(holder)
        for name in ("cpu", "memory"):
            anything = anything or bool(wanted.get(name) or limits.get(name))
            guaranteed = guaranteed and bool(limits.get(name)) and wanted.get(name) == limits.get(name)
    return "Guaranteed" if guaranteed and anything else "Burstable" if anything else "BestEffort"


def _lasting(spec: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield from spec.get("containers") or ()
    yield from (each for each in spec.get("initContainers") or () if is_sidecar(each))


def _with_limits(resources: Mapping[str, Any]) -> dict[str, int]:
    """Return requests; a limit without a request is one."""
    return amounts(resources.get("limits")) | amounts(resources.get("requests"))


def _add(total: dict[str, int], more: Resources) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _most(total: dict[str, int], other: Resources) -> None:
    for name, value in other.items():
        total[name] = max(total.get(name, 0), value)
