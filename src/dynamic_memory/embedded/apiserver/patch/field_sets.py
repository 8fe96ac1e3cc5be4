# SPDX-License-Identifier: Apache-2.0
"""Sets of fields, in the form in which managedFields keeps them (FieldsV1).

A set is a tree of dicts. Keys are path elements: `f:name` a field, `k:{"name":"a"}` an item of a list that is a map,
`v:"a"` an item of a list that is a set. A node that is `{}`, or has the key `.`, is itself in the set; the root never
is. Trees are shared between sets and never changed.

Source: sigs.k8s.io/structured-merge-diff, fieldpath.
"""

from __future__ import annotations

import json
import json.encoder
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = [
    "MEMBER",
    "Fields",
    "Path",
    "canonical",
    "difference",
    "from_paths",
    "has",
    "intersection",
    "key_element",
    "members",
    "ordered",
    "path_text",
    "union",
    "value_element",
    "without",
]

Fields = dict[str, Any]
Path = tuple[str, ...]
MEMBER = "."
_HTML = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
_ESCAPED = re.compile("[<>&\u2028\u2029]").search
_quoted = json.encoder.encode_basestring
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _json(value: Any) -> str:
    text = _quoted(value) if type(value) is str else _encode(value)
    return text.translate(_HTML) if _ESCAPED(text) else text


def key_element(keys: Mapping[str, Any]) -> str:
    """Return the element of an item of a list that is a map; `keys` in the order of the alphabet."""
    return "k:{" + ",".join([f'"{name}":{_json(value)}' for name, value in keys.items()]) + "}"


def value_element(value: Any) -> str:
    """Return the element of an item of a list that is a set."""
    return "v:" + _json(value)


def _is_member(node: Fields) -> bool:
    return not node or MEMBER in node


def _node(children: Fields, *, member: bool) -> Fields | None:
    """Return a node, None if nothing is in it."""
    if not children:
        return {} if member else None
    return {MEMBER: {}, **children} if member else children


def union(one: Fields, other: Fields) -> Fields:
    """Return what is in either set."""
    if not other or one is other:
        return one
    if not one:
        return other
    result = dict(one)
    for element, there in other.items():
        here = one.get(element)
        if here is None:
            result[element] = there
        elif here != there:
            result[element] = _union_nodes(here, there)
    return result


def _union_nodes(one: Fields, other: Fields) -> Fields:
    if not one or not other:
        both = one or other
        return both if MEMBER in both else {MEMBER: {}, **both}
    return union(one, other)


def intersection(one: Fields, other: Fields) -> Fields:
    """Return what is in both sets."""
    result: Fields = {}
    for element, here in one.items():
        there = other.get(element)
        if there is None or element == MEMBER:
            continue
        node = _node(intersection(here, there), member=_is_member(here) and _is_member(there))
        if node is not None:
            result[element] = node
    return result


def difference(one: Fields, other: Fields) -> Fields:
    """Return what is in the first set and not in the second; children of what is in the second stay."""
    if not other:
        return one
    result: Fields = {}
    for element, here in one.items():
        if element == MEMBER:
            continue
        there = other.get(element)
        if there is None:
            result[element] = here
            continue
        member = _is_member(here) and not _is_member(there)
        node = _node(difference({k: v for k, v in here.items() if k != MEMBER}, there), member=member)
        if node is not None:
            result[element] = node
    return result


def without(one: Fields, other: Fields) -> Fields:
    """Return the first set without what is in the second and without everything below that."""
    if not other:
        return one
    result: Fields = {}
    for element, here in one.items():
        if element == MEMBER:
            continue
        there = other.get(element)
        if there is None:
            result[element] = here
        elif not _is_member(there):
            node = _node(without({k: v for k, v in here.items() if k != MEMBER}, there), member=_is_member(here))
            if node is not None:
                result[element] = node
    return result


def has(fields: Fields, path: Path) -> bool:
    """Tell whether a path is in the set."""
    node: Fields | None = fields
    for element in path:
        node = node.get(element) if node is not None else None
    return node is not None and _is_member(node)


def members(fields: Fields, prefix: Path = ()) -> Iterator[Path]:
    """Return the paths in the set, parents before children, members of a level first, as Kubernetes lists them."""
    names = sorted(element for element in fields if element != MEMBER)
    for element in names:
        if _is_member(fields[element]):
            yield (*prefix, element)
    for element in names:
        if fields[element]:
            yield from members(fields[element], (*prefix, element))


def from_paths(paths: Iterable[Path]) -> Fields:
    """Return the set of paths of field names (`("metadata", "labels")`)."""
    root: Fields = {}
    for path in paths:
        node, fresh = root, False
        for number, name in enumerate(path):
            child = node.get(f"f:{name}")
            fresh = child is None
            if child is None:
                child = node[f"f:{name}"] = {}
            elif not child and number < len(path) - 1:
                child[MEMBER] = {}
            node = child
        if not fresh and node:
            node[MEMBER] = {}
    return root


def canonical(fields: Any) -> Fields:
    """Return a set that a client wrote in the one form in which sets are compared.

    Raises:
        ValueError: it is no set of fields.

    """
    if not isinstance(fields, Mapping):
        raise ValueError("error decoding set: fields must be an object")  # noqa: TRY004 - what callers catch
    result: Fields = {}
    for element, node in fields.items():
        if element == MEMBER:
            result[MEMBER] = {}
            continue
        kind, text = element[:2], element[2:]
        if kind[1:] != ":":
            raise ValueError(f"error decoding set: missing colon: {element}")
        if kind == "k:":
            element = key_element(dict(sorted(json.loads(text).items())))  # noqa: PLW2901 - the same element, spelled our way
        elif kind == "v:":
            element = value_element(json.loads(text))  # noqa: PLW2901
        elif kind not in {"f:", "i:"}:
            continue
        result[element] = canonical(node)
    return result


def ordered(fields: Fields) -> Fields:
    """Return the set with its elements in the order in which Kubernetes writes them."""
    if len(fields) == 1:
        ((element, node),) = fields.items()
        return {element: ordered(node)} if node else fields
    return {element: ordered(node) if (node := fields[element]) else node for element in sorted(fields)}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def path_text(path: Path) -> str:
    """Return a path as messages show it: `.spec.containers[name="a"].image`."""
    parts = []
    for element in path:
        kind, text = element[:2], element[2:]
        if kind == "k:":
            keys = json.loads(text)
            parts.append(f"[{','.join(f'{name}={_text(keys[name])}' for name in sorted(keys))}]")
        elif kind == "v:":
            parts.append(f"[={_text(json.loads(text))}]")
        else:
            parts.append(f".{text}" if kind == "f:" else f"[{text}]")
    return "".join(parts)
