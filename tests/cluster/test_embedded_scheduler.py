# SPDX-License-Identifier: Apache-2.0
"""Scheduler and controllers of the embedded cluster on a real API server, beside those of Kubernetes.

The same objects are given first to kube-scheduler, then, made anew, to ours: nodes, claims and messages have to be the
same. Then our controllers take the place of kube-controller-manager: what they write must pass the real validation.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.cluster.support.control_plane import VERSIONS, ControlPlane
from tests.embedded.support.controlling import LABELS, template
from tests.embedded.support.scheduling import (
    BINDING,
    GI,
    claim,
    claim_spec,
    device_class,
    memory_slice,
    node,
    pod,
    running,
    until,
)

from dynamic_memory.api.kinds import DEVICE_CLASSES, NODES, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS, RESOURCE_SLICES
from dynamic_memory.api.wire import Kind
from dynamic_memory.embedded.controllers import ControllerManager, ControllersConfig
from dynamic_memory.embedded.controllers.objects import (
    CLAIMS,
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    STATEFUL_SETS,
    condition,
)
from dynamic_memory.embedded.scheduler import Scheduler, SchedulerConfig
from dynamic_memory.kube.client import Client
from dynamic_memory.kube.errors import ApiError, NotFound
from dynamic_memory.process import clock

HOSTNAME = "kubernetes.io/hostname"
LEFT_OUT = ("no new claims to deallocate, ", "still not schedulable, ")
"""What 1.36 says of PostFilter and 1.37 does not."""


@pytest.fixture(params=VERSIONS)
def plane(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[ControlPlane]:
    found = ControlPlane(request.param, tmp_path, node_grace=3600)
    try:
        found.start()
        found.wait()
        found.wait_for_pods()
        yield found
    finally:
        found.stop()


@contextlib.asynccontextmanager
async def client(plane: ControlPlane) -> AsyncIterator[Client]:
    kube = Client.from_environment(str(plane.kubeconfig))
    try:
        yield kube
    finally:
        await kube.close()


async def eventually(question: Any, seconds: float = 180.0) -> Any:
    answer = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = await question()
                if answer:
                    return answer
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s; the last answer was {answer!r}") from None


async def put(kube: Client, kind: Kind[Any], body: dict[str, Any]) -> None:
    status = body.get("status")
    namespace = body["metadata"].get("namespace")
    await kube.create(kind, {key: value for key, value in body.items() if key != "status"}, namespace=namespace)
    if kind is NODES:
        await kube.patch(kind, body["metadata"]["name"], {"status": status}, subresource="status")


async def put_nodes(kube: Client, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        body["status"]["conditions"] = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
        await put(kube, NODES, body)

    async def no_taints() -> bool:
        found = (await kube.list(NODES)).items
        return not any(taint.key.endswith("not-ready") for item in found for taint in item.spec.taints)

    await eventually(no_taints)


async def outcomes(kube: Client) -> dict[str, Any]:
    """Give pods to whatever schedules, one after the other, and return what became of them."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["full"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    names = ("c", "d", "e", "e2", "shared")
    for name in names:
        await put(kube, RESOURCE_CLAIMS, claim(name))
    await put(kube, RESOURCE_CLAIMS, {**claim("unknown"), "spec": claim_spec(GI, "nope")})
    pods = [
        pod("unselected", nodeSelector={"disk": "ssd"}),
        pod("big", cpu="40", memory="40Gi"),
        pod("pinned", cpu="4", affinity={"nodeAffinity": required}),
        pod("fits", claims={"m": "c"}),
        pod("no-room", claims={"m": "d"}, memory="1Gi"),
        pod("elsewhere", claims={"m": "c"}, nodeSelector={HOSTNAME: "full"}),
        pod("first", cpu="700m", nodeSelector={HOSTNAME: "full"}),
        pod("second", cpu="700m", nodeSelector={HOSTNAME: "full"}),
        pod("no-class", claims={"m": "unknown"}),
        pod("no-claim", claims={"m": "nobody"}),
        pod("gated", schedulingGates=[{"name": "g"}]),
        pod("tolerant", nodeSelector={HOSTNAME: "tainted"}, tolerations=[{"key": "k", "operator": "Exists"}]),
    ]
    silent = {"no-claim", "gated"}
    for body in pods:
        await put(kube, PODS, body)
        name = body["metadata"]["name"]

        async def decided(name: str = name) -> bool:
            found = await kube.get(PODS, name, "default")
            return bool(found.spec.get("nodeName") or condition(found, "PodScheduled").get("message"))

        if name in silent:
            await asyncio.sleep(0.5)
        else:
            await eventually(decided)
    found: dict[str, Any] = {}
    for item in (await kube.list(PODS, namespace="default")).items:
        told = condition(item, "PodScheduled")
        message = told.get("message", "")
        for text in LEFT_OUT:
            message = message.replace(text, "")
        found[item.metadata.name] = (item.spec.get("nodeName"), told.get("reason"), message)
    for item in (await kube.list(CLAIMS, namespace="default")).items:
        found[f"claim {item.metadata.name}"] = _masked(item)
    return found


