# SPDX-License-Identifier: Apache-2.0
"""Node selectors select as in Kubernetes, and refuse what its API server would."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.allocation_world import read

from dynamic_memory.allocation.errors import InvalidNodeSelector
from dynamic_memory.allocation.node_selectors import compile_selector
from dynamic_memory.api.core import NodeSelector

LABELS = {"rack": "a", "size": "10", "example.com/zone": ""}


def compiled(*terms: dict[str, Any]) -> Any:
    return compile_selector(read(NodeSelector, {"nodeSelectorTerms": list(terms)}), "slice s")


def label(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def field(operator: str, *values: str, key: str = "metadata.name") -> dict[str, Any]:
    return {"matchFields": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("term", "selected"),
    [
        (label("rack", "In", "a", "b"), True),
        (label("rack", "In", "b"), False),
        (label("none", "In", "a"), False),
        (label("rack", "NotIn", "a"), False),
        (label("none", "NotIn", "a"), True),
        (label("example.com/zone", "Exists"), True),
        (label("none", "Exists"), False),
        (label("none", "DoesNotExist"), True),
        (label("size", "Gt", "9"), True),
        (label("size", "Gt", "10"), False),
        (label("size", "Lt", "11"), True),
        (label("rack", "Lt", "11"), False),
        (label("none", "Gt", "1"), False),
        (field("In", "n"), True),
        (field("NotIn", "n"), False),
        (field("In", "x", key="metadata.namespace"), False),
        ({**label("rack", "In", "a"), **field("In", "m")}, False),
        ({}, False),
    ],
)
def test_a_term(term: dict[str, Any], *, selected: bool) -> None:
    assert compiled(term).matches("n", LABELS) == selected


def test_one_term_is_enough_and_none_selects_nothing() -> None:
    assert compiled(label("rack", "In", "b"), label("rack", "In", "a")).matches("n", LABELS)
    assert not compiled().matches("n", LABELS)


def test_equal_selectors_are_one_object() -> None:
    assert compiled(label("rack", "In", "a")) is compiled(label("rack", "In", "a"))


@pytest.mark.parametrize(
    "term",
    [
        label("rack", "Is", "a"),
        label("rack", "In"),
        label("rack", "Exists", "a"),
        label("rack", "Gt", "a"),
        label("rack", "Gt", "1", "2"),
        label("rack", "Gt", "99999999999999999999"),
        label("bad key", "Exists"),
        label("a/b/c", "Exists"),
        label("UP/x", "Exists"),
        label("x" * 64, "Exists"),
        label("rack", "In", "bad value"),
        label("rack", "In", "x" * 64),
        field("Exists"),
        field("In", "a", "b"),
    ],
)
def test_what_is_invalid_is_refused_with_its_owner(term: dict[str, Any]) -> None:
    with pytest.raises(InvalidNodeSelector, match="slice s"):
        compiled(term)
