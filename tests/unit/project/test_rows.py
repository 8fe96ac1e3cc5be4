# SPDX-License-Identifier: Apache-2.0
"""What the README says of the node's own memory by row is a test each, and is explained."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"([A-Z])(\d+)(?: ?[–…] ?[A-Z]?(\d+))?")  # noqa: RUF001 - as people write ranges
NAME = re.compile(r"def test((?:_[A-Z]+\d+)+)_")
TESTS = ("unit/driver", "unit/host", "unit/nri", "unit/cli", "unit/project", "cluster", "kernel")


def rows(text: str) -> set[str]:
    """Rows that a text names, ranges written out."""
    found = set()
    for letter, first, last in ROW.findall(text):
        found |= {f"{letter}{number}" for number in range(int(first), int(last or first) + 1)}
    return found


def test_each_row_that_the_readme_names_is_a_test_and_is_explained() -> None:
    readme = (ROOT / "README.md").read_text()
    named = rows(readme.partition("each a test):")[2].partition(". What they mean")[0])
    paths = [path for folder in TESTS for path in (ROOT / "tests" / folder).rglob("test_*.py")]
    tested = {row for path in paths for names in NAME.findall(path.read_text()) for row in names.strip("_").split("_")}
    table = (ROOT / "docs/node-memory.md").read_text().partition("What dra-driver-memory does not do")[2]
    explained = {row for line in table.splitlines() if line.startswith("| ") for row in rows(line.split("|")[1])}

    assert len(named) == 49
    assert named - tested == set()
    assert named == explained
