# SPDX-License-Identifier: Apache-2.0
"""A whole embedded cluster: the main job, stopping and resuming, nodes that go."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path

import aiohttp
import pytest
import yaml
from tests.embedded.support.clusters import claim_pod, cluster, eventually, found, phase

from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.cluster.cluster import Cluster
from dynamic_memory.embedded.cluster.config import ClusterConfig, node_names
from dynamic_memory.embedded.cluster.folder import FolderInUse
from dynamic_memory.embedded.cluster.roles import NODE_EXTRA, role_user
from dynamic_memory.embedded.cluster.settings import NAMESPACE
from dynamic_memory.embedded.kubelet.objects import CLAIMS, NODES, PODS, SLICES
from dynamic_memory.errors import InvalidInput
from dynamic_memory.kube.client import Client
from dynamic_memory.kube.errors import Forbidden, Invalid
from dynamic_memory.process import config

GI = 1 << 30


def held(folder) -> int:
    """Bytes of the fabric that somebody holds, from its own file."""
    state = json.loads((folder / "fabric" / "fabric.json").read_bytes())
    return sum(part["size"] for entry in state["allocations"] for part in entry["ranges"])


async def attached(running, name):
    claim = await found(running, CLAIMS, name)
    conditions = {
        each["type"]: each["status"]
        for device in claim.status.get("devices", ())
        for each in device.get("conditions", ())
    }
    return conditions.get("dynamicmemory.dev/Attached") == "True"


async def extended(running, node):
    return (await found(running, NODES, node, None)).status["capacity"].get("dynamicmemory.dev/memory")


async def test_a_claim_gets_memory_and_gives_it_back(folder):
    async with cluster(folder) as running:
        await claim_pod(running, "a")
        await eventually(lambda: attached(running, "a"), "memory is attached")
        assert held(folder) == GI
        await eventually(lambda: _running(running, "a"), "it runs")
        pod = await found(running, PODS, "a")
        node = running.nodes[pod.spec["nodeName"]]
        container = node.runtime.get(pod.metadata.uid, "main")
        assert container.spec.env["DYNAMIC_MEMORY_BYTES"] == str(GI)
        await eventually(lambda: _extended(running, node.name, "1Gi"), "the node shows it")
        assert (folder / "nodes" / node.name / "cgroup/kubepods/memory.max").read_text() == f"{2 * GI}\n"
        await running.kube.delete(PODS, "a", "default")
        await eventually(lambda: _gone(running, "a"), "it is gone")
        assert held(folder) == 0
        await eventually(lambda: _extended(running, node.name, "0"), "the node shows that too")


async def _running(running, name):
    return await phase(running, name) == "Running"


async def _gone(running, name):
    return await found(running, PODS, name) is None


async def _extended(running, node, value):
    return await extended(running, node) == value


async def test_a_cluster_goes_on_where_it_was_stopped(folder):
    async with cluster(folder) as running:
        await claim_pod(running, "a", container={"command": ["sleep", "3600"]})
        await eventually(lambda: _running(running, "a"), "it runs")
        before = await found(running, PODS, "a")
    assert held(folder) == GI
    async with cluster(folder) as running:
        after = await found(running, PODS, "a")
        assert after.metadata.uid == before.metadata.uid
        assert after.status["containerStatuses"] == before.status["containerStatuses"]
        await claim_pod(running, "b")
        await eventually(lambda: _running(running, "b"), "it works")
        assert (await found(running, PODS, "a")).status["containerStatuses"] == before.status["containerStatuses"]
        for name in ("a", "b"):
            await running.kube.delete(PODS, name, "default")
        await eventually(lambda: _gone(running, "a"), "the old one ends")
        await eventually(lambda: _gone(running, "b"), "and the new one")
        assert held(folder) == 0


async def test_everything_is_in_the_folder_and_its_sockets_go(folder):
    async with cluster(folder) as running:
        assert running.server.url in (folder / "kubeconfig").read_text()
        assert (folder / "service.sock").is_socket()
        assert config.load(folder / "cluster.yaml", ClusterConfig) == running.config
        with pytest.raises(FolderInUse):
            async with cluster(folder):
                pass
    assert not [path for path in folder.rglob("*") if path.is_socket()]


async def test_with_rbac_roles_have_the_rights_of_the_manifests_and_strangers_none(folder):
    async with cluster(folder, rbac=True) as running:
        await claim_pod(running, "a")
        await eventually(lambda: _running(running, "a"), "roles and kubelets may do what they have to")
        content = yaml.safe_load((folder / "kubeconfig").read_text())
        token = content["users"][0]["user"]["token"]
        where = content["clusters"][0]["cluster"]
        assert where["server"].startswith("https://"), "kubectl sends tokens over TLS alone"
        trusted = ssl.create_default_context(cadata=base64.b64decode(where["certificate-authority-data"]).decode())

        async def nodes(**headers):
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.get(f"{where['server']}/api/v1/nodes", ssl=trusted) as answer,
            ):
                return answer.status

        assert await nodes(Authorization=f"Bearer {token}") == 200
        assert await nodes() == 403
        driver = LocalKube(running.api, role_user("driver", "node-1"))
        with pytest.raises(Forbidden):
            await driver.delete(PODS, "a", "default")
        await running.kube.delete(PODS, "a", "default")
        await eventually(lambda: _gone(running, "a"), "it is gone")


async def test_a_role_that_ends_is_started_again(folder):
    async with cluster(folder) as running:
        for role in ("driver-node-1", "driver-node-2"):
            await running.roles[role].stop()
            running.roles[role].start()
        await claim_pod(running, "a")
        await eventually(lambda: _running(running, "a"), "a new driver serves it")


async def test_a_node_whose_kubelet_is_off_is_given_up_and_comes_back(folder):
    async with cluster(
        folder, "\n", nodes=config.loads(b"nodes: [{count: 1, memory: [1Gi]}]", ClusterConfig).nodes
    ) as running:
        node = running.nodes["node-1"]
        await node.stop_kubelet()
        assert not node.on
        await running.kube.delete(NODES, "node-1")
        assert await found(running, NODES, "node-1", None) is None
        node.start()
        await eventually(lambda: found(running, NODES, "node-1", None), "it registers")


async def test_slices_are_published_again_after_a_kubelet_deleted_them(folder):
    async with cluster(folder) as running:
        await running.nodes["node-1"].restart_kubelet()

        async def published():
            slices = await running.kube.list(SLICES, fields="spec.nodeName=node-1")
            return len(slices.items) == 2

        await eventually(published, "the driver publishes again")


def read_audit(folder):
    return [json.loads(line) for line in (folder / "logs" / "audit.log").read_text().splitlines()]


async def test_roles_as_processes_have_identities_of_their_own_and_no_more_rights(folder):
    folder.joinpath("roles").mkdir(parents=True)
    (folder / "roles" / "controller.kubeconfig").write_text("of an earlier version")
    (folder / "roles" / "controller.kubeconfig").chmod(0o644)
    async with cluster(folder, roles="process", rbac=True, audit=True) as running:
        await claim_pod(running, "a")
        await eventually(lambda: _running(running, "a"), "roles may do what they have to")
        files = {path.stem: path for path in (folder / "roles").glob("*.kubeconfig")}
        assert files.keys() == running.roles.keys() - {"service"}
        assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
        assert not [name for name, path in files.items() if running.token in path.read_text()]
        driver = Client.from_environment(str(files["driver-node-1"]))
        try:
            with pytest.raises(Forbidden, match="system:serviceaccount:dynamic-memory:driver"):
                await driver.delete(PODS, "a", "default")
            other = (await running.kube.list(SLICES, fields="spec.nodeName=node-2")).items[0]
            with pytest.raises((Forbidden, Invalid), match="node"):
                await driver.delete(SLICES, other.metadata.name)
        finally:
            await driver.close()
        await running.kube.delete(PODS, "a", "default")
        await eventually(lambda: _gone(running, "a"), "it is gone")
    users = {}
    for line in read_audit(folder):
        if line.get("userAgent", "").startswith("python-"):  # came over HTTP
            users.setdefault(line["user"], set()).update(line.get("extra", {}).get(NODE_EXTRA, ()))
    prefix = "system:serviceaccount:dynamic-memory"
    nodes = {"node-1", "node-2"}
    assert users == {f"{prefix}:controller": set(), f"{prefix}:driver": nodes, f"{prefix}:updater": nodes}


async def test_a_role_whose_pod_is_deleted_gets_a_new_one_with_a_new_token(folder):
    async with cluster(folder, roles="process", rbac=True) as running:
        path = folder / "roles" / "driver-node-1.kubeconfig"
        before, role = path.read_text(), running.roles["driver-node-1"]
        assert (await found(running, PODS, "driver-node-1", NAMESPACE)).spec["nodeName"] == "node-1"
        await running.kube.delete(PODS, "driver-node-1", NAMESPACE)
        await eventually(lambda: role.starts == 2 and role.pid, "it is started again")
        assert path.read_text() != before
        assert (await found(running, PODS, "driver-node-1", NAMESPACE)).metadata.deletion_timestamp is None
    async with cluster(folder, roles="none") as running:

        async def forgotten():
            return not (await running.kube.list(PODS, namespace=NAMESPACE)).items

        await eventually(forgotten, "pods without roles go")


async def test_pods_of_roles_that_a_node_has_no_more_go(folder):
    async with cluster(folder, roles="process", rbac=True) as running:
        names = {pod.metadata.name for pod in (await running.kube.list(PODS, namespace=NAMESPACE)).items}
        assert names == {f"{role}-{node}" for role in ("driver", "updater") for node in ("node-1", "node-2")}
    async with cluster(folder, roles="process", rbac=True, fabric=()) as running:

        async def of_drivers():
            pods = (await running.kube.list(PODS, namespace=NAMESPACE)).items
            return {pod.metadata.name for pod in pods} == {"driver-node-1", "driver-node-2"}

        await eventually(of_drivers, "pods of updaters go")


async def test_roles_as_processes_survive_a_kill(folder):
    async with cluster(folder, roles="process") as running:
        await claim_pod(running, "a")
        await eventually(lambda: _running(running, "a"), "it runs")
        for name in ("driver-node-1", "driver-node-2"):
            running.roles[name].kill()
        await running.kube.delete(PODS, "a", "default")
        await eventually(lambda: _gone(running, "a"), "new drivers give it back")
        assert held(folder) == 0
        await eventually(lambda: running.roles["driver-node-1"].starts == 2, "it is started again, with the pod or not")


def test_a_file_that_cannot_be_is_refused_where_it_is_wrong():
    for text, where in (
        ("nodes: [{count: -1}]", r"nodes\[0\].count"),
        ("nodes: [{fabric: nowhere}]", r"nodes\[0\].fabric"),
        ("nodes: [{name: a}, {name: a}]", "nodes"),
        ("fabric: [{name: a}, {name: a}]", "fabric"),
        ("faults: {hosts: {nobody: {}}}", "faults.hosts.nobody"),
        ("nods: []", "nods"),
        ("rbac: true\nnodes: [{labels: {node-role.kubernetes.io/far: ''}}]", r"nodes\[0\].labels"),
    ):
        with pytest.raises(InvalidInput, match=where):
            config.loads(text.encode(), ClusterConfig)


async def test_a_folder_that_sockets_do_not_fit_into_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="--folder"):
        async with Cluster(tmp_path / ("x" * 60)).running():
            pass
    assert not list(tmp_path.iterdir())


def test_the_example_of_the_documentation_is_what_it_says():
    text = (Path(__file__).parents[3] / "docs" / "embedded.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    found = config.loads(example.encode(), ClusterConfig)
    assert [name for group in found.nodes for name in node_names(group)] == ["big-1", "big-2"]
    assert found.domain_of(found.nodes[0]) == found.fabric[0]
    assert found.driver == {"timing": {"hold": "3s"}}
