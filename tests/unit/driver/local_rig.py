# SPDX-License-Identifier: Apache-2.0
"""A node with memory of its own, made of files, and a whole driver on it; no fabric unless a test wants one."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import uuid
from pathlib import Path
from typing import Any

from tests.support.fake_host import FakeHost
from tests.support.machine import GIB, MIB, Node, build
from tests.unit.driver.api_server import ApiServer

from dynamic_memory.api.kinds import PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from dynamic_memory.driver.calls import ClaimRef, Device
from dynamic_memory.driver.config import DriverConfig, LocalConfig, NriConfig
from dynamic_memory.driver.driver import Driver
from dynamic_memory.driver.metadata import MetadataFiles
from dynamic_memory.fabric.none import NoFabric
from dynamic_memory.process import clock
from dynamic_memory.process.config import Seconds
from dynamic_memory.process.readiness import Readiness

POOL = "n1/mem"


def result(request: str = "mem", device: str = "numa0-4ki", size: str | None = "512Mi", **more: Any) -> dict[str, Any]:
    """One allocated device."""
    made: dict[str, Any] = {"request": request, "driver": "dra.memory", "pool": POOL, "device": device}
    made |= {"shareID": str(uuid.uuid4()), "consumedCapacity": {} if size is None else {"size": size}}
    return made | more


def local_claim(
    *results: dict[str, Any],
    name: str = "near",
    uid: str = "",
    pods: tuple[str, ...] = ("p1",),
    node: str = "n1",
    config: list[dict[str, Any]] | None = None,
    annotations: dict[str, str] | None = None,
    owner: str = "",
) -> dict[str, Any]:
    """A claim for memory of node n1 that the scheduler has allocated, as JSON."""
    results = results or (result(),)
    names = dict.fromkeys(item["request"].partition("/")[0] for item in results)
    meta: dict[str, Any] = {"name": name, "namespace": "app", "uid": uid or str(uuid.uuid4())}
    meta |= {"annotations": annotations} if annotations else {}
    if owner:
        meta["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": f"uid-{owner}"}]
    selector = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": meta,
        "spec": {
            "devices": {"requests": [{"name": each, "exactly": {"deviceClassName": "dra.memory"}} for each in names]}
        },
        "status": {
            "allocation": {
                "nodeSelector": {"nodeSelectorTerms": [selector]},
                "devices": {"results": list(results), "config": config or []},
            },
            "reservedFor": [{"resource": "pods", "name": pod, "uid": f"uid-{pod}"} for pod in pods],
        },
    }


def parameters(**fields: Any) -> dict[str, Any]:
    """A claim's opaque configuration."""
    body = {"apiVersion": "dynamicmemory.dev/v1", "kind": "MemoryConfig", **fields}
    return {"source": "FromClaim", "requests": [], "opaque": {"driver": "dra.memory", "parameters": body}}


def pod_body(
    name: str = "p1",
    containers: dict[str, list[tuple[str, str]]] | None = None,
    *,
    inits: dict[str, list[tuple[str, str]]] | None = None,
    sidecars: tuple[str, ...] = (),
    claims: dict[str, str] | None = None,
    uid: str = "",
) -> dict[str, Any]:
    """A pod; containers by name with (pod's name of the claim, request)."""

    def made(names: dict[str, list[tuple[str, str]]]) -> list[dict[str, Any]]:
        found = []
        for each, uses in names.items():
            refs = [{"name": claim, **({"request": request} if request else {})} for claim, request in uses]
            one: dict[str, Any] = {"name": each, "image": "i", "resources": {"claims": refs}}
            found.append(one | ({"restartPolicy": "Always"} if each in sidecars else {}))
        return found

    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "app", "uid": uid or f"uid-{name}"},
        "spec": {
            "nodeName": "n1",
            "containers": made(containers or {"app": [("mem", "")]}),
            "initContainers": made(inits or {}),
            "resourceClaims": [
                {"name": key, "resourceClaimName": value} for key, value in (claims or {"mem": "near"}).items()
            ],
        },
        "status": {"phase": "Pending"},
    }


