# SPDX-License-Identifier: Apache-2.0
"""The simulated kernel behind the interface of a host: one operation at a time, each with a deadline.

As in a real kernel, memory hot-plug is one at a time: while an operation hangs, the others wait, and their deadlines
count. What a real host runs in a child process that can be killed is here a wait that can be cancelled; short changes
to files run in a thread and are always finished, so that nobody goes on while a change is still under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from dynamic_memory.host import planner
from dynamic_memory.host.config import SimulatedHostConfig
from dynamic_memory.host.errors import Busy, HostTimeout, NoRegion, NotArrived, RegionFailed
from dynamic_memory.host.interface import Block, Memory, Region
from dynamic_memory.host.simulated.faults import FaultFile, Operation
from dynamic_memory.host.simulated.files import Files
from dynamic_memory.host.simulated.kernel import Kernel
from dynamic_memory.host.simulated.tree import build
from dynamic_memory.process import clock

__all__ = ["SimulatedHost"]

T = TypeVar("T")

HANG_STEP = 0.1
"""Seconds after which a hanging operation looks whether the fault was lifted."""


class SimulatedHost:
    """A host whose kernel is a tree of files, made at once if it is not there.

    Args:
        config: where it is, and what it is like if it has to be made.
        deadline: seconds that one operation may take.
        files: how the tree is changed.

    """

    simulated = True

    def __init__(self, config: SimulatedHostConfig, *, deadline: float = 60.0, files: Files | None = None) -> None:
        build(config)
        self.root: Path = config.root
        self._deadline = deadline
        self._kernel = Kernel(config.root, files)
        self._faults = FaultFile(config.root)
        self._one_at_a_time = asyncio.Lock()

    # --- reading

    async def boot_id(self) -> str:
        """See `Host`."""
        return await asyncio.to_thread(self._kernel.sysfs.boot_id)

    async def memory(self) -> Memory:
        """See `Host`."""
        return await asyncio.to_thread(self._kernel.sysfs.memory)

    async def regions(self) -> dict[str, Region]:
        """See `Host`."""
        return await asyncio.to_thread(self._kernel.sysfs.regions)

    async def region(self, tag: str) -> Region | None:
        """See `Host`."""
        return await asyncio.to_thread(self._kernel.region, tag)

    # --- changing

    async def create_region(self, tag: str, size: int, ranges: Sequence[tuple[int, int]]) -> Region:
        """See `Host`."""
        async with self._operation("create", tag):
            if await asyncio.to_thread(self._kernel.device, tag) is None:
                self._arrival(tag, size)
            await self._hang("create", tag)
            if self._faults.remaining("create", "refuse", tag):
                raise RegionFailed(tag, f"commit: {os.strerror(errno.ENXIO)}")
            await _finish(lambda: self._kernel.plug(tag, size, ranges))
            return await self._region(tag)

    async def online(self, tag: str) -> Region:
        """See `Host`."""
        async with self._operation("online", tag):
            region = await self._region(tag)
            why = ""
            for block in planner.to_online(region):
                why = await self._online(region, block) or why
            region = await self._region(tag)
            planner.check_online(region, why)
            return region

    async def offline(self, tag: str) -> Region:
        """See `Host`."""
        async with self._operation("offline", tag):
            region = await self._region(tag)
            planner.check_headroom(region, await asyncio.to_thread(self._kernel.sysfs.uses))
            refused: dict[int, str] = {}
            for block in planner.to_offline(region):
                why = await self._offline(region, block)
                if why:
                    refused[block.index] = why
            region = await self._region(tag)
            left = [block.index for block in planner.to_offline(region)]
            if left:
                raise Busy(tag, left, next(iter(refused.values()), ""))
            return region

    async def destroy_region(self, tag: str) -> None:
        """See `Host`."""
        async with self._operation("destroy", tag):
            region = await asyncio.to_thread(self._kernel.region, tag)
            if region is None:
                return
            planner.check_destroy(region)
            await self._hang("destroy", tag)
            if self._faults.remaining("destroy", "refuse", tag):
                raise RegionFailed(tag, f"decommit: {os.strerror(errno.EBUSY)}")
            await _finish(lambda: self._kernel.unplug(tag))

    # --- parts

    @contextlib.asynccontextmanager
    async def _operation(self, operation: Operation, tag: str) -> AsyncIterator[None]:
        """Hold the kernel for one change, with a deadline; before and after it, put right what follows from blocks."""
        scope = asyncio.timeout(self._deadline)
        try:
            async with scope, self._one_at_a_time:
                await self._settle()
                try:
                    yield
                finally:
                    await self._settle()
        except TimeoutError as error:
            if scope.expired():
                raise HostTimeout(operation, tag, self._deadline) from error
            raise

    async def _settle(self) -> None:
        used = self._faults.read().used
        await _finish(lambda: self._kernel.settle(used))

    async def _region(self, tag: str) -> Region:
        region = await asyncio.to_thread(self._kernel.region, tag)
        if region is None:
            raise NoRegion(tag)
        return region

    def _arrival(self, tag: str, size: int) -> None:
        if self._faults.remaining("arrive", "refuse", tag) or self._faults.remaining("arrive", "hang", tag):
            raise NotArrived(tag, size)

    async def _online(self, region: Region, block: Block) -> str:
        """Bring a block online; return the kernel's reason if it refuses."""
        position = region.blocks.index(block)
        await self._hang("online", region.tag, position)
        if self._faults.remaining("online", "refuse", region.tag, position):
            return os.strerror(errno.ENOMEM)
        return await self._write(block.index, *(("offline",) if block.state != "offline" else ()), "online_movable")

    async def _offline(self, region: Region, block: Block) -> str:
        """Take a block offline; return the kernel's reason if it refuses."""
        position = region.blocks.index(block)
        if self._faults.remaining("offline", "hang", region.tag, position):
            await _finish(lambda: self._kernel.mark(block.index, going=True))
            try:
                await self._hang("offline", region.tag, position)
            finally:
                await _finish(lambda: self._kernel.mark(block.index, going=False))
        if self._faults.remaining("offline", "refuse", region.tag, position):
            return os.strerror(errno.EBUSY)
        return await self._write(block.index, "offline")

    async def _write(self, index: int, *values: str) -> str:
        try:
            for value in values:
                await _finish(lambda value=value: self._kernel.write_state(index, value))  # type: ignore[misc]  # bound at once
        except OSError as error:
            return error.strerror or str(error)
        return ""

    async def _hang(self, operation: Operation, tag: str, position: int = 0) -> None:
        while left := self._faults.remaining(operation, "hang", tag, position):
            await clock.sleep(min(left, HANG_STEP))


async def _finish(change: Callable[[], T]) -> T:
    """Run a short change in a thread; if the caller is cancelled meanwhile, the change is finished first."""
    task = asyncio.ensure_future(asyncio.to_thread(change))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise
