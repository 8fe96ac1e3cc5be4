# SPDX-License-Identifier: Apache-2.0
"""The Linux of a node without fabric memory: it is read, and never changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from dynamic_memory.host.errors import NoRegion, RegionFailed
from dynamic_memory.host.interface import Memory, Region
from dynamic_memory.host.sysfs import Sysfs

__all__ = ["PlainHost"]


class PlainHost:
    """A `Host` that can make no regions.

    Args:
        root: folder in which `sys` and `proc` are.

    """

    simulated = False

    def __init__(self, root: Path) -> None:
        self._sysfs = Sysfs(root)

    async def boot_id(self) -> str:
        """See `Host`."""
        return await asyncio.to_thread(self._sysfs.boot_id)

    async def memory(self) -> Memory:
        """See `Host`."""
        return await asyncio.to_thread(self._sysfs.memory)

    async def regions(self) -> dict[str, Region]:
        """See `Host`."""
        return {}

    async def region(self, tag: str) -> Region | None:
        """See `Host`."""
        del tag
        return None

    async def create_region(self, tag: str, size: int, ranges: Sequence[tuple[int, int]]) -> Region:
        """Refuse.

        Raises:
            RegionFailed: always.

        """
        del size, ranges
        raise RegionFailed(tag, "this host has no fabric memory")

    async def online(self, tag: str) -> Region:
        """See `Host`."""
        raise NoRegion(tag)

    async def offline(self, tag: str) -> Region:
        """See `Host`."""
        raise NoRegion(tag)

    async def destroy_region(self, tag: str) -> None:
        """See `Host`: there is nothing to do."""
