# SPDX-License-Identifier: Apache-2.0
"""What the server does on its own: namespaces that are always there, their contents, and garbage.

It hears of every change from the store and works through what follows from it, one thing after the other. Of a real
cluster these are parts of the API server and of the controller manager that clients rely on without naming them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.collector import Collector
from dynamic_memory.embedded.apiserver.definitions import Definitions
from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.namespaces import Namespaces
from dynamic_memory.embedded.apiserver.records import Event

__all__ = ["Background"]

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

    async def idle(self) -> None:
        """Wait until all that has happened is worked through."""
        await self._queue.join()
