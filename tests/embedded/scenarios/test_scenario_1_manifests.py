# SPDX-License-Identifier: Apache-2.0
"""Scenario 1 on the embedded cluster: rights and policies of deploy/ as they are, every role inline, and the examples.

The steps are those of tests/cluster; what is asked of kubectl and of files of a real node there, is asked of the
simulated node here.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tests.cluster.support.processes import eventually
from tests.cluster.test_scenario_1_manifests import CLAIM_BYTES, EXAMPLES, POOL_BYTES, RESOURCE, Timeline
from tests.embedded.support.stage import EmbeddedCluster

from dynamic_memory.api import names
from dynamic_memory.embedded.cluster.marks import Marks
from dynamic_memory.embedded.cluster.trace import ARROWS, LogMarks, Trace
from dynamic_memory.fabric.client import Fabric, FabricClient
from dynamic_memory.quantity import parse_bytes

NODE = "one"
ROLES = {"service", "controller", f"driver-{NODE}", f"updater-{NODE}"}
CONFIG = f"""
port: 0
keep: false
rbac: true
roles: inline
nodes: [{{name: {NODE}, memory: [4Gi]}}]
fabric: [{{name: rack-a, size: 4Gi}}]
"""


@pytest.fixture(scope="module")
def trace() -> Iterator[Trace]:
    """The arrows of the sequence diagram; what the roles log is heard from their start on."""
    found = Trace(time.monotonic)
    logger, handler = logging.getLogger(), LogMarks(found)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def deployed(trace: Trace) -> Iterator[EmbeddedCluster]:
    """A cluster of its own, with all roles, ready."""
    found = EmbeddedCluster(CONFIG)
    found.start()
    found.call(found.cluster.wait_ready())
    yield found
    found.stop()


@pytest.fixture
def namespace(deployed: EmbeddedCluster) -> Iterator[str]:
    """A namespace for what people make."""
    deployed.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "people"}})
    eventually(lambda: deployed.api.find("ServiceAccount", "default", "people"), 30, "its service account")
    yield "people"
    deployed.api.delete("Namespace", "people")
    eventually(lambda: deployed.api.find("Namespace", "people") is None, 30, "the namespace is gone")


def ask(deployed: EmbeddedCluster, what: str) -> Any:
    """Ask the service, as an operator."""

    async def run() -> Any:
        address = f"unix:{deployed.cluster.folder.service_socket}"
        client: Fabric = FabricClient.connect(address, None, identity="dynamic-memory://cluster/role/operator")
        try:
            return await getattr(client, what)()
        finally:
            await client.close()

    return deployed.call(run())


def pools(deployed: EmbeddedCluster) -> list[tuple[int, int]]:
    return [(item.total, item.free) for item in ask(deployed, "get_capacity").pools]


def shown(deployed: EmbeddedCluster) -> int:
    return parse_bytes(deployed.api.get("Node", NODE)["status"]["capacity"].get(RESOURCE, 0))


def ceiling(deployed: EmbeddedCluster) -> int:
    """Return the limit over all pods of the node, from its cgroup."""
    (path,) = (deployed.cluster.folder.node(NODE) / "cgroup").glob("**/kubepods*/memory.max")
    return int(path.read_text())


def environment(deployed: EmbeddedCluster, uid: str) -> dict[str, str]:
    """Return the environment of the only container of a pod."""
    (container,) = deployed.cluster.nodes[NODE].runtime.of(uid).values()
    return dict(container.spec.env)


def test_scenario_1_all_roles_run_with_the_rights_of_the_manifests(deployed: EmbeddedCluster):
    roles = deployed.cluster.roles
    assert set(roles) == ROLES
    assert {name: role.starts for name, role in roles.items()} == dict.fromkeys(ROLES, 1)
    capacity = ask(deployed, "get_capacity")
    assert capacity.simulated is True
    assert pools(deployed) == [(POOL_BYTES, POOL_BYTES)]
    assert any(host.node == NODE and host.session for host in capacity.hosts)
    published = {item["spec"]["pool"]["name"] for item in deployed.api.list("ResourceSlice")}
    assert {"fabric/rack-a", names.windows_pool(NODE)} <= published


@contextlib.contextmanager
def watched(deployed: EmbeddedCluster, marks: Marks) -> Iterator[None]:
    """Watch in the cluster's own loop: there nothing comes between what happens and its mark."""
    watching = marks.watching()
    deployed.call(watching.__aenter__())
    try:
        yield
    finally:
        deployed.call(watching.__aexit__(None, None, None))


