# SPDX-License-Identifier: Apache-2.0
"""K15: `schedule` against an API server: dry run, allocation, binding, and doing nothing the second time."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.support.fake_kube import FakeKube
from tests.unit.prototype.worlds import VERSION, example

from dynamic_memory.allocation.prototype.documents import read_documents
from dynamic_memory.api import names
from dynamic_memory.cli import schedule_cluster
from dynamic_memory.cli.schedule_cluster import (
    _READ,
    CLAIMS,
    PODS,
    RESOURCE_CLAIMS,
    BindingFailed,
    NotOurs,
    Options,
    WaitsForClaim,
    decide_and_bind,
)
from dynamic_memory.kube.errors import Conflict, NotFound

KINDS = {(kind.api_version, kind.kind): kind for kind in (*_READ, PODS)}
CONFIGS = schedule_cluster._kind(
    "gpu.example.com", "v1alpha1", "GPUSharingConfig", "gpusharingconfigs", namespaced=True
)
MINE = Options("default", "foozer-0", bind=True)


class Cluster(FakeKube):
    """A fake server that knows the kinds of the examples, and binds."""

    def __init__(self, *files: str, text: str = "", scheduler: str = "dynamic-memory") -> None:
        super().__init__()
        self.raw["/apis/gpu.example.com/v1alpha1"] = {
            "resources": [{"name": "gpusharingconfigs", "kind": "GPUSharingConfig", "namespaced": True}]
        }
        bodies = [document.body for file in files for document in read_documents(example(file).read_text(), file)]
        bodies += [document.body for document in read_documents(text, "text")]
        for body in bodies:
            kind = KINDS.get((body["apiVersion"], body["kind"]), CONFIGS if body["kind"] == CONFIGS.kind else None)
            if kind is None:
                continue
            if kind is PODS:
                body["spec"]["schedulerName"] = scheduler
                name = body["metadata"]["name"]
                self.raw[f"/api/v1/namespaces/default/pods/{name}/binding"] = self.bind
            if kind.namespaced:
                body["metadata"].setdefault("namespace", "default")
            self.put(kind, body)
        self.bindings: list[tuple[str, str]] = []

    def bind(self, body: dict[str, Any]) -> dict[str, Any]:
        name, node = body["metadata"]["name"], body["target"]["name"]
        self.bindings.append((name, node))
        pod = self.body(PODS, name, "default")
        assert pod is not None
        assert pod["metadata"]["uid"] == body["metadata"]["uid"]
        pod["spec"]["nodeName"] = node
        self.put(PODS, pod)
        return {}

    def writes(self) -> list[str]:
        return [
            call.verb
            for call in self.calls
            if call.verb in {"create", "patch", "apply", "replace", "delete", "create_raw"}
        ]


def shared(**more: Any) -> Cluster:
    return Cluster("classes", "pools-two-nodes-two-simple-gpus", "two-pods-one-gpu-1", **more)


async def test_K15_without_bind_nothing_is_written() -> None:
    cluster = shared(scheduler="default-scheduler")

    decision, note = await decide_and_bind(cluster, MINE._replace(bind=False))

    assert "node-00" == decision.node
    assert "dry run" in note
    assert [] == cluster.writes()


async def test_K15_claim_is_allocated_and_pod_bound_and_a_second_run_does_nothing() -> None:
    cluster = shared()

    await decide_and_bind(cluster, MINE)
    status = (cluster.body(CLAIMS, "my-shared-gpu", "default") or {})["status"]
    writes = len(cluster.writes())
    _, note = await decide_and_bind(cluster, MINE)

    assert [{"devicePoolName": "node-00-foozer", "deviceName": "dev-00", "allocations": []}] == status["allocations"]
    assert ["foozer-0"] == status["podNames"]
    assert ["my-sharing-config"] == [config["metadata"]["name"] for config in status["claimConfigs"]]
    assert [("foozer-0", "node-00")] == cluster.bindings
    assert "nothing to do" in note
    assert writes == len(cluster.writes())

    decision, _ = await decide_and_bind(cluster, MINE._replace(verbose=True))
    options = {node.node: "\n".join(node.options) for node in decision.nodes}
    assert "tried node-00-foozer/dev-00" in options["node-00"]
    assert "tried node-01-foozer/dev-00" in options["node-01"]
    assert ("node-00", True) == (decision.node, decision.bound)


async def test_K15_second_pod_joins_the_first() -> None:
    cluster = shared()

    await decide_and_bind(cluster, MINE)
    await decide_and_bind(cluster, MINE._replace(pod="foozer-1"))

    status = (cluster.body(CLAIMS, "my-shared-gpu", "default") or {})["status"]
    assert ["foozer-0", "foozer-1"] == status["podNames"]
    assert 1 == len(status["allocations"])
    assert [("foozer-0", "node-00"), ("foozer-1", "node-00")] == cluster.bindings


async def test_claims_of_a_class_are_made_and_owned_by_the_pod() -> None:
    cluster = Cluster("classes", "pools-two-nodes-two-simple-gpus", "pod-two-containers-two-gpus-0")

    await decide_and_bind(cluster, Options("default", "foozer", bind=True))

    made = {body["metadata"]["name"]: body for body in cluster.bodies(CLAIMS)}
    assert {"foozer-foozer-gpu", "foozer-other-foozer-gpu"} == set(made)
    assert ["dev-00", "dev-01"] == [body["status"]["allocations"][0]["deviceName"] for body in made.values()]
    assert {"Pod"} == {body["metadata"]["ownerReferences"][0]["kind"] for body in made.values()}
    assert VERSION == made["foozer-foozer-gpu"]["apiVersion"]


async def test_run_that_was_interrupted_before_binding_is_finished_by_the_next() -> None:
    cluster = Cluster("classes", "pools-two-nodes-two-simple-gpus", "pod-two-containers-two-gpus-0")
    binding = cluster.raw.pop("/api/v1/namespaces/default/pods/foozer/binding")
    options = Options("default", "foozer", bind=True)
    with pytest.raises(NotFound):
        await decide_and_bind(cluster, options)
    cluster.raw["/api/v1/namespaces/default/pods/foozer/binding"] = binding
    before = cluster.bodies(CLAIMS)

    await decide_and_bind(cluster, options)

    assert before == cluster.bodies(CLAIMS)
    assert [("foozer", "node-00")] == cluster.bindings


async def test_pod_of_another_scheduler_is_left_alone() -> None:
    cluster = shared(scheduler="default-scheduler")

    with pytest.raises(NotOurs, match="two allocators on one pool"):
        await decide_and_bind(cluster, MINE)

    assert [] == cluster.writes()


async def test_missing_configuration_is_waited_for() -> None:
    cluster = shared()
    cluster.remove(CONFIGS, "my-sharing-config", "default")

    decision, _ = await decide_and_bind(cluster, MINE)

    assert "GPUSharingConfig default/my-sharing-config" in decision.pending
    assert [] == cluster.writes()


async def test_claim_that_changed_meanwhile_is_not_overwritten() -> None:
    cluster = shared()

    def change(call: Any) -> None:
        if call.verb == "patch":
            cluster.before = lambda _: None
            body = cluster.body(CLAIMS, "my-shared-gpu", "default") or {}
            cluster.put(CLAIMS, {**body, "status": {"podNames": ["somebody"]}})

    cluster.before = change
    with pytest.raises(Conflict):
        await decide_and_bind(cluster, MINE)

    assert {"podNames": ["somebody"]} == (cluster.body(CLAIMS, "my-shared-gpu", "default") or {})["status"]
    assert [] == cluster.bindings


# --- resource.k8s.io/v1 with conditions

FABRIC = f"""
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {{name: dra.fabric-memory}}
spec: {{selectors: [{{cel: {{expression: 'device.driver == "dra.memory"'}}}}]}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {{name: s}}
spec:
  driver: dra.memory
  pool: {{name: fabric/d, generation: 1, resourceSliceCount: 1}}
  nodeName: n1
  devices:
  - name: memory-0
    allowMultipleAllocations: true
    bindsToNode: true
    bindingConditions: [{names.ATTACHED}]
    bindingFailureConditions: [{names.ATTACH_FAILED}]
    capacity: {{size: {{value: 4Gi, requestPolicy: {{default: 1Gi, validRange: {{min: 1Gi, step: 1Gi}}}}}}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {{name: far}}
spec:
  devices:
    requests:
    - name: r
      exactly:
        deviceClassName: dra.fabric-memory
        allocationMode: ExactCount
        count: 1
        capacity: {{requests: {{size: 2Gi}}}}
---
apiVersion: v1
kind: Node
metadata: {{name: n1}}
---
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  resourceClaims: [{{name: far, resourceClaimName: far}}]
  containers: [{{name: c, resources: {{claims: [{{name: far, request: r}}]}}}}]
"""
POD = Options("default", "p", bind=True, timeout=60)


def report(cluster: Cluster, condition: str, message: str = "") -> None:
    """Do what the driver does: tell the state of the allocated device."""
    body = cluster.body(RESOURCE_CLAIMS, "far", "default") or {}
    [result] = body["status"]["allocation"]["devices"]["results"]
    device = {key: result[key] for key in ("driver", "pool", "device", "shareID")}
    device["conditions"] = [
        {
            "type": condition,
            "status": "True",
            "message": message,
            "reason": "Told",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]
    body["status"]["devices"] = [device]
    cluster.put(RESOURCE_CLAIMS, body)


def after_a_while(cluster: Cluster, condition: str, message: str = "") -> None:
    seen = 0

    def before(call: Any) -> None:
        nonlocal seen
        seen += call.verb == "get" and call.name == "far"
        if seen == 3:
            cluster.before = lambda _: None
            report(cluster, condition, message)

    cluster.before = before


@pytest.mark.looptime
async def test_K19_pod_is_bound_once_its_memory_is_attached() -> None:
    cluster = Cluster(text=FABRIC)
    after_a_while(cluster, names.ATTACHED)

    decision, note = await decide_and_bind(cluster, POD)

    assert ("n1", "bound") == (decision.node, note)
    assert [("p", "n1")] == cluster.bindings
    body = cluster.body(RESOURCE_CLAIMS, "far", "default") or {}
    assert {"size": "2Gi"} == body["status"]["allocation"]["devices"]["results"][0]["consumedCapacity"]
    assert body["status"]["allocation"]["allocationTimestamp"]
    assert ["p"] == [entry["name"] for entry in body["status"]["reservedFor"]]
    assert "resource.kubernetes.io/delete-protection" in body["metadata"]["finalizers"]
    assert 2 <= cluster.count("get", RESOURCE_CLAIMS)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("condition", "why"),
    [(names.ATTACH_FAILED, "no more extents"), ("Other", "not ready after 60 s")],
    ids=["failure", "time-out"],
)
async def test_allocation_is_taken_back_if_the_memory_does_not_come(condition: str, why: str) -> None:
    cluster = Cluster(text=FABRIC)
    after_a_while(cluster, condition, why)

    with pytest.raises(BindingFailed, match=why):
        await decide_and_bind(cluster, POD)

    status = (cluster.body(RESOURCE_CLAIMS, "far", "default") or {}).get("status", {})
    assert not status.get("allocation")
    assert [] == cluster.bindings


async def test_claims_that_others_make_are_not_made() -> None:
    documents = list(yaml.safe_load_all(FABRIC))
    for body in documents:
        if body["kind"] == "ResourceClaim":
            body |= {"kind": "ResourceClaimTemplate", "spec": {"spec": body["spec"]}}
        if body["kind"] == "Pod":
            body["spec"]["resourceClaims"] = [{"name": "far", "resourceClaimTemplateName": "far"}]
    text = yaml.safe_dump_all(documents)
    cluster = Cluster(text=text)

    with pytest.raises(WaitsForClaim, match="resource claim controller"):
        await decide_and_bind(cluster, POD)

    assert [] == cluster.writes()
    made = json.loads(json.dumps(cluster.body(PODS, "p", "default")))
    made["status"] = {"resourceClaimStatuses": [{"name": "far", "resourceClaimName": "p-far-x7k2p"}]}
    cluster.put(PODS, made)
    [template] = cluster.bodies(schedule_cluster._READ[-1])
    cluster.put(
        RESOURCE_CLAIMS,
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": "p-far-x7k2p", "namespace": "default"},
            "spec": template["spec"]["spec"],
        },
    )
    decision, _ = await decide_and_bind(cluster, POD._replace(bind=False))
    assert ["p-far-x7k2p"] == [claim.name for claim in decision.claims]
