# SPDX-License-Identifier: Apache-2.0
"""One simulated node: host, containers, kubelet. It can be switched off and on, and its kubelet restarted."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from dynamic_memory.embedded.cluster.config import ClusterConfig, NodeConfig
from dynamic_memory.embedded.cluster.folder import Folder
from dynamic_memory.embedded.cluster.settings import CONTAINERD, hugepages
from dynamic_memory.embedded.kubelet.config import Periods
from dynamic_memory.embedded.kubelet.feed import PodFeed
from dynamic_memory.embedded.kubelet.kubelet import Kubelet
from dynamic_memory.embedded.kubelet.node import Machine
from dynamic_memory.embedded.runtime.runtime import Runtime
from dynamic_memory.host import containerd
from dynamic_memory.host.config import MIN_BLOCK, HostConfig, SimulatedHostConfig, open_host
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process.config import Bytes

__all__ = ["SimulatedNode"]

log = logging.getLogger(__name__)

MOUNTINFO = "24 1 0:22 / /sys/fs/cgroup rw,nosuid,nodev,noexec - cgroup2 cgroup2 rw,nsdelegate\n"


class SimulatedNode:
    """See the module.

    Args:
        name: of the Node object.
        group: what it is like.
        config: the cluster.
        folder: of the cluster.
        kube: the API server, as this node.
        feed: pods.
        number: counts the nodes of the cluster.
        periods: of its kubelet; those of the cluster unless given.

    """

    def __init__(
        self,
        name: str,
        group: NodeConfig,
        *,
        config: ClusterConfig,
        folder: Folder,
        kube: Kube,
        feed: PodFeed,
        number: int,
        periods: Periods | None = None,
    ) -> None:
        self.name = name
        self.group = group
        self.folder = folder.node(name)
        self.has_fabric = config.domain_of(group) is not None
        for each in ("kubelet/plugins", "kubelet/plugins_registry", "cdi", "driver", "updater"):
            (self.folder / each).mkdir(parents=True, exist_ok=True)
        pool = config.domain_of(group)
        size = Bytes(MIN_BLOCK) if pool is None else pool.block_size
        self.host = open_host(
            HostConfig(
                simulated=SimulatedHostConfig(
                    root=self.folder / "host",
                    nodes=group.memory,
                    block_size=size,
                    hugepages=hugepages(group),  # type: ignore[arg-type]  # the file was read with these sizes
                )
            )
        )
        self.runtime = Runtime(self.folder, processes=config.run_processes)
        self._furnish()
        self.kubelet = Kubelet(
            Machine(
                name=name,
                cpus=group.cpus,
                pods=group.pods,
                hugepages={key: int(size) for key, size in group.hugepages.items()},
                labels=group.labels,
                reserved=int(group.reserved),
            ),
            folder=self.folder / "kubelet",
            cdi=self.folder / "cdi",
            kube=kube,
            feed=feed,
            host=self.host,
            runtime=self.runtime,
            periods=periods or config.kubelet,
            number=number,
        )
        self._task: asyncio.Task[None] | None = None

    def _furnish(self) -> None:
        """Put what a driver looks for besides the kernel's own into the host: cgroups, and the runtime's settings."""
        root = self.folder / "host"
        self.runtime.cgroups.mount()
        files = {"proc/self/mountinfo": MOUNTINFO, CONTAINERD: containerd.setup("")}
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        link = root / "sys/fs/cgroup"
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to("../../../cgroup")

    @property
    def on(self) -> bool:
        """Whether its kubelet runs."""
        return self._task is not None

    def start(self) -> None:
        """Start the kubelet."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"kubelet {self.name}")

    async def stop_kubelet(self) -> None:
        """End the kubelet; containers go on."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def restart_kubelet(self) -> None:
        """End the kubelet and start it again."""
        await self.stop_kubelet()
        self.start()

    async def stop(self) -> None:
        """Switch the node off: no kubelet, no containers."""
        await self.stop_kubelet()
        await self.runtime.plugins.close()
        self.runtime.stop()

    async def _run(self) -> None:
        try:
            await self.kubelet.run()
        except Exception:
            log.exception("the kubelet of %s failed", self.name)
            raise
