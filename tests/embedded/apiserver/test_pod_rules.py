# SPDX-License-Identifier: Apache-2.0
"""Pods: defaults, validation, what may change, resizing."""

from __future__ import annotations

from typing import Any

import pytest
from tests.embedded.support.client import MERGE, Client
from tests.embedded.support.kinds import changed, complaints, made, table, update_complaints

from dynamic_memory.embedded.apiserver.strategies.resources import pod_requests, qos_class

PODS = "/api/v1/namespaces/default/pods"
SEED = """
apiVersion: v1
kind: Pod
metadata: {name: dynamic-memory-app}
spec:
  containers:
  - name: app
    image: app:1
    volumeMounts: [{name: dynamic-memory-volume, mountPath: /mnt/dynamic-memory}]
  resourceClaims: [{name: dynamic-memory-claim}]
"""


def pod(**changes: Any) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": "i",
        "resources": {"requests": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [container], "volumes": [{"name": "v"}]},
    }
    return changed(body, **changes)


def test_defaults_are_those_of_a_cluster() -> None:
    spec = made(pod(spec__containers__0__ports=[{"containerPort": 80}]))["spec"]
    container = spec.pop("containers")[0]
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert (container["imagePullPolicy"], container["terminationMessagePolicy"]) == ("Always", "File")
    tolerated = [(one["key"], one["tolerationSeconds"]) for one in spec.pop("tolerations")]
    assert tolerated == [("node.kubernetes.io/not-ready", 300), ("node.kubernetes.io/unreachable", 300)]
    assert spec == {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "enableServiceLinks": True,
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("r:5000/a", "Always"),
        ("a:1", "IfNotPresent"),
        ("r:5000/a:1", "IfNotPresent"),
        ("a@sha256:00", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert made(pod(spec__containers__0__image=image))["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_limits_are_requests_where_there_are_none() -> None:
    limited = made(pod(spec__containers__0__resources={"limits": {"memory": "1Gi", "cpu": "1"}}))
    assert limited["spec"]["containers"][0]["resources"]["requests"] == {"memory": "1Gi", "cpu": "1"}
    assert limited["status"] == {"phase": "Pending", "qosClass": "Guaranteed"}


@pytest.mark.parametrize(
    ("containers", "quality"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"memory": "1"}}], "Burstable"),
        ([{"requests": {"memory": "0"}}], "BestEffort"),
        ([{"limits": {"cpu": "1", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "2"}, "requests": {"cpu": "1", "memory": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1"}}, {}], "Burstable"),
    ],
)
def test_quality_of_service(containers: list[dict[str, Any]], quality: str) -> None:
    assert qos_class({"containers": [{"resources": one} for one in containers]}) == quality


def test_what_a_pod_asks_for() -> None:
    def asks(amount: str, **more: Any) -> dict[str, Any]:
        return {"resources": {"requests": {"memory": amount}}, **more}

    spec = {
        "containers": [asks("1Gi"), asks("2Gi")],
        "initContainers": [asks("1Gi", restartPolicy="Always"), asks("4Gi")],
        "overhead": {"memory": "1Mi"},
    }
    assert str(pod_requests(spec, "memory")) == "5121Mi"
    assert str(pod_requests({**spec, "resources": {"requests": {"memory": "8Gi"}}}, "memory")) == "8Gi"


@pytest.mark.parametrize(("changes", "expected"), table("pods"))
def test_pods_that_are_refused(changes: dict[str, Any], expected: list[str] | None) -> None:
    found = complaints(pod(), **changes)
    assert found if expected is None else found == expected


def test_the_seeds_example_gives_its_two_errors() -> None:
    assert complaints(SEED) == [
        (
            'spec.resourceClaims[0]: Invalid value: {"Name":"dynamic-memory-claim","ResourceClaimName":null,'
            '"ResourceClaimTemplateName":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`'
        ),
        'spec.containers[0].volumeMounts[0].name: Not found: "dynamic-memory-volume"',
    ]


@pytest.mark.parametrize(("subresource", "changes", "expected"), table("pod_updates"))
def test_what_may_change_of_a_pod(subresource: str | None, changes: Any, expected: list[str] | None) -> None:
    old = made(pod())
    if "spec__tolerations__2" in changes:
        changes = {"spec__tolerations": [*old["spec"]["tolerations"], changes["spec__tolerations__2"]]}
    found = update_complaints(old, subresource, **changes)
    assert found if expected is None else found == expected


async def test_a_resize_beyond_the_node_is_forbidden(client: Client) -> None:
    status = {"allocatable": {"cpu": "4", "memory": "8Gi"}, "capacity": {"cpu": "4", "memory": "8Gi"}}
    assert (await client.create("/api/v1/nodes", {"metadata": {"name": "n"}, "status": status})).code == 201
    assert (await client.create(PODS, pod(spec__nodeName="n"))).code == 201
    path = f"{PODS}/p/resize"

    async def resize(memory: str) -> Any:
        containers = [{"name": "c", "resources": {"requests": {"memory": memory}}}]
        return await client.patch(path, {"spec": {"containers": containers}}, "application/strategic-merge-patch+json")

    refused = await resize("9Gi")
    assert (refused.code, refused.json["reason"]) == (403, "Forbidden")
    assert refused.json["message"] == (
        'pods "p" is forbidden: node didn\'t have enough allocatable resources: '
        "memory, requested: 9663676416, allocatable: 8589934592"
    )
    assert refused.json["details"]["causes"] == [{"reason": "NodeCapacity"}]
    allowed = await resize("2Gi")
    assert (allowed.code, allowed.json["metadata"]["generation"]) == (200, 2)
    plain = await client.patch(f"{PODS}/p", {"spec": {"nodeSelector": {"a": "b"}}}, MERGE)
    assert (plain.code, plain.json["reason"]) == (422, "Invalid")


async def test_the_priority_of_a_pod_is_that_of_its_class(client: Client) -> None:
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    assert (await client.create(classes, {"metadata": {"name": "high"}, "value": 1000})).code == 201
    named = await client.create(PODS, pod(metadata__name="a", spec__priorityClassName="high"))
    assert named.json["spec"]["priority"] == 1000
    critical = await client.create(PODS, pod(metadata__name="b", spec__priorityClassName="system-node-critical"))
    assert critical.json["spec"]["priority"] == 2_000_001_000
    unknown = await client.create(PODS, pod(metadata__name="c", spec__priorityClassName="nope"))
    assert unknown.code == 403
    assert unknown.json["message"].endswith("no PriorityClass with name nope was found")
