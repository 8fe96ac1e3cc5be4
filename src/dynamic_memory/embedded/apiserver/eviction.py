# SPDX-License-Identifier: Apache-2.0
"""Eviction honours PodDisruptionBudgets, from what is there now.

There is no disruption controller: the budget is computed when somebody asks, from the pods that the selector takes and
their Ready conditions, and written into the budget's status, so that `kubectl get pdb` shows it. `maxUnavailable` is
counted against the pods that exist.
"""

from __future__ import annotations

import math
from typing import Any

from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.errors import Cause, StatusError, too_many_requests
from dynamic_memory.embedded.apiserver.records import Object, Record
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.selectors import labels_match
from dynamic_memory.embedded.apiserver.store import Changed
from dynamic_memory.embedded.apiserver.watch import Selection

__all__ = ["budget_status", "disruption"]

BUDGETS = StorageKey("policy", "poddisruptionbudgets")
PODS = StorageKey("", "pods")
_FINISHED = frozenset({"Succeeded", "Failed"})


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
            for record in core.store.select(BUDGETS, Selection(pod.key[0]))
            if labels_match(record.object.get("spec", {}).get("selector"), labels)
        ]
        if not budgets:
            return
        if len(budgets) > 1:
            text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise StatusError(500, "InternalError", text)
        budget = budgets[0]
        found = budget_status(budget.object, _pods(core, budget))
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
        found["disruptedPods"] = {
            **(budget.object.get("status") or {}).get("disruptedPods", {}),
            pod.key[1]: core.clock.stamp(),
        }
        changed = {**budget.object, "status": {**(budget.object.get("status") or {}), **found}}
        try:
            await core.store.put(BUDGETS, budget.key, changed, budget)
        except Changed:
            continue
        return


def _pods(core: Core, budget: Record) -> list[Object]:
    selector = budget.object.get("spec", {}).get("selector")
    found = core.store.select(PODS, Selection(budget.key[0]))
    return [
        record.object
        for record in found
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
