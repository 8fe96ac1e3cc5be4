# SPDX-License-Identifier: Apache-2.0
"""The nodes' own memory on an embedded cluster: claims of it are enforced by the driver's plugin, over a socket."""

from __future__ import annotations

from tests.embedded.support.clusters import cluster, eventually, found, phase

from dynamic_memory.embedded.cluster.config import ClusterConfig
from dynamic_memory.embedded.kubelet.objects import CLAIMS, PODS, SLICES
from dynamic_memory.process import config

MI = 1 << 20
NO_FABRIC = b"""
nodes:
- {name: one, memory: [1Gi]}
- {name: two, memory: [1Gi, 1Gi], hugepages: {hugepages-2Mi: 256Mi}}
"""


def own_memory(folder):
    """A cluster of one node with two NUMA nodes and huge pages, and no fabric in use."""
    text = b"nodes: [{name: big, memory: [1Gi, 1Gi], hugepages: {hugepages-2Mi: 256Mi}}]"
    return cluster(folder, nodes=config.loads(text, ClusterConfig).nodes)


async def claim(running, name, cls, size):
    exactly = {"deviceClassName": cls, "capacity": {"requests": {"size": size}}}
    body = {"metadata": {"name": name}, "spec": {"devices": {"requests": [{"name": "mem", "exactly": exactly}]}}}
    await running.kube.create(CLAIMS, body, namespace="default")


async def pod(running, name, claims=(), *, env=(), limits=None, node=None):
    container = {
        "name": "main",
        "image": "busybox",
        "env": [{"name": key, "value": value} for key, value in env],
        "resources": {"claims": [{"name": each} for each in claims], **({"limits": limits} if limits else {})},
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "resourceClaims": [{"name": each, "resourceClaimName": each} for each in claims],
        **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
    }
    await running.kube.create(PODS, {"metadata": {"name": name}, "spec": spec}, namespace="default")


async def runs(running, name):
    return await phase(running, name) == "Running"


async def gone(running, name):
    return await found(running, PODS, name) is None


async def cgroups(running, name):
    """Files of the pod's cgroup, and of its container's; and the container."""
    body = await found(running, PODS, name)
    runtime = running.nodes[body.spec["nodeName"]].runtime
    container = runtime.get(body.metadata.uid, "main")
    folder = next(runtime.cgroups.pods.glob(f"**/pod{body.metadata.uid}"))
    return read(folder), read(folder / container.id), container


def read(folder):
    return {path.name: path.read_text().strip() for path in folder.iterdir() if path.is_file()}


async def waiting(running, name):
    body = await found(running, PODS, name)
    statuses = (body.status.get("containerStatuses") or [{}])[0]
    return statuses.get("state", {}).get("waiting", {})


async def test_a_node_publishes_its_own_memory_by_numa_node_and_page(folder):
    async with own_memory(folder) as running:
        slices = await running.kube.list(SLICES, fields="spec.nodeName=big")
        devices = {
            device["name"]: device["capacity"]["size"]["value"]
            for each in slices.items
            if each.spec["pool"]["name"] == "big/mem"
            for device in each.spec["devices"]
        }
        assert devices == {"numa0-4ki": "896Mi", "numa0-2mi": "128Mi", "numa1-4ki": "896Mi", "numa1-2mi": "128Mi"}


async def test_a_container_is_held_to_its_claim_and_its_pod_leaves_nothing(folder):
    async with own_memory(folder) as running:
        await claim(running, "near", "dra.memory", "256Mi")
        await pod(running, "a", ["near"], limits={"memory": "512Mi"})
        await eventually(lambda: runs(running, "a"), "it runs")
        _, own, container = await cgroups(running, "a")
        node = (await found(running, CLAIMS, "near")).status["allocation"]["devices"]["results"][0]["device"][4]
        assert own["cpuset.mems"] == node
        assert own["memory.max"] == str(256 * MI)
        assert (own["hugetlb.2MB.max"], own["hugetlb.2MB.rsvd.max"], own["hugetlb.1GB.max"]) == ("0", "0", "0")
        assert container.spec.env["DYNAMIC_MEMORY_BYTES"] == str(256 * MI)
        runtime, uid = running.nodes["big"].runtime, (await found(running, PODS, "a")).metadata.uid
        await running.kube.delete(PODS, "a", "default")
        await eventually(lambda: gone(running, "a"), "it is gone")
        assert not list(runtime.cgroups.pods.glob(f"**/pod{uid}"))
        assert not list((folder / "nodes/big/cdi").iterdir())
        assert not list((folder / "nodes/big/driver/claims").glob("*.json"))


