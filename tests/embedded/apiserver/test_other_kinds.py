# SPDX-License-Identifier: Apache-2.0
"""Workloads, services, access and core kinds: validation, defaults, what the server gives out and keeps; row A41."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.embedded.support.client import MERGE, STRATEGIC, Client
from tests.embedded.support.kinds import changed, made, resource, table, update_complaints

from dynamic_memory.embedded.apiserver.decoding import decode
from dynamic_memory.embedded.apiserver.resource import Context
from dynamic_memory.embedded.apiserver.validation import check_create, complete

NAMESPACE = "/api/v1/namespaces/default"
SERVICES = f"{NAMESPACE}/services"
RBAC = "rbac.authorization.k8s.io/v1"


@pytest.mark.parametrize(("body", "expected"), table("kinds"))
def test_objects_that_are_refused(body: dict[str, Any], expected: list[str] | None) -> None:
    one = resource(body["apiVersion"], body["kind"])
    obj, problems = decode(one, body)
    assert problems == []
    obj["metadata"]["uid"] = "1"
    obj = one.strategy.prepare_create(complete(one, obj), Context(resource=one))
    found = [f"{cause.field}: {cause.message}" for cause in check_create(one, obj)]
    assert found if expected is None else found == expected


def workload(kind: str, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "w"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec},
    }


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        (
            "Deployment",
            {
                "replicas": 1,
                "revisionHistoryLimit": 10,
                "progressDeadlineSeconds": 600,
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
                },
            },
        ),
        ("ReplicaSet", {"replicas": 1}),
        (
            "DaemonSet",
            {
                "revisionHistoryLimit": 10,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            },
        ),
        (
            "StatefulSet",
            {
                "replicas": 1,
                "revisionHistoryLimit": 10,
                "podManagementPolicy": "OrderedReady",
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            },
        ),
    ],
)
def test_defaults_of_workloads(kind: str, defaults: dict[str, Any]) -> None:
    spec = made(workload(kind))["spec"]
    template = spec.pop("template")
    del spec["selector"]
    assert spec == defaults
    assert template["spec"]["restartPolicy"] == "Always"
    assert template["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert "tolerations" not in template["spec"], "those are added to pods"


def test_what_may_not_change_of_workloads() -> None:
    old = made(workload("Deployment"))
    assert update_complaints(old, spec__replicas=3) == []
    other = {"matchLabels": {"x": "y"}}
    labels = {"x": "y"}
    assert update_complaints(old, spec__selector=other, spec__template__metadata__labels=labels) == [
        'spec.selector: Invalid value: {"matchLabels":{"x":"y"}}: field is immutable'
    ]
    stateful = made(workload("StatefulSet"))
    assert update_complaints(stateful, spec__replicas=2) == []
    [said] = update_complaints(stateful, spec__serviceName="s")
    assert said.startswith("spec: Forbidden: updates to statefulset spec for fields other than 'replicas'")


def test_a_job_selects_the_pods_that_it_makes() -> None:
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    }
    job = made(body)
    uid = job["metadata"]["uid"]
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels == {
        "batch.kubernetes.io/controller-uid": uid,
        "controller-uid": uid,
        "batch.kubernetes.io/job-name": "j",
        "job-name": "j",
    }
    counts = {name: job["spec"][name] for name in ("parallelism", "completions", "backoffLimit", "completionMode")}
    assert counts == {"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed"}
    [said] = update_complaints(job, spec__template__spec__containers__0__image="x")
    assert said.startswith("spec.template: Invalid value: ")


async def test_services_get_addresses_and_ports_and_keep_them(client: Client) -> None:
    def service(name: str, **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}

    first = (await client.create(SERVICES, service("a"))).json["spec"]
    second = (await client.create(SERVICES, service("b", type="NodePort"))).json["spec"]
    assert first["clusterIP"] != second["clusterIP"]
    assert first["clusterIPs"] == [first["clusterIP"]]
    assert first["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert (first["type"], first["sessionAffinity"], first["ipFamilies"]) == ("ClusterIP", "None", ["IPv4"])
    assert 30000 <= second["ports"][0]["nodePort"] <= 32767
    replaced = await client.put(f"{SERVICES}/a", service("a", selector={"x": "y"}))
    assert replaced.json["spec"]["clusterIP"] == first["clusterIP"]
    moved = await client.patch(f"{SERVICES}/a", {"spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}})
    assert (moved.code, moved.json["details"]["causes"][0]["message"]) == (
        422,
        'Invalid value: ["10.96.9.9"]: may not change once set',
    )
    headless = (await client.create(SERVICES, service("c", clusterIP="None"))).json["spec"]
    assert headless["clusterIPs"] == ["None"]
    external = await client.create(SERVICES, service("d", type="ExternalName", externalName="example.com"))
    assert "clusterIP" not in external.json["spec"]


async def test_config_that_is_immutable(client: Client) -> None:
    for plural, data in (("configmaps", {"a": "b"}), ("secrets", {"a": "Yg=="})):
        path = f"{NAMESPACE}/{plural}"
        assert (await client.create(path, {"metadata": {"name": "x"}, "data": data, "immutable": True})).code == 201
        refused = await client.patch(f"{path}/x", {"data": {"a": "Yw=="}})
        assert refused.code == 422
        assert refused.json["details"]["causes"] == [
            {
                "reason": "FieldValueForbidden",
                "message": "Forbidden: field is immutable when `immutable` is set",
                "field": "data",
            }
        ]


async def test_texts_of_a_secret_become_data(client: Client) -> None:
    made_secret = (
        await client.create(f"{NAMESPACE}/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "é"}})
    ).json
    assert made_secret["data"] == {"a": base64.b64encode("é".encode()).decode()}
    assert "stringData" not in made_secret
    assert made_secret["type"] == "Opaque"
    changed_type = await client.patch(f"{NAMESPACE}/secrets/s", {"type": "example.com/x"})
    assert changed_type.json["details"]["causes"][0]["field"] == "type"


def test_too_much_data() -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "x" * (1 << 20)}}
    one = resource("v1", "ConfigMap")
    assert check_create(one, decode(one, body)[0]) == []
    body["data"]["b"] = "x"  # type: ignore[index] # a dict of texts
    [cause] = check_create(one, decode(one, body)[0])
    assert (cause.field, cause.message) == ("", "Too long: may not be more than 1048576 bytes")


async def test_a_role_binding_keeps_its_role(client: Client) -> None:
    path = f"/apis/{RBAC}/namespaces/default/rolebindings"
    body = {
        "metadata": {"name": "b"},
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}],
    }
    made_binding = (await client.create(path, body)).json
    assert made_binding["roleRef"]["apiGroup"] == "rbac.authorization.k8s.io"
    assert made_binding["subjects"] == [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]
    refused = await client.patch(f"{path}/b", {"roleRef": {"name": "other"}}, MERGE)
    assert refused.json["details"]["causes"][0]["message"].endswith(": field is immutable")


async def test_a_namespace_is_labelled_and_held(client: Client) -> None:
    made_namespace = (await client.create("/api/v1/namespaces", {"metadata": {"name": "n"}})).json
    assert made_namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    assert (made_namespace["spec"], made_namespace["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})


async def test_A41_the_capacity_of_a_node_by_a_strategic_patch_of_its_status(client: Client) -> None:
    body = {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}
    status = {"capacity": {"cpu": "4", "memory": "8Gi"}, "conditions": [{"type": "Ready", "status": "True"}]}
    created = await client.create("/api/v1/nodes", {**body, "status": status})
    assert created.json["status"]["capacity"] == {"cpu": "4", "memory": "8Gi"}
    patch = {
        "status": {
            "capacity": {"dynamicmemory.dev/memory": "4096Mi"},
            "conditions": [{"type": "dynamicmemory.dev/DynamicMemoryReady", "status": "True"}],
        },
        "spec": {"unschedulable": True},
    }
    patched = await client.patch("/api/v1/nodes/n/status", patch, STRATEGIC)
    assert patched.code == 200, patched
    assert patched.json["status"]["capacity"] == {"cpu": "4", "memory": "8Gi", "dynamicmemory.dev/memory": "4Gi"}
    assert {one["type"] for one in patched.json["status"]["conditions"]} == {
        "Ready",
        "dynamicmemory.dev/DynamicMemoryReady",
    }
    assert "unschedulable" not in patched.json["spec"]
    wrong = await client.patch("/api/v1/nodes/n/status", {"status": {"capacity": {"memory": "-1"}}}, STRATEGIC)
    assert (wrong.code, wrong.json["details"]["causes"][0]["field"]) == (422, "status.capacity.memory")


async def test_only_an_approval_decides_about_a_certificate_request(client: Client) -> None:
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    pem = base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\n").decode()
    spec = {"request": pem, "signerName": "dynamicmemory.dev/fabric-client", "usages": ["client auth"], "username": "x"}
    made_request = (await client.create(path, {"metadata": {"name": "r"}, "spec": spec})).json
    assert made_request["spec"]["username"] != "x", "the server says who asks"
    approved = {"type": "Approved", "status": "True", "reason": "Test"}
    refused = await client.patch(f"{path}/r/status", {"status": {"conditions": [approved]}})
    assert refused.code == 422
    assert refused.json["message"].endswith('Forbidden: updates may not add a condition of type "Approved"')
    decided = await client.patch(f"{path}/r/approval", {"status": {"conditions": [approved], "certificate": "eA=="}})
    assert decided.json["status"]["conditions"][0]["type"] == "Approved"
    assert decided.json["status"]["conditions"][0]["lastTransitionTime"] > "2026"
    assert "certificate" not in decided.json["status"]
    issued = await client.patch(f"{path}/r/status", {"status": {"certificate": "eA=="}})
    assert issued.json["status"]["certificate"] == "eA=="
    assert issued.json["status"]["conditions"][0]["type"] == "Approved"
    taken_back = await client.patch(f"{path}/r/approval", {"status": {"conditions": []}})
    assert taken_back.code == 422


def test_changing_by_path() -> None:
    assert changed({"a": [{"b": 1}]}, a__0__b=2, c__d=3) == {"a": [{"b": 2}], "c": {"d": 3}}


def test_a_certificate_request_says_who_asks_whatever_it_says_itself() -> None:
    """With the node that the token is bound to: by that, signers know whose certificate it may be."""
    one = resource("certificates.k8s.io/v1", "CertificateSigningRequest")
    claimed = {"username": "system:admin", "uid": "1", "groups": ["system:masters"], "extra": {"a": ["b"]}}
    node = "authentication.kubernetes.io/node-name"
    ctx = Context(user="system:serviceaccount:a:b", groups=("g",), uid="2", extra={node: ("n1",)}, resource=one)
    obj = one.strategy.prepare_create({"metadata": {"name": "r"}, "spec": {"signerName": "a/b", **claimed}}, ctx)
    assert obj["spec"] == {
        "signerName": "a/b",
        "username": "system:serviceaccount:a:b",
        "uid": "2",
        "groups": ["g"],
        "extra": {node: ["n1"]},
    }
