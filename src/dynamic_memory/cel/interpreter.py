# SPDX-License-Identifier: Apache-2.0
"""A checked tree to Python closures: exact in errors and costs, whatever the types.

Each closure takes the frame of one evaluation. `&&` and `||` absorb errors of the other side; the cost counts as
cel-go's does, and exceeding its limit ends everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    MapNode,
    Node,
    ObjectNode,
    OptMap,
    Select,
    Ternary,
)
from dynamic_memory.cel.cost import CREATE_LIST, CREATE_MAP, CREATE_OBJECT, actual_cost
from dynamic_memory.cel.errors import CostExceeded, EvaluationError, Fault
from dynamic_memory.cel.lexer import place
from dynamic_memory.cel.types import ObjectType, Overload
from dynamic_memory.cel.values import NONE, ObjectValue, Optional, has_type, items_of, kind_of, make_key

__all__ = ["Frame", "build"]

NO_OVERLOAD = "no such overload"
FUNCTION_WORK = 20
"""What calling a function counts for in the work of an evaluation; an operator and a turn of a loop count 1."""
ERROR_WORK = 10
"""What an error counts for that evaluation goes on after."""


class Frame:
    """One evaluation: what the variables hold, what the macros' variables hold, what it has cost."""

    __slots__ = ("bindings", "cost", "limit", "slots", "work")

    def __init__(self, bindings: Mapping[str, Any], slots: int, limit: int, work: int) -> None:
        self.work = work
        self.bindings = bindings
        self.slots: list[Any] = [None] * slots
        self.cost = 0
        self.limit = limit


Run = Callable[[Frame], Any]


def build(tree: Node, source: str, objects: Mapping[str, ObjectType]) -> Run:
    """Return the closure of a checked tree; it raises EvaluationError."""
    return _Builder(source, objects).make(tree)


def exceeded(frame: Frame) -> CostExceeded:
    """Return the error of an evaluation that cost too much."""
    return CostExceeded(f"operation cancelled: actual cost limit exceeded ({frame.limit})")


