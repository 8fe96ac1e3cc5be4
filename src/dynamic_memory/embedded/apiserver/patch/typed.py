# SPDX-License-Identifier: Apache-2.0
"""Objects and their schema together: which fields an object has, how two differ, and how one is merged into another.

What a field is depends on the schema: a map or struct is entered unless it is atomic; a list is a leaf unless it is a
map (items have keys, which may have defaults) or a set. Below a place without a schema, maps are entered and lists are
leaves. `MISSING` stands for a value that is not there; null is a value.

Source: sigs.k8s.io/structured-merge-diff, typed; k8s.io/kube-openapi, pkg/schemaconv.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

from dynamic_memory.embedded.apiserver.patch.field_sets import MEMBER, Fields, key_element, path_text, value_element
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema

__all__ = [
    "Comparison",
    "TypeProblem",
    "compare",
    "field_set",
    "merge",
    "remove",
    "validate",
    "with_structs",
    "without_empty",
]


class TypeProblem(Exception):
    """A value does not fit its schema. `problems` are texts with their path."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(problems[0] if len(problems) == 1 else "\n  ".join(["errors:", *problems]))


# --- structure

_STRUCTS: dict[str, tuple[str, ...]] = {
    "PodTemplateSpec": ("metadata", "spec"),
    "DeploymentSpec": ("template", "strategy"),
    "DaemonSetSpec": ("template", "updateStrategy"),
    "StatefulSetSpec": ("template", "updateStrategy"),
    "JobSpec": ("template",),
    "CronJobSpec": ("jobTemplate",),
    "JobTemplateSpec": ("metadata", "spec"),
    "ServiceStatus": ("loadBalancer",),
    "IngressStatus": ("loadBalancer",),
    "PersistentVolumeClaimSpec": ("resources",),
    "NodeStatus": ("daemonEndpoints", "nodeInfo"),
    "NodeDaemonEndpoints": ("kubeletEndpoint",),
    "ResourceClaimSpec": ("devices",),
    "ResourceClaimTemplateSpec": ("metadata", "spec"),
    "ResourceSliceSpec": ("pool",),
}
"""Fields of builtin types that are structs, not pointers: in Kubernetes they are always there, empty or not."""
_ROOT = ("metadata", "spec", "status")


def with_structs(schema: Schema) -> dict[str, Any]:
    """Return the object that has nothing but the structs that are always there: what a new object is compared with."""
    if not schema.ref:
        return {}
    return {name: {} for name in _ROOT if name in schema.properties}


_always: dict[str, frozenset[str]] = {}


def _structs(schema: Schema | None) -> frozenset[str]:
    """Return the fields of a builtin type that are there, empty or null, even if an object does not show them."""
    if schema is None or not schema.ref:
        return frozenset()
    found = _always.get(schema.ref)
    if found is None:
        names = schema.required.union(_STRUCTS.get(schema.ref.rpartition(".")[2], ()))
        if "metadata" in schema.properties and "apiVersion" in schema.properties:
            names = names.union(name for name in _ROOT if name in schema.properties)
        found = _always[schema.ref] = names
    return found


def _granular_map(schema: Schema | None, value: Any) -> bool:
    return type(value) is dict and (schema is None or schema.map_type != "atomic")


def _granular_list(schema: Schema | None, value: Any) -> bool:
    return type(value) is list and schema is not None and schema.list_type in {"map", "set"}


def _child(schema: Schema | None, name: str) -> Schema | None:
    return None if schema is None else schema.properties.get(name, schema.additional)


_CONTAINERS = frozenset({dict, list})
_NOT_IN_SETS = {
    dict: "associative list without keys has an element that's a map type",
    list: "not supported: associative list with lists as elements",
    type(None): "associative list without keys has an element that's an explicit null",
}


_ZERO: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}
"""What a required field of a builtin type is if it is left out."""
_sorted = functools.lru_cache(maxsize=None)(sorted)


