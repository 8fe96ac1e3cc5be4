# SPDX-License-Identifier: Apache-2.0
"""Values while an expression runs, and what it means for two of them to be equal or ordered.

bool, int, float, str, bytes and None stand for themselves, list and tuple for lists, any Mapping for maps and objects,
`Quantity` for quantities; the rest is here. Python takes True for 1 and so does a dict, CEL does not: equality goes
through `equal`, and a map that an expression makes keeps its boolean keys as `BoolKey`.

Source: CEL specification, "Equality", "Ordering", "Overflow".
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dynamic_memory.cel.errors import Fault
from dynamic_memory.quantity import Quantity

__all__ = [
    "INT_MAX", "INT_MIN", "NONE", "UINT_MAX",
    "BoolKey", "Duration", "ObjectValue", "Optional", "Semver", "Timestamp", "TypeValue", "Uint",
    "check_int", "equal", "find", "has_type", "items_of", "kind_of", "less", "make_key", "order", "size_of",
    "to_datetime",
]  # fmt: skip

INT_MAX = 2**63 - 1
INT_MIN = -(2**63)
UINT_MAX = 2**64 - 1
NANO = 10**9


class Uint(int):
    """An unsigned integer of 64 bits."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{int(self)}u"


class _Nanos:
    __slots__ = ("nanos",)

    def __init__(self, nanos: int) -> None:
        self.nanos = nanos

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __lt__(self, other: _Nanos) -> bool:
        return self.nanos < other.nanos

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.nanos})"


class Duration(_Nanos):
    """A length of time in nanoseconds."""

    __slots__ = ()


class Timestamp(_Nanos):
    """A point in time, in nanoseconds since 1970-01-01T00:00:00Z."""

    __slots__ = ()


class TypeValue:
    """A type as a value: `type(1) == int`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return type(other) is TypeValue and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


class Optional:
    """`optional.of(value)` or `optional.none()`."""

    __slots__ = ("present", "value")

    def __init__(self, value: Any, *, present: bool = True) -> None:
        self.value = value
        self.present = present

    def __repr__(self) -> str:
        return f"optional.of({self.value!r})" if self.present else "optional.none()"


NONE: Final = Optional(None, present=False)


class ObjectValue(dict[str, Any]):
    """What `Name{…}` makes: a dict that knows its type's name."""

    __slots__ = ("type_name",)

    def __init__(self, type_name: str, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.type_name = type_name


class BoolKey(enum.Enum):
    """A boolean as key of a map, distinct from 0 and 1."""

    FALSE = False
    TRUE = True


_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)  # fmt: skip


class Semver:
    """A semantic version; ordered by its rules, build data kept but not compared (semver.org 2.0.0)."""

    __slots__ = ("key", "major", "minor", "patch", "text")

    def __init__(self, text: str) -> None:
        match = _SEMVER.fullmatch(text)
        if match is None:
            raise Fault(_semver_problem(text))
        numbers = [int(match[index]) for index in (1, 2, 3)]
        if max(numbers) > UINT_MAX:
            raise Fault(f"version number of {text!r} out of range")
        self.text = text
        self.major, self.minor, self.patch = numbers
        parts: list[tuple[int, int, str]] = []
        for part in match[4].split(".") if match[4] else ():
            if part.isdigit():
                if part[0] == "0" and part != "0":
                    raise Fault(f"Numeric PreRelease version must not contain leading zeroes {part!r}")
                parts.append((0, int(part), ""))
            else:
                parts.append((1, 0, part))
        self.key = (*numbers, 0 if parts else 1, tuple(parts))

    @classmethod
    def normalized(cls, text: str) -> Semver:
        """Read a version with a leading v, without minor or patch number, or with leading zeros."""
        parts = text.removeprefix("v").split(".", 2)
        for index, part in enumerate(parts):
            if len(part) > 1:
                stripped = part.lstrip("0")
                parts[index] = stripped if stripped[:1].isdigit() else f"0{stripped}"
        if len(parts) < 3:  # noqa: PLR2004 - major, minor, patch
            if "+" in parts[-1] or "-" in parts[-1]:
                raise Fault("short version cannot contain PreRelease/Build meta data")
            parts += ["0"] * (3 - len(parts))
        return cls(".".join(parts))

    def __eq__(self, other: object) -> bool:
        return type(other) is Semver and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __lt__(self, other: Semver) -> bool:
        return self.key < other.key

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def _semver_problem(text: str) -> str:
    if not text:
        return "Version string empty"
    if text.count(".") < 2:  # noqa: PLR2004 - two dots divide three numbers
        return "No Major.Minor.Patch elements found"
    return f"Invalid semantic version {text!r}"


