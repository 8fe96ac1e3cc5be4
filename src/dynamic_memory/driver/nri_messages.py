# SPDX-License-Identifier: Apache-2.0
"""Plans as messages to the runtime, and what the runtime says of a container as data. Pure.

An empty list of nodes means *no change* to a runtime, so none is ever sent.
"""

from __future__ import annotations

import functools

from dynamic_memory.driver.nri_plan import ContainerPlan, Native
from dynamic_memory.driver.settings import hugetlb_name
from dynamic_memory.host.sysfs import parse_list
from dynamic_memory.nri.proto.nri_pb2 import (
    MPOL_F_STATIC_NODES,
    MPOL_PREFERRED_MANY,
    Container,
    ContainerAdjustment,
    ContainerUpdate,
    LinuxMemoryPolicy,
    LinuxResources,
)

__all__ = ["NATIVE", "adjust", "native_of", "page_of", "reported_native", "update"]

NATIVE = "dra.memory/native-hugepages"
"""Annotation of a container whose spec asks for huge pages besides its claims: otherwise, after a restart of the
driver, nobody could tell one from the other."""
MEMORY_MIN = "memory.min"
NOTHING = Native()
_UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


_name = functools.lru_cache(maxsize=32)(hugetlb_name)


@functools.lru_cache(maxsize=32)
def page_of(name: str) -> int | None:
    """Return the bytes of a page from its name in cgroups (`2MB`); None if it is none."""
    number, unit = name[:-2], name[-2:]
    return int(number) * _UNITS[unit] if number.isdecimal() and unit in _UNITS else None


def native_of(resources: LinuxResources) -> Native:
    """Return what the kubelet asks for, from a container that is about to be created."""
    if not resources.ByteSize():
        return NOTHING
    limit, swap = resources.memory.limit.value, resources.memory.swap.value
    return Native(
        memory=limit if limit > 0 else None,
        swap=swap if swap > 0 else None,
        nodes=_nodes(resources.cpu.mems),
        hugepages=_hugepages(resources),
    )


def reported_native(container: Container) -> Native:
    """Return what the kubelet had asked for, from a container that exists and may have been adjusted.

    Limits and nodes are only ever narrowed, so those it has stand for those it was given. Huge pages are those that the
    annotation remembers.
    """
    told = native_of(container.linux.resources)
    text = container.annotations.get(NATIVE, "")
    pairs = (entry.partition("=") for entry in text.split(",") if entry)
    hugepages = {
        page: int(amount) for name, _, amount in pairs if (page := page_of(name)) is not None and amount.isdecimal()
    }
    return Native(memory=told.memory, swap=told.swap, nodes=told.nodes, hugepages=hugepages)


def adjust(made: ContainerAdjustment, plan: ContainerPlan, native: Native, *, policy: bool) -> None:
    """Say what changes in a container that is created.

    Args:
        made: where it is said.
        plan: what it gets.
        native: what it would get without claims.
        policy: whether the runtime applies a memory policy.

    """
    _fill(made.linux.resources, plan, native)
    if plan.preferred and policy:
        made.linux.memory_policy.CopyFrom(
            LinuxMemoryPolicy(mode=MPOL_PREFERRED_MANY, nodes=plan.preferred, flags=[MPOL_F_STATIC_NODES])
        )
    if any(native.hugepages.values()):
        own = {_name(page): amount for page, amount in native.hugepages.items() if amount}
        made.annotations[NATIVE] = ",".join(f"{name}={amount}" for name, amount in sorted(own.items()))


def update(
    container_id: str, plan: ContainerPlan, native: Native, has: LinuxResources | None
) -> ContainerUpdate | None:
    """Return what changes in a container that exists; None if nothing differs.

    Args:
        container_id: of the runtime.
        plan: what it gets.
        native: what it would get without claims.
        has: what it has now; None if everything is to be said again.

    """
    made = ContainerUpdate(container_id=container_id)
    resources = made.linux.resources
    _fill(resources, plan, native)
    if has is not None:
        if set(parse_list(has.cpu.mems)) == set(parse_list(plan.mems)):
            resources.cpu.mems = ""
        if _hugepages(has) == plan.hugepages:
            del resources.hugepage_limits[:]
        if has.memory.limit.value == plan.memory:
            resources.ClearField("memory")
        if has.unified.get(MEMORY_MIN, "") == str(plan.protect):
            resources.unified.clear()
    return made if resources.cpu.mems or resources.hugepage_limits or _more(resources) else None


def _more(resources: LinuxResources) -> bool:
    return resources.HasField("memory") or bool(resources.unified)


def _fill(resources: LinuxResources, plan: ContainerPlan, native: Native) -> None:
    if plan.mems:
        resources.cpu.mems = plan.mems
    for page, limit in sorted(plan.hugepages.items()):
        resources.hugepage_limits.add(page_size=_name(page), limit=limit)
    if plan.memory is not None:
        resources.memory.limit.value = plan.memory
        if native.swap is not None:
            # the number is memory and swap together: what was no swap at all must not become some
            resources.memory.swap.value = plan.memory + max(native.swap - (native.memory or native.swap), 0)
    if plan.protect:
        resources.unified[MEMORY_MIN] = str(plan.protect)


def _hugepages(resources: LinuxResources) -> dict[int, int]:
    found = {page_of(limit.page_size): limit.limit for limit in resources.hugepage_limits}
    return {page: limit for page, limit in found.items() if page is not None}


def _nodes(text: str) -> tuple[int, ...]:
    return tuple(sorted(parse_list(text))) if text else ()
