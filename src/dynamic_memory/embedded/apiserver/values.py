# SPDX-License-Identifier: Apache-2.0
"""Validation of values against a schema, as apiextensions does it, with the texts of kube-openapi. Pure.

Errors of what an update does not change are forgiven (validation ratcheting, stable since 1.33): where the old value
is known and equal nothing below is looked at. Elements of a list correspond only in lists of type map.
"""

from __future__ import annotations

import base64
import binascii
import functools
import ipaddress
import json
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Final
from urllib.parse import urlparse

from dynamic_memory.cel.errors import CompileError, EvaluationError, Fault
from dynamic_memory.cel.functions.times import parse_duration
from dynamic_memory.cel.regex import Regex, compile_regex
from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.gotypes import canonical_quantity
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema
from dynamic_memory.errors import DynamicMemoryError, InvalidInput

__all__ = ["NO_PATH", "corresponding", "list_item_key", "validate_lists", "validate_value"]

NO_PATH: Final = "<nil>"
"""What messages of allOf, anyOf, oneOf and not have for a path."""


def type_name(value: Any) -> str:
    """Return what JSON calls the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    return "array" if isinstance(value, list) else "object"


def validate_value(  # noqa: C901 - a table of types
    schema: Schema, value: Any, path: str = "", old: Any = MISSING
) -> list[Cause]:
    """Return what is wrong with a value.

    Args:
        schema: of the value.
        value: of JSON.
        path: of the value.
        old: the value before an update, `MISSING` if there is none that corresponds.

    """
    if old is not MISSING and value == old and type(value) is type(old):
        return []
    if value is None:
        return [] if schema.nullable or _takes_anything(schema) else [_wrong_type(schema, value, path)]
    if not _has_type(schema, value):
        return [_wrong_type(schema, value, path)]
    causes: list[Cause] = []
    if isinstance(value, str):
        causes += _text(schema, value, path)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        causes += _number(schema, value, path)
    elif isinstance(value, list):
        causes += _list(schema, value, path, old)
    elif isinstance(value, dict):
        causes += _object(schema, value, path, old)
    if schema.enum is not None and not any(_equal(value, one) for one in schema.enum):
        values = [one if isinstance(one, str) else json.dumps(one) for one in schema.enum]
        causes.append(fields.not_supported(path, value, values))
    if schema.all_of or schema.any_of or schema.one_of or schema.not_ is not None:
        causes += _junctors(schema, value, path)
    return causes


def _takes_anything(schema: Schema) -> bool:
    return schema.preserve_unknown and not schema.type


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _has_type(schema: Schema, value: Any) -> bool:
    if schema.int_or_string or schema.quantity:
        if schema.quantity and isinstance(value, str):
            return _is_quantity(value)
        return isinstance(value, int | str) and not isinstance(value, bool)
    kind = type_name(value)
    return not schema.type or schema.type == kind or (schema.type == "number" and kind == "integer")


def _is_quantity(text: str) -> bool:
    try:
        canonical_quantity(text)
    except InvalidInput:
        return False
    return True


def _wrong_type(schema: Schema, value: Any, path: str) -> Cause:
    said = "integer,string" if schema.int_or_string else schema.type
    if schema.quantity:
        return fields.invalid(path, value, "must be a quantity such as 512Mi, 1.5 or 100m")
    kind = type_name(value)
    return fields.type_invalid(path, kind, f'{path} in body must be of type {said}: "{kind}"')


def _text(schema: Schema, value: str, path: str) -> list[Cause]:
    causes = []
    if schema.max_length is not None and len(value) > schema.max_length:
        causes.append(fields.too_long(path, schema.max_length))
    if schema.min_length is not None and len(value) < schema.min_length:
        text = f"{path} in body should be at least {schema.min_length} chars long"
        causes.append(fields.invalid(path, value, text))
    if schema.pattern is not None and not _matches(schema.pattern, value):
        causes.append(fields.invalid(path, value, f"{path} in body should match '{schema.pattern}'"))
    check = FORMATS.get(schema.format)
    if check is not None and not _passes(check, value):
        causes.append(fields.type_invalid(path, value, f'{path} in body must be of type {schema.format}: "{value}"'))
    return causes


@functools.lru_cache(maxsize=512)
def _regex(pattern: str) -> Regex | None:
    try:
        return compile_regex(pattern)
    except (CompileError, Fault, DynamicMemoryError):
        return None


def _matches(pattern: str, value: str) -> bool:
    compiled = _regex(pattern)
    try:
        return compiled is not None and compiled.matches(value)
    except (EvaluationError, Fault):
        return False


def _passes(check: Callable[[str], object], value: str) -> bool:
    try:
        return check(value) is not False
    except (ValueError, Fault, binascii.Error):
        return False


def _is_time(value: str) -> bool:
    return "T" in value.upper() and datetime.fromisoformat(value).tzinfo is not None


_HOST: Final = re.compile(
    r"(?=.{1,255}$)([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*\.?"
)
_MAIL: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+\.?[^@\s<>]*")
_MAC: Final = re.compile(r"([0-9A-Fa-f]{2}[:-]){5}([0-9A-Fa-f]{2})([:-][0-9A-Fa-f]{2}){0,2}")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
FORMATS: Final[dict[str, Callable[[str], object]]] = {
    "date-time": _is_time,
    "datetime": _is_time,
    "date": date.fromisoformat,
    "duration": parse_duration,
    "byte": lambda value: base64.b64decode(value, validate=True),
    "uuid": uuid.UUID,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "cidr": lambda value: "/" in value and ipaddress.ip_network(value, strict=False) is not None,
    "uri": lambda value: bool(urlparse(value).scheme),
    "hostname": lambda value: _HOST.fullmatch(value) is not None,
    "email": lambda value: _MAIL.fullmatch(value) is not None,
    "mac": lambda value: _MAC.fullmatch(value) is not None,
    "k8s-short-name": lambda value: _LABEL.fullmatch(value) is not None,
}
"""Formats of texts that are checked; others are only names."""
_WIDTHS: Final = {"int32": 2**31, "int64": 2**63}


def _number(schema: Schema, value: float, path: str) -> list[Cause]:
    causes = []
    width = _WIDTHS.get(schema.format)
    if width is not None and not -width <= value < width:
        text = f'{path} in body must be of type {schema.format}: "{fields.shown(value)}"'
        causes.append(fields.type_invalid(path, value, text))
    if schema.maximum is not None and (
        value > schema.maximum or (schema.exclusive_maximum and value == schema.maximum)
    ):
        than = "less than" if schema.exclusive_maximum else "less than or equal to"
        text = f"{path} in body should be {than} {fields.shown(schema.maximum)}"
        causes.append(fields.invalid(path, value, text))
    if schema.minimum is not None and (
        value < schema.minimum or (schema.exclusive_minimum and value == schema.minimum)
    ):
        than = "greater than" if schema.exclusive_minimum else "greater than or equal to"
        text = f"{path} in body should be {than} {fields.shown(schema.minimum)}"
        causes.append(fields.invalid(path, value, text))
    if schema.multiple_of and not float(value / schema.multiple_of).is_integer():
        text = f"{path} in body should be a multiple of {fields.shown(schema.multiple_of)}"
        causes.append(fields.invalid(path, value, text))
    return causes


def _list(schema: Schema, value: list[Any], path: str, old: Any) -> list[Cause]:
    causes = []
    if schema.max_items is not None and len(value) > schema.max_items:
        causes.append(fields.too_many(path, len(value), schema.max_items))
    if schema.min_items is not None and len(value) < schema.min_items:
        text = f"{path} in body should have at least {schema.min_items} items"
        causes.append(fields.invalid(path, len(value), text))
    if schema.unique_items and len({_identity(item) for item in value}) != len(value):
        causes.append(fields.invalid(path, fields.OMIT, f"{path} in body shouldn't contain duplicates"))
    if schema.items is not None:
        before = corresponding(schema, old)
        for index, item in enumerate(value):
            causes += validate_value(schema.items, item, f"{path}[{index}]", before(item))
    return causes


def corresponding(schema: Schema, old: Any) -> Callable[[Any], Any]:
    """Return what finds the old element of an element of a list: by its keys, or not at all."""
    if schema.list_type != "map" or not isinstance(old, list):
        return lambda _: MISSING
    known = {list_item_key(schema, item): item for item in old}
    return lambda item: known.get(list_item_key(schema, item), MISSING)


def list_item_key(schema: Schema, item: Any) -> str:
    """Return what identifies an element of a list of type map; a key that is absent has its default."""
    if not isinstance(item, dict):
        return _identity(item)
    keys = {}
    for name in schema.list_map_keys:
        inner = schema.items.properties.get(name) if schema.items is not None else None
        default = inner.default if inner is not None and inner.default is not MISSING else None
        keys[name] = item.get(name, default)
    return _identity(keys)


def _identity(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _object(schema: Schema, value: dict[str, Any], path: str, old: Any) -> list[Cause]:
    causes = []
    count = len(value)
    if schema.max_properties is not None and count > schema.max_properties:
        causes.append(fields.too_many(path, count, schema.max_properties))
    if schema.min_properties is not None and count < schema.min_properties:
        text = f"{path} in body should have at least {schema.min_properties} properties"
        causes.append(fields.invalid(path, count, text))
    before = old if isinstance(old, dict) else {}
    causes += [fields.required(fields.child(path, name)) for name in sorted(schema.required) if name not in value]
    for name, item in value.items():
        inner = schema.child(name)
        if inner is not None:
            causes += validate_value(inner, item, fields.child(path, name), before.get(name, MISSING))
    return causes


def _shortest(tries: list[list[Cause]]) -> list[Cause]:
    """Return what is wrong by the alternative that comes closest."""
    return min(tries, key=len)


def _junctors(schema: Schema, value: Any, path: str) -> list[Cause]:
    causes: list[Cause] = []
    name = json.dumps(path)
    for inner in schema.all_of:
        causes += validate_value(inner, value, path)
    if schema.any_of:
        tries: list[list[Cause]] = [validate_value(inner, value, path) for inner in schema.any_of]
        if all(tries):
            text = f"{name} must validate at least one schema (anyOf)"
            causes += [fields.invalid(NO_PATH, "", text), *_shortest(tries)]
    if schema.one_of:
        tries = [validate_value(inner, value, path) for inner in schema.one_of]
        valid = sum(not found for found in tries)
        if valid != 1:
            found = "Found none valid" if not valid else f"Found {valid} valid alternatives"
            text = f"{name} must validate one and only one schema (oneOf). {found}"
            causes.append(fields.invalid(NO_PATH, "", text))
            if not valid:
                causes += _shortest(tries)
    if schema.not_ is not None and not validate_value(schema.not_, value, path):
        causes.append(fields.invalid(NO_PATH, "", f"{name} must not validate the schema (not)"))
    return causes


def validate_lists(schema: Schema, value: Any, path: str = "", old: Any = MISSING) -> list[Cause]:
    """Return the elements that lists of type set and map have more than once."""
    if old is not MISSING and value == old:
        return []
    causes: list[Cause] = []
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, item in value.items():
            inner = schema.child(name)
            if inner is not None and isinstance(item, dict | list):
                below = fields.child(path, name) if name in schema.properties else fields.key(path, name)
                causes += validate_lists(inner, item, below, before.get(name, MISSING))
    elif isinstance(value, list):
        if schema.list_type in ("set", "map"):
            causes += _uniqueness(schema, value, path)
        if schema.items is not None:
            found = corresponding(schema, old)
            for index, item in enumerate(value):
                if isinstance(item, dict | list):
                    causes += validate_lists(schema.items, item, f"{path}[{index}]", found(item))
    return causes


def _uniqueness(schema: Schema, value: list[Any], path: str) -> list[Cause]:
    causes = []
    seen: dict[str, int] = {}
    for index, item in enumerate(value):
        shown = item
        if schema.list_type == "map":
            if item is not None and not isinstance(item, dict):
                text = "must be an object for an array of list-type map"
                return [fields.invalid(fields.at(path, index), item, text)]
            shown = {name: (item or {})[name] for name in schema.list_map_keys if name in (item or {})}
            identity = list_item_key(schema, item or {})
        else:
            identity = _identity(item)
        seen[identity] = seen.get(identity, 0) + 1
        if seen[identity] == 2:  # noqa: PLR2004 - the second of its kind is named, later ones are not
            causes.append(fields.duplicate(fields.at(path, index), shown))
    return causes
