# SPDX-License-Identifier: Apache-2.0
"""A small cluster in memory for tests of scheduler and controllers: FakeKube with what they need beside it.

The fake has no subresource `binding` and serves no raw objects; `cluster()` returns one that does.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.support.fake_kube import FakeKube

from dynamic_memory.api.kinds import DEVICE_CLASSES, NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from dynamic_memory.api.wire import Kind
from dynamic_memory.embedded.scheduler import Scheduler, SchedulerConfig
from dynamic_memory.kube.errors import Conflict, NotFound
from dynamic_memory.process import clock

GI = 1 << 30
_BINDING = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/binding")
_POD = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)")


class _Raw(dict[str, Any]):
    """Answers for paths, made when they are asked for."""

    def __init__(self, kube: FakeKube) -> None:
        super().__init__(kube.raw)
        self._kube = kube

    def __contains__(self, path: object) -> bool:
        return (
            super().__contains__(path)
            or path == "/api/v1/nodes"
            or bool(_BINDING.fullmatch(str(path)) or _POD.fullmatch(str(path)))
        )

    def __getitem__(self, path: str) -> Any:
        if super().__contains__(path):
            return super().__getitem__(path)
        if path == "/api/v1/nodes":
            return {"kind": "NodeList", "items": self._kube.bodies(NODES)}
        found = _BINDING.fullmatch(path)
        if found is None:
            namespace, name = _POD.fullmatch(path).groups()
            return self._kube.body(PODS, name, namespace)
        namespace, name = found.groups()
        return lambda body: self._bind(namespace, name, body)

    def _bind(self, namespace: str, name: str, body: Any) -> Any:
        pod = self._kube.body(PODS, name, namespace)
        if pod is None:
            raise NotFound(404, "NotFound", f'pods "{name}" not found')
        if pod["spec"].get("nodeName"):
            raise Conflict(409, "Conflict", f"pod {name} is already assigned to node {pod['spec']['nodeName']!r}")
        pod["spec"]["nodeName"] = body["target"]["name"]
        status = pod.setdefault("status", {})
        others = [item for item in status.get("conditions", []) if item["type"] != "PodScheduled"]
        now = clock.rfc3339(clock.now())
        status["conditions"] = [*others, {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}]
        self._kube.put(PODS, pod)
        return {"kind": "Status", "status": "Success"}


def cluster() -> FakeKube:
    kube = FakeKube()
    kube.raw = _Raw(kube)
    return kube


@contextlib.asynccontextmanager
async def running(coroutine: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a role in the background; its failure fails the test."""
    task = asyncio.get_running_loop().create_task(coroutine)
    try:
        yield task
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def scheduling(kube: FakeKube, config: SchedulerConfig | None = None) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(kube, config)
    async with running(scheduler.run()):
        await until(lambda: scheduler.synced)
        yield scheduler


async def until(condition: Callable[[], Any], seconds: float = 30.0, what: str = "") -> float:
    """Wait for a condition; return how long that took."""
    began = clock.monotonic()
    while not condition():
        if clock.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        # Finely at first, then in larger steps: virtual minutes should not take real ones.
        await asyncio.sleep(0.005 if clock.monotonic() - began < 1 else 0.1)
    return clock.monotonic() - began


async def settle(seconds: float = 0.2) -> None:
    """Let everything happen that happens by itself."""
    await asyncio.sleep(seconds)


# --- objects


def node(name: str, *, cpu: str = "8", memory: str = "32Gi", pods: str = "110", **more: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, **more.pop("labels", {})}
    allocatable = {"cpu": cpu, "memory": memory, "pods": pods, **more.pop("extra", {})}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": more,
        "status": {"capacity": allocatable, "allocatable": allocatable},
    }


def pod(
    name: str,
    *,
    cpu: str = "100m",
    memory: str = "64Mi",
    claims: dict[str, str] | None = None,
    templates: dict[str, str] | None = None,
    namespace: str = "default",
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": memory}}}
    entries = [{"name": key, "resourceClaimName": value} for key, value in (claims or {}).items()]
    entries += [{"name": key, "resourceClaimTemplateName": value} for key, value in (templates or {}).items()]
    whole = {"containers": [container], "schedulerName": "default-scheduler", **spec}
    if entries:
        whole["resourceClaims"] = entries
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"metadata": metadata, "spec": whole, "status": {"phase": "Pending"}}


