# SPDX-License-Identifier: Apache-2.0
"""Scheduler and controllers on the API server of the embedded cluster: in its process, and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from pathlib import Path

import pytest
import yaml
from tests.embedded.support.controlling import LABELS, template
from tests.embedded.support.scheduling import (
    ATTACHED,
    BINDING,
    GI,
    claim_spec,
    device_class,
    memory_slice,
    node,
    pod,
    running,
    until,
)

from dynamic_memory.api.kinds import DEVICE_CLASSES, NODES, RESOURCE_CLAIM_TEMPLATES, RESOURCE_SLICES
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.apiserver.server import Options, serve
from dynamic_memory.embedded.controllers import ControllerManager, ControllersConfig
from dynamic_memory.embedded.controllers.objects import (
    CLAIMS,
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
    condition,
)
from dynamic_memory.embedded.scheduler import Scheduler
from dynamic_memory.kube.client import Client
from dynamic_memory.kube.errors import ApiError
from dynamic_memory.process import clock


class Cluster:
    """An API server with scheduler, controllers and a kubelet that runs everything."""

    def __init__(self, kube, other) -> None:
        self.kube = kube
        self.other = other
        self.ends: set[str] = set()

    async def all(self, kind):
        return (await self.kube.list(kind)).items

    async def get(self, kind, name):
        return await self.kube.get(kind, name, None if not kind.namespaced else "default")

    async def add_nodes(self, *names):
        for name in names:
            body = node(name, labels={"fabric": "a"})
            status = body.pop("status")
            status["conditions"] = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
            await self.kube.create(NODES, body)
            await self.kube.patch(NODES, name, {"status": status}, subresource="status")

    async def add_pool(self, total, **device):
        await self.kube.create(DEVICE_CLASSES, device_class())
        await self.kube.create(RESOURCE_SLICES, memory_slice("pool", total, selector={"fabric": "a"}, **device))
        inner = {"metadata": {"name": "t", "namespace": "default"}, "spec": {"spec": claim_spec(GI)}}
        await self.kube.create(RESOURCE_CLAIM_TEMPLATES, inner)

    async def kubelet(self):
        while True:
            for found in await self.all(PODS):
                with contextlib.suppress(ApiError):
                    await self._run(found)
            await clock.sleep(0.02)

    async def _run(self, found):
        meta = found.metadata
        if not found.spec.get("nodeName"):
            return
        if meta.deletion_timestamp:
            await self.kube.delete(PODS, meta.name, meta.namespace, grace_period=0)
            return
        phase = "Succeeded" if meta.labels.get("job-name") else "Running"
        if found.status.get("phase") == phase:
            return
        now = clock.rfc3339(clock.now())
        ready = {"type": "Ready", "status": "True" if phase == "Running" else "False", "lastTransitionTime": now}
        status = {"phase": phase, "conditions": [ready]}
        await self.kube.patch(
            PODS, meta.name, {"status": status}, namespace=meta.namespace, subresource="status", style="strategic"
        )


@contextlib.asynccontextmanager
async def embedded(*, http=False):
    async with serve(Options(port=0)) as server, contextlib.AsyncExitStack() as stack:
        kube = LocalKube(server.api)
        used = kube
        if http:
            used = Client.from_environment(_kubeconfig(stack, server.url))
            stack.push_async_callback(used.close)
        scheduler, manager = Scheduler(used), ControllerManager(used, ControllersConfig(node_life=False))
        await stack.enter_async_context(running(scheduler.run()))
        await stack.enter_async_context(running(manager.run()))
        found = Cluster(kube, used)
        await stack.enter_async_context(running(found.kubelet()))
        await until(lambda: scheduler.synced and manager.synced)
        yield found


def _kubeconfig(stack, url):
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path = Path(folder) / "config"
    path.write_text(yaml.safe_dump(content))
    return str(path)


async def eventually(question, seconds=30.0):
    """Wait for a coroutine's answer to be true."""
    answer = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = await question()
                if answer:
                    return answer
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s; the last answer was {answer!r}") from None


def workload(kind, **spec):
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": LABELS}, "template": template(), **spec},
    }


