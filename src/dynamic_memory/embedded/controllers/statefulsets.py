# SPDX-License-Identifier: Apache-2.0
"""StatefulSets: pods with names and an order.

Pods are made from 0 up and taken away from the top down, one at a time unless the policy is Parallel; an update goes
from the top down to `partition`. Volume claims are not made (the embedded cluster has no volumes to give).
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.controllers.controller import Caches, Controller, Deadlines
from dynamic_memory.embedded.controllers.objects import (
    PODS,
    STATEFUL_SETS,
    Object,
    controller_of,
    is_finished,
    is_ready,
    key_of,
    split,
)
from dynamic_memory.embedded.controllers.pods import create_pod, pod_body, template_hash
from dynamic_memory.embedded.controllers.replicasets import count_available
from dynamic_memory.kube.informer import Change

__all__ = ["StatefulSetController"]

HASH_LABEL = "controller-revision-hash"
NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"


class StatefulSetController(Controller):
    """See the module; keys are `namespace/name`."""

    name = "statefulset-controller"

    def __init__(self, caches: Caches) -> None:
        super().__init__(caches)
        self._sets = caches.of(STATEFUL_SETS)
        self._pods = caches.of(PODS)
        self._deadlines = Deadlines()
        self._sets.subscribe(lambda change: self.queue.add(key_of(change.object)))
        self._pods.subscribe(self._pod_changed)

    def _pod_changed(self, change: Change[Object]) -> None:
        if change.type == "deleted":
            self._deadlines.forget(change.object.metadata.uid)
        owner = controller_of(change.object)
        if owner is not None and owner[0] == "StatefulSet":
            self.queue.add(f"{change.object.metadata.namespace}/{owner[1]}")

    async def reconcile(self, key: str) -> None:
        """Work on a set."""
        namespace, name = split(key)
        owner = self._sets.get(name, namespace)
        if owner is None:
            return
        pods = {_ordinal(pod): pod for pod in self._pods.by_index("owner", owner.metadata.uid)}
        version = f"{owner.metadata.name}-{template_hash(owner.spec['template'])}"
        if owner.metadata.deletion_timestamp is None:
            await self._step(key, owner, pods, version)
        await self._tell(key, owner, pods, version)

    async def _step(self, key: str, owner: Object, pods: dict[int, Object], version: str) -> None:
        parallel = owner.spec.get("podManagementPolicy") == "Parallel"
        start = (owner.spec.get("ordinals") or {}).get("start", 0)
        wanted = range(start, start + owner.spec.get("replicas", 1))
        for ordinal in wanted:
            pod = pods.get(ordinal)
            if pod is None:
                await self._make(key, owner, ordinal, version)
            elif is_finished(pod) and pod.metadata.deletion_timestamp is None:
                # It is made again once it is gone.
                await self._remove(owner, pod)
            elif is_ready(pod) and pod.metadata.deletion_timestamp is None:
                continue
            if not parallel:
                return
        spare = sorted((ordinal for ordinal in pods if ordinal not in wanted), reverse=True)
        for ordinal in spare:
            if pods[ordinal].metadata.deletion_timestamp is None:
                await self._remove(owner, pods[ordinal])
            if not parallel:
                return
        await self._update(owner, pods, wanted, version)

    async def _update(self, owner: Object, pods: dict[int, Object], wanted: range, version: str) -> None:
        strategy = owner.spec.get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        for ordinal in reversed(wanted):
            pod = pods.get(ordinal)
            if ordinal < partition or pod is None:
                return
            if pod.metadata.labels.get(HASH_LABEL) != version:
                if pod.metadata.deletion_timestamp is None:
                    await self._remove(owner, pod)
                return
            if not is_ready(pod) or pod.metadata.deletion_timestamp is not None:
                return

    async def _make(self, key: str, owner: Object, ordinal: int, version: str) -> None:
        name = f"{owner.metadata.name}-{ordinal}"
        labels = {NAME_LABEL: name, INDEX_LABEL: str(ordinal), HASH_LABEL: version}
        body = pod_body(STATEFUL_SETS, owner, owner.spec["template"], labels=labels)
        del body["metadata"]["generateName"]
        body["metadata"]["name"] = name
        body["spec"]["hostname"] = name
        if owner.spec.get("serviceName"):
            body["spec"]["subdomain"] = owner.spec["serviceName"]
        await create_pod(self, key, STATEFUL_SETS, owner, body)

    async def _remove(self, owner: Object, pod: Object) -> None:
        if await self.delete(PODS, pod):
            text = f"delete Pod {pod.metadata.name} in StatefulSet {owner.metadata.name} successful"
            await self.say(STATEFUL_SETS, owner, "Normal", "SuccessfulDelete", text)

    async def _tell(self, key: str, owner: Object, pods: dict[int, Object], version: str) -> None:
        alive = [pod for pod in pods.values() if pod.metadata.deletion_timestamp is None and not is_finished(pod)]
        available, later = count_available(alive, owner.spec.get("minReadySeconds", 0), self._deadlines)
        if later is not None:
            self.queue.add(key, later)
        updated = sum(pod.metadata.labels.get(HASH_LABEL) == version for pod in alive)
        replicas = owner.spec.get("replicas", 1)
        done = updated == len(alive) == replicas
        current = version if done else owner.status.get("currentRevision", version)
        status: dict[str, Any] = {
            "replicas": len(alive),
            "readyReplicas": sum(map(is_ready, alive)) or None,
            "availableReplicas": available,
            "updatedReplicas": updated or None,
            "currentReplicas": sum(pod.metadata.labels.get(HASH_LABEL) == current for pod in alive) or None,
            "currentRevision": current,
            "updateRevision": version,
            "observedGeneration": owner.metadata.generation,
        }
        await self.write_status(STATEFUL_SETS, owner, status)


def _ordinal(pod: Object) -> int:
    text = pod.metadata.name.rpartition("-")[2]
    return int(text) if text.isdecimal() else -1
