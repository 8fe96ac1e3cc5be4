# SPDX-License-Identifier: Apache-2.0
"""Server-side apply on plain dicts: who owns which field, and what an apply takes away. Pure.

An object is a flat map from paths to leaf values. A path is made of field names and, inside lists that are maps, of the
item's keys; lists that are neither maps nor sets are leaves. Which lists are maps is known for the kinds of this
project (`status.devices` of claims, conditions, owner references, `reservedFor`), not read from a schema.

Source: KEP-555 and the list types of the API definitions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Owners", "Taken", "apply", "flatten", "nest", "note_update"]

Path = tuple[Any, ...]
Owners = dict[tuple[str, str, str], set[Path]]
"""Paths by (manager, Apply or Update, subresource)."""

SHARE_KEYS = ("driver", "device", "pool", "shareID")
ATOMIC = frozenset({"nodeSelector", "parameters", "matchExpressions"})


class Taken(Exception):
    """An apply without force meets fields of others."""

    def __init__(self, managers: Iterable[str], paths: Iterable[Path]) -> None:
        self.managers = sorted(managers)
        self.paths = sorted(map(str, paths))
        super().__init__(f"conflict with {self.managers} at {self.paths}")


def _keys(path: Path) -> tuple[str, ...] | None:
    """Return the keys by which the list at `path` is a map; () for a set, None for an atomic list."""
    if path == ("status", "devices"):
        return SHARE_KEYS
    if path == ("metadata", "finalizers"):
        return ()
    by_name = {"conditions": ("type",), "ownerReferences": ("uid",), "reservedFor": ("uid",)}
    return by_name.get(path[-1]) if isinstance(path[-1], str) else None


def flatten(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Return the leaves of a JSON value by path; nulls are left out."""
    if value is None:
        return {}
    if isinstance(value, Mapping) and (value or not path) and not (path and path[-1] in ATOMIC):
        found: dict[Path, Any] = {}
        for name, item in value.items():
            found |= flatten(item, (*path, name))
        return found
    if isinstance(value, list | tuple) and path:
        keys = _keys(path)
        if keys is not None:
            found = {}
            for item in value:
                step = ("=", item) if keys == () else tuple((key, item.get(key)) for key in keys)
                found |= {(*path, step): item} if keys == () else flatten(item, (*path, step))
            return found
    return {path: copy.deepcopy(value)}


def nest(flat: Mapping[Path, Any]) -> dict[str, Any]:
    """Return the JSON object whose leaves these are."""
    root: dict[str, Any] = {}
    items: dict[Path, Any] = {(): root}
    for path, value in flat.items():
        for depth in range(1, len(path) + 1):
            prefix, parent, step = path[:depth], items[path[: depth - 1]], path[depth - 1]
            if depth == len(path):
                _add(parent, step, copy.deepcopy(value))
            elif prefix not in items:
                items[prefix] = _add(parent, step, [] if isinstance(path[depth], tuple) else {})
    return root


def _add(parent: Any, step: Any, value: Any) -> Any:
    if isinstance(parent, list):
        parent.append(value)
    else:
        parent[step] = value
    return value


def apply(
    body: Mapping[str, Any], applied: Mapping[str, Any], owners: Owners, who: tuple[str, str, str], *, force: bool
) -> dict[str, Any]:
    """Return `body` after an apply by `who`, and change `owners` accordingly.

    Raises:
        Taken: others own fields that would change, and `force` is not set.

    """
    flat, wanted = flatten(body), flatten(applied)
    changed = {path for path, value in wanted.items() if path in flat and flat[path] != value}
    others = {manager: paths & changed for manager, paths in owners.items() if manager != who and paths & changed}
    if others and not force:
        raise Taken({manager for manager, _, _ in others}, set().union(*others.values()))
    for manager, paths in others.items():
        owners[manager] -= paths
    held = set().union(*(paths for manager, paths in owners.items() if manager != who))
    for path in owners.get(who, set()) - wanted.keys() - held:
        flat.pop(path, None)
    owners[who] = set(wanted)
    # an empty map says nothing about what others have in it
    for path in [path for path, value in wanted.items() if value in ({}, [])]:
        if any(known[: len(path)] == path and known != path for known in flat):
            del wanted[path]
    # a container that becomes a leaf, or the other way round, must not leave the old shape behind
    for path in wanted:
        for other in [known for known in flat if known != path and known[: len(path)] == path]:
            del flat[other]
        for depth in range(1, len(path)):
            flat.pop(path[:depth], None)
    return nest(flat | wanted)


def note_update(before: Mapping[str, Any], after: Mapping[str, Any], owners: Owners, who: tuple[str, str, str]) -> None:
    """Make `who` the owner of what an update changed; fields that are gone belong to nobody."""
    old, new = flatten(before), flatten(after)
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    for manager in list(owners):
        owners[manager] &= new.keys()
        if manager != who:
            owners[manager] -= changed
    owners[who] = owners.get(who, set()) | changed
