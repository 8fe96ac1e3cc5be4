# SPDX-License-Identifier: Apache-2.0
"""Why does a claim not fit on a node? In words, for people.

A reporter listens to the search and remembers, for the request that the search got to last and could not serve, why the
devices were turned down. The reason told is the one that was closest to success: a lack of capacity before a taint
before devices in use before selectors that match nothing.
"""

from __future__ import annotations

from dynamic_memory.allocation.capacity import Taken
from dynamic_memory.allocation.demand import Demand, Want
from dynamic_memory.allocation.devices import Device
from dynamic_memory.allocation.errors import FatalAllocationError, NodeAllocationError
from dynamic_memory.allocation.inventory import Inventory
from dynamic_memory.allocation.matching import Matcher, taken
from dynamic_memory.allocation.reporters import Reason, Reporter
from dynamic_memory.allocation.search import Search
from dynamic_memory.allocation.views import NodeView
from dynamic_memory.quantity import Quantity

__all__ = ["Explaining", "explain_node"]

_CLOSEST = (
    Reason.CAPACITY,
    Reason.CONSTRAINT,
    Reason.COUNTERS,
    Reason.GROUPS,
    Reason.TAINT,
    Reason.IN_USE,
    Reason.REFUSED,
    Reason.NODE_OPERATIONS,
    Reason.PARTITIONS_OFF,
    Reason.ELSEWHERE,
)


class Explaining(Reporter):
    """Remembers why devices were turned down, for the deepest request that the search reached."""

    def __init__(self) -> None:
        self._depth: dict[int, int] = {}
        self._deepest = -1
        self._want: Want | None = None
        self._slot = 0
        self._rejected: dict[str, tuple[Device, Reason, str]] = {}

    def starting(self, view: NodeView, demand: Demand) -> None:  # noqa: ARG002 - signature of the hook
        """Number the requests."""
        requests = (request for claim in demand.claims for request in claim.requests)
        self._depth = {id(want): depth for depth, request in enumerate(requests) for want in request}
        self._deepest, self._want, self._slot = -1, None, 0

    def trying(self, want: Want, slot: int) -> None:
        """Keep to the deepest request."""
        depth = self._depth[id(want)]
        if depth > self._deepest or (want is self._want and slot > self._slot):
            self._deepest, self._want, self._slot = depth, want, slot
            if slot == 0:
                self._rejected = {}

    def rejected(self, want: Want, device: Device, reason: Reason, detail: str = "") -> None:
        """Remember why, for the deepest request."""
        if want is self._want:
            self._rejected["/".join(device.id)] = (device, reason, detail)

    def sentence(self, view: NodeView) -> str:
        """Say in words what was missing."""
        want = self._want
        if want is None:
            return _nothing(view, "no request could be tried")
        reasons = list(self._rejected.values())
        for reason in _CLOSEST:
            found = [(device, detail) for device, own, detail in reasons if own is reason]
            text = _phrase(want, reason, [device for device, _ in found], found[0][1]) if found else None
            if text is not None:
                return text
        if reasons:
            pools = ", ".join(dict.fromkeys(device.id[1] for device, _, _ in reasons))
            return f"pool {pools}: what is left is needed for other requests of the same claims"
        there = len(view.candidates(want.shape).devices)
        if there:
            return f"request {want.full_name}: {there} of {max(want.count, 1)} devices wanted are there"
        return _nothing(view, f"request {want.full_name}: no device matches class {want.class_.metadata.name}")


def explain_node(inventory: Inventory, matcher: Matcher, demand: Demand, node: str) -> str | None:
    """Return the first thing that is not met on a node, None if the claims fit."""
    reporter = Explaining()
    try:
        view = inventory.view(node)
        if Search(view, demand, matcher, inventory.features, reporter=reporter).run() is not None:
            return None
    except (FatalAllocationError, NodeAllocationError) as error:
        return str(error)
    return reporter.sentence(view)


def _nothing(view: NodeView, text: str) -> str:
    """Add the pools that could not be looked into."""
    if not view.pools:
        return f"{text}; the node sees no pool"
    notes = [
        f"pool {pool.key[1]} is invalid ({pool.invalid})"
        if pool.invalid
        else f"pool {pool.key[1]} is incomplete ({pool.have} of {pool.want} slices)"
        for pool in view.pools
        if pool.blocked
    ]
    return "; ".join((text, *notes))


def _phrase(want: Want, reason: Reason, devices: list[Device], detail: str) -> str | None:
    device = devices[0]
    pool = device.id[1]
    match reason:
        case Reason.CAPACITY:
            return _capacity(want, devices)
        case Reason.TAINT:
            taints = ", ".join(f"{taint.key}={taint.value}:{taint.effect}" for taint in device.taints)
            return f"pool {pool}: {_all_of(devices)} tainted, and that is not tolerated ({taints})"
        case Reason.CONSTRAINT:
            return f"pool {pool}: {_all_of(devices)} out because of the constraint on {detail}"
        case Reason.COUNTERS:
            return f"pool {pool}: too little is left of the shared counters for {_all_of(devices, verb=False)}"
        case Reason.REFUSED:
            return f"pool {pool}: {_all_of(devices)} without the capacity as requested"
    return f"pool {pool}: {_all_of(devices)} {reason.value}"


def _all_of(devices: list[Device], *, verb: bool = True) -> str:
    if len(devices) == 1:
        return f"device {devices[0].id[2]}" + (" is" if verb else "")
    return f"{len(devices)} devices" + (" are" if verb else "")


def _capacity(want: Want, devices: list[Device]) -> str | None:
    """Name the device that came closest, and the capacity that it lacks; None if other requests took what was there."""
    best: tuple[int, str] | None = None
    for device in devices:
        answer = taken(want.charge, device.kind) if want.charge is not None else None
        if not isinstance(answer, Taken):
            continue
        used = device.usage.used if device.usage is not None else {}
        for name, ceiling in answer.ceilings:
            lacking = used.get(name, 0) - ceiling
            if lacking > 0 and (best is None or lacking < best[0]):
                capacity = device.kind.capacities[name]
                free = Quantity(max(capacity.value.nano - used.get(name, 0), 0), capacity.value.format)
                wanted = Quantity(answer.amounts[name].nano, answer.amounts[name].format)
                what = "" if len(answer.ceilings) == 1 else f" of {name}"
                best = (lacking, f"pool {device.id[1]} has {free} of {wanted} wanted{what}")
    return None if best is None else best[1]
