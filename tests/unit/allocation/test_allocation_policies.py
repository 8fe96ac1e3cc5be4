# SPDX-License-Identifier: Apache-2.0
"""Best fit and spread choose differently from first fit, and always the same."""

from __future__ import annotations

import pytest
from tests.support.allocation_world import World, claim, devices_of, memory, request

from dynamic_memory.allocation import Policy


def filled(policy: Policy) -> World:
    world = World(policy=policy)
    for name in ("n0", "n1", "n2"):
        world.node(name)
    world.slice("p0", [memory("a", "4Gi"), memory("b", "4Gi"), memory("c", "4Gi")], nodeName="n0")
    world.slice("p1", [memory("a", "4Gi")], nodeName="n1")
    world.slice("p2", [memory("a", "4Gi")], nodeName="n2")
    for node, size in (("n0", "1Gi"), ("n1", "2Gi")):
        own = claim(request("r", size), name=f"old-{node}")
        world.commit(own, world.allocator.allocate([own], node)[0])
    return world


@pytest.mark.parametrize(
    ("policy", "node", "device"),
    [(Policy.FIRST, "n0", "a"), (Policy.BEST_FIT, "n1", "a"), (Policy.SPREAD, "n0", "b")],
)
def test_a_policy_chooses_device_and_node(policy: Policy, node: str, device: str) -> None:
    world = filled(policy)
    placement = world.allocator.place([claim(request("r", "1Gi"))])

    assert (placement.node, devices_of(placement.allocations)) == (node, [device])


def test_ties_keep_the_order_of_devices_and_nodes() -> None:
    for policy in Policy:
        world = World(policy=policy)
        for name in ("n0", "n1"):
            world.node(name)
            world.slice(f"p-{name}", [memory("b"), memory("a")], nodeName=name)
        placement = world.allocator.place([claim(request("r", "1Gi"))])

        assert (placement.node, devices_of(placement.allocations)) == ("n0", ["b"])


@pytest.mark.parametrize("policy", Policy)
def test_a_policy_finds_an_allocation_exactly_if_there_is_one(policy: Policy) -> None:
    world = World(policy=policy)
    world.node("n")
    world.slice("p", [memory("a", "4Gi"), memory("b", "3Gi"), memory("c", "2Gi")])

    assert world.allocator.place([claim(request("x", "2Gi"), request("y", "3Gi"), request("z", "4Gi"))]) is not None
    assert world.allocator.place([claim(request("x", "3Gi"), request("y", "3Gi"), request("z", "3Gi"))]) is None
