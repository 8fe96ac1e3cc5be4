# SPDX-License-Identifier: Apache-2.0
"""Tokens to a syntax tree; macros become nodes here.

Operators are taken by precedence with stacks instead of one function per level, and one function reads an operand with
all that follows it, so that a level of nesting costs two Python frames. Depth is bounded like cel-go's (250).
"""

from __future__ import annotations

from typing import Any, NoReturn

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
from dynamic_memory.cel.errors import CompileError
from dynamic_memory.cel.lexer import place, tokenize
from dynamic_memory.cel.values import INT_MAX

__all__ = ["MAX_DEPTH", "parse"]

MAX_DEPTH = 250
_BINARY = {
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "in": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5,
}  # fmt: skip
_NAMES = {operator: f"_{operator}_" for operator in _BINARY} | {"in": "@in"}
_RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "package",
        "namespace",
        "null",
        "return",
        "true",
        "var",
        "void",
        "while",
    ]
)
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ONE_NAME = {"all", "exists", "exists_one", "existsOne", "filter", "map"}
_TWO_NAMES = {"all", "exists", "exists_one", "existsOne", "transformList", "transformMap", "transformMapEntry"}
_FILTERED = {"map", "transformList", "transformMap", "transformMapEntry"}


def parse(source: str) -> Node:
    """Return the tree of an expression.

    Raises:
        CompileError: with line, column and what was expected.

    """
    parser = _Parser(source)
    tree = parser.expression()
    if parser.kinds[parser.at] != "end":
        parser.fail("an operator or the end of the expression")
    return tree


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.kinds, self.values, self.positions = tokenize(source)
        self.at = 0
        self.depth = 0

    def fail(self, expected: str, at: int | None = None) -> NoReturn:
        at = self.at if at is None else at
        kind = self.kinds[at]
        shown = {"end": "<EOF>", "ident": self.values[at], "literal": repr(self.values[at])}.get(kind, kind)
        raise CompileError(f"Syntax error: unexpected '{shown}'", expected, *place(self.source, self.positions[at]))

    def error(self, pos: int, message: str, expected: str) -> CompileError:
        return CompileError(message, expected, *place(self.source, pos))

    def expect(self, kind: str) -> None:
        if self.kinds[self.at] != kind:
            self.fail(f"'{kind}'")
        self.at += 1

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(
                self.positions[self.at], "expression recursion limit exceeded", f"at most {MAX_DEPTH} levels"
            )
        operands = [self.operand()]
        operators: list[tuple[int, str, int]] = []
        chained = 0
        while True:
            kind = self.kinds[self.at]
            if kind == "ident" and self.values[self.at] == "in":
                kind = "in"
            level = _BINARY.get(kind)
            if level is None:
                break
            while operators and operators[-1][0] >= level:
                self.reduce(operands, operators)
            operators.append((level, kind, self.positions[self.at]))
            chained += level > 2  # noqa: PLR2004 - chains of logical operators become one flat node
            if chained >= MAX_DEPTH:
                raise self.error(self.positions[self.at], "max recursion depth exceeded", f"at most {MAX_DEPTH} levels")
            self.at += 1
            operands.append(self.operand())
        while operators:
            self.reduce(operands, operators)
        result = operands[0]
        if kind == "?":
            pos = self.positions[self.at]
            self.at += 1
            then = self.expression()
            self.expect(":")
            result = Ternary(pos, result, then, self.expression())
        self.depth -= 1
        return result

    def reduce(self, operands: list[Node], operators: list[tuple[int, str, int]]) -> None:
        level, operator, pos = operators.pop()
        right = operands.pop()
        left = operands[-1]
        if level > 2:  # noqa: PLR2004 - the two logical operators come first
            operands[-1] = Call(pos, _NAMES[operator], [left, right])
        elif type(left) is Logic and left.conjunction is (level == 2):  # noqa: PLR2004
            left.operands.append(right)
        else:
            operands[-1] = Logic(pos, [left, right], conjunction=level == 2)  # noqa: PLR2004

    def operand(self) -> Node:  # noqa: C901, PLR0912 - one frame per level of nesting
        kinds, start = self.kinds, self.at
        sign = kinds[start]
        while kinds[self.at] == sign and sign in ("!", "-"):
            self.at += 1
        signs = (self.at - start) % 2
        kind, pos = kinds[self.at], self.positions[self.at]
        value: Any = self.values[self.at]
        self.at += 1
        node: Node
        if kind == "literal":
            if sign == "-" and signs and type(value) in (int, float):
                signs, value = 0, -value
            elif type(value) is int and value > INT_MAX:
                raise self.error(pos, "Syntax error: invalid int literal", "at most 2^63 - 1")
            node = Literal(pos, value)
        elif kind == "ident":
            if value in _WORDS:
                node = Literal(pos, _WORDS[value])
            elif value in _RESERVED:
                raise self.error(pos, f"Syntax error: reserved identifier: {value}", "another name")
            elif kinds[self.at] == "(":
                node = self.call(pos, value)
            else:
                node = Ident(pos, value)
        elif kind == "(":
            node = self.expression()
            self.expect(")")
        elif kind == "[":
            node = self.list_literal(pos)
        elif kind == "{":
            node = self.map_literal(pos)
        elif kind == "." and kinds[self.at] == "ident":
            node = Ident(pos, self.values[self.at])
            self.at += 1
        else:
            self.fail("an expression", self.at - 1)
        for _ in range(MAX_DEPTH):
            kind = kinds[self.at]
            if kind == ".":
                node = self.member(node)
            elif kind == "[":
                node = self.index(node)
            elif kind == "{" and (name := _dotted(node)) is not None:
                node = self.object_literal(node.pos, name)
            else:
                break
        else:
            raise self.error(self.positions[self.at], "max recursion depth exceeded", f"at most {MAX_DEPTH} levels")
        return Call(self.positions[start], "!_" if sign == "!" else "-_", [node]) if signs else node

    def arguments(self, closing: str = ")") -> list[Node]:
        result: list[Node] = []
        while self.kinds[self.at] != closing:
            result.append(self.expression())
            if self.kinds[self.at] != ",":
                break
            self.at += 1
            if closing == ")" and self.kinds[self.at] == ")":
                self.fail("an expression")
        self.expect(closing)
        return result

    def call(self, pos: int, function: str) -> Node:
        self.at += 1
        arguments = self.arguments()
        if function == "has":
            if len(arguments) != 1 or type(arguments[0]) is not Select or arguments[0].optional:
                raise self.error(pos, "invalid argument to has() macro", "a field selection such as has(a.b)")
            return Has(pos, arguments[0].operand, arguments[0].field)
        return Call(pos, function, arguments)

    def member(self, target: Node) -> Node:
        self.at += 1
        optional = self.kinds[self.at] == "?"
        if optional:
            self.at += 1
        kind, name, pos = self.kinds[self.at], self.values[self.at], self.positions[self.at]
        if kind not in ("ident", "quoted") or (kind == "ident" and (name in _WORDS or name == "in")):
            self.fail("a field name")
        self.at += 1
        if self.kinds[self.at] != "(" or optional or kind == "quoted":
            return Select(pos, target, name, optional=optional)
        self.at += 1
        arguments = self.arguments()
        return self.macro(pos, target, name, arguments) or Call(pos, name, [target, *arguments], member=True)

    def macro(self, pos: int, target: Node, name: str, arguments: list[Node]) -> Node | None:
        count = len(arguments)
        if name == "bind" and count == 3 and type(target) is Ident and target.name == "cel":  # noqa: PLR2004
            return Bind(pos, self.variable(arguments[0]), arguments[1], arguments[2])
        if name in ("optMap", "optFlatMap") and count == 2:  # noqa: PLR2004
            return OptMap(pos, target, self.variable(arguments[0]), arguments[1], flat=name == "optFlatMap")
        names = 0
        if name in _ONE_NAME and (count == 2 or (count == 3 and name == "map")):  # noqa: PLR2004
            names = 1
        elif name in _TWO_NAMES and (count == 3 or (count == 4 and name in _FILTERED)):  # noqa: PLR2004
            names = 2
        if not names:
            return None
        variables = tuple(self.variable(argument) for argument in arguments[:names])
        if len(set(variables)) < names:
            raise self.error(pos, f"overlapping variable name: {variables[0]}", "two different names")
        condition = arguments[names] if count == names + 2 else None
        kind = "exists_one" if name == "existsOne" else name
        return Comprehension(pos, kind, target, names=variables, condition=condition, body=arguments[-1])

    def variable(self, node: Node) -> str:
        if type(node) is not Ident:
            raise self.error(node.pos, "argument must be a simple name", "a name")
        return node.name

    def index(self, target: Node) -> Node:
        pos = self.positions[self.at]
        self.at += 1
        function = "_[_]"
        if self.kinds[self.at] == "?":
            self.at += 1
            function = "_[?_]"
        key = self.expression()
        self.expect("]")
        return Call(pos, function, [target, key])

    def list_literal(self, pos: int) -> ListNode:
        elements: list[Node] = []
        optional: set[int] = set()
        while self.kinds[self.at] != "]":
            if self.kinds[self.at] == "?":
                optional.add(len(elements))
                self.at += 1
            elements.append(self.expression())
            if self.kinds[self.at] != ",":
                break
            self.at += 1
        self.expect("]")
        return ListNode(pos, elements, frozenset(optional))

    def map_literal(self, pos: int) -> MapNode:
        entries: list[tuple[Node, Node, bool]] = []
        while self.kinds[self.at] != "}":
            optional = self.kinds[self.at] == "?"
            self.at += optional
            key = self.expression()
            self.expect(":")
            entries.append((key, self.expression(), optional))
            if self.kinds[self.at] != ",":
                break
            self.at += 1
        self.expect("}")
        return MapNode(pos, entries)

    def object_literal(self, pos: int, name: str) -> ObjectNode:
        self.at += 1
        fields: list[tuple[int, str, Node, bool]] = []
        while self.kinds[self.at] != "}":
            optional = self.kinds[self.at] == "?"
            self.at += optional
            where = self.positions[self.at]
            if self.kinds[self.at] not in ("ident", "quoted"):
                self.fail("a field name")
            field = self.values[self.at]
            self.at += 1
            self.expect(":")
            fields.append((where, field, self.expression(), optional))
            if self.kinds[self.at] != ",":
                break
            self.at += 1
        self.expect("}")
        return ObjectNode(pos, name, fields)


def _dotted(node: Node) -> str | None:
    parts: list[str] = []
    while type(node) is Select and not node.optional:
        parts.append(node.field)
        node = node.operand
    return ".".join([node.name, *reversed(parts)]) if type(node) is Ident else None
