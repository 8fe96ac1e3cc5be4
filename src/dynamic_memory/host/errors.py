# SPDX-License-Identifier: Apache-2.0
"""How a host refuses: every failure that an operation on memory blocks and regions can end in.

A caller decides by class and kind alone. What was done before a failure stays done (blocks that went offline are
offline); every operation can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_memory.errors import DynamicMemoryError, NeverError, NotHereError, RetryError

__all__ = [
    "Busy",
    "HostError",
    "HostTimeout",
    "NoRegion",
    "NotArrived",
    "OnlineFailed",
    "RegionFailed",
    "StillOnline",
    "Unreadable",
]


class HostError(DynamicMemoryError):
    """Root of what a host answers instead of success."""


class NotArrived(HostError, RetryError):
    """The fabric has composed the extents; the host does not see all of them yet.

    Args:
        tag: of the region.
        want: bytes that belong to it.
        have: bytes of it that the host sees.

    """

    def __init__(self, tag: str, want: int, have: int = 0) -> None:
        self.tag = tag
        self.want = want
        self.have = have
        super().__init__(tag, want, have)

    def __str__(self) -> str:
        return f"the host sees {self.have} of {self.want} bytes of {self.tag}"


class RegionFailed(HostError, NotHereError):
    """The host cannot make the region, or cannot take it away.

    Args:
        tag: of the region.
        why: the kernel's reason, or what was wrong with the extents.

    """

    def __init__(self, tag: str, why: str) -> None:
        self.tag = tag
        self.why = why
        super().__init__(tag, why)

    def __str__(self) -> str:
        return f"region {self.tag}: {self.why}"


class NoRegion(HostError, RetryError):
    """There is no region of this tag (any more): whoever asked has to look again."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        super().__init__(tag)

    def __str__(self) -> str:
        return f"the host has no region {self.tag}"


class _OfBlocks(HostError):
    """Base of failures that name memory blocks.

    Args:
        tag: of the region.
        blocks: indices of the blocks concerned (the N of `memoryN`).
        why: the kernel's reason.

    """

    what = ""

    def __init__(self, tag: str, blocks: Sequence[int], why: str = "") -> None:
        self.tag = tag
        self.blocks = tuple(blocks)
        self.why = why
        super().__init__(tag, self.blocks, why)

    def __str__(self) -> str:
        count = f"{len(self.blocks)} memory block{'' if len(self.blocks) == 1 else 's'}"
        return f"{count} of {self.tag} {self.what}" + (f": {self.why}" if self.why else "")


class OnlineFailed(_OfBlocks, NotHereError):
    """Blocks did not come online in zone Movable."""

    what = "could not be brought online"


class Busy(_OfBlocks, RetryError):
    """Blocks cannot be taken offline at present: pages in use that cannot move, or no room for them elsewhere."""

    what = "could not be taken offline"


class StillOnline(_OfBlocks, NeverError):
    """The region has blocks that are not offline, so it must not be taken away (the kernel would not object: I2)."""

    what = "not offline"


class HostTimeout(HostError, RetryError):
    """The kernel did not answer in time; the operation was ended.

    Args:
        operation: which (`offline`, `online`, `create`, `destroy`).
        tag: of the region.
        seconds: how long it was waited.

    """

    def __init__(self, operation: str, tag: str, seconds: float) -> None:
        self.operation = operation
        self.tag = tag
        self.seconds = seconds
        super().__init__(operation, tag, seconds)

    def __str__(self) -> str:
        return f"{self.operation} of {self.tag} was not done after {self.seconds:g} s"


class Unreadable(HostError, RetryError):
    """A file of the kernel is missing or has an unexpected content.

    Args:
        path: the file.
        expected: what it should have held, as half a sentence.

    """

    def __init__(self, path: str, expected: str) -> None:
        self.path = path
        self.expected = expected
        super().__init__(path, expected)

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}"
