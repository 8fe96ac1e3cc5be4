# SPDX-License-Identifier: Apache-2.0
"""Watch streams inside the service: a snapshot, then changes, each caller its own view of them.

A watcher that does not read is cut off rather than waited for: it watches again and gets a new snapshot, which is
always right, and costs the service no more than the changes that it would have kept.
"""

from __future__ import annotations

import asyncio

from dynamic_memory.fabric.errors import FabricError, Unreachable
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.fabric.model import Change, Snapshot

__all__ = ["Watcher"]


class Watcher:
    """What one caller has yet to be told.

    Args:
        caller: whose view it is.
        limit: changes that are kept for it.

    """

    def __init__(self, caller: Identity, limit: int) -> None:
        self.caller = caller
        self._limit = limit
        self._items: asyncio.Queue[Snapshot | Change | None] = asyncio.Queue()
        self._ended: FabricError | None = None

    def put(self, item: Snapshot | Change) -> None:
        """Tell it something, or cut it off if it has too much to read already."""
        if self._items.qsize() > self._limit:
            self.end(Unreachable("the watcher fell behind"))
        elif self._ended is None:
            self._items.put_nowait(item)

    def end(self, why: FabricError) -> None:
        """Tell it nothing more, but why."""
        if self._ended is None:
            self._ended = why
            self._items.put_nowait(None)

    async def next(self) -> Snapshot | Change:
        """The next item.

        Raises:
            FabricError: why there is none; the watcher has to begin again.

        """
        item = None if self._ended is not None else await self._items.get()
        if item is None:
            raise self._ended or Unreachable("the watch has ended")
        return item
