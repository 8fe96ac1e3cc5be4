# SPDX-License-Identifier: Apache-2.0
"""Where the plugin's sockets are, and the rule that a path must fit into the address of a Unix socket.

With a pod UID in the names the sockets of two driver pods stand beside each other, so that a rolling update is never
without a driver. Without one (a driver outside a pod) the names are fixed, and of two drivers the kubelet could call
only one: the second is refused while the first one listens. A dead one's socket is replaced; those of dead pods, which
nobody takes the names of again, are removed by whoever holds the node's lock (the kubelet would try them for ever).
Between the look whether somebody listens and what follows from it nobody else may take the name, so both are done under
a lock of the kernel on the folder, which leaves no file and ends with its process.

A process removes only sockets of its own. gRPC however unlinks whatever has the name that it listened at, so that is a
hidden one (the kubelet passes over names that begin with a dot), and the socket gets its own name when it serves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from dynamic_memory.api import names
from dynamic_memory.errors import InvalidInput, RetryError

__all__ = [
    "MAX_PATH",
    "Mark",
    "Served",
    "Sockets",
    "check_path",
    "hidden",
    "make_room",
    "remove",
    "show",
    "sockets",
    "sweep",
]

MAX_PATH = 107
"""`sun_path` of Linux is 108 bytes with the zero at its end (unix(7))."""


_PLUGIN = re.compile(r"dra(-[0-9A-Za-z-]+)?\.sock")
_REGISTRATION = re.compile(re.escape(names.DRIVER) + r"(-[0-9A-Za-z-]+)?-reg\.sock")

Mark = tuple[int, int]
"""Device and inode of a socket: its path may be another one's by now."""


class Served(RetryError):
    """Another process listens at a socket of this driver.

    Args:
        path: the socket.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(path)

    def __str__(self) -> str:
        return (
            f"another driver listens at {self.path}: stop it first, or give each driver of this node a name of its own "
            "(podUid, else $POD_UID)"
        )


class Sockets(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of the two sockets of one driver process."""

    plugin: Path
    registration: Path


def sockets(*, plugin_folder: Path, registry_folder: Path, pod_uid: str) -> Sockets:
    """Return the paths for one driver process.

    Raises:
        InvalidInput: a path is too long for a Unix socket.

    """
    suffix = f"-{pod_uid}" if pod_uid else ""
    result = Sockets(
        plugin=plugin_folder / f"dra{suffix}.sock", registration=registry_folder / f"{names.DRIVER}{suffix}-reg.sock"
    )
    check_path(result.plugin)
    check_path(result.registration)
    return result


def check_path(path: Path) -> None:
    """Refuse a path that no Unix socket can have.

    Raises:
        InvalidInput: it is longer than 107 bytes, or relative.

    """
    if not path.is_absolute():
        raise InvalidInput("socket path", "an absolute path", str(path))
    length = len(bytes(path))
    if length > MAX_PATH:
        raise InvalidInput(
            "socket path",
            f"at most {MAX_PATH} bytes (the limit of Unix sockets), this one has {length}: "
            "shorten kubeletRoot, pluginDir or registryDir",
            str(path),
        )


def make_room(path: Path) -> None:
    """Make the folder of a socket, and look whether the name can be had.

    Raises:
        InvalidInput: something that is not a socket has the name.
        Served: a process listens there.

    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    _is_left(path)


def _is_left(path: Path) -> bool:
    """Tell whether a dead process left a socket; to be relied upon while the folder is held.

    Raises:
        InvalidInput: something that is not a socket has the name.
        Served: a process listens there.

    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        raise InvalidInput("socket path", "a free name", str(path))
    if _is_served(path):
        raise Served(path)
    return True


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder against other drivers, for a few system calls."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_served(path: Path) -> bool:
    """Tell whether a process listens at a socket; in doubt (no rights, a full backlog) it does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True


def hidden(path: Path) -> Path:
    """Return a name beside a socket for the time until it serves; no longer than the shortest of the names."""
    return path.with_name(f".{secrets.token_hex(3)}")


def show(listening: Path, path: Path) -> Mark:
    """Give a socket that serves under a hidden name its own one, in place of a dead one; return how to know it again.

    Raises:
        InvalidInput: something that is not a socket has the name.
        Served: another process has taken the name since there was room.

    """
    found = listening.lstat()
    with _held(path.parent):
        if _is_left(path):
            path.unlink()
        try:
            path.hardlink_to(listening)  # unlike a rename it replaces nothing
        except FileExistsError:  # by somebody who holds no folder
            raise Served(path) from None
    listening.unlink()
    return found.st_dev, found.st_ino


def remove(path: Path, mark: Mark) -> None:
    """Remove an own socket; it may be gone already, or another process may have taken its name.

    It serves still, so that nobody takes it for a dead one and puts another in its place meanwhile.
    """
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if (found.st_dev, found.st_ino) == mark:
            path.unlink()


def sweep(*, plugin_folder: Path, registry_folder: Path) -> list[Path]:
    """Remove what killed drivers of this node left, under whatever name; return the paths.

    A socket has its own name only while it serves, so that one at which nobody listens is a dead process's.

    Raises:
        OSError: a folder cannot be read, or a socket not be removed.

    """
    swept = []
    for folder, name in ((plugin_folder, _PLUGIN), (registry_folder, _REGISTRATION)):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not name.fullmatch(path.name):
                continue
            with _held(folder):
                if path.is_socket() and not _is_served(path):
                    path.unlink(missing_ok=True)
                    swept.append(path)
    return swept
