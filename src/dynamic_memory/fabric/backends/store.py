# SPDX-License-Identifier: Apache-2.0
"""Where the simulated fabric remembers what real hardware would hold: a file of its own, or nothing.

A change counts only when it is on disk. Writing costs a few hundred microseconds whatever it holds, so changes that
come while one write is under way share the next one (group commit).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from dynamic_memory.errors import InvalidInput, RetryError
from dynamic_memory.fabric.backends.interface import Allocation
from dynamic_memory.process import clock, durable

__all__ = ["FileStore", "InUse", "MemoryStore", "Store"]

_VERSION = 1
_LOCK_PATIENCE = 10.0
_LOCK_STEP = 0.1


class InUse(RetryError):
    """Another process holds the state file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(path)

    def __str__(self) -> str:
        return f"{self.path} is in use by another process"


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    allocations: tuple[Allocation, ...]


class Store(Protocol):
    """Memory that survives, or not."""

    async def open(self) -> tuple[Allocation, ...]:
        """Everything remembered."""
        ...

    async def commit(self, current: Callable[[], Iterable[Allocation]]) -> None:
        """Remember what `current` answers, at a moment after this call began; return when it is safe."""
        ...

    async def close(self) -> None:
        """Let go; nothing is lost."""
        ...


class MemoryStore:
    """Remembers as long as the object lives: a test restarts a fabric by making a new one on the same store."""

    def __init__(self) -> None:
        self._kept: tuple[Allocation, ...] = ()

    async def open(self) -> tuple[Allocation, ...]:
        """Everything committed so far."""
        return self._kept

    async def commit(self, current: Callable[[], Iterable[Allocation]]) -> None:
        """Keep it."""
        self._kept = tuple(current())

    async def close(self) -> None:
        """Nothing to let go of."""


class FileStore:
    """One JSON file, replaced at each change; a lock beside it keeps a second process out.

    Args:
        path: the file; its directory is made if absent.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_file: int | None = None
        self._writing = asyncio.Lock()
        self._next: asyncio.Future[None] | None = None
        self._encoder = msgspec.json.Encoder()

    async def open(self) -> tuple[Allocation, ...]:
        """Read the file, once no other process holds it.

        Raises:
            InUse: another process kept it for ten seconds.
            InvalidInput: the file is not one of ours.

        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        await self._lock()
        data = durable.read(self._path)
        if data is None:
            return ()
        try:
            state = msgspec.json.decode(data, type=_State)
        except msgspec.DecodeError as error:
            raise InvalidInput(str(self._path), f"the state of a simulated fabric ({error})") from error
        if state.version != _VERSION:
            raise InvalidInput(str(self._path), f"version {_VERSION} of the state", state.version)
        return state.allocations

    async def commit(self, current: Callable[[], Iterable[Allocation]]) -> None:
        """Write the file anew; calls that come during a write share the next.

        Raises:
            OSError: not written; what the file holds after a crash is then the state before or after.

        """
        if self._next is None:
            self._next = asyncio.ensure_future(self._write(current))
        await asyncio.shield(self._next)

    async def close(self) -> None:
        """Release the lock, after a write under way."""
        async with self._writing:
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    async def _write(self, current: Callable[[], Iterable[Allocation]]) -> None:
        async with self._writing:
            self._next = None
            data = self._encoder.encode(_State(_VERSION, tuple(current())))
            await asyncio.to_thread(durable.write, self._path, data)

    async def _lock(self) -> None:
        self._lock_file = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = clock.monotonic() + _LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if clock.monotonic() >= deadline:
                    os.close(self._lock_file)
                    self._lock_file = None
                    raise InUse(self._path) from None
                await clock.sleep(_LOCK_STEP)
            else:
                return
