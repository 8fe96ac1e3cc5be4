# SPDX-License-Identifier: Apache-2.0
"""Generated expressions mean the same to Google's CEL for C++ (cel-expr-python)."""

from __future__ import annotations

import math
import random

import pytest
from cel_expr_python import cel as oracle

from dynamic_memory.cel import CompileError, Environment, EvaluationError
from dynamic_memory.cel import types as t
from dynamic_memory.cel.types import Declared, list_of, map_of
from dynamic_memory.cel.values import items_of

INTS = ["0", "1", "-1", "2", "7", "i", "9223372036854775807", "-9223372036854775807", "(-9223372036854775807 - 1)"]
VALUES = {"i": 5, "d": 2.5, "s": "héllo", "b": True, "ints": [3, 1, 2], "m": {"a": 1, "b": 2}}


class Generator:
    """Grows a random expression of a wanted type; now and then a sum of two types, which does not compile."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names = 0

    def grow(self, wanted: str, depth: int) -> str:
        return getattr(self, f"grow_{wanted}")(depth)

    def one(self, *options: str) -> str:
        return self.random.choice(options)

    def grow_int(self, depth: int) -> str:
        if depth <= 0:
            return self.one(*INTS)
        kind = self.random.randrange(10)
        if self.random.random() < 0.02:
            return f"({self.grow('int', depth - 1)} + {self.grow('string', depth - 1)})"
        if kind < 4:
            return f"({self.grow('int', depth - 1)} {self.one('+', '-', '*', '/', '%')} {self.grow('int', depth - 1)})"
        return [
            lambda: f"size({self.grow(self.one('string', 'ints', 'map'), depth - 1)})",
            lambda: f"{self.grow('ints', depth - 1)}[{self.grow('int', 0)}]",
            lambda: f"({self.grow('bool', depth - 1)} ? {self.grow('int', depth - 1)} : {self.grow('int', depth - 1)})",
            lambda: f"-({self.grow('int', depth - 1)})",
            lambda: f"int({self.grow(self.one('double', 'int'), depth - 1)})",
            lambda: f"{self.grow('map', depth - 1)}[{self.grow('string', 0)}]",
        ][kind - 4]()

    def grow_double(self, depth: int) -> str:
        if depth <= 0:
            return self.one("0.0", "1.5", "-2.25", "d", "1e3")
        return f"({self.grow('double', depth - 1)} {self.one('+', '-', '*', '/')} {self.grow('double', depth - 1)})"

    def grow_string(self, depth: int) -> str:
        if depth <= 0:
            return self.one("''", "'a'", "'b'", '"héllo"', "s", "'x\\n\\u00e9'", "r'\\d'")
        return self.one(
            f"({self.grow('string', depth - 1)} + {self.grow('string', depth - 1)})",
            f"string({self.grow('int', depth - 1)})",
        )

    def grow_bool(self, depth: int) -> str:  # noqa: PLR0911 - a table of cases
        if depth <= 0:
            return self.one("true", "false", "b")
        kind = self.random.randrange(12)
        if kind < 4:
            return f"({self.grow('bool', depth - 1)} {self.one('&&', '||')} {self.grow('bool', depth - 1)})"
        if kind < 7:
            type_ = self.one("int", "double", "string")
            return f"({self.grow(type_, depth - 1)} {self.one('<', '<=', '>', '>=', '==', '!=')} {self.grow(type_, depth - 1)})"  # noqa: E501 - one pattern or case a line
        if kind == 7:
            return f"!{self.grow('bool', depth - 1)}"
        if kind == 8:
            return f"({self.grow('int', depth - 1)} in {self.grow('ints', depth - 1)})"
        if kind == 9:
            method = self.one("startsWith", "endsWith", "contains")
            return f"{self.grow('string', depth - 1)}.{method}({self.grow('string', depth - 1)})"
        if kind == 10:
            return f"({self.grow('ints', depth - 1)} == {self.grow('ints', depth - 1)})"
        self.names += 1
        name, macro = f"x{self.names}", self.one("all", "exists", "exists_one")
        return f"{self.grow('ints', depth - 1)}.{macro}({name}, ({name} {self.one('<', '==', '/ 0 ==')} {self.grow('int', 0)}) || {self.grow('bool', depth - 2)})"  # noqa: E501 - one pattern or case a line

    def grow_ints(self, depth: int) -> str:
        if depth <= 0:
            return self.one("[]", "[1, 2, 3]", "ints", "[0]")
        self.names += 1
        name = f"x{self.names}"
        return self.one(
            f"[{self.grow('int', depth - 1)}, {self.grow('int', depth - 1)}]",
            f"({self.grow('ints', depth - 1)} + {self.grow('ints', depth - 1)})",
            f"{self.grow('ints', depth - 1)}.map({name}, {name} {self.one('+', '*', '/')} {self.grow('int', 0)})",
            f"{self.grow('ints', depth - 1)}.filter({name}, {name} > {self.grow('int', 0)})",
        )

    def grow_map(self, depth: int) -> str:
        return self.one("{'a': 1}", "m", "{'z': 0}", f"{{'b': {self.grow('int', depth - 1)}}}")


@pytest.fixture(scope="module")
def oracle_environment():
    kinds = oracle.Type
    return oracle.NewEnv(
        variables={
            "i": kinds.INT, "d": kinds.DOUBLE, "s": kinds.STRING, "b": kinds.BOOL,
            "ints": kinds.List(kinds.INT), "m": kinds.Map(kinds.STRING, kinds.INT),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def environment():
    return Environment(
        {
            "i": Declared(t.INT), "d": Declared(t.DOUBLE), "s": Declared(t.STRING), "b": Declared(t.BOOL),
            "ints": Declared(list_of(t.INT)), "m": Declared(map_of(t.STRING, t.INT)),
        },
        strict=False,
    )  # fmt: skip


def normal(value):
    if isinstance(value, float):
        return ("double", "nan") if math.isnan(value) else ("double", value)
    if isinstance(value, list | tuple):
        return [normal(element) for element in value]
    if isinstance(value, dict):
        return {key: normal(item) for key, item in items_of(value)}
    return type(value).__name__, value


def ours(environment, source):
    try:
        program = environment.compile(source)
    except CompileError:
        return "compile error"
    try:
        return normal(program.evaluate(VALUES))
    except EvaluationError:
        return "runtime error"


def theirs(environment, source):
    try:
        program = environment.compile(source)
    except Exception:  # noqa: BLE001 - the oracle's classes are not documented
        return "compile error"
    value = program.eval(data=VALUES)
    if value.type() == oracle.Type.ERROR:
        return "runtime error"
    return normal(value.plain_value())


@pytest.mark.parametrize("batch", range(10))
def test_generated_expressions_agree(batch, environment, oracle_environment):
    outcomes = {"compile error": 0, "runtime error": 0, "value": 0}
    for seed in range(batch * 200, batch * 200 + 200):
        generator = Generator(seed)
        source = generator.grow(generator.one("int", "double", "string", "bool", "bool", "ints", "map"), 4)
        if len(source) > 4000:
            continue
        got, expected = ours(environment, source), theirs(oracle_environment, source)
        assert got == expected, source
        outcomes[got if isinstance(got, str) else "value"] += 1
    assert all(count > 5 for count in outcomes.values()), outcomes
