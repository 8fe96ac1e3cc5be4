# SPDX-License-Identifier: Apache-2.0
"""Which taints does a pod put up with? Pure; rules of `k8s.io/component-helpers/scheduling/corev1`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dynamic_memory.api.core import Taint, Toleration

__all__ = ["tolerates", "untolerated"]


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Tell whether a toleration is for a taint; an empty key with Exists is for all of them."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    match toleration.operator:
        case "" | "Equal":
            return toleration.key != "" and toleration.value == taint.value
        case "Exists":
            return True
    return False


def untolerated(taints: Sequence[Taint], tolerations: Iterable[Toleration], effects: frozenset[str]) -> Taint | None:
    """Return the first taint of these effects that nothing is for."""
    tolerations = list(tolerations)
    for taint in taints:
        if taint.effect in effects and not any(tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None
