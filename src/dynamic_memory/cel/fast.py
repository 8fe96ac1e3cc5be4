# SPDX-License-Identifier: Apache-2.0
"""A checked tree to Python source, for expressions that are evaluated millions of times.

The generated function computes what the interpreter would if nothing goes wrong, without counting costs: so it exists
only for expressions whose estimated cost is within the limit. Whatever goes wrong raises, and then the interpreter
decides: it absorbs errors as `&&` and `||` must, and says where what went wrong. No text of the expression gets into
the source: names are made here, constants are arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynamic_memory.cel.ast import (
    Bind,
    Call,
    Comprehension,
    Has,
    Ident,
    ListNode,
    Literal,
    Logic,
    Node,
    Select,
    Ternary,
)
from dynamic_memory.cel.environment import Program
from dynamic_memory.cel.errors import Fault
from dynamic_memory.cel.functions.standard import is_in
from dynamic_memory.cel.types import ObjectType
from dynamic_memory.cel.values import equal, has_type, items_of, kind_of
from dynamic_memory.quantity import Quantity

__all__ = ["compile_fast"]

CHEAP = 10_000
"""Estimated cost up to which loops may call functions without anybody counting."""
MAX_NODES = 400
MAX_NESTING = 60
_COMPARISONS = {"_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">=", "_==_": "==", "_!=_": "!="}
_DIRECT = {"int", "uint", "string", "bytes", "double", "duration"}
_FOLDED = {"quantity", "semver", "duration", "timestamp", "ip", "cidr", "url"}
_TYPE_TEST = {int: "int", str: "str", bool: "bool"}


class _Unsupported(Exception):
    """The interpreter must do this expression."""


def _boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise Fault("no such overload")


def _iterate(value: Any) -> Any:
    return value if kind_of(value) == "list" else [key for key, _ in items_of(value)]


def _one(flags: Any) -> bool:
    return int(sum(flags)) == 1


def compile_fast(program: Program, variable: str, fallback: Callable[[Any], bool]) -> Callable[[Any], bool] | None:
    """Return a function of the variable's value, or None if the expression does not suit; raises what fallback does."""
    if program.max_cost > program.cost_limit:
        return None
    writer = _Writer(variable, cheap=program.max_cost <= CHEAP)
    try:
        body = writer.truth(program.tree) if program.result_type.kind == "bool" else writer.write(program.tree)
    except _Unsupported:
        return None
    names = ", ".join(writer.constants)
    source = (
        f"def make({names}{', ' if names else ''}fallback, boolean, equal, iterate, one):\n"
        "    def evaluate(v):\n"
        "        try:\n"
        f"            result = {body}\n"
        "            if result is True or result is False:\n"
        "                return result\n"
        "        except Exception:\n"
        "            pass\n"
        "        return fallback(v)\n"
        "    return evaluate\n"
    )
    space: dict[str, Any] = {}
    try:
        exec(compile(source, "<cel>", "exec"), space)  # noqa: S102 - made of names and operators of this module alone
    except (SyntaxError, MemoryError, RecursionError):
        return None
    made: Callable[[Any], bool] = space["make"](*writer.constants.values(), fallback, _boolean, equal, _iterate, _one)
    return made


