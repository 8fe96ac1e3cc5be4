# SPDX-License-Identifier: Apache-2.0
"""Create, read, replace and patch over HTTP: rows A04, A12, A23 to A26."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from tests.embedded.support.client import APPLY, JSON_PATCH, MERGE, STRATEGIC, Client

NAMESPACE = "/api/v1/namespaces/default"
DEFAULT = "/api/v1/namespaces/default"
METADATA = {"labels", "annotations", "finalizers", "ownerReferences"}
MAPS = f"{NAMESPACE}/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
DRIVERS = "/apis/devmgmtproto.k8s.io/v1alpha1/devicedrivers"


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str = "d", replicas: int = 1) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def workload() -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {"selector": {"matchLabels": {"a": "b"}}, "template": template}


def claim() -> dict[str, Any]:
    return {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "d.example.com"}}]}}


async def test_A25_the_server_sets_names_uids_times_and_versions(client: Client) -> None:
    said = {"uid": "mine", "generation": 9, "creationTimestamp": "2000-01-01T00:00:00Z"}
    body = {"metadata": {"generateName": "g-", **said}}
    made = (await client.create(MAPS, body)).json
    metadata = made["metadata"]
    assert metadata["name"].startswith("g-")
    assert len(metadata["name"]) == 7
    assert uuid.UUID(metadata["uid"]).version == 4
    assert metadata["creationTimestamp"] > "2026"
    assert "generation" not in metadata, "config maps have none"
    assert (made["apiVersion"], made["kind"]) == ("v1", "ConfigMap")
    again = (await client.create(MAPS, body)).json["metadata"]
    assert again["name"] != metadata["name"]
    assert int(again["resourceVersion"]) > int(metadata["resourceVersion"])
    refused = await client.create(MAPS, {"metadata": {"name": "v", "resourceVersion": "5"}})
    assert (refused.code, refused.json["message"]) == (
        500,
        "resourceVersion should not be set on objects to be created",
    )


async def test_A25_replacing_keeps_what_the_server_set(client: Client) -> None:
    made = (await client.create(MAPS, config_map(k="1"))).json
    body = config_map(k="2") | {"metadata": {"name": "a", "creationTimestamp": None}}
    changed = (await client.put(f"{MAPS}/a", body)).json
    for field in ("uid", "creationTimestamp", "namespace"):
        assert changed["metadata"][field] == made["metadata"][field]
    assert changed["data"] == {"k": "2"}
    patch = {"metadata": {"creationTimestamp": "2000-01-01T00:00:00Z"}}
    refused = await client.patch(f"{MAPS}/a", patch)
    assert refused.code == 422
    assert refused.json["details"]["causes"][0] == {
        "reason": "FieldValueInvalid",
        "message": 'Invalid value: "2000-01-01T00:00:00Z": field is immutable',
        "field": "metadata.creationTimestamp",
    }


async def test_A12_errors_are_the_statuses_that_clients_know(client: Client) -> None:
    missing = await client.get(f"{MAPS}/nosuch")
    assert missing.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "nosuch" not found',
        "reason": "NotFound",
        "details": {"name": "nosuch", "kind": "configmaps"},
        "code": 404,
    }
    await client.create(MAPS, config_map())
    exists = (await client.create(MAPS, config_map())).json
    assert (exists["code"], exists["reason"]) == (409, "AlreadyExists")
    assert exists["message"] == 'configmaps "a" already exists'
    stale = config_map() | {"metadata": {"name": "a", "resourceVersion": "1"}}
    conflict = (await client.put(f"{MAPS}/a", stale)).json
    assert (conflict["code"], conflict["reason"]) == (409, "Conflict")
    assert conflict["message"] == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to '
        "the latest version and try again"
    )
    invalid = (await client.create(MAPS, config_map("Not_A_Name"))).json
    assert (invalid["code"], invalid["reason"]) == (422, "Invalid")
    assert invalid["details"]["causes"][0]["field"] == "metadata.name"
    assert invalid["message"].startswith(
        'ConfigMap "Not_A_Name" is invalid: metadata.name: Invalid value: "Not_A_Name"'
    )
    grouped = (await client.get(f"{DEPLOYMENTS}/d")).json
    assert grouped["message"] == 'deployments.apps "d" not found'
    assert grouped["details"] == {"name": "d", "group": "apps", "kind": "deployments"}


async def test_A26_a_stale_write_is_a_conflict_and_a_fresh_one_is_not(client: Client) -> None:
    first = (await client.create(MAPS, config_map(k="1"))).json
    second = (await client.put(f"{MAPS}/a", {**first, "data": {"k": "2"}})).json
    assert (await client.put(f"{MAPS}/a", {**first, "data": {"k": "3"}})).code == 409
    assert (await client.put(f"{MAPS}/a", {**second, "data": {"k": "3"}})).code == 200
    wrong = {**second, "metadata": {**second["metadata"], "uid": str(uuid.uuid4()), "resourceVersion": ""}}
    answer = await client.put(f"{MAPS}/a", wrong)
    assert answer.code == 409
    assert "Precondition failed: UID in precondition" in answer.json["message"]


async def test_A26_custom_objects_are_not_replaced_without_a_version(client: Client) -> None:
    body = definition("things", "Thing")
    await client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
    things = "/apis/x.example.com/v1/namespaces/default/things"
    made = await client.create(things, {"apiVersion": "x.example.com/v1", "kind": "Thing", "metadata": {"name": "t"}})
    assert made.json["metadata"]["generation"] == 1
    body = {"apiVersion": "x.example.com/v1", "kind": "Thing", "metadata": {"name": "t"}}
    refused = await client.put(f"{things}/t", body)
    assert refused.json["message"] == (
        'things.x.example.com "t" is invalid: metadata.resourceVersion: Invalid value: 0: '
        "must be specified for an update"
    )


def definition(plural: str, kind: str, **version: Any) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"plural": plural, "kind": kind, "singular": kind.lower(), "listKind": f"{kind}List"}
    first = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
    return {
        "metadata": {"name": f"{plural}.x.example.com"},
        "spec": {"group": "x.example.com", "scope": "Namespaced", "names": names, "versions": [first]},
    }


@pytest.mark.parametrize("way", ["put", "merge", "strategic", "json", "apply"])
async def test_A04_a_write_that_changes_nothing_leaves_the_version(client: Client, way: str) -> None:
    made = (await client.apply(f"{MAPS}/a", config_map(k="1"))).json
    version = made["metadata"]["resourceVersion"]
    again = {
        "put": lambda: client.put(f"{MAPS}/a", made),
        "merge": lambda: client.patch(f"{MAPS}/a", {"data": {"k": "1"}}),
        "strategic": lambda: client.patch(f"{MAPS}/a", {"data": {"k": "1"}}, STRATEGIC),
        "json": lambda: client.patch(f"{MAPS}/a", [{"op": "replace", "path": "/data/k", "value": "1"}], JSON_PATCH),
        "apply": lambda: client.apply(f"{MAPS}/a", config_map(k="1")),
    }[way]
    answer = await again()
    assert answer.code == 200
    assert answer.json["metadata"]["resourceVersion"] == version
    assert (await client.get(MAPS)).json["metadata"]["resourceVersion"] == version


async def test_A04_kubectl_apply_twice_is_unchanged(client: Client) -> None:
    """Requests as kubectl sends them for a kind that it does not know: GET, POST; GET, and no PATCH if nothing changed.

    kubectl compares its last-applied annotation with what is there, so the object must come back as it was sent.
    """
    annotation = '{"apiVersion":"devmgmtproto.k8s.io/v1alpha1","kind":"DeviceDriver"}\n'
    body = {
        "apiVersion": "devmgmtproto.k8s.io/v1alpha1",
        "kind": "DeviceDriver",
        "metadata": {
            "name": "example",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": annotation},
        },
    }
    assert (await client.get(f"{DRIVERS}/example")).json["reason"] == "NotFound"
    query = {"fieldManager": "kubectl-client-side-apply", "fieldValidation": "Strict"}
    made = await client.create(DRIVERS, body, **query)
    assert made.code == 201, made
    found = (await client.get(f"{DRIVERS}/example")).json
    assert found["metadata"]["annotations"] == body["metadata"]["annotations"]
    again = await client.patch(
        f"{DRIVERS}/example", {"metadata": {"annotations": {**body["metadata"]["annotations"]}}}, MERGE, **query
    )
    assert again.json["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]


async def test_A23_a_dry_run_stores_nothing(client: Client) -> None:
    kept = (await client.create(MAPS, config_map(k="1"))).json
    for number, sent in enumerate(
        [
            client.create(MAPS, config_map("b"), dryRun="All"),
            client.patch(f"{MAPS}/a", {"data": {"k": "2"}}, dryRun="All"),
            client.put(f"{MAPS}/a", config_map(k="3"), dryRun="All"),
            client.apply(f"{MAPS}/a", config_map(k="4"), force="true", dryRun="All"),
            client.apply(f"{MAPS}/c", config_map("c"), dryRun="All"),
            client.delete(f"{MAPS}/a", dryRun="All"),
            client.delete(f"{MAPS}/a", {"dryRun": ["All"]}),
            client.delete(MAPS, dryRun="All"),
        ]
    ):
        answer = await sent
        assert answer.code in {200, 201}, (number, answer)
    after = (await client.get(MAPS)).json
    assert after["metadata"]["resourceVersion"] == kept["metadata"]["resourceVersion"]
    assert [item["data"] for item in after["items"] if item["metadata"]["name"] == "a"] == [{"k": "1"}]
    would = (await client.create(MAPS, {"metadata": {"generateName": "x-"}}, dryRun="All")).json["metadata"]
    assert would["uid"]
    assert would["name"].startswith("x-")
    assert "resourceVersion" not in would
    refused = await client.create(MAPS, config_map(), dryRun="All")
    assert refused.json["reason"] == "AlreadyExists"
    assert (await client.create(MAPS, config_map("b"), dryRun="Some")).code == 422


async def test_A24_status_and_spec_are_written_apart(client: Client) -> None:
    made = (await client.create(DEPLOYMENTS, deployment() | {"status": {"replicas": 9}})).json
    assert made.get("status", {}).get("replicas") is None
    assert made["metadata"]["generation"] == 1
    both = {"spec": {"replicas": 3}, "status": {"replicas": 2, "observedGeneration": 1}}
    changed = (await client.patch(f"{DEPLOYMENTS}/d/status", both)).json
    assert changed["spec"]["replicas"] == 1
    assert changed["status"]["replicas"] == 2
    assert changed["metadata"]["generation"] == 1
    both["status"]["replicas"] = 7
    changed = (await client.patch(f"{DEPLOYMENTS}/d", both)).json
    assert changed["spec"]["replicas"] == 3
    assert changed["status"]["replicas"] == 2
    assert changed["metadata"]["generation"] == 2
    labelled = (await client.patch(f"{DEPLOYMENTS}/d", {"metadata": {"labels": {"a": "b"}}})).json
    assert labelled["metadata"]["generation"] == 2
    changed = (await client.put(f"{DEPLOYMENTS}/d/status", {**labelled, "status": {"replicas": 4}})).json
    assert (changed["status"]["replicas"], changed["spec"]["replicas"]) == (4, 3)
    assert (await client.get(f"{DEPLOYMENTS}/d/status")).json == changed


async def test_A24_scale_reads_and_writes_the_replicas(client: Client) -> None:
    await client.create(DEPLOYMENTS, deployment(replicas=2))
    scale = (await client.get(f"{DEPLOYMENTS}/d/scale")).json
    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 0, "selector": "app=d"}
    scaled = (await client.patch(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 5}})).json
    assert scaled["spec"] == {"replicas": 5}
    found = (await client.get(f"{DEPLOYMENTS}/d")).json
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (5, 2)
    assert (await client.put(f"{DEPLOYMENTS}/d/scale", scale)).code == 409, "an old version"
    assert (await client.patch(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": -1}})).code == 422
    fresh = (await client.get(f"{DEPLOYMENTS}/d/scale")).json
    assert (await client.put(f"{DEPLOYMENTS}/d/scale", {**fresh, "spec": {"replicas": 0}})).json["spec"] == {
        "replicas": 0
    }


async def test_A24_a_definition_says_where_the_scale_of_its_kind_is(client: Client) -> None:
    paths = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.on"}
    body = definition("sets", "Set", subresources={"status": {}, "scale": paths})
    assert (await client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)).code == 201
    sets = "/apis/x.example.com/v1/namespaces/default/sets"
    made = {"apiVersion": "x.example.com/v1", "kind": "Set", "metadata": {"name": "s"}, "spec": {"size": 3}}
    await client.create(sets, made)
    await client.patch(f"{sets}/s/status", {"status": {"size": 1, "on": "a=b"}})
    scale = (await client.get(f"{sets}/s/scale")).json
    assert (scale["spec"], scale["status"]) == ({"replicas": 3}, {"replicas": 1, "selector": "a=b"})
    await client.patch(f"{sets}/s/scale", {"spec": {"replicas": 4}})
    found = (await client.get(f"{sets}/s")).json
    assert (found["spec"], found["metadata"]["generation"]) == ({"size": 4}, 2)


async def test_many_patches_of_one_object_all_take_effect(client: Client) -> None:
    await client.create(MAPS, config_map())
    await asyncio.gather(*(client.patch(f"{MAPS}/a", {"data": {f"k{i}": str(i)}}) for i in range(50)))
    assert (await client.get(f"{MAPS}/a")).json["data"] == {f"k{i}": str(i) for i in range(50)}


async def test_a_body_must_be_what_its_url_says(client: Client) -> None:
    async def refused(answer: Any, text: str) -> None:
        found = await answer
        assert (found.code, found.json["reason"]) == (400, "BadRequest"), found
        assert text in found.json["message"]

    await client.create(MAPS, config_map())
    other = config_map() | {"metadata": {"name": "a", "namespace": "kube-system"}}
    await refused(client.create(MAPS, other), "the namespace of the provided object does not match")
    await refused(client.put(f"{MAPS}/a", config_map("b")), "the name of the object (b) does not match the name on the")
    await refused(client.create(MAPS, config_map() | {"kind": "Secret"}), "cannot be handled as a ConfigMap")
    await refused(client.create(MAPS, config_map() | {"apiVersion": "v2"}), 'no kind "ConfigMap" is registered')
    await refused(client.create(MAPS, config_map() | {"kind": "Pod"}), "converting (v1.Pod) to (core.ConfigMap)")
    await refused(client.put(f"{MAPS}/a", {"data": {}}), "was undeterminable: name must be provided")
    nothing = await client.create(MAPS, {"metadata": {}})
    assert nothing.json["details"]["causes"][0]["message"] == "Required value: name or generateName is required"


async def test_yaml_goes_in_and_comes_out(client: Client) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\ndata:\n  date: '2020-01-01'\n"
    made = await client.send("POST", MAPS, body, media="application/yaml", accept="application/yaml")
    assert made.code == 201
    assert "date: '2020-01-01'" in made.text
    applied = body.replace(b"'2020-01-01'", b"2020-01-02")
    changed = await client.send("PATCH", f"{MAPS}/y", applied, media=APPLY, fieldManager="m", force="true")
    assert changed.json["data"] == {"date": "2020-01-02"}


@pytest.mark.parametrize(
    ("path", "spec", "kept"),
    [
        (f"{DEFAULT}/pods", {"containers": [{"name": "c", "image": "i"}]}, {"ownerReferences"}),
        ("/api/v1/nodes", {}, set()),
        (f"{DEFAULT}/services", {"ports": [{"port": 80}]}, set()),
        ("/apis/apps/v1/namespaces/default/deployments", workload(), {"labels"}),
        ("/apis/apps/v1/namespaces/default/replicasets", workload(), set()),
        ("/apis/resource.k8s.io/v1/namespaces/default/resourceclaims", claim(), METADATA),
    ],
)
async def test_metadata_may_be_written_through_the_status_of_most_builtin_kinds(
    client: Client, path: str, spec: dict[str, Any], kept: set[str]
) -> None:
    assert (await client.create(path, {"metadata": {"name": "a"}, "spec": spec})).code == 201
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"}
    metadata = {
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "finalizers": ["x.example.com/y"],
        "ownerReferences": [owner],
    }
    written = await client.patch(f"{path}/a/status", {"metadata": metadata})
    assert written.code == 200
    found = {name: value for name, value in metadata.items() if name in written.json["metadata"]}
    assert found == {name: value for name, value in metadata.items() if name not in kept}


@pytest.mark.parametrize(
    ("path", "spec", "status"),
    [
        ("/apis/apps/v1/namespaces/default/deployments", workload(), {}),
        ("/apis/apps/v1/namespaces/default/replicasets", workload(), {"replicas": 0}),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}},
            {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
            {"defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}},
            {"loadBalancer": {}},
        ),
    ],
)
async def test_a_new_object_has_the_status_that_go_writes_of_nothing(
    client: Client, path: str, spec: dict[str, Any], status: dict[str, Any]
) -> None:
    body = {"metadata": {"name": "a"}, "spec": spec, "status": {"replicas": 7}}
    made = await client.create(path, body, fieldValidation="Ignore")
    assert (made.code, made.json["status"]) == (201, status)
    assert "f:status" not in str(made.json["metadata"]["managedFields"])
    lease = await client.create("/apis/coordination.k8s.io/v1/namespaces/default/leases", {"metadata": {"name": "a"}})
    assert lease.json["spec"] == {}
