# SPDX-License-Identifier: Apache-2.0
"""The syntax tree: what the parser makes, the checker annotates, and cost and compilers read.

Macros stay nodes of their own instead of being expanded into folds: they are faster to run and easier to explain. Each
node has `pos` (offset in the source) and, once checked, `type`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamic_memory.cel.types import Overload, Type

__all__ = [
    "Bind",
    "Call",
    "Comprehension",
    "Has",
    "Ident",
    "ListNode",
    "Literal",
    "Logic",
    "MapNode",
    "Node",
    "ObjectNode",
    "OptMap",
    "Select",
    "Ternary",
]


class Node:
    """Any expression."""

    __slots__ = ("pos", "type")
    type: Type

    def __init__(self, pos: int) -> None:
        self.pos = pos


class Literal(Node):
    """A constant; after checking also the name of a type."""

    __slots__ = ("value",)

    def __init__(self, pos: int, value: Any) -> None:
        self.pos = pos
        self.value = value


class Ident(Node):
    """A name. `slot` is its place in the frame if a macro declared it, otherwise -1."""

    __slots__ = ("name", "slot")

    def __init__(self, pos: int, name: str) -> None:
        self.pos = pos
        self.name = name
        self.slot = -1


class Select(Node):
    """`operand.field`, or `operand.?field` if optional."""

    __slots__ = ("field", "operand", "optional")

    def __init__(self, pos: int, operand: Node, field: str, *, optional: bool = False) -> None:
        self.pos = pos
        self.operand = operand
        self.field = field
        self.optional = optional


class Has(Node):
    """`has(operand.field)`."""

    __slots__ = ("field", "operand")

    def __init__(self, pos: int, operand: Node, field: str) -> None:
        self.pos = pos
        self.operand = operand
        self.field = field


class Call(Node):
    """A function or operator; `args` begins with the target of a member call. `overloads` are those that may apply."""

    __slots__ = ("args", "function", "member", "overloads")
    overloads: tuple[Overload, ...]

    def __init__(self, pos: int, function: str, args: list[Node], *, member: bool = False) -> None:
        self.pos = pos
        self.function = function
        self.args = args
        self.member = member


class Logic(Node):
    """`a && b && …` (conjunction) or `a || b || …`."""

    __slots__ = ("conjunction", "operands")

    def __init__(self, pos: int, operands: list[Node], *, conjunction: bool) -> None:
        self.pos = pos
        self.operands = operands
        self.conjunction = conjunction


class Ternary(Node):
    """`condition ? then : otherwise`."""

    __slots__ = ("condition", "otherwise", "then")

    def __init__(self, pos: int, condition: Node, then: Node, otherwise: Node) -> None:
        self.pos = pos
        self.condition = condition
        self.then = then
        self.otherwise = otherwise


class ListNode(Node):
    """`[a, ?b]`; `optional` holds the indexes of the optional elements."""

    __slots__ = ("elements", "optional")

    def __init__(self, pos: int, elements: list[Node], optional: frozenset[int]) -> None:
        self.pos = pos
        self.elements = elements
        self.optional = optional


class MapNode(Node):
    """`{key: value, ?key: value}`: entries of key, value, optional."""

    __slots__ = ("entries",)

    def __init__(self, pos: int, entries: list[tuple[Node, Node, bool]]) -> None:
        self.pos = pos
        self.entries = entries


class ObjectNode(Node):
    """`Name.of.Type{field: value, ?field: value}`: fields of position, name, value, optional."""

    __slots__ = ("fields", "name")

    def __init__(self, pos: int, name: str, fields: list[tuple[int, str, Node, bool]]) -> None:
        self.pos = pos
        self.name = name
        self.fields = fields


class Comprehension(Node):
    """A macro that goes through a list or map.

    Attributes:
        kind: all, exists, exists_one, map, filter, transformList, transformMap or transformMapEntry.
        names: one or two variables; `slots` their places in the frame.
        condition: what `map` and the transforms keep, or None.
        body: the predicate, or what is made of each element.

    """

    __slots__ = ("body", "condition", "kind", "names", "range", "slots")
    slots: tuple[int, ...]

    def __init__(
        self, pos: int, kind: str, range_: Node, *, names: tuple[str, ...], condition: Node | None, body: Node
    ) -> None:
        self.pos = pos
        self.kind = kind
        self.range = range_
        self.names = names
        self.condition = condition
        self.body = body


class Bind(Node):
    """`cel.bind(name, value, body)`."""

    __slots__ = ("body", "name", "slot", "value")
    slot: int

    def __init__(self, pos: int, name: str, value: Node, body: Node) -> None:
        self.pos = pos
        self.name = name
        self.value = value
        self.body = body


class OptMap(Node):
    """`target.optMap(name, body)`, or optFlatMap if `flat`."""

    __slots__ = ("body", "flat", "name", "slot", "target")
    slot: int

    def __init__(self, pos: int, target: Node, name: str, body: Node, *, flat: bool) -> None:
        self.pos = pos
        self.target = target
        self.name = name
        self.body = body
        self.flat = flat
