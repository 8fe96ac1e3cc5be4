# SPDX-License-Identifier: Apache-2.0
"""Keys of objects that need work: each once, never two workers on one, failed ones again with back-off.

A key that is added while it is worked on is worked on once more afterwards, so no change is lost; adding it ten times
while it waits is one piece of work.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable

from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff

__all__ = ["EARLY", "WorkQueue", "work"]

log = logging.getLogger(__name__)

EARLY = 0.001
"""Seconds by which a key may come early: a timer of the event loop may fire a trifle before its time."""


class WorkQueue:
    """A queue of keys.

    Args:
        initial: first wait after a failure, in seconds.
        maximum: longest wait after repeated failures.

    """

    def __init__(self, *, initial: float = 0.2, maximum: float = 60.0) -> None:
        self._initial = initial
        self._maximum = maximum
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._running: set[str] = set()
        self._again: dict[str, float] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, key: str, delay: float = 0.0) -> None:
        """Have `key` worked on, `delay` seconds from now at the latest."""
        due = clock.monotonic() + delay
        if key in self._running:
            self._again[key] = min(due, self._again.get(key, due))
            return
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._order), key))
        self._changed.set()

    async def get(self) -> str:
        """Wait for a key that is due, and take it; `done` gives it back."""
        while True:
            self._changed.clear()
            now = clock.monotonic()
            while self._heap:
                due, _, key = self._heap[0]
                if self._due.get(key) != due:
                    heapq.heappop(self._heap)  # added again for an earlier time
                    continue
                if due > now + EARLY:
                    break
                heapq.heappop(self._heap)
                del self._due[key]
                self._running.add(key)
                return key
            wait = self._heap[0][0] - now if self._heap else None
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: str, *, failed: bool = False) -> None:
        """Say that the work on `key` has ended; after a failure it comes again by itself."""
        self._running.discard(key)
        again = self._again.pop(key, None)
        if failed:
            backoff = self._backoffs.setdefault(key, Backoff(self._initial, self._maximum))
            self.add(key, backoff.next())
        else:
            self._backoffs.pop(key, None)
        if again is not None:
            self.add(key, max(0.0, again - clock.monotonic()))


async def work(queue: WorkQueue, handler: Callable[[str], Awaitable[None]], *, workers: int = 1) -> None:
    """Hand keys to `handler` for ever, `workers` at a time; an exception counts as a failure and is logged."""

    async def worker() -> None:
        while True:
            key = await queue.get()
            failed = True
            try:
                await handler(key)
                failed = False
            except Exception:
                log.exception("work on %s failed", key)
            finally:
                queue.done(key, failed=failed)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())
