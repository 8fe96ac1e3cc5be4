# SPDX-License-Identifier: Apache-2.0
"""Pods that wait for a node: ready, backing off, or put aside until something happens that can help.

A pod that did not fit is put aside with the names of what could help it, and woken when one of them is called. A pod
that comes again and again waits longer each time; but when nobody else is ready, those that merely did not fit need not
sit out their wait (SchedulerPopFromBackoffQ of Kubernetes). After an error the wait is kept, unless something that may
mend it is called.

What is called while a pod is being decided on is not lost: it counts when the pod is put aside.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterable

from dynamic_memory.embedded.scheduler.types import Pod
from dynamic_memory.kube.queue import EARLY
from dynamic_memory.process import clock

__all__ = ["Entry", "SchedulingQueue"]


class Entry:
    """A pod in the queue."""

    __slots__ = ("added", "attempts", "began", "blockers", "erred", "parked", "pod", "ready_at", "state")

    def __init__(self, pod: Pod, now: float) -> None:
        self.pod = pod
        self.added = now
        self.attempts = 0
        self.erred = False
        self.ready_at = now
        self.parked = now
        self.began = 0
        self.blockers: frozenset[str] = frozenset()
        self.state = ""

    @property
    def uid(self) -> str:
        """UID of the pod."""
        return self.pod.metadata.uid

    @property
    def rank(self) -> tuple[int, float]:
        """Higher priority first, then who came first."""
        return -(self.pod.spec.priority or 0), self.added


class SchedulingQueue:
    """See the module; waits are in seconds."""

    def __init__(self, *, initial: float = 1.0, maximum: float = 10.0) -> None:
        self._initial = initial
        self._maximum = maximum
        self._entries: dict[str, Entry] = {}
        self._ready: list[tuple[tuple[int, float], int, Entry]] = []
        self._backing: list[tuple[float, int, Entry]] = []
        self._parked: dict[str, dict[str, Entry]] = {}
        self._order = itertools.count()
        self._calls = 0
        self._called: dict[str, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, uid: str) -> bool:
        return uid in self._entries

    def state(self, uid: str) -> str:
        """Return "ready", "backoff", "parked", "deciding", or "" for a pod that is not here."""
        entry = self._entries.get(uid)
        return "" if entry is None else entry.state

    def count(self, state: str) -> int:
        """Return how many pods are in a state."""
        return sum(entry.state == state for entry in self._entries.values())

    def add(self, pod: Pod) -> None:
        """Add a pod, or replace what is known of it; a pod put aside stays there."""
        entry = self._entries.get(pod.metadata.uid)
        if entry is not None:
            entry.pod = pod
            return
        entry = self._entries[pod.metadata.uid] = Entry(pod, clock.monotonic())
        self._make_ready(entry)

    def remove(self, uid: str) -> None:
        """Forget a pod."""
        entry = self._entries.pop(uid, None)
        if entry is not None:
            self._unpark(entry)
            entry.state = ""

    async def get(self) -> Entry:
        """Wait for a pod that is ready, and take it; `park`, `fail` or `remove` says how it ended."""
        while True:
            self._changed.clear()
            entry = self._pop()
            if entry is not None:
                entry.state = "deciding"
                entry.attempts += 1
                entry.began = self._calls
                return entry
            wait = max(0.0, self._backing[0][0] - clock.monotonic()) if self._backing else None
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def park(self, entry: Entry, blockers: Iterable[str]) -> None:
        """Put a pod aside until one of `blockers` is called; it may have been called just now."""
        if entry.uid not in self._entries:
            return
        entry.erred = False
        entry.parked = clock.monotonic()
        entry.ready_at = entry.parked + self._wait(entry)
        names = frozenset(blockers)
        if any(self._called.get(name, 0) > entry.began for name in names):
            self._come_back(entry)
            return
        entry.state = "parked"
        self._index(entry, names)

    def fail(self, entry: Entry, blockers: Iterable[str] = ()) -> None:
        """Have a pod tried again after its back-off, or earlier if one of `blockers` is called and nobody is ready."""
        if entry.uid not in self._entries:
            return
        entry.erred = True
        entry.ready_at = clock.monotonic() + self._wait(entry)
        self._come_back(entry)
        self._index(entry, blockers)

    def gate(self, pod: Pod, blockers: Iterable[str]) -> None:
        """Put a pod aside that need not be tried yet: it does not count as an attempt."""
        entry = self._entries.get(pod.metadata.uid)
        if entry is None:
            entry = self._entries[pod.metadata.uid] = Entry(pod, clock.monotonic())
        self._unpark(entry)
        entry.pod = pod
        entry.parked = clock.monotonic()
        entry.state = "parked"
        self._index(entry, blockers)

    def call(self, *names: str) -> None:
        """Wake the pods that one of these can help."""
        self._calls += 1
        for name in names:
            self._called[name] = self._calls
            for entry in list(self._parked.get(name, {}).values()):
                entry.erred = False
                self._come_back(entry)
        if len(self._called) > len(self._entries) + 4096:
            self._called = {name: number for name, number in self._called.items() if number > self._calls - 4096}

    def flush(self, older: float) -> None:
        """Wake pods that were put aside longer than `older` seconds ago; gated ones (no attempt yet) stay."""
        limit = clock.monotonic() - older
        for entry in list(self._entries.values()):
            if entry.state == "parked" and entry.attempts and entry.parked <= limit:
                self._come_back(entry)

    def _wait(self, entry: Entry) -> float:
        return float(min(self._maximum, self._initial * 2 ** min(entry.attempts - 1, 16)))

    def _come_back(self, entry: Entry) -> None:
        self._unpark(entry)
        if entry.ready_at <= clock.monotonic() + EARLY:
            self._make_ready(entry)
            return
        entry.state = "backoff"
        heapq.heappush(self._backing, (entry.ready_at, next(self._order), entry))
        self._changed.set()

    def _make_ready(self, entry: Entry) -> None:
        entry.state = "ready"
        heapq.heappush(self._ready, (entry.rank, next(self._order), entry))
        self._changed.set()

    def _index(self, entry: Entry, names: Iterable[str]) -> None:
        entry.blockers = frozenset(names)
        for name in entry.blockers:
            self._parked.setdefault(name, {})[entry.uid] = entry

    def _unpark(self, entry: Entry) -> None:
        for name in entry.blockers:
            waiting = self._parked.get(name)
            if waiting is not None:
                waiting.pop(entry.uid, None)
                if not waiting:
                    del self._parked[name]
        entry.blockers = frozenset()

    def _pop(self) -> Entry | None:
        now = clock.monotonic() + EARLY
        while self._backing and (self._backing[0][0] <= now or not _current(self._backing[0])):
            item = heapq.heappop(self._backing)
            if _current(item):
                self._make_ready(item[2])
        while self._ready:
            entry = heapq.heappop(self._ready)[2]
            if entry.state == "ready":
                return entry
        early = [item for item in self._backing if _current(item) and not item[2].erred]
        return min(early, key=lambda item: item[:2])[2] if early else None


def _current(item: tuple[float, int, Entry]) -> bool:
    """Tell whether an item of the back-off heap still says when its pod is ready."""
    due, _, entry = item
    return entry.state == "backoff" and entry.ready_at == due
