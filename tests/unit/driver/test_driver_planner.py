# SPDX-License-Identifier: Apache-2.0
"""One function decides every step of a share; here it is tried on every state that there is, and on wild histories."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_memory.driver.planner import Facts, Reported, State, Step, next_step

FINAL = {Step.READY, Step.RELEASED, Step.GONE}
DESTRUCTIVE = {Step.OFFLINE, Step.DESTROY_REGION, Step.REMOVE_MEMORY}

EFFECTS = {
    Step.WRITE_RECORD: {"record": State.ATTACHING},
    Step.TAKE_BACK: {"record": State.ATTACHING, "new_pod": False},
    Step.WITHDRAW_REPORT: {"reported": Reported.NOTHING},
    Step.ADD_MEMORY: {"extent": True},
    Step.CREATE_REGION: {"region": True, "whole": True},
    Step.ONLINE: {"online": True, "any_online": True},
    Step.REPORT_ATTACHED: {"reported": Reported.ATTACHED},
    Step.RECORD_ATTACHED: {"record": State.ATTACHED},
    Step.WRITE_RELEASING: {"record": State.RELEASING},
    Step.PUBLISH_TRUTH: {"truth_published": True},
    Step.OFFLINE: {"online": False, "any_online": False},
    Step.DESTROY_REGION: {"region": False, "whole": False},
    Step.REMOVE_MEMORY: {"extent": False},
    Step.REPORT_FAILED: {"reported": Reported.FAILED},
    Step.DROP_RECORD: {"record": None, "failed": False},
}
# what is left of a step that was cut off in the middle, where that differs from nothing and from all
HALF = {
    Step.CREATE_REGION: {"region": True},
    Step.ONLINE: {"any_online": True},
    Step.OFFLINE: {"online": False},
    Step.DESTROY_REGION: {"whole": False},
}


def apply(facts: Facts, step: Step, *, half: bool = False) -> Facts:
    changes = HALF.get(step, {}) if half else EFFECTS[step]
    after = msgspec.structs.replace(facts, **changes)
    if not after.allocated:  # conditions are those of an allocated claim
        after = msgspec.structs.replace(after, reported=Reported.NOTHING)
    return after


def all_facts():
    booleans = [False, True]
    for values in itertools.product(booleans, [None, *State], *[booleans] * 4, booleans, range(5), list(Reported)):
        allocated, record, failed, new_pod, truth, expired, extent, host, reported = values
        if failed and record is not State.RELEASING:
            continue
        if not allocated and reported is not Reported.NOTHING:
            continue
        yield Facts(
            allocated=allocated,
            record=record,
            failed=failed,
            new_pod=new_pod,
            truth_published=truth,
            undo_expired=expired,
            extent=extent,
            region=host > 0,
            whole=host > 1,
            any_online=host > 2,
            online=host == 4,
            reported=reported,
        )


def settle(facts: Facts) -> tuple[Facts, list[Step]]:
    steps = []
    while (step := next_step(facts)) not in FINAL:
        steps.append(step)
        assert len(steps) < 16, f"no end: {steps}"
        facts = apply(facts, step)
    steps.append(step)
    return facts, steps


def test_every_state_comes_to_rest_in_the_state_that_it_asks_for():
    count = 0
    for start in all_facts():
        end, steps = settle(start)
        count += 1
        if steps[-1] is Step.READY:
            assert end.allocated
            assert end.extent
            assert end.online
            assert end.reported is Reported.ATTACHED
            assert end.record is State.ATTACHED
        else:
            assert not end.extent
            assert not end.region
            assert end.reported is not Reported.ATTACHED
            # the record blocks a new attach for as long as the claim holds the share
            assert (end.record is State.RELEASING) == end.allocated or start.reported is Reported.FAILED
    assert count > 1500


def test_I5_every_step_repeated_gives_the_same_state():
    for facts in all_facts():
        step = next_step(facts)
        if step not in FINAL:
            once = apply(facts, step)
            assert apply(once, step) == once


def test_I2_nothing_is_taken_away_while_a_block_is_online():
    for facts in all_facts():
        step = next_step(facts)
        if step in (Step.DESTROY_REGION, Step.REMOVE_MEMORY):
            assert not facts.any_online
        if step is Step.REMOVE_MEMORY:
            assert not facts.region


def test_I3_attached_is_said_only_while_the_bytes_are_online_and_taken_back_before_they_go():
    for facts in all_facts():
        step = next_step(facts)
        if step is Step.REPORT_ATTACHED:
            assert facts.online
            assert facts.extent
        if step in DESTRUCTIVE:
            assert facts.reported is not Reported.ATTACHED


def test_rule_8_a_record_stands_before_memory_is_added_and_says_releasing_before_anything_goes():
    for facts in all_facts():
        step = next_step(facts)
        if step is Step.ADD_MEMORY:
            assert facts.record in (State.ATTACHING, State.ATTACHED)
        if step in DESTRUCTIVE:
            assert facts.record is State.RELEASING


def test_rule_8_releasing_is_taken_back_by_a_new_pod_only():
    released = Facts(allocated=True, record=State.RELEASING)
    assert next_step(released) is Step.RELEASED
    assert next_step(msgspec.structs.replace(released, new_pod=True)) is Step.TAKE_BACK
    assert next_step(msgspec.structs.replace(released, new_pod=True, failed=True)) is not Step.TAKE_BACK


def test_rule_15_the_truth_is_published_and_the_attach_undone_before_the_failure_is_reported():
    failing = Facts(
        allocated=True, record=State.RELEASING, failed=True, extent=True, region=True, whole=True, any_online=True
    )
    _, steps = settle(failing)
    assert steps == [
        Step.PUBLISH_TRUTH,
        Step.OFFLINE,
        Step.DESTROY_REGION,
        Step.REMOVE_MEMORY,
        Step.REPORT_FAILED,
        Step.RELEASED,
    ]


def test_rule_15_after_the_time_for_undoing_the_failure_is_reported_and_the_undo_goes_on():
    failing = Facts(allocated=True, record=State.RELEASING, failed=True, extent=True, undo_expired=True)
    _, steps = settle(failing)
    assert steps == [Step.PUBLISH_TRUTH, Step.REPORT_FAILED, Step.REMOVE_MEMORY, Step.RELEASED]


def test_a_claim_takes_the_steps_of_the_table_in_order():
    start = Facts(allocated=True)
    attached, steps = settle(start)
    assert steps == [
        Step.WRITE_RECORD,
        Step.ADD_MEMORY,
        Step.CREATE_REGION,
        Step.ONLINE,
        Step.REPORT_ATTACHED,
        Step.RECORD_ATTACHED,
        Step.READY,
    ]
    unprepared = msgspec.structs.replace(attached, record=State.RELEASING)
    released, steps = settle(unprepared)
    assert steps == [
        Step.WITHDRAW_REPORT,
        Step.OFFLINE,
        Step.DESTROY_REGION,
        Step.REMOVE_MEMORY,
        Step.RELEASED,
    ]
    _, steps = settle(msgspec.structs.replace(released, allocated=False))
    assert steps == [Step.DROP_RECORD, Step.GONE]


@pytest.mark.parametrize("reported", [Reported.ATTACHED, Reported.NOTHING])
def test_rule_12_a_claim_gone_without_unprepare_is_detached_at_once(reported):
    forced = Facts(
        allocated=False,
        record=State.ATTACHED,
        extent=True,
        region=True,
        whole=True,
        online=True,
        any_online=True,
        reported=Reported.NOTHING if reported is Reported.ATTACHED else reported,
    )
    end, steps = settle(forced)
    assert steps[0] is Step.WRITE_RELEASING
    assert steps[-1] is Step.GONE
    assert not end.extent


def test_rule_14_memory_lost_by_a_reboot_is_denied_first_and_attached_again():
    rebooted = Facts(allocated=True, record=State.ATTACHING, extent=True, reported=Reported.ATTACHED)
    end, steps = settle(rebooted)
    assert steps[:3] == [Step.WITHDRAW_REPORT, Step.CREATE_REGION, Step.ONLINE]
    assert end.online


EVENTS = ("unprepare", "deallocate", "new-pod", "reboot", "half", "none", "fail")


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=24), st.booleans())
def test_I5_whatever_interrupts_a_share_it_ends_where_it_should(events, deallocated):
    facts = Facts(allocated=True)
    for event in events:
        if event == "unprepare" and facts.record is not None:
            facts = msgspec.structs.replace(facts, record=State.RELEASING, new_pod=False)
        elif event == "deallocate":
            facts = msgspec.structs.replace(facts, allocated=False, reported=Reported.NOTHING)
        elif event == "new-pod" and facts.allocated and facts.record is not None:
            facts = msgspec.structs.replace(facts, new_pod=True)
        elif event == "reboot":
            facts = msgspec.structs.replace(
                facts, region=False, whole=False, online=False, any_online=False, truth_published=False
            )
        elif event == "fail" and facts.record is State.ATTACHING:
            facts = msgspec.structs.replace(facts, record=State.RELEASING, failed=True, new_pod=False)
        step = next_step(facts)
        if step not in FINAL:
            facts = apply(facts, step, half=event == "half")
    if deallocated:
        facts = msgspec.structs.replace(facts, allocated=False, reported=Reported.NOTHING)
    end, steps = settle(facts)
    if deallocated:
        assert steps[-1] is Step.GONE
        assert end.record is None
        assert not end.extent
        assert not end.region
    elif end.reported is Reported.ATTACHED:
        assert end.online
        assert end.extent
    else:
        assert not end.extent
        assert not end.region
