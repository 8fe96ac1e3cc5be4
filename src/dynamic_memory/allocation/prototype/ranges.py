# SPDX-License-Identifier: Apache-2.0
"""Sets of integers as sorted, disjoint ranges: the prototype's way to hand out numbered things.

Blocks took their place in the types (`blockSize`), so nothing allocates by ranges today; they are kept, with exact
differences, because drivers number VLANs, queues and ports like that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["IntRanges"]


class IntRanges:
    """A set of integers; ranges include both ends. Immutable."""

    __slots__ = ("segments",)

    def __init__(self, segments: Iterable[tuple[int, int]] = ()) -> None:
        merged: list[tuple[int, int]] = []
        for first, last in sorted(segment for segment in segments if segment[0] <= segment[1]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        self.segments = tuple(merged)

    def __or__(self, other: IntRanges) -> IntRanges:
        return IntRanges((*self.segments, *other.segments))

    def __sub__(self, other: IntRanges) -> IntRanges:
        left = []
        for first, last in self.segments:
            start = first
            for cut_first, cut_last in other.segments:
                if cut_last < start or cut_first > last:
                    continue
                left.append((start, cut_first - 1))
                start = cut_last + 1
            left.append((start, last))
        return IntRanges(left)

    def __eq__(self, other: object) -> bool:
        return self.segments == other.segments if isinstance(other, IntRanges) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.segments)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.segments:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.segments)

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.segments)

    def __repr__(self) -> str:
        return f"IntRanges({self})"
