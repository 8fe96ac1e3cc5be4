# SPDX-License-Identifier: Apache-2.0
"""Operators and functions that every CEL has.

Source: CEL specification, "List of Standard Definitions"; integers overflow with an error, numbers of different types
compare by value, and `%` and `/` round towards zero.
"""

from __future__ import annotations

import math
import re
from typing import Any

from dynamic_memory.cel.errors import Fault
from dynamic_memory.cel.functions.signature import declare
from dynamic_memory.cel.functions.times import (
    format_duration,
    format_timestamp,
    parse_duration,
    parse_timestamp,
)
from dynamic_memory.cel.regex import compile_regex
from dynamic_memory.cel.values import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    Duration,
    Timestamp,
    TypeValue,
    Uint,
    check_int,
    equal,
    find,
    kind_of,
    less,
    make_key,
)

__all__ = ["OVERLOADS", "add", "divide", "index", "is_in", "modulo", "multiply", "negate", "subtract", "to_text"]

_NO_OVERLOAD = "no such overload"
MIN_PLAIN, MAX_PLAIN = -4, 6
"""Digits before the point of a double beyond which Go writes an exponent (strconv's format g)."""


def _unequal(one: Any, other: Any) -> bool:
    """Compare as `!=`: what refuses to be compared is not equal."""
    try:
        return not equal(one, other)
    except Fault:
        return True


def _uint(number: int) -> Uint:
    if 0 <= number <= UINT_MAX:
        return Uint(number)
    raise Fault("unsigned integer overflow")


def _duration(nanos: int) -> Duration:
    if INT_MIN <= nanos <= INT_MAX:
        return Duration(nanos)
    raise Fault("duration overflow")


def _timestamp(nanos: int) -> Timestamp:
    if -62135596800 * 10**9 <= nanos < 253402300800 * 10**9:
        return Timestamp(nanos)
    raise Fault("timestamp overflow")


def add(a: Any, b: Any) -> Any:
    """Add numbers and times, join texts and lists."""
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return check_int(a + b)
        if kind in (str, float, bytes):
            return a + b
        if kind is Uint:
            return _uint(int(a) + int(b))
        if kind is Duration:
            return _duration(a.nanos + b.nanos)
    if kind_of(a) == "list" == kind_of(b):
        return [*a, *b]
    if (type(b) is Timestamp and kind is Duration) or (kind is Timestamp and type(b) is Duration):
        return _timestamp(a.nanos + b.nanos)
    raise Fault(_NO_OVERLOAD)


def subtract(a: Any, b: Any) -> Any:
    """Subtract numbers and times."""
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return check_int(a - b)
        if kind is float:
            return a - b
        if kind is Uint:
            return _uint(int(a) - int(b))
        if kind is Duration or kind is Timestamp:
            return _duration(a.nanos - b.nanos)
    if kind is Timestamp and type(b) is Duration:
        return _timestamp(a.nanos - b.nanos)
    raise Fault(_NO_OVERLOAD)


def multiply(a: Any, b: Any) -> Any:
    """Multiply numbers of one type."""
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return check_int(a * b)
        if kind is float:
            return a * b
        if kind is Uint:
            return _uint(int(a) * int(b))
    raise Fault(_NO_OVERLOAD)


def divide(a: Any, b: Any) -> Any:
    """Divide numbers of one type, integers towards zero."""
    kind = type(a)
    if kind is not type(b) or kind not in (int, Uint, float):
        raise Fault(_NO_OVERLOAD)
    if kind is float:
        if b == 0.0:
            return math.nan if a == 0.0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)
        return a / b
    if b == 0:
        raise Fault("division by zero")
    quotient = abs(int(a)) // abs(int(b))
    return Uint(quotient) if kind is Uint else check_int(quotient if (a < 0) == (b < 0) else -quotient)


def modulo(a: Any, b: Any) -> Any:
    """Return the rest of a division towards zero: it has the sign of the dividend."""
    kind = type(a)
    if kind is not type(b) or kind not in (int, Uint):
        raise Fault(_NO_OVERLOAD)
    if b == 0:
        raise Fault("modulus by zero")
    if b == -1 and a == INT_MIN:
        raise Fault("integer overflow")
    rest = abs(int(a)) % abs(int(b))
    return Uint(rest) if kind is Uint else (rest if a >= 0 else -rest)


def negate(a: Any) -> Any:
    """Negate an int or double."""
    if type(a) is int:
        return check_int(-a)
    if type(a) is float:
        return -a
    raise Fault(_NO_OVERLOAD)


def index(container: Any, key: Any) -> Any:
    """Return the element of a list or the value of a map."""
    if kind_of(container) == "list":
        at = key
        if type(key) is float and key.is_integer():
            at = int(key)
        if type(at) not in (int, Uint):
            raise Fault(f"unsupported index type '{kind_of(key)}' in list")
        if not 0 <= at < len(container):
            raise Fault(f"index out of bounds: {at}")
        return container[at]
    if kind_of(container) not in ("map", "object"):
        raise Fault(_NO_OVERLOAD)
    try:
        return find(container, key)
    except KeyError:
        raise Fault(f"no such key: {to_text(key) if not isinstance(key, str) else key}") from None


