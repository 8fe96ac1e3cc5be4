# SPDX-License-Identifier: Apache-2.0
"""What a role sees of a node's Linux: memory blocks, and the regions of fabric memory that they belong to.

A *region* is what one tag (one share) has become on this host: a dax device whose extents are memory blocks of a NUMA
node without processors. Its life is create, online, offline, destroy; each of these is idempotent, keeps what was
reached when it fails or is killed, and has a deadline of its own. Only one process at a time may change a host (the
driver's lock sees to that); reading is always possible and never blocks a change.

Memory blocks and their states: Documentation/admin-guide/mm/memory-hotplug.rst and
Documentation/ABI/testing/sysfs-devices-memory of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

__all__ = ["Block", "BlockState", "Host", "Memory", "NumaNode", "Region", "Zone"]

BlockState = Literal["online", "offline", "going-offline"]
Zone = Literal["Movable", "Normal", "none"]


class Block(msgspec.Struct, frozen=True):
    """One memory block of the kernel.

    Attributes:
        index: the N of `memoryN`; its address is index times size.
        node: NUMA node.
        size: bytes.
        state: `going-offline` means that its pages are being moved away: it still holds data.
        zone: where its pages belong while it is online; `none` while it is offline.

    """

    index: int
    node: int
    size: int
    state: BlockState
    zone: Zone


class Region(msgspec.Struct, frozen=True):
    """The memory of one tag on this host.

    Attributes:
        tag: UUID text.
        size: bytes that it has when it is whole.
        node: NUMA node of its blocks; None while it has none.
        blocks: those that the kernel has, in the order of their addresses; fewer than `size` stands for if making or
            destroying the region was interrupted.

    """

    tag: str
    size: int
    node: int | None = None
    blocks: tuple[Block, ...] = ()

    @property
    def present(self) -> int:
        """Bytes that the kernel has blocks for."""
        return sum(block.size for block in self.blocks)

    @property
    def whole(self) -> bool:
        """Whether the kernel has blocks for all bytes."""
        return self.present == self.size

    @property
    def online(self) -> int:
        """Bytes that are online, in zone Movable: elsewhere they could not be taken back."""
        return sum(block.size for block in self.blocks if block.state == "online" and block.zone == "Movable")

    @property
    def complete(self) -> bool:
        """Whether all bytes are online."""
        return self.online == self.size

    @property
    def any_online(self) -> bool:
        """Whether a block is not offline: then nothing of the region may be taken away."""
        return any(block.state != "offline" for block in self.blocks)


class NumaNode(msgspec.Struct, frozen=True):
    """A NUMA node.

    Attributes:
        id: its number.
        total: bytes online.
        cpus: it has processors.
        movable: all blocks online on it are in zone Movable, so it is no home for what the kernel itself allocates.

    """

    id: int
    total: int
    cpus: bool
    movable: bool


class Memory(msgspec.Struct, frozen=True):
    """The memory of the whole host.

    Attributes:
        block_size: bytes of a memory block.
        nodes: NUMA nodes by number.
        total: bytes online (MemTotal).
        auto_online: what the kernel does with new blocks: `offline`, `online`, `online_kernel` or `online_movable`.
        fabric_online: bytes of regions that are online.

    """

    block_size: int
    nodes: tuple[NumaNode, ...]
    total: int
    auto_online: str
    fabric_online: int


class Host(Protocol):
    """The Linux of one node. Sizes and offsets in bytes."""

    @property
    def simulated(self) -> bool:
        """Whether this only stands for a kernel; whoever reports about the host has to say so."""
        ...

    async def boot_id(self) -> str:
        """Identity of the present boot: another one means that every region is gone.

        Raises:
            Unreadable: the kernel does not tell.

        """
        ...

    async def memory(self) -> Memory:
        """Blocks and NUMA nodes in total.

        Raises:
            Unreadable: the kernel does not tell.

        """
        ...

    async def regions(self) -> dict[str, Region]:
        """By tag, everything made of fabric memory that is present, also half-made.

        Raises:
            Unreadable: the kernel does not tell.

        """
        ...

    async def region(self, tag: str) -> Region | None:
        """What is present of one tag; as quick with many regions as with one.

        Raises:
            Unreadable: the kernel does not tell.

        """
        ...

    async def create_region(self, tag: str, size: int, ranges: Sequence[tuple[int, int]]) -> Region:
        """Make the region of extents that have arrived; its blocks are offline then.

        A region of the tag that is half-made is completed; one that is whole is returned as it is.

        Args:
            tag: UUID text.
            size: bytes.
            ranges: (offset on the fabric's device, size) of each extent.

        Raises:
            NotArrived: not all extents are visible yet. Nothing is waited for.
            RegionFailed: they cannot become a region of memory blocks that could be taken back.
            HostTimeout: the kernel did not answer in time.

        """
        ...

    async def online(self, tag: str) -> Region:
        """Bring every block online in zone Movable, and verify.

        Raises:
            NoRegion: there is none of this tag.
            OnlineFailed: for some blocks it did not work; the others are online.
            HostTimeout: the kernel did not answer in time.

        """
        ...

    async def offline(self, tag: str) -> Region:
        """Take every block offline, and verify.

        Raises:
            NoRegion: there is none of this tag.
            Busy: some blocks cannot go now, or there is no room for what they hold (then none has been touched).
            HostTimeout: the kernel did not answer in time.

        """
        ...

    async def destroy_region(self, tag: str) -> None:
        """Take the region away; without one of this tag there is nothing to do.

        Raises:
            StillOnline: a block is not offline.
            RegionFailed: the kernel refuses.
            HostTimeout: the kernel did not answer in time.

        """
        ...
