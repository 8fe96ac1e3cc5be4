# SPDX-License-Identifier: Apache-2.0
"""What an expression costs: at most, before it runs, and really, while it runs.

Kubernetes refuses expressions by the first number and stops them by the second. Source: cel-go's checker/cost.go and
interpreter/runtimecost.go, with the functions of Kubernetes' libraries as in k8s.io/apiserver/pkg/cel/library/cost.go.
Only the upper bound is estimated: nothing reads the lower one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
from dynamic_memory.cel.functions.kubernetes import Format
from dynamic_memory.cel.types import Declared, Overload
from dynamic_memory.cel.values import TypeValue, kind_of, size_of

__all__ = ["CREATE_LIST", "CREATE_MAP", "CREATE_OBJECT", "UNBOUNDED", "actual_cost", "estimate"]

UNBOUNDED = 2**64 - 1
CREATE_LIST, CREATE_MAP, CREATE_OBJECT = 10, 30, 40
_STRING = 0.1
_REGEX = 0.25
_MAX_FORMAT, _MAX_FORMAT_REGEX = 64, 128
_SCALARS = frozenset(("bool", "int", "uint", "double", "duration", "timestamp", "null"))
_OPAQUE = frozenset(("quantity", "semver", "ip", "cidr"))
_TRAVERSED = ("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf", "includes")
_PARSED = (
    "quantity",
    "isQuantity",
    "semver",
    "isSemver",
    "url",
    "isURL",
    "cidr",
    "isIP",
    "isCIDR",
    "ip",
    "jsonpatch.escapeKey",
)
_STRING_WORK = ("lowerAscii", "upperAscii", "substring", "trim")
_SIZED_ORDER = tuple(
    f"{name}_{kind}" for name in ("less", "less_equals", "greater", "greater_equals") for kind in ("string", "bytes")
)


def _cap(number: int) -> int:
    return min(number, UNBOUNDED)


def _times(size: int, factor: float) -> int:
    return UNBOUNDED if size >= UNBOUNDED else _cap(math.ceil(size * factor))


class _Known(NamedTuple):
    """What is known of a node: its cost, its largest size (None: unknown), sizes of keys and values, declaration."""

    cost: int
    size: int | None = None
    entry: tuple[int, int] | None = None
    declared: Declared | None = None


def estimate(tree: Node, variables: Mapping[str, Declared]) -> int:
    """Return the most that an evaluation can cost; UNBOUNDED if sizes are unknown."""
    return _Estimator(variables).visit(tree).cost


class _Estimator:
    def __init__(self, variables: Mapping[str, Declared]) -> None:
        self.variables = variables
        self.scope: dict[int, _Known] = {}
        self.visitors = {
            Literal: self.literal,
            Ident: self.ident,
            Select: self.select,
            Has: self.has,
            Call: self.call,
            Logic: self.logic,
            Ternary: self.ternary,
            ListNode: self.list_node,
            MapNode: self.map_node,
            ObjectNode: self.object_node,
            Comprehension: self.comprehension,
            Bind: self.bind,
            OptMap: self.opt_map,
        }

    def visit(self, node: Node) -> _Known:
        found: Any = self.visitors[type(node)]
        result: _Known = found(node)
        return result

    def size(self, node: Node, known: _Known) -> int:
        if known.size is not None:
            return known.size
        if known.declared is not None and known.declared.size is not None:
            return known.declared.size
        return 1 if node.type.kind in _SCALARS else UNBOUNDED

    def literal(self, node: Literal) -> _Known:
        if type(node.value) is TypeValue:
            return _Known(0)
        return _Known(0, len(node.value) if isinstance(node.value, str | bytes) else 1)

    def ident(self, node: Ident) -> _Known:
        if node.slot >= 0:
            known = self.scope[node.slot]
            return _Known(1, known.size, known.entry, known.declared)
        return _Known(1, declared=self.variables.get(node.name))

    def select(self, node: Select) -> _Known:
        operand = self.visit(node.operand)
        counted = node.optional or node.operand.type.kind in ("map", "object")
        return _Known(_cap(operand.cost + counted), declared=_field(operand.declared, node.field))

    def has(self, node: Has) -> _Known:
        return _Known(self.visit(node.operand).cost, 1)

    def logic(self, node: Logic) -> _Known:
        return _Known(_cap(sum(self.visit(operand).cost for operand in node.operands)), 1)

    def ternary(self, node: Ternary) -> _Known:
        condition, then, otherwise = self.visit(node.condition), self.visit(node.then), self.visit(node.otherwise)
        cost = _cap(condition.cost + max(then.cost, otherwise.cost))
        size = max(self.size(node.then, then), self.size(node.otherwise, otherwise))
        return _Known(cost, size, _union(then.entry, otherwise.entry))

    def list_node(self, node: ListNode) -> _Known:
        cost, largest = CREATE_LIST, 0
        for element in node.elements:
            known = self.visit(element)
            cost += known.cost
            largest = max(largest, self.size(element, known))
        return _Known(_cap(cost), len(node.elements), (1, largest))

    def map_node(self, node: MapNode) -> _Known:
        cost, keys, values = CREATE_MAP, 0, 0
        for key, value, _ in node.entries:
            known_key, known = self.visit(key), self.visit(value)
            cost += known_key.cost + known.cost
            keys, values = max(keys, self.size(key, known_key)), max(values, self.size(value, known))
        return _Known(_cap(cost), len(node.entries), (keys, values))

    def object_node(self, node: ObjectNode) -> _Known:
        return _Known(_cap(CREATE_OBJECT + sum(self.visit(value).cost for _, _, value, _ in node.fields)))

    def bind(self, node: Bind) -> _Known:
        value = self.visit(node.value)
        self.scope[node.slot] = value._replace(size=self.size(node.value, value))
        body = self.visit(node.body)
        return body._replace(cost=_cap(CREATE_LIST + value.cost + body.cost))

    def opt_map(self, node: OptMap) -> _Known:
        target = self.visit(node.target)
        self.scope[node.slot] = _Known(1, declared=target.declared)
        body = self.visit(node.body)
        return _Known(_cap(target.cost * 2 + CREATE_LIST + (2 if node.flat else 3) + body.cost))

    def comprehension(self, node: Comprehension) -> _Known:
        over = self.visit(node.range)
        count = self.size(node.range, over)
        key, value = self.parts(over)
        is_list = node.range.type.kind == "list" or (over.declared is not None and over.declared.key is None)
        for slot, known in zip(
            node.slots, (key, value) if len(node.slots) > 1 else (value if is_list else key,), strict=True
        ):
            self.scope[slot] = known
        condition = self.visit(node.condition).cost if node.condition is not None else 0
        body = self.visit(node.body)
        entry: tuple[int, int] | None = None
        size: int | None = count
        if node.kind in ("all", "exists"):
            start, step, size = 1, body.cost + (3 if node.kind == "all" else 4), 1
        elif node.kind == "exists_one":
            start, step, size = 2, body.cost + 2, 1
        elif node.kind in ("transformMap", "transformMapEntry"):
            start, step = CREATE_MAP + 1, body.cost + condition + (3 if node.kind == "transformMap" else 2)
        else:
            made = 0 if node.kind == "filter" else body.cost
            test = body.cost if node.kind == "filter" else condition
            start, step = CREATE_LIST + 1, test + made + CREATE_LIST + (3 if node.kind == "filter" else 2)
            largest = self.size(node.body, body) if node.kind != "filter" else (over.entry or (0, UNBOUNDED))[1]
            entry = (1, largest)
        return _Known(_cap(over.cost + start + count * step), size, entry)

    def parts(self, over: _Known) -> tuple[_Known, _Known]:
        declared = over.declared
        entry = over.entry or (None, None)
        key = _Known(1, entry[0], declared=declared.key if declared else None)
        value = _Known(1, entry[1], declared=declared.element if declared else None)
        return key, value

    def call(self, node: Call) -> _Known:
        if node.function == "dyn":
            known = self.visit(node.args[0])
            return known._replace(cost=_cap(known.cost + 1))
        args = [self.visit(arg) for arg in node.args]
        sizes = [self.size(arg, known) for arg, known in zip(node.args, args, strict=True)]
        worst, result = 0, None
        for overload in node.overloads:
            cost, size = self.work(overload, node, args, sizes)
            worst = max(worst, cost)
            if size is not None:
                result = max(result or 0, size)
        total = _cap(worst + sum(known.cost for known in args))
        first = args[0] if args else None
        if node.function in ("_[_]", "_[?_]") and first is not None:
            element = first.declared.element if first.declared else None
            return _Known(total, first.entry[1] if first.entry else None, declared=element)
        entry = None
        if node.function == "_+_" and len(args) > 1:
            entry = _union(args[0].entry, args[1].entry)
        if node.function == "orValue" and first is not None:
            return _Known(total, max(sizes[0], sizes[1]) if first.declared else None, declared=first.declared)
        return _Known(total, result, entry)

    def work(self, overload: Overload, node: Call, args: list[_Known], sizes: list[int]) -> tuple[int, int | None]:  # noqa: C901, PLR0911, PLR0912 - a table of cases
        name, signature = overload.function, overload.id
        if name in _TRAVERSED:
            element = 1
            params = node.args[0].type.params
            if not params and name != "includes":
                return _times(sizes[0], _STRING), None
            if params and params[0].kind in ("string", "bytes"):
                declared = args[0].declared.element if args[0].declared else None
                known = declared.size if declared else None
                element += _times(UNBOUNDED if known is None else known, _STRING)
            return _cap(sizes[0] * element), None
        if signature == "cidr_ip":
            return 1, None
        if name in _PARSED and name != "isURL":
            return _times(sizes[0], _STRING), sizes[0] if name in ("url", "jsonpatch.escapeKey") else None
        if name in _STRING_WORK:
            return _times(sizes[0], _STRING), sizes[0]
        if name == "replace":
            literal = type(node.args[1]) is Literal
            shortest = sizes[1] if literal else 0
            if shortest == 0:
                count, kept = _cap(sizes[0] + 1), sizes[0]
            elif sizes[2] <= shortest:
                count, kept = 0, sizes[0]
            else:
                count, kept = math.ceil(sizes[0] / shortest), 0
            return _times(sizes[0], 2 * _STRING), _cap(count * sizes[2] + kept)
        if name == "split":
            return _times(sizes[0], 2 * _STRING), sizes[0]
        if name == "join":
            declared = args[0].declared.element if args[0].declared else None
            element = UNBOUNDED if declared is None or declared.size is None else declared.size
            separator = sizes[1] * max(sizes[0] - 1, 0) if len(sizes) > 1 else 0
            size = _cap(sizes[0] * element + separator)
            return _times(size, _STRING), size
        if name in ("find", "findAll", "matches"):
            cost = _cap(_times(_cap(sizes[0] + 1), _STRING) * _times(sizes[1], _REGEX))
            return cost, sizes[0] if name != "matches" else None
        if name == "contains":
            return _cap(_times(sizes[0], _STRING) * _times(sizes[1], _STRING)), None
        if name in ("distinct", "sort"):
            return _cap(CREATE_LIST + 1 + 2 * sizes[0] * sizes[0]), sizes[0]
        if name in ("flatten", "reverse"):
            return _cap(CREATE_LIST + 1 + sizes[0]), sizes[0] if name == "reverse" else None
        if name in ("slice", "lists.range"):
            count = self.counted(node, sizes)
            return _cap(CREATE_LIST + 1 + count), count
        if name in ("sets.contains", "sets.intersects", "sets.equivalent"):
            return _cap(1 + sizes[0] * sizes[1] * (2 if name == "sets.equivalent" else 1)), None
        if name == "ip.isCanonical":
            return _times(sizes[0], 2 * _STRING), None
        if name == "containsIP":
            return 4 + (_times(sizes[1], _STRING) if signature.endswith("string") else 0), None
        if name == "containsCIDR":
            return 7 + (_times(sizes[1], _STRING) if signature.endswith("string") else 0), None
        if name == "validate":
            return _cap(_times(_times(sizes[1], _STRING), _MAX_FORMAT_REGEX * _REGEX)), None
        if signature in ("string_to_bytes", "bytes_to_string"):
            return _times(sizes[0], _STRING), _cap(sizes[0] * (4 if signature == "string_to_bytes" else 1))
        if name == "strings.quote":
            return _times(sizes[0], _STRING), _cap(sizes[0] * 2 + 2)
        if name == "format":
            return _times(sizes[0], _STRING), None
        if name in ("startsWith", "endsWith"):
            return _times(sizes[1], _STRING), None
        if signature == "in_list":
            return sizes[1], None
        if signature in ("add_string", "add_bytes", "add_list"):
            size = _cap(sizes[0] + sizes[1])
            return (1 if signature == "add_list" else _times(size, _STRING)), size
        if signature in ("equals", "not_equals") or signature in _SIZED_ORDER:
            kinds = node.args[0].type.kind
            if signature == "equals" and node.args[0].type is node.args[1].type and kinds in (*_OPAQUE, "format"):
                return (_times(_MAX_FORMAT, _STRING) if kinds == "format" else 1), None
            return _times(min(sizes[0], sizes[1]), _STRING), None
        return 1, None

    def counted(self, node: Call, sizes: list[int]) -> int:
        """Return the most elements that slice or lists.range makes."""
        bounds = [arg.value for arg in node.args if type(arg) is Literal and type(arg.value) is int]
        if node.function == "slice":
            return max(bounds[1] - bounds[0], 0) if len(bounds) > 1 else sizes[0]
        return max(bounds[0], 0) if bounds else UNBOUNDED


def _field(declared: Declared | None, name: str) -> Declared | None:
    if declared is None:
        return None
    return declared.fields.get(name) or declared.element


def _union(one: tuple[int, int] | None, other: tuple[int, int] | None) -> tuple[int, int] | None:
    return None if one is None or other is None else (max(one[0], other[0]), max(one[1], other[1]))


def _traversal(value: Any) -> int:
    kind = kind_of(value)
    if kind in ("string", "bytes"):
        return int(len(value) * _STRING)
    if kind == "list":
        return sum(map(_traversal, value))
    if isinstance(value, Mapping):
        return sum(_traversal(key) + _traversal(item) for key, item in value.items())
    return 1


def _length(value: Any, factor: float = _STRING) -> int:
    return math.ceil(size_of(value) * factor)


def _smaller(args: list[Any]) -> int:
    if kind_of(args[0]) in (*_OPAQUE, "format", "url"):
        return 1
    return math.ceil(min(size_of(args[0]), size_of(args[1])) * _STRING)


def _joined(args: list[Any]) -> int:
    total = sum(size_of(part) for part in args[0]) + (
        size_of(args[1]) * max(len(args[0]) - 1, 0) if len(args) > 1 else 0
    )
    return math.ceil(total * 2 * _STRING)


def _validated(args: list[Any]) -> int:
    size = args[0].regex_size if type(args[0]) is Format else 1
    return math.ceil((1 + size_of(args[1])) * _STRING) * math.ceil(size * _REGEX)


_REAL: dict[str, Callable[[list[Any]], int]] = {
    **dict.fromkeys(_TRAVERSED, lambda args: _traversal(args[0])),
    **dict.fromkeys(
        (*(p for p in _PARSED if p != "isURL"), *_STRING_WORK, "strings.quote", "format"), lambda args: _length(args[0])
    ),
    **dict.fromkeys(("replace", "split", "ip.isCanonical"), lambda args: _length(args[0], 2 * _STRING)),
    "join": _joined,
    **dict.fromkeys(
        ("find", "findAll", "matches"),
        lambda args: math.ceil((1 + size_of(args[0])) * _STRING) * _length(args[1], _REGEX),
    ),
    "contains": lambda args: _length(args[0]) * _length(args[1]),
    "containsIP": lambda args: 4 + (_length(args[1]) if type(args[1]) is str else 0),
    "containsCIDR": lambda args: 7 + (_length(args[1]) if type(args[1]) is str else 0),
    "validate": _validated,
    **dict.fromkeys(("startsWith", "endsWith"), lambda args: _length(args[1])),
    "@in": lambda args: size_of(args[1]) if kind_of(args[1]) == "list" else 1,
    "_+_": lambda args: (
        math.ceil((size_of(args[0]) + size_of(args[1])) * _STRING) if type(args[0]) in (str, bytes) else 1
    ),
    **dict.fromkeys(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"), _smaller),
    **dict.fromkeys(("string", "bytes"), lambda args: _length(args[0]) if type(args[0]) in (str, bytes) else 1),
    # Beyond cel-go, which counts 1: work that grows with its input.
    **dict.fromkeys(
        ("distinct", "sets.contains", "sets.equivalent", "sets.intersects"),
        lambda args: 1 + size_of(args[0]) * size_of(args[-1]),
    ),
    **dict.fromkeys(("flatten", "reverse", "slice", "sort"), lambda args: 1 + size_of(args[0])),
    "lists.range": lambda args: 1 + max(0, args[0]) if type(args[0]) is int else 1,
}
_FIXED_KINDS = frozenset(("bool", "int", "uint", "double", "duration", "timestamp", "quantity", "semver"))


def actual_cost(overloads: tuple[Overload, ...]) -> int | Callable[[list[Any]], int]:
    """Return what a call of these overloads costs: a number, or a function of the arguments."""
    name = overloads[0].function
    real = _REAL.get(name)
    if real is None:
        return 1
    if name in ("_+_", "_<_", "_<=_", "_>_", "_>=_") and all(o.params[0].kind in _FIXED_KINDS for o in overloads):
        return 1
    return real
