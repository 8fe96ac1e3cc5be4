# SPDX-License-Identifier: Apache-2.0
"""What a search has taken so far, on top of what claims have: each device can be given back exactly.

Checks stand in the order of upstream, because some of them are errors: who has the device, node operations, groups and
counters, taints, constraints, room. Source: `k8s.io/dynamic-resource-allocation` 0.37.
"""

from __future__ import annotations

from dynamic_memory.allocation.amounts import Amount
from dynamic_memory.allocation.constraints import Constraint, find_attribute
from dynamic_memory.allocation.demand import Demand, Want
from dynamic_memory.allocation.devices import Device, DeviceId
from dynamic_memory.allocation.errors import CapacityUnusable, InvalidRequest, UnsatisfiableConstraint
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.groups import Groups, Saved
from dynamic_memory.allocation.matching import Matcher, SelectorProblem, taken
from dynamic_memory.allocation.pools import Counter, Pool, PoolKey
from dynamic_memory.allocation.reporters import Reason, Reporter
from dynamic_memory.allocation.views import NodeView
from dynamic_memory.api import resource

__all__ = ["Choice", "Tentative", "Undo"]

_NO_USE: dict[str, int] = {}
_NOBODY: set[int] = set()


class Choice:
    """One device of a solution, and what a share of it takes; None if it is taken whole."""

    __slots__ = ("amounts", "device", "pool", "want")

    def __init__(self, want: Want, device: Device, pool: Pool, amounts: dict[str, Amount] | None) -> None:
        self.want = want
        self.device = device
        self.pool = pool
        self.amounts = amounts


class Undo:
    """What taking a device changed."""

    __slots__ = ("constraints", "counted", "device", "existed", "groups", "marked", "pool", "share")

    def __init__(self, device: Device, pool: Pool) -> None:
        self.device = device
        self.pool = pool
        self.constraints: list[Constraint] = []
        self.counted = False
        self.groups: Saved | None = None
        self.marked = False
        self.share: dict[str, Amount] | None = None
        self.existed = False


