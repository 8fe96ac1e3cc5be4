# SPDX-License-Identifier: Apache-2.0
"""The transition time moves with the status and with nothing else."""

from __future__ import annotations

import pytest

from dynamic_memory.api.meta import Condition
from dynamic_memory.kube.conditions import MAX_MESSAGE, find, merge

OLD, NOW = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
READY = Condition(type="Ready", status="False", reason="Waiting", message="m", last_transition_time=OLD)
OTHER = Condition(type="Other", status="True", reason="Good", last_transition_time=OLD)


def stated(status="False", reason="Waiting", message="m", type_="Ready"):
    return Condition(type=type_, status=status, reason=reason, message=message)


@pytest.mark.parametrize(
    ("there", "new", "time"),
    [
        ([READY, OTHER], stated(), OLD),
        ([READY, OTHER], stated(reason="Busy", message="other"), OLD),
        ([READY, OTHER], stated(status="True", reason="Done"), NOW),
        ([OTHER], stated(), NOW),
        ([], stated(), NOW),
        ([Condition(type="Ready", status="False")], stated(), NOW),
    ],
)
def test_merge(there, new, time):
    merged = merge(there, new, NOW)
    found = find(merged, "Ready")
    assert (found.status, found.reason, found.message) == (new.status, new.reason, new.message)
    assert found.last_transition_time == time
    assert [c for c in merged if c.type != "Ready"] == [c for c in there if c.type != "Ready"]
    assert len({c.type for c in merged}) == len(merged)


def test_find_and_long_messages():
    assert find([READY, OTHER], "Nothing") is None
    (long,) = merge([], stated(message="x" * 100_000), NOW)
    assert len(long.message) == MAX_MESSAGE