class _Writer:
    def __init__(self, variable: str, *, cheap: bool) -> None:
        self.cheap = cheap
        self.variable = variable
        self.constants: dict[str, Any] = {}
        self.nodes = 0
        self.depth = 0
        self.temporaries = 0
        self.nested = 0

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def write(self, node: Node) -> str:
        self.nodes += 1
        self.depth += 1
        if self.nodes > MAX_NODES or self.depth > MAX_NESTING:
            raise _Unsupported
        writer = _WRITERS.get(type(node))
        if writer is None:
            raise _Unsupported
        text: str = writer(self, node)
        self.depth -= 1
        return text

    def truth(self, node: Node) -> str:
        text = self.write(node)
        return text if node.type.kind == "bool" else f"boolean({text})"

    def literal(self, node: Literal) -> str:
        if node.value is True or node.value is False:
            return str(node.value)
        return self.constant(node.value)

    def ident(self, node: Ident) -> str:
        if node.slot >= 0:
            return f"s{node.slot}"
        if node.name != self.variable:
            raise _Unsupported
        return "v"

    def select(self, node: Select) -> str:
        operand = node.operand.type
        if node.optional or operand.kind not in ("object", "map"):
            raise _Unsupported
        text = self.write(node.operand)
        if isinstance(operand, ObjectType):
            attribute = (operand.attributes or {}).get(node.field)
            if attribute is None or not attribute.isidentifier():
                raise _Unsupported
            return f"{text}.{attribute}"
        return f"{text}[{self.constant(node.field)}]"

    def has(self, node: Has) -> str:
        # In a map of domains every domain is "there"; below it, a name is there or not.
        if node.operand.type.kind != "map" or type(node.operand) is Select:
            raise _Unsupported
        return f"({self.constant(node.field)} in {self.write(node.operand)})"

    def logic(self, node: Logic) -> str:
        return f"({(' and ' if node.conjunction else ' or ').join(self.truth(operand) for operand in node.operands)})"

    def ternary(self, node: Ternary) -> str:
        return f"({self.write(node.then)} if {self.truth(node.condition)} else {self.write(node.otherwise)})"

    def list_node(self, node: ListNode) -> str:
        if node.optional:
            raise _Unsupported
        if node.elements and all(type(element) is Literal for element in node.elements):
            return self.constant(tuple(element.value for element in node.elements if type(element) is Literal))
        return f"[{', '.join(self.write(element) for element in node.elements)}]"

    def call(self, node: Call) -> str:  # noqa: PLR0911 - a table of cases
        name, args = node.function, node.args
        if name in _FOLDED and len(args) == 1 and type(args[0]) is Literal and len(node.overloads) == 1:
            try:
                return self.constant(node.overloads[0].call(args[0].value))
            except Fault:
                raise _Unsupported from None
        if name in _COMPARISONS:
            return self.comparison(node, _COMPARISONS[name])
        if name == "!_":
            return f"(not {self.truth(args[0])})"
        if name == "_[_]" and args[0].type.kind == "map" and args[1].type.kind == "string":
            return f"{self.write(args[0])}[{self.write(args[1])}]"
        if name == "@in" and args[1].type.kind == "list" and _constant_list(args[1]):
            return self.membership(args[0], args[1])
        if name == "@in" and args[1].type.kind == "map" and args[0].type.kind == "string":
            return f"({self.write(args[0])} in {self.write(args[1])})"
        return self.invoke(node)

    def membership(self, value: Node, container: Node) -> str:
        """Look up a text in the set of constants, and let the library look for anything else."""
        values = frozenset(element.value for element in container.elements)  # type: ignore[attr-defined] # it is a list of literals
        kinds = {type(element) for element in values}
        if kinds != {str} or value.type.kind not in ("string", "dyn"):
            raise _Unsupported
        text = self.write(value)
        self.temporaries += 1
        temporary = f"t{self.temporaries}"
        if value.type.kind == "string":
            return f"({text} in {self.constant(values)})"
        if self.nested:
            raise _Unsupported
        rest = f"{self.constant(is_in)}({temporary}, {self.constant(tuple(values))})"
        return f"({temporary} in {self.constant(values)} if type({temporary} := {text}) is str else {rest})"

    def invoke(self, node: Call) -> str:
        if len(node.overloads) != 1 or node.function == "dyn" or (self.nested and not self.cheap):
            raise _Unsupported
        overload = node.overloads[0]
        values = []
        for param, arg in zip(overload.params, node.args, strict=True):
            text = self.write(arg)
            if arg.type.kind == "dyn" and param.kind not in ("dyn", "param"):
                text = f"{self.constant(_caster(param.kind))}({text})"
            values.append(text)
        return f"{self.constant(overload.call)}({', '.join(values)})"

    def comparison(self, node: Call, operator: str) -> str:
        left, right = node.args
        fused = self.quantities(left, right, operator)
        if fused is not None:
            return fused
        kinds = left.type.kind, right.type.kind
        if kinds[0] == kinds[1] and (
            kinds[0] in _DIRECT or (kinds[0] in ("bool", "quantity", "semver") and operator in ("==", "!="))
        ):
            return f"({self.write(left)} {operator} {self.write(right)})"
        if kinds[0] == "dyn" and type(right) is Literal and type(right.value) in _TYPE_TEST and not self.nested:
            return self.dynamic(left, right.value, operator)
        if operator in ("==", "!="):
            return f"({'not ' if operator == '!=' else ''}equal({self.write(left)}, {self.write(right)}))"
        raise _Unsupported

    def dynamic(self, left: Node, value: Any, operator: str) -> str:
        """Compare a value of unknown type with a constant: directly if it has the constant's type."""
        self.temporaries += 1
        temporary = f"t{self.temporaries}"
        text, constant = self.write(left), self.literal(Literal(0, value))
        test = f"type({temporary} := {text}) is {_TYPE_TEST[type(value)]}"
        direct = f"{temporary} {operator} {constant}"
        if operator in ("==", "!="):
            negated = "not " if operator == "!=" else ""
            return f"({direct} if {test} else {negated}equal({temporary}, {constant}))"
        if type(value) is bool:
            raise _Unsupported
        return f"({direct} if {test} else {self.constant(_refuse)}())"

    def quantities(self, left: Node, right: Node, operator: str) -> str | None:
        """Write `a.compareTo(b) >= 0` of two quantities as a comparison of their billionths."""
        if type(left) is not Call or left.function != "compareTo" or type(right) is not Literal or right.value != 0:
            return None
        one, other = left.args
        if type(right.value) is not int or one.type.kind != "quantity" or other.type.kind != "quantity":
            return None
        return f"({self.nanos(one)} {operator} {self.nanos(other)})"

    def nanos(self, node: Node) -> str:
        text = self.write(node)
        value = self.constants.get(text)
        if type(value) is Quantity:
            self.constants[text] = value.nanos
            return text
        return f"{text}._nanos"

    def comprehension(self, node: Comprehension) -> str:
        if len(node.slots) != 1 or node.kind not in ("all", "exists", "exists_one", "filter", "map"):
            raise _Unsupported
        over = f"iterate({self.write(node.range)})"
        self.nested += 1
        name = f"s{node.slots[0]}"
        made = self.write(node.body) if node.kind == "map" else self.truth(node.body)
        kept = f" if {self.truth(node.condition)}" if node.condition is not None else ""
        self.nested -= 1
        if node.kind == "map":
            return f"[{made} for {name} in {over}{kept}]"
        if node.kind == "filter":
            return f"[{name} for {name} in {over} if {made}]"
        check = {"all": "all", "exists": "any", "exists_one": "one"}[node.kind]
        return f"{check}({made} for {name} in {over})"

    def bind(self, node: Bind) -> str:
        value = self.write(node.value)
        self.nested += 1
        body = self.write(node.body)
        self.nested -= 1
        return f"(lambda s{node.slot}: {body})({value})"


def _refuse() -> bool:
    raise Fault("the interpreter compares this")


def _constant_list(node: Node) -> bool:
    return type(node) is ListNode and bool(node.elements) and all(type(element) is Literal for element in node.elements)


def _caster(kind: str) -> Callable[[Any], Any]:
    def cast(value: Any) -> Any:
        if has_type(kind, value):
            return value
        raise Fault("no such overload")

    return cast


_WRITERS: dict[type[Node], Any] = {
    Literal: _Writer.literal,
    Ident: _Writer.ident,
    Select: _Writer.select,
    Has: _Writer.has,
    Call: _Writer.call,
    Logic: _Writer.logic,
    Ternary: _Writer.ternary,
    ListNode: _Writer.list_node,
    Comprehension: _Writer.comprehension,
    Bind: _Writer.bind,
}
