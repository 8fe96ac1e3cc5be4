# SPDX-License-Identifier: Apache-2.0
"""What is missing for pods to profit from fabric memory: from facts to findings, each with a way to mend it. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from dynamic_memory.host.planner import AUTO_ONLINE_SAFE
from dynamic_memory.quantity import format_bytes

__all__ = ["Check", "Facts", "Finding", "PodLimit", "findings"]

MAX_PODS = 20


class Check(enum.StrEnum):
    """What is looked at; also the reason in the node's condition. The worst first."""

    HOST = "HostUnreadable"
    """The kernel's files about memory cannot be read."""
    CEILING_MISSING = "CeilingMissing"
    """There is no cgroup of pods where it is looked for."""
    CEILING = "CeilingTooLow"
    """The limit over all pods is lower than the memory that is there, and cannot be raised."""
    AUTO_ONLINE = "AutoOnline"
    """The kernel brings new memory online by itself, where it could not be taken back."""
    POD_LIMIT = "PodLimitTooLow"
    """A pod's own memory limit does not cover its claim."""

    @property
    def blocks(self) -> bool:
        """Whether no pod of the node can profit."""
        return self is not Check.POD_LIMIT


class PodLimit(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A pod with fabric memory. Bytes.

    Attributes:
        pod: `namespace/name`.
        limit: its memory limit; None if it has none.
        claimed: fabric memory of its claims.

    """

    pod: str
    limit: int | None
    claimed: int

    @property
    def covers(self) -> bool:
        """Whether the pod may use what it claims."""
        return self.limit is None or self.limit >= self.claimed


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the node.

    Attributes:
        host_error: why the host's memory cannot be read.
        auto_online: what the kernel does with new blocks; None if unknown.
        ceiling_kept: the limit over all pods is this updater's task.
        ceiling_missing: there is no cgroup of pods.
        ceiling_error: why the limit could not be read or set.
        ceiling: the limit, bytes; None if there is none.
        ceiling_wanted: the limit that is right, bytes; None if there shall be none.
        pods: pods with fabric memory on this node.

    """

    host_error: str = ""
    auto_online: str | None = None
    ceiling_kept: bool = True
    ceiling_missing: bool = False
    ceiling_error: str = ""
    ceiling: int | None = None
    ceiling_wanted: int | None = None
    pods: Sequence[PodLimit] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is missing.

    Attributes:
        check: what was looked at.
        what: is wrong.
        why: that matters.
        mend: how to put it right.

    """

    check: Check
    what: str
    why: str
    mend: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; {self.mend}"


def findings(facts: Facts) -> list[Finding]:
    """Return everything that is missing, the worst first."""
    found = [*_host(facts), *_ceiling(facts), *_auto_online(facts), *_pods(facts)]
    order = list(Check)
    return sorted(found, key=lambda finding: order.index(finding.check))


def _host(facts: Facts) -> list[Finding]:
    if not facts.host_error:
        return []
    return [
        Finding(
            check=Check.HOST,
            what=facts.host_error,
            why="what is online cannot be told",
            mend="mount the host's /sys and /proc into the updater",
        )
    ]


def _ceiling(facts: Facts) -> list[Finding]:
    if not facts.ceiling_kept:
        return []
    if facts.ceiling_missing:
        return [
            Finding(
                check=Check.CEILING_MISSING,
                what=facts.ceiling_error,
                why="the limit over all pods cannot be raised",
                mend="set ceiling.cgroupRoot, and ceiling.path if the kubelet has a --cgroup-root",
            )
        ]
    low = facts.ceiling is not None and facts.ceiling_wanted is not None and facts.ceiling < facts.ceiling_wanted
    if not low and not facts.ceiling_error:
        return []
    limit = "unknown" if facts.ceiling is None else format_bytes(facts.ceiling)
    wanted = "" if facts.ceiling_wanted is None else f", {format_bytes(facts.ceiling_wanted)} would be right"
    error = f" ({facts.ceiling_error})" if facts.ceiling_error else ""
    return [
        Finding(
            check=Check.CEILING,
            what=f"the limit over all pods is {limit}{wanted}{error}",
            why="pods together cannot use more than that",
            mend="let the updater write the cgroup files of the host",
        )
    ]


def _auto_online(facts: Facts) -> list[Finding]:
    if facts.auto_online is None or facts.auto_online in AUTO_ONLINE_SAFE:
        return []
    return [
        Finding(
            check=Check.AUTO_ONLINE,
            what=f"auto_online_blocks is {facts.auto_online}",
            why="new memory would land where it cannot be taken back, so none is attached",
            mend="write offline to /sys/devices/system/memory/auto_online_blocks",
        )
    ]


def _pods(facts: Facts) -> list[Finding]:
    return [
        Finding(
            check=Check.POD_LIMIT,
            what=f"pod {pod.pod} has a memory limit of {format_bytes(pod.limit or 0)} and claims "
            f"{format_bytes(pod.claimed)}",
            why="it cannot use all of its claim",
            mend="raise its memory limit to the claim or more",
        )
        for pod in sorted(pod for pod in facts.pods if not pod.covers)[:MAX_PODS]
    ]
