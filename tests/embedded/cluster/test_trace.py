# SPDX-License-Identifier: Apache-2.0
"""The timeline of the demo: it fails if an arrow is missing, or comes before what it must follow."""

from __future__ import annotations

import itertools

from dynamic_memory.embedded.cluster.trace import ARROWS, ORDER, Trace

ALL = [
    "capacity", "published", "submitted", "queued", "allocated", "added", "region", "noticed", "shown", "bound",
    "prepared", "running", "deleted", "withdrawn", "removed", "released", "gone", "noticed-back", "shown-back",
]  # fmt: skip


def trace(*names: str) -> Trace:
    found = Trace(itertools.count().__next__)
    for name in names:
        found.mark(name)
    return found


def test_the_diagram_has_21_arrows_and_each_has_a_moment():
    assert len(ARROWS) == 21
    assert {arrow.mark for arrow in ARROWS} <= set(ALL)
    assert {name for chain in ORDER for name in chain} <= set(ALL)
    assert trace(*ALL).faults() == []


def test_each_arrow_that_is_missing_is_a_fault():
    for arrow in ARROWS:
        left = trace(*(name for name in ALL if name != arrow.mark))
        assert any(f"arrow {arrow.number} " in fault for fault in left.faults())


def test_what_comes_too_early_is_a_fault():
    early = [name for name in ALL if name != "bound"]
    early.insert(early.index("region"), "bound")
    assert trace(*early).faults() == ["bound came before region"]


def test_the_first_time_counts_unless_said_otherwise():
    found = trace("submitted", "queued")
    found.mark("queued")
    assert found.at("queued") == 1
    found.mark("queued", again=True)
    assert found.at("queued") == 2
