# SPDX-License-Identifier: Apache-2.0
"""Objects in, a Table out: for lists, single objects and events of watches."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.errors import bad_request
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.schema import Schema, node_at
from dynamic_memory.embedded.apiserver.table import core, network, policies, storage, workloads
from dynamic_memory.embedded.apiserver.table.columns import Column, Printer
from dynamic_memory.embedded.apiserver.table.custom import CREATED_AT, NAME_AND_AGE, custom_printer
from dynamic_memory.embedded.apiserver.table.metadata import partial_object
from dynamic_memory.embedded.apiserver.table.pods import POD

__all__ = ["INCLUDE", "Tables", "include_object"]

Object = dict[str, Any]

INCLUDE = ("None", "Metadata", "Object")
KEPT = 1000  # resources whose headers are remembered

PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "Pod"): POD,
    **workloads.PRINTERS,
    **core.PRINTERS,
    **network.PRINTERS,
    **storage.PRINTERS,
    **policies.PRINTERS,
    ("rbac.authorization.k8s.io", "Role"): CREATED_AT,
    ("rbac.authorization.k8s.io", "ClusterRole"): CREATED_AT,
    ("", "LimitRange"): CREATED_AT,
}


def include_object(query: Mapping[str, list[str]]) -> str:
    """Return what rows carry beside their cells: `None`, `Metadata` or `Object`.

    Raises:
        StatusError: 400, the parameter is none of them.

    """
    value = (query.get("includeObject") or [""])[0] or "Metadata"
    if value not in INCLUDE:
        known = ", ".join(f'"{entry}"' for entry in ("", "Metadata", "None", "Object"))
        why = f'includeObject: Unsupported value: "{value}": supported values: {known}'
        raise bad_request(f"Unable to convert to Table as requested: {why}")
    return value


class Tables:
    """The printer and the headers of each Resource, made when first asked for."""

    def __init__(self) -> None:
        self._made: dict[Resource, tuple[Printer, list[Object]]] = {}

    @staticmethod
    def include(query: Mapping[str, list[str]]) -> str:
        """See `include_object`."""
        return include_object(query)

    def _of(self, resource: Resource) -> tuple[Printer, list[Object]]:
        made = self._made.get(resource)
        if made is None:
            if len(self._made) > KEPT:  # resources of CRDs that came and went
                self._made.clear()
            printer = _printer(resource)
            made = self._made[resource] = printer, [_definition(c, resource.schema) for c in printer.columns]
        return made

    def render(
        self,
        resource: Resource,
        items: list[Object],
        metadata: Object,
        *,
        now: dt.datetime,
        include: str = "Metadata",
        version: str = "v1",
        headers: bool = True,
    ) -> Object:
        """Return the Table of objects.

        Args:
            resource: what the objects are of, in the version of the objects.
            items: the objects, in order.
            metadata: of the table: that of the list, or the resourceVersion of a single object.
            now: the server's time, which ages are measured to.
            include: `None`, `Metadata` or `Object`: what rows carry beside their cells.
            version: of meta.k8s.io.
            headers: whether columns are defined; in a watch only the first event does.

        """
        printer, definitions = self._of(resource)
        rows = []
        for item in items:
            row: Object = {"cells": printer.cells(item, now)}
            if printer.conditions is not None and (conditions := printer.conditions(item)):
                row["conditions"] = conditions
            if include == "Object":
                row["object"] = item
            elif include == "Metadata":
                row["object"] = partial_object(item, version)
            else:
                row["object"] = None
            rows.append(row)
        return {
            "kind": "Table",
            "apiVersion": f"meta.k8s.io/{version}",
            "metadata": metadata,
            "columnDefinitions": definitions if headers else [],
            "rows": rows,
        }

    def render_one(
        self,
        resource: Resource,
        item: Object,
        *,
        now: dt.datetime,
        include: str = "Metadata",
        version: str = "v1",
        headers: bool = True,
    ) -> Object:
        """Return the Table of one object, as answers to GET and events of watches carry it."""
        metadata = {"resourceVersion": item.get("metadata", {}).get("resourceVersion", "")}
        return self.render(resource, [item], metadata, now=now, include=include, version=version, headers=headers)


def _printer(resource: Resource) -> Printer:
    if resource.columns:
        return custom_printer(resource.columns)
    return PRINTERS.get((resource.group, resource.kind), NAME_AND_AGE)


def _definition(column: Column, schema: Schema) -> Object:
    doc = column.doc
    if doc.startswith("."):
        node = node_at(schema, doc[1:].split("."))
        doc = node.description if node is not None else ""
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": doc,
        "priority": column.priority,
    }