class LocalRig:
    """One node; the driver can be started and stopped."""

    def __init__(self, folder: Path, nodes: list[Node] | None = None) -> None:
        self.folder = folder
        self.root = build(
            folder / "root", nodes or [Node(0, 4 * GIB, pools={2 * MIB: 256}), Node(2, 2 * GIB, cpus="4-7")]
        )
        self.api = ApiServer()
        self.host = FakeHost()
        self.local = LocalConfig(root=self.root, rescan=Seconds(5), preflight="off")
        self.driver: Driver | None = None
        self.order: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def make(self, local: LocalConfig | None = None, fabric: Any = None, nri: NriConfig | None = None) -> Driver:
        config = DriverConfig(
            local=local or self.local,
            nri=nri,
            node_name="n1",
            pod_uid="",
            kubelet_root=str(self.folder / "k"),
            registry_dir="/nowhere",  # its sockets are not opened
            plugin_dir="/nowhere",
            cdi_dir=str(self.folder / "cdi"),
            state_dir=str(self.folder / "state"),
        )
        driver = Driver(config, kube=self.api, fabric=fabric or NoFabric(), host=self.host, ready=Readiness())

        driver.node.metadata = MetadataFiles(self.folder / "metadata")

        async def opened(_path: Path) -> None:
            self.order.append(f"serving with {sorted(driver.node.local.devices)}")

        async def registered(_path: Path) -> None:
            self.order.append(f"registered with {self.specs()}")

        driver._plugin.start = opened
        driver._registration.start = registered
        return driver

    async def start(self, local: LocalConfig | None = None, **how: Any) -> Driver:
        self.driver = self.make(local, **how)
        self._task = asyncio.create_task(self.driver.run())
        await self.until(lambda: self.driver.node.active and any("registered" in step for step in self.order))
        return self.driver

    async def stop(self) -> None:
        self.order.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def until(self, what: Any, seconds: float = 30.0) -> Any:
        end = clock.monotonic() + seconds
        while not (found := what()):
            assert clock.monotonic() < end, "it did not come true"
            await clock.sleep(0.1)
        return found

    def add(self, body: dict[str, Any], pod: dict[str, Any] | None = None) -> ClaimRef:
        """A claim, and the pod that it is reserved for."""
        meta = self.api.put(RESOURCE_CLAIMS, body)["metadata"]
        for reference in body["status"].get("reservedFor", []):
            if reference["resource"] == "pods":
                self.api.put(PODS, pod or pod_body(reference["name"], claims={"mem": meta["name"]}))
        return ClaimRef(meta["namespace"], meta["name"], meta["uid"])

    async def prepare(self, ref: ClaimRef, seconds: float = 5.0) -> list[Device]:
        return await self.driver._plugin._preparer.prepare(ref, clock.monotonic() + seconds)

    async def unprepare(self, ref: ClaimRef, seconds: float = 5.0) -> None:
        await self.driver._plugin._unpreparer.unprepare(ref, clock.monotonic() + seconds)

    def specs(self) -> list[str]:
        folder = self.folder / "cdi"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def slices(self) -> list[dict[str, Any]]:
        return [body for body in self.api.bodies(RESOURCE_SLICES) if body["spec"]["pool"]["name"] == POOL]

    def devices(self) -> dict[str, dict[str, Any]]:
        found = {device["name"]: device for body in self.slices() for device in body["spec"]["devices"]}
        return copy.deepcopy(found)

    def value(self, device: str) -> str:
        return self.devices().get(device, {"capacity": {"size": {"value": ""}}})["capacity"]["size"]["value"]

    def record(self, ref: ClaimRef) -> Any:
        return self.driver.node.records.get(ref.uid)


def spec(rig: LocalRig, ref: ClaimRef) -> dict[str, Any]:
    """The CDI file of a claim."""
    made: dict[str, Any] = json.loads((rig.folder / f"cdi/dra.memory-claim-{ref.uid}.json").read_text())
    return made


def text_of(path: str) -> str:
    """What a file says."""
    return Path(path).read_text()


def env(rig: LocalRig, ref: ClaimRef, device: int = 0) -> dict[str, str]:
    """The environment that a device of a claim sets."""
    return dict(entry.split("=", 1) for entry in spec(rig, ref)["devices"][device]["containerEdits"]["env"])