async def test_huge_pages_of_a_claim_are_allowed_to_the_container_and_its_pod_and_to_no_other(folder):
    async with own_memory(folder) as running:
        await claim(running, "huge", "dra.hugepages-2m", "64Mi")
        await pod(running, "a", ["huge"])
        await pod(running, "b")
        for name in ("a", "b"):
            await eventually(lambda name=name: runs(running, name), f"{name} runs")
        whole, own, _ = await cgroups(running, "a")
        for files in (whole, own):
            assert (files["hugetlb.2MB.max"], files["hugetlb.2MB.rsvd.max"]) == (str(64 * MI), str(64 * MI))
            assert files["hugetlb.1GB.max"] == "0"
        assert own["cpuset.mems"] in {"0", "1"}
        assert own["memory.max"] == "max"
        _, other, _ = await cgroups(running, "b")
        assert (other["hugetlb.2MB.max"], other["cpuset.mems"]) == ("0", "")


async def test_a_resized_pod_keeps_its_huge_pages(folder):
    """The kubelet limits them to 0 when it writes the pod's cgroup, after all plugins were told."""
    async with own_memory(folder) as running:
        await claim(running, "huge", "dra.hugepages-2m", "64Mi")
        await pod(running, "a", ["huge"], limits={"memory": "128Mi"})
        await eventually(lambda: runs(running, "a"), "it runs")
        for limit in (256, 128):
            spec = {"containers": [{"name": "main", "resources": {"limits": {"memory": f"{limit}Mi"}}}]}
            await running.kube.patch(
                PODS, "a", {"spec": spec}, namespace="default", subresource="resize", style="strategic"
            )

            async def settled(limit=limit):
                whole, own, _ = await cgroups(running, "a")
                pages = {each["hugetlb.2MB.max"] for each in (whole, own)}
                return whole["memory.max"] == str(limit * MI) and pages == {str(64 * MI)}

            await eventually(settled, f"{limit}Mi, and the claim's huge pages")


async def test_a_forged_environment_is_refused_and_says_so(folder):
    async with own_memory(folder) as running:
        await claim(running, "huge", "dra.hugepages-2m", "64Mi")
        await pod(running, "a", ["huge"])
        await eventually(lambda: runs(running, "a"), "the owner runs")
        uid = (await found(running, CLAIMS, "huge")).metadata.uid
        await pod(running, "thief", env=[(f"DRAMEMORY_{uid}_hugepages_2Mi", "numanode:0,size:64Mi")])
        told = await eventually(lambda: waiting(running, "thief"), "it waits")
        told = await eventually(lambda: _error(running, "thief"), "it is refused")
        assert "NRI plugin 10-dra.memory refused" in told["message"]
        assert "container main may not use claim default/huge: pod a owns it" in told["message"]
        assert running.nodes["big"].runtime.get((await found(running, PODS, "thief")).metadata.uid, "main") is None
        await running.kube.delete(PODS, "thief", "default")
        await eventually(lambda: gone(running, "thief"), "it goes all the same")
        assert await runs(running, "a")


async def _error(running, name):
    told = await waiting(running, name)
    return told if told.get("reason") == "CreateContainerError" else None


