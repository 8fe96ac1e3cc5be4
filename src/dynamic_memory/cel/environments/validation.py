# SPDX-License-Identifier: Apache-2.0
"""Validation rules of CustomResourceDefinitions: `self` and `oldSelf`, typed by the schema they stand in.

Source: Kubernetes' documentation "CustomResourceDefinition validation rules". Types: an object with properties has
fields, with additionalProperties it is a map; formats date-time, duration and byte become timestamp, duration and
bytes; int-or-string and preserved unknown fields are dyn. A property that is no CEL name is written escaped.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from dynamic_memory.cel import types as t
from dynamic_memory.cel.environment import Environment, Program
from dynamic_memory.cel.errors import CompileError, EvaluationError, Fault
from dynamic_memory.cel.functions.times import parse_duration, parse_timestamp
from dynamic_memory.cel.types import Declared, ObjectType, Type, list_of, map_of, optional_of
from dynamic_memory.cel.values import NONE, Optional, kind_of

__all__ = ["Message", "Rule", "compile_message", "compile_rule", "escape"]

_SCALARS = {"string": t.STRING, "integer": t.INT, "number": t.DOUBLE, "boolean": t.BOOL}
_FORMATS = {"date-time": t.TIMESTAMP, "date": t.TIMESTAMP, "duration": t.DURATION, "byte": t.BYTES}
_KEYWORDS = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}


def escape(name: str) -> str | None:
    """Return how an expression writes a property's name; None if it cannot."""
    if name in _KEYWORDS:
        return f"__{name}__"
    if not re.fullmatch(r"[A-Za-z_./-][A-Za-z0-9_./-]*", name, re.ASCII):
        return None
    return re.sub(r"__|[./-]", lambda match: _ESCAPES[match[0]], name)


def _declare(schema: Mapping[str, Any], path: str) -> Declared:
    if schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields"):
        return Declared(t.DYN)
    kind = schema.get("type")
    if kind == "array":
        element = _declare(schema.get("items") or {}, f"{path}.@items")
        return Declared(list_of(element.type), schema.get("maxItems"), element=element)
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        value = _declare(schema["additionalProperties"], f"{path}.@values")
        return Declared(
            map_of(t.STRING, value.type), schema.get("maxProperties"), key=Declared(t.STRING), element=value
        )
    if kind == "object" and schema.get("properties"):
        fields = {
            name: _declare(field, f"{path}.{name}")
            for original, field in schema["properties"].items()
            if (name := escape(original)) is not None
        }
        made: Type = ObjectType(path, {name: field.type for name, field in fields.items()})
        return Declared(made, fields=fields)
    if kind == "string":
        return Declared(_FORMATS.get(str(schema.get("format")), t.STRING), schema.get("maxLength"))
    return Declared(_SCALARS.get(str(kind), t.DYN))


def _convert(value: Any, schema: Mapping[str, Any]) -> Any:  # noqa: PLR0911 - a table of cases
    """Give a value of JSON the types of its schema."""
    if value is None or schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields"):
        return value
    kind, form = schema.get("type"), schema.get("format")
    if kind == "array" and isinstance(value, list):
        return [_convert(element, schema.get("items") or {}) for element in value]
    if kind == "object" and isinstance(value, Mapping):
        properties, rest = schema.get("properties") or {}, schema.get("additionalProperties")
        if isinstance(rest, Mapping):
            return {name: _convert(element, rest) for name, element in value.items()}
        return {escape(name) or name: _convert(item, properties.get(name) or {}) for name, item in value.items()}
    if kind == "number" and type(value) is int:
        return float(value)
    if kind == "string" and isinstance(value, str) and form in _FORMATS:
        return _parse(value, str(form))
    return value


def _parse(value: str, form: str) -> Any:
    if form == "duration":
        return parse_duration(value)
    if form == "byte":
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise Fault(f"invalid base64 {value!r}") from None
    return parse_timestamp(f"{value}T00:00:00Z" if form == "date" else value)


class _Compiled:
    """An expression of one place of a schema: the values that it gets."""

    __slots__ = ("optional_old", "program", "schema", "transition")

    def __init__(self, program: Program, schema: Mapping[str, Any], *, transition: bool, optional_old: bool) -> None:
        self.program = program
        self.schema = schema
        self.transition = transition
        self.optional_old = optional_old

    def measure(self, value: Any, old: Any = None) -> tuple[Any, int]:
        """Return what the expression says of a value of JSON, and what that cost.

        Raises:
            EvaluationError: it fails on this value, or costs too much.

        """
        try:
            before = _convert(old, self.schema)
            if self.optional_old:
                before = NONE if old is None else Optional(before)
            bindings = {"self": _convert(value, self.schema), "oldSelf": before}
        except Fault as fault:
            raise EvaluationError(str(fault)) from None
        return self.program.measure(bindings)


class Rule(_Compiled):
    """A compiled `x-kubernetes-validations` rule of one place of a schema.

    Attributes:
        transition: it reads oldSelf, so it is only asked when there is an old value, unless oldSelf is optional.
        optional_old: oldSelf is an optional, which has no value when an object is made.

    """

    __slots__ = ()

    def holds(self, value: Any, old: Any = None) -> bool:
        """Decide for a value of JSON.

        Raises:
            EvaluationError: the rule fails on this value, or costs too much.

        """
        if self.transition and not self.optional_old and old is None:
            return True
        result, _ = self.measure(value, old)
        if type(result) is not bool:
            raise EvaluationError(f"expected bool, got {kind_of(result)}")
        return result


class Message(_Compiled):
    """A compiled `messageExpression`."""

    __slots__ = ()


def compile_rule(source: str, schema: Mapping[str, Any], *, optional_old: bool = False) -> Rule:
    """Compile a rule for the schema it stands in.

    Args:
        source: the expression.
        schema: of `self`, as it stands in a CustomResourceDefinition.
        optional_old: of `optionalOldSelf`.

    Raises:
        CompileError: with line, column and what was expected.

    """
    program = _compile(source, schema, optional_old=optional_old)
    if program.result_type.kind not in ("bool", "dyn"):
        raise CompileError(f"must evaluate to bool, not {program.result_type}", "bool")
    return Rule(program, schema, transition=bool(re.search(r"\boldSelf\b", source)), optional_old=optional_old)


def compile_message(source: str, schema: Mapping[str, Any], *, optional_old: bool = False) -> Message:
    """Compile a messageExpression for the schema it stands in.

    Raises:
        CompileError: with line, column and what was expected.

    """
    program = _compile(source, schema, optional_old=optional_old)
    if program.result_type.kind not in ("string", "dyn"):
        raise CompileError(f"must evaluate to string, not {program.result_type}", "string")
    return Message(program, schema, transition=bool(re.search(r"\boldSelf\b", source)), optional_old=optional_old)


def _compile(source: str, schema: Mapping[str, Any], *, optional_old: bool) -> Program:
    declared = _declare(schema, "object")
    before = Declared(optional_of(declared.type)) if optional_old else declared
    return Environment({"self": declared, "oldSelf": before}).compile(source)
