# SPDX-License-Identifier: Apache-2.0
"""The defaults of schemas, filled into objects of CRDs. Pure.

Most of a schema has no defaults at all, and an object is filled each time it is read or written. So what a schema asks
for is found once, and places without defaults are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dynamic_memory.embedded.apiserver.schema import MISSING, Schema, clone

__all__ = ["apply_defaults"]

Filler = Callable[[Any], None]

_MAX_FILLERS: Final = 20_000
_FILLERS: dict[int, tuple[Schema, tuple[Filler, ...]]] = {}
"""By identity; the schema is kept with it, so that its identity is not given to another."""


def apply_defaults(schema: Schema, value: Any) -> Any:
    """Fill in the defaults of a schema, in place; nulls that are not allowed count as absent."""
    for found in _defaults(schema):
        found(value)
    return value


def _defaults(schema: Schema) -> tuple[Filler, ...]:
    """Return what fills in defaults below a schema: nothing where there are none, which is most of a schema."""
    known = _FILLERS.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    made = (_Filler(schema),) if _has_defaults(schema, set()) else ()
    _FILLERS[id(schema)] = (schema, made)
    if len(_FILLERS) > _MAX_FILLERS:
        _FILLERS.clear()
    return made


def _has_defaults(schema: Schema, seen: set[int]) -> bool:
    if id(schema) in seen:
        return False
    seen.add(id(schema))
    below = [*schema.properties.values()]
    below += [inner for inner in (schema.additional, schema.items) if inner is not None]
    return any(inner.default is not MISSING or _has_defaults(inner, seen) for inner in below)


class _Filler:
    """Fills in what is absent from one kind of value."""

    __slots__ = ("here", "inner", "schema")

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.here = [
            (name, inner.default, inner.nullable)
            for name, inner in schema.properties.items()
            if inner.default is not MISSING
        ]
        self.inner: dict[str, tuple[Filler, ...]] | None = None

    def __call__(self, value: Any) -> None:
        schema = self.schema
        if isinstance(value, dict):
            for name, default, nullable in self.here:
                if name not in value or (value[name] is None and not nullable):
                    value[name] = clone(default)
            if self.inner is None:
                found = {name: _defaults(inner) for name, inner in schema.properties.items()}
                self.inner = {name: fillers for name, fillers in found.items() if fillers}
            for name, fillers in self.inner.items():
                if name in value:
                    for filler in fillers:
                        filler(value[name])
            if schema.additional is not None:
                self._values(schema.additional, value, [name for name in value if name not in schema.properties])
        elif isinstance(value, list) and schema.items is not None:
            self._values(schema.items, value, range(len(value)))

    @staticmethod
    def _values(schema: Schema, value: Any, keys: Any) -> None:
        fillers = _defaults(schema)
        for key in keys:
            if value[key] is None and not schema.nullable and schema.default is not MISSING:
                value[key] = clone(schema.default)
            for filler in fillers:
                filler(value[key])
