# SPDX-License-Identifier: Apache-2.0
"""All controllers of the embedded cluster in one process, over shared caches."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from dynamic_memory.embedded.controllers.claims import ClaimController
from dynamic_memory.embedded.controllers.controller import Caches, Controller
from dynamic_memory.embedded.controllers.daemonsets import DaemonSetController
from dynamic_memory.embedded.controllers.deployments import DeploymentController
from dynamic_memory.embedded.controllers.eviction import DeviceTaintController, NodeTaintController
from dynamic_memory.embedded.controllers.jobs import JobController
from dynamic_memory.embedded.controllers.nodelife import NodeLifeController
from dynamic_memory.embedded.controllers.podgc import PodGarbageController
from dynamic_memory.embedded.controllers.replicasets import ReplicaSetController
from dynamic_memory.embedded.controllers.statefulsets import StatefulSetController
from dynamic_memory.kube.errors import ApiError
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff

__all__ = ["ControllerManager", "ControllersConfig"]

log = logging.getLogger(__name__)


class ControllersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds; defaults are those of kube-controller-manager.

    Attributes:
        node_grace: without a sign of life after which a node is given up.
        pod_quarantine: for which a node must be gone before its pods are deleted.
        node_life: whether nodes are watched over; a cluster whose nodes are mere objects has it off.
        workloads: whether Deployments, Jobs and the like are worked on.

    """

    node_grace: float = 50.0
    pod_quarantine: float = 40.0
    node_life: bool = True
    workloads: bool = True


class ControllerManager:
    """Runs the controllers.

    Args:
        kube: the API server.
        config: settings.

    """

    def __init__(self, kube: Kube, config: ControllersConfig | None = None) -> None:
        self._kube = kube
        self.config = config if config is not None else ControllersConfig()
        self.caches = Caches(kube)
        self._running = False

    @property
    def synced(self) -> bool:
        """Whether all controllers are at work."""
        return self._running and self.caches.synced

    async def run(self) -> None:
        """Work for ever."""
        controllers = self._controllers(rules=await self._knows_rules())
        async with asyncio.TaskGroup() as group:
            group.create_task(self.caches.run())
            for controller in controllers:
                group.create_task(controller.run())
            self._running = True

    def _controllers(self, *, rules: bool) -> list[Controller]:
        caches = self.caches
        found: list[Controller] = [
            ClaimController(caches),
            NodeTaintController(caches),
            DeviceTaintController(caches, rules=rules),
            PodGarbageController(caches, quarantine=self.config.pod_quarantine),
        ]
        if self.config.node_life:
            found.append(NodeLifeController(caches, grace=self.config.node_grace))
        if self.config.workloads:
            found += [
                ReplicaSetController(caches),
                DeploymentController(caches),
                DaemonSetController(caches),
                StatefulSetController(caches),
                JobController(caches),
            ]
        return found

    async def _knows_rules(self) -> bool:
        """Ask whether the server has DeviceTaintRules (off in 1.36)."""
        backoff = Backoff(initial=0.2, maximum=5.0)
        while True:
            try:
                listed = msgspec.json.decode(await self._kube.get_raw("/apis/resource.k8s.io/v1"))
            except ApiError as error:
                log.info("the API server does not say what it serves: %s", error)
                await clock.sleep(backoff.next())
                continue
            return any(item.get("name") == "devicetaintrules" for item in listed.get("resources") or ())
