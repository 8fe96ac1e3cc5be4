# SPDX-License-Identifier: Apache-2.0
"""How high the limit over all pods has to be: what the kubelet would set without fabric memory, plus what is online.

The kubelet writes the limit once, at its start, from the memory that the host has then; if fabric memory is online at
that moment, it counts it. So what is remembered is the limit *without* fabric memory (`own`), found whenever a limit is
seen that is not one of ours:

- seen for the first time in this boot: the Node object tells how much memory the kubelet counted;
- seen later: the kubelet has just been restarted, and counted what is online now.

A simulated host's memory is nothing that a kubelet could have counted. The record is written before the limit is, and
names both the limit that was there and the new one, so that a limit of ours is never taken for the kubelet's after a
crash. It is keyed by the boot: a cgroup does not outlive it.

Lowering is dangerous on cgroup v2: a limit below use kills processes (kubernetes/kubernetes#141609). So the limit comes
down only as far as the use, and a slack above it, allow; it follows the use down, one step at each look. Pure.
"""

from __future__ import annotations

import msgspec

__all__ = ["SLACK", "Plan", "Record", "Seen", "plan"]

SLACK = 64 << 20
"""Bytes that a lowered limit leaves above the use, for what is allocated between reading and writing."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered over a restart of the updater.

    Attributes:
        boot: identity of the boot.
        own: the limit without fabric memory, bytes.
        ours: limits that are not the kubelet's doing.

    """

    boot: str
    own: int
    ours: tuple[int, ...]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What decides. All in bytes.

    Attributes:
        boot: identity of the boot.
        limit: the limit over all pods; None if there is none.
        usage: what pods use.
        online: fabric memory online.
        total: all memory online (MemTotal).
        counted: memory that the kubelet last told of in the Node object; None if that is not known.
        simulated: the host is simulated.

    """

    boot: str
    limit: int | None
    usage: int
    online: int
    total: int
    counted: int | None
    simulated: bool


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Attributes:
        record: to be remembered, before anything is written.
        write: the limit to set; None to leave it.
        wanted: the limit that is right; None if there shall be none.

    """

    record: Record | None
    write: int | None = None
    wanted: int | None = None


def plan(seen: Seen, record: Record | None) -> Plan:
    """Return what to do about the limit."""
    if seen.limit is None:
        return Plan(record=record)
    known = record if record is not None and record.boot == seen.boot else None
    if known is None:
        if not seen.simulated and seen.online and seen.counted is None:
            return Plan(record=record)  # the Node object will tell in a moment
        known = Record(seen.boot, seen.limit - _counted_at_first(seen), (seen.limit,))
    elif seen.limit not in known.ours:
        known = Record(seen.boot, seen.limit - (0 if seen.simulated else seen.online), (seen.limit,))
    wanted = known.own + seen.online
    write = _next(seen.limit, wanted, seen.usage)
    if write is None:
        return Plan(record=known, wanted=wanted)
    return Plan(record=msgspec.structs.replace(known, ours=(seen.limit, write)), write=write, wanted=wanted)


def _counted_at_first(seen: Seen) -> int:
    if seen.simulated or seen.counted is None:
        return 0
    return min(max(0, seen.counted - (seen.total - seen.online)), seen.online)


def _next(limit: int, wanted: int, usage: int) -> int | None:
    if wanted >= limit:
        return wanted if wanted > limit else None
    lowered = max(wanted, usage + SLACK)
    return lowered if lowered < limit else None
