# SPDX-License-Identifier: Apache-2.0
"""The types of CEL as the checker sees them, and the declarations that environments are made of.

Types are interned: two equal types are one object, so that comparing them is `is`. `dyn` stands for whatever is known
only at run time; the element of an empty literal is `dyn` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "ANY",
    "BOOL",
    "BYTES",
    "CIDR",
    "DOUBLE",
    "DURATION",
    "DYN",
    "FORMAT",
    "INT",
    "IP",
    "NULL",
    "PARAM_A",
    "PARAM_B",
    "QUANTITY",
    "SEMVER",
    "STRING",
    "TIMESTAMP",
    "TYPE",
    "UINT",
    "URL",
    "Declared",
    "ObjectType",
    "Overload",
    "Type",
    "assignable",
    "join",
    "list_of",
    "map_of",
    "optional_of",
]


class Type:
    """A type: its kind (list, map, optional, object, param, or the name itself), name and parameters."""

    __slots__ = ("kind", "name", "params")

    def __init__(self, kind: str, name: str, params: tuple[Type, ...] = ()) -> None:
        self.kind = kind
        self.name = name
        self.params = params

    def __str__(self) -> str:
        shown = "optional_type" if self.kind == "optional" else self.name
        return f"{shown}({', '.join(map(str, self.params))})" if self.params else shown

    __repr__ = __str__


class ObjectType(Type):
    """A type with named fields.

    Args:
        name: as messages show it.
        fields: type of each field; None if any field may be asked for, each of type dyn.
        attributes: Python attribute that holds a field, for values that are no mappings.
        constructible: the expression may make one by `Name{…}`.

    """

    __slots__ = ("attributes", "constructible", "fields")

    def __init__(
        self,
        name: str,
        fields: Mapping[str, Type] | None,
        *,
        attributes: Mapping[str, str] | None = None,
        constructible: bool = False,
    ) -> None:
        super().__init__("object", name)
        self.fields = fields
        self.attributes = attributes
        self.constructible = constructible


BOOL, INT, UINT, DOUBLE = (Type(name, name) for name in ("bool", "int", "uint", "double"))
STRING, BYTES, NULL, DYN = (
    Type(name, shown)
    for name, shown in (("string", "string"), ("bytes", "bytes"), ("null", "null_type"), ("dyn", "dyn"))
)
ANY = Type("dyn", "google.protobuf.Any")
TYPE = Type("type", "type")
TIMESTAMP = Type("timestamp", "google.protobuf.Timestamp")
DURATION = Type("duration", "google.protobuf.Duration")
QUANTITY = Type("quantity", "kubernetes.Quantity")
SEMVER = Type("semver", "kubernetes.Semver")
URL = Type("url", "kubernetes.URL")
IP = Type("ip", "net.IP")
CIDR = Type("cidr", "net.CIDR")
FORMAT = Type("format", "kubernetes.NamedFormat")
PARAM_A = Type("param", "A")
PARAM_B = Type("param", "B")

_interned: dict[tuple[str, tuple[Type, ...]], Type] = {}


def _intern(kind: str, *params: Type) -> Type:
    key = (kind, params)
    found = _interned.get(key)
    if found is None:
        found = _interned[key] = Type(kind, kind, params)
    return found


def list_of(element: Type) -> Type:
    """Return list(element)."""
    return _intern("list", element)


def map_of(key: Type, value: Type) -> Type:
    """Return map(key, value)."""
    return _intern("map", key, value)


def optional_of(value: Type) -> Type:
    """Return optional_type(value)."""
    return _intern("optional", value)


def assignable(target: Type, given: Type) -> bool:
    """Tell whether a value of type `given` may stand where `target` is wanted."""
    if target is given or target.kind == "dyn" or given.kind == "dyn":
        return True
    if given is NULL:
        return target.kind in ("object", "timestamp", "duration", "optional")
    if target.kind != given.kind or not target.params:
        return False
    return all(assignable(a, b) for a, b in zip(target.params, given.params, strict=True))


def join(one: Type, other: Type) -> Type | None:
    """Return the type that both can stand for, the more exact one where one is dynamic; None if there is none."""
    if one is other:
        return one
    if one.kind == "dyn" or other.kind == "dyn":
        return DYN
    if one is NULL or other is NULL:
        rest = other if one is NULL else one
        return rest if assignable(rest, NULL) else None
    if one.kind != other.kind or not one.params:
        return None
    params = []
    for a, b in zip(one.params, other.params, strict=True):
        joined = b if a.kind == "dyn" else a if b.kind == "dyn" else join(a, b)
        if joined is None:
            return None
        params.append(joined)
    return _intern(one.kind, *params)


@dataclass(frozen=True, slots=True, eq=False)
class Overload:
    """One signature of a function.

    Attributes:
        id: the name of the signature in cel-go, which decides the cost.
        params: types of the arguments, the target of a member call first.
        call: the implementation; gets Python values, raises Fault.

    """

    id: str
    function: str
    params: tuple[Type, ...]
    result: Type
    call: Callable[..., Any]
    member: bool = False


@dataclass(frozen=True, slots=True)
class Declared:
    """What an environment says about a variable beyond its type: how large it can be.

    Attributes:
        size: most characters, elements or entries; None if unknown.
        fields: of an object; `element` and `key` of a list or map.

    """

    type: Type
    size: int | None = None
    fields: Mapping[str, Declared] = field(default_factory=dict)
    key: Declared | None = None
    element: Declared | None = None
