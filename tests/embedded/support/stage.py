# SPDX-License-Identifier: Apache-2.0
"""The embedded cluster as the scenarios of tests/cluster know a cluster: so the same scenario code runs on it.

It lives in a thread with a loop of its own, as a real one lives in other processes; tests talk to it over HTTP. Nodes
are simulated nodes instead of the tests' own. Our roles run in that loop, by their main functions and configuration
files, and are killed by cancelling them; one with a fault point is a process, for only a process can really die there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import shutil
import signal
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.cluster.support.api import Api, ApiError, Object
from tests.cluster.support.fake_node import Patience
from tests.cluster.support.pace import EMBEDDED
from tests.cluster.support.processes import eventually
from tests.embedded.support.forking import Forks

from dynamic_memory.capacity import role as updater_role
from dynamic_memory.capacity.config import CapacityConfig
from dynamic_memory.controller import role as controller_role
from dynamic_memory.controller.config import ControllerConfig
from dynamic_memory.driver import role as driver_role
from dynamic_memory.driver.config import DriverConfig
from dynamic_memory.embedded.cluster.cluster import Cluster
from dynamic_memory.embedded.cluster.config import ClusterConfig, NodeConfig
from dynamic_memory.embedded.cluster.node import SimulatedNode
from dynamic_memory.embedded.kubelet.config import Periods
from dynamic_memory.fabric import role as service_role
from dynamic_memory.fabric.config import ServiceConfig
from dynamic_memory.process import config, endpoints
from dynamic_memory.process.config import Bytes, Seconds
from dynamic_memory.process.run import Process

__all__ = ["EmbeddedCluster", "EmbeddedNode", "InlineChild"]

log = logging.getLogger(__name__)

PATIENCE = Patience(**EMBEDDED.kubelet)
SCRATCH = Path("/dev/shm")

MAINS = {
    "service": (service_role.main, ServiceConfig),
    "controller": (controller_role.main, ControllerConfig),
    "driver": (driver_role.main, DriverConfig),
    "updater": (updater_role.main, CapacityConfig),
}
CONFIG = """
port: 0
keep: false
rbac: true
roles: none
nodes: []
fabric: []
control: {initialBackoff: 0.1, maxBackoff: 1, nodeGrace: 8, podQuarantine: 40}
"""


class InlineChild:
    """A role in the cluster's loop, with the looks of a child process."""

    def __init__(self, cluster: EmbeddedCluster, name: str, role: str, path: Path) -> None:
        self.name = name
        self.pid = os.getpid()
        self.code: int | None = None
        self._cluster = cluster
        main, type_ = MAINS[role]
        settings = config.load(path, type_)

        async def run() -> None:
            process = Process(role)
            try:
                async with contextlib.AsyncExitStack() as stack:
                    if settings.health is not None:
                        await stack.enter_async_context(endpoints.serve(process.ready, settings.health))
                    await main(process, settings)
                self.code = 0
            except Exception as error:
                self.code = 1
                self.error = error
                log.exception("%s failed", name)

        def ended(_: asyncio.Task[None]) -> None:
            self.code = 0 if self.code is None else self.code
            self._gone.set()

        async def begin() -> asyncio.Task[None]:
            task = asyncio.create_task(run(), name=name)
            task.add_done_callback(ended)
            return task

        self._gone = threading.Event()
        self.error: BaseException | None = None
        self._task: asyncio.Task[None] = cluster.call(begin())

    def check(self) -> None:
        assert self.code is None, f"{self.name} ended with {self.code}: {self.error!r}"

    def signal(self, number: int) -> None:
        """Ask it to end; it gets no other signals."""
        assert number == signal.SIGTERM
        self._cluster.loop.call_soon_threadsafe(self._task.cancel)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait(30)

    def kill(self) -> None:
        self.code = -9
        self.stop()

    def wait(self, timeout: float = 60) -> int:
        assert self._gone.wait(timeout), f"{self.name} has not ended"
        assert self.code is not None
        return self.code


class EmbeddedNode:
    """A simulated node, with what scenarios ask of their nodes."""

    def __init__(
        self, name: str, cluster: EmbeddedCluster, *, patience: Patience = PATIENCE, labels: Any = None, **_: Any
    ) -> None:
        self.name = name
        self._cluster = cluster
        self._group = NodeConfig(name=name, memory=(Bytes(4 << 30),), labels=dict(labels or {}))
        self._periods = Periods(
            prepare=Seconds(patience.prepare),
            unprepare=Seconds(patience.unprepare),
            call=Seconds(patience.call),
            registry=Seconds(patience.poll),
            lease=Seconds(2),
            sync=Seconds(0.2),
            node_status=Seconds(2),
        )
        self.folder = cluster.folder / "nodes" / name
        self.kubelet_root = self.folder / "kubelet"
        for folder in (self.kubelet_root, self.folder / "cdi"):
            folder.mkdir(parents=True, exist_ok=True)
        self._node: SimulatedNode | None = None

    @property
    def node(self) -> SimulatedNode:
        assert self._node is not None, f"{self.name} was never on"
        return self._node

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        return self.node.kubelet.claims.calls

    @property
    def prepared(self) -> dict[str, Any]:
        return dict(self.node.kubelet.claims.claims)

    @property
    def registered(self) -> list[str]:
        return self.node.kubelet.plugins.names

    @property
    def registry(self) -> Path:
        return self.kubelet_root / "plugins_registry"

    def start(self) -> None:
        async def begin() -> None:
            if self._node is None:
                self._node = self._cluster.cluster.add_node(self.name, self._group, self._periods)
            else:
                self._node.start()

        self._cluster.call(begin())

    def wait(self, timeout: float = 30) -> None:
        def ready() -> bool:
            found = self._cluster.api.get("Node", self.name)
            conditions = {each["type"]: each["status"] for each in found["status"].get("conditions", [])}
            return conditions.get("Ready") == "True" and not found.get("spec", {}).get("taints")

        eventually(ready, timeout, f"{self.name} takes pods")

    def stop(self) -> None:
        if self._node is not None:
            self._cluster.call(self._node.stop_kubelet())

    def restart_kubelet(self) -> None:
        self._cluster.call(self.node.restart_kubelet())

    def remove(self, _plane: Any = None) -> None:
        if self._node is None:
            return
        node = self._node
        self._cluster.call(node.stop())
        self._cluster.cluster.nodes.pop(self.name, None)
        self._cluster.api.delete("Node", self.name, missing_ok=True)

    def finish(self, name: str, namespace: str, phase: str = "Succeeded") -> None:
        """End the containers of a pod by themselves."""
        uid = self._cluster.api.get("Pod", name, namespace)["metadata"]["uid"]

        async def end() -> None:
            for container in self.node.runtime.of(uid).values():
                container.exit(0 if phase == "Succeeded" else 1)  # type: ignore[attr-defined]  # it is simulated

        self._cluster.call(end())


