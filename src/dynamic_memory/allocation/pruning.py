# SPDX-License-Identifier: Apache-2.0
"""What a search need not try, because the outcome is known.

Two kinds of knowledge. A request for which the untouched node has too few devices can never be met, whatever the
requests before it take; if no error can come up before it, the answer is no. And two devices that no want and no
constraint of the demand can tell apart are interchangeable: where one failed, so will the other.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamic_memory.allocation.capacity import Taken
from dynamic_memory.allocation.constraints import elements_of, find_attribute
from dynamic_memory.allocation.demand import RESULT_LIMIT, ClaimDemand, Demand, Want
from dynamic_memory.allocation.devices import Device
from dynamic_memory.allocation.errors import CapacityUnusable
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.matching import taken
from dynamic_memory.allocation.pools import Candidates
from dynamic_memory.allocation.tentative import Tentative
from dynamic_memory.allocation.views import NodeView

__all__ = ["Pruning"]

_NO_USE: dict[str, int] = {}

CandidatesOf = Callable[[Want], Candidates]
"""All devices that the selectors of a want let through; of a want for all devices, those that it means."""


class Pruning:
    """Knowledge about one search on one node, worked out when it is asked for."""

    def __init__(
        self, view: NodeView, demand: Demand, features: Features, tentative: Tentative, candidates: CandidatesOf
    ) -> None:
        self._view = view
        self._demand = demand
        self._features = features
        self._tentative = tentative
        self._candidates = candidates
        self._traits: dict[int, object] = {}
        # A request for all devices meets them in order, and a constraint that breaks there is an error: it then matters
        # which of two like devices is in use.
        self.interchangeable = not any(
            want.everything and tentative.bound_by(index, want)
            for index, claim in enumerate(demand.claims)
            for request in claim.requests
            for want in request
        )

    def hopeless(self) -> bool:
        """Tell whether a request cannot be met even if no other takes anything, and no error comes before it."""
        for index, claim in enumerate(self._demand.claims):
            answer = self._hopeless_claim(index, claim)
            if answer is not None:
                return answer
        return False

    def _hopeless_claim(self, index: int, claim: ClaimDemand) -> bool | None:
        """Return the answer if this claim decides it, None if the next one has to be looked at."""
        most = 0
        for request in claim.requests:
            counts = [self._wanted(want) for want in request]
            most += max(counts)
            if most > RESULT_LIMIT:
                return False
            usable = [self._usable_at_best(index, want) for want in request]
            if None in usable:
                return False
            if all(
                (have or 0) < max(count, int(want.everything))
                for have, count, want in zip(usable, counts, request, strict=True)
            ):
                return True
        return None

    def _wanted(self, want: Want) -> int:
        return len(self._candidates(want).devices) if want.everything else want.count

    def _usable_at_best(self, claim: int, want: Want) -> int | None:
        """Count the devices that a want could have on the untouched node; None if asking could be an error."""
        bound = self._tentative.bound_by(claim, want)
        if bound and want.everything:
            return None
        candidates = self._candidates(want)
        if not candidates.clean:
            return None
        count = 0
        for device in candidates.devices:
            if want.derived and not all(self._tentative.can_compare(want, device, attribute) for attribute in bound):
                return None
            answer = self._fits_untouched(want, device)
            if isinstance(answer, CapacityUnusable):
                return None
            count += answer
        return count

    def _fits_untouched(self, want: Want, device: Device) -> bool | CapacityUnusable:
        usage = device.usage
        if not want.admin and usage is not None and usage.exclusive(shares=not self._features.consumable_capacity):
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

    def state_of(self, device: Device) -> object:
        """Key of all that decides whether a claim fits with this device in place of another."""
        traits = self._traits.get(id(device))
        if traits is None:
            traits = self._traits[id(device)] = self._traits_of(device)
        return traits, self._tentative.mark(device)

    def _traits_of(self, device: Device) -> object:
        """Return what the wants and constraints of this demand can tell of a device; equal if they cannot tell."""
        if device.filter is not None and not device.filter.valid:
            return device.id
        shared = self._features.consumable_capacity and device.kind.multi
        usage = device.usage
        traits: list[object] = [shared, bool(device.part.spec.skip_node_operations)]
        for claim in self._demand.claims:
            for want in (want for request in claim.requests for want in request):
                if not self._tell(want, device, traits, shared=shared):
                    return device.id
            for link in claim.links:
                attribute = find_attribute(device, link.attribute)
                lists = self._features.list_type_attributes
                traits.append(None if attribute is None else elements_of(attribute, lists=lists))
        if shared:
            used = _NO_USE if usage is None else usage.used
            capacities = device.kind.capacities
            traits.append(tuple(sorted((name, own.value.nano - used.get(name, 0)) for name, own in capacities.items())))
        if device.spec.consumes_counters:
            groups = tuple((entry.counter_set, *entry.compatibility_groups) for entry in device.spec.consumes_counters)
            traits.append((device.id[:2], device.consumes, groups, usage is not None and usage.shares > 0))
        return tuple(traits)

    def _tell(self, want: Want, device: Device, traits: list[object], *, shared: bool) -> bool:
        """Append what one want can tell of a device; return False if asking is an error."""
        answer = want.shape.ask(device.kind)
        fits = answer is True and self._fits_untouched(want, device)
        if not isinstance(answer, bool) or isinstance(fits, CapacityUnusable):
            return False
        for name in want.derived:
            if not self._tentative.can_compare(want, device, name):
                return False
            derived = self._tentative.attribute(want, device, name)
            lists = self._features.list_type_attributes
            traits.append(None if derived is None else elements_of(derived, lists=lists))
        traits.append(fits)
        if fits and shared and want.charge is not None:
            amounts = taken(want.charge, device.kind)
            if isinstance(amounts, Taken):
                traits.append(tuple(sorted((name, own.nano) for name, own in amounts.amounts.items())))
        return True
