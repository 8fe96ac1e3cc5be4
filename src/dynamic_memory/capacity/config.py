# SPDX-License-Identifier: Apache-2.0
"""The updater's configuration file. Only `host` has to be there on a cluster that the manifests made."""

import os
import socket
from pathlib import Path
from typing import Literal

import msgspec

from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.config import HostConfig
from dynamic_memory.process.config import Seconds

__all__ = ["CapacityConfig", "CeilingConfig"]


class CeilingConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The limit over all pods.

    Attributes:
        cgroup_root: where the host's cgroup file systems are.
        path: of the cgroup of pods, from the root of its hierarchy; default: kubepods.slice or kubepods.
        state: file that remembers what the kubelet had set; must outlive the updater's pod.
        boot_id: file with the identity of the present boot of the machine whose cgroups these are.

    """

    cgroup_root: Path = Path("/host/cgroup")
    path: str | None = None
    state: Path = Path("/var/lib/dynamic-memory/updater/ceiling.json")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")


class CapacityConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The updater of one node.

    Attributes:
        host: the Linux of this node, real or simulated.
        node_name: name of the Node object; default: $NODE_NAME, else the host name.
        kubeconfig: path; default: the pod's service account.
        interval: seconds between two looks at the host.
        view: `extended` shows the bytes as the extended resource dynamicmemory.dev/memory alone; `status` changes the
            node's `memory` as well, and is only for nodes whose kubelet does not do that (embedded and fake ones).
        ceiling: the limit over all pods; null to leave it alone.
        health: address of /healthz, /readyz and /metrics; null for none.

    """

    host: HostConfig
    node_name: str = ""
    kubeconfig: str | None = None
    interval: Seconds = Seconds(1)
    view: Literal["extended", "status"] = "extended"
    ceiling: CeilingConfig | None = CeilingConfig()
    health: str | None = "127.0.0.1:8082"

    def __post_init__(self) -> None:
        """Refuse values that could only fail later.

        Raises:
            InvalidInput: with the field's path.

        """
        if self.interval <= 0:
            raise InvalidInput("interval", "more than 0 seconds", float(self.interval))

    @property
    def node(self) -> str:
        """Name of the Node object."""
        return self.node_name or os.environ.get("NODE_NAME", "") or socket.gethostname()
