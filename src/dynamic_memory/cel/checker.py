# SPDX-License-Identifier: Apache-2.0
"""Types: each node gets one, each call its overloads, each name its place, or the expression is refused.

Resolving a call depends on its name and the types of its arguments alone; types are interned, so the answers are
remembered per environment and checking costs little more than walking the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from dynamic_memory.cel import types as t
from dynamic_memory.cel.ast import (
    Bind,
    Call,
    Comprehension,
    Has,
    Ident,
    ListNode,
    Literal,
    Logic,
    MapNode,
    Node,
    ObjectNode,
    OptMap,
    Select,
    Ternary,
)
from dynamic_memory.cel.errors import CompileError, Fault
from dynamic_memory.cel.functions import text
from dynamic_memory.cel.functions.times import parse_duration, parse_timestamp
from dynamic_memory.cel.lexer import place
from dynamic_memory.cel.regex import compile_regex
from dynamic_memory.cel.types import ObjectType, Overload, Type, assignable, join, list_of, map_of, optional_of
from dynamic_memory.cel.values import TypeValue, Uint

__all__ = ["Declarations", "check"]

_LITERALS: dict[type, Type] = {
    bool: t.BOOL, int: t.INT, Uint: t.UINT, float: t.DOUBLE, str: t.STRING, bytes: t.BYTES, type(None): t.NULL,
}  # fmt: skip
_TYPE_NAMES = {
    "bool", "int", "uint", "double", "string", "bytes", "list", "map", "type", "null_type", "optional_type",
    "google.protobuf.Timestamp", "google.protobuf.Duration", "kubernetes.Quantity", "kubernetes.Semver",
    "kubernetes.URL", "net.IP", "net.CIDR", "kubernetes.NamedFormat",
}  # fmt: skip
_FOLDED = frozenset(("int", "uint", "double", "bool"))
_VALIDATED: dict[str, Callable[[str], Any]] = {
    "matches": compile_regex, "find": compile_regex, "findAll": compile_regex,
    "duration": parse_duration, "timestamp": parse_timestamp,
}  # fmt: skip


class Declarations:
    """What an environment lets an expression use: variables, functions, types that it may construct."""

    def __init__(
        self,
        variables: Mapping[str, Type],
        overloads: tuple[Overload, ...],
        objects: Mapping[str, ObjectType],
        *,
        strict: bool = True,
    ) -> None:
        self.strict = strict
        self.variables = dict(variables)
        self.objects = objects
        self.functions: dict[tuple[str, bool], list[Overload]] = {}
        for overload in overloads:
            self.functions.setdefault((overload.function, overload.member), []).append(overload)
        self.namespaces = {name.partition(".")[0] for name, member in self.functions if "." in name and not member}
        self.resolved: dict[tuple[Any, ...], tuple[Type, tuple[Overload, ...]] | None] = {}


def check(tree: Node, source: str, declarations: Declarations) -> tuple[Node, int]:
    """Annotate a tree and return it with the number of places its macros need.

    Raises:
        CompileError: with line, column and what was expected.

    """
    checker = _Checker(source, declarations)
    return checker.visit(tree), checker.slots


class _Checker:
    def __init__(self, source: str, declarations: Declarations) -> None:
        self.source = source
        self.env = declarations
        self.scope: dict[str, tuple[int, Type]] = {}
        self.slots = 0
        self.mixed = not declarations.strict
        self.visitors = {
            Literal: self.literal, Ident: self.ident, Select: self.select, Has: self.has, Call: self.call,
            Logic: self.logic, Ternary: self.ternary, ListNode: self.list_node, MapNode: self.map_node,
            ObjectNode: self.object_node, Comprehension: self.comprehension, Bind: self.bind, OptMap: self.opt_map,
        }  # fmt: skip

    def fail(self, node: Node, message: str, expected: str) -> NoReturn:
        raise CompileError(message, expected, *place(self.source, node.pos))

    def visit(self, node: Node) -> Node:
        found: Any = self.visitors[type(node)]
        result: Node = found(node)
        return result

    def literal(self, node: Literal) -> Node:
        node.type = _LITERALS[type(node.value)]
        return node

    def ident(self, node: Ident) -> Node:
        found = self.scope.get(node.name)
        if found is not None:
            node.slot, node.type = found
            return node
        variable = self.env.variables.get(node.name)
        if variable is not None:
            node.type = variable
            return node
        if node.name in _TYPE_NAMES:
            return self.type_name(node, node.name)
        return self.fail(node, f"undeclared reference to '{node.name}' (in container '')", self.declared())

    def declared(self) -> str:
        return f"one of {', '.join(sorted({*self.scope, *self.env.variables})[:12])}"

    def type_name(self, node: Node, name: str) -> Node:
        literal = Literal(node.pos, TypeValue(name))
        literal.type = t.TYPE
        return literal

    def dotted(self, node: Node) -> str | None:
        parts: list[str] = []
        while type(node) is Select:
            parts.append(node.field)
            node = node.operand
        if type(node) is not Ident or node.name in self.scope or node.name in self.env.variables:
            return None
        return ".".join([node.name, *reversed(parts)])

    def select(self, node: Select) -> Node:
        if not node.optional and (name := self.dotted(node)) in _TYPE_NAMES and name is not None:
            return self.type_name(node, name)
        node.operand = self.visit(node.operand)
        operand = node.operand.type
        through = operand.kind == "optional"
        field = self.field(node, operand.params[0] if through else operand, node.field)
        node.type = optional_of(field) if (through or node.optional) and field.kind != "optional" else field
        return node

    def field(self, node: Node, operand: Type, name: str) -> Type:
        if operand.kind == "dyn":
            return t.DYN
        if operand.kind == "map":
            if operand.params[0].kind not in ("string", "dyn"):
                self.fail(node, f"type '{operand}' does not support field selection", "a map with string keys")
            return operand.params[1]
        if isinstance(operand, ObjectType):
            if operand.fields is None:
                return t.DYN
            field = operand.fields.get(name)
            if field is None:
                self.fail(node, f"undefined field '{name}'", f"one of {', '.join(sorted(operand.fields)[:20])}")
            return field
        return self.fail(node, f"type '{operand}' does not support field selection", "an object or a map")

    def has(self, node: Has) -> Node:
        node.operand = self.visit(node.operand)
        operand = node.operand.type
        self.field(node, operand.params[0] if operand.kind == "optional" else operand, node.field)
        node.type = t.BOOL
        return node

    def call(self, node: Call) -> Node:  # noqa: C901, PLR0912 - the hot path of checking stays in one frame
        env = self.env
        if node.member:
            name = self.dotted(node.args[0]) if env.namespaces else None
            if name is not None and (f"{name}.{node.function}", False) in env.functions:
                node.function = f"{name}.{node.function}"
                node.member = False
                del node.args[0]
        args = node.args
        if node.function == "format" and node.member:
            self.mixed, outer = True, self.mixed
            args[:] = [self.visit(arg) for arg in args]
            self.mixed = outer
            self.format_literal(node)
        for at, arg in enumerate(args):
            if type(arg) is ListNode and node.function == "format":
                continue
            if type(arg) is Literal:
                arg.type = _LITERALS[type(arg.value)]
            else:
                args[at] = self.visit(arg)
        key = (node.function, node.member, *[arg.type for arg in args])
        if key in env.resolved:
            found = env.resolved[key]
        else:
            found = env.resolved[key] = self.resolve(node)
        if found is None:
            self.no_overload(node)
        node.type, node.overloads = found
        if node.function in _VALIDATED and type(args[-1]) is Literal and type(args[-1].value) is str:
            try:
                _VALIDATED[node.function](args[-1].value)
            except Fault as fault:
                self.fail(
                    args[-1], f"invalid {node.function} argument: {fault}", f"a literal that {node.function} takes"
                )
        if env.strict and node.function in _FOLDED and type(args[0]) is Literal:
            try:
                node.overloads[0].call(args[0].value)
            except Fault as fault:
                self.fail(args[0], f"program instantiation failed: {fault}", f"a literal that {node.function} takes")
        return node

    def format_literal(self, node: Call) -> None:
        """Refuse what a literal template and literal arguments show to fail."""
        template, arguments = node.args[0], node.args[-1]
        if type(template) is not Literal or type(arguments) is not ListNode:
            return
        if type(template.value) is str and all(type(element) is Literal for element in arguments.elements):
            values = [element.value for element in arguments.elements if type(element) is Literal]
            try:
                text.format_text(template.value, values)
            except Fault as fault:
                self.fail(template, str(fault), "a verb that suits each argument")

    def resolve(self, node: Call) -> tuple[Type, tuple[Overload, ...]] | None:
        given = [arg.type for arg in node.args]
        result: Type | None = None
        fitting: list[Overload] = []
        for overload in self.env.functions.get((node.function, node.member), ()):
            if len(overload.params) != len(given):
                continue
            bound: dict[str, Type] = {}
            if all(_bind(want, have, bound) for want, have in zip(overload.params, given, strict=True)):
                fitting.append(overload)
                made = _substitute(overload.result, bound)
                result = made if result is None else join(result, made) or t.DYN
        return None if result is None else (result, tuple(fitting))

    def no_overload(self, node: Call) -> NoReturn:
        shown = [str(arg.type) for arg in node.args]
        candidates = self.env.functions.get((node.function, node.member), [])
        if not candidates:
            self.fail(node, f"undeclared reference to '{node.function}' (in container '')", "a declared function")
        applied = f"{shown[0]}.({', '.join(shown[1:])})" if node.member else f"({', '.join(shown)})"
        wanted = " or ".join(dict.fromkeys(f"({', '.join(map(str, o.params))})" for o in candidates[:8]))
        self.fail(node, f"found no matching overload for '{node.function}' applied to '{applied}'", wanted)

    def expect(self, node: Node, wanted: Type) -> None:
        if not assignable(wanted, node.type):
            self.fail(node, f"expected type '{wanted}' but found '{node.type}'", str(wanted))

    def logic(self, node: Logic) -> Node:
        for at, operand in enumerate(node.operands):
            checked = node.operands[at] = self.visit(operand)
            if not assignable(t.BOOL, checked.type):
                name = "_&&_" if node.conjunction else "_||_"
                self.fail(checked, f"found no matching overload for '{name}' applied to '{checked.type}'", "bool")
        node.type = t.BOOL
        return node

    def ternary(self, node: Ternary) -> Node:
        node.condition = self.visit(node.condition)
        self.expect(node.condition, t.BOOL)
        node.then, node.otherwise = self.visit(node.then), self.visit(node.otherwise)
        joined = join(node.then.type, node.otherwise.type)
        if joined is None:
            shown = f"(bool, {node.then.type}, {node.otherwise.type})"
            self.fail(node, f"found no matching overload for '_?_:_' applied to '{shown}'", str(node.then.type))
        node.type = joined
        return node

    def aggregate(self, node: Node, seen: Type | None) -> Type:
        if seen is None or seen is node.type:
            return node.type
        joined = join(seen, node.type)
        if joined is None and self.mixed:
            return t.DYN
        if joined is None:
            self.fail(node, f"expected type '{seen}' but found '{node.type}'", str(seen))
        return joined

    def list_node(self, node: ListNode) -> Node:
        element: Type | None = None
        for at, item in enumerate(node.elements):
            checked = node.elements[at] = self.visit(item)
            if at in node.optional:
                if checked.type.kind not in ("optional", "dyn"):
                    self.fail(checked, f"expected type 'optional_type' but found '{checked.type}'", "an optional")
                inner = Literal(checked.pos, None)
                inner.type = checked.type.params[0] if checked.type.params else t.DYN
                element = self.aggregate(inner, element)
            else:
                element = self.aggregate(checked, element)
        node.type = list_of(element or t.DYN)
        return node

    def map_node(self, node: MapNode) -> Node:
        keys: Type | None = None
        values: Type | None = None
        for at, (key, value, optional) in enumerate(node.entries):
            key, value = self.visit(key), self.visit(value)  # noqa: PLW2901 - checked in place
            if key.type.kind not in ("bool", "int", "uint", "string", "dyn"):
                self.fail(key, f"unsupported key type '{key.type}'", "bool, int, uint or string")
            node.entries[at] = key, value, optional
            keys = self.aggregate(key, keys)
            if optional:
                if value.type.kind not in ("optional", "dyn"):
                    self.fail(value, f"expected type 'optional_type' but found '{value.type}'", "an optional")
                inner = Literal(value.pos, None)
                inner.type = value.type.params[0] if value.type.params else t.DYN
                values = self.aggregate(inner, values)
            else:
                values = self.aggregate(value, values)
        node.type = map_of(keys or t.DYN, values or t.DYN)
        return node

    def object_node(self, node: ObjectNode) -> Node:
        made = self.env.objects.get(node.name)
        if made is None or not made.constructible:
            self.fail(node, f"undeclared reference to '{node.name}' (in container '')", "a type that can be made here")
        for at, (pos, name, value, optional) in enumerate(node.fields):
            checked = self.visit(value)
            node.fields[at] = pos, name, checked, optional
            where = Literal(pos, None)
            wanted = self.field(where, made, name)
            given = checked.type
            if optional and given.kind == "optional":
                given = given.params[0]
            if not assignable(wanted, given):
                self.fail(
                    where, f"expected type of field '{name}' is '{wanted}' but provided type is '{given}'", str(wanted)
                )
        node.type = made
        return node

    def declare(self, name: str, type_: Type) -> tuple[int, tuple[int, Type] | None]:
        slot, previous = self.slots, self.scope.get(name)
        self.slots += 1
        self.scope[name] = slot, type_
        return slot, previous

    def restore(self, name: str, previous: tuple[int, Type] | None) -> None:
        if previous is None:
            del self.scope[name]
        else:
            self.scope[name] = previous

    def comprehension(self, node: Comprehension) -> Node:
        node.range = self.visit(node.range)
        over = node.range.type
        if over.kind not in ("list", "map", "dyn") or over is t.ANY:
            problem = f"expression of type '{over}' cannot be range of a comprehension (must be list, map, or dynamic)"
            self.fail(node.range, problem, "a list or map")
        first = over.params[0] if over.params else t.DYN
        second = over.params[-1] if over.params else t.DYN
        if len(node.names) > 1 and over.kind == "list":
            first = t.INT
        declared = [(name, *self.declare(name, kind)) for name, kind in zip(node.names, (first, second), strict=False)]
        node.slots = tuple(slot for _, slot, _ in declared)
        if node.condition is not None:
            node.condition = self.visit(node.condition)
            self.expect(node.condition, t.BOOL)
        node.body = self.visit(node.body)
        for name, _, previous in reversed(declared):
            self.restore(name, previous)
        node.type = self.comprehension_type(node, first)
        return node

    def comprehension_type(self, node: Comprehension, first: Type) -> Type:
        if node.kind in ("map", "transformList"):
            return list_of(node.body.type)
        if node.kind == "transformMap":
            return map_of(first, node.body.type)
        if node.kind == "transformMapEntry":
            if node.body.type.kind not in ("map", "dyn"):
                self.fail(node.body, f"expected a map entry but found '{node.body.type}'", "a map with one entry")
            return node.body.type if node.body.type.kind == "map" else map_of(t.DYN, t.DYN)
        self.expect(node.body, t.BOOL)
        if node.kind == "filter":
            return list_of(first)
        return t.BOOL

    def bind(self, node: Bind) -> Node:
        node.value = self.visit(node.value)
        node.slot, previous = self.declare(node.name, node.value.type)
        node.body = self.visit(node.body)
        self.restore(node.name, previous)
        node.type = node.body.type
        return node

    def opt_map(self, node: OptMap) -> Node:
        node.target = self.visit(node.target)
        target = node.target.type
        if target.kind not in ("optional", "dyn"):
            self.fail(node.target, f"expected type 'optional_type' but found '{target}'", "an optional")
        node.slot, previous = self.declare(node.name, target.params[0] if target.params else t.DYN)
        node.body = self.visit(node.body)
        self.restore(node.name, previous)
        if node.flat and node.body.type.kind not in ("optional", "dyn"):
            self.fail(node.body, f"expected type 'optional_type' but found '{node.body.type}'", "an optional")
        node.type = node.body.type if node.flat else optional_of(node.body.type)
        return node


def _bind(want: Type, have: Type, bound: dict[str, Type]) -> bool:
    if want.kind == "param":
        seen = bound.get(want.name)
        joined = have if seen is None else _merge(seen, have)
        if joined is None:
            return False
        bound[want.name] = joined
        return True
    if want is have or want.kind == "dyn":
        return True
    if have.kind == "dyn":
        _bind_dyn(want, bound)
        return True
    if want.kind != have.kind or not want.params:
        return assignable(want, have)
    return all(_bind(a, b, bound) for a, b in zip(want.params, have.params, strict=True))


def _bind_dyn(want: Type, bound: dict[str, Type]) -> None:
    for param in want.params:
        if param.kind == "param":
            bound.setdefault(param.name, t.DYN)
        else:
            _bind_dyn(param, bound)


def _merge(one: Type, other: Type) -> Type | None:
    """Join, but let an empty literal take the type of what stands beside it."""
    if one.kind == "dyn":
        return other
    return one if other.kind == "dyn" else join(one, other)


def _substitute(made: Type, bound: Mapping[str, Type]) -> Type:
    if made.kind == "param":
        return bound.get(made.name, t.DYN)
    if not made.params:
        return made
    params = [_substitute(param, bound) for param in made.params]
    if made.kind == "list":
        return list_of(*params)
    return map_of(*params) if made.kind == "map" else optional_of(*params)
