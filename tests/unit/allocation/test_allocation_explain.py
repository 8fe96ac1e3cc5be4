# SPDX-License-Identifier: Apache-2.0
"""The answer to "why not?" names the first thing that is not met, in words."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.allocation_world import World, claim, memory, request

from dynamic_memory.allocation import Counting, Tracing

TIED = {"constraints": [{"matchAttribute": "dra.memory/fabricDomain"}]}


def tied(name: str, domain: str, **more: Any) -> dict[str, Any]:
    return memory(name, **more, attributes={"fabricDomain": {"string": domain}})


def explain(world: World, *requests: dict[str, Any], **more: Any) -> str | None:
    return world.allocator.explain([claim(*requests, **more)]).get("n")


@pytest.fixture
def node(world: World) -> World:
    world.node("n")
    return world


def test_nothing_is_said_where_it_fits(node: World) -> None:
    node.slice("rack-a", [memory("d")])

    assert explain(node, request("r", "1Gi")) is None


def test_too_little_capacity(node: World) -> None:
    node.slice("rack-a", [memory("d", "4Gi")])
    first = claim(request("r", "1Gi"), name="first")
    node.commit(first, node.allocator.allocate([first], "n")[0])

    assert explain(node, request("r", "4Gi")) == "pool rack-a has 3Gi of 4Gi wanted"


def test_the_device_that_comes_closest_is_named(node: World) -> None:
    node.slice("rack-a", [memory("d", "1Gi")])
    node.slice("rack-b", [memory("d", "3Gi")])

    assert explain(node, request("r", "4Gi")) == "pool rack-b has 3Gi of 4Gi wanted"


def test_no_pool_at_all(node: World) -> None:
    assert explain(node, request()) == "request r: no device matches class any; the node sees no pool"


def test_an_incomplete_pool(node: World) -> None:
    node.slice("rack-a", [memory("d")], count=3)

    assert explain(node, request()) == (
        "request r: no device matches class any; pool rack-a is incomplete (1 of 3 slices)"
    )


def test_an_invalid_pool(node: World) -> None:
    node.slice("rack-a", [memory("d"), memory("d")])

    assert "duplicate device name d" in explain(node, request())


def test_a_taint(node: World) -> None:
    node.slice("rack-a", [memory("d", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])])

    assert explain(node, request()) == "pool rack-a: device d is tainted, and that is not tolerated (k=v:NoSchedule)"


def test_a_constraint(node: World) -> None:
    node.slice("a", [tied("d", "rack-a")])
    node.slice("b", [tied("e", "rack-b")])

    assert explain(node, request("x", "4Gi"), request("y", "4Gi"), **TIED) == (
        "pool a: device d is out because of the constraint on dra.memory/fabricDomain"
    )


def test_what_other_requests_of_the_claim_need(node: World) -> None:
    node.slice("a", [memory("d", "4Gi")])

    assert explain(node, request("x", "3Gi"), request("y", "3Gi")) == (
        "pool a: what is left is needed for other requests of the same claims"
    )


def test_devices_in_use(node: World) -> None:
    node.slice("a", [{"name": "d"}])
    first = claim(request(), name="first")
    node.commit(first, node.allocator.allocate([first], "n")[0])

    assert explain(node, request()) == "pool a: device d is in use"


def test_too_few_devices(node: World) -> None:
    node.slice("a", [{"name": "d"}])

    assert explain(node, request(count=2)) == "request r: 1 of 2 devices wanted are there"


def test_a_node_that_brings_up_an_error_is_told_about_with_it(node: World) -> None:
    node.slice("a", [{"name": "d"}])
    selectors = [{"cel": {"expression": 'device.attributes["dra.memory"].kind == "local"'}}]

    assert "no such key" in explain(node, request(selectors=selectors))


def test_reporters_count_and_trace(node: World) -> None:
    node.slice("a", [tied("d0", "x"), tied("d1", "y"), tied("d2", "y")])
    counting, tracing = Counting(), Tracing()
    pair = [claim(request("r", "1Gi", count=2), **TIED)]
    node.allocator.allocate(pair, "n", reporter=counting)
    node.allocator.allocate(pair, "n", reporter=tracing)

    assert (counting.nodes, counting.chosen_devices, counting.released_devices) == (1, 3, 1)
    assert tracing.lines[0] == "n: 1 claims, dra.memory/a"
    assert "request r: dra.memory/a/d0 given back" in tracing.lines
    assert tracing.lines[-1] == "n: fits"
