# SPDX-License-Identifier: Apache-2.0
"""Where the plugin's sockets are, and the rule that a path must fit into the address of a Unix socket.

With a pod UID in the names the sockets of two driver pods stand beside each other, so that a rolling update is never
without a driver; without one (a driver outside a pod) the names are fixed. A process removes only sockets of its own.
"""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import msgspec

from dynamic_memory.api import names
from dynamic_memory.errors import InvalidInput

__all__ = ["MAX_PATH", "Sockets", "check_path", "make_room", "remove", "sockets"]

MAX_PATH = 107
"""`sun_path` of Linux is 108 bytes with the zero at its end (unix(7))."""


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
    """Prepare the folder of a socket, and remove a socket that a dead process left there.

    Raises:
        InvalidInput: something that is not a socket has the name.

    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise InvalidInput("socket path", "a free name", str(path))
    path.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove an own socket; it may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