def _masked(item: Any) -> Any:
    """Return what a scheduler writes into a claim, without what is new each time."""
    status = dict(item.status)
    if "allocation" in status:
        allocation = {key: value for key, value in status["allocation"].items() if key != "allocationTimestamp"}
        devices = dict(allocation["devices"])
        devices["results"] = [{**result, "shareID": "…"} for result in devices["results"]]
        status["allocation"] = {**allocation, "devices": devices}
    users = sorted((user["resource"], user["name"]) for user in status.pop("reservedFor", ()))
    return item.metadata.finalizers, status, users


async def clear(kube: Client) -> None:
    for item in (await kube.list(PODS, namespace="default")).items:
        await kube.delete(PODS, item.metadata.name, "default", grace_period=0)

    async def no_claims() -> bool:
        left = (await kube.list(CLAIMS, namespace="default")).items
        for item in left:
            with contextlib.suppress(NotFound):
                await kube.delete(CLAIMS, item.metadata.name, "default")
        return not left

    await eventually(no_claims)


async def test_the_same_nodes_claims_and_words_as_kube_scheduler(plane: ControlPlane) -> None:
    async with client(plane) as kube:
        await put_nodes(
            kube,
            node("tainted", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]),
            node("cordoned", unschedulable=True),
            node("full", cpu="1", memory="1Gi"),
            node("plain", labels={"disk": "hdd"}),
        )
        await put(kube, DEVICE_CLASSES, device_class())
        await put(kube, RESOURCE_SLICES, memory_slice("pool", GI, node_name="plain"))
        await asyncio.sleep(3)  # nothing says when their scheduler has seen class and slice
        theirs = await outcomes(kube)
        plane.children["kube-scheduler"].kill()
        await clear(kube)
        scheduler = Scheduler(kube)
        async with running(scheduler.run()):
            await until(lambda: scheduler.synced, 60)
            ours = await outcomes(kube)
    assert theirs["fits"][0] == "plain"
    assert ours == theirs