def _element(schema: Schema, item: Any) -> str:
    """Return the path element of an item of a list.

    Raises:
        TypeProblem: it has none.

    """
    if schema.list_type == "set":
        if item is None or type(item) in _CONTAINERS:
            raise TypeProblem([_NOT_IN_SETS[type(item)]])
        return value_element(item)
    if type(item) is not dict:
        what = "a null element" if item is None else "non-map elements"
        raise TypeProblem([f"associative list with keys may not have {what}"])
    keys = {}
    for name in _sorted(schema.list_map_keys):
        if name in item:
            keys[name] = item[name]
        else:
            known = _child(schema.items, name)
            if known is not None and known.default is not MISSING:
                keys[name] = known.default
            elif known is not None and schema.items is not None and schema.items.ref and name in schema.items.required:
                keys[name] = _ZERO.get(known.type, "")
    if not keys:
        quoted = " ".join(f'"{name}"' for name in schema.list_map_keys)
        what = f"omits all key fields [{quoted}] (and doesn't have default values for any key fields)"
        raise TypeProblem([f"associative list with keys has an element that {what}"])
    return key_element(keys)


def _elements(schema: Schema, items: list[Any]) -> dict[str, list[Any]]:
    """Group the items of a list by their element; items that have none count by their place."""
    found: dict[str, list[Any]] = {}
    for number, item in enumerate(items):
        try:
            element = _element(schema, item)
        except TypeProblem:
            element = f"i:{number}"
        found.setdefault(element, []).append(item)
    return found


# --- validation

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
        if type(value) in _CONTAINERS and (schema.quantity or schema.int_or_string):
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
        return f"expected any scalar, got {_shown(value)}" if type(value) in _CONTAINERS else ""
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
                element = _element(schema, item)
            except TypeProblem as problem:
                yield path, f"element {number}: {problem}"
                return
            if element in seen:
                yield path, f"duplicate entries for key {path_text((element,))}"
            seen.add(element)
        yield from _problems(schema.items, item, (*path, element))


# --- the fields of an object


def field_set(schema: Schema | None, value: Any) -> Fields:
    """Return the fields that an applied object names."""
    node: Fields = {}
    if _granular_map(schema, value):
        for name, item in value.items():
            child = _child(schema, name)
            below = _below(child, item)
            declared = schema is not None and name in schema.properties
            if below is None:
                node[f"f:{name}"] = {}
            elif not declared or item == {}:
                node[f"f:{name}"] = {MEMBER: {}, **below} if below else {}
            elif below:
                node[f"f:{name}"] = below
    elif _granular_list(schema, value):
        assert schema is not None  # noqa: S101 - for the type checker: a granular list has a schema
        for element, same in _elements(schema, value).items():
            below = _below(schema.items, same[0]) if len(same) == 1 else None
            node[element] = {MEMBER: {}, **below} if below else {}
    return node


def _below(schema: Schema | None, value: Any) -> Fields | None:
    """Return the fields within a value; None if it is a leaf and a member itself."""
    if _granular_map(schema, value) or _granular_list(schema, value):
        return field_set(schema, value)
    return None


# --- comparison


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
    structs = _structs(schema)
    for name, there in new.items():
        here = old.get(name, MISSING)
        if here is there or (type(there) is str and here == there):
            continue
        if type(there) not in _CONTAINERS and (here is MISSING or type(here) is type(there)):
            if here is MISSING:
                added[f"f:{name}"] = {}
            elif here != there:
                modified[f"f:{name}"] = {}
            continue
        child = _child(schema, name)
        if here is MISSING and name in structs:
            here = type(there)()
        if here is MISSING:
            added[f"f:{name}"] = _leaves(child, there)
        else:
            _note(f"f:{name}", _compare(child, here, there), added, modified, removed)
    for name, here in old.items():
        if name in new:
            continue
        child = _child(schema, name)
        if name in structs and type(here) in _CONTAINERS:
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
        if _granular_map(schema, old or new):
            return _parts(_compare_maps(schema, old or {}, new or {}))
        if schema is not None and _granular_list(schema, old or new):
            return _parts(_compare_lists(schema, old or [], new or []))
    if _equal(old, new):
        return _SAME
    if type(old) is not type(new) and (type(old) in _CONTAINERS or type(new) in _CONTAINERS):
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
    before, after = _elements(schema, old), _elements(schema, new)
    for element, there in after.items():
        here = before.get(element, ())
        if len(here) > 1 and len(there) > 1:
            if len(here) != len(there) or not all(map(_equal, here, there)):
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
    if value and _granular_map(schema, value):
        node: Fields = {MEMBER: {}}
        for name, item in value.items():
            node[f"f:{name}"] = _leaves(_child(schema, name), item) if type(item) in _CONTAINERS else {}
        return node
    if value and _granular_list(schema, value):
        assert schema is not None  # noqa: S101 - for the type checker: a granular list has a schema
        node = {MEMBER: {}}
        for element, same in _elements(schema, value).items():
            node[element] = _leaves(schema.items, same[0]) if len(same) == 1 else {}
        return node
    return {}


