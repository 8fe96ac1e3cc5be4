# SPDX-License-Identifier: Apache-2.0
"""The cluster as the scheduler knows it: watches come in, state follows, and who is helped by a change is woken.

What wakes a pod that did not fit is called by name: RESOURCES, NODES, DEVICES, its claims, the pod itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from dynamic_memory.allocation import Inventory
from dynamic_memory.api.core import Node
from dynamic_memory.api.kinds import DEVICE_CLASSES, RESOURCE_CLAIMS, RESOURCE_SLICES
from dynamic_memory.api.kinds import NODES as NODE_KIND
from dynamic_memory.api.resource import DeviceClass, ResourceClaim, ResourceSlice
from dynamic_memory.embedded.scheduler.claims import DEVICES, ClaimBook
from dynamic_memory.embedded.scheduler.nodes import NodeTable
from dynamic_memory.embedded.scheduler.podclaims import ClaimMissing, pod_claims
from dynamic_memory.embedded.scheduler.queue import SchedulingQueue
from dynamic_memory.embedded.scheduler.shapes import NODES, RESOURCES
from dynamic_memory.embedded.scheduler.types import SCHEDULED_PODS, Pod, finished
from dynamic_memory.errors import InvalidInput
from dynamic_memory.kube.informer import Change, Informer
from dynamic_memory.kube.interface import Kube

__all__ = ["ANYTHING", "World", "call_of_pod"]

log = logging.getLogger(__name__)

ANYTHING = "anything"
"""Called with everything else: an extender does not say what could change its mind."""


def call_of_pod(uid: str) -> str:
    """Return what is called in the queue when the pod itself changes."""
    return f"pod:{uid}"


class World:
    """See the module.

    Args:
        kube: the API server.
        name: of the scheduler.
        queue: gets the pods that are ours.

    Attributes:
        informers: all watches; that of the pods comes last, since with it decisions begin.
        flying: pods whose decision is being carried out, and their nodes.
        devices_changed: grows when slices, classes or nodes change.

    """

    def __init__(self, kube: Kube, name: str, queue: SchedulingQueue) -> None:
        self._name = name
        self._queue = queue
        self._pods: Informer[Pod] = Informer(kube, SCHEDULED_PODS)
        nodes: Informer[Node] = Informer(kube, NODE_KIND)
        claims: Informer[ResourceClaim] = Informer(kube, RESOURCE_CLAIMS)
        slices: Informer[ResourceSlice] = Informer(kube, RESOURCE_SLICES)
        classes: Informer[DeviceClass] = Informer(kube, DEVICE_CLASSES)
        self.informers: tuple[Informer[Any], ...] = (nodes, classes, slices, claims, self._pods)
        self.inventory = Inventory()
        self.table = NodeTable()
        self.book = ClaimBook(claims, self.inventory)
        self.flying: dict[str, str] = {}
        self.devices_changed = 0
        self._gone: list[Callable[[str], None]] = []
        self._bound: list[Callable[[str], None]] = []
        self._claim_changes: list[Callable[[Change[ResourceClaim]], None]] = []
        self._pods.subscribe(_guarded(self._pod_changed))
        nodes.subscribe(_guarded(self._node_changed))
        claims.subscribe(_guarded(self._claim_changed))
        slices.subscribe(_guarded(self._slice_changed))
        classes.subscribe(_guarded(self._class_changed))

    def on_pod_gone(self, *hear: Callable[[str], None]) -> None:
        """Call `hear` with the UID of each pod that is gone, or will not be scheduled any more."""
        self._gone += hear

    def on_pod_bound(self, *hear: Callable[[str], None]) -> None:
        """Call `hear` with the UID of each pod that has a node."""
        self._bound += hear

    def on_claim(self, *hear: Callable[[Change[ResourceClaim]], None]) -> None:
        """Call `hear` with each change of a claim."""
        self._claim_changes += hear

    def pod(self, namespace: str, name: str) -> Pod | None:
        """Return a pod as the watch has it."""
        return self._pods.get(name, namespace)

    def _pod_changed(self, change: Change[Pod]) -> None:
        pod = change.object
        uid = pod.metadata.uid
        if change.type == "deleted" or finished(pod):
            self._leave(uid)
            if self.table.remove_pod(uid):
                self.call(RESOURCES)
        elif pod.spec.node_name:
            self.flying.pop(uid, None)
            self._queue.remove(uid)
            _tell(self._bound, uid)
            if self.table.put_pod(pod, pod.spec.node_name):
                self.call(RESOURCES)
        elif pod.metadata.deletion_timestamp is not None:
            self._leave(uid)
        elif (pod.spec.scheduler_name or "default-scheduler") == self._name:
            self._pod_waits(pod, change.old)

    def _leave(self, uid: str) -> None:
        self.flying.pop(uid, None)
        self._queue.remove(uid)
        _tell(self._gone, uid)

    def _pod_waits(self, pod: Pod, old: Pod | None) -> None:
        uid = pod.metadata.uid
        if pod.spec.scheduling_gates:
            self._queue.gate(pod, {call_of_pod(uid)})
            return
        if uid not in self._queue and uid not in self.flying:
            try:
                pod_claims(pod, self.book.get)
            except ClaimMissing as missing:
                self._queue.gate(pod, missing.calls | {call_of_pod(uid)})
                return
        self._queue.add(pod)
        changed = old is not None and (
            old.spec != pod.spec or old.status.resource_claim_statuses != pod.status.resource_claim_statuses
        )
        if changed:
            self._queue.call(call_of_pod(uid))

    def _node_changed(self, change: Change[Node]) -> None:
        node = change.object
        name = node.metadata.name
        if change.type == "deleted":
            self.table.remove_node(name)
            self.inventory.remove_node(name)
            return
        old = change.old
        if old is not None and _what_counts(old) == _what_counts(node):
            return
        self.inventory.put_node(node)
        position = self.inventory.position(name)
        assert position is not None  # noqa: S101 - it was just put there
        self.table.put_node(node, position)
        if old is None:
            self.call(NODES, RESOURCES, DEVICES)
        elif old.status.allocatable != node.status.allocatable:
            self.call(RESOURCES, NODES)
        else:
            self.call(NODES, DEVICES)

    def _claim_changed(self, change: Change[ResourceClaim]) -> None:
        calls = self.book.observe(change)
        for hear in self._claim_changes:
            hear(change)
        self.call(*calls)

    def _slice_changed(self, change: Change[ResourceSlice]) -> None:
        if change.type == "deleted":
            self.inventory.remove_slice(change.object.metadata.name)
        else:
            self.inventory.put_slice(change.object)
        self.call(DEVICES)

    def _class_changed(self, change: Change[DeviceClass]) -> None:
        if change.type == "deleted":
            self.inventory.remove_class(change.object.metadata.name)
        else:
            self.inventory.put_class(change.object)
        self.call(DEVICES)

    def call(self, *names: str) -> None:
        """Wake the pods that one of these can help."""
        if DEVICES in names or NODES in names:
            self.devices_changed += 1
        self._queue.call(*names, ANYTHING)


def _tell(listeners: Iterable[Callable[[str], None]], uid: str) -> None:
    for hear in listeners:
        hear(uid)


def _guarded(handler: Any) -> Any:
    """Return a handler that logs what is wrong with an object instead of raising: one bad object is not the end."""

    def handle(change: Change[Any]) -> None:
        try:
            handler(change)
        except InvalidInput as error:
            log.warning("%s is passed over: %s", change.object.metadata.name, error)

    return handle


def _what_counts(node: Node) -> tuple[Any, ...]:
    """Return what of a node decides anything; heartbeats do not."""
    return (
        node.metadata.uid,
        node.metadata.labels,
        node.spec.unschedulable,
        node.spec.taints,
        node.status.allocatable,
        node.status.declared_features,
    )