class Operator:
    """Somebody who types: sends what kubectl sends; each method returns an exit code, and what would be printed."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def apply(self, body: Object) -> tuple[int, str]:
        meta = body["metadata"]
        there = self._api.find(body["kind"], meta["name"], meta["namespace"])
        if there is None:
            return _printed(lambda: self._api.create(body))
        return _printed(lambda: self._api.patch(body["kind"], meta["name"], body, meta["namespace"], style="strategic"))

    def annotate(self, pod: str, namespace: str, key: str, value: str) -> tuple[int, str]:
        return _printed(lambda: self._api.patch("Pod", pod, {"metadata": {"annotations": {key: value}}}, namespace))

    def delete_by_force(self, pod: str, namespace: str) -> tuple[int, str]:
        return _printed(lambda: self._api.delete("Pod", pod, namespace, grace=0))


def _printed(request: Callable[[], object]) -> tuple[int, str]:
    try:
        request()
    except ApiError as error:
        return 1, f"Error from server ({error.reason}): {error.message}"
    return 0, ""


class _Authority:
    """Makes kubeconfigs of bearers of tokens, and contexts that trust the server.

    Args:
        certificate: of the authority, PEM.

    """

    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate

    def context(self) -> ssl.SSLContext:
        """Return how the server is trusted."""
        return ssl.create_default_context(cadata=self._certificate.decode())

    def kubeconfig(self, server: str, *, token: str | None = None, **_: Any) -> dict[str, Any]:
        trusted = {"certificate-authority-data": base64.b64encode(self._certificate).decode()}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": server, **trusted}}],
            "users": [{"name": "user", "user": {"token": token} if token else {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        }


class EmbeddedCluster:
    """See the module."""

    version = "embedded"
    pace = EMBEDDED
    scratch = SCRATCH if os.access(SCRATCH, os.W_OK) else None

    def __init__(self, settings: str = CONFIG) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dme-", dir=self.scratch))
        self.logs = self.folder / "logs"
        self.cluster = Cluster(self.folder, config.loads(settings.encode(), ClusterConfig))
        self.seconds: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._forks: Forks | None = None

    @property
    def forks(self) -> Forks:
        """What starts our commands as processes; it needs a second to be there, so ask for it early."""
        if self._forks is None:
            self._forks = Forks(self.logs)
        return self._forks

    def start(self) -> None:
        start = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="embedded cluster", daemon=True)
        self._thread.start()
        assert self._ready.wait(30), "the embedded cluster does not start"
        if self._failure is not None:
            raise self._failure
        url, authority = self.cluster.server.url, _Authority(self.cluster.server.ca)
        self.api = Api(url, authority.context(), self.cluster.token)
        self.operator = Operator(self.api)
        self.plane = SimpleNamespace(server=url, authority=authority, folder=self.folder, logs=self.logs, api=self.api)
        self.seconds["up"] = time.monotonic() - start

    def stop(self) -> None:
        if self._forks is not None:
            self._forks.stop()
        self.api.close()
        self.loop.call_soon_threadsafe(self._end.set)
        assert self._thread is not None
        self._thread.join(30)
        assert not self._thread.is_alive(), "the embedded cluster does not end"
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self.loop = runner.get_loop()
            self._end = asyncio.Event()
            with contextlib.suppress(asyncio.CancelledError):
                runner.run(self._main())

    async def _main(self) -> None:
        try:
            async with self.cluster.running():
                self._ready.set()
                await self._end.wait()
        except BaseException as error:
            self._failure = error
            self._ready.set()
            raise

    def call(self, step: Coroutine[Any, Any, Any], timeout: float = 60) -> Any:
        """Do something in the cluster's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(step, self.loop).result(timeout)

    # --- what scenarios ask of a cluster

    def make_node(self, name: str, **options: Any) -> EmbeddedNode:
        return EmbeddedNode(name, self, **options)

    def start_role(self, name: str, role: str, path: Path, fault: str | None = None) -> Any:
        if fault is None:
            return InlineChild(self, name, role, path)
        return self.forks.start(name, [role, "--config", path], {"DYNAMIC_MEMORY_FAULT": fault})

    def start_command(self, name: str, *arguments: str | Path) -> Any:
        return self.forks.start(name, arguments, {})
