# SPDX-License-Identifier: Apache-2.0
"""Whether a node can give a running pod other resources in place, in which steps, with the words of the kubelet. Pure.

What a pod asks for is compared with what it was given. More than the node has is Infeasible: nothing more happens until
the pod asks for something else. More than is free is Deferred: tried again whenever something changes. A memory limit
never goes below what is in use; then it is InProgress, with an error, until it fits.

A pod's cgroup grows before its containers do, and shrinks after them; memory comes before cpu; of the containers those
come first that get less. (KEP-1287; `doPodResizeAction` of pkg/kubelet/kuberuntime, the same in 1.36 and 1.37.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from dynamic_memory.embedded.kubelet.resources import Resources, amounts, fit, limit_of, pod_limit, requests

__all__ = [
    "PERIOD",
    "Change",
    "PodCgroup",
    "Step",
    "Verdict",
    "changed",
    "given",
    "judge",
    "partly",
    "pod_cgroup",
    "restarts",
    "steps",
    "too_low",
]

RESIZABLE = ("memory", "cpu")
PERIOD = 100_000
"""Microseconds in which a quota of cpu counts."""
LEAST_SHARES, LEAST_QUOTA = 2, 1000
UNLIMITED = -1
"""What the kubelet takes for the limit of a cgroup without one: to limit it counts as more."""


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


class PodCgroup(msgspec.Struct, frozen=True, kw_only=True):
    """What the kubelet writes into the cgroup of a pod.

    Attributes:
        memory: limit in bytes; None for none.
        quota: microseconds of cpu in a `PERIOD`; None for no limit.
        shares: weight of its cpu requests.

    """

    memory: int | None = None
    quota: int | None = None
    shares: int = LEAST_SHARES


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A running container, what it shall have, and what it has; see `given`."""

    name: str
    wanted: Mapping[str, Mapping[str, str]]
    had: Mapping[str, Mapping[str, str]]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a resize.

    Attributes:
        resource: memory or cpu.
        container: that gets its new amount of it; empty for the pod.
        pod: what the cgroup of the pod gets then; None for a container.

    """

    resource: str
    container: str = ""
    pod: PodCgroup | None = None


def pod_cgroup(spec: Mapping[str, Any], allocated: Mapping[str, Mapping[str, Any]]) -> PodCgroup:
    """Return what the cgroup of a pod has to have when its containers have what they were given (by name)."""
    numbers = {name: amounts(each.get("requests")) for name, each in allocated.items()}
    cpu = pod_limit(spec, allocated, "cpu")
    return PodCgroup(
        memory=pod_limit(spec, allocated),
        quota=None if cpu is None else max(LEAST_QUOTA, cpu * PERIOD // 1000),
        shares=max(LEAST_SHARES, requests(spec, numbers).get("cpu", 0) * 1024 // 1000),
    )


def steps(had: PodCgroup, wants: PodCgroup, changes: Sequence[Change]) -> Iterator[Step]:
    """Yield the steps of a resize in their order; a limit that a pod had and has no more stays."""
    now = had
    for resource, limit in (("memory", "memory"), ("cpu", "quota")):
        growth: list[str] = []
        shrinking: list[str] = []
        before, after = (getattr(each, limit) for each in (had, wants))
        if after is not None and after != before:
            (growth if after > (UNLIMITED if before is None else before) else shrinking).append(limit)
        if resource == "cpu" and wants.shares > had.shares:
            growth.append("shares")
        elif resource == "cpu" and wants.shares < had.shares:
            shrinking.insert(0, "shares")
        for name in growth:
            now = msgspec.structs.replace(now, **{name: getattr(wants, name)})
            yield Step(resource=resource, pod=now)
        yield from (Step(resource=resource, container=name) for name in _ordered(changes, resource))
        for name in shrinking:
            now = msgspec.structs.replace(now, **{name: getattr(wants, name)})
            yield Step(resource=resource, pod=now)


def _ordered(changes: Sequence[Change], resource: str) -> list[str]:
    names: list[str] = []
    for change in changes:
        for part in ("limits", "requests"):
            new, old = (amounts(each.get(part)).get(resource, 0) for each in (change.wanted, change.had))
            if new != old:
                names.insert(0 if new < old else len(names), change.name)
                break
    return names


def partly(wanted: Mapping[str, Any], had: Mapping[str, Any], resource: str) -> dict[str, dict[str, str]]:
    """Return what a container has when it got what it shall have of one resource."""
    found = {part: {key: text for key, text in had[part].items() if key != resource} for part in ("requests", "limits")}
    for part, values in found.items():
        if resource in wanted[part]:
            values[resource] = wanted[part][resource]
    return found


def too_low(had: PodCgroup, wants: PodCgroup, changes: Sequence[Change], usage: Mapping[str, int]) -> str:
    """Return why memory limits cannot come down now; empty if they can.

    Args:
        had: what the pod's cgroup has.
        wants: what it shall have.
        changes: of containers.
        usage: bytes in use, by container.

    """
    errors = []
    used = sum(usage.values())
    if wants.memory is not None and (had.memory is None or wants.memory < had.memory) and used >= wants.memory:
        errors.append(f"attempting to set pod memory limit ({wants.memory}) below current usage ({used})")
    for change in changes:
        new, old = limit_of(change.wanted), limit_of(change.had)
        lower = new is not None and (old is None or new < old)
        if new is not None and lower and usage.get(change.name, 0) >= new:
            # the kubelet names the use of the whole pod here, too
            errors.append(
                f'attempting to set container "{change.name}" memory limit ({new}) below current usage ({used})'
            )
    if not errors:
        return ""
    return f"cannot decrease memory limits: {errors[0] if len(errors) == 1 else '[' + ', '.join(errors) + ']'}"


def restarts(container: Mapping[str, Any], wanted: Mapping[str, Any], had: Mapping[str, Any]) -> bool:
    """Tell whether a container has to be restarted for its new resources (`resizePolicy`)."""
    policies = {each["resourceName"]: each["restartPolicy"] for each in container.get("resizePolicy") or ()}
    return any(
        amounts(wanted.get(part)).get(name) != amounts(had.get(part)).get(name)
        for name, policy in policies.items()
        if policy == "RestartContainer"
        for part in ("requests", "limits")
    )
