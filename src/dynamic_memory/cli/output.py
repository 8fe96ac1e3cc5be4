# SPDX-License-Identifier: Apache-2.0
"""How commands print: aligned columns as kubectl does, or the same data as JSON or YAML.

Columns are padded by hand: ten thousand rows take milliseconds, where a table library takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

__all__ = ["FORMATS", "age", "format_option", "render", "table"]

FORMATS = ("table", "wide", "json", "yaml")
GAP = 3


def format_option(command: Any) -> Any:
    """Add `-o table|wide|json|yaml` to a click command; the value arrives as `output`."""
    return click.option(
        "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print."
    )(command)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows under a header in aligned columns; the last column is not padded."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "".join(cell.ljust(width + GAP) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def render(output: str, data: Any, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return `data` as JSON or YAML, or `rows` as a table, by the value of `-o`."""
    if output == "json":
        return json.dumps(data, indent=2)
    if output == "yaml":
        import yaml  # noqa: PLC0415 - only for this format

        return str(yaml.safe_dump(data, sort_keys=False)).rstrip()
    return table(header, rows)


def age(seconds: float) -> str:
    """Return a duration as kubectl shows ages: 45s, 12m, 3h, 2d."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
