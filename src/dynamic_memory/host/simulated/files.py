# SPDX-License-Identifier: Apache-2.0
"""Changes to a tree of files that are seen whole or not at all, whoever looks and whenever the writer dies.

A real kernel shows a device with all its attributes at once. Here, whatever consists of several system calls is done in
a folder that nobody reads, and one rename makes it seen. Nothing is fsynced: a crash of the machine is a reboot, and
the memory would be gone with it.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

__all__ = ["Files", "Tree"]

# A process id alone does not do: in containers that share the tree, everybody is process 1.
_PROCESS = secrets.token_hex(4)


class Files:
    """The system calls of which every change consists; a test can make any of them the last one of a process."""

    def mkdir(self, path: Path | str) -> None:
        """Make a folder."""
        os.mkdir(path)  # noqa: PTH102 - a host is a thousand files, and a `Path` of each takes most of the time

    def write(self, path: Path | str, text: str) -> None:
        """Make a file."""
        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123 - as above
            file.write(text)

    def rename(self, path: Path | str, target: Path | str) -> None:
        """Replace a file, or move a folder to where none is."""
        os.rename(path, target)  # noqa: PTH104 - as above

    def symlink(self, path: Path | str, target: str) -> None:
        """Make a symbolic link."""
        os.symlink(target, path)  # noqa: PTH211 - as above

    def unlink(self, path: Path | str) -> None:
        """Remove a file or link."""
        os.unlink(path)  # noqa: PTH108 - as above

    def rmdir(self, path: Path | str) -> None:
        """Remove an empty folder."""
        os.rmdir(path)  # noqa: PTH106 - as above


class Tree:
    """A tree of files below `root`.

    Args:
        root: its folder; it exists.
        files: how to change it.

    """

    def __init__(self, root: Path, files: Files) -> None:
        self.root = root
        self._files = files
        self._scratch = root / ".scratch"
        self._names = itertools.count()

    def put(self, path: Path, text: str) -> None:
        """Give a file of one line or more its content; a file that has it already is left alone."""
        content = f"{text}\n"
        try:
            if path.read_text(encoding="ascii") == content:
                return
        except FileNotFoundError:
            pass
        temporary = self._temporary()
        self._files.write(temporary, content)
        self._files.rename(temporary, path)

    def place(
        self,
        path: Path,
        content: Mapping[str, str],
        links: Mapping[str, str] | None = None,
        folders: Iterable[str] = (),
    ) -> None:
        """Make a folder with files, those of subfolders included, symbolic links and empty folders.

        Raises:
            OSError: a folder with content stands there already.

        """
        temporary = self._temporary()
        self._files.mkdir(temporary)
        inner = {name.rpartition("/")[0] for name in (*content, *(links or {}))} | set(folders)
        for folder in sorted({part for deepest in inner for part in _folders_of(deepest)}):
            self._files.mkdir(f"{temporary}/{folder}")
        for name, text in content.items():
            self._files.write(f"{temporary}/{name}", f"{text}\n")
        for name, target in (links or {}).items():
            self._files.symlink(f"{temporary}/{name}", target)
        self._files.rename(temporary, path)

    def move(self, path: Path, target: Path) -> None:
        """Move a folder.

        Raises:
            OSError: a folder with content stands there already.

        """
        self._files.rename(path, target)

    def take(self, path: Path) -> None:
        """Remove a folder with all that is in it."""
        temporary = self._temporary()
        self._files.rename(path, temporary)
        self._discard(temporary)

    def link(self, path: Path, target: str) -> None:
        """Make a symbolic link unless there is one."""
        if not path.is_symlink():
            self._files.symlink(path, target)

    def unlink(self, path: Path) -> None:
        """Remove a symbolic link."""
        self._files.unlink(path)

    def clean(self) -> None:
        """Remove what a writer that died has left where nobody reads."""
        if self._scratch.is_dir():
            for entry in list(self._scratch.iterdir()):
                self._discard(entry)

    def _temporary(self) -> Path:
        self._scratch.mkdir(exist_ok=True)
        return self._scratch / f"{os.getpid()}-{_PROCESS}-{next(self._names)}"

    def _discard(self, path: Path | str) -> None:
        if os.path.islink(path) or not os.path.isdir(path):  # noqa: PTH112, PTH114 - as above
            self._files.unlink(path)
            return
        for name in os.listdir(path):  # noqa: PTH208 - as above
            self._discard(f"{path}/{name}")
        self._files.rmdir(path)


def _folders_of(path: str) -> Iterator[str]:
    """Yield a relative path and the folders that it is in, without the empty one."""
    while path:
        yield path
        path = path.rpartition("/")[0]
