# SPDX-License-Identifier: Apache-2.0
"""The life of nodes: who is not heard of any more is marked, tainted, and its pods with it.

A node is alive while its Lease (or status) changes; what counts is when this controller saw it change, not whose clock
wrote it. After the grace period its conditions turn Unknown. Conditions become taints: Ready=False `not-ready`,
Ready=Unknown `unreachable` (both also NoExecute), pressures and cordons NoSchedule. When the node is back, the taints
go. As `pkg/controller/nodelifecycle`, without zones and rate limits.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.controllers.controller import Caches, Controller
from dynamic_memory.embedded.controllers.objects import (
    LEASES,
    NODES,
    PODS,
    Object,
    condition,
    is_ready,
    with_condition,
)
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.kube.informer import Change
from dynamic_memory.kube.queue import EARLY
from dynamic_memory.process import clock

__all__ = ["NodeLifeController", "wanted_taints"]

NAMESPACE = "kube-node-lease"
PREFIX = "node.kubernetes.io/"
_PRESSURES = {
    "MemoryPressure": "memory-pressure",
    "DiskPressure": "disk-pressure",
    "PIDPressure": "pid-pressure",
    "NetworkUnavailable": "network-unavailable",
}
_OURS = {PREFIX + name for name in ("not-ready", "unreachable", "unschedulable", *_PRESSURES.values())}


class NodeLifeController(Controller):
    """See the module; keys are names of nodes.

    Args:
        caches: shared by all.
        grace: seconds without a sign of life after which a node is given up.

    """

    name = "node-controller"

    def __init__(self, caches: Caches, *, grace: float = 50.0) -> None:
        super().__init__(caches)
        self._grace = grace
        self._nodes = caches.of(NODES)
        self._leases = caches.of(LEASES)
        self._pods = caches.of(PODS)
        self._heard: dict[str, float] = {}
        self._nodes.subscribe(self._node_changed)
        self._leases.subscribe(self._lease_changed)

    def _node_changed(self, change: Change[Object]) -> None:
        name = change.object.metadata.name
        if change.type == "deleted":
            self._heard.pop(name, None)
            return
        if change.old is None or _beat(change.old) != _beat(change.object):
            self._heard[name] = clock.monotonic()
        self.queue.add(name)

    def _lease_changed(self, change: Change[Object]) -> None:
        lease = change.object
        if lease.metadata.namespace != NAMESPACE or change.type == "deleted":
            return
        old = change.old
        if old is not None and old.spec.get("renewTime") == lease.spec.get("renewTime"):
            return
        name = lease.metadata.name
        node = self._nodes.get(name)
        self._heard[name] = clock.monotonic()
        if node is not None and condition(node, "Ready").get("status") == "Unknown":
            self.queue.add(name)

    async def reconcile(self, key: str) -> None:
        """Work on a node."""
        node = self._nodes.get(key)
        if node is None:
            return
        silent = clock.monotonic() - self._heard.setdefault(key, clock.monotonic())
        if silent >= self._grace - EARLY:
            node = await self._give_up(key, node)
        else:
            self.queue.add(key, self._grace - silent)
        await self._taint(key, node)
        if condition(node, "Ready").get("status") in {"False", "Unknown"}:
            await self._mark_pods(key)

    async def _give_up(self, key: str, node: Object) -> Object:
        """Turn the conditions that the kubelet keeps to Unknown."""
        if condition(node, "Ready").get("status") == "Unknown":
            return node
        now = clock.rfc3339(clock.now())
        conditions = list(node.status.get("conditions") or ())
        for type_ in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure"):
            known = condition(node, type_)
            reason, text = "NodeStatusUnknown", "Kubelet stopped posting node status."
            if not known:
                reason, text = "NodeStatusNeverUpdated", "Kubelet never posted node status."
            conditions = with_condition(conditions, type_, "Unknown", reason, text, now)
            conditions = [
                {**item, "lastHeartbeatTime": known.get("lastHeartbeatTime", node.metadata.creation_timestamp)}
                if item["type"] == type_
                else item
                for item in conditions
            ]
        body = {"metadata": {"uid": node.metadata.uid}, "status": {"conditions": conditions}}
        changed = await self.kube.patch(NODES, key, body, subresource="status")
        self.created(key, NODES, changed)
        text = f"Node {key} status is now: NodeNotReady"
        await self.say(NODES, node, "Normal", "NodeNotReady", text)
        return changed

    async def _taint(self, key: str, node: Object) -> None:
        now = clock.rfc3339(clock.now())
        present = list(node.spec.get("taints") or ())
        wanted = wanted_taints(node)
        kept = [taint for taint in present if taint["key"] not in _OURS or _identity(taint) in wanted]
        there = {_identity(taint) for taint in kept}
        fresh = [
            {"key": name, "effect": effect, **({"timeAdded": now} if effect == "NoExecute" else {})}
            for name, effect in sorted(wanted)
            if (name, effect) not in there
        ]
        if len(kept) == len(present) and not fresh:
            return
        body = {
            "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
            "spec": {"taints": [*kept, *fresh] or None},
        }
        self.created(key, NODES, await self.kube.patch(NODES, key, body))

    async def _mark_pods(self, key: str) -> None:
        """Say that the pods of a lost node are not ready: nobody else can."""
        now = clock.rfc3339(clock.now())
        for pod in self._pods.by_index("node", key):
            if not is_ready(pod):
                continue
            conditions = with_condition(
                pod.status.get("conditions") or (), "Ready", "False", "NodeNotReady", "Node is not ready", now
            )
            body: dict[str, Any] = {"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": conditions}}
            try:
                await self.kube.patch(
                    PODS, pod.metadata.name, body, namespace=pod.metadata.namespace, subresource="status"
                )
            except NotFound:
                continue


def wanted_taints(node: Object) -> set[tuple[str, str]]:
    """Return key and effect of the taints that follow from a node's conditions. Pure."""
    found = set()
    ready = condition(node, "Ready").get("status")
    if ready == "False":
        found |= {(f"{PREFIX}not-ready", effect) for effect in ("NoSchedule", "NoExecute")}
    elif ready == "Unknown":
        found |= {(f"{PREFIX}unreachable", effect) for effect in ("NoSchedule", "NoExecute")}
    for type_, name in _PRESSURES.items():
        if condition(node, type_).get("status") == "True":
            found.add((PREFIX + name, "NoSchedule"))
    if node.spec.get("unschedulable"):
        found.add((f"{PREFIX}unschedulable", "NoSchedule"))
    return found


def _identity(taint: dict[str, Any]) -> tuple[str, str]:
    return taint["key"], taint["effect"]


def _beat(node: Object) -> list[tuple[Any, Any, Any]]:
    """Return what the kubelet writes: while it changes, the node lives."""
    return [
        (item.get("type"), item.get("lastHeartbeatTime"), item.get("status"))
        for item in node.status.get("conditions") or ()
        if item.get("reason") not in {"NodeStatusUnknown", "NodeStatusNeverUpdated"}
    ]
