# SPDX-License-Identifier: Apache-2.0
"""The API server's time: the real one, or one for tests that starts at a given moment and goes on a second per object.

Nothing else in the server reads the wall time, so that ages and texts of a test are the same in every run.
"""

from __future__ import annotations

import datetime as dt

from dynamic_memory.errors import InvalidInput
from dynamic_memory.process import clock

__all__ = ["Clock", "SteppingClock"]

_NOTHING = dt.timedelta()
_SECOND = dt.timedelta(seconds=1)


class Clock:
    """Wall time."""

    _stamped: dt.datetime | None = None
    _stamp = ""

    def now(self) -> dt.datetime:
        """Return the time, in UTC."""
        return clock.now()

    def creation(self) -> str:
        """Return the time that a new object gets, as `metav1.Time` has it."""
        return self.stamp()

    def stamp(self) -> str:
        """Return the time as `metav1.Time` has it; written once a second, since every write asks."""
        now = self.now()
        if self._stamped is None or not _NOTHING <= now - self._stamped < _SECOND:
            self._stamped = now.replace(microsecond=0)
            self._stamp = clock.rfc3339(self._stamped)
        return self._stamp


class SteppingClock(Clock):
    """Time that stands still but for one second with each new object.

    Args:
        base: the creation time of the first object, as RFC 3339.

    """

    def __init__(self, base: str) -> None:
        try:
            self._next = clock.parse_rfc3339(base).astimezone(dt.UTC)
        except ValueError as error:
            raise InvalidInput("--test-clock", "a time such as 2022-01-01T00:00:00Z", base) from error
        self._now = self._next

    def now(self) -> dt.datetime:
        """Return the time of the newest object."""
        return self._now

    def creation(self) -> str:
        """Return the time of a new object, a second after the last one."""
        self._now = self._next
        self._next += dt.timedelta(seconds=1)
        return self.stamp()
