# SPDX-License-Identifier: Apache-2.0
"""What a container with claims must get, and its pod: from claims, the runtime's own settings, and the node. Pure.

Nodes: those of the claims. Where one of them has only memory that can be moved (fabric memory, or a CXL node that is
the node's own), the kernel's own allocations for the container find no place there: then the nodes that have ordinary
memory are added, and a memory policy prefers the claim's. The policy keeps its nodes when they come and go (static).

Huge pages: every size is limited, to what was claimed, and to what the pod's spec asks for besides.

Memory: a container gets no more than its claims in mode `limit` say together, and no more than its spec says. Fabric
memory alone, or file systems alone, limit nothing: the one comes on top of what the spec allows, the other limits
itself. Nor do claims of another mode, or any beside them. A claim in mode `protect` is kept from reclaim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from dynamic_memory.driver.grants import Mode
from dynamic_memory.driver.settings import RequestSettings, combine
from dynamic_memory.errors import RetryError
from dynamic_memory.host.sysfs import format_list

__all__ = ["ContainerPlan", "Facts", "Native", "NoHome", "PodPlan", "merge", "plan_container", "plan_pod"]


class NoHome(RetryError):
    """The container would have memory only where the kernel cannot put what it needs itself."""

    def __str__(self) -> str:
        return "the claim's memory can be moved, and no node with ordinary memory is known: the container cannot start"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be known of the node.

    Attributes:
        pages: sizes of huge pages that can be limited, bytes.
        home: NUMA nodes that have memory for the kernel's own needs.
        movable: NUMA nodes that have none.
        accounting: huge pages count as memory.
        protects: memory can be protected.
        places: containers can be placed on nodes (not on those of a simulated host).
        far: fabric memory is on nodes of this machine (not of a simulated host beside real memory of the node's own).

    """

    pages: tuple[int, ...] = ()
    home: tuple[int, ...] = ()
    movable: tuple[int, ...] = ()
    accounting: bool = False
    protects: bool = False
    places: bool = True
    far: bool = True


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """What the kubelet asks for a container, without claims.

    Attributes:
        memory: bytes that limit it; None for no limit.
        swap: bytes of memory and swap together; None if it is not set.
        nodes: NUMA nodes (static memory manager); empty for all.
        hugepages: bytes by the size of a page.

    """

    memory: int | None = None
    swap: int | None = None
    nodes: tuple[int, ...] = ()
    hugepages: dict[int, int] = {}


class ContainerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a container gets. Bytes; what is empty or None stays as the kubelet has it.

    Attributes:
        mems: NUMA nodes, as the kernel lists them.
        preferred: NUMA nodes that its memory policy prefers, as the kernel lists them.
        hugepages: limits by the size of a page, all sizes.
        memory: limit.
        protect: memory that is not reclaimed.

    """

    mems: str = ""
    preferred: str = ""
    hugepages: dict[int, int] = {}
    memory: int | None = None
    protect: int = 0


class PodPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the cgroup of a pod gets: limits of huge pages by size, all sizes, and memory that is not reclaimed."""

    hugepages: dict[int, int] = {}
    protect: int = 0


def plan_container(claims: Sequence[RequestSettings], native: Native, facts: Facts) -> ContainerPlan:
    """Return what a container with these keys gets.

    Raises:
        NoHome: it would have no node for the kernel's own needs.

    """
    all_of = combine(claims)
    claimed = {*all_of.memory_nodes, *all_of.hugepage_nodes, *(all_of.far_nodes if facts.far else ())}
    far = {node for node in claimed if node in facts.movable or node in all_of.far_nodes}
    nodes = {*claimed, *native.nodes} if claimed and facts.places else set()
    if nodes and not nodes - far:
        if not facts.home:
            raise NoHome
        nodes |= set(facts.home)
    preferred = {*far, *all_of.memory_nodes} if far and facts.places else set()
    hugepages = {
        page: native.hugepages.get(page, 0) + all_of.hugepages.get(page, 0)
        for page in sorted({*facts.pages, *native.hugepages})
        if page in facts.pages
    }
    return ContainerPlan(
        mems=format_list(nodes),
        preferred=format_list(preferred),
        hugepages=hugepages,
        memory=_limit(claims, native, facts),
        protect=all_of.protect if facts.protects else 0,
    )


def plan_pod(containers: Iterable[tuple[Sequence[RequestSettings], Native]], facts: Facts) -> PodPlan:
    """Return what the pod of these containers gets: their sum, with each claim once.

    A claim that an init container hands over to a container of the pod is there twice for a moment.
    """
    claims: dict[str, RequestSettings] = {}
    hugepages = dict.fromkeys(facts.pages, 0)
    for keys, native in containers:
        claims |= {request.key: request for request in keys}
        for page in facts.pages:
            hugepages[page] += native.hugepages.get(page, 0)
    all_of = combine(claims.values())
    for page in facts.pages:
        hugepages[page] += all_of.hugepages.get(page, 0)
    return PodPlan(hugepages=hugepages, protect=all_of.protect if facts.protects else 0)


def merge(protects: Iterable[tuple[Sequence[str], int]]) -> dict[str, int]:
    """Return what is protected of each cgroup above the pods: (cgroups above a pod, its bytes) each."""
    total: dict[str, int] = {}
    for above, amount in protects:
        for path in above:
            total[path] = total.get(path, 0) + amount
    return total


def _limit(claims: Sequence[RequestSettings], native: Native, facts: Facts) -> int | None:
    """Return the limit that the claims ask for, if it is below the container's own; None to leave that as it is."""
    unique = {request.key: request for request in claims}.values()
    if any(request.memory + request.far_memory and request.mode is not Mode.LIMIT for request in unique):
        return None
    if not any(request.memory > request.files for request in unique):
        # fabric memory comes on top of what the spec allows, and a file system limits itself
        return None
    claimed = sum(request.memory + request.far_memory for request in unique)
    if facts.accounting:
        claimed += sum(size for request in unique for size in request.hugepages.values())
        claimed += sum(native.hugepages.values())
    return claimed if native.memory is None else min(claimed, native.memory)
