# SPDX-License-Identifier: Apache-2.0
"""The rules of the allocator of Kubernetes that are easily missed, one by one."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.support.allocation_world import World, claim, devices_of, memory, request

from dynamic_memory.allocation import FatalAllocationError, Features, NodeAllocationError
from dynamic_memory.allocation.errors import (
    CapacityUnusable,
    InvalidNodeSelector,
    InvalidRequest,
    PoolUnusable,
    SelectorFailed,
    TooManyDevices,
    UnsatisfiableConstraint,
)
from dynamic_memory.errors import InvalidInput

ON_KIND = [{"cel": {"expression": 'device.attributes["dra.memory"].kind == "local"'}}]
LOCAL = {"attributes": {"kind": {"string": "local"}}}
BINDING = {"bindingConditions": ["c"], "bindingFailureConditions": ["f"]}


def plain(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


def domain(value: str) -> dict[str, Any]:
    return {"attributes": {"fabricDomain": {"string": value}}}


@pytest.fixture
def node(world: World) -> World:
    world.node("n", rack="a")
    return world


# --- order


def test_devices_come_by_driver_pool_slice_name_and_place(node: World) -> None:
    node.slice("z", [plain("d1")], pool="p", count=2)
    node.slice("a", [plain("d3"), plain("d2")], pool="p", count=2)
    node.slice("other", [plain("d0")], driver="a.example.com", pool="x")

    assert devices_of(node.allocator.allocate([claim(request(count=4))], "n")) == ["d0", "d3", "d2", "d1"]


def test_a_pool_with_binding_conditions_goes_last_as_a_whole(node: World) -> None:
    node.slice("a", [plain("free"), plain("bound", **BINDING)])
    node.slice("b", [plain("later")])

    assert devices_of(node.allocator.allocate([claim(request())], "n")) == ["later"]


def test_a_request_takes_sets_of_devices_in_order_and_requests_start_anew(node: World) -> None:
    node.slice("a", [plain("d0", **domain("x")), plain("d1", **domain("y")), plain("d2", **domain("y"))])
    tied = claim(request(count=2), constraints=[{"matchAttribute": "dra.memory/fabricDomain"}])

    assert devices_of(node.allocator.allocate([tied], "n")) == ["d1", "d2"]


# --- pools


def test_a_pool_complete_for_the_node_is_used_though_others_are_a_generation_ahead(node: World) -> None:
    node.slice("old", [plain("d")], pool="p", generation=1, nodeName="n")
    node.slice("new", [plain("e")], pool="p", generation=2, nodeName="elsewhere")

    assert devices_of(node.allocator.allocate([claim(request())], "n")) == ["d"]


def test_an_incomplete_pool_gives_nothing_but_is_no_error(node: World) -> None:
    node.slice("half", [plain("d")], count=2)

    assert node.allocator.allocate([claim(request())], "n") is None


def test_all_devices_of_an_incomplete_pool_is_fatal(node: World) -> None:
    node.slice("half", [plain("d")], count=2)
    with pytest.raises(PoolUnusable, match="currently being updated"):
        node.allocator.allocate([claim(request(allocationMode="All", count=0))], "n")


def test_an_invalid_pool_is_an_error_of_the_node_and_only_if_nothing_else_fits(node: World) -> None:
    node.slice("twice", [plain("d"), plain("d")])
    with pytest.raises(NodeAllocationError, match="duplicate device name d"):
        node.allocator.allocate([claim(request())], "n")
    node.slice("good", [plain("e")])

    assert devices_of(node.allocator.allocate([claim(request())], "n")) == ["e"]


# --- selectors


def test_a_selector_fails_only_where_the_search_gets(node: World) -> None:
    node.slice("a", [plain("good", **LOCAL), plain("odd")])

    assert devices_of(node.allocator.allocate([claim(request(selectors=ON_KIND))], "n")) == ["good"]
    with pytest.raises(SelectorFailed, match=r"claim default/claim: selector #0 on device dra.memory/a/odd"):
        node.allocator.allocate([claim(request(selectors=ON_KIND, count=2))], "n")


def test_a_device_in_use_is_not_asked(node: World) -> None:
    node.slice("a", [plain("odd"), plain("good", **LOCAL)])
    first = claim(request(), name="first")
    node.commit(first, node.allocator.allocate([first], "n")[0])

    assert devices_of(node.allocator.allocate([claim(request(selectors=ON_KIND))], "n")) == ["good"]


# --- all devices


def test_all_devices_against_a_constraint_is_fatal(node: World) -> None:
    node.slice("a", [plain("d0", **domain("x")), plain("d1", **domain("y"))])
    everything = claim(
        request(allocationMode="All", count=0), constraints=[{"matchAttribute": "dra.memory/fabricDomain"}]
    )
    with pytest.raises(UnsatisfiableConstraint, match="d1"):
        node.allocator.allocate([everything], "n")


def test_all_devices_with_too_little_room_is_only_unsatisfied(node: World) -> None:
    node.slice("a", [memory("d0", "4Gi"), memory("d1", "4Gi")])
    first = claim(request("r", "3Gi"), name="first")
    node.commit(first, node.allocator.allocate([first], "n")[0])
    everything = request("r", "2Gi", allocationMode="All", count=0)

    assert node.allocator.allocate([claim(everything)], "n") is None


def test_all_devices_skips_those_that_are_too_small_from_the_start(node: World) -> None:
    node.slice("a", [memory("small", "1Gi"), memory("large", "4Gi")])

    assert devices_of(node.allocator.allocate([claim(request("r", "2Gi", allocationMode="All"))], "n")) == ["large"]


# --- limits


def test_more_than_32_devices_is_fatal(node: World) -> None:
    with pytest.raises(TooManyDevices, match="33"):
        node.allocator.allocate([claim(request(count=33))], "n")


def test_32_results_fit(node: World) -> None:
    node.slice("a", [plain(f"d{number}") for number in range(40)])

    assert len(devices_of(node.allocator.allocate([claim(request("a", count=16), request("b", count=16))], "n"))) == 32


def test_too_large_a_count_is_answered_at_once(node: World) -> None:
    node.slice("a", [plain(f"d{number}") for number in range(30)])
    first = claim(request(), name="first")
    node.commit(first, node.allocator.allocate([first], "n")[0])
    start = time.process_time()

    assert node.allocator.allocate([claim(request(count=30))], "n") is None
    assert time.process_time() - start < 1


def test_an_impossible_request_after_a_wide_choice_is_answered_soon(node: World) -> None:
    node.slice("a", [plain(f"d{number}", attributes={"id": {"int": number}}) for number in range(40)])
    start = time.process_time()

    assert node.allocator.allocate([claim(request("wide", count=10), request("huge", "1Gi"))], "n") is None
    assert time.process_time() - start < 1


def test_deep_searches_do_not_exhaust_the_stack(node: World) -> None:
    node.slice("a", [plain(f"d{number}") for number in range(100)])
    node.slice("b", [plain(f"e{number}") for number in range(100)])
    node.slice("c", [plain(f"f{number}") for number in range(100)])
    claims = [claim(request(count=30), name=f"c{number}") for number in range(10)]

    assert len(devices_of(node.allocator.allocate(claims, "n"))) == 300


# --- prioritized lists


def alternatives(*options: tuple[str, int]) -> dict[str, Any]:
    subs = [
        {"name": name, "deviceClassName": "any", "allocationMode": "ExactCount", "count": count}
        for name, count in options
    ]
    return {"name": "r", "firstAvailable": subs}


def test_the_first_alternative_that_works_is_taken_and_named(node: World) -> None:
    node.slice("a", [plain("d0"), plain("d1")])
    found = node.allocator.allocate([claim(alternatives(("many", 3), ("few", 1)))], "n")

    assert [result.request for result in found[0].devices.results] == ["r/few"]


def test_an_alternative_that_would_need_too_many_results_gives_way(node: World) -> None:
    node.slice("a", [plain(f"d{number}") for number in range(40)])
    own = claim(alternatives(("many", 20), ("few", 1)), request("rest", count=20))

    assert len(devices_of(node.allocator.allocate([own], "n"))) == 21


def test_the_score_counts_how_good_the_alternatives_are(node: World) -> None:
    node.node("m")
    node.slice("n", [plain("d0"), plain("d1")], nodeName="n")
    node.slice("m", [plain("d0"), plain("d1"), plain("d2")], nodeName="m")
    ranked = node.allocator.rank([claim(alternatives(("many", 3), ("few", 1)))])

    assert [(placement.node, placement.score) for placement in ranked] == [("m", 8), ("n", 7)]


# --- admin access, taints, counters


def test_admin_access_sees_devices_in_use_but_each_once_in_a_claim(node: World) -> None:
    node.slice("a", [plain("d")])
    first = claim(request(), name="first")
    node.commit(first, node.allocator.allocate([first], "n")[0])
    admin = request(adminAccess=True)

    assert devices_of(node.allocator.allocate([claim(admin)], "n")) == ["d"]
    assert node.allocator.allocate([claim(admin, request("s", adminAccess=True))], "n") is None


def test_what_admin_access_has_counts_for_nobody(node: World) -> None:
    node.slice("a", [plain("d")])
    admin = claim(request(adminAccess=True), name="admin")
    node.commit(admin, node.allocator.allocate([admin], "n")[0])

    assert devices_of(node.allocator.allocate([claim(request())], "n")) == ["d"]


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k", "value": "v", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        (None, False),
    ],
)
def test_taints_need_tolerations(node: World, toleration: Any, *, fits: bool) -> None:
    taints = [{"key": "k", "value": "v", "effect": "NoSchedule"}, {"key": "x", "effect": "None"}]
    node.slice("a", [plain("d", taints=taints)])
    more = {} if toleration is None else {"tolerations": [toleration]}

    assert (node.allocator.allocate([claim(request(**more))], "n") is not None) == fits


def counters(value: str) -> list[dict[str, Any]]:
    return [{"name": "set", "counters": {"memory": {"value": value}}}]


def drawing(value: str) -> dict[str, Any]:
    return {"consumesCounters": [{"counterSet": "set", "counters": {"memory": {"value": value}}}]}


def test_counters_are_charged_for_devices_of_other_nodes_too(node: World) -> None:
    node.node("m")
    node.slice("counters", [], pool="p", count=3, sharedCounters=counters("4Gi"))
    node.slice("n", [plain("dn", **drawing("3Gi"))], pool="p", count=3, nodeName="n")
    node.slice("m", [plain("dm", **drawing("3Gi"))], pool="p", count=3, nodeName="m")
    first = claim(request(), name="first")
    node.commit(first, node.allocator.allocate([first], "m")[0])

    assert node.allocator.allocate([claim(request())], "n") is None
    node.inventory.remove_claim("uid-first")
    assert devices_of(node.allocator.allocate([claim(request())], "n")) == ["dn"]


def test_a_shared_device_pays_its_counters_once_also_after_backtracking(node: World) -> None:
    node.slice("counters", [], pool="p", count=2, sharedCounters=counters("3Gi"))
    shared = memory("shared", "8Gi", **drawing("2Gi"), **domain("x"))
    node.slice("devices", [shared, plain("other", **drawing("1Gi"), **domain("y"))], pool="p", count=2)
    own = claim(request("a", "1Gi"), request("b", "1Gi"), request("c", "1Gi"))

    assert devices_of(node.allocator.allocate([own], "n")) == ["shared"] * 3
    first = claim(request("r", "1Gi"), name="first")
    node.commit(first, node.allocator.allocate([first], "n")[0])
    assert devices_of(node.allocator.allocate([claim(request("r", "1Gi"))], "n")) == ["shared"]
    assert devices_of(node.allocator.allocate([claim(request())], "n")) == ["other"]


# --- results


def test_results_say_where_they_can_be_used(node: World) -> None:
    rack = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["a"]}]}]}
    node.slice("p0", [plain("d0")], nodeSelector=rack)
    node.slice("p1", [plain("d1")], nodeSelector=rack)
    node.slice("p2", [plain("d2", bindsToNode=True)], nodeSelector=rack)
    node.slice("p3", [plain("d3")])
    node.slice("p4", [plain("d4")], nodeName="n")

    def selector(count: int) -> Any:
        return node.allocator.allocate([claim(request(count=count))], "n")[0].node_selector

    [term] = selector(2).node_selector_terms
    assert [(own.key, own.values) for own in term.match_expressions] == [("rack", ["a"])]
    [term] = selector(3).node_selector_terms
    assert [(own.key, own.values) for own in term.match_fields] == [("metadata.name", ["n"])]
    world = World()
    world.node("n")
    world.slice("p", [plain("d")])
    assert world.allocator.allocate([claim(request())], "n")[0].node_selector is None


def test_shares_have_distinct_identities_and_rounded_amounts(node: World) -> None:
    policy = {"default": "512Mi", "validRange": {"min": "512Mi", "step": "512Mi"}}
    device = memory("d")
    device["capacity"]["size"]["requestPolicy"] = policy
    node.slice("a", [device])
    found = node.allocator.allocate([claim(request("a", "700Mi"), request("b"))], "n")
    results = found[0].devices.results

    assert [result.consumed_capacity for result in results] == [{"size": "1Gi"}, {"size": "512Mi"}]
    assert len({result.share_id for result in results}) == 2


def test_configuration_of_all_requests_names_none(node: World) -> None:
    node.slice("a", [plain("d0"), plain("d1")])
    opaque = {"opaque": {"driver": "dra.memory", "parameters": {"x": 1}}}
    own = claim(request("a"), request("b"), config=[{"requests": ["a", "b"], **opaque}, {"requests": ["b"], **opaque}])
    config = node.allocator.allocate([own], "n")[0].devices.config

    assert [entry.requests for entry in config] == [[], ["b"]]


# --- what is refused


@pytest.mark.parametrize(
    ("own", "features", "error", "text"),
    [
        (claim(request(deviceClassName="none")), Features(), InvalidRequest, "device class none not found"),
        (claim(request(deviceClassName="")), Features(), InvalidRequest, "names no device class"),
        (claim(request(allocationMode="Some")), Features(), InvalidRequest, "unsupported allocation mode 'Some'"),
        (claim({"name": "r"}), Features(), InvalidRequest, "neither exactly nor firstAvailable"),
        (claim(request(), constraints=[{}]), Features(), InvalidRequest, "unsupported constraint"),
        (claim(request(selectors=[{}])), Features(), InvalidRequest, "no CEL expression"),
        (claim(request(adminAccess=False)), Features(admin_access=False), InvalidRequest, "AdminAccess is disabled"),
        (claim(request("r", "1Gi")), Features(consumable_capacity=False), InvalidRequest, "ConsumableCapacity"),
        (claim(alternatives(("a", 1))), Features(prioritized_list=False), InvalidRequest, "PrioritizedList"),
        (claim(request("r", "much")), Features(), InvalidInput, "quantity"),
    ],
)
def test_claims_that_cannot_be_handled(own: Any, features: Features, error: type[Exception], text: str) -> None:
    world = World(features)
    world.node("n")
    with pytest.raises(error, match=text):
        world.allocator.allocate([own], "n")


def test_capacity_beyond_64_bits_on_a_stepped_range_is_fatal(node: World) -> None:
    device = memory("d")
    device["capacity"]["size"]["requestPolicy"] = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}
    node.slice("a", [device])
    with pytest.raises(CapacityUnusable, match="64 bits"):
        node.allocator.allocate([claim(request("r", "10E"))], "n")


def test_a_bad_node_selector_is_fatal(node: World) -> None:
    bad = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "Is"}]}]}
    node.slice("a", [plain("d")], nodeSelector=bad)
    with pytest.raises(InvalidNodeSelector, match="slice a: unknown operator 'Is'"):
        node.allocator.allocate([claim(request())], "n")


def test_an_unknown_node_is_refused(world: World) -> None:
    with pytest.raises(InvalidInput, match="a node of the inventory"):
        world.allocator.allocate([claim(request())], "nowhere")


def test_errors_know_their_scope() -> None:
    assert issubclass(SelectorFailed, FatalAllocationError)
    assert not issubclass(NodeAllocationError, FatalAllocationError)
