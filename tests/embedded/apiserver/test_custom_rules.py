# SPDX-License-Identifier: Apache-2.0
"""x-kubernetes-validations: row A32."""

from __future__ import annotations

from typing import Any

import pytest
from tests.embedded.support.client import Client
from tests.embedded.support.definitions import SHELVES, define, shelf

from dynamic_memory.embedded.apiserver.crd.structure import read_schema
from dynamic_memory.embedded.apiserver.rules import check_rules, rule_path
from dynamic_memory.embedded.apiserver.schema import MISSING

NUMBER = {"type": "integer"}
TEXT = {"type": "string"}


def with_rules(*rules: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "x-kubernetes-validations": list(rules)}


async def test_A32_a_rule_refuses_with_its_message(client: Client) -> None:
    rule = {"rule": "self.min <= self.max", "message": "min must not be larger than max"}
    await define(client, with_rules(rule, min=NUMBER, max=NUMBER))
    assert (await client.create(SHELVES, shelf(min=1, max=2))).code == 201
    refused = await client.create(SHELVES, shelf("b", min=3, max=2))
    assert refused.code == 422
    text = "spec: Invalid value: min must not be larger than max"
    assert refused.json["message"] == f'Shelf.example.com "b" is invalid: {text}'
    updated = await client.patch(f"{SHELVES}/a", {"spec": {"min": 5}})
    assert (updated.code, updated.json["details"]["causes"][0]["field"]) == (422, "spec")


async def test_A32_a_transition_rule_sees_what_was(client: Client) -> None:
    fixed = {**TEXT, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]}
    grows = {"rule": "!oldSelf.hasValue() || self.size >= oldSelf.value().size", "optionalOldSelf": True,
             "message": "must not shrink"}  # fmt: skip
    await define(client, with_rules(grows, size=NUMBER, fixed=fixed))
    assert (await client.create(SHELVES, shelf(size=2, fixed="a"))).code == 201
    assert (await client.patch(f"{SHELVES}/a", {"spec": {"size": 3}})).code == 200
    refused = await client.patch(f"{SHELVES}/a", {"spec": {"size": 1, "fixed": "b"}})
    assert refused.code == 422
    assert [(one["field"], one["message"]) for one in refused.json["details"]["causes"]] == [
        ("spec", "Invalid value: must not shrink"),
        ("spec.fixed", 'Invalid value: "b": is immutable'),
    ]


SMALL = "self.n < 3"
SHORT = "self.l.all(x, x.size() < 3)"


@pytest.mark.parametrize(
    ("rule", "value", "field", "message"),
    [
        ({"rule": SMALL}, {"n": 5}, "<nil>", f"Invalid value: failed rule: {SMALL}"),
        (
            {"rule": SMALL, "messageExpression": "'is ' + string(self.n)", "message": "unused"},
            {"n": 5},
            "<nil>",
            "Invalid value: is 5",
        ),
        (
            {"rule": SMALL, "messageExpression": "string(self.n / 0)", "message": "used"},
            {"n": 5},
            "<nil>",
            "Invalid value: used",
        ),
        (
            {"rule": SMALL, "fieldPath": ".n", "reason": "FieldValueForbidden"},
            {"n": 5},
            "n",
            f"Forbidden: failed rule: {SMALL}",
        ),
        ({"rule": SMALL, "reason": "FieldValueRequired", "message": "m"}, {"n": 5}, "<nil>", "Required value: m"),
        ({"rule": SMALL, "reason": "FieldValueDuplicate", "message": "m"}, {"n": 5}, "<nil>", "Duplicate value"),
        (
            {"rule": "10 / self.n > 1"},
            {"n": 0},
            "<nil>",
            'Invalid value: "object": division by zero evaluating rule: 10 / self.n > 1',
        ),
        ({"rule": "!has(self.n) || self.n > 0"}, {}, "", ""),
        ({"rule": SHORT}, {"l": ["a", "abcd"]}, "<nil>", f"Invalid value: failed rule: {SHORT}"),
        ({"rule": "self.m['k'] == 'v'"}, {"m": {"k": "v"}}, "", ""),
    ],
)
def test_A32_how_answers_read(rule: dict[str, Any], value: Any, field: str, message: str) -> None:
    lists = {"type": "array", "items": TEXT}
    maps = {"type": "object", "additionalProperties": TEXT}
    schema = read_schema(with_rules(rule, n=NUMBER, l=lists, m=maps))
    causes = [(cause.field, cause.message) for cause in check_rules(schema, value)]
    assert causes == ([(field, message)] if message else [])


def test_rules_of_elements_correspond_by_their_keys() -> None:
    element = with_rules({"rule": "self.v >= oldSelf.v", "message": "must not shrink"}, n=TEXT, v=NUMBER)
    schema = read_schema(
        {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["n"],
            "items": element,
        }
    )
    old = [{"n": "a", "v": 1}, {"n": "b", "v": 5}]
    new = [{"n": "b", "v": 4}, {"n": "c", "v": 0}, {"n": "a", "v": 1}]
    assert [(one.field, one.message) for one in check_rules(schema, new, old)] == [
        ("[0]", "Invalid value: must not shrink")
    ]
    assert check_rules(schema, new, MISSING) == []


def test_an_unchanged_value_is_not_asked_again() -> None:
    schema = read_schema(with_rules({"rule": "self.n < 3"}, n=NUMBER))
    assert check_rules(schema, {"n": 5}, {"n": 5}) == []
    assert len(check_rules(schema, {"n": 6}, {"n": 5})) == 1


def test_rules_have_a_budget() -> None:
    rule = {"rule": "self.l.all(x, self.l.all(y, self.l.all(z, x + y + z > -1)))"}
    numbers = {"type": "array", "items": NUMBER}
    schema = read_schema(with_rules(rule, l=numbers))
    causes = check_rules(schema, {"l": list(range(400))})
    assert len(causes) == 1
    assert "no further validation rules will be run" in causes[0].message


def test_the_root_sees_names_and_type() -> None:
    schema = read_schema(with_rules({"rule": "self.metadata.name.startsWith('a') && self.kind == 'Shelf'"}), root=True)
    assert check_rules(schema, {"kind": "Shelf", "metadata": {"name": "a1"}}) == []
    assert len(check_rules(schema, {"kind": "Shelf", "metadata": {"name": "b1"}})) == 1


def test_field_paths() -> None:
    assert rule_path(".a.b") == ".a.b"
    assert rule_path(".a['b.c'].d") == ".a.b.c.d"
    assert rule_path("") == ""
