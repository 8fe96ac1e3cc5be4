# SPDX-License-Identifier: Apache-2.0
"""Values of builtin kinds, read as the Go types of the real server read them. Pure.

A null is as good as nothing, a wrong type is refused with the message of Go's decoder, quantities and times become
canonical.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from datetime import UTC, datetime
from typing import Any, Final

from dynamic_memory.embedded.apiserver.builtin.gonames import go_name
from dynamic_memory.embedded.apiserver.pruning import unknown
from dynamic_memory.embedded.apiserver.schema import Schema, clone
from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import Quantity

__all__ = ["Reader", "Wrong", "canonical_quantity", "json_type"]

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_MICRO_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_MICROS: Final = re.compile(r"\.\d{6}(?!\d)", re.ASCII)
_QUANTITY: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_GO_TYPES: Final = {"string": "string", "boolean": "bool", "number": "float64"}
_RANGE: Final = {"int32": 2**31, "int64": 2**63}


class Wrong(Exception):
    """A value that Go's decoder refuses."""


def json_type(value: Any) -> str:
    """Return what Go calls the type of a value of JSON."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def _go_type(schema: Schema) -> str:
    if schema.type == "integer":
        return schema.format or "int32"
    if schema.type == "array":
        return f"[]{_go_type(schema.items) if schema.items else 'string'}"
    if schema.additional is not None:
        quantities = schema.additional.quantity
        return "v1.ResourceList" if quantities else f"map[string]{_go_type(schema.additional)}"
    if schema.ref and schema.type == "object":
        group, version, name = ("", *schema.ref.rsplit(".", 2))[-3:]
        return f"{version}.{name}" if group else name
    return "[]uint8" if schema.format == "byte" else _GO_TYPES.get(schema.type, "string")


class Reader:
    """Reads one body of a builtin kind.

    Args:
        problems: gets `unknown field "…"` for each field that no type has.

    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def read_object(
        self, schema: Schema, value: dict[str, Any], path: str, owner: str, fields: tuple[str, ...]
    ) -> dict[str, Any]:
        """Read an object.

        Args:
            schema: of it.
            value: not changed.
            path: of it in the body.
            owner: name of the Go type that has the fields, for messages.
            fields: names from that type down to here.

        Raises:
            Wrong: a value is not of its type.

        """
        made: dict[str, Any] = {}
        properties, additional = schema.properties, schema.additional
        if not properties and additional is None and schema.preserve_unknown:
            return clone(value)  # type: ignore[no-any-return] # an object stays one
        for name, item in value.items():
            below = f"{path}.{name}" if path else name
            inner = properties.get(name)
            if inner is None:
                if additional is not None:
                    if item is not None:
                        made[name] = self.read(additional, item, below, owner, fields)
                    elif additional.type == "string" and not additional.quantity:
                        made[name] = ""
                    continue
                if not schema.preserve_unknown:
                    unknown(self.problems, below)
                continue
            if item is None:
                continue
            made[name] = self.read(inner, item, below, owner, (*fields, name))
        return made

    def read(self, schema: Schema, value: Any, path: str, owner: str, fields: tuple[str, ...]) -> Any:  # noqa: PLR0911, PLR0912, C901 - a table of types
        """Read any value, as `read_object` does."""
        kind = schema.type
        if kind == "object":
            if isinstance(value, dict):
                inner = schema.ref.rpartition(".")[2] or owner
                return self.read_object(schema, value, path, inner, fields)
            if schema.preserve_unknown:
                return clone(value)
        elif kind == "array":
            if isinstance(value, list):
                items = schema.items or Schema()
                return [
                    self.read(items, item, f"{path}[{index}]", owner, fields)
                    for index, item in enumerate(value)
                    if item is not None
                ]
        elif kind == "string":
            if schema.quantity:
                return self._quantity(value)
            if isinstance(value, str):
                if schema.format == "date-time":
                    return _time(value, schema)
                return _base64(value) if schema.format == "byte" else value
        elif kind == "boolean":
            if isinstance(value, bool):
                return value
        elif kind == "integer":
            if isinstance(value, int) and not isinstance(value, bool):
                if -_RANGE[schema.format] <= value < _RANGE[schema.format]:
                    return value
                raise self._mismatch(f"number {value}", schema, owner, fields)
            if isinstance(value, float):
                if value.is_integer() and abs(value) < _RANGE[schema.format]:
                    return int(value)
                raise self._mismatch(f"number {value}", schema, owner, fields)
        elif kind == "number":
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value
        elif schema.int_or_string:
            if isinstance(value, int | str) and not isinstance(value, bool):
                return value
            field = f"{owner}.{'.'.join(fields)}"
            raise Wrong(f"json: cannot unmarshal {json_type(value)} into Go struct field {field} of type int32")
        else:
            return self._any(schema, value, path, owner, fields)
        raise self._mismatch(json_type(value), schema, owner, fields)

    def _any(self, schema: Schema, value: Any, path: str, owner: str, fields: tuple[str, ...]) -> Any:
        if isinstance(value, dict) and (schema.properties or schema.additional is not None):
            return self.read_object(schema, value, path, owner, fields)
        if isinstance(value, list) and schema.items is not None:
            items = schema.items
            return [self.read(items, item, f"{path}[{at}]", owner, fields) for at, item in enumerate(value)]
        return clone(value)

    @staticmethod
    def _quantity(value: Any) -> str:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                return canonical_quantity(value if isinstance(value, str) else repr(value))
            except InvalidInput:
                pass
        raise Wrong(_QUANTITY)

    @staticmethod
    def _mismatch(said: str, schema: Schema, owner: str, fields: tuple[str, ...]) -> Wrong:
        path = ".".join(fields)
        wanted = _go_type(schema)
        if "string" in wanted and fields:
            wanted = wanted.replace("string", go_name(owner, fields[-1]))
        return Wrong(f"json: cannot unmarshal {said} into Go struct field {owner}.{path} of type {wanted}")


@functools.lru_cache(maxsize=4096)
def canonical_quantity(text: str) -> str:
    """Return a quantity in its canonical form.

    Raises:
        InvalidInput: it is none.

    """
    return str(Quantity.parse(text))


def _time(value: str, schema: Schema) -> str | None:
    """Return a time in UTC with as many digits as its type has."""
    micro = schema.ref.endswith(".MicroTime")
    if (_MICRO_TIME if micro else _TIME).fullmatch(value):
        return value
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    if micro and not _MICROS.search(value) and _TIME.fullmatch(value):
        raise Wrong(f'parsing time "{value}" as "{layout}": cannot parse "Z" as ".000000"')
    try:
        read: datetime | None = datetime.fromisoformat(value)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None or "T" not in value:
        first = value if not value[:1].isdigit() else value[10:] or value
        raise Wrong(f'parsing time "{value}" as "{layout}": cannot parse "{first}" as "2006"')
    return read.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _base64(value: str) -> str:
    try:
        base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        place = next((at for at, letter in enumerate(value) if not (letter.isalnum() or letter in "+/=")), len(value))
        raise Wrong(f"illegal base64 data at input byte {place}") from None
    return value
