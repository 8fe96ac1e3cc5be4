# SPDX-License-Identifier: Apache-2.0
"""Whether a configuration that is applied fits its schema: types, unknown fields, keys of list items, duplicates.

The texts are those of structured-merge-diff, which Go prints with its own notation of values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dynamic_memory.embedded.apiserver.patch.field_sets import path_text
from dynamic_memory.embedded.apiserver.patch.shapes import CONTAINERS, TypeProblem, element_of
from dynamic_memory.embedded.apiserver.schema import Schema

__all__ = ["validate"]

_NAMES = {bool: "boolean", int: "int64", float: "float64", str: "string", dict: "map", list: "list"}


def validate(schema: Schema, obj: Any) -> None:
    """Check an applied object: types, unknown fields, keys of list items, duplicates.

    Raises:
        TypeProblem: with the texts of structured-merge-diff.

    """
    problems = list(_problems(schema, obj, ()))
    if problems:
        raise TypeProblem([f"{path_text(path)}: {text}" if path else text for path, text in problems])


_Problems = Iterator[tuple[tuple[str, ...], str]]


def _problems(schema: Schema | None, value: Any, path: tuple[str, ...]) -> _Problems:
    if value is None or schema is None:
        return
    kind = schema.type
    if schema.quantity or schema.int_or_string or not kind:
        if type(value) in CONTAINERS and (schema.quantity or schema.int_or_string):
            yield path, f"expected any scalar, got {_shown(value)}"
        elif type(value) is dict and schema.properties:
            yield from _map_problems(schema, value, path)
    elif kind == "object":
        if type(value) is dict:
            yield from _map_problems(schema, value, path)
        else:
            yield path, f"expected map, got {_shown(value)}"
    elif kind == "array":
        if type(value) is list:
            yield from _list_problems(schema, value, path)
        else:
            yield path, f"expected list, got {_shown(value)}"
    else:
        problem = _scalar_problem(schema, value)
        if problem:
            yield path, problem


def _scalar_problem(schema: Schema, value: Any) -> str:
    if schema.type in {"integer", "number"}:
        return "" if type(value) in {int, float} else f"expected numeric (int or float), got {_NAMES[type(value)]}"
    if schema.type == "boolean":
        return "" if type(value) is bool else f"expected boolean, got {_shown(value)}"
    if schema.format not in {"", "byte"}:
        return f"expected any scalar, got {_shown(value)}" if type(value) in CONTAINERS else ""
    return "" if type(value) is str else f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"


def _shown(value: Any) -> str:
    """Print a value as messages of structured-merge-diff do: Go's `%v` of its own wrapper."""
    return f"&{{{_go(value)}}}"


def _go(value: Any) -> str:
    if type(value) is dict:
        return f"map[{' '.join(f'{name}:{_go(value[name])}' for name in sorted(value))}]"
    if type(value) is list:
        return f"[{' '.join(map(_go, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if type(value) is bool else str(value)


def _go_syntax(value: Any) -> str:
    """Print a value as Go's `%#v` does."""
    if type(value) is dict:
        inner = ", ".join(f'"{name}":{_go_syntax(value[name])}' for name in sorted(value))
        return f"map[string]interface {{}}{{{inner}}}"
    if type(value) is list:
        return f"[]interface {{}}{{{', '.join(map(_go_syntax, value))}}}"
    return json.dumps(value) if type(value) is str else _go(value)


def _map_problems(schema: Schema, value: dict[str, Any], path: tuple[str, ...]) -> _Problems:
    for name, item in value.items():
        child = schema.properties.get(name, schema.additional)
        if child is None and not schema.open:
            yield (*path, f"f:{name}"), "field not declared in schema"
        elif item is not None and child is not None:
            yield from _problems(child, item, (*path, f"f:{name}"))


def _list_problems(schema: Schema, items: list[Any], path: tuple[str, ...]) -> _Problems:
    seen: set[str] = set()
    for number, item in enumerate(items):
        element = f"i:{number}"
        if schema.list_type in {"map", "set"}:
            try:
                element = element_of(schema, item)
            except TypeProblem as problem:
                yield path, f"element {number}: {problem}"
                return
            if element in seen:
                yield path, f"duplicate entries for key {path_text((element,))}"
            seen.add(element)
        yield from _problems(schema.items, item, (*path, element))
