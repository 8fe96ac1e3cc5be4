# SPDX-License-Identifier: Apache-2.0
"""Constraints of the scheduling prototype: `device` is a flat map of attributes.

A quantity compares with quantities, and with texts that are quantities: `device.memory >= '10Gi'` is true or false as
the amounts are, and fails clearly for any other text; the prototype itself said false to everything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from dynamic_memory.cel import types as t
from dynamic_memory.cel.environment import Environment, Program
from dynamic_memory.cel.errors import CompileError, EvaluationError
from dynamic_memory.cel.functions.kubernetes import parse_quantity
from dynamic_memory.cel.functions.signature import declare
from dynamic_memory.cel.types import Declared, map_of
from dynamic_memory.cel.values import kind_of

__all__ = ["Constraint", "compile_constraint", "prototype_environment"]


def _amount(value: Any) -> Any:
    return parse_quantity(value) if type(value) is str else value


def _comparing(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda a, b: compare(_amount(a), _amount(b))


_COMPARISONS = declare(
    [
        (f"quantity_{name}_{a}_{b}", f"_{sign}_({a}, {b}) -> bool", _comparing(compare))
        for sign, name, compare in (
            ("<", "less", lambda a, b: a < b),
            ("<=", "less_equals", lambda a, b: a <= b),
            (">", "greater", lambda a, b: a > b),
            (">=", "greater_equals", lambda a, b: a >= b),
        )
        for a, b in (("Quantity", "Quantity"), ("Quantity", "string"), ("string", "Quantity"))
    ]
)


@functools.lru_cache(maxsize=1)
def prototype_environment() -> Environment:
    """Return the environment of the prototype's constraints."""
    return Environment({"device": Declared(map_of(t.STRING, t.DYN))}, functions=_COMPARISONS)


class Constraint:
    """A compiled constraint; without an expression it holds for every device."""

    __slots__ = ("program",)

    def __init__(self, program: Program | None) -> None:
        self.program = program

    def holds(self, device: Mapping[str, Any]) -> bool:
        """Decide for a device given as attribute values by name.

        Raises:
            EvaluationError: an attribute is missing, or of another type than the expression expects.

        """
        if self.program is None:
            return True
        value = self.program.evaluate({"device": device})
        if type(value) is not bool:
            raise EvaluationError(f"expected bool, got {kind_of(value)}")
        return value


def compile_constraint(source: str | None) -> Constraint:
    """Compile a constraint; None or nothing holds always.

    Raises:
        CompileError: with line, column and what was expected.

    """
    if not source:
        return Constraint(None)
    program = prototype_environment().compile(source)
    if program.result_type.kind not in ("bool", "dyn"):
        raise CompileError(f"must evaluate to bool, not {program.result_type}", "bool")
    return Constraint(program)
