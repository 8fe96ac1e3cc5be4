# SPDX-License-Identifier: Apache-2.0
"""The fabric as this node sees it, kept current by a Watch, which is also the node's session with the service.

A view that is not synced is never a reason to take anything away: `synced` turns false as soon as the stream ends.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable

from dynamic_memory.errors import DynamicMemoryError, Kind
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.fabric.model import Capacity, Change, Share, Snapshot
from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff

__all__ = ["FabricView"]

log = logging.getLogger(__name__)


class FabricView:
    """Shares and capacity of one node.

    Args:
        fabric: the client.
        node: name of the node.
        backoff: between two tries to watch.

    """

    def __init__(self, fabric: Fabric, node: str, backoff: Backoff | None = None) -> None:
        self._fabric = fabric
        self._node = node
        self._backoff = backoff or Backoff(initial=0.1, maximum=5.0)
        self._shares: dict[str, Share] = {}
        self._on_share: list[Callable[[str], None]] = []
        self._on_capacity: list[Callable[[], None]] = []
        self._on_state: list[Callable[[bool, str], None]] = []
        self.capacity: Capacity | None = None
        self.synced = False

    def subscribe(
        self,
        *,
        share: Callable[[str], None] | None = None,
        capacity: Callable[[], None] | None = None,
        state: Callable[[bool, str], None] | None = None,
    ) -> None:
        """Call back when a share changed (with its tag), when capacity or health changed, when the session changed."""
        self._on_share.extend([share] if share else [])
        self._on_capacity.extend([capacity] if capacity else [])
        self._on_state.extend([state] if state else [])

    def get(self, tag: str) -> Share | None:
        """Return what this node holds under a tag."""
        return self._shares.get(tag)

    def all(self) -> list[Share]:
        """Return everything that this node holds."""
        return list(self._shares.values())

    def learned(self, share: Share) -> None:
        """Take in what an answer of the service said, before the Watch repeats it."""
        self._put(share)

    def forgot(self, tag: str) -> None:
        """Take in that the service has taken the bytes of a tag back."""
        self._drop(tag)

    async def refresh(self) -> Capacity:
        """Ask for the capacity anew.

        Raises:
            FabricError: the service does not answer, or refuses.

        """
        self.capacity = await self._fabric.get_capacity(self._node)
        for call in self._on_capacity:
            call()
        return self.capacity

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            try:
                await self._follow()
                why = "the service ended the session"
            except DynamicMemoryError as error:
                why = str(error)
                level = logging.WARNING if error.kind is Kind.RETRY else logging.ERROR
                log.log(level, "no session with the fabric service", extra={"error": why})
            self._set_state(synced=False, why=why)
            await clock.sleep(self._backoff.next())

    async def _follow(self) -> None:
        """Take in what one Watch tells, until it ends; it is closed before the next one begins."""
        stream = self._fabric.watch()
        try:
            async for item in stream:
                if isinstance(item, Snapshot):
                    await self._begin(item)
                else:
                    self._change(item)
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    async def _begin(self, snapshot: Snapshot) -> None:
        tags = {share.tag for share in snapshot.shares}
        for tag in [tag for tag in self._shares if tag not in tags]:
            self._drop(tag)
        for share in snapshot.shares:
            self._put(share)
        await self.refresh()
        self._backoff.reset()
        self._set_state(synced=True, why="")

    def _change(self, change: Change) -> None:
        if change.share is not None:
            self._put(change.share)
        if change.removed_tag is not None:
            self._drop(change.removed_tag)
        if change.capacity is not None:
            self.capacity = change.capacity
            for call in self._on_capacity:
                call()

    def _put(self, share: Share) -> None:
        if share.node != self._node or self._shares.get(share.tag) == share:
            return
        self._shares[share.tag] = share
        self._tell(share.tag)

    def _drop(self, tag: str) -> None:
        if self._shares.pop(tag, None) is not None:
            self._tell(tag)

    def _tell(self, tag: str) -> None:
        for call in self._on_share:
            call(tag)

    def _set_state(self, *, synced: bool, why: str) -> None:
        if synced != self.synced:
            self.synced = synced
            for call in self._on_state:
                call(synced, why)
