# SPDX-License-Identifier: Apache-2.0
"""A node without containers: a Node object, its heart beat, and a kubelet that does for pods what touches DRA drivers.

What it takes from the real kubelet (1.36, 1.37): it registers plugins that appear in its registry; it prepares the
claims of a pod before the pod runs, all in one call, and remembers in a checkpoint what was prepared, so that neither a
second pod nor a restart prepares again; it unprepares after the containers ended and before the pod object goes, and
holds the pod until that succeeds; a pod that vanished by force is unprepared all the same; a new claim of the name of
an old one that is still prepared is refused; at its start it deletes the ResourceSlices of its node. It calls the API
server as this node, with a node's rights.

What it does not do is wait 60 to 90 seconds before it tries again; how long it does wait can be chosen.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import stat
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from tests.cluster.support.api import Api, ApiError, Object
from tests.cluster.support.control_plane import ControlPlane
from tests.cluster.support.files import node_folders
from tests.cluster.support.processes import eventually
from tests.support.fake_kubelet import Claim, FakeKubelet

__all__ = ["FakeNode", "Patience"]

KUBELET = "/var/lib/kubelet"
LEASES = "kube-node-lease"


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long the kubelet waits, seconds. The real one: prepare 60 to 90, unprepare 1 and then 11 to 15."""

    prepare: float = 1.0
    unprepare: float = 0.5
    call: float = 45.0
    poll: float = 0.1
    heartbeat: float = 2.0


@dataclasses.dataclass
class _Pod:
    """What the kubelet knows of one pod."""

    object: Object
    task: asyncio.Task[None]
    gone: bool = False  # from the API server
    end: str = ""  # phase it shall end with
    running: bool = False
    wake: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


class Failed(Exception):
    """The driver, or the state of the claim, did not let the kubelet go on."""


# AssertionError: an answer that the kubelet itself refuses
REFUSALS = (Failed, OSError, grpc.RpcError, AssertionError)


