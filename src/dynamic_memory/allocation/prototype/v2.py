# SPDX-License-Identifier: Apache-2.0
"""Generation v2 (and v2.1): individual devices for claims, on one node.

Each entry of `allOf` is a goal, `oneOf` is one goal with alternatives in order of priority. The options of a detail are
sets of its candidates: fewest devices first, sets of one size in lexicographic order, so that the answer is the same on
every run. A set is built device by device, and left as soon as it cannot be completed: an attribute differs, a shared
resource of the pool is used up, or even the best devices left would not provide what is asked in sum. Devices that
nothing in the pod's claims can tell apart are tried once in the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dynamic_memory.allocation.prototype.inventory import Device, Pool, ceil_to
from dynamic_memory.allocation.prototype.ledger import Grant, Ledger
from dynamic_memory.allocation.prototype.matching import Classes
from dynamic_memory.allocation.prototype.reporters import Reporter
from dynamic_memory.allocation.prototype.solver import Budget, solve
from dynamic_memory.allocation.prototype.types import DeviceClaim, DeviceClaimDetail, DeviceClass
from dynamic_memory.errors import InvalidInput

__all__ = ["Part", "Pick", "Search", "parts_of"]

DEVICES = "devices"
"""The key of `requests` that counts devices; all others are summed over what devices provide."""
NANO = 10**9
IN_USE = "in use"


class Part(NamedTuple):
    """One detail of a claim: the unit that devices are chosen for."""

    claim: int
    claim_name: str
    instance: str
    label: str
    path: str
    detail: DeviceClaimDetail


class Pick(NamedTuple):
    """The devices chosen for a part; `grants` has None for a device that is taken whole, or is only administrated."""

    part: Part
    devices: tuple[Device, ...]
    grants: tuple[Grant | None, ...]
    leaves: tuple[DeviceClass, ...]


Goals = list[list[Part]]
"""For each goal its alternatives."""


def parts_of(index: int, name: str, claim: DeviceClaim) -> Goals:
    """Return the goals of one claim.

    Raises:
        InvalidInput: numbers of devices that cannot be.

    """
    goals: Goals = []
    for number, instance in enumerate(claim.spec.devices):
        for list_name, details in (("allOf", instance.all_of), ("oneOf", instance.one_of)):
            found = []
            for place, detail in enumerate(details):
                path = f"claim {name}: spec.devices[{number}].{list_name}[{place}]"
                label = f"claim {name}, {instance.name}.{list_name}[{place}]"
                _limits(detail, path)
                found.append(Part(index, name, instance.name, label, path, detail))
            if list_name == "allOf":
                goals.extend([part] for part in found)
            elif found:
                goals.append(found)
    return goals


def _limits(detail: DeviceClaimDetail, path: str) -> tuple[int, int]:
    """Return how many devices a detail takes, at least and at most."""
    asked = detail.requests.get(DEVICES)
    fewest = 1 if asked is None else asked.value()
    if fewest < 1:
        raise InvalidInput(f"{path}.requests.devices", "at least 1", str(asked))
    most = fewest if detail.max_devices is None else detail.max_devices
    if most < fewest:
        raise InvalidInput(f"{path}.maxDevices", f"at least {fewest}, the number of devices asked for", most)
    for name, amount in detail.requests.items():
        if amount.sign < 0:
            raise InvalidInput(f"{path}.requests.{name}", "at least 0", str(amount))
    return fewest, most


class _Agreement:
    """Attributes in which devices have to agree, or all differ; a missing attribute breaks either."""

    __slots__ = ("_distinct", "_match", "_taken")

    def __init__(self, match: Sequence[str], distinct: Sequence[str]) -> None:
        self._match = match
        self._distinct = distinct
        self._taken: list[Device] = []

    def add(self, device: Device) -> str | None:
        """Take a device in, or return the attribute that speaks against it."""
        own = device.kind.attributes
        for name in self._match:
            if name not in own or (self._taken and self._taken[0].kind.attributes[name] != own[name]):
                return f"matchAttributes {name}" + ("" if name in own else " (it has no such attribute)")
        for name in self._distinct:
            if name not in own or any(other.kind.attributes[name] == own[name] for other in self._taken):
                return f"distinctAttributes {name}" + ("" if name in own else " (it has no such attribute)")
        self._taken.append(device)
        return None

    def remove(self) -> None:
        """Take the device that came last out again."""
        self._taken.pop()


class _Slot:
    """A place for one device in a set that is being built."""

    __slots__ = ("device", "grant", "leaf", "next", "seen")

    def __init__(self, start: int) -> None:
        self.next = start
        self.device: Device | None = None
        self.grant: Grant | None = None
        self.leaf: DeviceClass | None = None
        self.seen: set[object] = set()


class _Candidates(NamedTuple):
    devices: list[Device]
    leaves: list[DeviceClass]


class _Work(NamedTuple):
    """A set of devices in the making.

    Attributes:
        part: what it is for.
        candidates: what it can be made of.
        ceilings: for each amount, the most that one candidate from a position on provides.
        agreement: what its devices have in common.
        missing: what is still missing of each amount; negative if there is more than asked.

    """

    part: Part
    candidates: _Candidates
    ceilings: Mapping[str, list[int]]
    agreement: _Agreement
    missing: dict[str, int]


class Search:
    """The search on one node; `run` may be called once.

    Args:
        node: its name, for errors.
        pools: what can be used there, in order.
        goals: of all claims of the pod.
        claims: the claims, for their `matchAttributes`; by the index that parts have.
        classes: what classes mean now.
        ledger: what is taken; on success it has what was chosen too.
        reporter: told each step.
        budget: the limit of steps.

    """

    def __init__(
        self,
        node: str,
        pools: Sequence[Pool],
        goals: Goals,
        claims: Mapping[int, DeviceClaim],
        *,
        classes: Classes,
        ledger: Ledger,
        reporter: Reporter,
        budget: Budget | None = None,
    ) -> None:
        self._pools = pools
        self._goals = goals
        self._classes = classes
        self._ledger = ledger
        self._report = reporter
        self._budget = budget or Budget(node)
        self._claims = {index: _Agreement(claim.spec.match_attributes, ()) for index, claim in claims.items()}
        parts = [part for goal in goals for part in goal]
        self._relevant = sorted(
            {
                name for part in parts for name in (*part.detail.match_attributes, *part.detail.distinct_attributes)
            }.union(*(claim.spec.match_attributes for claim in claims.values()))
        )
        self._candidates = [self._candidates_of(part) for part in parts]
        self._number = {id(part): number for number, part in enumerate(parts)}
        self._roles: dict[Device, int] = {}
        for number, candidates in enumerate(self._candidates):
            for device in candidates.devices:
                self._roles[device] = self._roles.get(device, 0) | 1 << number
        self._traits: dict[Device, object] = {}
        self.failed: Part | None = None
        """After `run` without success: the part that was never satisfied."""
        self.why = ""
        """And the last reason why."""
        self._last: dict[int, str] = {}

    def run(self) -> list[Pick] | None:
        """Return what to take for each goal; None if it cannot be done here.

        Raises:
            SearchTooLong: there are too many ways to try.

        """
        solution = solve([self._goal(goal) for goal in self._goals], self._budget)
        if solution.chosen is None:
            self.failed = self._goals[solution.deepest][0]
            self.why = self._last.get(self._number[id(self.failed)], "") or self._shortage(self.failed)
        return solution.chosen

    def _shortage(self, part: Part) -> str:
        there = len(self._candidates[self._number[id(part)]].devices)
        return f"{there} devices meet the class and the constraints"

    def _candidates_of(self, part: Part) -> _Candidates:
        found = _Candidates([], [])
        detail = part.detail
        for pool in self._pools:
            known: dict[int, DeviceClass | str] = {}
            for device in pool.devices:
                answer = known.get(device.kind.number)
                if answer is None:
                    answer = self._classes.meets(detail.class_, detail.constraints, pool.driver, device.kind, part.path)
                    known[device.kind.number] = answer
                if isinstance(answer, str):
                    self._report.ignored(part.label, str(device), answer)
                else:
                    found.devices.append(device)
                    found.leaves.append(answer)
        return found

    def _goal(self, alternatives: list[Part]) -> Callable[[], Iterator[Pick]]:
        def options() -> Iterator[Pick]:
            for part in alternatives:
                for pick in self._options(part):
                    names = [str(device) for device in pick.devices]
                    self._report.chosen(part.label, names)
                    yield pick
                    self._report.released(part.label, names)

        return options

    def _options(self, part: Part) -> Iterator[Pick]:
        candidates = self._candidates[self._number[id(part)]]
        fewest, most = _limits(part.detail, part.path)
        if part.detail.admin_access:
            if len(candidates.devices) >= fewest:
                nothing: tuple[Grant | None, ...] = (None,) * len(candidates.devices)
                yield Pick(part, tuple(candidates.devices), nothing, tuple(candidates.leaves))
            return
        there = len(candidates.devices)
        if there < fewest:
            self._last[self._number[id(part)]] = f"{there} of {fewest} devices meet the class and the constraints"
            return
        sums = {name: amount.nanos for name, amount in part.detail.requests.items() if name != DEVICES}
        ceilings = {name: _highest(candidates.devices, name) for name in sums}
        for count in range(fewest, min(most, there) + 1):
            self._report.trying(part.label, count)
            yield from self._sets(part, candidates, count, sums, ceilings)

    def _sets(
        self,
        part: Part,
        candidates: _Candidates,
        count: int,
        sums: Mapping[str, int],
        ceilings: Mapping[str, list[int]],
    ) -> Iterator[Pick]:
        agreement = _Agreement(part.detail.match_attributes, part.detail.distinct_attributes)
        work = _Work(part, candidates, ceilings, agreement, dict(sums))
        slots = [_Slot(0)]
        while slots:
            slot = slots[-1]
            if slot.device is not None:
                self._release(work, slot)
            if not self._fill(work, slot, count - len(slots)):
                slots.pop()
            elif len(slots) == count:
                # The bound of the last slot was exact: what is asked in sum is there.
                yield Pick(
                    part,
                    tuple(slot.device for slot in slots if slot.device is not None),
                    tuple(slot.grant for slot in slots),
                    tuple(slot.leaf for slot in slots if slot.leaf is not None),
                )
            else:
                slots.append(_Slot(slot.next))

    def _fill(self, work: _Work, slot: _Slot, after: int) -> bool:
        """Put the next possible device into a slot, if `after` more can still follow."""
        devices, part = work.candidates.devices, work.part
        while slot.next < len(devices) - after:
            position = slot.next
            slot.next += 1
            device = devices[position]
            self._budget.step()
            traits = self._traits_of(device)
            if traits in slot.seen:
                continue
            slot.seen.add(traits)
            reason = self._unusable(part, device) or self._refusal(work, slot, position, after)
            if not reason:
                slot.leaf = work.candidates.leaves[position]
                return True
            self._last[self._number[id(part)]] = f"{device}: {reason}"
            self._report.rejected(part.label, str(device), reason)
        return False

    def _unusable(self, part: Part, device: Device) -> str:
        """Return why a device cannot be had, whatever else is in the set; empty if it can."""
        if self._ledger.owned(device) or (not part.detail.allow_shared and self._ledger.taken(device)):
            return IN_USE
        lacking = self._ledger.lacking(device)
        return "" if lacking is None else f"too little left of shared resource {lacking} of pool {device.pool.name}"

    def _refusal(self, work: _Work, slot: _Slot, position: int, after: int) -> str:
        """Take a device into a slot, or return why it does not go into this set; then nothing has changed."""
        device, missing = work.candidates.devices[position], work.missing
        grant = self._grant(device, missing) if work.part.detail.allow_shared else None
        gives = {name: self._gives(device, name, grant) for name in missing}
        if grant is not None and missing and not any(gives.values()):
            return "nothing left to share"
        for name, amount in missing.items():
            if amount - gives[name] > after * work.ceilings[name][position + 1]:
                return f"too little {name} in sum"
        reason = work.agreement.add(device)
        if reason is not None:
            return reason
        reason = self._claims[work.part.claim].add(device)
        if reason is not None:
            work.agreement.remove()
            return f"{reason} of the claim"
        self._ledger.take(device, grant)
        for name in missing:
            missing[name] -= gives[name]
        slot.device, slot.grant = device, grant
        return ""

    def _release(self, work: _Work, slot: _Slot) -> None:
        device = slot.device
        if device is None:
            return
        for name in work.missing:
            work.missing[name] += self._gives(device, name, slot.grant)
        self._ledger.give_back(device, slot.grant)
        self._claims[work.part.claim].remove()
        work.agreement.remove()
        slot.device = None

    def _grant(self, device: Device, missing: Mapping[str, int]) -> dict[str, int]:
        """Return the share of a device: as much of what is still missing as it has, in whole blocks."""
        grant = {}
        for name, amount in missing.items():
            provided = device.shape.provides.get(name)
            if provided is not None:
                grant[name] = min(ceil_to(max(amount, 0), provided.block), self._ledger.free(device, name))
        return grant

    @staticmethod
    def _gives(device: Device, name: str, grant: Grant | None) -> int:
        if grant is not None:
            return grant.get(name, 0)
        provided = device.shape.provides.get(name)
        return 0 if provided is None else provided.capacity

    def _traits_of(self, device: Device) -> object:
        """Return all that decides whether the claims fit with this device in place of another."""
        known = self._traits.get(device)
        if known is None:
            attributes = device.kind.attributes
            known = self._traits[device] = (
                self._roles.get(device, 0),
                tuple(attributes.get(name) for name in self._relevant),
                device.shape.number,
                device.pool.order if device.shape.consumes else -1,
            )
        granted = self._ledger.granted(device)
        usage = tuple(sorted(granted.items())) if granted else self._ledger.taken(device)
        return known, usage


def _highest(devices: Sequence[Device], name: str) -> list[int]:
    """Return for each position the most that one device from there on provides; 0 past the end."""
    highest = [0] * (len(devices) + 1)
    for position in range(len(devices) - 1, -1, -1):
        provided = devices[position].shape.provides.get(name)
        highest[position] = max(highest[position + 1], 0 if provided is None else provided.capacity)
    return highest
