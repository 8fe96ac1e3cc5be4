# SPDX-License-Identifier: Apache-2.0
"""The search for devices on one node.

Depth first: claim after claim, request after request, device after device; the first full solution wins. Within a
request devices are taken in order only, so each set of devices is tried once. The order of candidates is that of the
node's view (or of a policy), hence the result is the one that the scheduler of Kubernetes would choose.

Upstream tries everything, which can take as many steps as there are sets of devices. Here some things are not tried,
because they cannot change the outcome: a request that has fewer usable devices left than it needs; devices that were
unusable from the start of the request; a device that no want and no constraint can tell from one which just failed in
the same place; and, once a search has gone back and forth for a while, everything, if a request is found for which even
the untouched node has too little. Errors stay as they are: where one could be met, the search goes on in full.

The search is a loop with a stack of frames, so that its depth is not bound by Python's. State lives in one object for
one search; the inventory is only read. Source of the rules: `k8s.io/dynamic-resource-allocation` 0.37.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dynamic_memory.allocation.amounts import Amount
from dynamic_memory.allocation.capacity import Taken
from dynamic_memory.allocation.constraints import Constraint, elements_of, find_attribute
from dynamic_memory.allocation.demand import RESULT_LIMIT, ClaimDemand, Demand, Want
from dynamic_memory.allocation.devices import Device, DeviceId
from dynamic_memory.allocation.errors import (
    CapacityUnusable,
    InvalidPools,
    InvalidRequest,
    PoolUnusable,
    TooManyDevices,
    UnsatisfiableConstraint,
)
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.groups import Groups, Saved
from dynamic_memory.allocation.matching import Matcher, SelectorProblem, taken
from dynamic_memory.allocation.pools import Candidates, Counter, Pool, PoolKey
from dynamic_memory.allocation.reporters import Reason, Reporter
from dynamic_memory.allocation.views import NodeView
from dynamic_memory.api import resource

__all__ = ["Choice", "Order", "Search"]

Order = Callable[[Want, Candidates], Candidates]
"""A policy: the candidates of a request in the order in which they are to be tried."""

_NO_USE: dict[str, int] = {}
_NOBODY: set[int] = set()
_PATIENCE = 64
"""Devices given back before a search looks for a request that cannot be met at all."""


class Choice:
    """One device of a solution, and what a share of it takes; None if it is taken whole."""

    __slots__ = ("amounts", "device", "pool", "want")

    def __init__(self, want: Want, device: Device, pool: Pool, amounts: dict[str, Amount] | None) -> None:
        self.want = want
        self.device = device
        self.pool = pool
        self.amounts = amounts


class _Frame:
    """A place in the search to come back to.

    Three kinds: the boundary between claims (`alternatives` and `candidates` are None), a choice between alternatives,
    and a slot for one device.
    """

    __slots__ = (
        "alternative",
        "alternatives",
        "candidates",
        "claim",
        "exceeded",
        "failed",
        "position",
        "request",
        "slot",
        "undo",
        "want",
    )

    def __init__(self, claim: int, request: int) -> None:
        self.claim = claim
        self.request = request
        self.alternatives: tuple[Want, ...] | None = None
        self.alternative = 0
        self.exceeded = True
        self.want: Want | None = None
        self.slot = 0
        self.candidates: Candidates | None = None
        self.position = 0
        self.undo: _Undo | None = None
        self.failed: set[object] | None = None


class _Undo:
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


class _Outcome:
    """How a branch ended short of an error: it worked, it did not, or it would have needed too many results."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


_DONE = _Outcome("done")
_FAILED = _Outcome("failed")
_EXCEEDED = _Outcome("exceeded")


