# SPDX-License-Identifier: Apache-2.0
"""The embedded cluster, put together and taken apart: what starts before what, and what ends first.

    async with Cluster(folder, config).running() as cluster:
        await cluster.kube.list(PODS)

The API server comes first and goes last. Roles end before nodes do, so that nothing that they hold is left half done;
pods are left as they are, and found again by the next start of the same folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from dynamic_memory.api import names
from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.kubeconfig import kubeconfig, write_kubeconfig
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.security import SecurityOptions
from dynamic_memory.embedded.apiserver.server import ApiServer, Options, serve
from dynamic_memory.embedded.cluster import manifests, settings
from dynamic_memory.embedded.cluster.config import ClusterConfig, NodeConfig, node_names
from dynamic_memory.embedded.cluster.folder import Folder
from dynamic_memory.embedded.cluster.identity import Identity, forget
from dynamic_memory.embedded.cluster.logs import LogsApi
from dynamic_memory.embedded.cluster.metrics import MetricsApi
from dynamic_memory.embedded.cluster.node import SimulatedNode
from dynamic_memory.embedded.cluster.roles import InlineRole, ProcessRole, Role, RoleName, check_settings, node_user
from dynamic_memory.embedded.controllers.manager import ControllerManager, ControllersConfig
from dynamic_memory.embedded.kubelet.config import Periods
from dynamic_memory.embedded.kubelet.feed import PodFeed
from dynamic_memory.embedded.kubelet.objects import NODES, SLICES, Node
from dynamic_memory.embedded.scheduler.config import SchedulerConfig
from dynamic_memory.embedded.scheduler.scheduler import Scheduler
from dynamic_memory.errors import RetryError
from dynamic_memory.process import clock

__all__ = ["ADMIN", "Cluster", "NotReady"]

log = logging.getLogger(__name__)

ADMIN = UserInfo("embedded-admin", ("system:masters", "system:authenticated"))
AGAIN = 1.0
LOOK = 0.05
DOWN = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}


class NotReady(RetryError):
    """The cluster did not become ready in time.

    Args:
        what: is missing.
        seconds: that were waited.

    """

    def __init__(self, what: str, seconds: float) -> None:
        self.what = what
        self.seconds = seconds
        super().__init__(what, seconds)

    def __str__(self) -> str:
        return f"the cluster is not ready after {self.seconds:g} s: {self.what}"


class Cluster:
    """See the module.

    Args:
        root: the folder of the cluster.
        config: what it is like.

    """

    def __init__(self, root: Path, config: ClusterConfig | None = None) -> None:
        self.config = config or ClusterConfig()
        self.folder = Folder(root)
        self.token = ""
        """Of the administrator; empty while everybody may do everything."""
        self.nodes: dict[str, SimulatedNode] = {}
        self.roles: dict[str, Role] = {}
        self._server: ApiServer | None = None
        self._feed: PodFeed | None = None
        self._group: list[asyncio.Task[None]] = []

    @property
    def server(self) -> ApiServer:
        """The API server; only while it runs."""
        assert self._server is not None  # noqa: S101 - a defect of the caller
        return self._server

    @property
    def api(self) -> Api:
        """The API server without HTTP."""
        return self.server.api

    @property
    def kube(self) -> LocalKube:
        """A client that may do everything."""
        return LocalKube(self.api, ADMIN, manager="dynamic-memory-up")

    def check(self) -> None:
        """Refuse what could not be started, before anything is made.

        Raises:
            InvalidInput: the folder cannot be used, or a role could not read its configuration.

        """
        self.folder.check(self._names())
        if self.config.roles != "none":
            for group in self.config.nodes:
                for name in node_names(group)[:1]:
                    check_settings("driver", settings.driver(self.config, self.folder, group, name))
                    if self.config.domain_of(group) is not None:
                        check_settings("updater", settings.updater(self.config, self.folder, group, name))
            check_settings("controller", settings.controller(self.config, self.folder))
            check_settings("service", settings.service(self.config, self.folder))

    def _names(self) -> list[str]:
        return [name for group in self.config.nodes for name in node_names(group)]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Cluster]:
        """Run while the context is open.

        Raises:
            InvalidInput: the folder or the port cannot be used.
            FolderInUse: another process runs this cluster.

        """
        self.folder.take(self._names())
        try:
            await asyncio.to_thread(self._write_files)
            options = Options(
                port=self.config.port,
                data_dir=self.folder.state if self.config.keep else None,
                kubeconfig=self.folder.kubeconfig,
                tls=self.config.rbac,  # kubectl sends tokens over TLS alone
                security=SecurityOptions(
                    rbac=self.config.rbac,
                    token_file=self._tokens(),
                    audit_log=self.folder.logs / "audit.log" if self.config.audit else None,
                ),
            )
            async with serve(options) as server:
                self._server = server
                self._write_token()
                MetricsApi(self.nodes).install(server.api)
                LogsApi(self.nodes).install(server.api)
                try:
                    await self._start()
                    yield self
                finally:
                    await self._stop()
        finally:
            self.folder.release()

    async def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until nodes take pods and, if roles run, all memory is published and every driver registered.

        Raises:
            NotReady: it took longer than `timeout` seconds.

        """
        what = ""
        try:
            async with asyncio.timeout(timeout):
                while what := await self._missing():
                    await clock.sleep(LOOK)
        except TimeoutError:
            raise NotReady(what, timeout) from None

    async def _missing(self) -> str:
        """Return what is not there yet; empty if all is."""
        nodes = await self.kube.list(NODES)
        ready = {node.metadata.name for node in nodes.items if _takes_pods(node)}
        if missing := self.nodes.keys() - ready:
            return f"{len(missing)} nodes are not ready, {min(missing)} is one"
        if self.config.roles == "none":
            return ""
        slices = await self.kube.list(SLICES, fields=f"spec.driver={names.DRIVER}")
        published = {item.spec["pool"]["name"] for item in slices.items}
        wanted = {names.fabric_pool(pool.name) for pool in self.config.fabric}
        wanted |= {names.windows_pool(node.name) for node in self.nodes.values() if node.has_fabric}
        drivers = [role for role in self.roles.values() if role.role == "driver"]
        wanted |= {names.memory_pool(role.node) for role in drivers if role.settings["local"] is not None}
        if missing := wanted - published:
            return f"{len(missing)} pools are not published, {min(missing)} is one"
        silent = [role.node for role in drivers if names.DRIVER not in self.nodes[role.node].kubelet.plugins.names]
        return f"the driver of {silent[0]} is not registered" if silent else ""

    # --- parts

    async def _start(self) -> None:
        kube = self.kube
        for file in manifests.manifests():
            await manifests.apply(kube, self.server.core.registry, file.read_text(encoding="utf-8"))
        control = self.config.control
        scheduler = SchedulerConfig(
            initial_backoff=control.initial_backoff,
            max_backoff=control.max_backoff,
            binding_timeout=control.binding_timeout,
            flush_after=control.flush_after,
        )
        controllers = ControllersConfig(node_grace=control.node_grace, pod_quarantine=control.pod_quarantine)
        self._feed = PodFeed(LocalKube(self.api, ADMIN))
        feed = self._feed
        self._keep("scheduler", lambda: Scheduler(self._part("kube-scheduler"), scheduler).run())
        self._keep("controllers", lambda: ControllerManager(self._part("kube-controller-manager"), controllers).run())
        self._keep("pods", feed.run)
        for group in self.config.nodes:
            for name in node_names(group):
                self.add_node(name, group)
        if self.config.roles != "none":
            self._make_roles()
        # pods have the names of their roles
        await forget(kube, self.roles.keys() if self.config.roles == "process" else ())
        for role in self.roles.values():
            role.start()

    def _part(self, name: str) -> LocalKube:
        user = UserInfo(f"system:{name}", ("system:masters", "system:authenticated"))
        return LocalKube(self.api, user, manager=name)

    def _keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the control plane, and start it again should it fail."""

        async def ever() -> None:
            while True:
                try:
                    await part()
                except Exception:
                    log.exception("%s failed", name)
                await clock.sleep(AGAIN)

        self._group.append(asyncio.create_task(ever(), name=name))

    def add_node(self, name: str, group: NodeConfig, periods: Periods | None = None) -> SimulatedNode:
        """Make a node and switch it on; its kubelet may have times of its own."""
        assert self._feed is not None  # noqa: S101 - it runs
        node = self.nodes[name] = SimulatedNode(
            name,
            group,
            config=self.config,
            folder=self.folder,
            kube=LocalKube(self.api, node_user(name), manager="kubelet"),
            feed=self._feed,
            number=len(self.nodes),
            periods=periods,
        )
        node.start()
        return node

    def _make_roles(self) -> None:
        self._role("service", "service", settings.service(self.config, self.folder))
        self._role("controller", "controller", settings.controller(self.config, self.folder))
        for node in self.nodes.values():
            driver = settings.driver(self.config, self.folder, node.group, node.name)
            if settings.serves(driver):
                self._role(f"driver-{node.name}", "driver", driver, node.name)
            if node.has_fabric:
                updater = settings.updater(self.config, self.folder, node.group, node.name)
                self._role(f"updater-{node.name}", "updater", updater, node.name)

    def _role(self, name: str, role: RoleName, body: dict[str, Any], node: str = "") -> None:
        if self.config.roles == "process":
            path = self.folder.roles / f"{name}.yaml"
            path.write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
            own = path.with_suffix(".kubeconfig")
            # a file that the administrator names instead is the administrator's
            identity = Identity(self.server, role, node, own) if body.get("kubeconfig") == str(own) else None
            log_file = self.folder.logs / f"{name}.log"
            self.roles[name] = ProcessRole(name, role, body, path, log_file=log_file, identity=identity, node=node)
        else:
            self.roles[name] = InlineRole(name, role, body, self.api, node=node)

    async def _stop(self) -> None:
        # the service goes last: releases that are under way end
        others = [role for role in self.roles.values() if role.role != "service"]
        await asyncio.gather(*(role.stop() for role in others))
        await asyncio.gather(*(role.stop() for role in self.roles.values()))
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))
        for task in self._group:
            task.cancel()
        await asyncio.gather(*self._group, return_exceptions=True)
        self._group.clear()
        self.roles.clear()
        self.nodes.clear()
        self._server = None

    # --- files

    def _tokens(self) -> Path | None:
        """Make the file with the administrator's token, unless everybody may do everything anyhow."""
        if not self.config.rbac:
            return None
        self.token = self.token or secrets.token_urlsafe(24)
        path = self.folder.root / "tokens.csv"
        path.touch(mode=0o600)
        path.write_text(f'{self.token},{ADMIN.name},{ADMIN.name},"{",".join(ADMIN.groups)}"\n', encoding="utf-8")
        return path

    def _write_token(self) -> None:
        """Give the kubeconfig the administrator's token."""
        if not self.token:
            return
        content = kubeconfig(self.server.url, ca=self.server.ca, token=self.token)
        write_kubeconfig(self.folder.kubeconfig, content)

    def _write_files(self) -> None:
        text = yaml.safe_dump(msgspec.to_builtins(self.config, enc_hook=_plain), sort_keys=False)
        self.folder.config.write_text(text, encoding="utf-8")
        faults = self.config.faults
        if faults.fabric is not None:
            (self.folder.fabric / "faults.json").write_bytes(msgspec.json.encode(faults.fabric))
        for name, found in faults.hosts.items():
            root = self.folder.node(name) / "host"
            root.mkdir(parents=True, exist_ok=True)
            (root / "faults.json").write_bytes(msgspec.json.encode(found))


def _takes_pods(node: Node) -> bool:
    """Tell whether a node is up; taints of somebody else, a cordon for one, are wanted."""
    conditions = {each["type"]: each["status"] for each in node.status.get("conditions") or ()}
    return conditions.get("Ready") == "True" and not any(
        taint["key"] in DOWN for taint in node.spec.get("taints") or ()
    )


def _plain(value: Any) -> Any:
    """Write sizes and times as numbers."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    raise NotImplementedError(type(value))
