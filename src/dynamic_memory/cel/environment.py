# SPDX-License-Identifier: Apache-2.0
"""An environment compiles sources to programs; a program evaluates them on values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dynamic_memory.cel import cost
from dynamic_memory.cel.ast import Node
from dynamic_memory.cel.checker import Declarations, check
from dynamic_memory.cel.errors import CompileError, CostExceeded
from dynamic_memory.cel.functions import collections, kubernetes, standard, text, times
from dynamic_memory.cel.interpreter import Frame, build, exceeded
from dynamic_memory.cel.parser import parse
from dynamic_memory.cel.types import Declared, ObjectType, Overload, Type

__all__ = ["BASE", "COST_LIMIT", "Environment", "Program"]

COST_LIMIT = 1_000_000
"""Cost of one evaluation (resource.k8s.io: CELSelectorExpressionMaxCost)."""
BASE: tuple[Overload, ...] = (
    standard.OVERLOADS + times.OVERLOADS + text.OVERLOADS + collections.OVERLOADS + kubernetes.OVERLOADS
)
"""The functions of Kubernetes' base environment."""


class Program:
    """A compiled expression.

    Attributes:
        source: its text.
        result_type: what the checker says it evaluates to.
        max_cost: the most that an evaluation can cost, `cost.UNBOUNDED` if sizes are unknown.

    """

    def __init__(self, source: str, tree: Node, slots: int, environment: Environment) -> None:
        self.source = source
        self.tree = tree
        self.result_type: Type = tree.type
        self.max_cost = cost.estimate(tree, environment.declared)
        self.cost_limit = environment.cost_limit
        self.work_limit = environment.work_limit
        self.slots = slots
        self._run = build(tree, source, environment.declarations.objects)

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """Return the value.

        Raises:
            EvaluationError: with line and column; CostExceeded if it cost too much.

        """
        return self.measure(bindings)[0]

    def measure(self, bindings: Mapping[str, Any]) -> tuple[Any, int]:
        """Return the value and what it cost; raises as `evaluate` does."""
        frame = Frame(bindings, self.slots, self.cost_limit, self.work_limit)
        return self.run_in(frame), frame.cost

    def run_in(self, frame: Frame) -> Any:
        """Evaluate with the budget of another evaluation; raises as `evaluate` does."""
        try:
            value = self._run(frame)
        except RecursionError:
            raise CostExceeded("operation cancelled: too deeply nested for the stack that is left") from None
        if frame.cost > frame.limit:
            raise exceeded(frame)
        return value


class Environment:
    """Variables, functions and types that expressions may use.

    Args:
        variables: each with its type and, for the cost estimate, its largest size.
        functions: beside those of `BASE`.
        objects: types that `Name{…}` makes, or that a qualified name means.
        cost_limit: of one evaluation.
        work_limit: operators that one evaluation applies at most, a function counting as 20: a cost says little about
            the time that Python takes.
        strict: refuse what Kubernetes refuses beyond the language: literals of mixed types, conversions that must fail.

    """

    def __init__(
        self,
        variables: Mapping[str, Declared],
        *,
        functions: Iterable[Overload] = (),
        objects: Mapping[str, ObjectType] | None = None,
        cost_limit: int = COST_LIMIT,
        work_limit: int = 2**62,
        strict: bool = True,
    ) -> None:
        self.declared = dict(variables)
        self.cost_limit = cost_limit
        self.work_limit = work_limit
        self.declarations = Declarations(
            {name: variable.type for name, variable in variables.items()},
            (*BASE, *functions),
            objects or {},
            strict=strict,
        )

    def compile(self, source: str) -> Program:
        """Compile an expression.

        Raises:
            CompileError: with line, column and what was expected.

        """
        try:
            tree, slots = check(parse(source), source, self.declarations)
            return Program(source, tree, slots, self)
        except RecursionError:
            raise CompileError("expression nests too deeply", "less nesting") from None
