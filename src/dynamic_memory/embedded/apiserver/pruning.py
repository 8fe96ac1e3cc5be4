# SPDX-License-Identifier: Apache-2.0
"""Fields of an object of a CRD that its schema does not know go, and so do nulls that it does not allow. Pure.

Source: `pruning` and `defaulting.PruneNonNullableNullsWithoutDefaults` of apiextensions-apiserver.
"""

from __future__ import annotations

from typing import Any, Final

from dynamic_memory.embedded.apiserver.schema import MISSING, Schema, clone

__all__ = ["MAX_PROBLEMS", "drop_nulls", "prune", "pruned", "unknown"]

MAX_PROBLEMS: Final = 100
"""How many faults of one object are named."""
_IMPLICIT: Final = ("apiVersion", "kind", "metadata")


def unknown(problems: list[str], path: str) -> None:
    """Name a field that the schema does not know, unless there are many already."""
    if len(problems) < MAX_PROBLEMS:
        problems.append(f'unknown field "{path}"')


def pruned(schema: Schema, value: Any) -> Any:
    """Return a value of a CRD without the fields that its schema does not know."""
    return prune(schema, value, "", [])


def prune(schema: Schema, value: Any, path: str, problems: list[str], *, root: bool = False) -> Any:
    """Return a value without the fields that its schema does not know.

    Args:
        schema: of the value.
        value: not changed.
        path: of it in its object.
        problems: gets `unknown field "…"` for each field that goes.
        root: the value is a whole object: its type and metadata stay.

    """
    if isinstance(value, list):
        items = schema.items
        if items is None:
            return clone(value) if schema.open else []
        return [prune(items, item, f"{path}[{index}]", problems) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    implicit = root or schema.embedded_resource
    made: dict[str, Any] = {}
    for name, item in value.items():
        inner = schema.properties.get(name)
        below = f"{path}.{name}" if path else name
        if implicit and name in _IMPLICIT:
            made[name] = clone(item)
        elif inner is not None:
            made[name] = prune(inner, item, below, problems)
        elif schema.additional is not None:
            made[name] = prune(schema.additional, item, below, problems)
        elif schema.open:
            made[name] = clone(item)
        else:
            unknown(problems, below)
    return made


def drop_nulls(schema: Schema, value: Any) -> Any:
    """Take out the nulls of an object of a CRD that are neither allowed nor replaced by a default; in place."""
    if isinstance(value, dict):
        for name in list(value):
            inner = schema.child(name)
            if inner is None:
                continue
            if value[name] is None and not inner.nullable and not inner.open and inner.default is MISSING:
                del value[name]
            else:
                drop_nulls(inner, value[name])
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            drop_nulls(schema.items, item)
    return value
