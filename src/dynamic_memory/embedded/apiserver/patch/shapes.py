# SPDX-License-Identifier: Apache-2.0
"""What a value is by its schema: a map that is entered or not, a list of which kind, and what its items are called.

A map or struct is entered unless it is atomic; a list is a leaf unless it is a map (items have keys, which may have
defaults) or a set. Below a place without a schema, maps are entered and lists are leaves.

Source: sigs.k8s.io/structured-merge-diff, typed; k8s.io/kube-openapi, pkg/schemaconv.
"""

from __future__ import annotations

import functools
from typing import Any

from dynamic_memory.embedded.apiserver.patch.field_sets import key_element, value_element
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema

__all__ = [
    "CONTAINERS",
    "TypeProblem",
    "child_of",
    "element_of",
    "elements_of",
    "equal",
    "granular_list",
    "granular_map",
    "pairs_of",
    "structs_of",
    "with_structs",
]


class TypeProblem(Exception):
    """A value does not fit its schema. `problems` are texts with their path."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(problems[0] if len(problems) == 1 else "\n  ".join(["errors:", *problems]))


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


def structs_of(schema: Schema | None) -> frozenset[str]:
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


def granular_map(schema: Schema | None, value: Any) -> bool:
    """Say whether a value is a map or struct whose fields count one by one."""
    return type(value) is dict and (schema is None or schema.map_type != "atomic")


def granular_list(schema: Schema | None, value: Any) -> bool:
    """Say whether a value is a list whose items count one by one."""
    return type(value) is list and schema is not None and schema.list_type in {"map", "set"}


def child_of(schema: Schema | None, name: str) -> Schema | None:
    """Return the schema of a field; None where there is none."""
    return None if schema is None else schema.properties.get(name, schema.additional)


CONTAINERS = frozenset({dict, list})
_NOT_IN_SETS = {
    dict: "associative list without keys has an element that's a map type",
    list: "not supported: associative list with lists as elements",
    type(None): "associative list without keys has an element that's an explicit null",
}


_ZERO: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}
"""What a required field of a builtin type is if it is left out."""
_sorted = functools.lru_cache(maxsize=None)(sorted)


def element_of(schema: Schema, item: Any) -> str:
    """Return the path element of an item of a list.

    Raises:
        TypeProblem: it has none.

    """
    if schema.list_type == "set":
        if item is None or type(item) in CONTAINERS:
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
            known = child_of(schema.items, name)
            if known is not None and known.default is not MISSING:
                keys[name] = known.default
            elif known is not None and schema.items is not None and schema.items.ref and name in schema.items.required:
                keys[name] = _ZERO.get(known.type, "")
    if not keys:
        quoted = " ".join(f'"{name}"' for name in schema.list_map_keys)
        what = f"omits all key fields [{quoted}] (and doesn't have default values for any key fields)"
        raise TypeProblem([f"associative list with keys has an element that {what}"])
    return key_element(keys)


def elements_of(schema: Schema, items: list[Any]) -> dict[str, list[Any]]:
    """Group the items of a list by their element; items that have none count by their place."""
    found: dict[str, list[Any]] = {}
    for number, item in enumerate(items):
        try:
            element = element_of(schema, item)
        except TypeProblem:
            element = f"i:{number}"
        found.setdefault(element, []).append(item)
    return found


def pairs_of(schema: Schema, items: list[Any]) -> list[tuple[str, Any]]:
    """Return the items of a list with their elements; items that have none count by their place."""
    found = []
    for number, item in enumerate(items):
        try:
            found.append((element_of(schema, item), item))
        except TypeProblem:
            found.append((f"i:{number}", item))
    return found


def equal(old: Any, new: Any) -> bool:
    """Compare values of JSON: True is not 1."""
    if type(old) is not type(new):
        if type(old) is bool or type(new) is bool:
            return False
        return bool(old == new)
    if type(old) is dict:
        return len(old) == len(new) and all(
            name in new and (item is new[name] or equal(item, new[name])) for name, item in old.items()
        )
    if type(old) is list:
        return len(old) == len(new) and all(map(equal, old, new))
    return bool(old == new)
