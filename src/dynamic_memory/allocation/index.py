# SPDX-License-Identifier: Apache-2.0
"""Which nodes can be ruled out without a search?

A *lane* belongs to one need (selectors, capacities, tolerations) and holds, as bit sets over the numbers of the nodes,
how many devices each node has ready for it. A decision intersects the lanes of its wants and searches only the nodes
that are left, in order. For `matchAttribute` a lane counts for each value of the attribute, and a node is left only if
there is a value for which every want bound by the constraint has enough.

That is a necessary condition, never an approximation: a node that is ruled out cannot fit, and no error is lost either,
because a node with a device on which asking could fail is never ruled out.

A lane follows the inventory by its journal: a claim event costs one look at one node for each lane. What nodes share
(pools of the fabric) is counted once for all nodes that see the same shared pools.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from dynamic_memory.allocation.constraints import Element, elements_of, find_attribute
from dynamic_memory.allocation.demand import RESULT_LIMIT, Demand, Link, Want
from dynamic_memory.allocation.errors import CapacityUnusable, FatalAllocationError
from dynamic_memory.allocation.inventory import Inventory
from dynamic_memory.allocation.matching import taken
from dynamic_memory.allocation.pools import Pool

__all__ = ["Index"]

_LANES_KEPT = 256
_ELEMENTS_KEPT = 512
_ANY: Element = ("", None)
_NO_USE: dict[str, int] = {}

Ready = dict[Element, int] | None
"""Devices that are ready, by value of the attribute; None if asking could be an error."""

Masks = dict[Element, int]

LaneKey = tuple[object, str]
"""Need and attribute; the attribute is empty if values do not matter."""


class Index:
    """All lanes of an inventory; those not used for long are dropped."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._lanes: OrderedDict[LaneKey, _Lane] = OrderedDict()

    def covers(self, demand: Demand) -> bool:
        """Tell whether all lanes of the demand are there, so that asking costs little."""
        return demand.filterable and all((want.need, "") in self._lanes for want in _wants(demand))

    def possible(self, demand: Demand) -> int | None:
        """Return the set of nodes that are not ruled out, as bits by node number; None if all must be searched."""
        if not demand.filterable:
            return None
        result, uncertain = -1, 0
        for claim in demand.claims:
            for request in claim.requests:
                fits = 0
                for want in request:
                    mask, unknown = self._plain(want)
                    fits |= mask
                    uncertain |= unknown
                result &= fits
            for link in claim.links:
                if not link.distinct:
                    fits, unknown = self._linked(link, claim.requests)
                    result &= fits
                    uncertain |= unknown
        return result | uncertain

    def _plain(self, want: Want) -> tuple[int, int]:
        if want.count <= 0:
            return -1, self._lane(want, "").possible(1)[1]
        masks, uncertain = self._lane(want, "").possible(want.count)
        return masks.get(_ANY, 0), uncertain

    def _linked(  # noqa: C901 - one pass over the requests, one over the values
        self, link: Link, requests: Sequence[Sequence[Want]]
    ) -> tuple[int, int]:
        """Return the nodes where one value of the attribute is enough for all wants that the link binds."""
        uncertain = 0
        options: list[list[tuple[Masks, int]]] = []
        elements: set[Element] | None = None
        for request in requests:
            bound = [want for want in request if want.count > 0 and want.named_in(link.requests)]
            if not bound:
                continue
            free = 0
            for want in request:
                if want not in bound:
                    free |= self._plain(want)[0]
            masks = []
            for want in bound:
                mask, unknown = self._lane(want, link.attribute).possible(want.count)
                masks.append((mask, free))
                uncertain |= unknown
            own = {element for mask, _ in masks for element in mask}
            options.append(masks)
            if not free:
                elements = own if elements is None else elements & own
        if elements is None or len(elements) > _ELEMENTS_KEPT:
            return -1, uncertain
        result = 0
        for element in elements:
            nodes = -1
            for masks in options:
                any_ = 0
                for mask, free in masks:
                    any_ |= mask.get(element, 0) | free
                nodes &= any_
            result |= nodes
        return result, uncertain

    def _lane(self, want: Want, attribute: str) -> _Lane:
        key = (want.need, attribute)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(self._inventory, want, key)
            if len(self._lanes) > _LANES_KEPT:
                self._lanes.popitem(last=False)
        else:
            self._lanes.move_to_end(key)
        lane.follow()
        return lane


def _wants(demand: Demand) -> Iterator[Want]:
    return (want for claim in demand.claims for request in claim.requests for want in request)


