# SPDX-License-Identifier: Apache-2.0
"""DaemonSets: one pod of a template on every node that it is meant for.

Pods are placed by the scheduler: each is bound to its node by affinity, and tolerates what daemons tolerate. Updates
delete pods of an old template, as many at a time as `maxUnavailable` lets (or none, with OnDelete); with `maxSurge` new
pods come first, and an old one goes when the new one on its node is ready. Versions are told apart by a label with the
hash of the template; ControllerRevisions are not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dynamic_memory.allocation.node_selectors import compile_selector
from dynamic_memory.api.core import NodeSelector, Taint, Toleration
from dynamic_memory.embedded.controllers.controller import Caches, Controller, Deadlines
from dynamic_memory.embedded.controllers.objects import (
    DAEMON_SETS,
    NODES,
    PODS,
    Object,
    controller_of,
    is_active,
    is_finished,
    is_ready,
    key_of,
    split,
)
from dynamic_memory.embedded.controllers.pods import create_many, pod_body, template_hash
from dynamic_memory.embedded.controllers.replicasets import count_available
from dynamic_memory.embedded.controllers.rollout import limits
from dynamic_memory.embedded.scheduler.taints import untolerated
from dynamic_memory.kube.informer import Change

__all__ = ["DaemonSetController"]

HASH_LABEL = "controller-revision-hash"
_TOLERATED = [
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/disk-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/pid-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
]
_HOST_NETWORK = {"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"}


class DaemonSetController(Controller):
    """See the module; keys are `namespace/name`."""

    name = "daemonset-controller"

    def __init__(self, caches: Caches) -> None:
        super().__init__(caches)
        self._sets = caches.of(DAEMON_SETS)
        self._pods = caches.of(PODS)
        self._nodes = caches.of(NODES)
        self._deadlines = Deadlines()
        self._sets.subscribe(lambda change: self.queue.add(key_of(change.object)))
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)

    def _pod_changed(self, change: Change[Object]) -> None:
        if change.type == "deleted":
            self._deadlines.forget(change.object.metadata.uid)
        owner = controller_of(change.object)
        if owner is not None and owner[0] == "DaemonSet":
            self.queue.add(f"{change.object.metadata.namespace}/{owner[1]}")

    def _node_changed(self, change: Change[Object]) -> None:
        old, node = change.old, change.object
        same = (
            change.type == "modified"
            and old is not None
            and old.metadata.labels == node.metadata.labels
            and old.spec.get("taints") == node.spec.get("taints")
        )
        if not same:
            for item in self._sets.all():
                self.queue.add(key_of(item))

    async def reconcile(self, key: str) -> None:
        """Work on a set."""
        namespace, name = split(key)
        owner = self._sets.get(name, namespace)
        if owner is None or owner.metadata.deletion_timestamp is not None:
            return
        version = template_hash(owner.spec["template"])
        pods: dict[str, list[Object]] = {}
        for pod in self._pods.by_index("owner", owner.metadata.uid):
            pods.setdefault(_meant_for(pod), []).append(pod)
        wanted, tolerated = self._places(owner)
        missing = [
            _body(owner, node_name, version)
            for node_name in sorted(wanted)
            if all(is_finished(pod) for pod in pods.get(node_name, ()))
        ]
        surge, unavailable = _limits(owner, len(wanted))
        extra = _extra(pods, wanted, tolerated, version if surge else None)
        for pod in extra:
            await self._remove(owner, pod)
        on_delete = (owner.spec.get("updateStrategy") or {}).get("type") == "OnDelete"
        if not extra and not on_delete and surge:
            missing += await self._surge(owner, pods, wanted, version, surge)
        elif not extra and not on_delete:
            await self._update(owner, pods, wanted, version, unavailable)
        await create_many(self, key, DAEMON_SETS, owner, missing)
        await self._tell(key, owner, pods, wanted, version)

    def _places(self, owner: Object) -> tuple[set[str], set[str]]:
        """Return the nodes that should have a pod, and those where one may stay."""
        tolerations = _tolerations(owner)
        wanted, tolerated = set(), set()
        for node in self._nodes.all():
            runs, stays = _should(owner, node, tolerations)
            if runs:
                wanted.add(node.metadata.name)
            if stays:
                tolerated.add(node.metadata.name)
        return wanted, tolerated

    async def _remove(self, owner: Object, pod: Object) -> None:
        if await self.delete(PODS, pod):
            await self.say(DAEMON_SETS, owner, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")

    async def _surge(
        self, owner: Object, pods: Mapping[str, list[Object]], wanted: set[str], version: str, most: int
    ) -> list[dict[str, Any]]:
        """Delete old pods beside which a new one is ready; return new pods to make, as many as may be too many."""
        surging, next_ones = 0, []
        for node_name in sorted(wanted):
            alive = [pod for pod in pods.get(node_name, []) if is_active(pod)]
            old = [pod for pod in alive if pod.metadata.labels.get(HASH_LABEL) != version]
            new = [pod for pod in alive if pod.metadata.labels.get(HASH_LABEL) == version]
            if not old:
                continue
            if not new:
                next_ones.append(node_name)
            elif is_ready(new[0]):
                await self._remove(owner, old[0])
            else:
                surging += 1
        return [_body(owner, node_name, version) for node_name in next_ones[: max(0, most - surging)]]

    async def _update(
        self, owner: Object, pods: Mapping[str, list[Object]], wanted: set[str], version: str, most: int
    ) -> None:
        """Delete pods of an old template, no more than may be missing at a time."""
        old, unavailable = [], 0
        for node_name in sorted(wanted):
            alive = [pod for pod in pods.get(node_name, []) if is_active(pod)]
            if not alive or not is_ready(alive[0]):
                unavailable += 1
            if alive and alive[0].metadata.labels.get(HASH_LABEL) != version:
                old.append(alive[0])
        for pod in old:
            if is_ready(pod):
                if unavailable >= max(1, most):
                    continue
                unavailable += 1
            await self._remove(owner, pod)

    async def _tell(
        self, key: str, owner: Object, pods: Mapping[str, list[Object]], wanted: set[str], version: str
    ) -> None:
        running = []
        for name in sorted(wanted):
            alive = [pod for pod in pods.get(name, []) if is_active(pod)]
            # During a surge the new one counts once it is ready.
            alive.sort(key=lambda pod: (not is_ready(pod), pod.metadata.labels.get(HASH_LABEL) != version))
            running += alive[:1]
        available, later = count_available(running, owner.spec.get("minReadySeconds", 0), self._deadlines)
        if later is not None:
            self.queue.add(key, later)
        misplaced = sum(any(is_active(pod) for pod in own) for name, own in pods.items() if name not in wanted)
        status = {
            "currentNumberScheduled": len(running),
            "desiredNumberScheduled": len(wanted),
            "numberMisscheduled": misplaced,
            "numberReady": sum(map(is_ready, running)),
            "updatedNumberScheduled": sum(pod.metadata.labels.get(HASH_LABEL) == version for pod in running) or None,
            "numberAvailable": available or None,
            "numberUnavailable": (len(wanted) - available) or None,
            "observedGeneration": owner.metadata.generation,
        }
        await self.write_status(DAEMON_SETS, owner, status)


def _limits(owner: Object, nodes: int) -> tuple[int, int]:
    """Return how many pods there may be too many, and how many may be missing."""
    rolling = (owner.spec.get("updateStrategy") or {}).get("rollingUpdate") or {}
    return limits(rolling.get("maxSurge", 0), rolling.get("maxUnavailable", 1), nodes)


def _extra(
    pods: Mapping[str, list[Object]], wanted: set[str], tolerated: set[str], version: str | None
) -> list[Object]:
    """Return pods to delete: ended ones, seconds on a node, and those of nodes that are not for them.

    With a version, one pod of it may be beside one of another.
    """
    found = []
    for node_name, own in pods.items():
        if node_name not in tolerated:
            found += own
        elif node_name in wanted:
            alive = [pod for pod in own if not is_finished(pod)]
            alive.sort(key=lambda pod: (not pod.spec.get("nodeName"), pod.metadata.creation_timestamp or ""))
            found += [pod for pod in own if is_finished(pod)]
            if version is None:
                found += alive[1:]
            else:
                found += [pod for pod in alive if pod.metadata.labels.get(HASH_LABEL) == version][1:]
                found += [pod for pod in alive if pod.metadata.labels.get(HASH_LABEL) != version][1:]
    return [pod for pod in found if _deletable(pod)]


def _deletable(pod: Object) -> bool:
    """Tell whether the pod is not on its way out already."""
    return pod.metadata.deletion_timestamp is None


def _meant_for(pod: Object) -> str:
    """Return the node of a pod, also if it is not there yet."""
    if pod.spec.get("nodeName"):
        return str(pod.spec["nodeName"])
    affinity = (pod.spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return ""


def _tolerations(owner: Object) -> list[Toleration]:
    spec = owner.spec["template"]["spec"]
    listed = [*(spec.get("tolerations") or ()), *_TOLERATED]
    if spec.get("hostNetwork"):
        listed.append(_HOST_NETWORK)
    return msgspec.convert(listed, list[Toleration])


def _should(owner: Object, node: Object, tolerations: list[Toleration]) -> tuple[bool, bool]:
    """Return whether a node should get a pod, and whether a pod that is there may stay."""
    spec = owner.spec["template"]["spec"]
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False, False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None:
        selector = compile_selector(msgspec.convert(required, NodeSelector), f"daemon set {key_of(owner)}")
        if not selector.matches(node.metadata.name, labels):
            return False, False
    taints = msgspec.convert(node.spec.get("taints") or [], list[Taint])
    stays = untolerated(taints, tolerations, frozenset({"NoExecute"})) is None
    return stays and untolerated(taints, tolerations, frozenset({"NoSchedule"})) is None, stays


def _body(owner: Object, node_name: str, version: str) -> dict[str, Any]:
    body = pod_body(DAEMON_SETS, owner, owner.spec["template"], labels={HASH_LABEL: version})
    spec = body["spec"]
    affinity = dict(spec.get("affinity") or {})
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name]}]}
    own = dict(affinity.get("nodeAffinity") or {})
    own["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [term]}
    spec["affinity"] = {**affinity, "nodeAffinity": own}
    extra = [*_TOLERATED, *([_HOST_NETWORK] if spec.get("hostNetwork") else [])]
    listed = list(spec.get("tolerations") or ())
    spec["tolerations"] = [*listed, *(item for item in extra if item not in listed)]
    return body