class Search:
    """One search on one node; `run` may be called once."""

    def __init__(
        self,
        view: NodeView,
        demand: Demand,
        matcher: Matcher,
        features: Features,
        *,
        reporter: Reporter | None = None,
        order: Order | None = None,
    ) -> None:
        self._view = view
        self._demand = demand
        self._matcher = matcher
        self._features = features
        self._report = reporter
        self._order = order
        self._skip_rule = features.variant == "experimental"
        self._chosen: list[list[Choice]] = [[] for _ in demand.claims]
        self._owners: dict[DeviceId, set[int]] = {}
        self._shares: dict[DeviceId, dict[str, int]] = {}
        self._counters: dict[PoolKey, dict[Counter, int]] = {}
        self._groups = Groups()
        self._derived: dict[tuple[DeviceId, str], resource.DeviceAttribute] = {}
        self._constraints = [
            [Constraint(link, self._attribute, lists=features.list_type_attributes) for link in claim.links]
            for claim in demand.claims
        ]
        # A request for all devices meets them in order, and a constraint that breaks there is an error: it then matters
        # which of two like devices is in use.
        self._interchangeable = not any(
            want.everything and constraint.binds(want)
            for index, claim in enumerate(demand.claims)
            for request in claim.requests
            for want in request
            for constraint in self._constraints[index]
        )
        self._everything: dict[int, Candidates] = {}
        self._released = 0
        self._traits: dict[int, object] = {}
        self.selected: dict[tuple[int, int], Want] = {}
        """After a solution: which alternative was taken, by claim and request; only of prioritized lists."""

    def run(self) -> list[list[Choice]] | None:
        """Return the devices of each claim, in the order of its requests; None if there is no solution.

        Raises:
            FatalAllocationError: the claims cannot be handled, here or elsewhere.
            InvalidPools: there is no solution, and pools of the node are invalid.

        """
        if self._report is not None:
            self._report.starting(self._view, self._demand)
        for claim in self._demand.claims:
            self._expand(claim)
        fits = self._solve()
        if self._report is not None:
            self._report.finished(self._view, fits=fits)
        if fits:
            return self._chosen
        invalid = {str(pool): pool.invalid for pool in self._view.pools if pool.invalid}
        if invalid:
            raise InvalidPools(invalid)
        return None

    # --- requests for all devices

    def _expand(self, claim: ClaimDemand) -> None:
        """Find out how many devices "all" are, before the search."""
        fewest = 0
        for request in claim.requests:
            counts = []
            for want in request:
                if want.everything:
                    self._everything[id(want)] = self._all_of(want)
                counts.append(self._count(want))
            fewest += min(counts)
        if fewest > RESULT_LIMIT:
            raise TooManyDevices(claim.name, fewest, RESULT_LIMIT)

    def _all_of(self, want: Want) -> Candidates:
        found = Candidates()
        for pool in self._view.pools:
            if pool.blocked:
                problem = "currently being updated" if pool.incomplete else "currently invalid"
                raise PoolUnusable(want.claim, want.full_name, str(pool), problem)
            candidates = pool.candidates(want.shape)
            for position, device in enumerate(candidates.devices):
                self._check_fault(want, candidates, position)
                if not self._view.reaches(device):
                    continue
                if want.charge is not None:
                    answer = taken(want.charge, device.kind)
                    if isinstance(answer, CapacityUnusable):
                        raise self._capacity_error(answer, device)
                    if answer is None or not answer.fits_empty:
                        continue
                found.add(device, pool, None)
        return found

    def _count(self, want: Want) -> int:
        return len(self._everything[id(want)].devices) if want.everything else want.count

    # --- the search

    def _solve(self) -> bool:
        stack: list[_Frame] = []
        outcome = self._enter(stack, 0, 0)
        while stack:
            if outcome is _DONE:
                self._note_alternatives(stack)
                return True
            frame = stack[-1]
            if outcome is None:
                # A frame was pushed that has not been worked on yet.
                outcome = self._advance(stack, frame)
                continue
            stack.pop()
            outcome = self._retreat(stack, frame, outcome)
            if self._released == _PATIENCE:
                self._released += 1
                if self._hopeless():
                    return False
        if outcome is _EXCEEDED:
            claim = self._demand.claims[0]
            raise TooManyDevices(claim.name, RESULT_LIMIT + 1, RESULT_LIMIT)
        return outcome is _DONE

    def _note_alternatives(self, stack: Sequence[_Frame]) -> None:
        for frame in stack:
            if frame.alternatives is not None:
                self.selected[frame.claim, frame.request] = frame.alternatives[frame.alternative]

    def _enter(self, stack: list[_Frame], claim: int, request: int) -> _Outcome | None:
        """Go to a request, past the ends of claims, without looking at devices yet."""
        claims = self._demand.claims
        while claim < len(claims) and request >= len(claims[claim].requests):
            stack.append(_Frame(claim, request))
            claim, request = claim + 1, 0
        if claim >= len(claims):
            return _DONE
        alternatives = claims[claim].requests[request]
        if alternatives[0].parent:
            frame = _Frame(claim, request)
            frame.alternatives = alternatives
            stack.append(frame)
        return self._slot(stack, claim, request, alternatives[0], 0, None, 0)

    def _slot(
        self,
        stack: list[_Frame],
        claim: int,
        request: int,
        want: Want,
        slot: int,
        candidates: Candidates | None,
        position: int,
    ) -> _Outcome | None:
        """Look for the next device of a want, or go on if it has all."""
        count = self._count(want)
        if want.everything and not count:
            return _FAILED
        if slot >= count:
            return self._enter(stack, claim, request + 1)
        if len(self._chosen[claim]) + count - slot > RESULT_LIMIT:
            return _EXCEEDED
        if self._report is not None:
            self._report.trying(want, slot)
        if candidates is None:
            candidates = self._open(claim, want)
        if candidates.clean and len(candidates.devices) - position < count - slot:
            return _FAILED
        frame = _Frame(claim, request)
        frame.want, frame.slot, frame.candidates, frame.position = want, slot, candidates, position
        stack.append(frame)
        return None

    def _open(self, claim: int, want: Want) -> Candidates:
        """Return the candidates of a want as its first device is looked for, without those that are out anyway."""
        if want.everything:
            return self._everything[id(want)]
        every = self._view.candidates(want.shape)
        if not every.clean:
            return every
        found = Candidates()
        for device, pool in zip(every.devices, every.pools, strict=True):
            reason = self._unusable(claim, want, device)
            if reason is None:
                found.devices.append(device)
                found.pools.append(pool)
            elif isinstance(reason, CapacityUnusable):
                # Not all candidates can be asked: look at one after the other, the error may never be reached.
                found = Candidates()
                found.extend(every)
                found.clean = False
                return found
            elif self._report is not None:
                self._report.rejected(want, device, reason)
        return found if self._order is None else self._order(want, found)

    def _unusable(self, claim: int, want: Want, device: Device) -> Reason | CapacityUnusable | None:
        """Return why a device that the selectors let through is out, None if it is not; an error as a value."""
        if self._in_use(claim, want, device):
            return Reason.IN_USE
        if device.filter is not None and not self._view.reaches(device):
            return Reason.ELSEWHERE
        if want.charge is not None:
            answer = taken(want.charge, device.kind)
            if isinstance(answer, CapacityUnusable):
                return answer
            if answer is None:
                return Reason.REFUSED
            if not answer.fits(self._used(device)):
                return Reason.CAPACITY
        return None

    def _advance(self, stack: list[_Frame], frame: _Frame) -> _Outcome | None:
        """Try candidates from the frame's position on, and go deeper with the first that can be taken."""
        want, candidates = frame.want, frame.candidates
        if want is None or candidates is None:
            return _FAILED
        devices = candidates.devices
        remaining = self._count(want) - frame.slot
        # All or nothing is tried one after the other; else there is no use in going on with fewer than are needed.
        if want.everything:
            last = frame.slot + 1
        else:
            last = len(devices) - remaining + 1 if candidates.clean else len(devices)
        while frame.position < last:
            position = frame.position
            frame.position = position + 1
            device = devices[position]
            if not candidates.clean and not self._possible(frame.claim, want, candidates, position):
                continue
            if frame.failed is not None and self._state_of(device) in frame.failed:
                continue
            undo = self._take(frame.claim, want, device, candidates.pools[position])
            if undo is None:
                continue
            frame.undo = undo
            if self._report is not None:
                self._report.chosen(want, device)
            return self._slot(stack, frame.claim, frame.request, want, frame.slot + 1, candidates, position + 1)
        return _FAILED

    def _retreat(self, stack: list[_Frame], frame: _Frame, outcome: _Outcome) -> _Outcome | None:
        """Deal with a branch below `frame` that did not work out; the frame was popped."""
        if frame.alternatives is not None:
            return self._next_alternative(stack, frame, outcome)
        if frame.want is None:
            # What a later claim cannot hold, other devices for an earlier one may change.
            return _FAILED
        if frame.undo is None:
            return outcome
        device = frame.undo.device
        self._released += 1
        self._give_back(frame.claim, frame.undo)
        frame.undo = None
        if self._report is not None:
            self._report.released(frame.want, device)
        if outcome is _EXCEEDED or frame.want.everything:
            return outcome
        if self._interchangeable:
            if frame.failed is None:
                frame.failed = set()
            frame.failed.add(self._state_of(device))
        stack.append(frame)
        return None

    def _next_alternative(self, stack: list[_Frame], frame: _Frame, outcome: _Outcome) -> _Outcome | None:
        alternatives = frame.alternatives or ()
        if outcome is not _EXCEEDED:
            frame.exceeded = False
        frame.alternative += 1
        if frame.alternative >= len(alternatives):
            return _EXCEEDED if frame.exceeded else _FAILED
        stack.append(frame)
        return self._slot(stack, frame.claim, frame.request, alternatives[frame.alternative], 0, None, 0)

    # --- one device

    def _possible(self, claim: int, want: Want, candidates: Candidates, position: int) -> bool:
        """Check a candidate in full, in the order in which errors have to appear."""
        device = candidates.devices[position]
        if not self._in_use(claim, want, device):
            self._check_fault(want, candidates, position)
        reason = self._unusable(claim, want, device)
        if isinstance(reason, CapacityUnusable):
            raise self._capacity_error(reason, device)
        if reason is not None and self._report is not None:
            self._report.rejected(want, device, reason)
        return reason is None

    def _in_use(self, claim: int, want: Want, device: Device) -> bool:
        if want.admin:
            # Others do not matter, but one claim gets a device once.
            return claim in self._owners.get(device.id, _NOBODY)
        usage = device.usage
        if usage is not None and (usage.dedicated or (usage.shares and not self._features.consumable_capacity)):
            return True
        return bool(self._owners.get(device.id))

    def _used(self, device: Device) -> dict[str, int]:
        used = device.usage.used if device.usage is not None else _NO_USE
        own = self._shares.get(device.id)
        if not own:
            return used
        total = dict(used)
        for name, amount in own.items():
            total[name] = total.get(name, 0) + amount
        return total

    def _check_fault(self, want: Want, candidates: Candidates, position: int) -> None:
        fault = candidates.faults.get(position)
        if fault is not None:
            raise fault.error(want.class_.metadata.name, want.claim, "/".join(candidates.devices[position].id))

    def _capacity_error(self, error: CapacityUnusable, device: Device) -> CapacityUnusable:
        return CapacityUnusable(error.name, error.problem, "/".join(device.id))

    def _take(self, claim: int, want: Want, device: Device, pool: Pool) -> _Undo | None:
        """Take a device for a claim if counters, taints and constraints let it, and note how to give it back."""
        shared = self._features.consumable_capacity and device.kind.multi
        if want.everything and self._in_use(claim, want, device) and not (want.admin and shared):
            return self._no(want, device, Reason.IN_USE)
        if (
            self._skip_rule
            and device.part.spec.skip_node_operations
            and not (self._features.optional_node_operations and self._view.optional_operations)
        ):
            return self._no(want, device, Reason.NODE_OPERATIONS)
        undo = _Undo(device, pool)
        if device.spec.consumes_counters:
            if not self._features.partitionable_devices:
                return self._no(want, device, Reason.PARTITIONS_OFF)
            # Counters are paid once, with the first share.
            if not (shared and self._shared_already(device)):
                reason = self._count_in(device, pool, undo)
                if reason is not None:
                    return self._no(want, device, reason)
        if self._features.device_taints and device.taints and not want.tolerates(device.taints):
            self._give_back(claim, undo)
            return self._no(want, device, Reason.TAINT)
        for constraint in self._constraints[claim]:
            if not constraint.binds(want):
                continue
            try:
                added = constraint.add(want, device)
            except InvalidRequest:
                self._give_back(claim, undo)
                raise
            if not added:
                self._give_back(claim, undo)
                if want.everything:
                    raise UnsatisfiableConstraint(want.claim, want.full_name, "/".join(device.id))
                return self._no(want, device, Reason.CONSTRAINT, constraint.attribute)
            undo.constraints.append(constraint)
        amounts: dict[str, Amount] | None = None
        if want.charge is not None:
            answer = taken(want.charge, device.kind)
            if isinstance(answer, CapacityUnusable):
                raise self._capacity_error(answer, device)
            if answer is None or not answer.fits(self._used(device)):
                self._give_back(claim, undo)
                return self._no(want, device, Reason.CAPACITY)
            if shared:
                amounts = answer.amounts
                self._add_share(device, amounts, undo)
        if not shared:
            self._owners.setdefault(device.id, set()).add(claim)
            undo.marked = True
        self._chosen[claim].append(Choice(want, device, pool, amounts))
        return undo

    def _no(self, want: Want, device: Device, reason: Reason, detail: str = "") -> None:
        if self._report is not None:
            self._report.rejected(want, device, reason, detail)

    def _shared_already(self, device: Device) -> bool:
        return (device.usage is not None and device.usage.shares > 0) or device.id in self._shares

    def _count_in(self, device: Device, pool: Pool, undo: _Undo) -> Reason | None:
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
            self._give_back(-1, undo)
            return Reason.COUNTERS
        return None

    def _add_share(self, device: Device, amounts: dict[str, Amount], undo: _Undo) -> None:
        own = self._shares.get(device.id)
        undo.existed = own is not None
        if own is None:
            own = self._shares[device.id] = {}
        for name, amount in amounts.items():
            own[name] = own.get(name, 0) + amount.nano
        undo.share = amounts

    def _give_back(self, claim: int, undo: _Undo) -> None:
        """Reverse what `_take` did, in the opposite order."""
        device = undo.device
        if undo.marked or undo.share is not None:
            self._chosen[claim].pop()
        if undo.share is not None:
            if undo.existed:
                own = self._shares[device.id]
                for name, amount in undo.share.items():
                    own[name] -= amount.nano
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

    # --- what need not be tried

    def _hopeless(self) -> bool:
        """Tell whether a request cannot be met even if no other takes anything, and no error comes before it."""
        for index, claim in enumerate(self._demand.claims):
            most = 0
            for request in claim.requests:
                most += max(self._count(want) for want in request)
                if most > RESULT_LIMIT:
                    return False
                usable = [self._usable_at_best(index, want) for want in request]
                if any(count is None for count in usable):
                    return False
                if all(
                    count is not None and count < self._count(want) for count, want in zip(usable, request, strict=True)
                ):
                    return True
                if any(want.everything and not self._count(want) for want in request) and len(request) == 1:
                    return True
        return False

    def _usable_at_best(self, claim: int, want: Want) -> int | None:
        """Count the devices that a want could have on the untouched node; None if asking could be an error."""
        bound = [constraint.attribute for constraint in self._constraints[claim] if constraint.binds(want)]
        if bound and want.everything:
            return None
        candidates = self._everything[id(want)] if want.everything else self._view.candidates(want.shape)
        if not candidates.clean:
            return None
        count = 0
        for device in candidates.devices:
            if want.derived and not all(self._can_compare(want, device, attribute) for attribute in bound):
                return None
            answer = self._fits_untouched(want, device)
            if isinstance(answer, CapacityUnusable):
                return None
            count += answer
        return count

    def _fits_untouched(self, want: Want, device: Device) -> bool | CapacityUnusable:
        usage = device.usage
        if usage is not None and not want.admin:
            if usage.dedicated or (usage.shares and not self._features.consumable_capacity):
                return False
        if device.filter is not None and not self._view.reaches(device):
            return False
        if self._features.device_taints and device.taints and not want.tolerates(device.taints):
            return False
        if want.charge is None:
            return True
        answer = taken(want.charge, device.kind)
        if isinstance(answer, CapacityUnusable):
            return answer
        return answer is not None and answer.fits(_NO_USE if usage is None else usage.used)

    def _state_of(self, device: Device) -> object:
        """Key of all that decides whether a claim fits with this device in place of another."""
        traits = self._traits.get(id(device))
        if traits is None:
            traits = self._traits[id(device)] = self._traits_of(device)
        own = self._shares.get(device.id)
        owners = self._owners.get(device.id)
        return (
            traits,
            tuple(sorted(own.items())) if own is not None else None,
            tuple(sorted(owners)) if owners else None,
        )

    def _traits_of(self, device: Device) -> object:
        """Return what the wants and constraints of this demand can tell of a device; equal if they cannot tell."""
        if not self._view_can_ask(device):
            return device.id
        shared = self._features.consumable_capacity and device.kind.multi
        usage = device.usage
        lists = self._features.list_type_attributes
        traits: list[object] = [shared]
        for claim in self._demand.claims:
            for request in claim.requests:
                for want in request:
                    answer = want.shape.ask(device.kind)
                    fits = answer is True and self._fits_untouched(want, device)
                    if not isinstance(answer, bool) or isinstance(fits, CapacityUnusable):
                        return device.id
                    for name in want.derived:
                        if not self._can_compare(want, device, name):
                            return device.id
                        derived = self._attribute(want, device, name)
                        traits.append(None if derived is None else elements_of(derived, lists=lists))
                    traits.append(fits)
                    if fits and shared and want.charge is not None:
                        amounts = taken(want.charge, device.kind)
                        if isinstance(amounts, Taken):
                            traits.append(tuple(sorted((name, own.nano) for name, own in amounts.amounts.items())))
            for link in claim.links:
                attribute = find_attribute(device, link.attribute)
                traits.append(None if attribute is None else elements_of(attribute, lists=lists))
        if shared:
            used = _NO_USE if usage is None else usage.used
            capacities = device.kind.capacities
            traits.append(tuple(sorted((name, own.value.nano - used.get(name, 0)) for name, own in capacities.items())))
        if device.spec.consumes_counters:
            groups = tuple((entry.counter_set, *entry.compatibility_groups) for entry in device.spec.consumes_counters)
            traits.append((device.id[:2], device.consumes, groups, usage is not None and usage.shares > 0))
        if device.part.spec.skip_node_operations:
            traits.append(True)
        return tuple(traits)

    def _can_compare(self, want: Want, device: Device, attribute: str) -> bool:
        try:
            self._attribute(want, device, attribute)
        except InvalidRequest:
            return False
        return True

    def _view_can_ask(self, device: Device) -> bool:
        return device.filter is None or device.filter.valid

    def _attribute(self, want: Want, device: Device, name: str) -> resource.DeviceAttribute | None:
        expression = want.derived.get(name)
        if expression is None:
            return find_attribute(device, name)
        key = (device.id, expression)
        known = self._derived.get(key)
        if known is None:
            try:
                known = self._matcher.provider.derive(expression, device.kind)
            except SelectorProblem as problem:
                raise InvalidRequest(
                    want.claim,
                    f"request {want.full_name}",
                    f"derived attribute {name} of device {'/'.join(device.id)}: {problem.text}",
                ) from problem
            self._derived[key] = known
        return known
