# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_memory.controller.touch import AGAIN_AFTER, MIN_SPACING, TouchPlan


def fire(plan: TouchPlan, until: float) -> list[tuple[float, str]]:
    fired = []
    while (at := plan.next_due()) is not None and at <= until:
        fired += [(at, pool) for pool in plan.due(at)]
    return fired


def test_rule_20_an_event_touches_at_once_and_again_after_six_seconds():
    plan = TouchPlan()
    plan.event("a", 10.0)
    assert fire(plan, 100) == [(10.0, "a"), (16.0, "a")]
    assert plan.next_due() is None


def test_rule_20_pools_are_touched_each_for_itself():
    plan = TouchPlan()
    plan.event("a", 10.0)
    plan.event("b", 10.5)
    assert fire(plan, 100) == [(10.0, "a"), (10.5, "b"), (16.0, "a"), (16.5, "b")]


def test_a_touch_that_failed_is_tried_again():
    plan = TouchPlan()
    plan.event("a", 0.0)
    assert plan.due(0.0) == ["a"]
    plan.again("a", 0.0)
    assert plan.next_due() == MIN_SPACING


def test_a_pool_that_is_gone_is_not_touched():
    plan = TouchPlan()
    plan.event("a", 0.0)
    plan.forget("a")
    assert fire(plan, 100) == []


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
@settings(deadline=None)
def test_rule_20_at_most_one_touch_a_second_and_none_missed(events):
    plan, fired = TouchPlan(), []
    for at in sorted(events):
        fired += [t for t, _ in fire(plan, at)]
        plan.event("a", at)
        fired += [at for _ in plan.due(at)]
    fired += [t for t, _ in fire(plan, 1000)]
    assert all(b - a >= MIN_SPACING - 1e-9 for a, b in itertools.pairwise(fired))
    for at in events:
        assert any(at <= t <= at + 2 * MIN_SPACING for t in fired)
        assert any(at + AGAIN_AFTER <= t <= at + AGAIN_AFTER + 2 * MIN_SPACING for t in fired)
    # A steady stream of events costs one touch a second, however dense it is.
    assert len(fired) <= 30 + AGAIN_AFTER + 4