class Tentative:
    """Devices taken during one search on one node; `chosen` lists them by claim."""

    def __init__(
        self, view: NodeView, demand: Demand, matcher: Matcher, features: Features, reporter: Reporter | None
    ) -> None:
        self._view = view
        self._provider = matcher.provider
        self._features = features
        self._report = reporter
        # Only the experimental allocator looks at node operations at all.
        self._skip_rule = features.variant == "experimental"
        self._skips = features.optional_node_operations and view.optional_operations
        self.chosen: list[list[Choice]] = [[] for _ in demand.claims]
        self._owners: dict[DeviceId, set[int]] = {}
        self._shares: dict[DeviceId, dict[str, int]] = {}
        self._counters: dict[PoolKey, dict[Counter, int]] = {}
        self._groups = Groups()
        self._derived: dict[tuple[DeviceId, str], resource.DeviceAttribute] = {}
        self._constraints = [
            [Constraint(link, self.attribute, lists=features.list_type_attributes) for link in claim.links]
            for claim in demand.claims
        ]

    def bound_by(self, claim: int, want: Want) -> list[str]:
        """Return the attributes of the constraints that a want of a claim is under."""
        return [constraint.attribute for constraint in self._constraints[claim] if constraint.binds(want)]

    def mark(self, device: Device) -> object:
        """Return what this search has taken of a device; equal for devices of which it has taken the same."""
        own = self._shares.get(device.id)
        owners = self._owners.get(device.id)
        return (None if own is None else tuple(sorted(own.items())), tuple(sorted(owners)) if owners else None)

    def in_use(self, claim: int, want: Want, device: Device) -> bool:
        """Tell whether the device is out for a want of a claim because somebody has it."""
        if want.admin:
            # Others do not matter, but one claim gets a device once.
            return claim in self._owners.get(device.id, _NOBODY)
        usage = device.usage
        if usage is not None and usage.exclusive(shares=not self._features.consumable_capacity):
            return True
        return bool(self._owners.get(device.id))

    def used(self, device: Device) -> dict[str, int]:
        """Return what is taken of the capacities, by others and by this search, in billionths."""
        used = device.usage.used if device.usage is not None else _NO_USE
        own = self._shares.get(device.id)
        if not own:
            return used
        total = dict(used)
        for name, amount in own.items():
            total[name] = total.get(name, 0) + amount
        return total

    def unusable(self, claim: int, want: Want, device: Device) -> Reason | CapacityUnusable | None:
        """Return why a device that the selectors let through is out, None if it is not; an error as a value."""
        if self.in_use(claim, want, device):
            return Reason.IN_USE
        if device.filter is not None and not self._view.reaches(device):
            return Reason.ELSEWHERE
        if want.charge is not None:
            answer = taken(want.charge, device.kind)
            if isinstance(answer, CapacityUnusable):
                return answer
            if answer is None:
                return Reason.REFUSED
            if not answer.fits(self.used(device)):
                return Reason.CAPACITY
        return None

    def take(  # noqa: C901, PLR0911 - one list of checks, whose order is the point
        self, claim: int, want: Want, device: Device, pool: Pool
    ) -> Undo | None:
        """Take a device for a claim if counters, taints, constraints and room let it, and note how to give it back.

        Raises:
            UnsatisfiableConstraint: a request for all devices breaks a constraint.
            InvalidRequest: a derived attribute cannot be computed.
            CapacityUnusable: the request cannot be computed with.

        """
        shared = self._features.consumable_capacity and device.kind.multi
        if want.everything and self.in_use(claim, want, device) and not (want.admin and shared):
            self._no(want, device, Reason.IN_USE)
            return None
        if self._skip_rule and device.part.spec.skip_node_operations and not self._skips:
            self._no(want, device, Reason.NODE_OPERATIONS)
            return None
        undo = Undo(device, pool)
        if device.spec.consumes_counters:
            if not self._features.partitionable_devices:
                self._no(want, device, Reason.PARTITIONS_OFF)
                return None
            # Counters are paid once, with the first share.
            if not (shared and self._shared_already(device)):
                reason = self._count_in(device, pool, undo)
                if reason is not None:
                    self._no(want, device, reason)
                    return None
        if self._features.device_taints and device.taints and not want.tolerates(device.taints):
            self.give_back(claim, undo)
            self._no(want, device, Reason.TAINT)
            return None
        broken = self._constrain(claim, want, device, undo)
        if broken is not None:
            self._no(want, device, Reason.CONSTRAINT, broken)
            return None
        if not self._charge(claim, want, device, undo, shared=shared):
            self.give_back(claim, undo)
            self._no(want, device, Reason.CAPACITY)
            return None
        if not shared:
            self._owners.setdefault(device.id, set()).add(claim)
            undo.marked = True
        self.chosen[claim].append(Choice(want, device, pool, undo.share))
        return undo

    def _constrain(self, claim: int, want: Want, device: Device, undo: Undo) -> str | None:
        """Add the device to the constraints of the claim; return the attribute of one that it breaks."""
        for constraint in self._constraints[claim]:
            if not constraint.binds(want):
                continue
            try:
                added = constraint.add(want, device)
            except InvalidRequest:
                self.give_back(claim, undo)
                raise
            if not added:
                self.give_back(claim, undo)
                if want.everything:
                    raise UnsatisfiableConstraint(want.claim, want.full_name, "/".join(device.id))
                return constraint.attribute
            undo.constraints.append(constraint)
        return None

    def _charge(self, claim: int, want: Want, device: Device, undo: Undo, *, shared: bool) -> bool:
        """Charge the capacities of the device; it may have become too full since it was looked at first."""
        if want.charge is None:
            if shared:
                self._add_share(device, {}, undo)
            return True
        answer = taken(want.charge, device.kind)
        if isinstance(answer, CapacityUnusable):
            self.give_back(claim, undo)
            raise answer.of_device("/".join(device.id))
        if answer is None or not answer.fits(self.used(device)):
            return False
        if shared:
            self._add_share(device, answer.amounts, undo)
        return True

    def _no(self, want: Want, device: Device, reason: Reason, detail: str = "") -> None:
        if self._report is not None:
            self._report.rejected(want, device, reason, detail)

    def _shared_already(self, device: Device) -> bool:
        return (device.usage is not None and device.usage.shares > 0) or device.id in self._shares

    def _count_in(self, device: Device, pool: Pool, undo: Undo) -> Reason | None:
        """Charge the counters of the pool, or return why not; nothing is charged then."""
        if self._features.compatibility_groups:
            undo.groups = self._groups.admit(device, pool)
            if undo.groups is None:
                return Reason.GROUPS
        available = pool.available()
        consumed = self._counters.setdefault(pool.key, {})
        for counter, amount in device.consumes:
            consumed[counter] = consumed.get(counter, 0) + amount
        undo.counted = True
        # One overdrawn counter, touched or not, stops all devices that draw from the pool.
        if pool.overdrawn or any(available.get(counter, 0) < consumed[counter] for counter, _ in device.consumes):
            self.give_back(-1, undo)
            return Reason.COUNTERS
        return None

    def _add_share(self, device: Device, amounts: dict[str, Amount], undo: Undo) -> None:
        own = self._shares.get(device.id)
        undo.existed = own is not None
        if own is None:
            own = self._shares[device.id] = {}
        for name, amount in amounts.items():
            own[name] = own.get(name, 0) + amount.nano
        undo.share = amounts

    def give_back(self, claim: int, undo: Undo) -> None:
        """Reverse what `_take` did, in the opposite order."""
        device = undo.device
        if undo.marked or undo.share is not None:
            self.chosen[claim].pop()
        if undo.share is not None:
            if undo.existed:
                own = self._shares[device.id]
                for name, share in undo.share.items():
                    own[name] -= share.nano
            else:
                del self._shares[device.id]
        if undo.marked:
            self._owners[device.id].discard(claim)
        for constraint in reversed(undo.constraints):
            constraint.remove()
        if undo.groups is not None:
            self._groups.restore(undo.groups)
        if undo.counted:
            consumed = self._counters[undo.pool.key]
            for counter, amount in device.consumes:
                consumed[counter] -= amount

    def can_compare(self, want: Want, device: Device, attribute: str) -> bool:
        """Tell whether an attribute can be looked up without an error."""
        try:
            self.attribute(want, device, attribute)
        except InvalidRequest:
            return False
        return True

    def attribute(self, want: Want, device: Device, name: str) -> resource.DeviceAttribute | None:
        """Return an attribute of a device as a want sees it: derived, or published.

        Raises:
            InvalidRequest: the expression of a derived attribute fails.

        """
        expression = want.derived.get(name)
        if expression is None:
            return find_attribute(device, name)
        key = (device.id, expression)
        known = self._derived.get(key)
        if known is None:
            try:
                known = self._provider.derive(expression, device.kind)
            except SelectorProblem as problem:
                raise InvalidRequest(
                    want.claim,
                    f"request {want.full_name}",
                    f"derived attribute {name} of device {'/'.join(device.id)}: {problem.text}",
                ) from problem
            self._derived[key] = known
        return known
