# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.api import names
from dynamic_memory.api.resource import Device
from dynamic_memory.controller import pools
from dynamic_memory.fabric.model import Capacity, PoolDevice

MIB = 1 << 20
UNIT = 128 * MIB


def device(**changes):
    defaults = {
        "pool": "fabric/rack-a",
        "device": "pool0",
        "domain": "rack-a",
        "total": 32 * UNIT,
        "free": 0,
        "unit": UNIT,
        "healthy": True,
        "attributes": {"latencyNs": 350},
    }
    return PoolDevice(**(defaults | changes))


def capacity(*devices, simulated=False):
    return Capacity(revision=1, pools=devices, hosts=(), simulated=simulated)


def test_rule_18_the_value_is_the_total_less_what_no_claim_owns_never_what_is_free():
    pool = pools.pools(capacity(device(free=3 * UNIT)), {("fabric/rack-a", "pool0"): 4 * UNIT})["fabric/rack-a"]
    assert pool.devices[0]["capacity"]["size"]["value"] == str(28 * UNIT)
    assert pool.values == {"pool0": 28 * UNIT}


@pytest.mark.parametrize(
    ("units", "policy"),
    [
        (0, None),
        (1, {"default": str(UNIT), "validValues": [str(UNIT)]}),
        (2, {"default": str(UNIT), "validRange": {"min": str(UNIT), "step": str(UNIT)}}),
        (32, {"default": str(UNIT), "validRange": {"min": str(UNIT), "step": str(UNIT)}}),
    ],
)
def test_rule_18_the_request_policy_is_rewritten_with_the_value(units, policy):
    body = pools.device_body(device(), held=(32 - units) * UNIT, simulated=False)
    size = body["capacity"]["size"]
    assert size["value"] == str(units * UNIT)
    assert size.get("requestPolicy") == policy


@given(held=st.integers(0, 1 << 42), total=st.integers(0, 1 << 42), unit=st.integers(1, 1 << 31))
def test_rule_18_what_is_published_is_what_the_api_server_accepts(held, total, unit):
    body = pools.device_body(device(total=total, unit=unit), held=held, simulated=False)
    size = body["capacity"]["size"]
    value = int(size["value"])
    assert 0 <= value <= max(total - held, 0)
    assert value % unit == 0
    policy = size.get("requestPolicy")
    tainted = any(t["key"] == pools.FULL_TAINT for t in body.get("taints", []))
    assert tainted == (value < unit)
    if policy is None:
        # Without a policy whoever names no size gets the whole value: there must be nothing to get.
        assert value == 0
    elif "validRange" in policy:
        assert int(policy["validRange"]["min"]) + int(policy["validRange"]["step"]) <= value
        assert int(policy["default"]) == int(policy["validRange"]["min"]) == unit
    else:
        assert [int(v) for v in policy["validValues"]] == [int(policy["default"])] == [value]


@pytest.mark.parametrize("free", [0, 5 * UNIT])
def test_rule_15_a_device_that_is_down_is_tainted_and_keeps_its_value(free):
    body = pools.device_body(device(healthy=False, why="link down", free=free), held=0, simulated=False)
    assert body["taints"] == [{"key": pools.DOWN_TAINT, "effect": "NoSchedule"}]
    assert pools.DOWN_TAINT.startswith(names.DOMAIN)
    assert body["capacity"]["size"]["value"] == str(32 * UNIT)


def test_a_healthy_device_has_no_taints():
    assert "taints" not in pools.device_body(device(), held=0, simulated=False)


def test_a_device_binds_after_it_is_attached():
    decoded = msgspec.convert(pools.device_body(device(), held=0, simulated=True), Device)
    assert decoded.binds_to_node
    assert decoded.allow_multiple_allocations
    assert decoded.binding_conditions == [names.ATTACHED]
    assert decoded.binding_failure_conditions == [names.ATTACH_FAILED]
    found = {name: msgspec.to_builtins(value) for name, value in decoded.attributes.items()}
    assert found == {
        "kind": {"string": "fabric"},
        "fabricDomain": {"string": "rack-a"},
        "tier": {"string": "cxl"},
        "latencyNs": {"int": 350},
        "simulated": {"bool": True},
    }


def test_attributes_of_the_service_cannot_change_ours_nor_break_the_slice():
    odd = {"kind": "local", "not-an-identifier": 1, "x" * 33: 1, "text": "y" * 65, "tier": "slow", "ok": True}
    body = pools.device_body(device(attributes=odd), held=0, simulated=False)
    assert body["attributes"] == {
        "kind": {"string": "fabric"},
        "fabricDomain": {"string": "rack-a"},
        "simulated": {"bool": False},
        "tier": {"string": "slow"},
        "ok": {"bool": True},
    }


def test_pools_select_the_nodes_of_their_domain():
    found = pools.pools(capacity(device(), device(device="pool1"), device(pool="fabric/rack-b", domain="rack-b")), {})
    assert {name: [d["name"] for d in pool.devices] for name, pool in found.items()} == {
        "fabric/rack-a": ["pool0", "pool1"],
        "fabric/rack-b": ["pool0"],
    }
    assert found["fabric/rack-b"].where == {
        "nodeSelectorTerms": [
            {"matchExpressions": [{"key": names.FABRIC_DOMAIN_LABEL, "operator": "In", "values": ["rack-b"]}]}
        ]
    }


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"pool": "rack-a"}, "must be called fabric/rack-a"),
        ({"domain": "Rack A", "pool": "fabric/Rack A"}, "domain"),
        ({"device": "Pool_0"}, "device"),
    ],
)
def test_a_device_with_a_name_that_a_claim_cannot_carry_is_left_out_and_told(changes, word):
    wrong = capacity(device(**changes), device(device="good"))
    (misnamed,) = pools.misnamed(wrong)
    assert word in misnamed.why
    assert [d["name"] for pool in pools.pools(wrong, {}).values() for d in pool.devices] == ["good"]


def test_a_name_that_is_used_twice_is_told():
    assert [m.why for m in pools.misnamed(capacity(device(), device()))] == ["the name is used twice"]
