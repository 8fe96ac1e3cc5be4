# SPDX-License-Identifier: Apache-2.0
"""A journal that commits when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dynamic_memory.embedded.apiserver.records import Event
from dynamic_memory.embedded.apiserver.store import Store

__all__ = ["HandJournal", "until"]


class HandJournal:
    """Keeps changes back until they are committed by hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.waiting: list[Event] = []
        store.journal = self

    def submit(self, event: Event) -> None:
        self.waiting.append(event)

    def commit(self) -> None:
        events, self.waiting = self.waiting, []
        self.store.committed(events)

    async def close(self) -> None:
        self.commit()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - tasks of this loop bring it about
            await asyncio.sleep(0)
