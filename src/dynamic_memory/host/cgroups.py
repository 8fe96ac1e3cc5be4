# SPDX-License-Identifier: Apache-2.0
"""The ceiling over all pods: the memory limit of the cgroup `kubepods`, in cgroup v1 and v2.

The kubelet writes it once, at its start. Version 2 has `memory.max` (`max` = unlimited) and `memory.current`, version
1 `memory.limit_in_bytes` (a number near 2^63 = unlimited) and `memory.usage_in_bytes`, in the folder of the controller
`memory`. The folder is called `kubepods.slice` with the systemd driver, else `kubepods`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from dynamic_memory.host.errors import HostError, Unreadable

__all__ = ["Ceiling", "CeilingMissing", "CeilingReading", "Unwritable", "find_ceiling"]

PAGE = 4096
HUGE = 1 << 60
"""A limit from here on means none: version 1 has no other way to say it."""
NAMES = ("kubepods.slice", "kubepods")
MAX_FILE = 64
_FILES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}


class CeilingMissing(HostError):
    """There is no cgroup of pods.

    Args:
        root: where it was looked for.

    """

    def __init__(self, root: str) -> None:
        self.root = root
        super().__init__(root)

    def __str__(self) -> str:
        return f"no cgroup of pods below {self.root}"


class Unwritable(HostError):
    """The limit cannot be written.

    Args:
        path: the file.
        why: the kernel's reason.

    """

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(path, why)

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


class CeilingReading(msgspec.Struct, frozen=True):
    """The limit and what is in use under it.

    Attributes:
        limit: bytes; None if there is none.
        usage: bytes, the page cache included.

    """

    limit: int | None
    usage: int


class Ceiling:
    """The limit of one cgroup.

    Args:
        folder: of the cgroup.
        version: of its hierarchy.

    """

    def __init__(self, folder: Path, version: Literal[1, 2]) -> None:
        self.folder = folder
        self.version = version
        limit, usage = _FILES[version]
        self._limit, self._usage = folder / limit, folder / usage

    def read(self) -> CeilingReading:
        """Return the limit and the use.

        Raises:
            Unreadable: a file is missing or not a number.

        """
        limit = self._number(self._limit)
        return CeilingReading(None if limit is None or limit >= HUGE else limit, self._number(self._usage) or 0)

    def write(self, limit: int) -> int:
        """Set the limit, in whole pages; return what it is then.

        Raises:
            Unwritable: the kernel refuses, or the file may not be written.

        """
        rounded = limit // PAGE * PAGE
        try:
            descriptor = os.open(self._limit, os.O_WRONLY | os.O_CLOEXEC | os.O_TRUNC)
            try:
                os.write(descriptor, f"{rounded}\n".encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Unwritable(str(self._limit), error.strerror or str(error)) from error
        return rounded

    @staticmethod
    def _number(path: Path) -> int | None:
        try:
            with path.open(encoding="ascii") as file:
                text = file.read(MAX_FILE).strip()
        except (OSError, ValueError) as error:
            raise Unreadable(str(path), "a limit of a cgroup") from error
        if text == "max":
            return None
        if not text.isdecimal():
            raise Unreadable(str(path), "a number of bytes, or max")
        return int(text)


def find_ceiling(root: Path, path: str | None = None) -> Ceiling:
    """Find the cgroup of pods.

    Args:
        root: where the cgroup file systems are mounted (`/sys/fs/cgroup`).
        path: of the cgroup, from the root of its hierarchy; None to look for it.

    Raises:
        CeilingMissing: there is none.

    """
    names = NAMES if path is None else (path.strip("/"),)
    hierarchies: tuple[tuple[Path, Literal[1, 2]], ...] = ((root, 2), (root / "memory", 1))
    for base, version in hierarchies:
        for name in names:
            if (base / name / _FILES[version][0]).is_file():
                return Ceiling(base / name, version)
    raise CeilingMissing(str(root if path is None else root / path.strip("/")))
