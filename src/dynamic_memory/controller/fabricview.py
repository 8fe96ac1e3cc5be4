# SPDX-License-Identifier: Apache-2.0
"""The fabric as the controller sees it: one Watch that is kept open, and the capacity it last told.

Whoever decides something about the absence of a thing asks `current` first: while the stream is broken, the view is
only what was true some time ago.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable

from prometheus_client import Counter, Gauge

from dynamic_memory.controller.books import Books
from dynamic_memory.errors import DynamicMemoryError, Kind
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.fabric.model import Capacity, Change, HostWindow, Share, Snapshot
from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff

__all__ = ["FabricView"]

log = logging.getLogger(__name__)

CONNECTED = Gauge("dynamic_memory_controller_fabric_connected", "1 while the Watch of the service is open.")
SHARES = Gauge("dynamic_memory_controller_shares", "Shares of this cluster on the fabric.")
RECONNECTS = Counter("dynamic_memory_controller_fabric_reconnects", "Watches of the service that ended.")


class FabricView:
    """Keeps `books` and the capacity up to date.

    Args:
        fabric: the service.
        books: where shares are entered.
        refresh: seconds between two looks at the whole capacity.
        changed: called after each change of shares or capacity; must not raise.
        hosts_changed: called when a host came, went, or changed its domain; must not raise.
        freed: called with each share whose bytes came back; must not raise.
        connected: called with (ok, why) when the stream opens or breaks.

    """

    def __init__(
        self,
        fabric: Fabric,
        books: Books,
        *,
        refresh: float,
        changed: Callable[[], None],
        hosts_changed: Callable[[], None],
        freed: Callable[[Share], None],
        connected: Callable[[bool, str], None],
    ) -> None:
        self._fabric = fabric
        self._books = books
        self._refresh = refresh
        self._changed = changed
        self._hosts_changed = hosts_changed
        self._freed = freed
        self._connected = connected
        self.capacity: Capacity | None = None
        self.current = False

    def host(self, node: str) -> HostWindow | None:
        """Return what the service says of a node's host, as of the last look."""
        if self.capacity is None:
            return None
        return next((host for host in self.capacity.hosts if host.node == node), None)

    async def look(self) -> Capacity:
        """Ask for the whole capacity now.

        Raises:
            FabricError: the service does not answer or refuses.

        """
        capacity = await self._fabric.get_capacity()
        self._take(capacity)
        return capacity

    async def watch(self) -> None:
        """Keep the Watch open, for ever."""
        backoff = Backoff(initial=0.2, maximum=15.0)
        while True:
            why = "the stream ended"
            try:
                await self._follow(backoff)
            except DynamicMemoryError as error:
                why = str(error)
                if error.kind is Kind.NEVER:
                    log.error("the service refuses the controller", extra={"error": why})  # noqa: TRY400
            finally:
                self.current = False
                CONNECTED.set(0)
            RECONNECTS.inc()
            self._connected(False, why)
            log.warning("the fabric does not answer", extra={"error": why})
            await clock.sleep(backoff.next())

    async def _follow(self, backoff: Backoff) -> None:
        stream = self._fabric.watch()
        try:
            async for item in stream:
                if isinstance(item, Snapshot):
                    self._snapshot(item)
                    # The stream tells what changes after its snapshot; the capacity until then has to be asked for.
                    await self.look()
                    self._open()
                    backoff.reset()
                else:
                    self._change(item)
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    async def refresh(self) -> None:
        """Look at the whole capacity from time to time, for ever: health may change without a word."""
        while True:
            await clock.sleep(self._refresh)
            if self.current:
                try:
                    await self.look()
                except DynamicMemoryError as error:
                    log.warning("capacity not known anew", extra={"error": str(error)})

    def _open(self) -> None:
        self.current = True
        CONNECTED.set(1)
        self._connected(True, "")
        self._changed()

    def _snapshot(self, snapshot: Snapshot) -> None:
        for share in self._books.replace_shares(snapshot.shares, clock.monotonic()):
            self._freed(share)
        SHARES.set(len(self._books.shares))

    def _change(self, change: Change) -> None:
        if change.share is not None:
            self._books.put_share(change.share, clock.monotonic())
            self._changed()
        if change.removed_tag is not None:
            share = self._books.drop_share(change.removed_tag)
            if share is not None:
                self._freed(share)
                self._changed()
        if change.capacity is not None:
            self._take(change.capacity)
        SHARES.set(len(self._books.shares))

    def _take(self, capacity: Capacity) -> None:
        old = self.capacity
        if old is not None and capacity.revision < old.revision and self.current:
            return
        self.capacity = capacity
        self._changed()
        if old is None or {(h.node, h.domain) for h in old.hosts} != {(h.node, h.domain) for h in capacity.hosts}:
            self._hosts_changed()
