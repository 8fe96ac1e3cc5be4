# SPDX-License-Identifier: Apache-2.0
"""What the other rooms need of a fabric. They code against this, and are given a client, or a fake in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from dynamic_memory.fabric.model import Capacity, Change, Removed, Share, Snapshot

__all__ = ["Fabric"]


class Fabric(Protocol):
    """The Dynamic Memory Service as one caller sees it. Every method raises `FabricError`s."""

    async def add_memory(self, *, node: str, pool: str, device: str, size: int, tag: str) -> Share:
        """Attach `size` bytes of a pool device to a node; the same tag and arguments again give the same share.

        On the node's own repeated call the mark `release_requested` is taken off: the node wants the share after all.

        Raises:
            Unreachable: unknown whether it was done; call again.
            Exhausted: too few bytes; `waiting` says whether bytes are on their way back.
            WindowFull: the host can map no more.
            DeviceDown: pool device or path to the host.
            BackendFailure: the fabric tried and could not; nothing is left behind.
            BadArgument, Unknown, Conflicts, Denied: the call is wrong.

        """
        ...

    async def remove_memory(self, tag: str, *, host_off: bool = False, force: bool = False) -> Removed:
        """Give the bytes of a share back. A tag that is unknown is a success.

        By the node that holds them it is done at once. By the controller it is a request that the node sees on Watch;
        with `host_off` the controller says that the host is out of service, and the service does it if the node's
        session has lapsed too. `force` is for operators.

        Raises:
            Unreachable: unknown whether it was done; call again.
            Rejected: `host_off`, but the node's session has not lapsed. The release is requested all the same.
            DeviceDown, BackendFailure: the bytes are still held.
            BadArgument, Denied: the call is wrong.

        """
        ...

    async def get_capacity(self, node: str | None = None) -> Capacity:
        """Pools of the owner, with all its hosts, or with one. A node sees no host but its own.

        Raises:
            Unreachable: the service does not answer.
            UnknownNode, Denied: the call is wrong.

        """
        ...

    async def list_extents(self) -> Snapshot:
        """All shares that the caller may see: a node its own, a role those of its cluster.

        Raises:
            Unreachable: the service does not answer.
            Denied: the call is wrong.

        """
        ...

    def watch(self) -> AsyncIterator[Snapshot | Change]:
        """First a Snapshot, then Changes. The Watch of a node is its session with the service.

        Raises:
            Unreachable: from the iterator, when the stream ends for whatever reason; watch again.
            Denied: from the iterator.

        """
        ...

    async def close(self) -> None:
        """Let go of connections. Streams end."""
        ...
