# SPDX-License-Identifier: Apache-2.0
"""A host within the test's own process and in virtual time: no files, no threads; it refuses what a kernel refuses.

host = FakeHost()
host.busy = "pinned pages"            # every offline is Busy until this is "" again
host.faults["online"] = [OnlineFailed(tag, [3])]   # raised one after the other
host.reboot()
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import msgspec

from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.host.errors import Busy, NoRegion, NotArrived, StillOnline
from dynamic_memory.host.interface import Block, Memory, NumaNode, Region
from dynamic_memory.process import clock

BLOCK = 128 << 20
FAR = 1


class FakeHost:
    """A `Host`. `calls` has every operation with its tag."""

    simulated = True

    def __init__(self) -> None:
        self.boot = str(uuid.uuid4())
        self.made: dict[str, Region] = {}
        self.calls: list[tuple[str, str]] = []
        self.faults: dict[str, list[DynamicMemoryError]] = {}
        self.busy = ""
        self.arrival = 0.0
        self.delay = 0.0
        self._since: dict[str, float] = {}

    async def boot_id(self) -> str:
        return self.boot

    async def memory(self) -> Memory:
        online = sum(region.online for region in self.made.values())
        nodes = (NumaNode(0, 16 << 30, True, False), NumaNode(FAR, online, False, True))
        return Memory(BLOCK, nodes, (16 << 30) + online, "offline", online)

    async def regions(self) -> dict[str, Region]:
        return dict(self.made)

    async def region(self, tag: str) -> Region | None:
        return self.made.get(tag)

    async def create_region(self, tag: str, size: int, ranges: Sequence[tuple[int, int]]) -> Region:
        await self._begin("create", tag)
        assert sum(length for _, length in ranges) == size, "the region and its extents differ in size"
        now = asyncio.get_running_loop().time()
        if now - self._since.setdefault(tag, now) < self.arrival:
            raise NotArrived(tag, size)
        if tag not in self.made or not self.made[tag].whole:
            blocks = tuple(Block(1000 + i, FAR, BLOCK, "offline", "none") for i in range(size // BLOCK))
            self.made[tag] = Region(tag, size, FAR, blocks)
        return self.made[tag]

    async def online(self, tag: str) -> Region:
        await self._begin("online", tag)
        return self._set(tag, "online", "Movable")

    async def offline(self, tag: str) -> Region:
        await self._begin("offline", tag)
        if self.busy:
            raise Busy(tag, [self.made[tag].blocks[-1].index], self.busy)
        return self._set(tag, "offline", "none")

    async def destroy_region(self, tag: str) -> None:
        await self._begin("destroy", tag)
        region = self.made.get(tag)
        if region is not None and region.any_online:
            raise StillOnline(tag, [b.index for b in region.blocks if b.state != "offline"])
        self.made.pop(tag, None)
        self._since.pop(tag, None)

    def reboot(self) -> None:
        """Lose everything that a kernel loses."""
        self.boot = str(uuid.uuid4())
        self.made.clear()
        self._since.clear()

    def _set(self, tag: str, state: str, zone: str) -> Region:
        if tag not in self.made:
            raise NoRegion(tag)
        region = self.made[tag]
        blocks = tuple(msgspec.structs.replace(block, state=state, zone=zone) for block in region.blocks)
        self.made[tag] = msgspec.structs.replace(region, blocks=blocks)
        return self.made[tag]

    async def _begin(self, operation: str, tag: str) -> None:
        self.calls.append((operation, tag))
        if self.delay:
            await clock.sleep(self.delay)
        faults = self.faults.get(operation)
        if faults:
            raise faults.pop(0)
