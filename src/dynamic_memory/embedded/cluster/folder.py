# SPDX-License-Identifier: Apache-2.0
"""Where everything of an embedded cluster is: one folder, and nothing outside it.

    kubeconfig              for kubectl
    cluster.yaml            what it was started with; the next start without other wishes uses it
    state/                  objects of the API server
    fabric/                 the simulated fabric: fabric.json, faults.json
    roles/                  configuration files of the roles, and their kubeconfigs
    logs/                   of the cluster, and of roles that are processes
    nodes/<name>/           host/ (sysfs), kubelet/, cdi/, cgroup/, driver/ and updater/ (state of these roles)

One process at a time has it, by a lock. Sockets of kubelets and drivers are in it, so its path must be short.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TextIO

from dynamic_memory.driver.sockets import MAX_PATH
from dynamic_memory.errors import InvalidInput, RetryError

__all__ = ["Folder", "FolderInUse"]

LONGEST = "kubelet/plugins_registry/dra.memory-reg.sock"


class FolderInUse(RetryError):
    """Another process runs the cluster of this folder.

    Args:
        path: the folder.

    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)

    def __str__(self) -> str:
        return f"{self.path}: another process runs this cluster"


class Folder:
    """The paths.

    Args:
        root: the folder; made if it is not there.

    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock: TextIO | None = None

    def check(self, nodes: list[str]) -> None:
        """Refuse a folder that the sockets of these nodes do not fit into; nothing is made.

        Raises:
            InvalidInput: their paths would be too long.

        """
        longest = max(nodes, key=len, default="")
        length = len(bytes(self.node(longest) / LONGEST))
        if length > MAX_PATH:
            most = MAX_PATH - (length - len(bytes(self.root)))
            raise InvalidInput("--folder", f"a path of at most {most} bytes, for the sockets in it", str(self.root))

    def take(self, nodes: list[str]) -> None:
        """Make the folders, and hold the lock until `release`.

        Raises:
            InvalidInput: see `check`.
            FolderInUse: another process has it.

        """
        self.check(nodes)
        for folder in (self.root, self.logs, self.roles, self.fabric):
            folder.mkdir(parents=True, exist_ok=True)
        lock = (self.root / ".lock").open("a", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise FolderInUse(str(self.root)) from None
        self._lock = lock

    def release(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def kubeconfig(self) -> Path:
        """For kubectl."""
        return self.root / "kubeconfig"

    @property
    def config(self) -> Path:
        """What it was started with."""
        return self.root / "cluster.yaml"

    @property
    def state(self) -> Path:
        """Objects of the API server."""
        return self.root / "state"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.root / "logs"

    @property
    def roles(self) -> Path:
        """Configuration files of roles."""
        return self.root / "roles"

    @property
    def fabric(self) -> Path:
        """State and faults of the fabric."""
        return self.root / "fabric"

    @property
    def service_socket(self) -> Path:
        """Where the Dynamic Memory Service listens."""
        return self.root / "service.sock"

    def nri_socket(self, name: str) -> Path:
        """Where the container runtime of a node listens for plugins."""
        return self.node(name) / "nri.sock"

    def node(self, name: str) -> Path:
        """Folder of a node."""
        return self.root / "nodes" / name