def test_scenario_1_memory_comes_with_a_pod_and_goes_back_with_it(
    deployed: EmbeddedCluster, trace: Trace, namespace: str
):
    """All 21 arrows of the sequence diagram, each after those that it follows, and I4 by the fabric's own file."""
    api = deployed.api
    before, limit = api.get("Node", NODE), ceiling(deployed)
    api.create(yaml.safe_load((EXAMPLES / "resource-claims" / "fabric-512mi.yaml").read_text()), namespace)
    pod = yaml.safe_load((EXAMPLES / "pods" / "with-fabric-memory.yaml").read_text())
    name = pod["metadata"]["name"]
    seen = SimpleNamespace(api=api, node=SimpleNamespace(name=NODE))
    timeline = Timeline(seen, namespace, name, Path(deployed.cluster.folder.fabric) / "fabric.json")
    marks = Marks(deployed.cluster.kube, trace, pod=name, claim=f"{name}-", size="512Mi")
    timeline.start()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: print(f"\n{timeline.table()}"))
        stack.callback(timeline.stop)
        stack.enter_context(watched(deployed, marks))
        trace.mark("submitted")
        uid = api.create(pod, namespace)["metadata"]["uid"]
        eventually(lambda: api.get("Pod", name, namespace)["status"]["phase"] == "Running", 30, "the pod runs")
        (claim,) = api.list("ResourceClaim", namespace)
        results = claim["status"]["allocation"]["devices"]["results"]
        share = next(result["shareID"] for result in results if result["pool"] == "fabric/rack-a")
        (conditions,) = [device["conditions"] for device in claim["status"]["devices"]]
        assert {c["type"]: c["status"] for c in conditions} == {names.ATTACHED: "True", names.ATTACH_FAILED: "False"}
        (extent,) = ask(deployed, "list_extents").shares
        assert (extent.tag, extent.size, extent.node) == (share, CLAIM_BYTES, NODE)
        told = {key: value for key, value in environment(deployed, uid).items() if key.startswith("DYNAMIC_MEMORY")}
        assert str(CLAIM_BYTES) in told.values(), told
        eventually(lambda: shown(deployed) == CLAIM_BYTES, 30, "the capacity view grew")
        assert api.get("Node", NODE)["status"]["capacity"]["memory"] == before["status"]["capacity"]["memory"]
        eventually(lambda: ceiling(deployed) == limit + CLAIM_BYTES, 30, "the limit over pods is lifted")

        def told() -> list[dict[str, Any]]:
            return [event for event in api.list("Event", namespace) if event["reason"].startswith("Memory")]

        eventually(lambda: "MemoryAttached" in {event["reason"] for event in told()}, 30, "people are told")
        events = told()
        assert all("simulated" in event["message"] for event in events)
        eventually(lambda: "kubelet: pod runs" in timeline.seen, 30, "the timeline has seen that it runs")
        trace.mark("deleted")
        api.delete("Pod", name, namespace)
        eventually(lambda: api.find("Pod", name, namespace) is None, 30, "the pod is gone")
        eventually(lambda: not api.list("ResourceClaim", namespace), 30, "the claim is gone")
        eventually(lambda: shown(deployed) == 0, 30, "the capacity view shrank")
        eventually(lambda: ceiling(deployed) == limit, 30, "and so did the limit over pods")
        assert ask(deployed, "list_extents").shares == ()
        assert pools(deployed) == [(POOL_BYTES, POOL_BYTES)]
        eventually(lambda: len(timeline.seen) == 12, 30, "the timeline has seen the end")
        eventually(lambda: not trace.faults(), 30, "every arrow, in order")
    back = timeline.seen["driver -> service: RemoveMemory, bytes are back"]
    assert back <= timeline.seen["kubelet -> API server: pod is gone"], "I4: the pod went before its memory was back"
    assert trace.faults() == []
    for arrow in ARROWS:
        print(f"{arrow.number:>2} {arrow.source} -> {arrow.target}: {arrow.text}: {trace.at(arrow.mark):.3f} s")


def test_scenario_1_examples_and_manifests_name_nothing_else(deployed: EmbeddedCluster, namespace: str):
    """What people copy is accepted as it is."""
    for path in sorted(EXAMPLES.glob("*/*.yaml")):
        if path.parent.name in {"resource-claims", "pods"}:
            for body in yaml.safe_load_all(path.read_text()):
                deployed.api.create(body, namespace, dryRun="All")
