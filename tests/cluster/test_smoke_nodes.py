# SPDX-License-Identifier: Apache-2.0
"""A node without containers does for DRA drivers what a real kubelet does: the same tests are run on both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.fake_node import FakeNode
from tests.cluster.support.images import BUSYBOX
from tests.cluster.support.node import RealNode
from tests.cluster.support.processes import eventually
from tests.cluster.support.stand_in import StandIn

DRIVER = "stand-in.example"
DEVICE_CLASS = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "DeviceClass",
    "metadata": {"name": DRIVER},
    "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]},
}


@pytest.fixture(params=["real", "fake"])
def node(request: pytest.FixtureRequest, cluster: Cluster) -> RealNode | FakeNode:
    return request.getfixturevalue(f"{request.param}_node")


@pytest.fixture
def driver(cluster: Cluster, node: RealNode | FakeNode) -> Iterator[StandIn]:
    """A driver of the node, registered, with one device that many claims may have."""
    driver = StandIn(DRIVER, node.kubelet_root)
    eventually(lambda: driver.status is not None and driver.status.plugin_registered, 10, "registration")
    device_class = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": DRIVER}}
    cluster.api.apply(
        {**device_class, "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]}}
    )
    spec = {
        "driver": DRIVER,
        "nodeName": node.name,
        "pool": {"name": node.name, "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "one", "allowMultipleAllocations": True}],
    }
    meta = {"name": f"stand-in-{node.name}"}
    cluster.api.create({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": meta, "spec": spec})
    yield driver
    driver.stop()
    for path in (node.kubelet_root / "plugins_registry").glob(f"{DRIVER}*"):
        path.unlink()
    cluster.api.delete("ResourceSlice", meta["name"], missing_ok=True)


def _create(cluster: Cluster, node: RealNode | FakeNode, namespace: str, name: str) -> str:
    """Create a claim and a pod of one name on the node; return the claim's UID."""
    request = {"name": "one", "exactly": {"deviceClassName": DRIVER}}
    claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}}
    uid: str = cluster.api.create({**claim, "spec": {"devices": {"requests": [request]}}}, namespace)["metadata"]["uid"]
    container = {
        "name": "main",
        "image": BUSYBOX,
        "command": ["sleep", "1000"],
        "resources": {"claims": [{"name": "one"}]},
    }
    spec = {
        "nodeSelector": {"kubernetes.io/hostname": node.name},
        "terminationGracePeriodSeconds": 1,
        "resourceClaims": [{"name": "one", "resourceClaimName": name}],
        "containers": [container],
    }
    cluster.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}, namespace)
    return uid


def _running(cluster: Cluster, namespace: str, name: str) -> bool:
    return bool(cluster.api.get("Pod", name, namespace)["status"]["phase"] == "Running")


def _allocated(cluster: Cluster, namespace: str, name: str) -> bool:
    return "allocation" in cluster.api.get("ResourceClaim", name, namespace).get("status", {})


def test_a_claim_is_prepared_before_the_pod_runs_and_unprepared_before_it_goes(
    cluster: Cluster, node: RealNode | FakeNode, driver: StandIn, namespace: str
):
    _create(cluster, node, namespace, "a")
    eventually(lambda: _running(cluster, namespace, "a"), 30, "the pod runs")
    assert driver.calls == [("Prepare", "a")]
    cluster.api.delete("Pod", "a", namespace)
    eventually(lambda: cluster.api.find("Pod", "a", namespace) is None, 30, "the pod is gone")
    assert ("Unprepare", "a") in driver.calls
    eventually(lambda: not _allocated(cluster, namespace, "a"), 10, "the claim is free")


def test_an_unprepare_that_fails_holds_the_pod_and_the_claim(
    cluster: Cluster, node: RealNode | FakeNode, driver: StandIn, namespace: str
):
    _create(cluster, node, namespace, "b")
    eventually(lambda: _running(cluster, namespace, "b"), 30, "the pod runs")
    driver.refuse["Unprepare"] = "memory still online"
    cluster.api.delete("Pod", "b", namespace)
    eventually(lambda: driver.calls.count(("Unprepare", "b")) >= 2, 30, "it is tried again")
    assert cluster.api.get("Pod", "b", namespace)["metadata"]["deletionTimestamp"]
    assert _allocated(cluster, namespace, "b")
    driver.refuse["Unprepare"] = ""
    eventually(lambda: cluster.api.find("Pod", "b", namespace) is None, 30, "the pod is gone")


def test_a_pod_deleted_by_force_is_unprepared_all_the_same(
    cluster: Cluster, node: RealNode | FakeNode, driver: StandIn, namespace: str
):
    _create(cluster, node, namespace, "c")
    eventually(lambda: _running(cluster, namespace, "c"), 30, "the pod runs")
    driver.refuse["Unprepare"] = "memory still online"
    cluster.api.delete("Pod", "c", namespace, grace=0)
    eventually(lambda: not _allocated(cluster, namespace, "c"), 10, "the claim is free, although it is prepared")
    eventually(lambda: driver.calls.count(("Unprepare", "c")) >= 2, 30, "it is tried, again and again")
    driver.refuse["Unprepare"] = ""
    before = driver.calls.count(("Unprepare", "c"))
    eventually(lambda: driver.calls.count(("Unprepare", "c")) > before, 30, "it succeeds")


def test_a_claim_is_not_prepared_again_after_a_restart_of_the_kubelet(
    cluster: Cluster, node: RealNode | FakeNode, driver: StandIn, namespace: str
):
    _create(cluster, node, namespace, "d")
    eventually(lambda: _running(cluster, namespace, "d"), 30, "the pod runs")
    driver.status = None
    node.restart_kubelet()
    eventually(lambda: driver.status is not None and driver.status.plugin_registered, 30, "registration")
    slice_name = f"stand-in-{node.name}"
    eventually(lambda: cluster.api.find("ResourceSlice", slice_name) is None, 10, "slices of the node are gone")
    cluster.api.delete("Pod", "d", namespace)
    eventually(lambda: cluster.api.find("Pod", "d", namespace) is None, 30, "the pod is gone")
    assert driver.calls.count(("Prepare", "d")) == 1


def test_a_prepare_that_fails_is_told_in_an_event(
    cluster: Cluster, fake_node: FakeNode, namespace: str, request: pytest.FixtureRequest
):
    """Of the fake node only: the real one waits for a minute before it tries again."""
    driver = StandIn(DRIVER, fake_node.kubelet_root)
    request.addfinalizer(driver.stop)
    driver.refuse["Prepare"] = "no memory yet"
    spec = {
        "driver": DRIVER,
        "nodeName": fake_node.name,
        "pool": {"name": fake_node.name, "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "one"}],
    }
    meta = {"name": f"stand-in-{fake_node.name}"}
    cluster.api.create({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": meta, "spec": spec})
    request.addfinalizer(lambda: cluster.api.delete("ResourceSlice", meta["name"]))
    device_class = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": DRIVER}}
    cluster.api.apply(
        {**device_class, "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]}}
    )
    _create(cluster, fake_node, namespace, "e")

    def told() -> bool:
        return "no memory yet" in {item["message"] for item in cluster.api.list("Event", namespace)}

    eventually(told, 15, "the event")
    driver.refuse["Prepare"] = ""
    eventually(lambda: _running(cluster, namespace, "e"), 15, "the pod runs")