class _Lane:
    """How many devices the nodes have ready for one need."""

    def __init__(self, inventory: Inventory, want: Want, key: LaneKey) -> None:
        self._inventory = inventory
        self._want = want
        self._key = key
        self._structure = -1
        self._seen = 0
        self._reset()

    def _reset(self) -> None:
        self._own: dict[Element, dict[int, int]] = {}
        self._uncertain = 0
        self._groups: dict[tuple[Pool, ...], int] = {}
        self._noted: dict[int, tuple[tuple[Pool, ...], dict[Element, int]]] = {}

    def follow(self) -> None:
        """Catch up with the inventory."""
        inventory = self._inventory
        end = inventory.journal.end
        if self._structure == inventory.structure and self._seen == end:
            return
        touched = inventory.journal.since(self._seen) if self._structure == inventory.structure else None
        if touched is None:
            self._reset()
            touched = {position for position in range(inventory.positions) if inventory.at(position) is not None}
        self._structure, self._seen = inventory.structure, end
        for position in touched:
            self._note(position)

    def _note(self, position: int) -> None:
        bit = 1 << position
        before = self._noted.pop(position, None)
        if before is not None:
            group, counts = before
            self._groups[group] &= ~bit
            for element, count in counts.items():
                self._own[element][count] &= ~bit
        self._uncertain &= ~bit
        name = self._inventory.at(position)
        if name is None:
            return
        try:
            view = self._inventory.view(name)
        except FatalAllocationError:
            self._uncertain |= bit
            return
        counts = {}
        for pool in view.own:
            ready = self._ready(pool)
            if ready is None:
                self._uncertain |= bit
                continue
            for element, count in ready.items():
                counts[element] = min(counts.get(element, 0) + count, RESULT_LIMIT)
        for element, count in counts.items():
            masks = self._own.setdefault(element, {})
            masks[count] = masks.get(count, 0) | bit
        self._groups[view.shared] = self._groups.get(view.shared, 0) | bit
        self._noted[position] = (view.shared, counts)

    def possible(self, count: int) -> tuple[Masks, int]:
        """Return by value of the attribute the nodes with at least so many devices, and the nodes to be searched."""
        result: Masks = {}
        uncertain = self._uncertain
        for group, nodes in self._groups.items():
            if not nodes:
                continue
            shared = self._shared(group)
            if shared is None:
                uncertain |= nodes
                shared = {}
            for element in shared.keys() | self._own.keys():
                missing = count - shared.get(element, 0)
                if missing <= 0:
                    fits = nodes
                else:
                    fits = 0
                    for have, mask in self._own.get(element, {}).items():
                        if have >= missing:
                            fits |= mask
                    fits &= nodes
                if fits:
                    result[element] = result.get(element, 0) | fits
        return result, uncertain

    def _shared(self, group: Iterable[Pool]) -> Ready:
        total: dict[Element, int] = {}
        for pool in group:
            ready = self._ready(pool)
            if ready is None:
                return None
            for element, count in ready.items():
                total[element] = total.get(element, 0) + count
        return total

    def _ready(self, pool: Pool) -> Ready:
        known = pool.ready.get(self._key)
        if known is not None and known[0] == pool.version:
            return known[1]
        if len(pool.ready) >= _LANES_KEPT:
            pool.ready.clear()
        answer: Ready = {} if pool.blocked else self._count(pool)
        pool.ready[self._key] = (pool.version, answer)
        return answer

    def _count(self, pool: Pool) -> Ready:  # noqa: C901 - the checks of the search, in one loop because it is hot
        """Count the devices of a pool that are ready: as the search checks them, but without other choices."""
        want, features = self._want, self._inventory.features
        attribute = self._key[1]
        counts: dict[Element, int] = {}
        candidates = pool.candidates(want.shape)
        for position, device in enumerate(candidates.devices):
            usage = device.usage
            if not want.admin and usage is not None and usage.exclusive(shares=not features.consumable_capacity):
                continue
            if position in candidates.faults or (device.filter is not None and not device.filter.valid):
                return None
            if want.charge is not None:
                answer = taken(want.charge, device.kind)
                if isinstance(answer, CapacityUnusable):
                    return None
                if answer is None or not answer.fits(_NO_USE if usage is None else usage.used):
                    continue
            if features.device_taints and device.taints and not want.tolerates(device.taints):
                continue
            if not attribute:
                counts[_ANY] = counts.get(_ANY, 0) + 1
                continue
            value = find_attribute(device, attribute)
            if value is None:
                continue
            elements = elements_of(value, lists=features.list_type_attributes)
            if not elements and not features.list_type_attributes:
                return None
            for element in elements:
                counts[element] = counts.get(element, 0) + 1
        return counts
