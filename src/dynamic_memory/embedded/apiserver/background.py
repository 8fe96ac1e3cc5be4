# SPDX-License-Identifier: Apache-2.0
"""What the server does on its own: namespaces that are always there, their contents, and garbage.

It hears of every change from the store and works through what follows from it, one thing after the other. Of a real
cluster these are parts of the API server and of the controller manager that clients rely on without naming them.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import Awaitable, Callable

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.collector import Collector
from dynamic_memory.embedded.apiserver.definitions import Definitions
from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.namespaces import Namespaces
from dynamic_memory.embedded.apiserver.records import Event
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.store import Changed
from dynamic_memory.process import clock

__all__ = ["Background"]

EVENTS = StorageKey("", "events")
EVENT_LIFE = dt.timedelta(hours=1)
EVENT_SWEEP_SECONDS = 60.0
_log = logging.getLogger(__name__)
Work = Callable[[], Awaitable[None]]


class Background:
    """See the module.

    Args:
        api: the server.
        root_ca: certificate of the authority that clients in pods trust, PEM; empty without TLS.

    """

    def __init__(self, api: Api, root_ca: str = "") -> None:
        self._queue: asyncio.Queue[Work] = asyncio.Queue()
        self._namespaces = Namespaces(api, root_ca)
        self._collector = Collector(api)
        self._parts = (Definitions(api), self._namespaces, self._collector)
        self._store = api.core.store
        self._now = api.core.clock.now

    async def prepare(self) -> None:
        """Make what has to be there before the first request; take in what is there already."""
        for part in self._parts:
            for storage in self._store.storages():
                for record in self._store.everything(storage):
                    for work in part.known(record):
                        self._queue.put_nowait(work)
        self._store.listen(self._heard)
        await self._namespaces.prepare()

    def _heard(self, event: Event) -> None:
        for part in self._parts:
            for work in part.heard(event):
                self._queue.put_nowait(work)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work())
            tasks.create_task(self._expire())

    async def _expire(self) -> None:
        """Forget events after an hour, as real servers do."""
        while True:
            await clock.sleep(EVENT_SWEEP_SECONDS)
            oldest = clock.rfc3339(self._now() - EVENT_LIFE)
            for record in self._store.everything(EVENTS):
                if record.object["metadata"].get("creationTimestamp", "") < oldest:
                    with contextlib.suppress(Changed, StatusError):  # the next sweep tries again
                        await self._store.remove(record)

    async def _work(self) -> None:
        while True:
            work = await self._queue.get()
            try:
                await work()
            except StatusError as error:
                # what it was about is gone or has changed; the change brings its own work
                _log.debug("background work was refused: %s", error)
            except Exception:  # noqa: BLE001 - one thing that fails must not stop the others
                _log.exception("background work failed")
            self._queue.task_done()
            await clock.sleep(0)  # clients come first

    async def idle(self) -> None:
        """Wait until all that has happened is worked through."""
        await self._queue.join()
