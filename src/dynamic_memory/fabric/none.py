# SPDX-License-Identifier: Apache-2.0
"""A node that has no fabric: it holds nothing, can map nothing, and is always in session with nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from dynamic_memory.fabric.errors import UnknownDevice
from dynamic_memory.fabric.model import Capacity, Change, Removed, RemovedState, Share, Snapshot

__all__ = ["NoFabric"]


class NoFabric:
    """A `Fabric` without memory."""

    async def add_memory(self, *, node: str, pool: str, device: str, size: int, tag: str) -> Share:
        """Refuse.

        Raises:
            UnknownDevice: always.

        """
        del node, size, tag
        raise UnknownDevice(f"{pool}/{device}")

    async def remove_memory(self, tag: str, *, host_off: bool = False, force: bool = False) -> Removed:
        """Have nothing to give back."""
        del tag, host_off, force
        return Removed(state=RemovedState.UNKNOWN)

    async def get_capacity(self, node: str | None = None) -> Capacity:
        """Have nothing."""
        del node
        return Capacity(revision=0, pools=(), hosts=(), simulated=False)

    async def list_extents(self) -> Snapshot:
        """Hold nothing."""
        return Snapshot(revision=0, shares=())

    async def watch(self) -> AsyncIterator[Snapshot | Change]:
        """Say once that there is nothing."""
        yield await self.list_extents()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Have nothing to close."""