async def test_every_workload_runs_on_the_embedded_api_server():
    async with embedded() as cluster:
        kube = cluster.kube
        await cluster.add_nodes("n1", "n2")
        await kube.create(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=3), namespace="default")
        await kube.create(STATEFUL_SETS, workload(STATEFUL_SETS, replicas=2, serviceName="web"), namespace="default")
        await kube.create(DAEMON_SETS, workload(DAEMON_SETS), namespace="default")
        job = workload(JOBS, completions=3, parallelism=2)
        del job["spec"]["selector"]
        job["spec"]["template"]["spec"]["restartPolicy"] = "Never"
        await kube.create(JOBS, job, namespace="default")

        async def all_there():
            deployment = await cluster.get(DEPLOYMENTS, "web")
            stateful = await cluster.get(STATEFUL_SETS, "web")
            daemons = await cluster.get(DAEMON_SETS, "web")
            done = await cluster.get(JOBS, "web")
            return (
                deployment.status.get("availableReplicas") == 3
                and stateful.status.get("readyReplicas") == 2
                and daemons.status.get("numberReady") == 2
                and condition(done, "Complete").get("status") == "True"
            )

        await eventually(all_there)
        await kube.patch(DEPLOYMENTS, "web", {"spec": {"template": template("v2")}}, namespace="default")

        async def rolled():
            found = await cluster.get(DEPLOYMENTS, "web")
            images = [
                item.spec["containers"][0]["image"]
                for item in await cluster.all(PODS)
                if item.metadata.owner_references[0].kind == "ReplicaSet"
            ]
            return images == ["v2"] * 3 and found.status.get("availableReplicas") == 3

        await eventually(rolled)
        assert len(await cluster.all(REPLICA_SETS)) == 2


@pytest.mark.parametrize("http", [False, True], ids=["in-process", "http"])
async def test_the_life_of_a_claim_on_the_embedded_api_server(http):
    async with embedded(http=http) as cluster:
        kube = cluster.kube
        await cluster.add_nodes("n1")
        await cluster.add_pool(2 * GI, **BINDING)
        for name in ("a", "b", "c"):
            body = pod(name, templates={"m": "t"})
            del body["status"]
            await kube.create(PODS, body, namespace="default")

        async def attach():
            for item in await cluster.all(CLAIMS):
                allocation = item.status.get("allocation")
                if allocation and not item.status.get("devices"):
                    devices = [
                        {
                            **{key: result[key] for key in ("driver", "pool", "device", "shareID")},
                            "conditions": [
                                {
                                    "type": ATTACHED,
                                    "status": "True",
                                    "reason": "Online",
                                    "message": "",
                                    "lastTransitionTime": clock.rfc3339(clock.now()),
                                }
                            ],
                        }
                        for result in allocation["devices"]["results"]
                    ]
                    await kube.patch(
                        CLAIMS,
                        item.metadata.name,
                        {"status": {"devices": devices}},
                        namespace="default",
                        subresource="status",
                    )
            return sorted(item.metadata.name for item in await cluster.all(PODS) if item.spec.get("nodeName"))

        async def two():
            return len(await attach()) == 2

        await eventually(two)
        first = await attach()
        left = ({"a", "b", "c"} - set(first)).pop()

        async def told():
            found = condition(await cluster.get(PODS, left), "PodScheduled")
            text = "0/1 nodes are available: 1 cannot allocate all claims. "
            text += "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            return found.get("status") == "False" and found.get("message") == text

        await eventually(told)
        await kube.delete(PODS, first[0], "default")

        async def let_in():
            return left in await attach()

        await eventually(let_in)
        for name in (first[1], left):
            await kube.delete(PODS, name, "default")

        async def nothing_left():
            return not await cluster.all(CLAIMS) and not await cluster.all(PODS)

        await eventually(nothing_left)

        async def events():
            listed = json.loads(await kube.get_raw("/api/v1/namespaces/default/events"))["items"]
            return {"Scheduled", "FailedScheduling", "BindingConditionsPending"} <= {item["reason"] for item in listed}

        await eventually(events)