class _Builder:
    def __init__(self, source: str, objects: Mapping[str, ObjectType]) -> None:
        self.source = source
        self.objects = objects
        self.makers = {
            Literal: self.literal, Ident: self.ident, Select: self.select, Has: self.has, Call: self.call,
            Logic: self.logic, Ternary: self.ternary, ListNode: self.list_node, MapNode: self.map_node,
            ObjectNode: self.object_node, Comprehension: self.comprehension, Bind: self.bind, OptMap: self.opt_map,
        }  # fmt: skip

    def make(self, node: Node) -> Run:
        found: Any = self.makers[type(node)]
        result: Run = found(node)
        return result

    def error(self, node: Node, message: str) -> EvaluationError:
        return EvaluationError(message, *place(self.source, node.pos))

    def literal(self, node: Literal) -> Run:
        value = node.value
        return lambda _: value

    def ident(self, node: Ident) -> Run:
        slot, name = node.slot, node.name
        if slot >= 0:

            def local(frame: Frame) -> Any:
                frame.cost += 1
                value = frame.slots[slot]
                if type(value) is _Lazy:
                    value = frame.slots[slot] = value.run(frame)
                return value

            return local

        def variable(frame: Frame) -> Any:
            frame.cost += 1
            try:
                return frame.bindings[name]
            except KeyError:
                raise self.error(node, f"no such attribute(s): {name}") from None

        return variable

    def lookup(self, node: Select | Has, value: Any) -> Optional:
        """Find a field, as an optional."""
        if type(value) is Optional:
            return self.lookup(node, value.value) if value.present else NONE
        attributes = getattr(value, "cel_fields", None)
        if attributes is not None:
            name = attributes.get(node.field)
            return NONE if name is None else Optional(getattr(value, name))
        if not isinstance(value, Mapping):
            raise self.error(node, f"{NO_OVERLOAD}: no field {node.field!r} in {kind_of(value)}")
        try:
            return Optional(value[node.field])
        except KeyError:
            return NONE

    def select(self, node: Select) -> Run:
        operand, field = self.make(node.operand), node.field
        counted = int(node.operand.type.kind in ("map", "object", "dyn"))
        as_optional = node.optional

        def run(frame: Frame) -> Any:
            value = operand(frame)
            frame.cost += counted
            if type(value) is dict and not as_optional:
                try:
                    return value[field]
                except KeyError:
                    raise self.error(node, f"no such key: {field}") from None
            found = self.lookup(node, value)
            if as_optional or type(value) is Optional:
                return found.value if found.present and type(found.value) is Optional else found
            if not found.present:
                raise self.error(node, f"no such key: {field}")
            return found.value

        return run

    def has(self, node: Has) -> Run:
        operand = self.make(node.operand)
        return lambda frame: self.lookup(node, operand(frame)).present

    def call(self, node: Call) -> Run:  # noqa: C901 - one closure per shape of call
        function = _dispatcher(node.overloads, [arg.type.kind for arg in node.args])
        args = [self.make(arg) for arg in node.args]
        cost = actual_cost(node.overloads)
        fixed = cost if isinstance(cost, int) else 0
        weight = 1 if node.function[0] in "_@!-" else FUNCTION_WORK

        def fail(fault: Exception) -> EvaluationError:
            return self.error(node, str(fault))

        if fixed and len(args) == 2:  # noqa: PLR2004 - binary operators
            left, right = args

            def binary(frame: Frame) -> Any:
                a, b = left(frame), right(frame)
                frame.cost += fixed
                frame.work -= weight
                if frame.work < 0:
                    raise exceeded(frame)
                try:
                    return function(a, b)
                except Fault as fault:
                    raise fail(fault) from None

            return binary

        def run(frame: Frame) -> Any:
            values = [arg(frame) for arg in args]
            frame.work -= weight
            if frame.work < 0:
                raise exceeded(frame)
            if fixed:
                frame.cost += fixed
            else:
                frame.cost += cost(values)  # type: ignore[operator] # it is no int here
                if frame.cost > frame.limit:
                    raise exceeded(frame)
            try:
                return function(*values)
            except Fault as fault:
                raise fail(fault) from None

        return run

    def logic(self, node: Logic) -> Run:
        operands = [(operand, self.make(operand)) for operand in node.operands]
        decisive = not node.conjunction

        def run(frame: Frame) -> bool:
            error: EvaluationError | None = None
            for operand, evaluate in operands:
                try:
                    value = evaluate(frame)
                except CostExceeded:
                    raise
                except EvaluationError as failure:
                    frame.work -= ERROR_WORK
                    error = error or failure
                    continue
                if value is decisive:
                    return bool(value)
                if type(value) is not bool:
                    error = error or self.error(operand, f"{NO_OVERLOAD}: got '{kind_of(value)}', expected bool")
            if error is not None:
                raise error
            return not decisive

        return run

    def ternary(self, node: Ternary) -> Run:
        condition, then, otherwise = self.make(node.condition), self.make(node.then), self.make(node.otherwise)

        def run(frame: Frame) -> Any:
            value = condition(frame)
            if value is True:
                return then(frame)
            if value is False:
                return otherwise(frame)
            raise self.error(node.condition, f"{NO_OVERLOAD}: got '{kind_of(value)}', expected bool")

        return run

    def list_node(self, node: ListNode) -> Run:
        elements = [self.make(element) for element in node.elements]
        optional = node.optional
        if all(type(element) is Literal for element in node.elements):
            constant = tuple(element.value for element in node.elements if type(element) is Literal)
            return lambda _: constant  # cel-go makes it once, so it costs nothing here

        def run(frame: Frame) -> Any:
            frame.cost += CREATE_LIST
            if not optional:
                return [element(frame) for element in elements]
            result = []
            for at, element in enumerate(elements):
                value = element(frame)
                if at not in optional:
                    result.append(value)
                elif type(value) is not Optional:
                    raise self.error(node.elements[at], f"{NO_OVERLOAD}: expected an optional")
                elif value.present:
                    result.append(value.value)
            return result

        return run

    def map_node(self, node: MapNode) -> Run:
        entries = [(self.make(key), self.make(value), optional) for key, value, optional in node.entries]

        def run(frame: Frame) -> Any:
            frame.cost += CREATE_MAP
            result: dict[Any, Any] = {}
            for key, value, optional in entries:
                made = value(frame)
                try:
                    name = make_key(key(frame))
                except Fault as fault:
                    raise self.error(node, str(fault)) from None
                if name in result:
                    raise self.error(node, f"Failed with repeated key: {name}")
                if not optional:
                    result[name] = made
                elif made.present:
                    result[name] = made.value
            return result

        return run

    def object_node(self, node: ObjectNode) -> Run:
        fields = [(name, self.make(value), optional) for _, name, value, optional in node.fields]
        type_name = node.name

        def run(frame: Frame) -> Any:
            frame.cost += CREATE_OBJECT
            result: dict[str, Any] = {}
            for name, value, optional in fields:
                made = value(frame)
                if not optional:
                    result[name] = made
                elif made.present:
                    result[name] = made.value
            return ObjectValue(type_name, result)

        return run

    def comprehension(self, node: Comprehension) -> Run:
        over, body = self.make(node.range), self.make(node.body)
        condition = self.make(node.condition) if node.condition is not None else None
        finish = {
            "all": self.quantifier, "exists": self.quantifier, "exists_one": self.exists_one, "filter": self.filter,
            "map": self.transform, "transformList": self.transform, "transformMap": self.transform_map,
            "transformMapEntry": self.transform_map,
        }[node.kind](node, body, condition)  # fmt: skip
        slots = node.slots
        if node.kind in ("all", "exists") and len(slots) == 1:
            return self.simple_quantifier(node, over, body)

        def each(frame: Frame) -> Any:
            value = over(frame)
            try:
                items = items_of(value)
            except Fault as fault:
                raise self.error(node.range, str(fault)) from None
            is_list = kind_of(value) == "list"
            for key, item in items:
                frame.work -= 1
                if frame.cost > frame.limit or frame.work < 0:
                    raise exceeded(frame)
                if len(slots) > 1:
                    frame.slots[slots[0]], frame.slots[slots[1]] = key, item
                else:
                    frame.slots[slots[0]] = item if is_list else key
                yield (key, item if is_list else key)

        return lambda frame: finish(frame, each(frame))

    def boolean(self, node: Node, value: Any) -> bool:
        if type(value) is not bool:
            raise self.error(node, f"{NO_OVERLOAD}: got '{kind_of(value)}', expected bool")
        return value

    def quantifier(self, node: Comprehension, body: Run, _: Run | None) -> Callable[[Frame, Any], Any]:
        decisive = node.kind == "exists"
        per_item = 4 if decisive else 3

        def run(frame: Frame, items: Any) -> bool:
            error: EvaluationError | None = None
            frame.cost += 1
            for _ in items:
                frame.cost += per_item
                try:
                    value = body(frame)
                except CostExceeded:
                    raise
                except EvaluationError as failure:
                    frame.work -= ERROR_WORK
                    error = error or failure
                    continue
                if value is decisive:
                    return bool(value)
                if type(value) is not bool:
                    error = error or self.error(node.body, f"{NO_OVERLOAD}: got '{kind_of(value)}', expected bool")
            if error is not None:
                raise error
            return not decisive

        return run

    def simple_quantifier(self, node: Comprehension, over: Run, body: Run) -> Run:
        """Do what `quantifier` does, for one variable: the loop that nests most."""
        decisive = node.kind == "exists"
        per_item, slot = (4 if decisive else 3), node.slots[0]

        def run(frame: Frame) -> bool:
            value = over(frame)
            try:
                items = value if kind_of(value) == "list" else [key for key, _ in items_of(value)]
            except Fault as fault:
                raise self.error(node.range, str(fault)) from None
            error: EvaluationError | None = None
            frame.cost += 1
            slots, limit = frame.slots, frame.limit
            for item in items:
                frame.cost += per_item
                frame.work -= 1
                if frame.cost > limit or frame.work < 0:
                    raise exceeded(frame)
                slots[slot] = item
                try:
                    result = body(frame)
                except CostExceeded:
                    raise
                except EvaluationError as failure:
                    frame.work -= ERROR_WORK
                    error = error or failure
                    continue
                if result is decisive:
                    return bool(result)
                if type(result) is not bool:
                    error = error or self.error(node.body, f"{NO_OVERLOAD}: got '{kind_of(result)}', expected bool")
            if error is not None:
                raise error
            return not decisive

        return run

    def exists_one(self, node: Comprehension, body: Run, _: Run | None) -> Callable[[Frame, Any], Any]:
        def run(frame: Frame, items: Any) -> bool:
            count = 0
            for _ in items:
                frame.cost += 1
                count += self.boolean(node.body, body(frame))
            frame.cost += 2
            return count == 1

        return run

    def filter(self, node: Comprehension, body: Run, _: Run | None) -> Callable[[Frame, Any], Any]:
        def run(frame: Frame, items: Any) -> list[Any]:
            frame.cost += 2
            result = []
            for _, item in items:
                frame.cost += 1
                if self.boolean(node.body, body(frame)):
                    frame.cost += CREATE_LIST + 1
                    result.append(item)
            return result

        return run

    def transform(self, node: Comprehension, body: Run, condition: Run | None) -> Callable[[Frame, Any], Any]:
        def run(frame: Frame, items: Any) -> list[Any]:
            frame.cost += 1
            result = []
            for _ in items:
                frame.cost += 1
                if condition is None or self.boolean(node.body, condition(frame)):
                    frame.cost += CREATE_LIST + 1
                    result.append(body(frame))
            return result

        return run

    def transform_map(self, node: Comprehension, body: Run, condition: Run | None) -> Callable[[Frame, Any], Any]:
        by_entry = node.kind == "transformMapEntry"

        def run(frame: Frame, items: Any) -> dict[Any, Any]:
            frame.cost += 1
            result: dict[Any, Any] = {}
            for key, _ in items:
                frame.cost += 1
                if condition is not None and not self.boolean(node.body, condition(frame)):
                    continue
                frame.cost += 2
                made = body(frame)
                try:
                    entries = dict(items_of(made)).items() if by_entry else ((key, made),)
                    for name, value in entries:
                        held = make_key(name)
                        if held in result:
                            raise Fault(f"insert failed: key {name} already exists")  # noqa: TRY301 - joins the failures of the parser beneath
                        result[held] = value
                except Fault as fault:
                    raise self.error(node.body, str(fault)) from None
            return result

        return run

    def bind(self, node: Bind) -> Run:
        value, body, slot = self.make(node.value), self.make(node.body), node.slot

        def run(frame: Frame) -> Any:
            frame.slots[slot] = _Lazy(value)
            return body(frame)

        return run

    def opt_map(self, node: OptMap) -> Run:
        target, body, slot, flat = self.make(node.target), self.make(node.body), node.slot, node.flat

        def run(frame: Frame) -> Any:
            value = target(frame)
            if type(value) is not Optional:
                raise self.error(node.target, f"{NO_OVERLOAD}: expected an optional")
            if not value.present:
                return NONE
            frame.slots[slot] = value.value
            made = body(frame)
            return made if flat else Optional(made)

        return run


class _Lazy:
    """The value of cel.bind, evaluated when it is first read."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run


def _dispatcher(overloads: tuple[Overload, ...], given: list[str]) -> Callable[..., Any]:
    """Return the function to call: the only one if types say so, otherwise one that looks at the values."""
    calls = {overload.call for overload in overloads}
    wanted = [tuple(None if p.kind in ("param", "dyn") else p.kind for p in overload.params) for overload in overloads]
    needed = [
        kinds
        for kinds in wanted
        if any(kind and have in ("dyn", "object") for kind, have in zip(kinds, given, strict=True))
    ]
    if len(calls) == 1 and not needed:
        return overloads[0].call
    choices = list(zip(wanted, (overload.call for overload in overloads), strict=True))

    def dispatch(*values: Any) -> Any:
        for kinds, call in choices:
            if all(kind is None or has_type(kind, value) for kind, value in zip(kinds, values, strict=True)):
                return call(*values)
        raise Fault(NO_OVERLOAD)

    return dispatch
