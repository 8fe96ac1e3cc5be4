# SPDX-License-Identifier: Apache-2.0
"""Selectors answer as Kubernetes 1.37 does: compile errors, values, runtime errors and estimated costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynamic_memory.cel import CompileError, DeviceFeatures, EvaluationError, Semver, compile_selector

CORPUS = json.loads((Path(__file__).parent / "kubernetes.json").read_text())
UNBOUNDED = 2**60  # where Kubernetes' estimate of an unknown size overflows in one way or another


def as_attribute(value):
    """Return a value as a DeviceAttribute in JSON; None if it cannot be one."""
    if isinstance(value, list | tuple):
        kinds = [as_attribute(element) for element in value]
        if not kinds:
            return {}
        names = {name for kind in kinds if kind for name in kind}
        if None in kinds or len(names) != 1 or names <= {"bools", "ints", "strings", "versions"}:
            return None
        name = names.pop()
        return {f"{name}s": [kind[name] for kind in kinds]}
    for type_, name in ((bool, "bool"), (int, "int"), (str, "string"), (Semver, "version")):
        if type(value) is type_:
            return {name: value.text if type_ is Semver else value}
    return None


@pytest.mark.parametrize(
    "row", CORPUS["rows"], ids=lambda row: f"{row['env']}-{row['lists']:d}-{row['expression'][:60]!a}"
)
def test_same_answer_as_kubernetes(row, device):
    features = DeviceFeatures(consumable_capacity=row["multiple"], list_attributes=row["lists"])

    def compiled():
        return compile_selector(row["expression"], features, env=row["env"], derived=True)

    if "compileError" in row:
        with pytest.raises(CompileError) as refused:
            compiled()
        assert refused.value.line == 1
        assert refused.value.column >= 1
        assert refused.value.expected
        return
    selector = compiled()
    assert min(selector.program.max_cost, UNBOUNDED) == min(row["maxCost"], UNBOUNDED)
    try:
        value, cost = selector.program.measure({"device": device})
    except EvaluationError as error:
        assert "runtimeError" in row
        assert error.column >= 1  # noqa: PT017 - both outcomes of one row are checked
        with pytest.raises(EvaluationError):
            selector.matches(device)
        return
    # The estimate of Kubernetes itself is too low for some formats.
    assert cost <= max(selector.program.max_cost, row.get("cost", 0))
    answer = as_attribute(value)
    assert answer == row.get("value") if answer is not None else "runtimeError" in row
    if type(value) is bool:
        assert selector.matches(device) is value
    else:
        with pytest.raises(EvaluationError, match="could not be converted to bool"):
            selector.matches(device)


def test_corpus_covers_errors_of_each_kind():
    assert len(CORPUS["rows"]) > 600
    assert sum("compileError" in row for row in CORPUS["rows"]) > 60
    assert sum("runtimeError" in row for row in CORPUS["rows"]) > 40
