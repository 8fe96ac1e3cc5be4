# SPDX-License-Identifier: Apache-2.0
"""Constraints of the prototype: CEL over one variable `device`, a flat map of attributes.

No constraint, or an empty one, is true. An attribute that a device does not have is an error of that device alone: it
cannot be chosen, and the reason is shown. An expression that cannot be compiled, or costs too much, ends the command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from dynamic_memory.allocation.prototype.errors import ExpressionError
from dynamic_memory.allocation.prototype.types import Value

__all__ = ["Expressions", "HasAnswers", "Program"]

Program = Callable[[Mapping[str, Value]], bool | str]
"""Attributes to the answer, or to the text of an error."""

MAX_EXPRESSION = 10_240
"""Characters of an expression, as in `resource.k8s.io/v1`."""


class HasAnswers(Protocol):
    """A set of attributes; what was found out about it is kept with it."""

    attributes: dict[str, Value]
    answers: dict[str, bool | str]


class Expressions:
    """Compiled expressions, each once."""

    def __init__(self) -> None:
        self._programs: dict[str, Program] = {}

    def matches(self, expression: str | None, kind: HasAnswers, where: str) -> bool | str:
        """Tell whether an expression is true of attributes, or why that cannot be told.

        Args:
            expression: the constraint; None and "" are true.
            kind: the attributes.
            where: whose constraint it is, for errors.

        Raises:
            ExpressionError: it cannot be compiled, or costs too much.

        """
        if not expression:
            return True
        answer = kind.answers.get(expression)
        if answer is None:
            program = self._programs.get(expression)
            if program is None:
                program = self._programs[expression] = _compile(expression, where)
            answer = kind.answers[expression] = program(kind.attributes)
        return answer


def _compile(expression: str, where: str) -> Program:
    if len(expression) > MAX_EXPRESSION:
        raise ExpressionError(
            where, f"an expression has at most {MAX_EXPRESSION} characters, this has {len(expression)}"
        )
    return _interim(expression, where)


# --- interim evaluator


def _interim(expression: str, where: str) -> Program:
    import operator

    from dynamic_memory.cel import ast
    from dynamic_memory.cel.errors import CompileError
    from dynamic_memory.cel.parser import parse
    from dynamic_memory.quantity import Quantity

    try:
        tree = parse(expression)
    except CompileError as error:
        raise ExpressionError(where, str(error)) from error

    class Bad(Exception):
        pass

    ops = {"_<_": operator.lt, "_<=_": operator.le, "_>_": operator.gt, "_>=_": operator.ge}

    def run(node, env):
        if isinstance(node, ast.Literal):
            return node.value
        if isinstance(node, ast.Ident):
            if node.name == "device":
                return env
            raise Bad(f"undeclared reference to '{node.name}'")
        if isinstance(node, ast.Select):
            target = run(node.operand, env)
            if node.field not in target:
                raise Bad(f"no such key: {node.field}")
            return target[node.field]
        if isinstance(node, ast.Has):
            return node.field in run(node.operand, env)
        if isinstance(node, ast.Logic):
            values = [run(o, env) for o in node.operands]
            return all(values) if node.conjunction else any(values)
        if isinstance(node, ast.Call):
            args = [run(a, env) for a in node.args]
            if node.function == "_==_":
                return args[0] == args[1] and type(args[0]) is type(args[1])
            if node.function == "_!=_":
                return args[0] != args[1]
            if node.function in ops:
                if type(args[0]) is not type(args[1]):
                    raise Bad("no such overload")
                return ops[node.function](*args)
            if node.function == "_[_]":
                if args[1] not in args[0]:
                    raise Bad(f"no such key: {args[1]}")
                return args[0][args[1]]
            if node.function == "quantity":
                return Quantity.parse(args[0])
        raise Bad(f"unsupported {node}")

    def program(attributes):
        env = {name: value for name, (_, value) in attributes.items()}
        try:
            answer = run(tree, env)
        except Bad as error:
            return str(error)
        return answer if isinstance(answer, bool) else "not a bool"

    return program