def device_class(name: str = "memory") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selectors": [{"cel": {"expression": 'device.driver == "d"'}}]}}


def memory_slice(
    name: str, total: int, *, node_name: str | None = None, selector: dict[str, str] | None = None, **device: Any
) -> dict[str, Any]:
    """A pool of one shared device, of one node or of those with labels."""
    policy = {"default": "1Mi", "validRange": {"min": "1Mi", "step": "1Mi"}}
    what = {
        "name": "mem",
        "allowMultipleAllocations": True,
        "capacity": {"size": {"value": str(total), "requestPolicy": policy}},
        **device,
    }
    spec: dict[str, Any] = {
        "driver": "d",
        "pool": {"name": name, "generation": 1, "resourceSliceCount": 1},
        "devices": [what],
    }
    if node_name is not None:
        spec["nodeName"] = node_name
    elif selector is not None:
        terms = [{"matchExpressions": [{"key": k, "operator": "In", "values": [v]} for k, v in selector.items()]}]
        spec["nodeSelector"] = {"nodeSelectorTerms": terms}
    else:
        spec["allNodes"] = True
    return {"metadata": {"name": name}, "spec": spec}


def claim_spec(size: int, class_name: str = "memory") -> dict[str, Any]:
    exactly = {
        "deviceClassName": class_name,
        "allocationMode": "ExactCount",
        "count": 1,
        "capacity": {"requests": {"size": str(size)}},
    }
    return {"devices": {"requests": [{"name": "m", "exactly": exactly}]}}


def claim(name: str, size: int = GI, *, namespace: str = "default", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, **metadata}, "spec": claim_spec(size)}


# --- looking


def node_of(kube: FakeKube, name: str, namespace: str = "default") -> str:
    found = kube.body(PODS, name, namespace)
    return "" if found is None else found["spec"].get("nodeName", "")


def bound(kube: FakeKube) -> list[str]:
    return [body["metadata"]["name"] for body in kube.bodies(PODS) if body["spec"].get("nodeName")]


def scheduled_condition(kube: FakeKube, name: str) -> dict[str, Any]:
    conditions = (kube.body(PODS, name, "default") or {}).get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == "PodScheduled"), {})


def status_of(kube: FakeKube, name: str, kind: Kind[Any] = RESOURCE_CLAIMS) -> dict[str, Any]:
    return (kube.body(kind, name, "default") or {}).get("status") or {}


def events(kube: FakeKube, reason: str) -> list[str]:
    return [
        call.body["message"]
        for call in kube.calls
        if call.verb == "create" and call.kind == "events" and call.body["reason"] == reason
    ]


def set_condition(kube: FakeKube, name: str, type_: str, reason: str = "Online", message: str = "ok") -> None:
    """Write a device condition, as a driver does."""
    body = kube.body(RESOURCE_CLAIMS, name, "default")
    status = body["status"]
    devices = []
    for result in status["allocation"]["devices"]["results"]:
        condition = {
            "type": type_,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": clock.rfc3339(clock.now()),
        }
        identity = {key: result[key] for key in ("driver", "pool", "device", "shareID") if key in result}
        devices.append({**identity, "conditions": [condition]})
    status["devices"] = devices
    kube.put(RESOURCE_CLAIMS, body)


def release(kube: FakeKube, pod_name: str, claim_name: str) -> None:
    """Delete a pod and empty its claim, as the claim controller does."""
    kube.remove(PODS, pod_name, "default")
    body = kube.body(RESOURCE_CLAIMS, claim_name, "default")
    body["status"] = {}
    kube.put(RESOURCE_CLAIMS, body)


def pool(kube: FakeKube, total: int, *nodes: str, **device: Any) -> None:
    """Nodes, and a pool that all of them reach."""
    for name in nodes:
        kube.put(NODES, node(name, labels={"fabric": "a"}))
    kube.put(DEVICE_CLASSES, device_class())
    kube.put(RESOURCE_SLICES, memory_slice("pool", total, selector={"fabric": "a"}, **device))


BINDING = {
    "bindsToNode": True,
    "bindingConditions": ["dynamicmemory.dev/Attached"],
    "bindingFailureConditions": ["dynamicmemory.dev/AttachFailed"],
}
ATTACHED, FAILED = BINDING["bindingConditions"][0], BINDING["bindingFailureConditions"][0]
