# SPDX-License-Identifier: Apache-2.0
"""What the containers of a claim must get: nodes, limits, environment; read from the claim's record alone.

The NRI hooks ask here. A container names its claims by the CDI devices that it was given (`parse_device`), or by its
environment; either is looked up, never believed. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from dynamic_memory.driver import cdi, environment, grants
from dynamic_memory.driver.grants import Grant, Mode, Owner
from dynamic_memory.driver.records import ClaimRecord

__all__ = [
    "ClaimSettings",
    "ContainerSettings",
    "RequestSettings",
    "combine",
    "hugetlb_name",
    "parse_device",
    "settings_of",
]

SIZES = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))


class RequestSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one key (a CDI device) gives a container. Bytes.

    Attributes:
        key: `<claim UID>`, or `<claim UID>.<request>`.
        request: of the claim.
        memory_nodes: NUMA nodes of its ordinary local memory.
        hugepage_nodes: NUMA nodes of its huge pages.
        far_nodes: NUMA nodes of its fabric memory: to be named by a memory policy with static nodes, and never the only
            nodes of a cpuset.
        memory: ordinary local memory.
        far_memory: fabric memory.
        files: those of `memory` and `far_memory` that are a file system, which limits itself.
        hugepages: by the size of a page in bytes.
        mode: how its memory is enforced: the strictest of its grants.
        env: the variables of its CDI device that a plugin may read back.

    """

    key: str
    request: str
    memory_nodes: tuple[int, ...] = ()
    hugepage_nodes: tuple[int, ...] = ()
    far_nodes: tuple[int, ...] = ()
    memory: int = 0
    far_memory: int = 0
    files: int = 0
    hugepages: dict[int, int] = {}
    mode: Mode = Mode.LIMIT
    env: dict[str, str] = {}

    @property
    def nodes(self) -> tuple[int, ...]:
        """All NUMA nodes of it."""
        return tuple(sorted({*self.memory_nodes, *self.hugepage_nodes, *self.far_nodes}))


class ClaimSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One prepared claim.

    Attributes:
        uid: of the claim.
        namespace: of claim and pod.
        name: of the claim.
        owner: the pod that it was prepared for; None for a claim that was prepared before owners were recorded.
        requests: by key.

    """

    uid: str
    namespace: str
    name: str
    owner: Owner | None
    requests: dict[str, RequestSettings]

    def may_use(self, pod_uid: str, container: str, key: str) -> bool:
        """Tell whether a container of a pod may use one key of the claim.

        The pod must be the claim's owner. Which of its containers refer to the claim was looked at in Prepare; a claim
        that none of them refers to is for all of them (it then has no CDI device in any).
        """
        if self.owner is None or key not in self.requests:
            return self.owner is None and key in self.requests
        if self.owner.uid != pod_uid:
            return False
        if not self.owner.containers:
            # nobody has looked at the pod (fabric memory), or none of its containers refers to the claim
            return True
        request = self.requests[key].request
        users = {*self.owner.containers.get("", ()), *self.owner.containers.get(request, ())}
        return container in users


class ContainerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a container gets of all its keys together; see `RequestSettings`."""

    memory_nodes: tuple[int, ...] = ()
    hugepage_nodes: tuple[int, ...] = ()
    far_nodes: tuple[int, ...] = ()
    limit: int = 0
    """Memory of claims that are enforced as a limit, local and far."""
    protect: int = 0
    """Memory of claims that is to be protected."""
    advised: int = 0
    """Memory of claims that is neither."""
    hugepages: dict[int, int] = {}
    env: dict[str, str] = {}

    @property
    def nodes(self) -> tuple[int, ...]:
        """All NUMA nodes of it."""
        return tuple(sorted({*self.memory_nodes, *self.hugepage_nodes, *self.far_nodes}))


