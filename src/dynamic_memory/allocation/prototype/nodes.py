# SPDX-License-Identifier: Apache-2.0
"""What a Node object itself says against a pod: unschedulable, labels, taints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_memory.api import core

__all__ = ["unfit"]


def unfit(node: core.Node, pod: Mapping[str, Any]) -> str:
    """Return why a node is not for a pod; empty if nothing speaks against it.

    Only what needs no other pods is looked at: the node's mark, its taints, and the pod's nodeSelector.
    """
    spec = pod.get("spec") or {}
    if node.spec.unschedulable:
        return "the node is unschedulable"
    wanted = spec.get("nodeSelector") or {}
    for key, value in wanted.items():
        if node.metadata.labels.get(key) != value:
            return f"the node has no label {key}={value}"
    tolerations = [entry for entry in spec.get("tolerations") or () if isinstance(entry, dict)]
    for taint in node.spec.taints:
        if taint.effect in {"NoSchedule", "NoExecute"} and not any(_tolerates(entry, taint) for entry in tolerations):
            return f"the node has the taint {taint.key}={taint.value}:{taint.effect}"
    return ""


def _tolerates(toleration: Mapping[str, Any], taint: core.Taint) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.effect:
        return False
    key, exists = toleration.get("key"), toleration.get("operator") == "Exists"
    if not key:
        return exists
    return bool(key == taint.key and (exists or (toleration.get("value") or "") == taint.value))