async def test_what_controllers_and_scheduler_write_passes_real_validation(plane: ControlPlane) -> None:
    """Workloads and claims with binding conditions, with everything but the API server ours."""
    for name in ("kube-scheduler", "kube-controller-manager"):
        plane.children[name].kill()
    async with client(plane) as kube, contextlib.AsyncExitStack() as stack:
        scheduler = Scheduler(kube, SchedulerConfig(binding_timeout=60))
        manager = ControllerManager(kube, ControllersConfig(node_grace=3600))
        await stack.enter_async_context(running(scheduler.run()))
        await stack.enter_async_context(running(manager.run()))
        await until(lambda: scheduler.synced and manager.synced, 60)
        await put_nodes(kube, node("n1", labels={"fabric": "a"}), node("n2", labels={"fabric": "a"}))
        await put(kube, DEVICE_CLASSES, device_class())
        await put(kube, RESOURCE_SLICES, memory_slice("pool", 2 * GI, selector={"fabric": "a"}, **BINDING))
        inner = {"metadata": {"name": "t", "namespace": "default"}, "spec": {"spec": claim_spec(GI)}}
        await put(kube, RESOURCE_CLAIM_TEMPLATES, inner)
        await stack.enter_async_context(running(node_agent(kube)))
        whole = {"selector": {"matchLabels": LABELS}, "template": template(terminationGracePeriodSeconds=0)}
        meta = {"name": "web", "namespace": "default"}
        await put(kube, DEPLOYMENTS, {"metadata": meta, "spec": {**whole, "replicas": 3}})
        await put(kube, DAEMON_SETS, {"metadata": meta, "spec": whole})
        await put(kube, STATEFUL_SETS, {"metadata": meta, "spec": {**whole, "replicas": 2, "serviceName": "web"}})
        job = template(restartPolicy="Never")
        await put(kube, JOBS, {"metadata": meta, "spec": {"template": job, "completions": 3, "parallelism": 2}})
        for name in ("a", "b", "c"):
            await put(kube, PODS, pod(name, templates={"m": "t"}))

        async def all_there() -> bool:
            deployment = await kube.get(DEPLOYMENTS, "web", "default")
            stateful = await kube.get(STATEFUL_SETS, "web", "default")
            daemons = await kube.get(DAEMON_SETS, "web", "default")
            done = await kube.get(JOBS, "web", "default")
            return (
                deployment.status.get("availableReplicas") == 3
                and stateful.status.get("readyReplicas") == 2
                and daemons.status.get("numberReady") == 2
                and condition(done, "Complete").get("status") == "True"
            )

        await eventually(all_there)

        async def placed() -> list[str]:
            found = (await kube.list(PODS, namespace="default")).items
            return sorted(
                item.metadata.name
                for item in found
                if item.metadata.name in {"a", "b", "c"} and item.spec.get("nodeName")
            )

        async def two() -> bool:
            return len(await placed()) == 2

        await eventually(two)
        first = (await placed())[0]
        await kube.delete(PODS, first, "default")

        async def next_one() -> bool:
            names = await placed()
            return len(names) == 2 and first not in names

        await eventually(next_one)


async def node_agent(kube: Client) -> None:
    """Do what kubelet and driver do: run pods, end them, and have devices ready."""
    while True:
        for item in (await kube.list(CLAIMS)).items:
            with contextlib.suppress(ApiError):
                await _attach(kube, item)
        for item in (await kube.list(PODS)).items:
            with contextlib.suppress(ApiError):
                await _run(kube, item)
        await clock.sleep(0.1)


async def _attach(kube: Client, item: Any) -> None:
    allocation = item.status.get("allocation")
    if not allocation or item.status.get("devices"):
        return
    ready = {
        "type": BINDING["bindingConditions"][0],
        "status": "True",
        "reason": "Online",
        "message": "",
        "lastTransitionTime": clock.rfc3339(clock.now()),
    }
    keys = ("driver", "pool", "device", "shareID")
    devices = [
        {**{key: result[key] for key in keys}, "conditions": [ready]} for result in allocation["devices"]["results"]
    ]
    await kube.patch(
        CLAIMS, item.metadata.name, {"status": {"devices": devices}}, namespace="default", subresource="status"
    )


async def _run(kube: Client, item: Any) -> None:
    if not item.spec.get("nodeName"):
        return
    if item.metadata.deletion_timestamp:
        await kube.delete(PODS, item.metadata.name, "default", grace_period=0)
        return
    phase = "Succeeded" if item.metadata.labels.get("job-name") else "Running"
    if item.status.get("phase") == phase:
        return
    now = clock.rfc3339(clock.now())
    state = {"running": {"startedAt": now}} if phase == "Running" else {"terminated": {"exitCode": 0}}
    status = {
        "phase": phase,
        "conditions": [
            {"type": "Ready", "status": "True" if phase == "Running" else "False", "lastTransitionTime": now}
        ],
        "containerStatuses": [
            {
                "name": "c",
                "state": state,
                "ready": phase == "Running",
                "restartCount": 0,
                "image": "i",
                "imageID": "",
            }
        ],
    }
    await kube.patch(
        PODS, item.metadata.name, {"status": status}, namespace="default", subresource="status", style="strategic"
    )
