# SPDX-License-Identifier: Apache-2.0
"""What is done with memory blocks, and in which order; the same for a simulated and a real kernel. Pure.

Three traps of the kernel are avoided here. Extents that do not fill whole blocks lose their edges silently, so they are
refused. Blocks that came online by themselves may be in zone Normal, from which they never come back, so a host that
does that gets no region. And taking memory offline without room elsewhere does not fail: it kills processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dynamic_memory.host.errors import Busy, NotArrived, OnlineFailed, RegionFailed, StillOnline
from dynamic_memory.host.interface import Block, Region
from dynamic_memory.host.sysfs import Mapping, NodeUse

__all__ = [
    "AUTO_ONLINE_SAFE",
    "check_auto_online",
    "check_destroy",
    "check_headroom",
    "check_online",
    "check_ranges",
    "place",
    "to_offline",
    "to_online",
]

AUTO_ONLINE_SAFE = frozenset({"offline", "online_movable"})
"""What the kernel may do with new blocks by itself, if they shall ever be taken back."""


def check_auto_online(tag: str, policy: str) -> None:
    """Refuse to make a region where its blocks would come online in zone Normal by themselves.

    Raises:
        RegionFailed: they would.

    """
    if policy not in AUTO_ONLINE_SAFE:
        raise RegionFailed(
            tag,
            f"auto_online_blocks is {policy!r}: new memory would go to zone Normal and could not be taken back; "
            "write offline to /sys/devices/system/memory/auto_online_blocks",
        )


def check_ranges(tag: str, size: int, ranges: Sequence[tuple[int, int]], block_size: int) -> None:
    """Refuse extents that are not, together, `size` bytes in whole memory blocks.

    Args:
        tag: of the region.
        size: bytes wanted.
        ranges: (offset on the fabric's device, size) of each extent.
        block_size: bytes of a memory block.

    Raises:
        NotArrived: there are fewer bytes.
        RegionFailed: there are more bytes, none, or parts of blocks.

    """
    have = sum(length for _, length in ranges)
    if size <= 0:
        raise RegionFailed(tag, f"expected more than 0 bytes, got {size}")
    for _, length in ranges:
        if length <= 0 or length % block_size:
            raise RegionFailed(tag, f"an extent of {length} bytes is not a whole number of {block_size}-byte blocks")
    if have < size:
        raise NotArrived(tag, size, have)
    if have > size:
        raise RegionFailed(tag, f"the extents have {have} bytes, {size} were asked for")


def place(
    sizes: Iterable[int], taken: Iterable[Mapping], window: Mapping, block_size: int
) -> tuple[Mapping, ...] | None:
    """Find addresses for extents: each the lowest hole of the window that is large enough.

    Args:
        sizes: bytes of each extent, whole blocks.
        taken: what is in use.
        window: addresses that fabric memory may have.
        block_size: alignment.

    Returns:
        The places in the order of `sizes`, or None if there is none for one of them.

    """
    used = sorted(taken, key=lambda mapping: mapping.start)
    placed: list[Mapping] = []
    for size in sizes:
        start = -(-window.start // block_size) * block_size
        for mapping in used:
            if mapping.start >= start + size:
                break
            start = max(start, -(-(mapping.end + 1) // block_size) * block_size)
        if start + size - 1 > window.end:
            return None
        placed.append(Mapping(start, start + size - 1))
        used = sorted([*used, placed[-1]], key=lambda mapping: mapping.start)
    return tuple(placed)


def to_online(region: Region) -> list[Block]:
    """Return the blocks that have to be brought online, lowest first; those online in another zone are among them."""
    return [block for block in region.blocks if block.state != "online" or block.zone != "Movable"]


def check_online(region: Region, why: str = "") -> None:
    """Verify that all bytes are online in zone Movable.

    Raises:
        OnlineFailed: they are not.

    """
    if not region.complete:
        missing = "" if region.whole else f"the kernel has blocks for {region.present} of {region.size} bytes"
        raise OnlineFailed(region.tag, [block.index for block in to_online(region)], why or missing)


def to_offline(region: Region) -> list[Block]:
    """Return the blocks that have to go offline, highest first: what came last goes first, as decoders require."""
    return [block for block in reversed(region.blocks) if block.state != "offline"]


def check_headroom(region: Region, nodes: Iterable[NodeUse]) -> None:
    """Refuse to take memory offline if what it may hold has no place elsewhere.

    Moving pages needs no more room than the leaving bytes have in use; with all free bytes of the host, theirs
    included, larger than the leaving bytes, there is a place for each.

    Args:
        region: what is to go.
        nodes: all NUMA nodes of the host, that of the region included.

    Raises:
        Busy: there is too little room.

    """
    leaving = to_offline(region)
    size = sum(block.size for block in leaving)
    available = sum(node.available for node in nodes)
    if leaving and available <= size:
        raise Busy(
            region.tag,
            [block.index for block in leaving],
            f"no room for what they hold: {size} bytes would go, the host has {available} bytes to spare",
        )


def check_destroy(region: Region) -> None:
    """Refuse to take a region away that has a block which is not offline (I2).

    Raises:
        StillOnline: it has one.

    """
    blocks = [block.index for block in region.blocks if block.state != "offline"]
    if blocks:
        raise StillOnline(region.tag, blocks)
