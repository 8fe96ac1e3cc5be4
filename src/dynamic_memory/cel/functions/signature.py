# SPDX-License-Identifier: Apache-2.0
"""Signatures as text: `list(A).indexOf(A) -> int` declares one overload of a function.

A table of such lines beside the Python that does the work is shorter and easier to compare with the lists in
Kubernetes' documentation than code that builds each type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from dynamic_memory.cel import types as t
from dynamic_memory.cel.types import Overload, Type

__all__ = ["declare", "read_type"]

_NAMED: dict[str, Type] = {
    "bool": t.BOOL, "int": t.INT, "uint": t.UINT, "double": t.DOUBLE, "string": t.STRING, "bytes": t.BYTES,
    "null": t.NULL, "dyn": t.DYN, "type": t.TYPE, "timestamp": t.TIMESTAMP, "duration": t.DURATION,
    "Quantity": t.QUANTITY, "Semver": t.SEMVER, "URL": t.URL, "IP": t.IP, "CIDR": t.CIDR, "Format": t.FORMAT,
    "A": t.PARAM_A, "B": t.PARAM_B,
}  # fmt: skip
_SIGNATURE = re.compile(
    r"(?:(?P<target>[^.]+?)\.(?=\w+\())?(?P<name>[@\w.?:\[\]!=<>+\-*/%]+)\((?P<args>.*)\) -> (?P<result>.+)"
)


def read_type(text: str) -> Type:
    """Read a type such as map(string, list(A))."""
    text = text.strip()
    if not text.endswith(")"):
        return _NAMED[text]
    name, _, inner = text[:-1].partition("(")
    params = [read_type(part) for part in _split(inner)]
    makers: dict[str, Callable[..., Type]] = {"list": t.list_of, "map": t.map_of, "optional": t.optional_of}
    return makers[name](*params)


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]] if text.strip() else []


def declare(rows: Iterable[tuple[str, str, Callable[..., Any]]], *, static: Iterable[str] = ()) -> tuple[Overload, ...]:
    """Return the overloads of (id, signature, implementation) rows; `static` names functions whose dot is no target."""
    overloads = []
    namespaces = tuple(f"{name}." for name in static)
    for overload, signature, call in rows:
        match = _SIGNATURE.fullmatch(signature)
        if match is None:
            raise ValueError(signature)
        target, name = match["target"], match["name"]
        if target and signature.startswith(namespaces):
            target, name = None, f"{target}.{name}"
        params = tuple(read_type(part) for part in ([target] if target else []) + _split(match["args"]))
        overloads.append(Overload(overload, name, params, read_type(match["result"]), call, member=bool(target)))
    return tuple(overloads)