async def test_a_driver_that_is_back_mends_what_differs(folder):
    async with own_memory(folder) as running:
        await claim(running, "near", "dra.memory", "256Mi")
        await pod(running, "a", ["near"])
        await eventually(lambda: runs(running, "a"), "it runs")
        plugins = running.nodes["big"].runtime.plugins
        assert plugins.names == ["10-dra.memory"]
        await running.roles["driver-big"].stop()
        await eventually(lambda: not plugins.names, "the runtime notices")
        uid = (await found(running, PODS, "a")).metadata.uid
        await running.nodes["big"].runtime.resize(uid, "main", 900 * MI)
        assert (await cgroups(running, "a"))[1]["memory.max"] == str(900 * MI)
        running.roles["driver-big"].start()

        async def mended():
            return (await cgroups(running, "a"))[1]["memory.max"] == str(256 * MI)

        await eventually(mended, "the limit is that of the claim again")


async def test_a_cluster_that_goes_on_holds_its_containers_to_their_claims(folder):
    async with own_memory(folder) as running:
        await claim(running, "huge", "dra.hugepages-2m", "64Mi")
        await pod(running, "a", ["huge"])
        await eventually(lambda: runs(running, "a"), "it runs")
    async with own_memory(folder) as running:

        async def held():
            if not await runs(running, "a"):
                return False
            whole, own, _ = await cgroups(running, "a")
            return whole["hugetlb.2MB.max"] == own["hugetlb.2MB.max"] == str(64 * MI)

        await eventually(held, "found again and limited")


async def test_without_any_fabric_every_node_has_a_driver_that_holds_pods_to_their_claims(folder):
    async with cluster(
        folder,
        nodes=config.loads(NO_FABRIC, ClusterConfig).nodes,
        fabric=(),
        rbac=True,
    ) as running:
        assert {name for name in running.roles if name.startswith("driver-")} == {"driver-one", "driver-two"}
        await claim(running, "near", "dra.memory", "256Mi")
        await claim(running, "huge", "dra.hugepages-2m", "64Mi")
        await pod(running, "a", ["near"], node="one")
        await pod(running, "b", ["huge"], node="two")
        for name in ("a", "b"):
            await eventually(lambda name=name: runs(running, name), f"{name} runs")
        _, near, container = await cgroups(running, "a")
        assert (near["memory.max"], near["cpuset.mems"]) == (str(256 * MI), "0")
        assert (near["hugetlb.2MB.max"], container.spec.env["DYNAMIC_MEMORY_BYTES"]) == ("0", str(256 * MI))
        whole, huge, _ = await cgroups(running, "b")
        assert whole["hugetlb.2MB.max"] == huge["hugetlb.2MB.max"] == str(64 * MI)
        for name in ("a", "b"):
            await running.kube.delete(PODS, name, "default")
            await eventually(lambda name=name: gone(running, name), f"{name} is gone")
        assert not list(folder.glob("nodes/*/driver/claims/*.json"))


async def test_nodes_beside_a_fabric_that_they_do_not_reach_have_drivers_for_their_own_memory(folder):
    text = b"nodes: [{name: far, memory: [1Gi]}, {name: near, memory: [1Gi], fabric: ''}]"
    async with cluster(folder, nodes=config.loads(text, ClusterConfig).nodes) as running:
        assert {"driver-far", "driver-near", "updater-far"} == running.roles.keys() - {"service", "controller"}
        slices = await running.kube.list(SLICES, fields="spec.nodeName=near")
        assert {each.spec["pool"]["name"] for each in slices.items} == {"near/mem"}
        await claim(running, "c", "dra.memory", "128Mi")
        await pod(running, "a", ["c"], node="near")
        await eventually(lambda: runs(running, "a"), "it runs")
        assert (await cgroups(running, "a"))[1]["memory.max"] == str(128 * MI)


async def test_drivers_that_are_told_to_leave_own_memory_alone_do_not_run_where_there_is_no_fabric(folder):
    text = b"nodes: [{name: one, memory: [1Gi]}]"
    nodes = config.loads(text, ClusterConfig).nodes
    async with cluster(folder, nodes=nodes, fabric=(), driver={"local": None, "nri": None}) as running:
        assert running.roles.keys() == {"service", "controller"}
