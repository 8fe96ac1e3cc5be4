# SPDX-License-Identifier: Apache-2.0
"""Which extents a share gets."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dynamic_memory.fabric.extents import choose, holes
from dynamic_memory.fabric.model import Range


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], [(0, 10)]),
        ([(0, 10)], []),
        ([(2, 3)], [(0, 2), (5, 5)]),
        ([(5, 5), (0, 2)], [(2, 3)]),
        ([(0, 2), (2, 2)], [(4, 6)]),
        # The device shrank below what is taken.
        ([(8, 4)], [(0, 8)]),
        ([(12, 4)], [(0, 10)]),
    ],
)
def test_holes_are_what_nobody_has(taken, expected):
    assert holes(10, [Range(*each) for each in taken]) == [Range(*each) for each in expected]


@pytest.mark.parametrize(
    ("free", "size", "expected"),
    [
        ([(0, 10)], 4, [(0, 4)]),
        ([(0, 5), (6, 4)], 4, [(6, 4)]),
        ([(0, 5), (6, 4), (20, 4)], 3, [(6, 3)]),
        ([(0, 3), (4, 2), (8, 6)], 8, [(4, 2), (8, 6)]),
        ([(0, 3), (4, 2), (8, 6)], 9, [(0, 3), (8, 6)]),
        ([(0, 3), (4, 2), (8, 6)], 11, [(0, 3), (4, 2), (8, 6)]),
        ([(0, 3), (4, 2)], 6, None),
        ([], 1, None),
    ],
)
def test_a_share_gets_the_smallest_hole_that_does_or_as_few_as_make_it_up(free, size, expected):
    chosen = choose([Range(*each) for each in free], size)

    assert chosen == (None if expected is None else tuple(Range(*each) for each in expected))


@given(st.lists(st.integers(1, 9), max_size=8), st.integers(1, 60))
def test_no_choice_needs_fewer_extents(sizes, size):
    free = [Range(10 * index, length) for index, length in enumerate(sizes)]

    chosen = choose(free, size)

    largest = sorted(sizes, reverse=True)
    needed = next((count for count in range(len(sizes) + 1) if sum(largest[:count]) >= size), None)
    assert (chosen is None) == (needed is None)
    if chosen is not None:
        assert len(chosen) == needed
        assert sum(extent.size for extent in chosen) == size
        assert all(
            any(hole.device_offset <= extent.device_offset and extent.end <= hole.end for hole in free)
            for extent in chosen
        )
