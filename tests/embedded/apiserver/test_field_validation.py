# SPDX-License-Identifier: Apache-2.0
"""Unknown and duplicate fields, wrong types: row A11, and the messages of Go's decoder."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.embedded.support.client import JSON_PATCH, MERGE, STRATEGIC, Client
from tests.embedded.support.kinds import resource

from dynamic_memory.embedded.apiserver.bodies import may_repeat
from dynamic_memory.embedded.apiserver.decoding import decode
from dynamic_memory.embedded.apiserver.defaults import apply_defaults
from dynamic_memory.embedded.apiserver.duplicates import duplicate_fields
from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.pruning import drop_nulls, pruned
from dynamic_memory.embedded.apiserver.schema import Schema

PODS = "/api/v1/namespaces/default/pods"
POOLS = "/apis/devmgmtproto.k8s.io/v1alpha1/devicepools"


def pod(**spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "i"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [container], **spec},
    }


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        (PODS, pod(x=1), 'unknown field "spec.x"'),
        (
            POOLS,
            {"apiVersion": "devmgmtproto.k8s.io/v1alpha1", "kind": "DevicePool", "metadata": {"name": "p"},
             "spec": {"driver": "d", "x": 1}},
            'unknown field "spec.x"',
        ),
    ],
    ids=["builtin", "custom"],
)  # fmt: skip
async def test_A11_unknown_fields_by_strictness(client: Client, path: str, body: dict[str, Any], text: str) -> None:
    strict = await client.create(path, body, fieldValidation="Strict")
    assert strict.code == 400
    assert strict.json["reason"] == "BadRequest"
    assert strict.json["message"].endswith(f"strict decoding error: {text}")
    warned = await client.create(path, body, fieldValidation="Warn", dryRun="All")
    assert (warned.code, warned.warnings) == (201, [text])
    assert "x" not in warned.json["spec"]
    silent = await client.create(path, body, fieldValidation="Ignore")
    assert (silent.code, silent.warnings) == (201, [])


DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


async def deployment(client: Client) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    assert (await client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec})).code == 201


@pytest.mark.parametrize("sub", ["", "/scale"])
@pytest.mark.parametrize(
    ("media", "patch", "problem"),
    [
        (MERGE, '{"spec":{"foo":1}}', 'unknown field "spec.foo"'),
        (STRATEGIC, '{"spec":{"foo":1}}', 'unknown field "spec.foo"'),
        (JSON_PATCH, '[{"op":"add","path":"/spec/foo","value":1}]', 'unknown field "spec.foo"'),
        (
            JSON_PATCH,
            '[{"op":"add","path":"/spec/replicas","value":2,"foo":1}]',
            'json patch unknown field "[0].foo"',
        ),
        (MERGE, '{"spec":{"replicas":1,"replicas":2}}', 'duplicate field "spec.replicas"'),
        (STRATEGIC, '{"spec":{"replicas":1,"replicas":2}}', 'duplicate field "spec.replicas"'),
    ],
)
async def test_A11_patches_by_strictness(client: Client, sub: str, media: str, patch: str, problem: str) -> None:
    await deployment(client)
    path = f"{DEPLOYMENTS}/d{sub}"
    strict = await client.send("PATCH", path, patch.encode(), media=media, fieldValidation="Strict")
    assert (strict.code, strict.json["reason"]) == (422, "Invalid")
    assert strict.json["message"].startswith(' "" is invalid: patch: Invalid value: "')
    assert strict.json["message"].endswith(f'": strict decoding error: {problem}')
    assert [cause["field"] for cause in strict.json["details"]["causes"]] == ["patch"]
    warned = await client.send("PATCH", path, patch.encode(), media=media)
    assert (warned.code, warned.warnings) == (200, [problem])
    silent = await client.send("PATCH", path, patch.encode(), media=media, fieldValidation="Ignore")
    assert (silent.code, silent.warnings) == (200, [])


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        (
            {"spec": {"replicas": "x"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas",
        ),
        (
            {"metadata": 5},
            "json: cannot unmarshal number into Go struct field Deployment.metadata of type v1.ObjectMeta",
        ),
        ({"kind": "Pod"}, 'no kind "Pod" is registered for version "apps/v1" in scheme'),
        ({"kind": "ReplicaSet"}, "converting (v1.ReplicaSet) to (apps.Deployment): unknown conversion"),
    ],
)
async def test_a_patch_that_makes_no_object_of_the_kind_is_invalid(client: Client, patch: Any, why: str) -> None:
    await deployment(client)
    answer = await client.patch(f"{DEPLOYMENTS}/d", patch)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    assert answer.json["message"].startswith(' "" is invalid: patch: Invalid value: "{')
    assert why in answer.json["message"]
    if "kind" in patch:
        assert (await client.patch(f"{DEPLOYMENTS}/d", patch, STRATEGIC)).code == 200
    for media in (MERGE, JSON_PATCH, STRATEGIC):
        answer = await client.send("PATCH", f"{DEPLOYMENTS}/d", b"{", media=media)
        assert (answer.code, answer.json["message"]) == (400, "invalid JSON patch")


async def test_A11_duplicate_fields_by_strictness(client: Client) -> None:
    body = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"hostname":"a","hostname":"b","containers":'
    body += '[{"name":"c","image":"i","image":"j"}]}}'
    said = ['duplicate field "spec.hostname"', 'duplicate field "spec.containers[0].image"']
    strict = await client.send("POST", PODS, body.encode(), media="application/json", fieldValidation="Strict")
    assert strict.code == 400
    assert strict.json["message"].endswith(f"strict decoding error: {', '.join(said)}")
    warned = await client.send("POST", PODS, body.encode(), media="application/json")
    assert (warned.code, warned.warnings) == (201, said)


@pytest.mark.parametrize(
    ("field", "value", "said", "kind"),
    [
        ("activeDeadlineSeconds", "1", "string", "int64"),
        ("containers", "c", "string", "[]v1.Container"),
        ("nodeSelector", {"a": 1}, "number", "string"),
        ("hostNetwork", "yes", "string", "bool"),
        ("priority", 2**31, "number 2147483648", "int32"),
        ("priority", 1.5, "number 1.5", "int32"),
        ("affinity", [], "array", "v1.Affinity"),
    ],
)
def test_wrong_types_of_builtin_kinds_are_a_bad_request(field: str, value: Any, said: str, kind: str) -> None:
    with pytest.raises(StatusError) as caught:
        decode(resource("v1", "Pod"), pod(**{field: value}))
    assert caught.value.code == 400
    assert caught.value.message == (
        'Pod in version "v1" cannot be handled as a Pod: '
        f"json: cannot unmarshal {said} into Go struct field PodSpec.spec.{field} of type {kind}"
    )


def test_a_quantity_that_is_none_is_a_bad_request() -> None:
    with pytest.raises(StatusError) as caught:
        decode(resource("v1", "Pod"), pod(overhead={"cpu": "x"}))
    text = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    assert caught.value.message == f'Pod in version "v1" cannot be handled as a Pod: {text}'


def test_builtin_kinds_become_canonical_and_lose_nulls() -> None:
    container = {"name": "c", "resources": {"requests": {"memory": "1024Mi", "cpu": 0.5, "example.com/x": 3}}}
    body = pod(containers=[container], nodeName=None, nodeSelector={"a": None})
    body["metadata"]["creationTimestamp"] = "2026-01-01T02:00:00+02:00"
    made, problems = decode(resource("v1", "Pod"), body)
    assert problems == []
    assert made["spec"]["containers"][0]["resources"]["requests"] == {
        "memory": "1Gi",
        "cpu": "500m",
        "example.com/x": "3",
    }
    assert "nodeName" not in made["spec"]
    assert made["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert body["spec"]["nodeName"] is None, "what came is as it was"


def test_times_of_leases_keep_microseconds() -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "spec": {"renewTime": "2026-01-01T02:00:00.500000+02:00"},
    }
    made, _ = decode(resource("coordination.k8s.io/v1", "Lease"), lease)
    assert made["spec"]["renewTime"] == "2026-01-01T00:00:00.500000Z"
    lease["spec"] = {"renewTime": "2026-01-01T00:00:00Z"}
    with pytest.raises(StatusError, match=r'cannot parse "Z" as "\.000000"'):
        decode(resource("coordination.k8s.io/v1", "Lease"), lease)
    lease["spec"] = {"renewTime": "yesterday"}
    with pytest.raises(StatusError, match='parsing time "yesterday"'):
        decode(resource("coordination.k8s.io/v1", "Lease"), lease)


def test_numbers_in_the_data_of_a_config_map_are_texts() -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"vlanID": 2000, "b": "c"}}
    assert decode(resource("v1", "ConfigMap"), body)[0]["data"] == {"vlanID": "2000", "b": "c"}


@pytest.mark.parametrize(
    ("body", "may"),
    [
        (b'{"a":[{"b":1},{"b":2}],"c": {}}', False),
        (b'{"a":[{"b":1,"b":2}],"a":{}}', True),
        (b'{"a":1, "a" :2}', True),
        (b'{"a":1,"a"\n:2,"b":"\\":"}', True),
        (b'{"a":"x\\":"}', True),  # it has none, but whoever counts cannot know
    ],
)
def test_documents_without_a_duplicate_field_are_told_by_counting(body: bytes, may: bool) -> None:
    assert may_repeat(body, json.loads(body)) is may


def test_duplicate_fields_are_found_at_any_depth() -> None:
    assert duplicate_fields(b'{"a":[{"b":1,"b":2}],"a":{}}') == ['duplicate field "a[0].b"', 'duplicate field "a"']
    assert duplicate_fields(json.dumps({"a": {"a": {"a": 1}}}).encode()) == []
    assert duplicate_fields(b"{") == []


def test_pruning_keeps_what_may_be_unknown() -> None:
    schema = Schema(
        "object",
        properties={
            "known": Schema("object", properties={"a": Schema("integer")}),
            "open": Schema("object", properties={"in": Schema("object")}, preserve_unknown=True),
            "map": Schema("object", additional=Schema("object", properties={"a": Schema("string")})),
            "whole": Schema("object", embedded_resource=True, properties={"spec": Schema("object")}),
        },
    )
    value = {
        "known": {"a": 1, "b": 2},
        "open": {"any": {"x": 1}, "in": {"gone": 1}},
        "map": {"k": {"a": "1", "b": 2}},
        "whole": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": {}, "x": 1},
        "unknown": 1,
    }
    assert pruned(schema, value) == {
        "known": {"a": 1},
        "open": {"any": {"x": 1}, "in": {}},
        "map": {"k": {"a": "1"}},
        "whole": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": {}},
    }


def test_defaults_fill_what_is_absent_and_nulls_that_are_not_allowed() -> None:
    inner = Schema("object", properties={"size": Schema("integer", default=1), "name": Schema("string", nullable=True)})
    schema = Schema(
        "object",
        properties={
            "spec": Schema(
                "object", default={}, properties={"deep": Schema("object", default={}, properties=inner.properties)}
            ),
            "list": Schema("array", items=inner),
            "null": Schema("string", default="x"),
            "free": Schema("string"),
        },
    )
    value = {"list": [{"size": 3}, {}], "null": None, "free": None}
    assert apply_defaults(schema, drop_nulls(schema, value)) == {
        "spec": {"deep": {"size": 1}},
        "list": [{"size": 3}, {"size": 1}],
        "null": "x",
    }
    first = apply_defaults(schema, {})
    first["spec"]["deep"]["size"] = 9
    assert apply_defaults(schema, {})["spec"]["deep"] == {"size": 1}, "defaults are copied"


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"metadata": {"uid": 5}}, "ObjectMeta.metadata.uid", "number into types.UID"),
        (
            {"metadata": {"ownerReferences": [{"uid": True}]}},
            "OwnerReference.metadata.ownerReferences.uid",
            "bool into types.UID",
        ),
        ({"spec": {"restartPolicy": 1}}, "PodSpec.spec.restartPolicy", "number into v1.RestartPolicy"),
        ({"spec": {"dnsPolicy": []}}, "PodSpec.spec.dnsPolicy", "array into v1.DNSPolicy"),
        ({"spec": {"nodeName": 1}}, "PodSpec.spec.nodeName", "number into string"),
        (
            {"spec": {"containers": [{"securityContext": {"capabilities": {"add": [1]}}}]}},
            "Capabilities.spec.containers.securityContext.capabilities.add",
            "number into v1.Capability",
        ),
        (
            {"spec": {"containers": [{"resources": {"requests": 5}}]}},
            "ResourceRequirements.spec.containers.resources.requests",
            "number into v1.ResourceList",
        ),
    ],
)
async def test_types_of_texts_are_told_by_their_go_names(client: Client, body: Any, field: str, said: str) -> None:
    answer = await client.create(PODS, body)
    value, _, kind = said.partition(" into ")
    why = f"json: cannot unmarshal {value} into Go struct field {field} of type {kind}"
    message = f'Pod in version "v1" cannot be handled as a Pod: {why}'
    assert (answer.code, answer.json["message"]) == (400, message)
