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

from dynamic_memory.allocation.demand import RESULT_LIMIT, ClaimDemand, Demand, Want
from dynamic_memory.allocation.errors import CapacityUnusable, InvalidPools, PoolUnusable, TooManyDevices
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.matching import Matcher, taken
from dynamic_memory.allocation.pools import Candidates
from dynamic_memory.allocation.pruning import Pruning
from dynamic_memory.allocation.reporters import Reporter
from dynamic_memory.allocation.tentative import Choice, Tentative, Undo
from dynamic_memory.allocation.views import NodeView

__all__ = ["Choice", "Order", "Search"]

Order = Callable[[Want, Candidates], Candidates]
"""A policy: the candidates of a request in the order in which they are to be tried."""

_PATIENCE = 64
"""Devices given back before a search looks for a request that cannot be met at all."""


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
        self.undo: Undo | None = None
        self.failed: set[object] | None = None


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
        self._report = reporter
        self._order = order
        self._tentative = Tentative(view, demand, matcher, features, reporter)
        self._pruning = Pruning(view, demand, features, self._tentative, self._all_candidates)
        self._everything: dict[int, Candidates] = {}
        self._released = 0
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
            return self._tentative.chosen
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
                        raise answer.of_device("/".join(device.id))
                    if answer is None or not answer.fits_empty:
                        continue
                found.add(device, pool, None)
        return found

    def _count(self, want: Want) -> int:
        return len(self._everything[id(want)].devices) if want.everything else want.count

    def _all_candidates(self, want: Want) -> Candidates:
        return self._everything[id(want)] if want.everything else self._view.candidates(want.shape)

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
                if self._pruning.hopeless():
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
        return self._slot(stack, claim, request, alternatives[0])

    def _slot(
        self,
        stack: list[_Frame],
        claim: int,
        request: int,
        want: Want,
        *,
        slot: int = 0,
        candidates: Candidates | None = None,
        position: int = 0,
    ) -> _Outcome | None:
        """Look for the next device of a want, or go on if it has all."""
        count = self._count(want)
        if want.everything and not count:
            return _FAILED
        if slot >= count:
            return self._enter(stack, claim, request + 1)
        if len(self._tentative.chosen[claim]) + count - slot > RESULT_LIMIT:
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
        every = self._all_candidates(want)
        if want.everything or not every.clean:
            return every
        found = Candidates()
        for device, pool in zip(every.devices, every.pools, strict=True):
            reason = self._tentative.unusable(claim, want, device)
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

    def _advance(self, stack: list[_Frame], frame: _Frame) -> _Outcome | None:
        """Try candidates from the frame's position on, and go deeper with the first that can be taken."""
        want, candidates = frame.want, frame.candidates
        if want is None or candidates is None:
            return _FAILED
        devices = candidates.devices
        remaining = self._count(want) - frame.slot
        # All or nothing is tried one after the other; else there is no use in going on with fewer than are needed.
        last = frame.slot + 1 if want.everything else len(devices)
        if candidates.clean and not want.everything:
            last -= remaining - 1
        while frame.position < last:
            position = frame.position
            frame.position = position + 1
            device = devices[position]
            if not candidates.clean and not self._possible(frame.claim, want, candidates, position):
                continue
            if frame.failed is not None and self._pruning.state_of(device) in frame.failed:
                continue
            undo = self._tentative.take(frame.claim, want, device, candidates.pools[position])
            if undo is None:
                continue
            frame.undo = undo
            if self._report is not None:
                self._report.chosen(want, device)
            return self._slot(
                stack,
                frame.claim,
                frame.request,
                want,
                slot=frame.slot + 1,
                candidates=candidates,
                position=position + 1,
            )
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
        self._tentative.give_back(frame.claim, frame.undo)
        frame.undo = None
        if self._report is not None:
            self._report.released(frame.want, device)
        if outcome is _EXCEEDED or frame.want.everything:
            return outcome
        if self._pruning.interchangeable:
            if frame.failed is None:
                frame.failed = set()
            frame.failed.add(self._pruning.state_of(device))
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
        return self._slot(stack, frame.claim, frame.request, alternatives[frame.alternative])

    def _possible(self, claim: int, want: Want, candidates: Candidates, position: int) -> bool:
        """Check a candidate in full, in the order in which errors have to appear."""
        device = candidates.devices[position]
        if not self._tentative.in_use(claim, want, device):
            self._check_fault(want, candidates, position)
        reason = self._tentative.unusable(claim, want, device)
        if isinstance(reason, CapacityUnusable):
            raise reason.of_device("/".join(device.id))
        if reason is not None and self._report is not None:
            self._report.rejected(want, device, reason)
        return reason is None

    def _check_fault(self, want: Want, candidates: Candidates, position: int) -> None:
        fault = candidates.faults.get(position)
        if fault is not None:
            raise fault.error(want.class_.metadata.name, want.claim, "/".join(candidates.devices[position].id))
