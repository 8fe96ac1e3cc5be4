# SPDX-License-Identifier: Apache-2.0
"""When to touch the slices of a pool, so that the scheduler tries waiting pods again (rule 20). Pure.

A pod that was refused for capacity sleeps for minutes even when capacity comes free: no release, and on 1.37.0 no bind
of the claim that was counted twice, wakes it. Any change of a ResourceSlice does. The event itself is often a moment
too early (the scheduler's own cache still has the old claim for up to one poll of 5 s), hence a second touch 6 s later.
"""

from __future__ import annotations

__all__ = ["AGAIN_AFTER", "MIN_SPACING", "TouchPlan"]

AGAIN_AFTER = 6.0
"""Seconds from an event to its second touch: the scheduler's poll of 5 s, and one more."""
MIN_SPACING = 1.0
"""Seconds between two touches of a pool, at least."""


class TouchPlan:
    """Times at which each pool wants to be touched. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._wanted: dict[str, list[float]] = {}
        self._last: dict[str, float] = {}

    def event(self, pool: str, now: float) -> None:
        """Want a touch of a pool now, and another one later."""
        self._want(pool, now)
        self._want(pool, now + AGAIN_AFTER)

    def again(self, pool: str, now: float) -> None:
        """Want a touch after the one that failed just now."""
        self._want(pool, now + MIN_SPACING)

    def forget(self, pool: str) -> None:
        """Drop what is wanted for a pool that no longer exists."""
        self._wanted.pop(pool, None)
        self._last.pop(pool, None)

    def due(self, now: float) -> list[str]:
        """Return the pools to touch now; they count as touched."""
        ready = [pool for pool, at in self._next().items() if at <= now]
        for pool in ready:
            self._last[pool] = now
            left = [at for at in self._wanted[pool] if at > now]
            if left:
                self._wanted[pool] = left
            else:
                del self._wanted[pool]
        return ready

    def next_due(self) -> float | None:
        """Return when the next touch is due; None if none is wanted."""
        return min(self._next().values(), default=None)

    def _next(self) -> dict[str, float]:
        return {
            pool: max(wanted[0], self._last.get(pool, float("-inf")) + MIN_SPACING)
            for pool, wanted in self._wanted.items()
        }

    def _want(self, pool: str, at: float) -> None:
        """Add a time, unless a touch at or after it, within the spacing, is wanted already: the list stays short."""
        at = max(at, self._last.get(pool, float("-inf")) + MIN_SPACING)
        wanted = self._wanted.setdefault(pool, [])
        if any(at <= other < at + MIN_SPACING for other in wanted):
            return
        before = [other for other in wanted if at - MIN_SPACING < other < at]
        # A touch shortly before would not serve this event: the two become one at the earliest time that is allowed.
        wanted.append(before[-1] + MIN_SPACING if before else at)
        wanted.sort()
