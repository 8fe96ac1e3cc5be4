# SPDX-License-Identifier: Apache-2.0
"""Kinds that definitions add: rows A09, A31 and A33 over HTTP."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.embedded.support.client import JSON_PATCH, MERGE, STRATEGIC, TABLE, Client
from tests.embedded.support.definitions import CRDS, SHELVES, define, definition, shelf

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


async def test_A09_a_definition_is_established_and_served_at_once(client: Client) -> None:
    assert (await client.get(SHELVES)).code == 404
    made = (await define(client)).json
    conditions = {one["type"]: (one["status"], one["reason"]) for one in made["status"]["conditions"]}
    assert conditions == {
        "NamesAccepted": ("True", "NoConflicts"),
        "Established": ("True", "InitialNamesAccepted"),
    }
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["status"]["acceptedNames"]["listKind"] == "ShelfList"
    listed = await client.get(SHELVES)
    assert (listed.code, listed.json["kind"], listed.json["items"]) == (200, "ShelfList", [])
    found = (await client.get("/apis/example.com/v1")).json["resources"]
    assert [(one["name"], one["shortNames"], one["namespaced"]) for one in found] == [("shelves", ["sh"], True)]
    assert "apis/example.com/v1" in (await client.get("/openapi/v3")).json["paths"]
    assert (await client.create(SHELVES, shelf())).code == 201


async def test_A09_a_definition_that_goes_takes_its_objects_with_it(client: Client) -> None:
    await define(client)
    assert (await client.create(SHELVES, shelf())).code == 201
    assert (await client.delete(f"{CRDS}/shelves.example.com")).code == 200
    await client.eventually(f"{CRDS}/shelves.example.com", lambda answer: answer.code == 404)
    assert (await client.get(SHELVES)).code == 404
    await define(client)
    assert (await client.get(SHELVES)).json["items"] == []


async def test_A31_defaults_pruning_and_what_may_stay_unknown(client: Client) -> None:
    await define(
        client,
        obj(
            size={**NUMBER, "default": 3},
            color={**TEXT, "default": "red", "nullable": True},
            box={**obj(depth={**NUMBER, "default": 1}), "default": {}},
            port={"x-kubernetes-int-or-string": True},
            free={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            labels={"type": "object", "additionalProperties": TEXT},
        ),
    )
    sent = shelf(port="http", free={"a": {"b": 1}}, labels={"x": "y"}, gone={"a": 1}, size=None, color=None)
    made = (await client.create(SHELVES, sent)).json
    assert made["spec"] == {
        "size": 3,
        "color": None,
        "box": {"depth": 1},
        "port": "http",
        "free": {"a": {"b": 1}},
        "labels": {"x": "y"},
    }
    patched = await client.patch(f"{SHELVES}/a", {"spec": {"gone": 1, "port": 80, "size": None}})
    assert patched.json["spec"]["port"] == 80
    assert patched.json["spec"]["size"] == 3
    assert "gone" not in patched.json["spec"]


IN = "spec.v in body"
INVALID = "spec.v: Invalid value: "
KEYED = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}
LIST = {"type": "array", "items": TEXT}
ONE_OF = '"spec.v" must validate one and only one schema (oneOf). Found 2 valid alternatives'


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        (NUMBER, "1", f'{INVALID}"string": {IN} must be of type integer: "string"'),
        (TEXT, None, None),
        ({**NUMBER, "nullable": True}, None, None),
        ({**NUMBER, "minimum": 3}, 2, f"{INVALID}2: {IN} should be greater than or equal to 3"),
        ({**NUMBER, "maximum": 3, "exclusiveMaximum": True}, 3, f"{INVALID}3: {IN} should be less than 3"),
        ({**NUMBER, "multipleOf": 2}, 3, f"{INVALID}3: {IN} should be a multiple of 2"),
        ({**TEXT, "maxLength": 2}, "abc", "spec.v: Too long: may not be more than 2 bytes"),
        ({**TEXT, "minLength": 2}, "a", f'{INVALID}"a": {IN} should be at least 2 chars long'),
        ({**TEXT, "pattern": "^a+$"}, "b", f"{INVALID}\"b\": {IN} should match '^a+$'"),
        ({**TEXT, "enum": ["a", "b"]}, "c", 'spec.v: Unsupported value: "c": supported values: "a", "b"'),
        ({**TEXT, "format": "date-time"}, "now", f'{INVALID}"now": {IN} must be of type date-time: "now"'),
        ({**LIST, "maxItems": 1}, ["a", "b"], "spec.v: Too many: 2: must have at most 1 item"),
        ({**LIST, "minItems": 1}, [], f"{INVALID}0: {IN} should have at least 1 items"),
        ({**LIST, "x-kubernetes-list-type": "set"}, ["a", "b", "a"], 'spec.v[2]: Duplicate value: "a"'),
        (
            {"type": "array", **KEYED, "items": {**obj(n=TEXT, m=TEXT), "required": ["n"]}},
            [{"n": "a"}, {"n": "a", "m": "b"}],
            'spec.v[1]: Duplicate value: {"n":"a"}',
        ),
        ({**obj(n=TEXT), "required": ["n"]}, {}, "spec.v.n: Required value"),
        (
            {"type": "object", "additionalProperties": NUMBER, "maxProperties": 1},
            {"a": 1, "b": 2},
            "spec.v: Too many: 2: must have at most 1 item",
        ),
        (
            {"x-kubernetes-int-or-string": True},
            True,
            f'{INVALID}"boolean": {IN} must be of type integer,string: "boolean"',
        ),
        (
            {**obj(a=NUMBER, b=NUMBER), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {"a": 1, "b": 2},
            f'<nil>: Invalid value: "": {ONE_OF}',
        ),
        ({**NUMBER, "not": {"enum": [5]}}, 5, '<nil>: Invalid value: "": "spec.v" must not validate the schema (not)'),
    ],
)
async def test_A31_values_are_refused_as_apiextensions_does(
    client: Client, schema: dict[str, Any], value: Any, message: str | None
) -> None:
    await define(client, obj(v=schema))
    answer = await client.create(SHELVES, shelf(v=value))
    if message is None:
        assert answer.code == 201, answer
    else:
        assert answer.code == 422, answer
        assert answer.json["message"] == f'Shelf.example.com "a" is invalid: {message}'
        assert (await client.get(f"{SHELVES}/a")).code == 404


async def test_A31_what_a_narrower_schema_refuses_may_stay_where_it_is_not_touched(client: Client) -> None:
    await define(client, obj(a=TEXT, b=TEXT))
    assert (await client.create(SHELVES, shelf(a="long", b="x"))).code == 201
    place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/a/maxLength"
    narrowed = await client.patch(f"{CRDS}/shelves.example.com", [{"op": "add", "path": place, "value": 2}], JSON_PATCH)
    assert narrowed.code == 200, narrowed
    assert (await client.patch(f"{SHELVES}/a", {"spec": {"b": "y"}})).code == 200
    refused = await client.patch(f"{SHELVES}/a", {"spec": {"a": "other"}})
    assert refused.code == 422
    assert refused.json["details"]["causes"] == [
        {"reason": "FieldValueTooLong", "message": "Too long: may not be more than 2 bytes", "field": "spec.a"}
    ]


async def test_A33_columns_selectable_fields_and_subresources(client: Client) -> None:
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
    ]
    await define(
        client,
        obj(size=NUMBER, color=TEXT, replicas=NUMBER),
        root={
            "properties": {
                "spec": obj(size=NUMBER, color=TEXT, replicas=NUMBER),
                "status": obj(replicas=NUMBER, note=TEXT),
            }
        },
        additionalPrinterColumns=columns,
        selectableFields=[{"jsonPath": ".spec.color"}],
        subresources={
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
        },
    )
    for name, color in (("a", "red"), ("b", "blue")):
        body = {**shelf(name, color=color, size=3, replicas=1), "status": {"note": "mine"}}
        made = await client.create(SHELVES, body)
        assert (made.code, "status" in made.json) == (201, False)
    table = (await client.get(SHELVES, accept=TABLE)).json
    assert [(one["name"], one["priority"]) for one in table["columnDefinitions"]] == [
        ("Name", 0),
        ("Size", 0),
        ("Color", 1),
    ]
    assert [row["cells"] for row in table["rows"]] == [["a", 3, "red"], ["b", 3, "blue"]]
    found = (await client.get(SHELVES, fieldSelector="spec.color=blue")).json["items"]
    assert [one["metadata"]["name"] for one in found] == ["b"]
    refused = await client.get(SHELVES, fieldSelector="spec.size=3")
    assert (refused.code, refused.json["message"]) == (400, "field label not supported: spec.size")
    assert (await client.create(SHELVES, shelf("c", color="red"))).code == 201
    empty = await client.patch(f"{SHELVES}/c/scale", {"metadata": {"annotations": {"x": "y"}}})
    assert (empty.code, empty.json["message"]) == (400, 'the spec replicas field ".spec.replicas" cannot be empty')
    scaled = await client.patch(f"{SHELVES}/a/scale", {"spec": {"replicas": 4}})
    assert (scaled.code, scaled.json["kind"]) == (200, "Scale")
    changed = (await client.patch(f"{SHELVES}/a/status", {"spec": {"size": 9}, "status": {"note": "n"}})).json
    assert (changed["spec"], changed["status"]) == ({"color": "red", "size": 3, "replicas": 4}, {"note": "n"})
    assert changed["metadata"]["generation"] == 2
    assert (await client.patch(f"{SHELVES}/a", {}, STRATEGIC)).code == 415


async def test_A33_versions_share_their_objects(client: Client) -> None:
    crd = definition(obj(size=NUMBER))
    old = copy.deepcopy(crd["spec"]["versions"][0])
    old |= {"name": "v1beta1", "storage": False, "deprecated": True}
    old["schema"]["openAPIV3Schema"]["properties"]["spec"] = obj(size=NUMBER, extra={**TEXT, "default": "e"})
    crd["spec"]["versions"].append(old)
    assert (await client.create(CRDS, crd)).code == 201
    beta = SHELVES.replace("/v1/", "/v1beta1/")
    body = {**shelf(size=1), "apiVersion": "example.com/v1beta1"}
    made = await client.create(beta, body)
    assert made.code == 201
    assert made.json["apiVersion"] == "example.com/v1beta1"
    assert made.json["spec"] == {"size": 1}, "what the stored version does not know is not stored"
    assert made.warnings == ["example.com/v1beta1 Shelf is deprecated"]
    assert (await client.get(f"{SHELVES}/a")).json["apiVersion"] == "example.com/v1"
    groups = (await client.get("/apis")).json["groups"]
    group = next(one for one in groups if one["name"] == "example.com")
    assert [one["version"] for one in group["versions"]] == ["v1", "v1beta1"]
    without = [{"op": "remove", "path": "/spec/versions/1"}]
    assert (await client.patch(f"{CRDS}/shelves.example.com", without, JSON_PATCH)).code == 200
    assert (await client.get(beta)).code == 404


async def test_a_version_has_no_fields_of_another(client: Client) -> None:
    crd = definition(obj(size=NUMBER, color={**TEXT, "default": "red"}))
    other = copy.deepcopy(crd["spec"]["versions"][0]) | {"name": "v2", "storage": False}
    other["schema"]["openAPIV3Schema"]["properties"]["spec"] = obj(size=NUMBER, extra={**TEXT, "default": "e"})
    crd["spec"]["versions"].append(other)
    assert (await client.create(CRDS, crd)).code == 201
    second = SHELVES.replace("/v1/", "/v2/")
    assert (await client.create(SHELVES, shelf(size=1, color="blue"))).code == 201
    shown = await client.get(f"{second}/a")
    assert (shown.json["apiVersion"], shown.json["spec"]) == ("example.com/v2", {"size": 1})
    changed = await client.patch(f"{second}/a", {"spec": {"size": 2, "extra": "x"}})
    assert (changed.code, changed.warnings, changed.json["spec"]) == (200, [], {"size": 2})
    assert (await client.get(f"{SHELVES}/a")).json["spec"] == {"size": 2, "color": "red"}
    body = {**shelf(size=3), "apiVersion": "example.com/v2"}
    applied = await client.apply(f"{second}/a", body, manager="two", force="true")
    assert applied.code == 200
    async with client.watch(second) as seen:
        (_, found), *_ = await seen.until(lambda seen: seen)
        assert found["spec"] == {"size": 3}


async def test_an_object_is_no_larger_than_etcd_takes(client: Client) -> None:
    await define(client, obj(note=TEXT))
    fits, large = ("x" * 1_572_000), ("x" * 1_600_000)
    assert (await client.create(SHELVES, shelf("a", note=fits))).code == 201
    for answer in (
        await client.create(SHELVES, shelf("b", note=large)),
        await client.patch(f"{SHELVES}/a", {"spec": {"note": large}}),
    ):
        assert (answer.code, answer.json["message"]) == (500, "etcdserver: request is too large")
    assert (await client.get(f"{SHELVES}/b")).code == 404
    assert (await client.get(f"{SHELVES}/a")).json["spec"]["note"] == fits


async def test_a_version_that_is_stored_must_stay(client: Client) -> None:
    await define(client)
    renamed = {"spec": {"versions": [{**definition()["spec"]["versions"][0], "name": "v2"}]}}
    refused = await client.patch(f"{CRDS}/shelves.example.com", renamed, MERGE)
    assert refused.code == 422
    assert "missing from spec.versions; v1 was previously a storage version" in refused.json["message"]


async def test_names_that_are_taken_are_not_served_twice(client: Client) -> None:
    await define(client)
    other = definition()
    other["metadata"]["name"] = "racks.example.com"
    other["spec"]["names"] = {"plural": "racks", "singular": "rack", "kind": "Shelf", "listKind": "RackList"}
    made = (await client.create(CRDS, other)).json
    conditions = {one["type"]: (one["status"], one["reason"], one["message"]) for one in made["status"]["conditions"]}
    assert conditions == {
        "NamesAccepted": ("False", "KindConflict", '"Shelf" is already in use'),
        "Established": ("False", "NotAccepted", "not all names are accepted"),
    }
    assert (await client.get("/apis/example.com/v1/racks")).code == 404
