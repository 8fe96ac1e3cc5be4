# SPDX-License-Identifier: Apache-2.0
"""From a CRD to Resources that are served, and the conditions that say so.

The real server has controllers for this, which need a moment; here a definition that was stored is served at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver.crd.structure import root_schema
from dynamic_memory.embedded.apiserver.defaults import apply_defaults
from dynamic_memory.embedded.apiserver.pruning import prune
from dynamic_memory.embedded.apiserver.resource import (
    ALL_VERBS,
    Column,
    Registry,
    Resource,
    StorageKey,
    Subresource,
)
from dynamic_memory.embedded.apiserver.schema import Schema, clone

__all__ = ["CustomKinds", "resources_of"]

_PART_VERBS: Final = ("get", "patch", "update")


def resources_of(crd: Mapping[str, Any]) -> list[Resource]:
    """Return the Resources of the served versions of a definition that is valid."""
    spec = crd["spec"]
    names = spec["names"]
    stored = next(version for version in spec["versions"] if version.get("storage"))
    make_stored = functools.cache(lambda: _schema(stored))
    return [
        _resource(spec, names, version, stored["name"], make_stored)
        for version in spec["versions"]
        if version.get("served")
    ]


def _resource(
    spec: Mapping[str, Any],
    names: Mapping[str, Any],
    version: Mapping[str, Any],
    stored: str,
    make_stored: Callable[[], Schema],
) -> Resource:
    group, name, kind = spec["group"], version["name"], names["kind"]
    make_schema = functools.cache(lambda: _schema(version))
    up = down = functools.partial(_versioned, f"{group}/{name}")
    if name != stored:
        up = functools.partial(_completed, f"{group}/{stored}", make_stored)
        down = functools.partial(_pruned, f"{group}/{name}", make_schema)
    parts = version.get("subresources") or {}
    subresources = {}
    if parts.get("status") is not None:
        subresources["status"] = Subresource(kind, group, name, _PART_VERBS)
    if parts.get("scale") is not None:
        subresources["scale"] = Subresource("Scale", "autoscaling", "v1", _PART_VERBS)
    warning = version.get("deprecationWarning") or f"{group}/{name} {kind} is deprecated"
    selectable = frozenset(entry["jsonPath"].removeprefix(".") for entry in version.get("selectableFields") or ())
    return Resource(
        group,
        name,
        kind,
        names["plural"],
        spec["scope"] == "Namespaced",
        list_kind=names.get("listKind", ""),
        singular=names.get("singular", ""),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        verbs=ALL_VERBS,
        subresources=subresources,
        storage=StorageKey(group, names["plural"]),
        storage_version=stored,
        to_storage=up,
        from_storage=down,
        columns=tuple(_column(column) for column in version.get("additionalPrinterColumns") or ()),
        selectable_fields=selectable,
        make_schema=make_schema,
        builtin=False,
        scale_paths=parts.get("scale"),
        deprecated=warning if version.get("deprecated") else "",
    )


def _schema(version: Mapping[str, Any]) -> Schema:
    return root_schema((version.get("schema") or {}).get("openAPIV3Schema"))


def _versioned(api_version: str, obj: dict[str, Any]) -> dict[str, Any]:
    return obj if obj.get("apiVersion") == api_version else {**obj, "apiVersion": api_version}


def _pruned(api_version: str, make_schema: Callable[[], Schema], obj: dict[str, Any]) -> dict[str, Any]:
    """Return an object in another version: nothing is converted, but no version has the fields of another."""
    made: dict[str, Any] = prune(make_schema(), {**obj, "apiVersion": api_version}, "", [], root=True)
    return made


def _completed(api_version: str, make_schema: Callable[[], Schema], obj: dict[str, Any]) -> dict[str, Any]:
    """Return an object in the stored version, with the defaults that it has when it is read."""
    made = _pruned(api_version, make_schema, obj)
    apply_defaults(make_schema(), made)
    return made


def _column(column: Mapping[str, Any]) -> Column:
    return Column(
        column["name"],
        column["type"],
        column["jsonPath"],
        column.get("format", ""),
        column.get("description", ""),
        column.get("priority", 0),
    )


class CustomKinds:
    """The kinds that definitions add to a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._served: dict[str, tuple[Mapping[str, Any], list[Resource]]] = {}

    def status(self, crd: Mapping[str, Any], now: str) -> dict[str, Any]:
        """Return the status that a definition has when it is stored: conditions, names, stored versions.

        Args:
            crd: valid; its status is the one before, if there is one.
            now: RFC 3339, for conditions that change.

        """
        spec, before = crd["spec"], crd.get("status") or {}
        conflict = self._conflict(crd)
        stored = next(version["name"] for version in spec["versions"] if version.get("storage"))
        versions = list(before.get("storedVersions") or ())
        if stored not in versions:
            versions.append(stored)
        accepted = (
            clone(before.get("acceptedNames") or {"plural": "", "kind": ""}) if conflict else clone(spec["names"])
        )
        if conflict:
            conditions = [
                ("NamesAccepted", "False", *conflict),
                ("Established", "False", "NotAccepted", "not all names are accepted"),
            ]
        else:
            conditions = [
                ("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
                ("Established", "True", "InitialNamesAccepted", "the initial names have been accepted"),
            ]
        known = {item.get("type"): item for item in before.get("conditions") or ()}
        for kind, value, reason, message in conditions:
            old = known.get(kind) or {}
            when = old["lastTransitionTime"] if old.get("status") == value else now
            known[kind] = {
                "lastTransitionTime": when,
                "message": message,
                "reason": reason,
                "status": value,
                "type": kind,
            }
        return {**before, "acceptedNames": accepted, "conditions": list(known.values()), "storedVersions": versions}

    def _conflict(self, crd: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return reason and message if a name is taken by another kind of the group."""
        spec = crd["spec"]
        names, own = spec["names"], self._served.get(crd["metadata"]["name"])
        mine = set(map(id, own[1])) if own else set()
        others = [one for one in self._registry.resources() if one.group == spec["group"] and id(one) not in mine]
        plurals = {name for one in others for name in (one.plural, one.singular, *one.short_names)}
        kinds = {name for one in others for name in (one.kind, one.list_kind)}
        for reason, value, taken in (
            ("PluralConflict", names["plural"], plurals),
            ("SingularConflict", names.get("singular"), plurals),
            *(("ShortNamesConflict", name, plurals) for name in names.get("shortNames") or ()),
            ("KindConflict", names["kind"], kinds),
            ("ListKindConflict", names.get("listKind"), kinds),
        ):
            if value in taken:
                return reason, f'"{value}" is already in use'
        return None

    def publish(self, crd: Mapping[str, Any]) -> None:
        """Serve what a stored definition says, and stop what it no longer says; unchanged specs change nothing."""
        name, spec = crd["metadata"]["name"], crd["spec"]
        known = self._served.get(name)
        if known is not None and known[0] == spec:
            return
        self.withdraw(name)
        if self._conflict(crd):
            return
        made = resources_of(crd)
        self._served[name] = (clone(spec), made)
        for resource in made:
            self._registry.add(resource)

    def withdraw(self, name: str) -> list[Resource]:
        """Stop serving the kinds of a definition, and return what was served."""
        _, resources = self._served.pop(name, ({}, []))
        for resource in resources:
            self._registry.remove(resource)
        return resources
