# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.driver.devices import UNHEALTHY_TAINT, Taint, Unowned, unowned, window_devices
from dynamic_memory.fabric.model import Capacity, HostWindow, PoolDevice, Range, Share

MIB = 1 << 20
UNIT = 128 * MIB


def capacity(total: int = 1024 * MIB, max_extents: int = 8, unit: int = UNIT) -> Capacity:
    window = HostWindow(
        node="n1",
        host="h1",
        domain="rack-1",
        device="port0",
        total=total,
        max_extents=max_extents,
        used=0,
        used_extents=0,
        unit=unit,
        healthy=True,
    )
    pool = PoolDevice(
        pool="fabric/rack-1", device="cxl0", domain="rack-1", total=1 << 40, free=1 << 40, unit=UNIT, healthy=True
    )
    return Capacity(revision=1, pools=(pool,), hosts=(window,), simulated=True)


def share(tag: str, size: int = UNIT, extents: int = 1) -> Share:
    ranges = tuple(Range(i * size, size // extents) for i in range(extents))
    return Share(tag=tag, owner="c1", node="n1", pool="fabric/rack-1", device="cxl0", size=size, ranges=ranges)


def test_a_window_device_as_it_is_published():
    [device] = window_devices(capacity(), "n1", {}, {})
    assert device == {
        "name": "port0",
        "allowMultipleAllocations": True,
        "attributes": {
            "kind": {"string": "window"},
            "fabricDomain": {"string": "rack-1"},
            "simulated": {"bool": True},
        },
        "capacity": {
            "size": {
                "value": str(1024 * MIB),
                "requestPolicy": {
                    "default": str(UNIT),
                    "validRange": {"min": str(UNIT), "step": str(UNIT)},
                },
            },
            "extents": {"value": "8", "requestPolicy": {"default": "1", "validValues": ["1"]}},
        },
    }


def test_rule_18_bytes_that_no_claim_owns_are_taken_off_and_what_claims_own_is_not():
    windows = capacity().hosts
    held = unowned([share("a"), share("b", 2 * UNIT)], {"a": "port0"}, windows)
    assert held == {"port0": Unowned(2 * UNIT, 1)}
    [device] = window_devices(capacity(), "n1", held, {})
    assert device["capacity"]["size"]["value"] == str(1024 * MIB - 2 * UNIT)
    assert device["capacity"]["extents"]["value"] == "7"


def test_extents_beyond_the_one_that_a_claim_accounts_for_are_taken_off():
    held = unowned([share("a", 4 * UNIT, extents=3)], {"a": "port0"}, capacity().hosts)
    assert held == {"port0": Unowned(0, 2)}


@pytest.mark.parametrize(
    ("units", "policy"),
    [
        (2, {"default": str(UNIT), "validRange": {"min": str(UNIT), "step": str(UNIT)}}),
        (1, {"default": str(UNIT), "validValues": [str(UNIT)]}),
        (0, None),
    ],
)
def test_the_policy_always_fits_into_the_value(units, policy):
    [device] = window_devices(capacity(total=units * UNIT), "n1", {}, {})
    size = device["capacity"]["size"]
    assert size["value"] == str(units * UNIT)
    assert size.get("requestPolicy") == policy


def test_a_window_without_extents_has_no_bytes():
    [device] = window_devices(capacity(max_extents=1), "n1", {"port0": Unowned(0, 1)}, {})
    assert device["capacity"] == {"size": {"value": "0"}, "extents": {"value": "0"}}


def test_units_of_window_and_pool_are_brought_together():
    [device] = window_devices(capacity(unit=UNIT // 2 * 3), "n1", {}, {})
    assert device["capacity"]["size"]["requestPolicy"]["default"] == str(3 * UNIT)


def test_a_taint_keeps_the_scheduler_away():
    [device] = window_devices(capacity(), "n1", {}, {"port0": [Taint(UNHEALTHY_TAINT, "2026-01-01T00:00:00Z")]})
    assert device["taints"] == [
        {"key": "dynamicmemory.dev/path-down", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}
    ]


@given(
    st.integers(0, 64),
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 4), st.booleans()), max_size=8),
    st.integers(1, 64),
)
def test_I7_value_and_what_nobody_owns_never_exceed_the_window(units, shares, extents):
    made = [share(f"t{i}", size * UNIT, n) for i, (size, n, _) in enumerate(shares)]
    owned = {f"t{i}": "port0" for i, (_, _, own) in enumerate(shares) if own}
    there = capacity(total=units * UNIT, max_extents=extents)
    held = unowned(made, owned, there.hosts)
    [device] = window_devices(there, "n1", held, {})
    size = device["capacity"]["size"]
    value = int(size["value"])
    lost = sum(s.size for s in made if s.tag not in owned)
    assert value + lost <= units * UNIT or value == 0
    policy = size.get("requestPolicy")
    if policy and "validRange" in policy:
        assert int(policy["validRange"]["min"]) + int(policy["validRange"]["step"]) <= value
