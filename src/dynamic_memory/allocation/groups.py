# SPDX-License-Identifier: Apache-2.0
"""Compatibility groups: which devices may draw from the same counters at the same time (KEP-5963, alpha in 1.37).

The devices that draw from a counter set must have a group in common; devices without groups go only with each other.
"""

from __future__ import annotations

from dynamic_memory.allocation.devices import Device
from dynamic_memory.allocation.pools import Pool, PoolKey

__all__ = ["Groups", "Saved"]

Common = frozenset[str] | None
"""What the members of a counter set have in common; None if none of them declares a group."""

Place = tuple[PoolKey, str]
Saved = list[tuple[Place, tuple[bool, Common]]]


class Groups:
    """The common groups for each counter set during a search; those of allocated devices are the start."""

    def __init__(self) -> None:
        self._common: dict[Place, tuple[bool, Common]] = {}

    def admit(self, device: Device, pool: Pool) -> Saved | None:
        """Add a device, and return what to restore when it leaves; None if it does not go with the others."""
        saved: Saved = []
        for entry in device.spec.consumes_counters:
            place = (pool.key, entry.counter_set)
            before = self._common.get(place)
            if before is None:
                before = _allocated(pool, entry.counter_set)
            own = frozenset(entry.compatibility_groups)
            occupied, common = before
            if occupied and not (common is None and not own) and not (common is not None and common & own):
                self.restore(saved)
                return None
            saved.append((place, before))
            self._common[place] = _add(before, own)
        return saved

    def restore(self, saved: Saved) -> None:
        """Undo an admission."""
        for place, before in reversed(saved):
            self._common[place] = before


def _add(before: tuple[bool, Common], own: frozenset[str]) -> tuple[bool, Common]:
    occupied, common = before
    if not occupied:
        return True, own or None
    if common is None or not own:
        return before
    return True, common & own


def _allocated(pool: Pool, counter_set: str) -> tuple[bool, Common]:
    state: tuple[bool, Common] = (False, None)
    for device in (*pool.devices, *pool.others):
        if device.usage is not None and not device.usage.idle:
            for entry in device.spec.consumes_counters:
                if entry.counter_set == counter_set:
                    state = _add(state, frozenset(entry.compatibility_groups))
    return state