_KINDS: dict[type, str] = {
    bool: "bool", int: "int", Uint: "uint", float: "double", str: "string", bytes: "bytes", type(None): "null",
    list: "list", tuple: "list", dict: "map", ObjectValue: "object", Duration: "duration", Timestamp: "timestamp",
    TypeValue: "type", Optional: "optional", Quantity: "quantity", Semver: "semver",
}  # fmt: skip
_NUMERIC = frozenset((int, Uint, float))
_DIRECT = frozenset((int, Uint, float, bool, str, bytes, type(None), Quantity, Semver, Duration, Timestamp, TypeValue))
_ORDERED = frozenset((int, Uint, float, bool, str, bytes, Duration, Timestamp))


def kind_of(value: Any) -> str:
    """Return the kind of a value, as in Type.kind; other Python types name themselves by a `cel_kind` attribute."""
    kind = _KINDS.get(type(value))
    if kind is None:
        kind = getattr(value, "cel_kind", None)
        if kind is None:
            kind = "map" if isinstance(value, Mapping) else "object"
        _KINDS[type(value)] = kind
    return kind


def has_type(kind: str, value: Any) -> bool:
    """Tell whether a value is of a kind."""
    actual = kind_of(value)
    return actual == kind or (kind == "map" and actual == "object" and isinstance(value, Mapping))


def equal(one: Any, other: Any) -> bool:  # noqa: PLR0911 - a table of cases
    """Compare as `==` does when types are known only now."""
    a, b = type(one), type(other)
    if (a is b and a in _DIRECT) or (a in _NUMERIC and b in _NUMERIC):
        return bool(one == other)
    if a in _DIRECT and b in _DIRECT:
        if a is Quantity or a is Semver:
            # Types of Kubernetes refuse, as the left side, to be compared with anything but their like.
            raise Fault("no such overload")
        return False
    kind = kind_of(one)
    if kind != kind_of(other):
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            return _equal_maps(one, other)
        return False
    if kind == "list":
        return len(one) == len(other) and all(map(equal, one, other))
    if kind in ("map", "object") and isinstance(one, Mapping):
        return _equal_maps(one, other)
    if kind == "optional":
        return one.present is other.present and (not one.present or equal(one.value, other.value))
    return bool(one == other)


def _equal_maps(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    return len(one) == len(other) and all(key in other and equal(value, other[key]) for key, value in one.items())


def order(one: Any, other: Any) -> int:
    """Return -1, 0 or 1.

    Raises:
        Fault: the two cannot be compared.

    """
    return -1 if less(one, other) else int(less(other, one))


def less(one: Any, other: Any) -> bool:
    """Tell whether one comes before the other.

    Raises:
        Fault: the two cannot be compared.

    """
    a, b = type(one), type(other)
    if (a is b and a in _ORDERED) or (a in _NUMERIC and b in _NUMERIC):
        return bool(one < other)
    raise Fault("no such overload")


def check_int(number: int) -> int:
    """Return the number if it fits into 64 bits.

    Raises:
        Fault: it does not.

    """
    if INT_MIN <= number <= INT_MAX:
        return number
    raise Fault("integer overflow")


def size_of(value: Any) -> int:
    """Return what a value counts for in costs: its length, or 1."""
    return len(value) if kind_of(value) in ("string", "bytes", "list", "map") else 1


def make_key(value: Any) -> Any:
    """Return what a dict of ours uses as key for a value.

    Raises:
        Fault: it is no bool, int, uint or string.

    """
    if type(value) is bool:
        return BoolKey(value)
    if type(value) in (str, int, Uint):
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise Fault(f"unsupported key type: {kind_of(value)}")


def find(container: Mapping[Any, Any], key: Any) -> Any:
    """Return the value at a key; a KeyError says that there is none."""
    return container[make_key(key)]


def items_of(container: Any) -> Iterator[tuple[Any, Any]]:
    """Return the (index, element) pairs of a list or (key, value) pairs of a map.

    Raises:
        Fault: it is neither.

    """
    kind = kind_of(container)
    if kind == "list":
        return enumerate(container)
    if isinstance(container, Mapping):
        return ((key.value if type(key) is BoolKey else key, value) for key, value in container.items())
    raise Fault(f"got '{kind}', expected iterable type")


def to_datetime(value: Timestamp) -> dt.datetime:
    """Return a timestamp with microseconds."""
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=value.nanos // 1000)
