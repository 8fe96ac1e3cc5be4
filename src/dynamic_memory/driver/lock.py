# SPDX-License-Identifier: Apache-2.0
"""The node-wide lock: of two driver processes on one node only its holder attaches and detaches (rule 13).

A lock of the kernel on an open file: it is gone with the process, however the process dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from dynamic_memory.process import clock

__all__ = ["NodeLock"]


class NodeLock:
    """The lock, as one process sees it.

    Args:
        path: the file; it is made if it is missing and never removed.
        poll: seconds between two tries while another process has it.

    """

    def __init__(self, path: Path, *, poll: float = 0.2) -> None:
        self._path = path
        self._poll = poll
        self.held = False

    def holder(self) -> str:
        """Return what the holder wrote about itself, for messages; empty if it cannot be read."""
        with contextlib.suppress(OSError):
            return self._path.read_text(errors="replace").strip()
        return ""

    @contextlib.asynccontextmanager
    async def hold(self, name: str, waiting: Callable[[], None]) -> AsyncIterator[None]:
        """Wait for the lock, hold it for the block.

        Args:
            name: what `holder` shall say while this process has it.
            waiting: called once if another process has it.

        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = await asyncio.to_thread(os.open, self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not self._try(descriptor):
                waiting()
            while not self._try(descriptor):
                await clock.sleep(self._poll)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{name}\n".encode(), 0)
            self.held = True
            yield
        finally:
            self.held = False
            os.close(descriptor)

    @staticmethod
    def _try(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
