# SPDX-License-Identifier: Apache-2.0
"""Small files that survive a crash whole: the old content or the new one, never a part.

Write to a temporary file, fsync it, rename it over the old one, fsync the folder (rename(2) is atomic, but only the
last fsync makes it lasting). These functions block for the time of two fsyncs; callers on an event loop use a thread.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["read", "remove", "write"]

# A process id alone does not do: in containers that share a folder, everybody is process 1.
_PROCESS = secrets.token_hex(4)


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the content of `path`.

    Raises:
        OSError: the folder is missing, full or read-only; the old content is still there.

    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{_PROCESS}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def read(path: Path) -> bytes | None:
    """Return the content, or None if there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def remove(path: Path) -> None:
    """Remove the file, lastingly; it may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
