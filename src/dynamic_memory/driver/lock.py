# SPDX-License-Identifier: Apache-2.0
"""The locks that the driver processes of one node share: locks of the kernel on open files, which end with a process.

The node's lock: only its holder attaches and detaches (rule 13). The file has the holder's name, and what the holder
tells the others of itself, which counts only as long as it holds the lock.

The lock of the ledger: for the time of a few writes. The file has the mark of who wrote last.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from dynamic_memory.process import clock

__all__ = ["LedgerLock", "NodeLock"]

log = logging.getLogger(__name__)

MOST = 1 << 16
"""Bytes of the file that are read."""


class NodeLock:
    """The lock, as one process sees it.

    Args:
        path: the file; it is made if it is missing and never removed.
        poll: seconds between two tries while another process has it.

    """

    def __init__(self, path: Path, *, poll: float = 0.2) -> None:
        self._path = path
        self._poll = poll
        self._descriptor = -1
        self._name = ""
        self._text: str | None = None
        self.held = False

    def holder(self) -> str:
        """Return the name of the holder, for messages; empty if it cannot be read."""
        with contextlib.suppress(OSError):
            return self._path.read_text(errors="replace").partition("\n")[0].strip()
        return ""

    def tell(self, text: str) -> None:
        """Let other processes know something of this one, while it holds the lock; one line."""
        if not self.held or text == self._text:
            return
        head = f"{self._name}\n".encode()
        self._text = None
        try:
            # what was told before goes first, so that nobody ever reads a mixture of both
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, head, 0)
            os.pwrite(self._descriptor, f"{text}\n".encode(), len(head))
            self._text = text
        except OSError as error:
            log.warning("other drivers of this node cannot be told of this one", extra={"error": str(error)})

    def told(self) -> str:
        """Return what the holder told of itself; empty if it told nothing, or nobody holds the lock."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if not _try(descriptor, fcntl.LOCK_SH):
                    return os.pread(descriptor, MOST, 0).decode(errors="replace").partition("\n")[2].strip()
            finally:
                os.close(descriptor)
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
            if not _try(descriptor):
                waiting()
            while not _try(descriptor):
                await clock.sleep(self._poll)
            self.held, self._descriptor, self._name, self._text = True, descriptor, name, None
            self.tell("")
            yield
        finally:
            self.held = False
            os.close(descriptor)


class LedgerLock:
    """The lock of the ledger, as one process sees it.

    Args:
        path: the file; it is made if it is missing and never removed.
        poll: seconds between two tries while another process has it.
        patience: seconds until a process is told that it does not get it; a process that has it may be stopped.

    """

    def __init__(self, path: Path, *, poll: float = 0.005, patience: float = 10.0) -> None:
        self._path = path
        self._poll = poll
        self._patience = patience
        self._mark = secrets.token_hex(8).encode()
        self._within = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def hold(self, read_again: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Wait for the lock, hold it for the block.

        Args:
            read_again: called before the block if another process has held it since this one did.

        Raises:
            TimeoutError: another process does not let go of it.
            OSError: the file cannot be made or written.

        """
        async with self._within:
            until = clock.monotonic() + self._patience
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while not _try(descriptor):
                    if clock.monotonic() >= until:
                        raise TimeoutError(f"another driver of this node does not let go of {self._path}")
                    await clock.sleep(self._poll)
                if os.pread(descriptor, len(self._mark), 0) != self._mark:
                    await read_again()
                    # before anything is written: what a killed process has written the next one has to read
                    os.pwrite(descriptor, self._mark, 0)
                yield
            finally:
                os.close(descriptor)


def _try(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