def is_in(value: Any, container: Any) -> bool:
    """Look for an element of a list or a key of a map."""
    if kind_of(container) == "list":
        return any(equal(value, element) for element in container)
    if kind_of(container) != "map":
        raise Fault(_NO_OVERLOAD)
    try:
        key = make_key(value)
    except Fault:
        return False
    return key in container


def _not(value: Any) -> bool:
    if type(value) is bool:
        return not value
    raise Fault(_NO_OVERLOAD)


def _at_most(a: Any, b: Any) -> bool:
    if (type(a) is float and math.isnan(a)) or (type(b) is float and math.isnan(b)):
        return False
    return not less(b, a)


def _size(value: Any) -> int:
    if kind_of(value) in ("string", "bytes", "list", "map"):
        return len(value)
    raise Fault(_NO_OVERLOAD)


def format_double(value: float) -> str:
    """Return the shortest text of a double, as Go's %g does."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    mantissa, _, exponent = f"{value!r}e0".removesuffix("e0").partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, decimals = mantissa.lstrip("-").partition(".")
    decimals = "" if decimals == "0" else decimals
    digits = (whole + decimals).lstrip("0")
    if not digits:
        return f"{sign}0"
    point = len(whole) + int(exponent or 0) - (len(whole + decimals) - len(digits))
    digits = digits.rstrip("0")
    if not MIN_PLAIN <= point - 1 < MAX_PLAIN:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{point - 1:+03d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[:point].ljust(point, '0')}" + (f".{digits[point:]}" if len(digits) > point else "")


def to_text(value: Any) -> str:  # noqa: PLR0911 - a table of cases
    """Convert to a string, as `string()` does."""
    kind = kind_of(value)
    if kind == "string":
        return str(value)
    if kind == "bool":
        return "true" if value else "false"
    if kind in ("int", "uint"):
        return str(int(value))
    if kind == "double":
        return format_double(value)
    if kind == "bytes":
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise Fault("invalid UTF-8 in bytes, cannot convert to string") from None
    if kind == "duration":
        return format_duration(value)
    if kind == "timestamp":
        return format_timestamp(value)
    if kind in ("ip", "cidr"):
        return str(value)
    raise Fault(_NO_OVERLOAD)


_INTEGER = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)


def _to_int(value: Any) -> int:
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is Uint:
        return check_int(int(value))
    if kind is float:
        if not -(2.0**63) < value < 2.0**63:
            raise Fault("integer overflow")
        return int(value)
    if kind is Timestamp:
        return int(value.nanos // 10**9)
    if kind is Duration:
        return int(value.nanos)
    if kind is str and _INTEGER.fullmatch(value) and INT_MIN <= int(value) <= INT_MAX:
        return int(value)
    raise Fault(f"strconv.ParseInt: parsing {value!r}: invalid syntax" if kind is str else _NO_OVERLOAD)


def _to_uint(value: Any) -> Uint:
    kind = type(value)
    if kind in (int, Uint):
        return _uint(int(value))
    if kind is float and 0 <= value < 2.0**64:
        return Uint(int(value))
    if kind is float:
        raise Fault("unsigned integer overflow")
    if kind is str and value.isascii() and value.isdigit() and len(value) <= 20 and int(value) <= UINT_MAX:  # noqa: PLR2004 - digits of 2^64
        return Uint(int(value))
    raise Fault(f"strconv.ParseUint: parsing {value!r}: invalid syntax" if kind is str else _NO_OVERLOAD)


_DOUBLE = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)


def _to_double(value: Any) -> float:
    if type(value) in (int, Uint, float):
        return float(value)
    if type(value) is str and _DOUBLE.fullmatch(value):
        return float(value)
    raise Fault(f"strconv.ParseFloat: parsing {value!r}: invalid syntax" if type(value) is str else _NO_OVERLOAD)


def _to_bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise Fault(f"strconv.ParseBool: parsing {value!r}: invalid syntax")


def _to_bytes(value: Any) -> bytes:
    return value.encode() if type(value) is str else bytes(value)


def _to_duration(value: Any) -> Duration:
    return parse_duration(value) if type(value) is str else _duration(value.nanos if type(value) is Duration else value)


def _to_timestamp(value: Any) -> Timestamp:
    if type(value) is Timestamp:
        return value
    return _timestamp((parse_timestamp(value)).nanos if type(value) is str else value * 10**9)


_TYPE_NAMES = {
    "null": "null_type",
    "timestamp": "google.protobuf.Timestamp",
    "duration": "google.protobuf.Duration",
    "optional": "optional_type",
    "quantity": "kubernetes.Quantity",
    "semver": "kubernetes.Semver",
    "url": "kubernetes.URL",
    "ip": "net.IP",
    "cidr": "net.CIDR",
    "format": "kubernetes.NamedFormat",
}


def _type(value: Any) -> TypeValue:
    kind = kind_of(value)
    return TypeValue(_TYPE_NAMES.get(kind, getattr(value, "type_name", kind)))


def _matches(text: str, pattern: str) -> bool:
    return compile_regex(pattern).matches(text)


_NUMBERS = ("int", "uint", "double")
_ORDERED = ("bool", "string", "bytes", "timestamp", "duration")
_rows: list[tuple[str, str, Any]] = [
    ("equals", "_==_(A, A) -> bool", equal),
    ("not_equals", "_!=_(A, A) -> bool", _unequal),
    ("logical_not", "!_(bool) -> bool", _not),
    *((f"negate_{n}", f"-_({n}) -> {n}", negate) for n in ("int", "double")),
    *((f"add_{n}", f"_+_({n}, {n}) -> {n}", add) for n in (*_NUMBERS, "string", "bytes")),
    ("add_list", "_+_(list(A), list(A)) -> list(A)", add),
    ("add_duration_duration", "_+_(duration, duration) -> duration", add),
    ("add_duration_timestamp", "_+_(duration, timestamp) -> timestamp", add),
    ("add_timestamp_duration", "_+_(timestamp, duration) -> timestamp", add),
    *((f"subtract_{n}", f"_-_({n}, {n}) -> {n}", subtract) for n in _NUMBERS),
    ("subtract_duration_duration", "_-_(duration, duration) -> duration", subtract),
    ("subtract_timestamp_duration", "_-_(timestamp, duration) -> timestamp", subtract),
    ("subtract_timestamp_timestamp", "_-_(timestamp, timestamp) -> duration", subtract),
    *((f"multiply_{n}", f"_*_({n}, {n}) -> {n}", multiply) for n in _NUMBERS),
    *((f"divide_{n}", f"_/_({n}, {n}) -> {n}", divide) for n in _NUMBERS),
    *((f"modulo_{n}", f"_%_({n}, {n}) -> {n}", modulo) for n in ("int", "uint")),
    ("in_list", "@in(A, list(A)) -> bool", is_in),
    ("in_map", "@in(A, map(A, B)) -> bool", is_in),
    ("index_list", "_[_](list(A), int) -> A", index),
    ("index_map", "_[_](map(A, B), A) -> B", index),
    *((f"size_{n.partition('(')[0]}", f"size({n}) -> int", _size) for n in ("string", "bytes", "list(A)", "map(A, B)")),
    *(
        (f"{n.partition('(')[0]}_size", f"{n}.size() -> int", _size)
        for n in ("string", "bytes", "list(A)", "map(A, B)")
    ),
    ("contains_string", "string.contains(string) -> bool", lambda a, b: b in a),
    ("starts_with_string", "string.startsWith(string) -> bool", str.startswith),
    ("ends_with_string", "string.endsWith(string) -> bool", str.endswith),
    ("matches_string", "string.matches(string) -> bool", _matches),
    ("matches", "matches(string, string) -> bool", _matches),
    ("to_dyn", "dyn(A) -> dyn", lambda a: a),
    ("type", "type(A) -> type", _type),
    *(
        (f"{n}_to_int", f"int({n}) -> int", _to_int)
        for n in ("int", "uint", "double", "string", "timestamp", "duration")
    ),
    *((f"{n}_to_uint", f"uint({n}) -> uint", _to_uint) for n in ("int", "uint", "double", "string")),
    *((f"{n}_to_double", f"double({n}) -> double", _to_double) for n in ("int", "uint", "double", "string")),
    *((f"{n}_to_bool", f"bool({n}) -> bool", _to_bool) for n in ("bool", "string")),
    *((f"{n}_to_bytes", f"bytes({n}) -> bytes", _to_bytes) for n in ("bytes", "string")),
    *((f"{n}_to_string", f"string({n}) -> string", to_text) for n in (*_NUMBERS, *_ORDERED)),
    *((f"{n}_to_duration", f"duration({n}) -> duration", _to_duration) for n in ("duration", "int", "string")),
    *((f"{n}_to_timestamp", f"timestamp({n}) -> timestamp", _to_timestamp) for n in ("timestamp", "int", "string")),
]
for _sign, _name, _call in (
    ("<", "less", less),
    ("<=", "less_equals", _at_most),
    (">", "greater", lambda a, b: less(b, a)),
    (">=", "greater_equals", lambda a, b: _at_most(b, a)),
):
    _rows += ((f"{_name}_{n}", f"_{_sign}_({n}, {n}) -> bool", _call) for n in (*_NUMBERS, *_ORDERED))
    _rows += ((f"{_name}_{a}_{b}", f"_{_sign}_({a}, {b}) -> bool", _call) for a in _NUMBERS for b in _NUMBERS if a != b)

OVERLOADS = declare(_rows)
