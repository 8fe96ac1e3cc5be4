# SPDX-License-Identifier: Apache-2.0
"""What a fabric holds, in the words that callers use: shares, pool devices, host windows.

These are values: the client builds them from answers, the service from its backend, tests from nothing. All sizes and
offsets are bytes, all ages are seconds.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = [
    "MAX_SIZE",
    "Attribute",
    "Capacity",
    "Change",
    "HostWindow",
    "PoolDevice",
    "Range",
    "Removed",
    "RemovedState",
    "Share",
    "Snapshot",
]

MAX_SIZE = 1 << 52
"""Largest size that is not absurd, in bytes: what a host with 52 physical address bits could map at all."""

Attribute = int | bool | str


class Range(msgspec.Struct, frozen=True):
    """One extent: a contiguous piece of a pool device.

    Attributes:
        device_offset: where it begins on the pool device, bytes.
        size: its length, bytes.

    """

    device_offset: int
    size: int

    @property
    def end(self) -> int:
        """First byte after the extent."""
        return self.device_offset + self.size


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of a pool device that one host holds under one tag.

    Attributes:
        tag: UUID text; the shareID of the allocation result that the memory was attached for.
        owner: the cluster that the host and the pool are configured for.
        node: name of the node that holds the memory.
        pool: name of the pool (`fabric/<domain>`).
        device: pool device that the bytes are on.
        size: bytes, the sum of all ranges.
        ranges: the extents, in the order in which the host sees them.
        release_requested: somebody other than the node asked for these bytes; the node should give them back.

    """

    tag: str
    owner: str
    node: str
    pool: str
    device: str
    size: int
    ranges: tuple[Range, ...]
    release_requested: bool = False


class PoolDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device that memory is taken from.

    Attributes:
        pool: name of its pool.
        device: its name in the pool.
        domain: the fabric domain: which hosts can reach it.
        total: bytes that the owner of the pool can use, taken or not.
        free: bytes that nobody holds.
        unit: every size is a multiple of this, bytes.
        healthy: it can be used now.
        why: if not, the reason in a few words.
        attributes: what else is known of it, for example `latencyNs`.

    """

    pool: str
    device: str
    domain: str
    total: int
    free: int
    unit: int
    healthy: bool
    why: str = ""
    attributes: dict[str, Attribute] = {}


class HostWindow(msgspec.Struct, frozen=True, kw_only=True):
    """How much fabric memory one host can map in all, and how much of that it does.

    Attributes:
        node: the node's name by configuration.
        host: the fabric's name for it.
        domain: the fabric domain that it belongs to.
        device: name of the window device, for example `port0`.
        total: bytes that it can map.
        max_extents: extents that it can hold.
        used: bytes that it holds.
        used_extents: extents that it holds.
        unit: every size is a multiple of this, bytes.
        healthy: the path from the fabric to the host works.
        why: if not, the reason in a few words.
        session: a Watch of this node is open.
        session_age: seconds since a Watch of this node was last open (0 while one is); None if there was none since
            the service started.
        session_lapsed: no Watch was open for the time that the service waits before it believes that a host is off.

    """

    node: str
    host: str
    domain: str
    device: str
    total: int
    max_extents: int
    used: int
    used_extents: int
    healthy: bool
    why: str = ""
    session: bool = False
    session_age: float | None = None
    unit: int = 1
    session_lapsed: bool = False


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an owner can use, with its health. `simulated` says that no hardware is behind it."""

    revision: int
    pools: tuple[PoolDevice, ...]
    hosts: tuple[HostWindow, ...]
    simulated: bool


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All shares that the caller may see, at one revision. Revisions grow, also over restarts of the service."""

    revision: int
    shares: tuple[Share, ...]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One step after a snapshot: exactly one of the three is set.

    Attributes:
        revision: larger than that of everything before it on the stream.
        share: a share that is new, or that changed.
        removed_tag: tag of a share whose bytes are back in the pool.
        capacity: health or totals changed; the whole capacity as the caller may see it.

    """

    revision: int
    share: Share | None = None
    removed_tag: str | None = None
    capacity: Capacity | None = None


class RemovedState(enum.StrEnum):
    """What became of a RemoveMemory."""

    DONE = "done"
    """The bytes are back in the pool."""
    REQUESTED = "requested"
    """The node was asked to give them back; Watch will tell when it did."""
    UNKNOWN = "unknown"
    """No such share: there was nothing to do."""


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of RemoveMemory; every state is a success."""

    state: RemovedState
