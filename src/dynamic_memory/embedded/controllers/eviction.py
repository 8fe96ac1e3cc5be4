# SPDX-License-Identifier: Apache-2.0
"""Taints that drive pods away: those of nodes (NoExecute), and those of devices.

A pod that does not tolerate such a taint is deleted at once; one that tolerates it for a time, when the time is over.
Devices are tainted by their drivers in ResourceSlices and by people with DeviceTaintRules; what counts is the
toleration of the claim's result. As `pkg/controller/tainteviction` and `pkg/controller/devicetainteviction`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from dynamic_memory.api.core import Taint, Toleration
from dynamic_memory.embedded.controllers.controller import Caches, Controller, Deadlines, age_of
from dynamic_memory.embedded.controllers.objects import (
    CLAIMS,
    NODES,
    PODS,
    SLICES,
    TAINT_RULES,
    Object,
    is_finished,
    key_of,
    split,
    with_condition,
)
from dynamic_memory.embedded.scheduler.taints import tolerates
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.kube.informer import Change
from dynamic_memory.process import clock

__all__ = ["DeviceTaintController", "NodeTaintController", "patience"]


def patience(taints: Iterable[Taint], tolerations: Sequence[Toleration]) -> float | None:
    """Return for how many seconds from their times taints are put up with; None = for ever. Pure.

    The age of each taint is taken off, so the answer is from now on and may be below 0.
    """
    least: float | None = None
    for taint in taints:
        fitting = [toleration for toleration in tolerations if tolerates(toleration, taint)]
        if not fitting:
            return 0.0
        limits = [item.toleration_seconds for item in fitting if item.toleration_seconds is not None]
        if limits:
            left = min(max(0, limit) for limit in limits) - age_of(taint.time_added)
            least = left if least is None else min(least, left)
    return least


class _Evictor(Controller):
    """What both have in common: deleting a pod, now or later."""

    reason = ""
    event = ""
    text = ""

    def __init__(self, caches: Caches) -> None:
        super().__init__(caches)
        self._pods = caches.of(PODS)
        self._deadlines = Deadlines()

    async def _evict(self, key: str, pod: Object, cause: Any, left: float | None) -> None:
        if left is None:
            self._deadlines.forget(key)
            return
        rest = self._deadlines.left(key, (pod.metadata.uid, cause), left)
        if rest > 0:
            self.queue.add(key, rest)
            return
        self._deadlines.forget(key)
        await self.say(PODS, pod, "Normal", self.event, f"Marking for deletion Pod {key}")
        now = clock.rfc3339(clock.now())
        conditions = with_condition(
            pod.status.get("conditions") or (), "DisruptionTarget", "True", self.reason, self.text, now
        )
        body = {"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": conditions}}
        try:
            await self.kube.patch(PODS, pod.metadata.name, body, namespace=pod.metadata.namespace, subresource="status")
        except NotFound:
            return
        await self.delete(PODS, pod)

    def _victim(self, key: str) -> Object | None:
        namespace, name = split(key)
        pod = self._pods.get(name, namespace)
        if pod is None or pod.metadata.deletion_timestamp is not None or is_finished(pod):
            self._deadlines.forget(key)
            return None
        return pod


class NodeTaintController(_Evictor):
    """Taints of nodes; keys are `namespace/name` of pods."""

    name = "taint-eviction-controller"
    reason = "DeletionByTaintManager"
    event = "TaintManagerEviction"
    text = "Taint manager: deleting due to NoExecute taint"

    def __init__(self, caches: Caches) -> None:
        super().__init__(caches)
        self._nodes = caches.of(NODES)
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)

    def _pod_changed(self, change: Change[Object]) -> None:
        pod, old = change.object, change.old
        if not pod.spec.get("nodeName") or change.type == "deleted":
            return
        if old is None or old.spec != pod.spec:
            self.queue.add(key_of(pod))

    def _node_changed(self, change: Change[Object]) -> None:
        node, old = change.object, change.old
        before = [] if old is None else _driving(old)
        if before != _driving(node):
            for pod in self._pods.by_index("node", node.metadata.name):
                self.queue.add(key_of(pod))

    async def reconcile(self, key: str) -> None:
        """Work on a pod."""
        pod = self._victim(key)
        if pod is None:
            return
        node = self._nodes.get(pod.spec.get("nodeName", ""))
        taints = [] if node is None else _driving(node)
        tolerations = msgspec.convert(pod.spec.get("tolerations") or [], list[Toleration])
        await self._evict(key, pod, taints, patience(taints, tolerations))


class DeviceTaintController(_Evictor):
    """Taints of devices; keys are `namespace/name` of pods.

    Args:
        caches: shared by all.
        rules: whether the server knows DeviceTaintRules.

    """

    name = "device-taint-eviction"
    reason = "DeletionByDeviceTaintManager"
    event = "DeviceTaintManagerEviction"
    text = "Device Taint manager: deleting due to NoExecute taint"

    def __init__(self, caches: Caches, *, rules: bool) -> None:
        super().__init__(caches)
        self._claims = caches.of(CLAIMS)
        self._slices = caches.of(SLICES)
        self._rules = caches.of(TAINT_RULES) if rules else None
        self._waiting: set[str] = set()
        self._tainted: dict[str, dict[tuple[str, str, str], list[Taint]]] = {}
        self._slices.subscribe(self._slice_changed)
        self._claims.subscribe(self._claim_changed)
        if self._rules is not None:
            self._rules.subscribe(lambda _: self._look_at(self._claims.all()))

    def _slice_changed(self, change: Change[Object]) -> None:
        piece = change.object
        name = piece.metadata.name
        before = self._tainted.pop(name, {})
        after = {} if change.type == "deleted" else _tainted_devices(piece)
        if after:
            self._tainted[name] = after
        if before != after:
            self._look_at(self._claims.all())

    def _claim_changed(self, change: Change[Object]) -> None:
        if change.type != "deleted":
            self._look_at([change.object])

    def _look_at(self, claims: Iterable[Object]) -> None:
        for claim in claims:
            if claim.status.get("allocation") is None:
                continue
            for user in claim.status.get("reservedFor") or ():
                if user.get("resource") == "pods" and not user.get("apiGroup"):
                    key = f"{claim.metadata.namespace}/{user['name']}"
                    if self._causes(claim) or key in self._waiting:
                        self.queue.add(key)

    async def reconcile(self, key: str) -> None:
        """Work on a pod."""
        pod = self._victim(key)
        if pod is None:
            self._waiting.discard(key)
            return
        least: float | None = None
        causes = []
        for claim in self._claims_of(pod):
            for taints, tolerations in self._causes(claim):
                left = patience(taints, tolerations)
                causes.append(taints)
                if left is not None:
                    least = left if least is None else min(least, left)
        if least is None:
            self._waiting.discard(key)
        else:
            self._waiting.add(key)
        await self._evict(key, pod, causes, least)

    def _claims_of(self, pod: Object) -> list[Object]:
        names = {
            entry["resourceClaimName"]
            for entry in (
                *(pod.spec.get("resourceClaims") or ()),
                *(pod.status.get("resourceClaimStatuses") or ()),
            )
            if entry.get("resourceClaimName")
        }
        found = (self._claims.get(name, pod.metadata.namespace) for name in sorted(names))
        return [
            claim
            for claim in found
            if claim is not None
            and any(user.get("uid") == pod.metadata.uid for user in claim.status.get("reservedFor") or ())
        ]

    def _causes(self, claim: Object) -> list[tuple[list[Taint], list[Toleration]]]:
        """Return for each tainted device of a claim its taints and what the claim tolerates."""
        results = ((claim.status.get("allocation") or {}).get("devices") or {}).get("results") or ()
        found = []
        for result in results:
            if result.get("adminAccess"):
                continue
            device = (result["driver"], result["pool"], result["device"])
            taints = [taint for own in self._tainted.values() for taint in own.get(device, ())]
            taints += self._by_rules(device)
            if taints:
                found.append((taints, msgspec.convert(result.get("tolerations") or [], list[Toleration])))
        return found

    def _by_rules(self, device: tuple[str, str, str]) -> list[Taint]:
        found = []
        for rule in () if self._rules is None else self._rules.all():
            selector = rule.spec.get("deviceSelector") or {}
            names = zip(("driver", "pool", "device"), device, strict=True)
            taint = rule.spec.get("taint") or {}
            if taint.get("effect") == "NoExecute" and all(
                selector.get(part) in {None, "", value} for part, value in names
            ):
                found.append(msgspec.convert(taint, Taint))
        return found


def _driving(node: Object) -> list[Taint]:
    listed = [taint for taint in node.spec.get("taints") or () if taint.get("effect") == "NoExecute"]
    return msgspec.convert(listed, list[Taint])


def _tainted_devices(piece: Object) -> dict[tuple[str, str, str], list[Taint]]:
    found = {}
    for device in piece.spec.get("devices") or ():
        listed = [taint for taint in device.get("taints") or () if taint.get("effect") == "NoExecute"]
        if listed:
            identity = (piece.spec["driver"], piece.spec["pool"]["name"], device["name"])
            found[identity] = msgspec.convert(listed, list[Taint])
    return found
