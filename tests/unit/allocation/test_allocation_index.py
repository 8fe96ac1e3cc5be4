# SPDX-License-Identifier: Apache-2.0
"""The index rules out nodes, and never one that a search would have chosen or failed on."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.support.allocation_cases import allocation_case, cluster
from tests.support.allocation_world import World, claim, memory, read, request

from dynamic_memory.allocation import Counting, FatalAllocationError, Features, NodeAllocationError
from dynamic_memory.allocation import allocator as allocator_module
from dynamic_memory.api import resource

NODES = 12


def spread(case: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Make a case of one node into one of many: local slices are copied, each node has labels and claims of its own."""
    nodes, slices, claims = [], [], []
    labels = case["node"]["metadata"]["labels"]
    for number in range(NODES):
        name = f"node-{number}"
        own = {key: rng.choice((value, "x")) for key, value in labels.items()}
        nodes.append({**case["node"], "metadata": {"name": name, "labels": own}})
    for piece in case["slices"]:
        if piece["spec"].get("nodeName") is None or rng.random() < 0.2:
            slices.append(piece)
            continue
        for number in range(NODES):
            if rng.random() < 0.6:
                pool = {**piece["spec"]["pool"], "name": f"{piece['spec']['pool']['name']}-{number}"}
                devices = [own for own in piece["spec"].get("devices", ()) if rng.random() < 0.7]
                spec = {**piece["spec"], "nodeName": f"node-{number}", "pool": pool, "devices": devices}
                slices.append({"metadata": {"name": f"{piece['metadata']['name']}-{number}"}, "spec": spec})
    for piece in slices:
        for device in piece["spec"].get("devices", ()):
            if rng.random() < 0.3 and not device.get("allowMultipleAllocations"):
                result = {
                    "request": "r",
                    "driver": piece["spec"]["driver"],
                    "pool": piece["spec"]["pool"]["name"],
                    "device": device["name"],
                }
                claims.append(
                    {
                        "metadata": {"name": f"x{len(claims)}"},
                        "status": {"allocation": {"devices": {"results": [result]}}},
                    }
                )
    return {**case, "nodes": nodes, "slices": slices, "allocatedClaims": [*case["allocatedClaims"], *claims]}


def one_by_one(world: World, claims: list[resource.ResourceClaim]) -> Any:
    for name in world.inventory.node_names():
        try:
            found = world.allocator.allocate(claims, name)
        except NodeAllocationError:
            continue
        if found is not None:
            return name, shape(found)
    return None


def shape(allocations: list[resource.AllocationResult]) -> Any:
    return [[(own.request, own.pool, own.device) for own in entry.devices.results] for entry in allocations]


def outcome(ask: Any) -> Any:
    try:
        return ask()
    except FatalAllocationError as error:
        return type(error)


@pytest.mark.parametrize("seed", range(150))
def test_the_first_node_that_fits_is_that_of_a_search_of_all(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator_module, "_PROBES", 0)
    rng = random.Random(seed)
    case = spread(allocation_case(seed), rng)
    world = World(Features.of(case.get("features")))
    claims = world.load(case)

    def placed() -> Any:
        placement = world.allocator.place(claims)
        return None if placement is None else (placement.node, shape(placement.allocations))

    assert outcome(placed) == outcome(lambda: one_by_one(world, claims))
    # And again, after events that the index has to follow.
    held = [f"{number}" for number in range(len(case["allocatedClaims"]))]
    for key in rng.sample(held, len(held) // 2):
        world.inventory.remove_claim(key)
    for number, piece in enumerate(case["slices"]):
        if rng.random() < 0.1:
            world.inventory.remove_slice(f"{number}")
        elif rng.random() < 0.1:
            devices = piece["spec"].get("devices", [])[1:]
            changed = {**piece, "spec": {**piece["spec"], "devices": devices}}
            world.inventory.put_slice(read(resource.ResourceSlice, changed), f"{number}")
    world.inventory.remove_node(f"node-{rng.randrange(NODES)}")
    assert outcome(placed) == outcome(lambda: one_by_one(world, claims))


@pytest.fixture(scope="module")
def large() -> World:
    world = World()
    load = cluster(300, devices=4, allocated=1200)
    world.provider.evaluate = lambda expression, kind: kind.attributes["kind"].string in expression
    world.load(load)
    world.scenarios = {entry["name"]: entry for entry in load["scenarios"]}
    return world


@pytest.mark.parametrize("name", ["local-first", "local-last", "fabric-first", "fabric-last"])
def test_a_decision_searches_only_nodes_that_can_matter(large: World, name: str) -> None:
    scenario = large.scenarios[name]
    claims = [read(resource.ResourceClaim, own) for own in scenario["claims"]]
    large.allocator.place(claims)
    work = Counting()
    placement = large.allocator.place(claims, reporter=work)

    assert placement.node == scenario["expectNode"]
    assert work.nodes == 1
    assert work.steps <= 4


def test_expressions_are_evaluated_once_for_each_kind_of_device(large: World) -> None:
    calls = 0

    def count(expression: str, kind: Any) -> bool:
        nonlocal calls
        calls += 1
        return True

    large.provider.evaluate, before = count, large.provider.evaluate
    try:
        selectors = [{"cel": {"expression": "never seen"}}]
        large.allocator.rank([claim(request("r", "512Mi", selectors=selectors))])
    finally:
        large.provider.evaluate = before

    assert calls <= 6  # of 1504 devices


def test_a_fault_on_a_node_that_is_reached_is_not_missed_by_ruling_nodes_out(world: World) -> None:
    world.node("first")
    world.node("second")
    world.slice("a", [memory("small", "1Gi")], nodeName="first")
    broken = {"name": "odd", "allowMultipleAllocations": True, "capacity": {"size": {"value": "1Gi"}}}
    world.slice("b", [memory("fine", "8Gi"), broken], nodeName="second")
    selectors = [{"cel": {"expression": 'device.attributes["dra.memory"].kind == "local"'}}]
    with pytest.raises(FatalAllocationError, match="no such key"):
        world.allocator.place([claim(request("r", "4Gi", selectors=selectors))])


def on_node(ask: Any) -> Any:
    try:
        found = ask()
    except (FatalAllocationError, NodeAllocationError) as error:
        return type(error)
    return None if found is None else shape(found)


@pytest.mark.parametrize("seed", range(60))
def test_a_plan_says_of_each_node_what_a_search_of_it_says(seed: int) -> None:
    case = spread(allocation_case(seed), random.Random(seed))
    world = World(Features.of(case.get("features")))
    claims = world.load(case)
    plan = outcome(lambda: world.allocator.plan(claims))
    if isinstance(plan, type):
        assert outcome(lambda: world.allocator.allocate(claims, "node-0")) is plan
        return
    possible = plan.possible()
    for name in world.inventory.node_names():
        searched = on_node(lambda name=name: world.allocator.allocate(claims, name))  # type: ignore[misc]
        assert on_node(lambda name=name: plan.allocate(name)) == searched  # type: ignore[misc]
        if isinstance(searched, list):
            position = world.inventory.position(name)
            assert position is not None
            assert possible >> position & 1
