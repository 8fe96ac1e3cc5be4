# SPDX-License-Identifier: Apache-2.0
"""Whether the list type of a schema fits its items: what is a set is of scalars, what is a map has keys. Pure.

A list map can be merged only if each key is a scalar that every item has. Source: see `structural`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.crd.structure import kind_of
from dynamic_memory.embedded.apiserver.errors import Cause

__all__ = ["check_list"]

Source = Mapping[str, Any]


def check_list(source: Source, path: str) -> Iterator[Cause]:  # noqa: C901 - a table of rules
    """Yield what is wrong with the list type of one node of a schema, and with its keys."""
    kind, list_type = kind_of(source), source.get("x-kubernetes-list-type")
    keys, items = source.get("x-kubernetes-list-map-keys") or [], source.get("items")
    here = f"{path}.x-kubernetes-list-type"
    if kind == "array" and items is None:
        yield fields.required(f"{path}.items", "must be specified")
    if list_type is not None:
        text = "must be array if x-kubernetes-list-type is specified"
        if kind != "array":
            yield fields.invalid(f"{path}.type", kind, text) if kind else fields.required(f"{path}.type", text)
        if list_type not in ("atomic", "set", "map"):
            yield fields.not_supported(here, list_type, ("atomic", "set", "map"))
    if keys and list_type != "map":
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        yield fields.invalid(here, list_type, text) if list_type else fields.required(here, text)
    if list_type == "set" and isinstance(items, dict):
        yield from _set_items(items, f"{path}.items")
    if list_type == "map":
        if not keys:
            text = "must not be empty if x-kubernetes-list-type is map"
            yield fields.required(f"{path}.x-kubernetes-list-map-keys", text)
        if isinstance(items, dict):
            yield from _map_items(items, keys, path)
    if list_type in ("set", "map") and isinstance(items, dict) and items.get("nullable"):
        yield fields.forbidden(
            f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is " + list_type
        )


def _set_items(items: Source, path: str) -> Iterator[Cause]:
    text = "must be atomic as item of a list with x-kubernetes-list-type=set"
    if items.get("type") == "array" and items.get("x-kubernetes-list-type") not in (None, "atomic"):
        yield fields.invalid(f"{path}.x-kubernetes-list-type", items["x-kubernetes-list-type"], text)
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        yield fields.invalid(f"{path}.x-kubernetes-map-type", items.get("x-kubernetes-map-type"), text)


def _map_items(items: Source, keys: list[str], path: str) -> Iterator[Cause]:
    if items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        yield fields.invalid(f"{path}.items.type", items.get("type", ""), text)
        return
    where, properties = f"{path}.x-kubernetes-list-map-keys", items.get("properties") or {}
    for at, name in enumerate(keys):
        inner = properties.get(name)
        below = fields.key(f"{path}.items.properties", name)
        if inner is None:
            yield fields.invalid(where, keys, "entries must all be names of item properties")
        elif inner.get("type") in ("array", "object"):
            text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            yield fields.invalid(f"{below}.type", inner["type"], text)
        else:
            if inner.get("default") is None and name not in (items.get("required") or ()):
                text = "this property is in x-kubernetes-list-map-keys, "
                text += "so it must have a default or be a required property"
                yield fields.required(f"{below}.default", text)
            if inner.get("nullable"):
                text = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
                yield fields.forbidden(f"{below}.nullable", text)
        if name in keys[:at]:
            yield fields.invalid(where, keys, "must not contain duplicate entries")
