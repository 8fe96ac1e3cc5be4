# SPDX-License-Identifier: Apache-2.0
"""Watch streams inside the service: a snapshot, then changes, each caller its own view of them.

A watcher that does not read is cut off rather than waited for: it watches again and gets a new snapshot, which is
always right, and costs the service no more than the changes that it would have kept.
"""

from __future__ import annotations

import asyncio

from dynamic_memory.fabric.errors import Unreachable
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
        self._items: asyncio.Queue[Snapshot | Change] = asyncio.Queue()
        self._cut_off = False

    def put(self, item: Snapshot | Change) -> None:
        """Tell it something, or cut it off if it has too much to read already."""
        if self._items.qsize() > self._limit:
            self._cut_off = True
        else:
            self._items.put_nowait(item)

    async def next(self) -> Snapshot | Change:
        """The next item.

        Raises:
            Unreachable: the watcher was too slow; it has to begin again.

        """
        if self._cut_off:
            raise Unreachable("the watcher fell behind")
        return await self._items.get()
