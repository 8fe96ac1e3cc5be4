# SPDX-License-Identifier: Apache-2.0
"""Pods that nobody can end any more: of nodes that are gone or out of service, or deleted before they had a node.

As `pkg/controller/podgc`: a node must be gone for a while, and the server is asked once more, before its pods are
marked as failed and deleted by force.
"""

from __future__ import annotations

from dynamic_memory.embedded.controllers.controller import Caches, Controller, Deadlines
from dynamic_memory.embedded.controllers.objects import (
    NODES,
    PODS,
    Object,
    condition,
    is_finished,
    key_of,
    split,
    with_condition,
)
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.kube.informer import Change
from dynamic_memory.process import clock

__all__ = ["PodGarbageController"]

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


class PodGarbageController(Controller):
    """See the module; keys are `namespace/name` of pods.

    Args:
        caches: shared by all.
        quarantine: seconds for which a node must be gone.

    """

    name = "pod-garbage-collector"

    def __init__(self, caches: Caches, *, quarantine: float = 40.0) -> None:
        super().__init__(caches)
        self._quarantine = quarantine
        self._nodes = caches.of(NODES)
        self._pods = caches.of(PODS)
        self._deadlines = Deadlines()
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)

    def _pod_changed(self, change: Change[Object]) -> None:
        pod = change.object
        if change.type == "deleted":
            self._deadlines.forget(key_of(pod))
            return
        node = pod.spec.get("nodeName")
        if pod.metadata.deletion_timestamp is not None or (node and self._nodes.get(node) is None):
            self.queue.add(key_of(pod))

    def _node_changed(self, change: Change[Object]) -> None:
        if change.type == "deleted" or _out(change.object):
            for pod in self._pods.by_index("node", change.object.metadata.name):
                self.queue.add(key_of(pod))

    async def reconcile(self, key: str) -> None:
        """Work on a pod."""
        namespace, name = split(key)
        pod = self._pods.get(name, namespace)
        if pod is None:
            return
        node_name = pod.spec.get("nodeName")
        deleting = pod.metadata.deletion_timestamp is not None
        if not node_name:
            if deleting:
                await self._end(pod, "", "")
            return
        node = self._nodes.get(node_name)
        if node is not None:
            self._deadlines.forget(key)
            if deleting and _out(node) and condition(node, "Ready").get("status") != "True":
                await self._end(pod, "DeletionByPodGC", "PodGC: node is out of service")
            return
        left = self._deadlines.left(key, node_name, self._quarantine)
        if left > 0:
            self.queue.add(key, left)
            return
        try:
            await self.kube.get(NODES, node_name)
        except NotFound:
            await self._end(pod, "DeletionByPodGC", "PodGC: node no longer exists")
            self._deadlines.forget(key)

    async def _end(self, pod: Object, reason: str, message: str) -> None:
        """Mark a pod as failed, with the reason, and delete it by force."""
        if reason and not is_finished(pod):
            now = clock.rfc3339(clock.now())
            conditions = with_condition(
                pod.status.get("conditions") or (), "DisruptionTarget", "True", reason, message, now
            )
            body = {
                "metadata": {"uid": pod.metadata.uid},
                "status": {"phase": "Failed", "conditions": conditions},
            }
            try:
                await self.kube.patch(
                    PODS, pod.metadata.name, body, namespace=pod.metadata.namespace, subresource="status"
                )
            except NotFound:
                return
        await self.delete(PODS, pod, grace_period=0)


def _out(node: Object) -> bool:
    return any(taint.get("key") == OUT_OF_SERVICE for taint in node.spec.get("taints") or ())
