# SPDX-License-Identifier: Apache-2.0
"""The fields that an object names, one object merged into another, and objects without some of their fields.

Nothing that comes in is changed; what did not change is shared with the result, so `is` says whether anything did.

Source: sigs.k8s.io/structured-merge-diff, typed/{tofieldset,merge,remove}.go.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.patch.field_sets import MEMBER, Fields
from dynamic_memory.embedded.apiserver.patch.shapes import (
    CONTAINERS,
    child_of,
    element_of,
    elements_of,
    equal,
    granular_list,
    granular_map,
    pairs_of,
)
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema

__all__ = ["field_set", "merge", "remove", "without_empty"]


def field_set(schema: Schema | None, value: Any) -> Fields:
    """Return the fields that an applied object names."""
    node: Fields = {}
    if granular_map(schema, value):
        for name, item in value.items():
            child = child_of(schema, name)
            below = _below(child, item)
            declared = schema is not None and name in schema.properties
            if below is None:
                node[f"f:{name}"] = {}
            elif not declared or item == {}:
                node[f"f:{name}"] = {MEMBER: {}, **below} if below else {}
            elif below:
                node[f"f:{name}"] = below
    elif granular_list(schema, value):
        assert schema is not None  # noqa: S101 - for the type checker: a granular list has a schema
        for element, same in elements_of(schema, value).items():
            below = _below(schema.items, same[0]) if len(same) == 1 else None
            node[element] = {MEMBER: {}, **below} if below else {}
    return node


def _below(schema: Schema | None, value: Any) -> Fields | None:
    """Return the fields within a value; None if it is a leaf and a member itself."""
    if granular_map(schema, value) or granular_list(schema, value):
        return field_set(schema, value)
    return None


def merge(schema: Schema | None, live: Any, config: Any) -> Any:
    """Return a live value with an applied one merged into it; the live one itself if that changes nothing.

    Raises:
        TypeProblem: an item of the configuration has no key, or two have the same.

    """
    if granular_map(schema, config) and config and granular_map(schema, live):
        result: dict[str, Any] | None = None
        for name, item in config.items():
            here = live.get(name, MISSING)
            child = child_of(schema, name)
            merged = _taken(child, item) if here is MISSING else merge(child, here, item)
            if merged is not here:
                if result is None:
                    result = dict(live)
                if merged is MISSING:
                    result.pop(name, None)
                else:
                    result[name] = merged
        return live if result is None else result
    if granular_list(schema, config) and config and granular_list(schema, live):
        assert schema is not None  # noqa: S101 - for the type checker: a granular list has a schema
        return _merge_lists(schema, live, config)
    if config in (None, {}, []) and live and _same_shape(schema, live, config):
        # nothing is said about what is in it
        return live
    return live if equal(live, config) else _taken(schema, config)


def _taken(schema: Schema | None, value: Any) -> Any:
    """Return a value of the configuration without fields that are null and may not be: MISSING if it is one itself."""
    if value is None:
        return None if schema is None or schema.nullable or schema.open else MISSING
    if type(value) is dict:
        result = value
        for name, item in value.items():
            if item is None or type(item) in CONTAINERS:
                kept = _taken(child_of(schema, name), item)
                if kept is not item:
                    result = dict(value) if result is value else result
                    if kept is MISSING:
                        del result[name]
                    else:
                        result[name] = kept
        return result
    if type(value) is list and schema is not None and schema.items is not None:
        kept = [_taken(schema.items, item) if type(item) in CONTAINERS else item for item in value]
        return value if all(a is b for a, b in zip(kept, value, strict=True)) else kept
    return value


def _same_shape(schema: Schema | None, live: Any, config: Any) -> bool:
    if type(live) is dict:
        return granular_map(schema, live) and not isinstance(config, list)
    return granular_list(schema, live) and not isinstance(config, dict)


def _merge_lists(schema: Schema, live: list[Any], config: list[Any]) -> list[Any]:  # noqa: C901 - one walk along both
    """Merge two lists by their elements: items of the configuration keep its order, others stay near where they are."""
    ours = [(element_of(schema, item), item) for item in config]
    theirs = pairs_of(schema, live)
    counts: dict[str, int] = {}
    known: dict[str, Any] = {}
    for element, item in theirs:
        counts[element] = counts.get(element, 0) + 1
        known[element] = item
    wanted = dict(ours)
    shared = iter([element for element, _ in ours if element in counts])
    following = next(shared, None)
    result: list[Any] = []
    done: set[str] = set()
    left = right = 0

    def take(element: str, item: Any) -> None:
        # an item that is there twice is replaced, not merged
        here = known[element] if counts.get(element) == 1 else MISSING
        result.append(_taken(schema.items, item) if here is MISSING else merge(schema.items, here, item))
        done.add(element)

    while left < len(theirs) or right < len(ours):
        if left < len(theirs) and right < len(ours):
            element = theirs[left][0]
            if element == ours[right][0]:
                take(element, wanted[element])
                left += 1
                right += 1
                following = next(shared, None)
                continue
            if element in wanted and following is not None and following != element:
                left += 1
                continue
        if left < len(theirs):
            element, item = theirs[left]
            if element not in wanted:
                result.append(item)
                left += 1
                continue
            if element in done:
                left += 1
        if right < len(ours):
            element, item = ours[right]
            take(element, item)
            right += 1
            if following == element:
                following = next(shared, None)
    if len(result) == len(live) and all(a is b for a, b in zip(result, live, strict=True)):
        return live
    return result


def remove(schema: Schema | None, value: Any, fields: Fields, kept: Fields | None = None) -> Any:
    """Return a value without the fields of a set; MISSING if nothing is left of it.

    A field that is in the set goes with everything in it, one that is not only loses what is in the set below it. A map
    or list that loses everything goes, too, unless it is itself in `kept`: then it stays, empty. (Kubernetes makes null
    of it, which a kind of a CRD cannot store.)
    """
    kept = kept or {}
    if granular_map(schema, value):
        result = {}
        for name, item in value.items():
            rest = _rest(child_of(schema, name), item, fields.get(f"f:{name}"), kept.get(f"f:{name}"))
            if rest is not MISSING:
                result[name] = rest
        return result or MISSING
    if schema is not None and granular_list(schema, value):
        rests = [
            _rest(schema.items, item, fields.get(element), kept.get(element, {}))
            for element, item in pairs_of(schema, value)
        ]
        return [rest for rest in rests if rest is not MISSING] or MISSING
    return value


def _rest(schema: Schema | None, value: Any, node: Fields | None, held: Fields | None) -> Any:
    """Return what is left of a value if `node` goes."""
    if node is None:
        return value
    if not node or MEMBER in node:
        return MISSING
    rest = remove(schema, value, node, held)
    return type(value)() if rest is MISSING and held is not None and (not held or MEMBER in held) else rest


def without_empty(before: Any, after: Any) -> Any:
    """Return a value without the maps and lists that have become empty."""
    if before is after or type(after) is not dict or type(before) is not dict:
        return after
    result = {}
    for name, item in after.items():
        here = before.get(name)
        if here and not item and type(item) in CONTAINERS:
            continue
        result[name] = without_empty(here, item)
    return result