def _equal(old: Any, new: Any) -> bool:
    """Compare values of JSON: True is not 1."""
    if type(old) is not type(new):
        if type(old) is bool or type(new) is bool:
            return False
        return bool(old == new)
    if type(old) is dict:
        return len(old) == len(new) and all(
            name in new and (item is new[name] or _equal(item, new[name])) for name, item in old.items()
        )
    if type(old) is list:
        return len(old) == len(new) and all(map(_equal, old, new))
    return bool(old == new)


# --- merging


def merge(schema: Schema | None, live: Any, config: Any) -> Any:
    """Return a live value with an applied one merged into it; the live one itself if that changes nothing.

    Raises:
        TypeProblem: an item of the configuration has no key, or two have the same.

    """
    if _granular_map(schema, config) and config and _granular_map(schema, live):
        result: dict[str, Any] | None = None
        for name, item in config.items():
            here = live.get(name, MISSING)
            child = _child(schema, name)
            merged = _taken(child, item) if here is MISSING else merge(child, here, item)
            if merged is not here:
                if result is None:
                    result = dict(live)
                if merged is MISSING:
                    result.pop(name, None)
                else:
                    result[name] = merged
        return live if result is None else result
    if _granular_list(schema, config) and config and _granular_list(schema, live):
        assert schema is not None  # noqa: S101 - for the type checker: a granular list has a schema
        return _merge_lists(schema, live, config)
    if config in (None, {}, []) and live and _same_shape(schema, live, config):
        # nothing is said about what is in it
        return live
    return live if _equal(live, config) else _taken(schema, config)


def _taken(schema: Schema | None, value: Any) -> Any:
    """Return a value of the configuration without fields that are null and may not be: MISSING if it is one itself."""
    if value is None:
        return None if schema is None or schema.nullable or schema.open else MISSING
    if type(value) is dict:
        result = value
        for name, item in value.items():
            if item is None or type(item) in _CONTAINERS:
                kept = _taken(_child(schema, name), item)
                if kept is not item:
                    result = dict(value) if result is value else result
                    if kept is MISSING:
                        del result[name]
                    else:
                        result[name] = kept
        return result
    if type(value) is list and schema is not None and schema.items is not None:
        kept = [_taken(schema.items, item) if type(item) in _CONTAINERS else item for item in value]
        return value if all(a is b for a, b in zip(kept, value, strict=True)) else kept
    return value


def _same_shape(schema: Schema | None, live: Any, config: Any) -> bool:
    if type(live) is dict:
        return _granular_map(schema, live) and not isinstance(config, list)
    return _granular_list(schema, live) and not isinstance(config, dict)


def _merge_lists(schema: Schema, live: list[Any], config: list[Any]) -> list[Any]:  # noqa: C901 - one walk along both
    """Merge two lists by their elements: items of the configuration keep its order, others stay near where they are."""
    ours = [(_element(schema, item), item) for item in config]
    theirs = _pairs(schema, live)
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


def _pairs(schema: Schema, items: list[Any]) -> list[tuple[str, Any]]:
    found = []
    for number, item in enumerate(items):
        try:
            found.append((_element(schema, item), item))
        except TypeProblem:
            found.append((f"i:{number}", item))
    return found


# --- removal


def remove(schema: Schema | None, value: Any, fields: Fields, kept: Fields | None = None) -> Any:
    """Return a value without the fields of a set; MISSING if nothing is left of it.

    A field that is in the set goes with everything in it, one that is not only loses what is in the set below it. A map
    or list that loses everything goes, too, unless it is itself in `kept`: then it stays, empty. (Kubernetes makes null
    of it, which a kind of a CRD cannot store.)
    """
    kept = kept or {}
    if _granular_map(schema, value):
        result = {}
        for name, item in value.items():
            rest = _rest(_child(schema, name), item, fields.get(f"f:{name}"), kept.get(f"f:{name}"))
            if rest is not MISSING:
                result[name] = rest
        return result or MISSING
    if schema is not None and _granular_list(schema, value):
        rests = [
            _rest(schema.items, item, fields.get(element), kept.get(element, {}))
            for element, item in _pairs(schema, value)
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
        if here and not item and type(item) in _CONTAINERS:
            continue
        result[name] = without_empty(here, item)
    return result
