# SPDX-License-Identifier: Apache-2.0
"""Whether a node can give a running pod other resources in place, with the words of the kubelet (KEP-1287). Pure.

What a pod asks for is compared with what it was given. More than the node has is Infeasible: nothing more happens until
the pod asks for something else. More than is free is Deferred: tried again whenever something changes. A memory limit
never goes below what is in use; then it is InProgress, with an error, until it fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from dynamic_memory.embedded.kubelet.resources import Resources, amounts, fit, limit_of

__all__ = ["Verdict", "below_usage", "changed", "given", "judge", "restarts"]

RESIZABLE = ("cpu", "memory")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a resize."""

    kind: Literal["accept", "Deferred", "Infeasible"]
    message: str = ""


def given(resources: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
    """Return the part of a container's resources that can change, as texts; a limit alone is a request too."""
    source = resources or {}
    limits = {key: str(value) for key, value in (source.get("limits") or {}).items() if key in RESIZABLE}
    requests = {key: str(value) for key, value in (source.get("requests") or {}).items() if key in RESIZABLE}
    return {"requests": limits | requests, "limits": limits}


def changed(wanted: Mapping[str, Any], had: Mapping[str, Any]) -> bool:
    """Tell whether two results of `given` differ in value."""
    return any(amounts(wanted.get(part)) != amounts(had.get(part)) for part in ("requests", "limits"))


def judge(wanted: Resources, used: Resources, allocatable: Resources) -> Verdict:
    """Return what becomes of a pod that wants these sums beside what others use."""
    sums = {name: wanted[name] for name in RESIZABLE if name in wanted}
    if lack := fit(sums, {}, allocatable):
        text = f"Node didn't have enough capacity: {lack.name}, requested: {lack.requested}, capacity: {lack.capacity}"
        return Verdict(kind="Infeasible", message=text)
    if lack := fit(sums, used, allocatable):
        return Verdict(kind="Deferred", message=str(lack))
    return Verdict(kind="accept")


def below_usage(name: str, wanted: Mapping[str, Any], had: Mapping[str, Any], usage: int) -> str:
    """Return why the memory limit of a container cannot come down now; empty if it can."""
    new, old = limit_of(wanted), limit_of(had)
    if new is None or (old is not None and new >= old) or usage <= new:
        return ""
    return f"attempting to set container {name} memory limit ({new}) below current usage ({usage})"


def restarts(container: Mapping[str, Any], wanted: Mapping[str, Any], had: Mapping[str, Any]) -> bool:
    """Tell whether a container has to be restarted for its new resources (`resizePolicy`)."""
    policies = {each["resourceName"]: each["restartPolicy"] for each in container.get("resizePolicy") or ()}
    return any(
        amounts(wanted.get(part)).get(name) != amounts(had.get(part)).get(name)
        for name, policy in policies.items()
        if policy == "RestartContainer"
        for part in ("requests", "limits")
    )
