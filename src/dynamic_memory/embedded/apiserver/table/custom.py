# SPDX-License-Identifier: Apache-2.0
"""Tables of custom kinds: the printer columns of a CRD, NAME and AGE when it has none."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

import msgspec.json

from dynamic_memory.embedded.apiserver.resource import Column as CustomColumn
from dynamic_memory.embedded.apiserver.table.columns import AGE, NAME, Cell, Column, Printer, age, name
from dynamic_memory.embedded.apiserver.table.duration import since
from dynamic_memory.embedded.apiserver.table.jsonpath import parse_path

__all__ = ["CREATED_AT", "NAME_AND_AGE", "custom_printer"]

Object = dict[str, Any]


def _name_and_age(obj: Object, now: dt.datetime) -> list[Cell]:
    return [name(obj), age(obj, now)]


def _created_at(obj: Object, now: dt.datetime) -> list[Cell]:  # noqa: ARG001 - the form of every printer
    return [name(obj), obj.get("metadata", {}).get("creationTimestamp")]


NAME_AND_AGE = Printer((NAME, Column("Age", "date", AGE.doc)), _name_and_age)
CREATED_AT = Printer((NAME, Column("Created At", "date", AGE.doc)), _created_at)
"""Builtin kinds for which the real server has no table show when they were made, not their age."""


def custom_printer(columns: Iterable[CustomColumn]) -> Printer:
    """Return the printer of a CRD's additionalPrinterColumns.

    Raises:
        InvalidInput: a jsonPath is not within the subset.

    """
    columns = tuple(columns)
    if not columns:
        return NAME_AND_AGE
    getters = [(column.type, parse_path(column.json_path)) for column in columns]
    headers = (
        Column(
            column.name,
            column.type,
            column.description or f"Custom resource definition column (in JSONPath format): {column.json_path}",
            column.priority,
            column.format,
        )
        for column in columns
    )

    def cells(obj: Object, now: dt.datetime) -> list[Cell]:
        return [name(obj), *(_cell(kind, find, obj, now) for kind, find in getters)]

    return Printer((NAME, *headers), cells)


def _cell(kind: str, find: Callable[[Any], list[Any]], obj: Object, now: dt.datetime) -> Cell:
    found = find(obj)
    value = found[0] if found else None
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    match kind:
        case "string":
            return _text(value) if found else None
        case "integer":
            return None if number is None else int(number)
        case "number":
            return None if number is None else float(number)
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            return _date(value, now)
    return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value, order="sorted").decode()


def _date(value: Any, now: dt.datetime) -> Cell:
    if not isinstance(value, str):
        return None
    shown = since(value, now) if value else "<unknown>"
    return "<invalid>" if value and shown == "<unknown>" else shown
