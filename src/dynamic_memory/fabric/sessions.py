# SPDX-License-Identifier: Apache-2.0
"""Sessions of nodes: whether, and since when not, a Watch of a node is open. Pure: the time is an argument.

A lapsed session is one half of the evidence that a host is off; the other is the controller's. Nobody is believed to be
off because of what was before the service started: the time runs from then at the earliest.
"""

from __future__ import annotations

from collections import Counter

__all__ = ["Sessions"]

_Key = tuple[str, str]


class Sessions:
    """Open Watches by (owner, node).

    Args:
        started: monotonic time at which the service began to listen, seconds.
        lapse: seconds without a Watch after which a session has lapsed.

    """

    def __init__(self, *, started: float, lapse: float) -> None:
        self._started = started
        self.lapse = lapse
        self._open: Counter[_Key] = Counter()
        self._last_seen: dict[_Key, float] = {}

    def opened(self, owner: str, node: str) -> None:
        """A Watch begins."""
        self._open[owner, node] += 1

    def closed(self, owner: str, node: str, now: float) -> None:
        """A Watch ends."""
        key = (owner, node)
        self._last_seen[key] = now
        self._open[key] -= 1
        if self._open[key] <= 0:
            del self._open[key]

    def alive(self, owner: str, node: str) -> bool:
        """Whether a Watch is open."""
        return (owner, node) in self._open

    def age(self, owner: str, node: str, now: float) -> float | None:
        """Seconds since a Watch was last open; 0 while one is, None if there never was one."""
        if self.alive(owner, node):
            return 0.0
        last = self._last_seen.get((owner, node))
        return None if last is None else now - last

    def missing(self, owner: str, node: str, now: float) -> float:
        """Seconds for which no Watch is known to have been open."""
        if self.alive(owner, node):
            return 0.0
        return now - self._last_seen.get((owner, node), self._started)

    def lapsed(self, owner: str, node: str, now: float) -> bool:
        """Whether the session has lapsed."""
        return not self.alive(owner, node) and self.missing(owner, node, now) >= self.lapse
