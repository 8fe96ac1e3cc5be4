# SPDX-License-Identifier: Apache-2.0
"""Generated code says what the interpreter says, and holds no text of the expression."""

from __future__ import annotations

import itertools

import pytest

from dynamic_memory.cel import CompileError, DeviceView, EvaluationError, Semver, compile_selector
from dynamic_memory.quantity import Quantity

A, C = 'device.attributes["dra.memory"]', 'device.capacity["dra.memory"]'
GENERATED = [
    f"{A}.a == 0 && {C}.size.compareTo(quantity('2Gi')) >= 0",
    f"{A}.a == 1 || {A}.b == 'x'",
    f"{A}.a != 1",
    f"{A}.a < 2",
    f"{A}.a == true",
    f"{A}.a in ['x', 'y']",
    f"{A}.a",
    f"!({A}.a)",
    f"{A}.a ? {A}.b == 'x' : {A}.b == 1",
    f"has({A}.a) && {A}.a == 1",
    f"{C}.size.isGreaterThan(quantity('1Gi'))",
    f"{C}.size == quantity('4096Mi')",
    f"{A}.a.isGreaterThan(semver('1.0.0'))",
    f"{A}.a.startsWith('x') && {A}.a.matches('^x+$')",
    "device.driver == 'dra.memory' && device.allowMultipleAllocations",
    "[1, 2, 3].all(x, x > 0) && [1, 2].exists(x, x == 2) && [1].exists_one(x, x == 1)",
    "[1, 2, 3].map(x, x + 1) == [2, 3, 4] && [1, 2].filter(x, x > 1) == [2]",
    f"cel.bind(d, {A}, d.a == 1 && d.b == 'x')",
    "'dra.memory' in device.attributes",
    f"{A}.a.exists(x, x == 1)",
    "9223372036854775807 + 1 > 0 || true",
]
VALUES = [0, 1, 2, True, False, "x", "xx", "y", Semver("1.2.3"), [1, 2], []]


def outcome(decide, device):
    try:
        return decide(device)
    except EvaluationError as error:
        return str(error)


@pytest.mark.parametrize("source", GENERATED)
def test_same_as_interpreter(source):
    selector = compile_selector(source)
    assert selector.is_generated
    sizes = [{"size": Quantity.parse("4Gi")}, {"size": Quantity.parse("1Gi")}, {}]
    for a, b, size in itertools.product([None, *VALUES], [None, 1, "x"], sizes):
        attributes = {name: value for name, value in (("a", a), ("b", b)) if value is not None}
        device = DeviceView("dra.memory", attributes, size, allow_multiple_allocations=a == 1)
        assert outcome(selector.matches, device) == outcome(selector.interpret, device), attributes


@pytest.mark.parametrize("text", ['"""', "\\", "'); import os; ('", "\n", "{c0}", "__class__", "é"])
def test_text_of_the_expression_stays_data(text):
    literal = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    device = DeviceView("dra.memory", {text: text} if "/" not in text else {}, {})
    assert compile_selector(f'{A}["{literal}"] == "{literal}"').matches(device)


def test_python_names_are_no_fields():
    for name in ("__class__", "__init__", "cel_fields", "slots"):
        with pytest.raises(CompileError, match="undefined field"):
            compile_selector(f"device.{name} == 1").matches(DeviceView("d", {}, {}))
