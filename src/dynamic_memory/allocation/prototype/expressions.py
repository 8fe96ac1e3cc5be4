# SPDX-License-Identifier: Apache-2.0
"""Constraints of the prototype: CEL over one variable `device`, a flat map of attributes.

No constraint, or an empty one, is true. An attribute that a device does not have is an error of that device alone: it
cannot be chosen, and the reason is shown. An expression that cannot be compiled, or costs too much, ends the command.

CEL says that values of different types are not equal, so `device.bandwidth == '1G'` would be false, and `!=` true,
for every quantity there is. People mean the amount, and `>=` compares it; so where an attribute is a quantity, a text
that it is compared with for equality is read as one too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from dynamic_memory.allocation.prototype.errors import ExpressionError
from dynamic_memory.allocation.prototype.types import Value
from dynamic_memory.cel import ast
from dynamic_memory.cel.checker import check
from dynamic_memory.cel.environment import Program as Compiled
from dynamic_memory.cel.environments.prototype import Constraint, compile_constraint, prototype_environment
from dynamic_memory.cel.errors import CompileError, CostExceeded, EvaluationError
from dynamic_memory.cel.parser import parse

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
        problem = f"an expression has at most {MAX_EXPRESSION} characters, this has {len(expression)}"
        raise ExpressionError(where, problem)
    try:
        constraint = compile_constraint(expression)
        compared = set(_compared(parse(expression)))
    except CompileError as error:
        raise ExpressionError(where, str(error)) from error
    variants: dict[frozenset[str], Constraint] = {frozenset(): constraint}

    def program(attributes: Mapping[str, Value]) -> bool | str:
        amounts = frozenset(name for name in compared if name in attributes and attributes[name][0] == "quantity")
        variant = variants.get(amounts)
        if variant is None:
            variant = variants[amounts] = _with_amounts(expression, amounts)
        try:
            return variant.holds({name: value for name, (_, value) in attributes.items()})
        except CostExceeded as error:
            raise ExpressionError(where, error.message) from error
        except EvaluationError as error:
            return error.message

    return program


_EQUALITY = {"_==_", "_!=_", "@in"}


def _attribute(node: ast.Node) -> str | None:
    """Return the name of the attribute that a node reads: `device.x` or `device['x']`."""
    match node:
        case ast.Select(operand=ast.Ident(name="device"), field=str() as name):
            return name
        case ast.Call(function="_[_]", args=[ast.Ident(name="device"), ast.Literal(value=str() as name)]):
            return name
    return None


def _children(node: ast.Node) -> Iterator[ast.Node]:
    for kind in type(node).__mro__:
        for slot in getattr(kind, "__slots__", ()):
            yield from _nodes(getattr(node, slot, None))


def _nodes(value: object) -> Iterator[ast.Node]:
    if isinstance(value, ast.Node):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _nodes(item)


def _equalities(tree: ast.Node) -> Iterator[tuple[str, ast.Call, int]]:
    """Yield comparisons of an attribute for equality: its name, the node, and the place of the other operand."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        waiting.extend(_children(node))
        if isinstance(node, ast.Call) and node.function in _EQUALITY:
            for place, other in ((0, 1), (1, 0)):
                name = _attribute(node.args[place])
                if name is not None and not (node.function == "@in" and place == 1):
                    yield name, node, other


def _compared(tree: ast.Node) -> Iterator[str]:
    for name, _, _ in _equalities(tree):
        yield name


def _with_amounts(expression: str, amounts: frozenset[str]) -> Constraint:
    """Compile an expression with texts beside these attributes read as quantities."""
    tree = parse(expression)
    for name, node, other in list(_equalities(tree)):
        if name in amounts:
            node.args[other] = _read(node.args[other])
    environment = prototype_environment()
    checked, slots = check(tree, expression, environment.declarations)
    return Constraint(Compiled(expression, checked, slots, environment))


def _read(node: ast.Node) -> ast.Node:
    if isinstance(node, ast.Literal) and isinstance(node.value, str):
        return ast.Call(node.pos, "quantity", [node])
    if isinstance(node, ast.ListNode):
        return ast.ListNode(node.pos, [_read(element) for element in node.elements], node.optional)
    return node
