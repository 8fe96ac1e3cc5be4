# SPDX-License-Identifier: Apache-2.0
"""ReplicaSets: as many pods of a template as asked for.

Pods are those that the set manages (owner reference); pods of others that the selector matches are not adopted.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.controllers.controller import Caches, Controller, Deadlines, age_of
from dynamic_memory.embedded.controllers.objects import (
    PODS,
    REPLICA_SETS,
    Object,
    condition,
    controller_of,
    is_active,
    is_available,
    is_ready,
    key_of,
    split,
)
from dynamic_memory.embedded.controllers.pods import create_many, pod_body, victims
from dynamic_memory.kube.informer import Change

__all__ = ["ReplicaSetController", "count_available"]


class ReplicaSetController(Controller):
    """See the module; keys are `namespace/name`."""

    name = "replicaset-controller"

    def __init__(self, caches: Caches) -> None:
        super().__init__(caches)
        self._sets = caches.of(REPLICA_SETS)
        self._pods = caches.of(PODS)
        self._deadlines = Deadlines()
        self._sets.subscribe(lambda change: self.queue.add(key_of(change.object)))
        self._pods.subscribe(self._pod_changed)

    def _pod_changed(self, change: Change[Object]) -> None:
        if change.type == "deleted":
            self._deadlines.forget(change.object.metadata.uid)
        owner = controller_of(change.object)
        if owner is not None and owner[0] == "ReplicaSet":
            self.queue.add(f"{change.object.metadata.namespace}/{owner[1]}")

    async def reconcile(self, key: str) -> None:
        """Work on a set."""
        namespace, name = split(key)
        owner = self._sets.get(name, namespace)
        if owner is None:
            return
        pods = [pod for pod in self._pods.by_index("owner", owner.metadata.uid) if is_active(pod)]
        if owner.metadata.deletion_timestamp is None:
            wanted = owner.spec.get("replicas", 1)
            if len(pods) < wanted:
                body = pod_body(REPLICA_SETS, owner, owner.spec["template"])
                await create_many(self, key, REPLICA_SETS, owner, [body] * (wanted - len(pods)))
            for pod in victims(pods, len(pods) - wanted) if len(pods) > wanted else ():
                if await self.delete(PODS, pod):
                    text = f"Deleted pod: {pod.metadata.name}"
                    await self.say(REPLICA_SETS, owner, "Normal", "SuccessfulDelete", text)
        await self._tell(key, owner, pods)

    async def _tell(self, key: str, owner: Object, pods: list[Object]) -> None:
        labels = (owner.spec["template"].get("metadata") or {}).get("labels") or {}
        available, later = count_available(pods, owner.spec.get("minReadySeconds", 0), self._deadlines)
        if later is not None:
            self.queue.add(key, later)
        status: dict[str, Any] = {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(labels.items() <= pod.metadata.labels.items() for pod in pods) or None,
            "readyReplicas": sum(map(is_ready, pods)) or None,
            "availableReplicas": available or None,
            "observedGeneration": owner.metadata.generation,
        }
        await self.write_status(REPLICA_SETS, owner, status)


def count_available(pods: list[Object], least: float, deadlines: Deadlines) -> tuple[int, float | None]:
    """Return how many pods are available, and in how many seconds that may be more.

    Args:
        pods: the pods.
        least: seconds that a pod must have been ready (`minReadySeconds`).
        deadlines: kept from call to call.

    """
    available, later = 0, None
    for pod in pods:
        if not is_ready(pod):
            deadlines.forget(pod.metadata.uid)
            continue
        since = condition(pod, "Ready").get("lastTransitionTime")
        left = deadlines.left(pod.metadata.uid, since, least - age_of(since)) if least > 0 else 0.0
        if is_available(pod, least, least - left):
            available += 1
        else:
            later = left if later is None else min(later, left)
    return available, later
