# SPDX-License-Identifier: Apache-2.0
"""A plugin that is connected whenever a runtime is there: handshake, loss, back-off, and again, for ever.

A runtime that starts the plugin itself hands it a connected socket and an identity in its environment; then there is
one connection, and `run` returns when it is lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket as sockets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dynamic_memory.errors import InvalidInput
from dynamic_memory.nri.errors import Disconnected, NriError
from dynamic_memory.nri.events import Event, Runtime
from dynamic_memory.nri.proto.nri_pb2 import ContainerUpdate
from dynamic_memory.nri.session import Late, Session
from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff

__all__ = ["SOCKET", "Stub"]

log = logging.getLogger(__name__)

SOCKET = Path("/var/run/nri/nri.sock")
SYNCHRONIZE = 60.0
"""Seconds from the registration until Synchronize has to be through."""
_NAME = re.compile(r"[A-Za-z0-9_.+-]+")
_INDEX = re.compile(r"[0-9]{2}")

State = Callable[[bool, str], None]


class Stub:
    """Keeps a plugin connected.

    Args:
        plugin: an object with some of the methods of `hooks`.
        name: of the plugin; letters, digits and `_.+-`.
        index: two digits; plugins are called in this order.
        socket: of the runtime.
        state: told whether the plugin is synchronized, and why not.
        late: told of answers that came near the runtime's patience: method and seconds.
        backoff: waits between tries.
        environ: where a runtime that starts the plugin leaves its socket; default: the process's environment.

    Raises:
        InvalidInput: name or index are not as a runtime wants them.

    """

    def __init__(
        self,
        plugin: object,
        *,
        name: str,
        index: str = "00",
        socket: Path = SOCKET,
        state: State | None = None,
        late: Late | None = None,
        backoff: Backoff | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._given = environ.get("NRI_PLUGIN_SOCKET", "")
        self._name = (self._given and environ.get("NRI_PLUGIN_NAME")) or name
        self._index = (self._given and environ.get("NRI_PLUGIN_IDX")) or index
        if not _NAME.fullmatch(self._name):
            raise InvalidInput("nri.name", "letters, digits and _.+-", self._name)
        if not _INDEX.fullmatch(self._index):
            raise InvalidInput("nri.index", "two digits", self._index)
        if self._given and not self._given.isdecimal():
            raise InvalidInput("NRI_PLUGIN_SOCKET", "the number of a file descriptor", self._given)
        self._plugin = plugin
        self._socket = socket
        self._state: State = state or (lambda _ok, _why: None)
        self._late: Late = late or (lambda _method, _seconds: None)
        self._backoff = backoff or Backoff(initial=0.1, maximum=10.0)
        self._session: Session | None = None
        self._nobody = False

    @property
    def nobody_listens(self) -> bool:
        """Whether the last try found no socket, or nobody behind it: the runtime is not there, or has no NRI."""
        return self._nobody

    @property
    def runtime(self) -> Runtime | None:
        """The runtime that the plugin is connected to, once it has presented itself."""
        return self._session.runtime if self._session else None

    @property
    def synchronized(self) -> bool:
        """Whether the plugin is connected and knows what exists."""
        return self._session is not None and self._session.synchronized.is_set()

    @property
    def events(self) -> frozenset[Event]:
        """The events of the present connection."""
        return self._session.events if self._session else frozenset()

    async def run(self) -> None:
        """Connect, and again after each loss, until cancelled (with a socket from the runtime: once)."""
        told = ""
        while True:
            why = await self._once()
            self._state(False, why)
            if self._given:
                return
            log.log(logging.DEBUG if why == told else logging.WARNING, "no runtime", extra={"why": why})
            told = why
            await clock.sleep(self._backoff.next())

    async def update(self, updates: Sequence[ContainerUpdate]) -> list[ContainerUpdate]:
        """Change containers unasked, see `Session.update`."""
        if self._session is None:
            raise Disconnected("no runtime is connected")
        return await self._session.update(updates)

    async def _once(self) -> str:
        """Serve one connection; return why it ended."""
        session = Session(self._plugin, self._late)
        why = "the plugin ends"
        self._nobody = False
        try:
            await self._connect(session)
            self._session = session
            await session.register(self._name, self._index)
            await self._wait_synchronized(session)
            self._backoff.reset()
            log.info("synchronized", extra={"runtime": str(session.runtime)})
            self._state(True, "")
            why = await asyncio.shield(session.mux.closed)
        except (NriError, OSError) as error:
            why = str(error)
            self._nobody = isinstance(error, (FileNotFoundError, ConnectionRefusedError)) and self._session is None
        finally:
            self._session = None
            await session.close(why)
        return why

    async def _connect(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        if self._given:
            await loop.create_unix_connection(lambda: session.mux, sock=sockets.socket(fileno=int(self._given)))
        else:
            await loop.create_unix_connection(lambda: session.mux, str(self._socket))

    @staticmethod
    async def _wait_synchronized(session: Session) -> None:
        waiter = asyncio.create_task(session.synchronized.wait())
        waits: set[asyncio.Future[Any]] = {waiter, session.mux.closed}
        try:
            await asyncio.wait(waits, timeout=SYNCHRONIZE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        if session.mux.closed.done():
            raise Disconnected(session.mux.closed.result())
        if not session.synchronized.is_set():
            raise Disconnected(f"the runtime did not synchronize in {SYNCHRONIZE:g} s")
