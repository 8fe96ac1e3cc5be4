# SPDX-License-Identifier: Apache-2.0
"""Which extents of a pool device a share gets. Pure.

A host can hold few extents, so a share gets as few as possible: the smallest hole that is large enough, otherwise the
largest holes first, and the smallest that does for the rest. Sizes and holes are multiples of the unit of the domain,
so no extent is ever cut elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from dynamic_memory.fabric.model import Range

__all__ = ["choose", "holes"]


def holes(total: int, taken: Iterable[Range]) -> list[Range]:
    """Free pieces of a device of `total` bytes, by offset. `taken` may stand in any order; none may overlap."""
    free = []
    position = 0
    for extent in sorted(taken, key=lambda extent: extent.device_offset):
        if extent.device_offset > position:
            free.append(Range(position, min(extent.device_offset, total) - position))
        position = max(position, extent.end)
        if position >= total:
            return free
    if position < total:
        free.append(Range(position, total - position))
    return free


def choose(free: Iterable[Range], size: int) -> tuple[Range, ...] | None:
    """As few extents as make up `size` bytes, by offset; None if all holes together are too small."""
    by_size = sorted(free, key=lambda hole: (hole.size, hole.device_offset))
    chosen: list[Range] = []
    missing = size
    while missing:
        if not by_size:
            return None
        fitting = next((hole for hole in by_size if hole.size >= missing), by_size[-1])
        by_size.remove(fitting)
        taken = min(fitting.size, missing)
        chosen.append(Range(fitting.device_offset, taken))
        missing -= taken
    return tuple(sorted(chosen, key=lambda extent: extent.device_offset))
