# SPDX-License-Identifier: Apache-2.0
"""How two objects of a kind differ: which fields the second has that the first has not, and so on.

`MISSING` stands for a value that is not there; null is a value. What is on one side only is there with everything in
it; structs of builtin types are on both sides always.

Source: sigs.k8s.io/structured-merge-diff, typed/compare.go.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.patch.field_sets import MEMBER, Fields
from dynamic_memory.embedded.apiserver.patch.shapes import (
    CONTAINERS,
    child_of,
    elements_of,
    equal,
    granular_list,
    granular_map,
    structs_of,
)
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema

__all__ = ["Comparison", "compare"]


class Comparison:
    """How the second of two objects differs from the first.

    Attributes:
        added, modified, removed: sets of fields.

    """

    __slots__ = ("added", "modified", "removed")

    def __init__(self) -> None:
        self.added: Fields = {}
        self.modified: Fields = {}
        self.removed: Fields = {}

    @property
    def changed(self) -> bool:
        """Whether there is any difference."""
        return bool(self.added or self.modified or self.removed)


def compare(schema: Schema, old: dict[str, Any], new: dict[str, Any]) -> Comparison:
    """Compare two objects of a kind."""
    result = Comparison()
    if old is not new:
        result.added, result.modified, result.removed = _compare_maps(schema, old, new)
    return result


_Differences = tuple[Fields, Fields, Fields]


def _compare_maps(schema: Schema | None, old: dict[str, Any], new: dict[str, Any]) -> _Differences:
    added: Fields = {}
    modified: Fields = {}
    removed: Fields = {}
    structs = structs_of(schema)
    for name, there in new.items():
        here = old.get(name, MISSING)
        if here is there:
            continue
        if type(there) not in CONTAINERS and (here is MISSING or type(here) is type(there)):
            # a scalar, nearly always: no more calls than there must be
            if here is MISSING or here != there:
                (added if here is MISSING else modified)[f"f:{name}"] = {}
            continue
        child = child_of(schema, name)
        if here is MISSING and name in structs:
            here = type(there)()
        if here is MISSING:
            added[f"f:{name}"] = _leaves(child, there)
        else:
            _note(f"f:{name}", _compare(child, here, there), added, modified, removed)
    for name, here in old.items():
        if name in new:
            continue
        child = child_of(schema, name)
        if name in structs and type(here) in CONTAINERS:
            _note(f"f:{name}", _compare(child, here, type(here)()), added, modified, removed)
        else:
            removed[f"f:{name}"] = _leaves(child, here)
    return added, modified, removed


_Nodes = tuple[Fields | None, Fields | None, Fields | None]
_SAME: _Nodes = (None, None, None)
_MODIFIED: _Nodes = (None, {}, None)


def _note(element: str, found: _Nodes, added: Fields, modified: Fields, removed: Fields) -> None:
    for node, into in zip(found, (added, modified, removed), strict=True):
        if node is not None:
            into[element] = node


def _compare(schema: Schema | None, old: Any, new: Any) -> _Nodes:
    """Compare two values at one place; the nodes to put there, None where there is nothing."""
    if old is new:
        return _SAME
    shape = type(old or new)
    if (old or new) and type(old) in {shape, type(None)} and type(new) in {shape, type(None)}:
        # null stands for a map or list without anything in it
        if granular_map(schema, old or new):
            return _parts(_compare_maps(schema, old or {}, new or {}))
        if schema is not None and granular_list(schema, old or new):
            return _parts(_compare_lists(schema, old or [], new or []))
    if equal(old, new):
        return _SAME
    if type(old) is not type(new) and (type(old) in CONTAINERS or type(new) in CONTAINERS):
        # what was below the old shape is gone, what is below the new one is there, and the field itself has changed
        return _within(schema, new), {}, _within(schema, old)
    return _MODIFIED


def _within(schema: Schema | None, value: Any) -> Fields | None:
    return {k: v for k, v in _leaves(schema, value).items() if k != MEMBER} or None


def _parts(found: _Differences) -> _Nodes:
    added, modified, removed = found
    return added or None, modified or None, removed or None


def _compare_lists(schema: Schema, old: list[Any], new: list[Any]) -> _Differences:
    added: Fields = {}
    modified: Fields = {}
    removed: Fields = {}
    before, after = elements_of(schema, old), elements_of(schema, new)
    for element, there in after.items():
        here = before.get(element, ())
        if len(here) > 1 and len(there) > 1:
            if len(here) != len(there) or not all(map(equal, here, there)):
                modified[element] = {}
        elif len(here) > 1:
            removed[element] = {}
            added[element] = _leaves(schema.items, there[0])
        elif len(there) > 1:
            added[element] = {}
            if here:
                removed[element] = {k: v for k, v in _leaves(schema.items, here[0]).items() if k != MEMBER}
        elif not here:
            added[element] = _leaves(schema.items, there[0])
        else:
            _note(element, _compare(schema.items, here[0], there[0]), added, modified, removed)
    for element, here in before.items():
        if element not in after:
            removed[element] = _leaves(schema.items, here[0]) if len(here) == 1 else {}
    return added, modified, removed


def _leaves(schema: Schema | None, value: Any) -> Fields:
    """Return the node for a value that is there on one side only: itself and everything in it."""
    if value and granular_map(schema, value):
        node: Fields = {MEMBER: {}}
        for name, item in value.items():
            node[f"f:{name}"] = _leaves(child_of(schema, name), item) if type(item) in CONTAINERS else {}
        return node
    if value and granular_list(schema, value):
        assert schema is not None  # noqa: S101 - for the type checker: a granular list has a schema
        node = {MEMBER: {}}
        for element, same in elements_of(schema, value).items():
            node[element] = _leaves(schema.items, same[0]) if len(same) == 1 else {}
        return node
    return {}
