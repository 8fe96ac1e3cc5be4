# SPDX-License-Identifier: Apache-2.0
"""Pods of this node that have fabric memory: their own memory limit, and what they claim.

A pod's limit is the one at the level of the pod, else the sum of its containers' (none, if a container has none). What
it claims is read from its ResourceClaims, once each: an allocation does not change while it is set.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dynamic_memory.api import kinds, names
from dynamic_memory.api.core import Pod, ResourceRequirements
from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.capacity.preflight import PodLimit
from dynamic_memory.errors import InvalidInput
from dynamic_memory.kube.errors import ApiError
from dynamic_memory.kube.interface import Kube
from dynamic_memory.quantity import parse_bytes

__all__ = ["Claims", "claim_names", "claimed", "memory_limit"]

log = logging.getLogger(__name__)

ENDED = frozenset({"Succeeded", "Failed"})


class Claims:
    """Reads what pods claim, and remembers it as long as they are there.

    Args:
        kube: the API server.

    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._known: dict[tuple[str, str, str], int] = {}

    async def limits(self, pods: Iterable[Pod]) -> list[PodLimit]:
        """Return those of the pods that have fabric memory; a claim that cannot be read now counts next time."""
        found, used = [], set()
        for pod in pods:
            if pod.status.phase in ENDED:
                continue
            total = 0
            for name in claim_names(pod):
                key = (pod.metadata.uid, pod.metadata.namespace, name)
                used.add(key)
                total += await self._claimed(key)
            if total:
                full = f"{pod.metadata.namespace}/{pod.metadata.name}"
                found.append(PodLimit(pod=full, limit=memory_limit(pod), claimed=total))
        for key in self._known.keys() - used:
            del self._known[key]
        return found

    async def _claimed(self, key: tuple[str, str, str]) -> int:
        if key in self._known:
            return self._known[key]
        _, namespace, name = key
        try:
            claim = await self._kube.get(kinds.RESOURCE_CLAIMS, name, namespace)
        except ApiError as error:
            log.debug("claim cannot be read: %s", error, extra={"claim": f"{namespace}/{name}"})
            return 0
        if claim.status.allocation is None:
            return 0
        self._known[key] = claimed(claim)
        return self._known[key]


def claim_names(pod: Pod) -> list[str]:
    """Return the names of the claims of a pod, as far as they have been made."""
    made = {entry.name: entry.resource_claim_name for entry in pod.status.resource_claim_statuses}
    found = (entry.resource_claim_name or made.get(entry.name) for entry in pod.spec.resource_claims)
    return [name for name in found if name]


def claimed(claim: ResourceClaim) -> int:
    """Return the bytes of fabric memory that a claim has been allocated."""
    if claim.status.allocation is None:
        return 0
    return sum(
        parse_bytes(result.consumed_capacity.get(names.CAPACITY_SIZE, 0))
        for result in claim.status.allocation.devices.results
        if result.driver == names.DRIVER and names.fabric_domain_of(result.pool) is not None
    )


def memory_limit(pod: Pod) -> int | None:
    """Return the bytes that a pod's own cgroup lets it use; None if that is not limited."""
    if pod.spec.resources is not None and "memory" in pod.spec.resources.limits:
        return _memory(pod.spec.resources)
    sidecars = [container for container in pod.spec.init_containers if container.restart_policy == "Always"]
    limits = [_memory(container.resources) for container in (*pod.spec.containers, *sidecars)]
    if not limits or any(limit is None for limit in limits):
        return None
    return sum(limit for limit in limits if limit is not None)


def _memory(resources: ResourceRequirements) -> int | None:
    try:
        return parse_bytes(resources.limits["memory"])
    except (KeyError, InvalidInput):
        return None
