# SPDX-License-Identifier: Apache-2.0
"""How high the limit over all pods has to be, whatever the kubelet and crashes do to it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.capacity.ceiling import SLACK, Plan, Record, Seen, plan

GIB = 1 << 30
MIB = 1 << 20
OWN = 16 * GIB


def seen(**changes) -> Seen:
    base = Seen(boot="b1", limit=OWN, usage=GIB, online=0, total=OWN + GIB, counted=OWN + GIB, simulated=False)
    changed = msgspec.structs.replace(base, **changes)
    return msgspec.structs.replace(changed, total=OWN + GIB + changed.online) if "total" not in changes else changed


def raised(online=2 * GIB, **changes) -> Record:
    record = plan(seen(online=online, **changes), None).record
    assert record is not None
    return record


def test_nothing_online_nothing_to_do():
    assert plan(seen(), None) == Plan(record=Record("b1", OWN, (OWN,)), wanted=OWN)


def test_online_bytes_are_added():
    result = plan(seen(online=2 * GIB), None)
    assert (result.write, result.wanted) == (OWN + 2 * GIB, OWN + 2 * GIB)
    assert result.record == Record("b1", OWN, (OWN, OWN + 2 * GIB))


@pytest.mark.parametrize("after", [OWN, OWN + 2 * GIB], ids=["died before the write", "died after the write"])
def test_a_crash_around_the_write_does_not_move_the_base(after):
    result = plan(seen(online=2 * GIB, limit=after), raised())
    assert result.wanted == OWN + 2 * GIB
    assert result.write == (None if after == result.wanted else result.wanted)


def test_more_bytes_raise_it_again_from_the_same_base():
    result = plan(seen(online=3 * GIB, limit=OWN + 2 * GIB), raised())
    assert (result.write, result.record) == (OWN + 3 * GIB, Record("b1", OWN, (OWN + 2 * GIB, OWN + 3 * GIB)))


def test_a_kubelet_that_counts_fabric_memory_at_its_restart_changes_nothing():
    """The kubelet's own value is then the very value that was written (seen on a real node)."""
    at_restart = OWN + 2 * GIB
    result = plan(seen(online=2 * GIB, limit=at_restart, counted=OWN + 3 * GIB), raised())
    assert (result.write, result.wanted) == (None, at_restart)


def test_a_kubelet_restarted_with_another_reservation_is_followed():
    result = plan(seen(online=2 * GIB, limit=OWN + 2 * GIB - 512 * MIB), raised())
    assert result.wanted == OWN + 2 * GIB - 512 * MIB
    assert result.record is not None
    assert result.record.own == OWN - 512 * MIB


def test_a_kubelet_does_not_count_simulated_memory():
    reset = plan(seen(online=2 * GIB, limit=OWN - GIB, simulated=True), raised(simulated=True))
    assert reset.write == OWN + GIB
    first = plan(seen(online=2 * GIB, simulated=True, total=100 * GIB, counted=500 * GIB), None)
    assert first.write == OWN + 2 * GIB


def test_reset_to_the_base_is_raised_again():
    result = plan(seen(online=2 * GIB, limit=OWN), raised())
    assert result.write == OWN + 2 * GIB


@pytest.mark.parametrize(
    ("counted", "own"),
    [(OWN + GIB, OWN), (OWN + GIB + 2 * GIB, OWN - 2 * GIB), (OWN + GIB + GIB, OWN - GIB), (OWN, OWN)],
    ids=["kubelet began before", "kubelet counted all", "kubelet counted a half", "kubelet counted less than there is"],
)
def test_at_first_sight_the_node_object_tells_what_the_kubelet_counted(counted, own):
    result = plan(seen(online=2 * GIB, counted=counted), None)
    assert result.record is not None
    assert (result.record.own, result.wanted) == (own, own + 2 * GIB)


def test_at_first_sight_without_a_node_object_nothing_is_guessed():
    assert plan(seen(online=2 * GIB, counted=None), None) == Plan(record=None)
    assert plan(seen(counted=None), None).wanted == OWN


def test_another_boot_begins_anew():
    result = plan(seen(boot="b2", limit=OWN + GIB), raised())
    assert result.record == Record("b2", OWN + GIB, (OWN + GIB,))


def test_no_limit_is_left_alone():
    record = raised()
    assert plan(seen(limit=None, online=2 * GIB), record) == Plan(record=record)


@pytest.mark.parametrize(
    ("usage", "write"),
    [
        (GIB, OWN),
        (OWN + GIB, OWN + GIB + SLACK),
        (OWN - SLACK, OWN),
        (OWN + 2 * GIB - SLACK, None),
        (OWN + 2 * GIB, None),
    ],
)
def test_it_comes_down_only_as_far_as_the_use_allows(usage, write):
    result = plan(seen(limit=OWN + 2 * GIB, usage=usage), raised())
    assert (result.write, result.wanted) == (write, OWN)


def test_it_follows_the_use_down():
    record, limit, written = raised(), OWN + 2 * GIB, []
    for usage in (OWN + GIB, OWN + GIB, OWN + 512 * MIB, GIB, GIB):
        result = plan(seen(limit=limit, usage=usage), record)
        record, limit = result.record, result.write or limit
        written.append(result.write)
    assert written == [OWN + GIB + SLACK, None, OWN + 512 * MIB + SLACK, OWN, None]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 20), st.booleans(), st.booleans()), min_size=1, max_size=12
    ),
    simulated=st.booleans(),
)
def test_I5_whatever_happens_it_settles_at_own_plus_online_and_never_below_the_use(steps, simulated):
    """Online bytes, use, restarts of the kubelet and of the updater before or after its write, in any order."""
    limit, record, online, counted = OWN, None, 0, OWN + GIB
    for gib, used, kubelet_restarts, dies_before_write in steps:
        online, usage = gib * GIB, used * GIB
        if kubelet_restarts:
            limit = OWN if simulated else OWN + online
            counted = limit + GIB
        result = plan(seen(limit=limit, usage=usage, online=online, counted=counted, simulated=simulated), record)
        record = result.record
        if result.write is not None and not dies_before_write:
            assert result.write >= min(limit, usage)
            limit = result.write
    for _ in range(2):
        result = plan(seen(limit=limit, usage=0, online=online, counted=counted, simulated=simulated), record)
        record, limit = result.record, result.write or limit
    assert limit == OWN + online
