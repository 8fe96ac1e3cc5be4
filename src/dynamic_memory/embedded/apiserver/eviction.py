# SPDX-License-Identifier: Apache-2.0
"""Eviction honours PodDisruptionBudgets, from what is there now.

There is no disruption controller: the budget is computed when somebody asks, from the pods that the selector takes and
their Ready conditions, and written into the budget's status, so that `kubectl get pdb` shows it. `maxUnavailable` is
counted against the pods that exist. Pods whose eviction was allowed a moment ago count as gone, so that two that come
at once do not share one permission.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.errors import Cause, StatusError, too_many_requests
from dynamic_memory.embedded.apiserver.records import Object, Record
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.selectors import labels_match
from dynamic_memory.embedded.apiserver.store import Changed
from dynamic_memory.embedded.apiserver.watch import Selection
from dynamic_memory.process import clock

__all__ = ["budget_status", "disruption"]

BUDGETS = StorageKey("policy", "poddisruptionbudgets")
PODS = StorageKey("", "pods")
_FINISHED = frozenset({"Succeeded", "Failed"})
DELETION_TIME = dt.timedelta(minutes=2)
"""How long an allowed eviction counts, if the pod does not go; as that of the disruption controller."""


async def disruption(core: Core, pod: Record, *, dry_run: bool) -> None:
    """Take the eviction of a pod from its budget.

    Raises:
        StatusError: 429, the budget is used up; 500, several budgets take the pod.

    """
    obj = pod.object
    status = obj.get("status") or {}
    if status.get("phase", "Pending") in {*_FINISHED, "Pending"} or obj["metadata"].get("deletionTimestamp"):
        return
    while True:
        labels = obj["metadata"].get("labels") or {}
        budgets = [
            record
            for record in _heads(core, BUDGETS, pod.key[0])
            if labels_match(record.object.get("spec", {}).get("selector"), labels)
        ]
        if not budgets:
            return
        if len(budgets) > 1:
            text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise StatusError(500, "InternalError", text)
        budget = budgets[0]
        pods = _pods(core, budget)
        found = budget_status(budget.object, pods)
        leaving = _leaving(core, budget, pods, pod.key[1])
        found["disruptionsAllowed"] -= len(leaving)
        if found["disruptionsAllowed"] <= 0:
            name = budget.key[1]
            cause = Cause(
                "DisruptionBudget",
                f"The disruption budget {name} needs {found['desiredHealthy']} healthy pods and has "
                f"{found['currentHealthy']} currently",
                "",
            )
            error = too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
            error.causes = (cause,)
            raise error
        if dry_run:
            return
        if _ready(obj):
            found["disruptionsAllowed"] -= 1
        found["disruptedPods"] = {**leaving, pod.key[1]: core.clock.stamp()}
        changed = {**budget.object, "status": {**(budget.object.get("status") or {}), **found}}
        try:
            await core.store.put(BUDGETS, budget.key, changed, budget)
        except Changed:
            await clock.sleep(0)  # whoever was faster has to come to its end
            continue
        return


def _heads(core: Core, storage: StorageKey, namespace: str) -> list[Record]:
    """Return the newest versions of the visible objects of a namespace: a write has to start from them."""
    heads = (core.store.head(storage, record.key) for record in core.store.select(storage, Selection(namespace)))
    return [head for head in heads if head is not None]


def _leaving(core: Core, budget: Record, pods: list[Object], name: str) -> dict[str, str]:
    """Return the healthy pods, but for one, whose eviction was allowed and that are not being deleted yet."""
    said = (budget.object.get("status") or {}).get("disruptedPods") or {}
    oldest = clock.rfc3339(core.clock.now() - DELETION_TIME)
    there = {pod["metadata"]["name"] for pod in pods if _ready(pod) and not pod["metadata"].get("deletionTimestamp")}
    return {pod: at for pod, at in said.items() if pod in there and pod != name and str(at) > oldest}


def _pods(core: Core, budget: Record) -> list[Object]:
    selector = budget.object.get("spec", {}).get("selector")
    return [
        record.object
        for record in _heads(core, PODS, budget.key[0])
        if labels_match(selector, record.object["metadata"].get("labels") or {})
        and (record.object.get("status") or {}).get("phase") not in _FINISHED
    ]


def budget_status(budget: Object, pods: list[Object]) -> dict[str, Any]:
    """Return the status of a budget for the pods that its selector takes."""
    spec = budget.get("spec") or {}
    healthy = sum(_ready(pod) and not pod["metadata"].get("deletionTimestamp") for pod in pods)
    expected = len(pods)
    if spec.get("maxUnavailable") is not None:
        desired = max(0, expected - _share(spec["maxUnavailable"], expected))
    else:
        desired = _share(spec.get("minAvailable", 0), expected)
    return {
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": max(0, healthy - desired),
        "observedGeneration": budget["metadata"].get("generation", 1),
    }


def _share(value: Any, whole: int) -> int:
    """Return a number or percentage (rounded up) of a whole."""
    if isinstance(value, str) and value.endswith("%"):
        return math.ceil(int(value[:-1]) * whole / 100)
    return int(value)


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)
