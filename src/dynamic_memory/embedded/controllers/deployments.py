# SPDX-License-Identifier: Apache-2.0
"""Deployments: a ReplicaSet for each version of the template, and the way from one version to the next.

Rolling update and recreate, revisions (so that `kubectl rollout history` and `undo` work), pause, progress deadline and
status as of `pkg/controller/deployment`. A change of `replicas` in the middle of a rollout is not spread over old and
new sets in proportion: the rollout simply goes on towards the new number.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.controllers.controller import Caches, Controller, Deadlines, age_of
from dynamic_memory.embedded.controllers.objects import (
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    Object,
    condition,
    controller_of,
    is_finished,
    key_of,
    owner_reference,
    split,
    with_condition,
)
from dynamic_memory.embedded.controllers.pods import template_hash
from dynamic_memory.embedded.controllers.rollout import Replicas, limits, plan
from dynamic_memory.kube.errors import AlreadyExists
from dynamic_memory.kube.informer import Change
from dynamic_memory.process import clock

__all__ = ["DeploymentController"]

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"
TIMED_OUT = "ProgressDeadlineExceeded"
_NOT_COPIED = frozenset({"kubectl.kubernetes.io/last-applied-configuration", REVISION, DESIRED, MOST})


class DeploymentController(Controller):
    """See the module; keys are `namespace/name`."""

    name = "deployment-controller"

    def __init__(self, caches: Caches) -> None:
        super().__init__(caches)
        self._deployments = caches.of(DEPLOYMENTS)
        self._sets = caches.of(REPLICA_SETS)
        self._pods = caches.of(PODS)
        self._deadlines = Deadlines()
        self._deployments.subscribe(lambda change: self.queue.add(key_of(change.object)))
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(self._pod_changed)

    def _set_changed(self, change: Change[Object]) -> None:
        owner = controller_of(change.object)
        if owner is not None and owner[0] == "Deployment":
            self.queue.add(f"{change.object.metadata.namespace}/{owner[1]}")

    def _pod_changed(self, change: Change[Object]) -> None:
        # Recreate waits for the last old pod to go.
        owner = controller_of(change.object)
        if change.type == "deleted" and owner is not None and owner[0] == "ReplicaSet":
            found = self._sets.get(owner[1], change.object.metadata.namespace)
            if found is not None:
                self._set_changed(Change("modified", found))

    async def reconcile(self, key: str) -> None:
        """Work on a deployment."""
        namespace, name = split(key)
        owner = self._deployments.get(name, namespace)
        if owner is None:
            self._deadlines.forget(key)
        if owner is None or owner.metadata.deletion_timestamp is not None:
            return
        sets = sorted(self._sets.by_index("owner", owner.metadata.uid), key=_revision)
        new = next((item for item in sets if _plain(item.spec["template"]) == _plain(owner.spec["template"])), None)
        old = [item for item in sets if item is not new]
        paused = bool(owner.spec.get("paused"))
        if not paused:
            new = await self._ready_new(key, owner, new, old)
        recreate = (owner.spec.get("strategy") or {}).get("type") == "Recreate"
        if paused:
            await self._scale_paused(key, owner, new, old)
        elif recreate:
            await self._recreate(key, owner, new, old)
        else:
            await self._roll(key, owner, new, old)
        await self._clean_up(owner, old)
        await self._tell(key, owner, new, old)

    async def _ready_new(self, key: str, owner: Object, new: Object | None, old: list[Object]) -> Object:
        """Return the set of the present template, made if need be, with the highest revision."""
        revision = max((_revision(item) for item in old), default=0) + 1
        if new is None:
            new = await self._make(key, owner, revision)
        elif _revision(new) < revision:
            new = await self._annotate(key, REPLICA_SETS, new, {REVISION: str(revision)})
        if owner.metadata.annotations.get(REVISION) != new.metadata.annotations.get(REVISION):
            text = new.metadata.annotations[REVISION]
            await self._annotate(key, DEPLOYMENTS, owner, {REVISION: text})
        return new

    async def _make(self, key: str, owner: Object, revision: int) -> Object:
        template = owner.spec["template"]
        name = template_hash(template, owner.status.get("collisionCount", 0))
        meta = template.get("metadata") or {}
        labels = {**(meta.get("labels") or {}), HASH_LABEL: name}
        selector = owner.spec["selector"]
        copied = {k: v for k, v in owner.metadata.annotations.items() if k not in _NOT_COPIED}
        desired = owner.spec.get("replicas", 1)
        body = {
            "metadata": {
                "name": f"{owner.metadata.name}-{name}",
                "namespace": owner.metadata.namespace,
                "labels": labels,
                "annotations": {**copied, REVISION: str(revision), DESIRED: str(desired)},
                "ownerReferences": [owner_reference(DEPLOYMENTS, owner)],
            },
            "spec": {
                "replicas": 0,
                "minReadySeconds": owner.spec.get("minReadySeconds", 0),
                "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: name}},
                "template": {**template, "metadata": {**meta, "labels": labels}},
            },
        }
        try:
            made = await self.kube.create(REPLICA_SETS, body, namespace=owner.metadata.namespace)
        except AlreadyExists:
            # Of somebody else, or ours and not in the cache yet: then the next try finds it.
            there = await self.kube.get(REPLICA_SETS, body["metadata"]["name"], owner.metadata.namespace)
            mine = controller_of(there)
            if mine is not None and mine[2] == owner.metadata.uid:
                return there
            await self.write_status(DEPLOYMENTS, owner, {"collisionCount": owner.status.get("collisionCount", 0) + 1})
            raise
        self.created(key, REPLICA_SETS, made)
        return made

    async def _annotate(self, key: str, kind: Any, obj: Object, annotations: dict[str, str]) -> Object:
        body = {"metadata": {"uid": obj.metadata.uid, "annotations": annotations}}
        changed: Object = await self.kube.patch(kind, obj.metadata.name, body, namespace=obj.metadata.namespace)
        self.created(key, kind, changed)
        return changed

    # --- steps

    async def _roll(self, key: str, owner: Object, new: Object | None, old: list[Object]) -> None:
        if new is None:
            return
        desired = owner.spec.get("replicas", 1)
        rolling = (owner.spec.get("strategy") or {}).get("rollingUpdate") or {}
        surge, unavailable = limits(rolling.get("maxSurge", "25%"), rolling.get("maxUnavailable", "25%"), desired)
        step = plan(desired, _replicas(new), [_replicas(item) for item in old], surge=surge, unavailable=unavailable)
        await self._scale(key, owner, new, step.new)
        for item, wanted in zip(old, step.old, strict=True):
            await self._scale(key, owner, item, wanted)

    async def _recreate(self, key: str, owner: Object, new: Object | None, old: list[Object]) -> None:
        for item in old:
            await self._scale(key, owner, item, 0)
        left = any(not is_finished(pod) for item in old for pod in self._pods.by_index("owner", item.metadata.uid))
        if not left and not any(item.spec.get("replicas", 1) for item in old) and new is not None:
            await self._scale(key, owner, new, owner.spec.get("replicas", 1))

    async def _scale_paused(self, key: str, owner: Object, new: Object | None, old: list[Object]) -> None:
        """Follow a change of `replicas` with the set that is in charge: the newest with pods."""
        desired = owner.spec.get("replicas", 1)
        running = [item for item in (*old, *([new] if new else [])) if item.spec.get("replicas", 1)]
        if len(running) == 1:
            await self._scale(key, owner, running[0], desired)
        elif not running and new is not None:
            await self._scale(key, owner, new, desired)

    async def _scale(self, key: str, owner: Object, item: Object, wanted: int) -> None:
        before = item.spec.get("replicas", 1)
        if before == wanted:
            return
        body = {"metadata": {"uid": item.metadata.uid}, "spec": {"replicas": wanted}}
        changed = await self.kube.patch(REPLICA_SETS, item.metadata.name, body, namespace=item.metadata.namespace)
        self.created(key, REPLICA_SETS, changed)
        way = "up" if wanted > before else "down"
        text = f"Scaled {way} replica set {item.metadata.name} from {before} to {wanted}"
        await self.say(DEPLOYMENTS, owner, "Normal", "ScalingReplicaSet", text)

    async def _clean_up(self, owner: Object, old: list[Object]) -> None:
        limit = owner.spec.get("revisionHistoryLimit", 10)
        empty = [
            item
            for item in old
            if not item.spec.get("replicas", 1)
            and not item.status.get("replicas")
            and item.metadata.deletion_timestamp is None
        ]
        for item in empty[: max(0, len(empty) - limit)]:
            await self.delete(REPLICA_SETS, item)

    # --- status

    async def _tell(self, key: str, owner: Object, new: Object | None, old: list[Object]) -> None:
        everyone = [*old, *([new] if new is not None else [])]
        # What was scaled or made just now is in the cache later, and tells then.
        everyone = [self._sets.get(item.metadata.name, item.metadata.namespace) or item for item in everyone]
        total = sum(item.status.get("replicas", 0) for item in everyone)
        available = sum(item.status.get("availableReplicas", 0) for item in everyone)
        updated = 0 if new is None else everyone[-1].status.get("replicas", 0)
        desired = owner.spec.get("replicas", 1)
        status: dict[str, Any] = {
            "observedGeneration": owner.metadata.generation,
            "replicas": total or None,
            "updatedReplicas": updated or None,
            "readyReplicas": sum(item.status.get("readyReplicas", 0) for item in everyone) or None,
            "availableReplicas": available or None,
            "unavailableReplicas": max(0, desired - available) or None,
        }
        status["conditions"] = self._conditions(key, owner, new, status, desired)
        await self.write_status(DEPLOYMENTS, owner, status)

    def _conditions(
        self, key: str, owner: Object, new: Object | None, status: dict[str, Any], desired: int
    ) -> list[dict[str, Any]]:
        now = clock.rfc3339(clock.now())
        available, total = status["availableReplicas"] or 0, status["replicas"] or 0
        updated = status["updatedReplicas"] or 0
        rolling = (owner.spec.get("strategy") or {}).get("rollingUpdate") or {}
        _, unavailable = limits(rolling.get("maxSurge", "25%"), rolling.get("maxUnavailable", "25%"), desired)
        enough = available >= desired - unavailable
        conditions = with_condition(
            owner.status.get("conditions") or (),
            "Available",
            "True" if enough else "False",
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            f"Deployment {'has' if enough else 'does not have'} minimum availability.",
            now,
        )
        name = "" if new is None else new.metadata.name
        pause = _pause(owner)
        if pause:
            self._deadlines.forget(key)  # it begins anew when the rollout goes on
            conditions = with_condition(conditions, "Progressing", *pause, now)
            return _dated(conditions, owner, now, moved=condition(owner, "Progressing").get("reason") != pause[1])
        if new is None:
            return conditions
        if updated == desired == total == available:
            self._deadlines.forget(key)
            state = ("True", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
        else:
            progress = (name, updated, total, available)
            seconds = owner.spec.get("progressDeadlineSeconds", 600)
            moved = age_of(condition(owner, "Progressing").get("lastUpdateTime"))
            left = self._deadlines.left(key, progress, seconds - (moved if _same(owner, status) else 0.0))
            if left > 0:
                self.queue.add(key, left)
                state = ("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
            else:
                text = f'ReplicaSet "{name}" has timed out progressing.'
                state = ("False", TIMED_OUT, text)
        old = condition(owner, "Progressing")
        conditions = with_condition(conditions, "Progressing", *state, now)
        same = (old.get("status"), old.get("reason")) == state[:2] and _same(owner, status)
        return _dated(conditions, owner, now, moved=not same)


def _pause(owner: Object) -> tuple[str, str, str] | None:
    """Return what the condition Progressing says of a rollout that is paused, or was a moment ago.

    That it has timed out stays what it says.
    """
    reason = condition(owner, "Progressing").get("reason")
    if owner.spec.get("paused"):
        return None if reason == TIMED_OUT else ("Unknown", "DeploymentPaused", "Deployment is paused")
    return ("Unknown", "DeploymentResumed", "Deployment is resumed") if reason == "DeploymentPaused" else None


def _dated(conditions: list[dict[str, Any]], owner: Object, now: str, *, moved: bool) -> list[dict[str, Any]]:
    """Return conditions with the times of their last updates; `moved` is that of Progressing."""
    for item in conditions:
        before = condition(owner, item["type"])
        same = not moved if item["type"] == "Progressing" else _equal(before, item)
        item["lastUpdateTime"] = before.get("lastUpdateTime", now) if same else now
    return conditions


def _same(owner: Object, status: dict[str, Any]) -> bool:
    """Tell whether the rollout has not moved."""
    return all(
        (owner.status.get(name) or 0) == (status[name] or 0)
        for name in ("replicas", "updatedReplicas", "availableReplicas")
    )


def _equal(before: Any, item: dict[str, Any]) -> bool:
    return bool((before.get("status"), before.get("reason")) == (item["status"], item["reason"]))


def _replicas(item: Object) -> Replicas:
    wanted = item.spec.get("replicas", 1)
    return Replicas(wanted, item.status.get("replicas", 0), min(wanted, item.status.get("availableReplicas", 0)))


def _revision(item: Object) -> int:
    text = item.metadata.annotations.get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def _plain(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template without the label that a set adds."""
    meta = template.get("metadata") or {}
    labels = {name: value for name, value in (meta.get("labels") or {}).items() if name != HASH_LABEL}
    return {**template, "metadata": {**meta, "labels": labels}}
