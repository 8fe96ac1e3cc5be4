# SPDX-License-Identifier: Apache-2.0
"""How many pods old and new sets of a Deployment should have next. Pure; rules of `pkg/controller/deployment`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Plan", "Replicas", "limits", "plan"]


class Replicas(NamedTuple):
    """Pods of one set: asked for, there, available."""

    wanted: int
    there: int
    available: int


class Plan(NamedTuple):
    """What to ask of the new set, and of each old one."""

    new: int
    old: list[int]


def limits(surge: str | int, unavailable: str | int, replicas: int) -> tuple[int, int]:
    """Return `maxSurge` (rounded up) and `maxUnavailable` (rounded down) in pods; not both are 0."""
    more = _share(surge, replicas, up=True)
    fewer = _share(unavailable, replicas, up=False)
    return more, 1 if more == 0 and fewer == 0 else fewer


def plan(desired: int, new: Replicas, old: Sequence[Replicas], *, surge: int, unavailable: int) -> Plan:
    """Return the next step of a rolling update; the oldest set comes first in `old`."""
    total = new.wanted + sum(item.wanted for item in old)
    grown = new.wanted
    if new.wanted > desired:
        grown = desired
    elif new.wanted < desired:
        grown = min(desired, new.wanted + max(0, desired + surge - total))
    total += grown - new.wanted
    least = desired - unavailable
    spare = total - least - max(0, grown - new.available)
    left = [item.wanted for item in old]
    # Pods that are not available anyhow go first.
    for index, item in enumerate(old):
        drop = min(max(0, spare), max(0, item.wanted - item.available))
        left[index] -= drop
        spare -= drop
    healthy = new.available + sum(item.available for item in old)
    spare = min(spare, healthy - least)
    for index in range(len(left)):
        drop = min(max(0, spare), left[index])
        left[index] -= drop
        spare -= drop
    return Plan(grown, left)


def _share(value: str | int, replicas: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    exact = int(value.rstrip("%")) * replicas / 100
    return math.ceil(exact) if up else math.floor(exact)