class FakeNode:
    """One node without containers.

    Args:
        name: of the Node object.
        plane: its control plane.
        capacity: of the node.
        labels: of the Node object.
        patience: how long it waits.

    """

    def __init__(
        self,
        name: str,
        plane: ControlPlane,
        *,
        capacity: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        patience: Patience = Patience(),
    ) -> None:
        self.name = name
        self.folder = plane.folder / name
        self.folders = node_folders(self.folder)
        for path in (*self.folders.values(), self.registry):
            path.mkdir(parents=True, exist_ok=True)
        self.api = Api(
            plane.server, plane.authority.context(plane.authority.client(name, f"system:node:{name}", "system:nodes"))
        )
        self.calls: list[tuple[str, str, str]] = []
        """(`prepare` or `unprepare`, claim UID, error), in order, of every answered call."""
        self._capacity = dict(capacity or {"cpu": "8", "memory": "32Gi", "pods": "110"})
        self._labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})}
        self._patience = patience
        self._logs = plane.logs / f"{name}-kubelet.log"
        self._checkpoint = self.folder / "checkpoint.json"
        self._plugins: dict[Path, tuple[int, str, FakeKubelet]] = {}
        self._pods: dict[str, _Pod] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    @property
    def kubelet_root(self) -> Path:
        """/var/lib/kubelet of the node, as the machine sees it."""
        return self.folders[KUBELET]

    @property
    def registry(self) -> Path:
        return self.folders[KUBELET] / "plugins_registry"

    @property
    def state(self) -> Path:
        """/var/lib/dynamic-memory of the node, as the machine sees it."""
        return self.folders["/var/lib/dynamic-memory"]

    @property
    def registered(self) -> list[str]:
        """Names of the drivers that are registered now."""
        return sorted({name for _, name, _ in self._plugins.values()})

    @property
    def prepared(self) -> dict[str, Object]:
        """The checkpoint: what is prepared, by claim UID."""
        return json.loads(self._checkpoint.read_text()) if self._checkpoint.exists() else {}

    # --- from the test's thread

    def start(self) -> None:
        """Switch on: register the node and start the kubelet; what is on disk counts."""
        assert self._thread is None, f"{self.name} is on"
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name=self.name, daemon=True)
        self._thread.start()
        assert started.wait(30)

    def wait(self, timeout: float = 20) -> None:
        """Wait until pods can be scheduled here."""
        eventually(
            lambda: not self.api.get("Node", self.name)["spec"].get("taints"), timeout, f"{self.name} takes pods"
        )

    def stop(self) -> None:
        """Switch off, at once: no heart beat, no kubelet. Disks stay."""
        if self._thread is None:
            return
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive(), f"the kubelet of {self.name} hangs"
        self._thread = None

    def restart_kubelet(self) -> None:
        """End the kubelet and start it again: from its checkpoint."""
        self.stop()
        self.start()

    def remove(self, plane: ControlPlane) -> None:
        """Switch off and delete the Node object."""
        self.stop()
        plane.api.delete("Node", self.name, missing_ok=True)
        self.api.close()

    def finish(self, name: str, namespace: str, phase: str = "Succeeded") -> None:
        """End the containers of a pod by themselves: `Succeeded` or `Failed`."""

        def end() -> None:
            for pod in self._pods.values():
                meta = pod.object["metadata"]
                if (meta["name"], meta["namespace"]) == (name, namespace):
                    pod.end = phase
                    pod.wake.set()

        assert self._loop is not None
        self._loop.call_soon_threadsafe(end)

    # --- the kubelet

    def _run(self, started: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._stop = asyncio.Event()
            self._plugins.clear()
            self._pods.clear()
            started.set()
            runner.run(self._main())

    async def _main(self) -> None:
        await self._retried(self._register_node)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(each) for each in (self._beat(), self._watch_registry(), self._watch_pods(group))
            ]
            await self._stop.wait()
            for task in (*tasks, *(pod.task for pod in self._pods.values())):
                task.cancel()

    async def _pause(self, seconds: float, event: asyncio.Event | None = None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for((event or self._stop).wait(), seconds)

    async def _retried(self, step: Any) -> None:
        while not self._stop.is_set():
            try:
                await asyncio.to_thread(step)
            except OSError as error:
                self._log(f"{getattr(step, '__name__', step)}: {error}")
                await self._pause(0.2)
            else:
                return

    def _log(self, text: str) -> None:
        with self._logs.open("a") as file:
            file.write(f"{_now(micro=True)} {text}\n")

    def _register_node(self) -> None:
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": self._labels}}
        with contextlib.suppress(FileExistsError):
            self._create_once(body)
        slices = "/apis/resource.k8s.io/v1/resourceslices"
        self.api.call("DELETE", slices, fieldSelector=f"spec.nodeName={self.name}")
        self._set_ready()
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        with contextlib.suppress(FileExistsError):
            spec = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": _now(micro=True)}
            self._create_once({**lease, "metadata": {"name": self.name, "namespace": LEASES}, "spec": spec})

    def _create_once(self, body: Object) -> None:
        try:
            self.api.create(body)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                raise FileExistsError from None
            raise

    def _set_ready(self) -> None:
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "no containers here"}
        ready |= {"lastHeartbeatTime": _now(), "lastTransitionTime": _now()}
        status = {
            "capacity": self._capacity,
            "allocatable": self._capacity,
            "conditions": [ready],
            "addresses": [{"type": "Hostname", "address": self.name}],
        }
        self.api.patch("Node", self.name, {"status": status}, style="strategic", subresource="status")

    async def _beat(self) -> None:
        while not self._stop.is_set():
            await self._pause(self._patience.heartbeat)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._renew)

    def _renew(self) -> None:
        renewal = {"spec": {"renewTime": _now(micro=True)}}
        self.api.patch("Lease", self.name, renewal, LEASES)
        conditions = self.api.get("Node", self.name)["status"].get("conditions", [])
        if not any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions):
            self._set_ready()

    # --- plugins

    async def _watch_registry(self) -> None:
        while not self._stop.is_set():
            found = _sockets(self.registry)
            for path in [path for path, (inode, _, _) in self._plugins.items() if found.get(path) != inode]:
                del self._plugins[path]
            for path, inode in found.items():
                if path not in self._plugins and _accepts(path):
                    await self._register_plugin(path, inode)
            await self._pause(self._patience.poll)

    async def _register_plugin(self, path: Path, inode: int) -> None:
        plugin = FakeKubelet(self.registry)
        try:
            info = await plugin.register(5, path)
        except grpc.RpcError:
            return
        if plugin.version and info.type == "DRAPlugin":
            info.endpoint = str(self._outside(info.endpoint))
            self._plugins[path] = (inode, info.name, plugin)
            self._log(f"registered {info.name} at {info.endpoint}")
            for pod in self._pods.values():
                pod.wake.set()

    def _outside(self, path: str) -> Path:
        """Return where a path of the node is on the machine."""
        return self.kubelet_root / Path(path).relative_to(KUBELET) if path.startswith(f"{KUBELET}/") else Path(path)

    def _plugin(self, driver: str) -> FakeKubelet:
        """Return the one that registered last and still listens."""
        for _, name, plugin in reversed(self._plugins.values()):
            assert plugin.info is not None
            if name == driver and _accepts(Path(plugin.info.endpoint)):
                return plugin
        raise Failed(f"DRA driver {driver} is not registered")

    # --- pods

    async def _watch_pods(self, group: asyncio.TaskGroup) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                pods = await asyncio.to_thread(self.api.list, "Pod", fields=f"spec.nodeName={self.name}")
                self._take(pods, group)
            await self._pause(self._patience.poll)

    def _take(self, objects: list[Object], group: asyncio.TaskGroup) -> None:
        seen = {item["metadata"]["uid"]: item for item in objects}
        for uid, item in seen.items():
            known = self._pods.get(uid)
            if known is None:
                task = group.create_task(self._pod(uid))
                self._pods[uid] = _Pod(item, task)
                self._log(f"sees {_named(self._pods[uid])}")
            elif known.object["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                known.object = item
                known.wake.set()
        for uid, known in self._pods.items():
            if uid not in seen and not known.gone:
                known.gone = True
                known.wake.set()
        # a claim of a pod that went while the kubelet was off
        for claim in self.prepared.values():
            for uid in claim["pods"]:
                if uid not in seen and uid not in self._pods:
                    orphan = {"metadata": {"uid": uid, "name": "", "namespace": claim["namespace"]}, "spec": {}}
                    self._pods[uid] = _Pod(orphan, group.create_task(self._pod(uid)), gone=True)

    async def _pod(self, uid: str) -> None:
        """Carry one pod from its first sight to its end."""
        pod = self._pods[uid]
        phase = pod.object.get("status", {}).get("phase", "Pending")
        if phase not in {"Succeeded", "Failed"}:
            pod.running = phase == "Running"
            await self._until_ended(uid, pod)
            await self._unprepare(uid, pod)
            if pod.end and not pod.gone:
                await self._report(pod, pod.end)
        while not (pod.gone or "deletionTimestamp" in pod.object["metadata"]):
            await self._wake(pod)
        if not pod.gone:
            meta = pod.object["metadata"]
            await self._retried(lambda: self._delete(meta["name"], meta["namespace"], uid))
        del self._pods[uid]
        self._log(f"ended {_named(pod)}")

    async def _until_ended(self, uid: str, pod: _Pod) -> None:
        while not (pod.gone or pod.end or "deletionTimestamp" in pod.object["metadata"]):
            if pod.running:
                await self._wake(pod)
                continue
            try:
                await self._prepare(uid, pod)
            except REFUSALS as error:
                self._log(f"prepare of {_named(pod)}: {_text(error)}")
                await self._tell(pod, "FailedPrepareDynamicResources", _text(error))
                await self._pause(self._patience.prepare, pod.wake)
                pod.wake.clear()
            else:
                pod.running = True
                await self._report(pod, "Running")

    async def _wake(self, pod: _Pod) -> None:
        await pod.wake.wait()
        pod.wake.clear()

    async def _prepare(self, uid: str, pod: _Pod) -> None:
        wanted: dict[str, list[Claim]] = {}
        for name in _claim_names(pod.object):
            namespace = pod.object["metadata"]["namespace"]
            claim = await asyncio.to_thread(self.api.get, "ResourceClaim", name, namespace)
            status, claim_uid = claim.get("status", {}), claim["metadata"]["uid"]
            if "allocation" not in status or uid not in {entry["uid"] for entry in status.get("reservedFor", [])}:
                raise Failed(f"ResourceClaim {name} is not allocated and reserved for the pod")
            drivers = sorted({result["driver"] for result in status["allocation"]["devices"].get("results", [])})
            self._remember(uid, claim_uid, namespace, name, drivers)
            if not self.prepared[claim_uid]["done"]:
                for driver in drivers:
                    wanted.setdefault(driver, []).append((namespace, name, claim_uid))
        for driver, claims in wanted.items():
            answer = await self._plugin(driver).prepare(*claims, timeout=self._patience.call)
            for claim_uid, result in answer.items():
                self.calls.append(("prepare", claim_uid, result.error))
            if errors := [result.error for result in answer.values() if result.error]:
                raise Failed("; ".join(errors))
        with self._checkpointed() as checkpoint:
            for _, _, claim_uid in (claim for claims in wanted.values() for claim in claims):
                checkpoint[claim_uid]["done"] = True

    def _remember(self, uid: str, claim_uid: str, namespace: str, name: str, drivers: list[str]) -> None:
        with self._checkpointed() as checkpoint:
            for other, entry in checkpoint.items():
                if other != claim_uid and (entry["namespace"], entry["name"]) == (namespace, name):
                    raise Failed(f"old ResourceClaim with same name {name} and different UID {other} still exists")
            new = {"namespace": namespace, "name": name, "drivers": drivers, "pods": [], "done": False}
            entry = checkpoint.setdefault(claim_uid, new)
            entry["pods"] = sorted({*entry["pods"], uid})

    async def _unprepare(self, uid: str, pod: _Pod) -> None:
        """Call until it succeeds; nothing but that ends it."""
        while mine := {key: entry for key, entry in self.prepared.items() if uid in entry["pods"]}:
            try:
                for claim_uid, entry in mine.items():
                    if entry["pods"] == [uid]:
                        await self._unprepare_claim(claim_uid, entry)
                with self._checkpointed() as checkpoint:
                    for claim_uid in mine:
                        checkpoint[claim_uid]["pods"].remove(uid)
                        if not checkpoint[claim_uid]["pods"]:
                            del checkpoint[claim_uid]
            except REFUSALS as error:
                self._log(f"unprepare of {_named(pod)}: {_text(error)}")
                await self._pause(self._patience.unprepare, asyncio.Event())

    async def _unprepare_claim(self, claim_uid: str, entry: Object) -> None:
        for driver in entry["drivers"]:
            claim = entry["namespace"], entry["name"], claim_uid
            answer = await self._plugin(driver).unprepare(claim, timeout=self._patience.call)
            self.calls.append(("unprepare", claim_uid, answer[claim_uid]))
            if answer[claim_uid]:
                raise Failed(answer[claim_uid])

    @contextlib.contextmanager
    def _checkpointed(self) -> Any:
        checkpoint = self.prepared
        yield checkpoint
        scratch = self._checkpoint.with_suffix(".new")
        scratch.write_text(json.dumps(checkpoint))
        scratch.replace(self._checkpoint)

    async def _report(self, pod: _Pod, phase: str) -> None:
        ready = "True" if phase == "Running" else "False"
        types = {"PodReadyToStartContainers": "True", "Initialized": "True", "ContainersReady": ready, "Ready": ready}
        running = {"running": {"startedAt": _now()}}
        ended = {"terminated": {"exitCode": 0 if phase == "Succeeded" else 1, "finishedAt": _now()}}
        containers = [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": phase == "Running",
                "started": phase == "Running",
                "restartCount": 0,
                "state": running if phase == "Running" else ended,
            }
            for container in pod.object["spec"]["containers"]
        ]
        status = {
            "phase": phase,
            "startTime": _now(),
            "conditions": [
                {"type": kind, "status": value, "lastTransitionTime": _now()} for kind, value in types.items()
            ],
            "containerStatuses": containers,
        }
        meta = pod.object["metadata"]

        def write() -> None:
            with contextlib.suppress(FileNotFoundError):
                try:
                    self.api.patch(
                        "Pod",
                        meta["name"],
                        {"status": status},
                        meta["namespace"],
                        style="strategic",
                        subresource="status",
                    )
                except ApiError as error:
                    if error.reason == "NotFound":
                        raise FileNotFoundError from None
                    raise

        await self._retried(write)

    def _delete(self, name: str, namespace: str, uid: str) -> None:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        try:
            self.api.call("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", options)
        except ApiError as error:
            if error.reason not in {"NotFound", "Conflict"}:
                raise

    async def _tell(self, pod: _Pod, reason: str, message: str) -> None:
        meta = pod.object["metadata"]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "reason": reason,
            "message": message[:1000],
            "type": "Warning",
            "source": {"component": "kubelet", "host": self.name},
            "firstTimestamp": _now(),
            "lastTimestamp": _now(),
            "count": 1,
        }
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self.api.create, event)


def _claim_names(pod: Object) -> list[str]:
    """Return the names of the ResourceClaims of a pod."""
    made = {
        entry["name"]: entry.get("resourceClaimName")
        for entry in pod.get("status", {}).get("resourceClaimStatuses") or []
    }
    names = (
        entry.get("resourceClaimName") or made.get(entry["name"]) for entry in pod["spec"].get("resourceClaims") or []
    )
    return [name for name in names if name]


def _named(pod: _Pod) -> str:
    meta = pod.object["metadata"]
    return f"{meta['namespace']}/{meta['name']} {meta['uid']}"


def _sockets(folder: Path) -> dict[Path, int]:
    """Return the sockets of a folder and their inodes; one may go while one looks."""
    found = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if stat.S_ISSOCK(status.st_mode):
                found[path] = status.st_ino
    return found


def _accepts(path: Path) -> bool:
    """Tell whether something listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _text(error: Exception) -> str:
    return str(error.details()) if isinstance(error, grpc.aio.AioRpcError) else str(error)


def _now(*, micro: bool = False) -> str:
    now = datetime.now(UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")
