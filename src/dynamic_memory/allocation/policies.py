# SPDX-License-Identifier: Apache-2.0
"""Which of several devices, and which of several nodes, to prefer.

`FIRST` is what Kubernetes does. `BEST_FIT` leaves as little as possible behind on what it takes, so that large pieces
stay whole; `SPREAD` leaves as much as possible, so that load is even. Ties keep the order of `FIRST`, hence results do
not depend on chance.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from fractions import Fraction

from dynamic_memory.allocation.capacity import Taken
from dynamic_memory.allocation.demand import Demand, Want
from dynamic_memory.allocation.devices import Device
from dynamic_memory.allocation.matching import taken
from dynamic_memory.allocation.pools import Candidates
from dynamic_memory.allocation.search import Choice, Order

__all__ = ["Policy", "device_order", "score"]

_ALTERNATIVES = 8
"""Longest prioritized list (resource.k8s.io/v1, FirstAvailableDeviceRequestMaxSize)."""

_FULL = 100
_NO_USE: dict[str, int] = {}


class Policy(enum.Enum):
    """How to choose where several choices work."""

    FIRST = "first"
    BEST_FIT = "best-fit"
    SPREAD = "spread"


def device_order(policy: Policy) -> Order | None:
    """Return the order in which a policy tries devices; None if it is that of the inventory."""
    if policy is Policy.FIRST:
        return None
    sign = 1 if policy is Policy.BEST_FIT else -1

    def order(want: Want, candidates: Candidates) -> Candidates:
        left = [sign * _left(want, device) for device in candidates.devices]
        ranking = sorted(range(len(left)), key=left.__getitem__)
        ordered = Candidates()
        for position in ranking:
            ordered.add(candidates.devices[position], candidates.pools[position], None)
        return ordered

    return order


def _left(want: Want, device: Device) -> Fraction:
    """Return which part of the device's capacity, over all that are asked for, stays free beside the want."""
    answer = taken(want.charge, device.kind) if want.charge is not None else None
    if want.charge is None or not isinstance(answer, Taken) or not answer.ceilings:
        return Fraction(0)
    used = device.usage.used if device.usage is not None else _NO_USE
    named = want.charge.requests or answer.amounts
    left = [ceiling - used.get(name, 0) for name, ceiling in answer.ceilings if name in named]
    return Fraction(sum(left))


def score(policy: Policy, demand: Demand, selected: Sequence[Want], solution: Sequence[Sequence[Choice]]) -> int:
    """Return how good a solution is compared with those on other nodes; more is better.

    With FIRST it is the score of the scheduler: for each prioritized list, 8 less the index of the alternative. With
    the others it is how full (or empty) the devices are afterwards, 0 to 100 on average.
    """
    if policy is Policy.FIRST:
        requests = [request for claim in demand.claims for request in claim.requests if request[0].parent]
        return sum(
            _ALTERNATIVES - next(index for request in requests for index, own in enumerate(request) if own is want)
            for want in selected
        )
    fills = [_fill(choice) for choices in solution for choice in choices]
    fill = sum(fills, Fraction(0)) / len(fills) if fills else Fraction(0)
    return round(_FULL * (fill if policy is Policy.BEST_FIT else 1 - fill))


def _fill(choice: Choice) -> Fraction:
    """Return how much of the device is in use afterwards, by the capacity that is fullest."""
    if choice.amounts is None:
        return Fraction(1)
    used = choice.device.usage.used if choice.device.usage is not None else _NO_USE
    capacities = choice.device.kind.capacities
    return max(
        (
            Fraction(used.get(name, 0) + amount.nano, capacities[name].value.nano)
            for name, amount in choice.amounts.items()
            if capacities[name].value.nano > 0
        ),
        default=Fraction(0),
    )
