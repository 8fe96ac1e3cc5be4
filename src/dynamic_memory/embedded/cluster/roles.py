# SPDX-License-Identifier: Apache-2.0
"""Our roles in an embedded cluster: coroutines of this process, or processes that can be killed.

Inline they call the API server without sockets; processes have tokens (`identity`), and end with the cluster (`tied`).
Either way each has the identity of its service account in a real cluster (a driver's and an updater's bound to their
node), so that rights and policies hold for them as there; and a role that ends is started again after a moment, as its
Deployment or DaemonSet would.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from prometheus_client import CollectorRegistry

from dynamic_memory.capacity.config import CapacityConfig
from dynamic_memory.capacity.metrics import Metrics
from dynamic_memory.capacity.updater import Updater
from dynamic_memory.controller import role as controller_role
from dynamic_memory.controller.config import ControllerConfig
from dynamic_memory.driver import role as driver_role
from dynamic_memory.driver.config import DriverConfig
from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.cluster import tied
from dynamic_memory.embedded.cluster.identity import Identity
from dynamic_memory.embedded.cluster.settings import NAMESPACE
from dynamic_memory.errors import InvalidInput
from dynamic_memory.fabric import role as service_role
from dynamic_memory.fabric.config import ServiceConfig
from dynamic_memory.host.config import open_host
from dynamic_memory.process import clock, config
from dynamic_memory.process.run import Process

__all__ = ["InlineRole", "ProcessRole", "Role", "RoleName", "check_settings", "node_user", "role_user"]

log = logging.getLogger(__name__)

T = TypeVar("T")
RoleName = Literal["service", "controller", "driver", "updater"]
TYPES: Mapping[RoleName, Any] = {
    "service": ServiceConfig,
    "controller": ControllerConfig,
    "driver": DriverConfig,
    "updater": CapacityConfig,
}
AGAIN = 1.0
STOP_SECONDS = 10.0
NODE_EXTRA = "authentication.kubernetes.io/node-name"


def node_user(node: str) -> UserInfo:
    """Return who the kubelet of a node is."""
    return UserInfo(f"system:node:{node}", ("system:nodes", "system:authenticated"))


def role_user(role: str, node: str = "") -> UserInfo:
    """Return who a role is, on a node if it is one of a node."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated")
    extra = {NODE_EXTRA: (node,)} if node else {}
    return UserInfo(f"system:serviceaccount:{NAMESPACE}:{role}", groups, extra=extra)


def check_settings(role: RoleName, settings: Mapping[str, Any]) -> None:
    """Refuse the configuration of a role that it could not read, with the field of `cluster.yaml` that is to blame.

    Raises:
        InvalidInput: `driver.timing.hold: expected …`.

    """
    try:
        config.loads(yaml.safe_dump(dict(settings)).encode(), TYPES[role])
    except config.ConfigError as error:
        expected = error.expected.removeprefix("expected ")
        raise InvalidInput(f"{role}.{error.path}", expected) from None


class Role:
    """One role: runs, and is started again when it ends, until it is stopped.

    Args:
        name: `driver-node-1`.
        role: which.
        settings: its configuration, as its file has it.
        node: the role's node, if it is one of a node.

    """

    def __init__(self, name: str, role: RoleName, settings: Mapping[str, Any], *, node: str = "") -> None:
        self.name = name
        self.role = role
        self.settings = settings
        self.node = node
        self.starts = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it."""
        if self._task is None:
            self._task = asyncio.create_task(self._ever(), name=self.name)

    async def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _ever(self) -> None:
        while True:
            self.starts += 1
            try:
                await self._once()
                log.warning("%s has ended", self.name)
            except Exception:
                log.exception("%s failed", self.name)
            await clock.sleep(AGAIN)

    async def _once(self) -> None:
        raise NotImplementedError


class InlineRole(Role):
    """A role as a coroutine of this process.

    Args:
        name: see `Role`.
        role: see `Role`.
        settings: see `Role`.
        api: the API server.
        node: see `Role`.

    """

    def __init__(self, name: str, role: RoleName, settings: Mapping[str, Any], api: Api, *, node: str = "") -> None:
        super().__init__(name, role, settings, node=node)
        self.process = Process(role)
        self._text = yaml.safe_dump(dict(settings)).encode()
        self._kube = LocalKube(api, role_user(role, node), manager=f"dynamic-memory-{role}")

    async def _once(self) -> None:
        self.process = Process(self.role)
        run: dict[str, Callable[[], Awaitable[None]]] = {
            "service": self._service,
            "controller": self._controller,
            "driver": self._driver,
            "updater": self._updater,
        }
        await run[self.role]()

    def _read(self, type_: type[T]) -> T:
        return config.loads(self._text, type_, name=self.name)

    async def _service(self) -> None:
        await service_role.main(self.process, self._read(ServiceConfig))

    async def _controller(self) -> None:
        settings = self._read(ControllerConfig)
        kube = self._kube
        controller = controller_role.Controller(
            self.process, settings, kube, lambda: controller_role.connect(kube, settings)
        )
        await controller.run()

    async def _driver(self) -> None:
        await driver_role.run(self.process, self._read(DriverConfig), self._kube)

    async def _updater(self) -> None:
        settings = self._read(CapacityConfig)
        # metrics of one name can be registered once a process
        metrics = Metrics(CollectorRegistry())
        host = open_host(settings.host)
        await Updater(settings, kube=self._kube, host=host, ready=self.process.ready, metrics=metrics).run()


class ProcessRole(Role):
    """A role as a process of its own.

    Args:
        name: see `Role`.
        role: see `Role`.
        settings: see `Role`.
        path: its configuration file.
        log_file: where it logs to.
        identity: gives it credentials; None if it has some, or needs none.
        node: see `Role`.

    """

    def __init__(
        self,
        name: str,
        role: RoleName,
        settings: Mapping[str, Any],
        path: Path,
        *,
        log_file: Path,
        identity: Identity | None = None,
        node: str = "",
    ) -> None:
        super().__init__(name, role, settings, node=node)
        self._path = path
        self._identity = identity
        self._log = log_file
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _once(self) -> None:
        if self._identity is not None:
            await self._identity.take()
        output = await asyncio.to_thread(self._log.open, "ab")
        with output:
            process = self._process = await asyncio.create_subprocess_exec(
                *tied.command(self.role, "--config", str(self._path)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the cluster, which then ends its roles in order
            )
        lost = None if self._identity is None else asyncio.create_task(self._lost(self._identity, process))
        try:
            code = await process.wait()
            log.warning("%s ended with %s", self.name, code)
        finally:
            if lost is not None:
                lost.cancel()
            if process.returncode is None:
                await self._end(process)

    async def _lost(self, identity: Identity, process: asyncio.subprocess.Process) -> None:
        """End the process once its credentials are good no more."""
        await identity.lost()
        log.warning("%s has lost its identity", self.name)
        await self._end(process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
