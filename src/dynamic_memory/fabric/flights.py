# SPDX-License-Identifier: Apache-2.0
"""Operations that outlive their callers.

A fabric may be slower than a caller's deadline. If each call began from the start, and were cut off at its deadline,
none would ever succeed; so an operation, once begun, runs to its end, and a call that asks for exactly the same while
it runs waits for the same end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

from dynamic_memory.fabric.errors import Unreachable

__all__ = ["Flights"]

T = TypeVar("T")


class Flights:
    """Operations under way, by what they do.

    Args:
        limit: how many may be under way at a time.

    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def join(self, key: Hashable, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for the operation `key`, which is begun unless it is under way. Cancelling the wait leaves it alone.

        Raises:
            Unreachable: too many are under way.
            FabricError: what the operation raises.

        """
        task: asyncio.Task[T] | None = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= self._limit:
                raise Unreachable("too many operations are under way")
            task = asyncio.create_task(begin())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait until all that is under way has ended, well or badly."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    def _landed(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            # Marks the exception as seen: all callers may have gone, and the next call will meet it again.
            task.exception()
