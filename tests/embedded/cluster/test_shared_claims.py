# SPDX-License-Identifier: Apache-2.0
"""One claim of fabric memory, several containers of its pod: whoever names it has it, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from tests.embedded.support.clusters import cluster, eventually, found, phase

from dynamic_memory.embedded.cluster.cluster import Cluster
from dynamic_memory.embedded.kubelet.objects import CLAIMS, PODS

GI = 1 << 30


async def start(running: Cluster, containers: dict[str, Any], **spec: Any) -> None:
    exactly = {"deviceClassName": "dra.fabric-memory", "capacity": {"requests": {"size": "1Gi"}}}
    claim = {"metadata": {"name": "far"}, "spec": {"devices": {"requests": [{"name": "mem", "exactly": exactly}]}}}
    await running.kube.create(CLAIMS, claim, namespace="default")
    body = {
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {"name": name, "image": "busybox", "resources": {"claims": claims} if claims else {}}
            for name, claims in containers.items()
        ],
        "resourceClaims": [{"name": "a", "resourceClaimName": "far"}],
        **spec,
    }
    await running.kube.create(PODS, {"metadata": {"name": "p"}, "spec": body}, namespace="default")
    await eventually(lambda: runs(running), "it runs")


async def runs(running: Cluster) -> bool:
    return await phase(running, "p") == "Running"


async def gone(running: Cluster) -> bool:
    return await found(running, PODS, "p") is None


async def environments(running: Cluster) -> dict[str, dict[str, str]]:
    """What each container of the pod was told of memory."""
    pod = await found(running, PODS, "p")
    runtime = running.nodes[pod.spec["nodeName"]].runtime
    return {
        name: {key: value for key, value in each.spec.env.items() if key.startswith("DYNAMIC_MEMORY")}
        for name, each in runtime.of(pod.metadata.uid).items()
    }


@pytest.mark.parametrize("own_memory", [True, False], ids=["nri", "cdi alone"])
async def test_containers_that_name_the_claim_of_their_pod_share_it_and_the_others_have_nothing(folder, own_memory):
    wishes = {} if own_memory else {"driver": {"local": None, "nri": None}}
    async with cluster(folder, rbac=True, **wishes) as running:
        whole, part, window = (
            [{"name": "a"}],
            [{"name": "a", "request": "mem"}],
            [{"name": "a", "request": "mem-window"}],
        )
        await start(running, {"one": whole, "two": whole, "part": part, "window": window, "none": None})
        told = await environments(running)
        assert told["one"] == told["two"] == told["part"] != {}
        assert told["one"]["DYNAMIC_MEMORY_BYTES"] == str(GI)
        assert told["window"] == told["none"] == {}
        pod = await found(running, PODS, "p")
        node = running.nodes[pod.spec["nodeName"]]
        bound = {name for name, each in node.runtime.of(pod.metadata.uid).items() if each.spec.mems}
        assert bound == ({"one", "two", "part"} if own_memory else set())
        calls = node.kubelet.claims.calls
        assert [(verb, error) for verb, _, error in calls] == [("prepare", "")]
        # one that is started again has it again, from the same Prepare
        node.runtime.get(pod.metadata.uid, "two").kill()

        async def again():
            statuses = (await found(running, PODS, "p")).status["containerStatuses"]
            return {each["name"]: each["restartCount"] for each in statuses}["two"] == 1 and await runs(running)

        await eventually(again, "it is started again")
        assert await environments(running) == told
        await running.kube.delete(PODS, "p", "default")
        await eventually(lambda: gone(running), "it is gone")
        assert [(verb, error) for verb, _, error in calls] == [("prepare", ""), ("unprepare", "")]


async def test_a_pod_may_name_its_claim_twice(folder):
    async with cluster(folder, rbac=True) as running:
        entries = [{"name": "a", "resourceClaimName": "far"}, {"name": "b", "resourceClaimName": "far"}]
        await start(running, {"one": [{"name": "a"}], "two": [{"name": "b"}]}, resourceClaims=entries)
        told = await environments(running)
        assert told["one"] == told["two"] != {}
        node = running.nodes[(await found(running, PODS, "p")).spec["nodeName"]]
        await node.restart_kubelet()
        await eventually(lambda: node.kubelet.workers, "the kubelet finds it again")
        await running.kube.delete(PODS, "p", "default")
        await eventually(lambda: gone(running), "it is gone")
        assert [verb for verb, _, _ in node.kubelet.claims.calls].count("prepare") <= 1