def settings_of(record: ClaimRecord) -> ClaimSettings | None:
    """Return the settings of a claim; None if it is not prepared."""
    # after a removal by force the kubelet may start the claim's next pod without a Prepare
    prepared = record.prepared or record.offered
    if prepared is None or not prepared.grants:
        return None
    requests = {key: _request(key, given) for key, given in grants.by_key(record.uid, prepared.grants).items()}
    owner, pod = record.owner, prepared.pod
    if owner is None and pod is not None:
        owner = Owner(name=pod.name, uid=pod.uid)
    return ClaimSettings(uid=record.uid, namespace=record.namespace, name=record.name, owner=owner, requests=requests)


def combine(requests: Iterable[RequestSettings]) -> ContainerSettings:
    """Return what a container with several claims gets: amounts are added up, nodes united."""
    all_of = list({request.key: request for request in requests}.values())
    if len(all_of) == 1:
        return _alone(all_of[0])

    def amount(mode: Mode) -> int:
        return sum(request.memory + request.far_memory for request in all_of if request.mode is mode)

    hugepages: dict[int, int] = {}
    for request in all_of:
        for page, size in request.hugepages.items():
            hugepages[page] = hugepages.get(page, 0) + size
    return ContainerSettings(
        memory_nodes=_union(request.memory_nodes for request in all_of),
        hugepage_nodes=_union(request.hugepage_nodes for request in all_of),
        far_nodes=_union(request.far_nodes for request in all_of),
        limit=amount(Mode.LIMIT),
        protect=amount(Mode.PROTECT),
        advised=amount(Mode.ADVISE),
        hugepages=hugepages,
        env={name: value for request in all_of for name, value in request.env.items()},
    )


def _alone(request: RequestSettings) -> ContainerSettings:
    """Return what a container with one device gets: nearly all of them, while the runtime waits."""
    amount = {str(request.mode): request.memory + request.far_memory}
    return ContainerSettings(
        memory_nodes=request.memory_nodes,
        hugepage_nodes=request.hugepage_nodes,
        far_nodes=request.far_nodes,
        limit=amount.get("limit", 0),
        protect=amount.get("protect", 0),
        advised=amount.get("advise", 0),
        hugepages=request.hugepages,
        env=request.env,
    )


def parse_device(name: str) -> tuple[str, str] | None:
    """Return (claim UID, key) of a CDI device as the runtime shows it; None if it is not one of ours."""
    kind, _, device = name.partition("=")
    if kind != cdi.KIND or not device.startswith(cdi.DEVICE_PREFIX):
        return None
    key = device.removeprefix(cdi.DEVICE_PREFIX)
    uid, _ = grants.split_key(key)
    return uid, key


def hugetlb_name(page: int) -> str:
    """Return the size of a huge page as cgroup files and NRI have it: `2MB`, `1GB`, `64KB`."""
    for unit, name in SIZES:
        if page >= unit and page % unit == 0:
            return f"{page // unit}{name}"
    return f"{page}B"


def _request(key: str, given: Sequence[Grant]) -> RequestSettings:
    ordinary = [grant for grant in given if not grant.page and not grant.far]
    huge = [grant for grant in given if grant.page]
    far = [grant for grant in given if grant.far]
    hugepages: dict[int, int] = {}
    for grant in huge:
        hugepages[grant.page] = hugepages.get(grant.page, 0) + grant.size
    modes = [grant.mode for grant in given]
    return RequestSettings(
        key=key,
        request=given[0].request,
        memory_nodes=_nodes(ordinary),
        hugepage_nodes=_nodes(huge),
        far_nodes=_nodes(far),
        memory=sum(grant.size for grant in ordinary),
        far_memory=sum(grant.size for grant in far),
        files=sum(grant.size for grant in given if grant.path and not grant.page),
        hugepages=hugepages,
        mode=min(modes, key=list(Mode).index),
        env=environment.render(key, given),
    )


def _nodes(given: Iterable[Grant]) -> tuple[int, ...]:
    return tuple(sorted({grant.numa for grant in given if grant.numa is not None}))


def _union(sets: Iterable[Sequence[int]]) -> tuple[int, ...]:
    return tuple(sorted({node for nodes in sets for node in nodes}))
