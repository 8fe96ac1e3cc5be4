# SPDX-License-Identifier: Apache-2.0
"""An inventory that followed events is the one that is built from what is left; and nobody gets what is not there."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from tests.support.allocation_cases import allocation_case, cluster
from tests.support.allocation_world import World, claim, memory, read, request

from dynamic_memory.allocation import Inventory
from dynamic_memory.allocation.amounts import NANO
from dynamic_memory.allocation.errors import InvalidNodeSelector
from dynamic_memory.api import core, resource
from dynamic_memory.quantity import Quantity

STEPS = 10_000
GIB = 2**30


def pod(rng: random.Random, number: int) -> resource.ResourceClaim:
    size = f"{rng.choice((256, 512, 700, 1024, 3000))}Mi"
    draw = rng.random()
    if draw < 0.5:
        return claim(request("r", size), name=f"c{number}")
    pair = (request("pool", size, deviceClassName="any"), request("window", size))
    ties = [{"matchAttribute": "dra.memory/fabricDomain"}, {"distinctAttribute": "dra.memory/kind"}]
    return claim(*pair, name=f"c{number}", constraints=ties)


def consumed(world: World) -> dict[str, int]:
    """Sum up from the claims themselves what is taken of each device, in bytes."""
    totals: dict[str, int] = {}
    for allocation in world.allocations.values():
        for result in allocation.devices.results:
            name = f"{result.pool}/{result.device}"
            totals[name] = totals.get(name, 0) + Quantity.parse(result.consumed_capacity["size"]).value()
    return totals


def test_consumed_never_exceeds_capacity_and_state_is_as_rebuilt_in_10000_steps() -> None:
    rng = random.Random(20261121)
    load = cluster(6, devices=3, allocated=0)
    world = World()
    world.load(load)
    world.allocations = {}
    values = {
        f"{piece['spec']['pool']['name']}/{device['name']}": Quantity.parse(device["capacity"]["size"]["value"]).value()
        for piece in load["slices"]
        for device in piece["spec"]["devices"]
    }
    claims: dict[str, resource.ResourceClaim] = {}
    for entry in load["allocatedClaims"]:
        own = read(resource.ResourceClaim, entry)
        claims[str(len(claims))] = own
        world.allocations[own.metadata.uid] = own.status.allocation
    refused = 0
    for step in range(STEPS):
        if claims and rng.random() < 0.45:
            key = rng.choice(list(claims))
            gone = claims.pop(key)
            world.inventory.remove_claim(key)
            del world.allocations[gone.metadata.uid]
            continue
        wanted = pod(rng, step)
        placement = world.allocator.place([wanted])
        if placement is None:
            refused += 1
            continue
        status = resource.ResourceClaimStatus(allocation=placement.allocations[0])
        key = f"new-{step}"
        claims[key] = msgspec.structs.replace(wanted, status=status)
        world.allocations[wanted.metadata.uid] = placement.allocations[0]
        world.inventory.put_claim(claims[key], key)
        for name, total in consumed(world).items() if step % 250 == 0 else ():
            assert total <= values[name], name

    assert all(total <= values[name] for name, total in consumed(world).items())
    assert refused > 0
    rebuilt = World()
    rebuilt.load({**load, "allocatedClaims": []})
    for key, own in claims.items():
        rebuilt.inventory.put_claim(own, key)
    assert rebuilt.inventory.snapshot() == world.inventory.snapshot()
    totals = consumed(world)
    for name in world.inventory.node_names():
        for pool in world.inventory.view(name).pools:
            for device in pool.devices:
                used = device.usage.used.get("size", 0) if device.usage else 0
                assert used == totals.get(f"{pool.key[1]}/{device.id[2]}", 0) * NANO


def events(rng: random.Random, case: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return every object of a case as an event, some of them twice, and some removals."""
    objects: list[tuple[str, Any]] = [("node", case["node"])]
    objects += [("slice", (f"s{number}", piece)) for number, piece in enumerate(case["slices"])]
    objects += [("claim", (f"c{number}", own)) for number, own in enumerate(case["allocatedClaims"])]
    return objects + rng.choices(objects, k=len(objects))


def apply(inventory: Inventory, kind: str, body: Any, *, gone: bool = False) -> None:
    if kind == "node":
        node = read(core.Node, body)
        inventory.remove_node(node.metadata.name) if gone else inventory.put_node(node)
    elif kind == "slice":
        inventory.remove_slice(body[0]) if gone else inventory.put_slice(read(resource.ResourceSlice, body[1]), body[0])
    else:
        inventory.remove_claim(body[0]) if gone else inventory.put_claim(read(resource.ResourceClaim, body[1]), body[0])


def snapshot(inventory: Inventory) -> Any:
    try:
        return inventory.snapshot()
    except InvalidNodeSelector as error:  # both have to say the same
        return type(error)


@pytest.mark.parametrize("seed", range(60))
def test_state_after_events_in_any_order_is_that_of_a_rebuild(seed: int) -> None:
    rng = random.Random(seed)
    case = allocation_case(seed, None)
    inventory, present = Inventory(), {}
    stream = events(rng, case)
    rng.shuffle(stream)
    for kind, body in stream:
        key = (kind, body[0] if kind != "node" else "")
        gone = rng.random() < 0.3
        apply(inventory, kind, body, gone=gone)
        if rng.random() < 0.3:
            snapshot(inventory)
        present.pop(key, None)
        if not gone:
            present[key] = body

    rebuilt = Inventory()
    for (kind, _), body in sorted(present.items()):
        apply(rebuilt, kind, body)
    assert snapshot(rebuilt) == snapshot(inventory)


def test_a_slice_with_the_same_content_changes_nothing(world: World) -> None:
    world.node("n")
    world.slice("fabric", [memory("d")])
    view = world.inventory.view("n")
    structure = world.inventory.structure
    world.slice("fabric", [memory("d")])

    assert world.inventory.structure == structure
    assert world.inventory.view("n") is view


def test_a_changed_slice_keeps_what_claims_have(world: World) -> None:
    world.node("n")
    world.slice("fabric", [memory("d", "4Gi")])
    first = claim(request("r", "3Gi"), name="first")
    world.commit(first, world.allocator.allocate([first], "n")[0])
    world.slice("fabric", [memory("d", "5Gi")])

    assert world.allocator.allocate([claim(request("r", "3Gi"), name="second")], "n") is None
    assert world.allocator.allocate([claim(request("r", "2Gi"), name="third")], "n") is not None


def test_a_claim_before_its_slice_counts(world: World) -> None:
    world.node("n")
    world.slice("fabric", [memory("d", "4Gi")])
    own = claim(request("r", "4Gi"), name="own")
    allocation = world.allocator.allocate([own], "n")[0]
    late = World()
    late.node("n")
    late.commit(own, allocation)
    late.slice("fabric", [memory("d", "4Gi")])

    assert late.allocator.allocate([claim(request("r", "1Gi"), name="other")], "n") is None
