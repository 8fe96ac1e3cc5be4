# SPDX-License-Identifier: Apache-2.0
"""A message by its table: numbered values become the object that JSON would have carried."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec.json

from dynamic_memory.embedded.apiserver.protobuf.tables import Field, Message, message
from dynamic_memory.embedded.apiserver.protobuf.wire import Value, fields, signed, varint
from dynamic_memory.errors import InvalidInput

__all__ = ["decode_message"]

DEEPEST = 64  # messages within messages; Pod has 11
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
WRAPPER = "ExtraValue"  # a message of one list, which JSON writes as that list
SCALARS = ("", "i", "b")


def decode_message(data: memoryview, shape: Message, depth: int = 0) -> dict[str, Any]:
    """Return the object of a message; fields that the table does not have are skipped, as protobuf has it.

    Raises:
        InvalidInput: the bytes do not fit the table, or are nested too deep.

    """
    if depth > DEEPEST:
        raise InvalidInput("protobuf", f"at most {DEEPEST} messages within each other", "more")
    found: dict[str, Any] = {}
    for number, value in fields(data):
        field = shape.fields.get(number)
        if field is None:
            continue
        if field.mark == "^":
            found |= decode_message(_bytes(value, field), _type(shape, field), depth + 1)
        elif field.mark == "*":
            found.setdefault(field.name, []).extend(_repeated(value, field, shape, depth))
        elif field.mark == "%":
            key, item = _entry(_bytes(value, field), field, shape, depth)
            found.setdefault(field.name, {})[key] = item
        else:
            item = _one(value, field, shape, depth)
            if _written(item, field):
                found[field.name] = item
            else:
                found.pop(field.name, None)
    return found


def _written(item: object, field: Field) -> bool:
    """Return whether JSON would have carried a value: a zero only where its absence would mean another thing."""
    if field.type in SCALARS:
        return bool(item) or field.mark != ""
    return item is not None


def _type(shape: Message, field: Field) -> Message:
    found = message(shape.package, field.type)
    if found is None:  # a mistake in the tables, which a test looks for
        raise InvalidInput("protobuf", f"a table of {field.type}", shape.name)
    return found


def _bytes(value: Value, field: Field) -> memoryview:
    if not isinstance(value, memoryview):
        raise InvalidInput(f"protobuf field {field.name or field.type}", "bytes", value)
    return value


def _repeated(value: Value, field: Field, shape: Message, depth: int) -> list[Any]:
    if field.type in {"i", "b"} and isinstance(value, memoryview):  # packed
        at, numbers = 0, []
        while at < len(value):
            number, at = varint(value, at)
            numbers.append(_one(number, field, shape, depth))
        return numbers
    item = _one(value, field, shape, depth)
    return [item] if item is not None else []


def _entry(data: memoryview, field: Field, shape: Message, depth: int) -> tuple[str, Any]:
    """Return key and value of one entry of a map; either may be left out when it is empty."""
    parts = dict(fields(data))
    key = _one(parts.get(1, memoryview(b"")), Field("key", "", ""), shape, depth)
    return key, _one(parts.get(2, memoryview(b"")), field, shape, depth)


def _one(value: Value, field: Field, shape: Message, depth: int) -> Any:
    if field.type == "i":
        return signed(_number(value, field))
    if field.type == "b":
        return bool(_number(value, field))
    data = _bytes(value, field)
    read = READERS.get(field.type)
    if read is not None:
        return read(data, field)
    found = decode_message(data, _type(shape, field), depth + 1)
    return found.get("items", []) if field.type == WRAPPER else found


def _number(value: Value, field: Field) -> int:
    if not isinstance(value, int):
        raise InvalidInput(f"protobuf field {field.name}", "a number", "bytes")
    return value


def _text(data: memoryview, field: Field) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"protobuf field {field.name}", "a text in UTF-8", "other bytes") from error


def _base64(data: memoryview, field: Field) -> str:  # noqa: ARG001 - the form of every reader
    return base64.b64encode(data).decode()


def _inner(data: memoryview, field: Field, missing: bytes) -> memoryview:
    """Return the one field of a message that wraps a text or bytes."""
    return _bytes(dict(fields(data)).get(1, memoryview(missing)), field)


def _quantity(data: memoryview, field: Field) -> str:
    return _text(_inner(data, field, b"0"), field) or "0"


def _int_or_string(data: memoryview, field: Field) -> int | str:
    parts = dict(fields(data))
    if parts.get(1, 0) == 1:
        return _text(_bytes(parts.get(3, memoryview(b"")), field), field)
    return signed(_number(parts.get(2, 0), field))


def _time(data: memoryview, field: Field) -> str | None:
    """Return a time as RFC 3339; no bytes are no time."""
    if not data:
        return None
    parts = dict(fields(data))
    try:
        seconds = dt.timedelta(seconds=signed(_number(parts.get(1, 0), field)))
        moment = EPOCH + seconds + dt.timedelta(microseconds=signed(_number(parts.get(2, 0), field)) // 1000)
    except OverflowError as error:
        raise InvalidInput(f"protobuf field {field.name}", "a time between the years 1 and 9999", "another") from error
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if field.type == "u" else "%Y-%m-%dT%H:%M:%SZ")


def _json(data: memoryview, field: Field) -> Any:
    try:
        return msgspec.json.decode(_inner(data, field, b"null"))
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"protobuf field {field.name}", "JSON", "other bytes") from error


READERS: dict[str, Callable[[memoryview, Field], Any]] = {
    "": _text,
    "y": _base64,
    "q": _quantity,
    "x": _int_or_string,
    "t": _time,
    "u": _time,
    "r": _json,
}
"""How the bytes of each type that is no message are read."""
