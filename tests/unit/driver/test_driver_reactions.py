# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dynamic_memory.api.names import Reason
from dynamic_memory.driver.reactions import FOREVER, Patience, on_attach, on_release
from dynamic_memory.errors import DynamicMemoryError, RetryError
from dynamic_memory.fabric import errors as fabric
from dynamic_memory.host import errors as host

T = "6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11"
PATIENCE = Patience(orphans=30, arrival=60, host=61)


@pytest.mark.parametrize(
    ("error", "reason", "patience", "publish"),
    [
        (fabric.Exhausted(10, 4, 6, 6), Reason.WAITING_FOR_RELEASE, FOREVER, True),
        (fabric.Exhausted(10, 4, 0, 6), Reason.WAITING_FOR_RELEASE, 30, True),
        (fabric.Exhausted(10, 4, 0, 0), Reason.NO_CAPACITY, 0, True),
        (fabric.WindowFull(10, 4, 2), Reason.WINDOW_EXHAUSTED, 0, True),
        (fabric.Conflicts(T, "size"), Reason.REFUSED, 0, False),
        (fabric.BadArgument("size", "a multiple"), Reason.REFUSED, 0, True),
        (fabric.UnknownNode("n1"), Reason.REFUSED, 0, True),
        (fabric.UnknownDevice("p/d"), Reason.REFUSED, 0, True),
        (fabric.Denied("other node"), Reason.REFUSED, 0, True),
        (fabric.DeviceDown("cxl0", "no link"), Reason.ATTACH_FAILED, 0, True),
        (fabric.BackendFailure("timeout"), Reason.ATTACH_FAILED, 0, True),
        (fabric.Unreachable("refused"), Reason.FABRIC_UNREACHABLE, FOREVER, True),
        (fabric.Rejected("later"), Reason.FABRIC_UNREACHABLE, FOREVER, True),
        (host.NotArrived(T, 2, 1), Reason.WAITING_FOR_MEMORY, 60, True),
        (host.HostTimeout("online", T, 5), Reason.ONLINING, 61, True),
        (host.Unreadable("/sys/x", "a number"), Reason.ONLINING, 61, True),
        (host.RegionFailed(T, "ENOSPC"), Reason.ONLINE_FAILED, 0, True),
        (host.OnlineFailed(T, [3], "EINVAL"), Reason.ONLINE_FAILED, 0, True),
        (RetryError("?"), Reason.FABRIC_UNREACHABLE, FOREVER, True),
        (DynamicMemoryError("?"), Reason.ATTACH_FAILED, 0, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_rule_15_error_to_reaction(error, reason, patience, publish):
    reaction = on_attach(error, PATIENCE)
    assert (reaction.reason, reaction.patience, reaction.publish) == (reason, patience, publish)
    assert str(error) in reaction.message


@pytest.mark.parametrize(
    ("error", "releasing", "waits"),
    [
        (fabric.WindowFull(10, 4, 2), 6, True),
        (fabric.WindowFull(10, 4, 2), 5, False),
        (fabric.WindowFull(10, 40, 0, 1), 1, True),
        (fabric.WindowFull(10, 40, 0, 1), 0, False),
    ],
)
def test_a_full_window_waits_for_what_this_node_is_giving_back(error, releasing, waits):
    assert (on_attach(error, PATIENCE, releasing=releasing).reason is Reason.WAITING_FOR_RELEASE) is waits


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (host.Busy(T, [1, 2], "EBUSY"), Reason.MEMORY_BUSY),
        (host.HostTimeout("offline", T, 5), Reason.MEMORY_BUSY),
        (fabric.Unreachable("refused"), Reason.FABRIC_UNREACHABLE),
        (host.RegionFailed(T, "EBUSY"), Reason.RELEASING),
        (fabric.Denied("?"), Reason.RELEASING),
    ],
)
def test_a_release_is_never_given_up(error, reason):
    reaction = on_release(error)
    assert (reaction.reason, reaction.patience) == (reason, FOREVER)
