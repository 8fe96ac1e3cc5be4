# SPDX-License-Identifier: Apache-2.0
"""Definitions that are refused, each with a sentence that says why."""

from __future__ import annotations

from typing import Any

import pytest
from tests.embedded.support.client import Client
from tests.embedded.support.definitions import CRDS, definition
from tests.embedded.support.kinds import changed, complaints, table

SPEC = "spec.validation.openAPIV3Schema"
HERE = f"{SPEC}.properties[spec].properties[v]"
TEXT = {"type": "string"}
LIST = {"type": "array", "items": {"type": "object", "properties": {"n": TEXT}}}


def of_value(schema: Any) -> list[str]:
    """Return what is wrong with a definition whose spec.v has a schema."""
    return complaints(definition({"type": "object", "properties": {"v": schema}}))


@pytest.mark.parametrize(("schema", "complaint"), table("broken_schemas"))
def test_broken_schemas(schema: Any, complaint: str) -> None:
    assert of_value(schema) == [f"{HERE}{complaint}"]


def test_what_junctors_of_the_root_name_must_be_there_without_them() -> None:
    root = {"anyOf": [{"properties": {"other": {"minLength": 1}}}]}
    assert complaints(definition(root=root)) == [
        (
            f"{SPEC}.properties[other]: Required value: because it is defined in a nested value validation and must be "
            "specified outside of it, too"
        )
    ]


def test_rules_that_do_not_compile() -> None:
    [said] = of_value({**TEXT, "x-kubernetes-validations": [{"rule": "self.foo == 1"}]})
    assert said.startswith(f"{HERE}.x-kubernetes-validations[0].rule: Invalid value: ")
    assert "compilation failed: " in said
    [said] = of_value({**TEXT, "x-kubernetes-validations": [{"rule": "true", "messageExpression": "1"}]})
    assert "messageExpression compilation failed: " in said
    [said] = of_value({**TEXT, "pattern": "("})
    assert said.startswith(f'{HERE}.pattern: Invalid value: "(": must be a valid regular expression, but isn\'t: ')


@pytest.mark.parametrize(("changes", "expected"), table("broken_definitions"))
def test_broken_definitions(changes: dict[str, Any], expected: list[str] | None) -> None:
    found = complaints(definition({"type": "object", "properties": {"v": TEXT}}), **changes)
    assert found if expected is None else found == expected


def test_a_definition_in_a_group_of_kubernetes_must_be_approved() -> None:
    changes = {"spec__group": "x.k8s.io", "metadata__name": "shelves.x.k8s.io"}
    [said] = complaints(definition(), **changes)
    assert "protected groups must have approval annotation" in said
    approved = changed(definition(), **changes)
    approved["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, a test"}
    assert complaints(approved) == []


async def test_a_broken_definition_leaves_nothing(client: Client) -> None:
    broken = definition({"type": "object", "properties": {"v": {"type": "text"}}})
    answer = await client.create(CRDS, broken)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    assert (await client.get(f"{CRDS}/shelves.example.com")).code == 404
    assert (await client.get("/apis/example.com/v1")).code == 404
    deep: Any = {"type": "object"}
    for _ in range(150):
        deep = {"type": "object", "properties": {"a": deep}}
    assert (await client.create(CRDS, definition(deep))).code in (400, 422)
    assert (await client.create(CRDS, {"metadata": {"name": "x"}, "spec": []})).code == 400
    assert (await client.create(CRDS, {"metadata": {"name": "x"}, "spec": {"versions": [{}]}})).code == 422
    assert (await client.get("/readyz")).code == 200
