# SPDX-License-Identifier: Apache-2.0
"""Paths of fields, and what can be wrong with them, in the words of apimachinery's `field` package."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from dynamic_memory.embedded.apiserver.errors import Cause

__all__ = [
    "OMIT",
    "at",
    "child",
    "duplicate",
    "forbidden",
    "internal",
    "invalid",
    "key",
    "not_found",
    "not_supported",
    "required",
    "shown",
    "too_few",
    "too_long",
    "too_many",
    "type_invalid",
]

OMIT: Final = object()
"""A value that a message does not show."""


def child(path: str, name: str) -> str:
    """Return the path of a field of an object."""
    return f"{path}.{name}" if path else name


def at(path: str, index: int) -> str:
    """Return the path of an element of a list."""
    return f"{path}[{index}]"


def key(path: str, name: str) -> str:
    """Return the path of a value of a map."""
    return f"{path}[{name}]"


def shown(value: Any) -> str:
    """Return a value as messages show it: texts quoted, numbers plain, everything else as JSON."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _with_value(reason: str, said: str, path: str, value: Any, detail: str) -> Cause:
    text = said if value is OMIT else f"{said}: {shown(value)}"
    return Cause(reason, f"{text}: {detail}" if detail else text, path)


def invalid(path: str, value: Any, detail: str) -> Cause:
    """Return a malformed value."""
    return _with_value("FieldValueInvalid", "Invalid value", path, value, detail)


def type_invalid(path: str, value: Any, detail: str) -> Cause:
    """Return a value of the wrong type."""
    return _with_value("FieldValueTypeInvalid", "Invalid value", path, value, detail)


def not_supported(path: str, value: Any, values: Iterable[str]) -> Cause:
    """Return a value that is none of those possible."""
    supported = ", ".join(json.dumps(one) for one in values)
    detail = f"supported values: {supported}" if supported else ""
    return _with_value("FieldValueNotSupported", "Unsupported value", path, value, detail)


def duplicate(path: str, value: Any) -> Cause:
    """Return a value that must be unique and is not."""
    return _with_value("FieldValueDuplicate", "Duplicate value", path, value, "")


def not_found(path: str, value: Any) -> Cause:
    """Return a name of something that is not there."""
    return _with_value("FieldValueNotFound", "Not found", path, value, "")


def required(path: str, detail: str = "") -> Cause:
    """Return a value that is missing."""
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", path)


def forbidden(path: str, detail: str) -> Cause:
    """Return a value that may not be there under these conditions."""
    return Cause("FieldValueForbidden", f"Forbidden: {detail}" if detail else "Forbidden", path)


def too_long(path: str, limit: int, unit: str = "byte") -> Cause:
    """Return a text that is too long; negative limit: do not say how long it may be."""
    said = f"may not be more than {limit} {unit}{'' if limit == 1 else 's'}" if limit >= 0 else "value is too long"
    return Cause("FieldValueTooLong", f"Too long: {said}", path)


def too_many(path: str, count: int, limit: int) -> Cause:
    """Return a list that is too long."""
    said = f"must have at most {limit} item{'' if limit == 1 else 's'}"
    text = f"Too many: {count}: {said}" if count >= 0 else f"Too many: {said}"
    return Cause("FieldValueTooMany", text, path)


def too_few(path: str, count: int, limit: int) -> Cause:
    """Return a list that is too short."""
    said = f"must have at least {limit} item{'' if limit == 1 else 's'}"
    return Cause("FieldValueTooFew", f"Too few: {count}: {said}", path)


def internal(path: str, why: str) -> Cause:
    """Return an error that is not the client's."""
    return Cause("InternalError", f"Internal error: {why}", path)
