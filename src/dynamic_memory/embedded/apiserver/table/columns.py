# SPDX-License-Identifier: Apache-2.0
"""The columns of a table and the small formats that several kinds share."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

from dynamic_memory.embedded.apiserver.table.duration import since

__all__ = [
    "AGE",
    "NAME",
    "WORKLOAD",
    "Cell",
    "Column",
    "Printer",
    "age",
    "boolean",
    "condition",
    "integer",
    "label_selector",
    "labels",
    "layout",
    "name",
    "selector_text",
    "text",
]

Cell = str | int | float | bool | None
Object = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column: its header, JSON type and format.

    `doc` is the description or, when it starts with a dot, the path of the field whose description in the schema it is.
    `priority` 0 is shown always, 1 with `-o wide`.
    """

    name: str
    type: str = "string"
    doc: str = ""
    priority: int = 0
    format: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Printer:
    """How objects of one kind become rows. `conditions` marks rows of things that are over (Completed)."""

    columns: tuple[Column, ...]
    cells: Callable[[Object, dt.datetime], list[Cell]]
    conditions: Callable[[Object], list[dict[str, str]]] | None = None


def text(header: str, doc: str = "", priority: int = 0) -> Column:
    """Return a column of strings."""
    return Column(header, "string", doc, priority)


def integer(header: str, doc: str = "", priority: int = 0) -> Column:
    """Return a column of integers."""
    return Column(header, "integer", doc, priority)


def boolean(header: str, doc: str = "") -> Column:
    """Return a column of booleans."""
    return Column(header, "boolean", doc)


NAME = Column("Name", "string", ".metadata.name", format="name")
AGE = text("Age", ".metadata.creationTimestamp")
WORKLOAD = (
    text("Containers", "Names of each container in the template.", 1),
    text("Images", "Images referenced by each container in the template.", 1),
)


def name(obj: Object) -> str:
    """Return the name of an object."""
    return str(obj.get("metadata", {}).get("name", ""))


def age(obj: Object, now: dt.datetime) -> str:
    """Return the age of an object."""
    return since(obj.get("metadata", {}).get("creationTimestamp"), now)


def layout(template: Object | None) -> list[Cell]:
    """Return the names and the images of a pod template's containers."""
    containers = ((template or {}).get("spec") or {}).get("containers") or []
    return [
        ",".join(str(c.get("name", "")) for c in containers),
        ",".join(str(c.get("image", "")) for c in containers),
    ]


def labels(values: dict[str, str] | None) -> str:
    """Return a set of labels as `a=b,c=d`, or `<none>`."""
    return ",".join(f"{key}={value}" for key, value in sorted((values or {}).items())) or "<none>"


def selector_text(selector: Object | None) -> str:
    """Return a label selector as a query, empty when it selects all or is absent; `<error>` when it cannot be one."""
    terms = [(key, f"{key}={value}") for key, value in ((selector or {}).get("matchLabels") or {}).items()]
    for entry in (selector or {}).get("matchExpressions") or []:
        key = str(entry.get("key", ""))
        match entry.get("operator"):
            case "Exists":
                terms.append((key, key))
            case "DoesNotExist":
                terms.append((key, f"!{key}"))
            case "In" | "NotIn" as operator if entry.get("values"):
                terms.append((key, f"{key} {operator.lower()} ({','.join(sorted(entry['values']))})"))
            case _:
                return "<error>"
    return ",".join(term for _, term in sorted(terms, key=lambda pair: pair[0]))


def label_selector(selector: Object | None) -> str:
    """Return a label selector as a query, `<none>` when it is empty."""
    return selector_text(selector) or "<none>"


def condition(obj: Object, kind: str) -> Object | None:
    """Return the first condition of a type in an object's status."""
    found: Iterable[Object] = obj.get("status", {}).get("conditions") or []
    return next((entry for entry in found if entry.get("type") == kind), None)
