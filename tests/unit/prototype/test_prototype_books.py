# SPDX-License-Identifier: Apache-2.0
"""K18: whatever is claimed and released, nothing is given away twice, and everything comes back."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from tests.unit.prototype.worlds import SETS, claim, class_, example, pod, pool, world_of

from dynamic_memory.allocation.prototype.expressions import Expressions
from dynamic_memory.allocation.prototype.inventory import ceil_to
from dynamic_memory.allocation.prototype.ledger import Ledger
from dynamic_memory.allocation.prototype.matching import Classes
from dynamic_memory.allocation.prototype.reporters import Reporter
from dynamic_memory.allocation.prototype.schedule import Scheduler
from dynamic_memory.allocation.prototype.v2 import Pick, Search, parts_of
from dynamic_memory.allocation.prototype.world import World

STEPS = 10_000
WANTED = [
    "{class: vf}",
    "{class: pf}",
    "{class: vf, requests: {devices: 2}, matchAttributes: [hwdevname]}",
    "{class: nic, maxDevices: 3, requests: {devices: 2}, distinctAttributes: [hwdevname]}",
    "{class: part, allowShared: true, requests: {memory: 3Gi}}",
    "{class: part, allowShared: true, maxDevices: 4, requests: {memory: 20Gi}}",
    "{class: part}",
]


def cluster() -> World:
    devices = [
        (
            "{name: whole, sharedResourcesConsumed: {slices: 2500m}, "
            "claimResourcesProvided: [{name: memory, capacity: 16Gi, blockSize: 3Gi}]}"
        ),
        *(
            f"{{name: half-{n}, sharedResourcesConsumed: {{slices: 1}}, "
            "claimResourcesProvided: [{name: memory, capacity: 8Gi}]}"
            for n in range(3)
        ),
    ]
    text = pool("parts", "node-00", "part", devices, shared="{name: slices, capacity: 3, blockSize: 500m}")
    text += class_("part", "part") + class_("nic", "example.com-sriov")
    text += class_("pf", "example.com-sriov", "device.sriovType == 'pf'")
    text += class_("vf", "example.com-sriov", "device.sriovType == 'vf'")
    for number, wanted in enumerate(WANTED):
        text += claim(f"c{number}", f"{{devices: [{{name: d, allOf: [{wanted}]}}]}}")
    return world_of(*SETS["B"], text=text)


def check(world: World, held: list[list[Pick]]) -> None:
    """Count everything again from what is held."""
    whole: Counter[str] = Counter()
    granted: Counter[tuple[str, str]] = Counter()
    holders: dict[str, object] = {}
    for picks in held:
        for pick in picks:
            for device, grant in zip(pick.devices, pick.grants, strict=True):
                holders[str(device)] = device
                if grant is None:
                    whole[str(device)] += 1
                for name, amount in (grant or {}).items():
                    granted[str(device), name] += amount
    assert all(count == 1 for count in whole.values())
    assert not {device for device, _ in granted} & set(whole)
    for (place, name), amount in granted.items():
        provided = holders[place].shape.provides[name]  # type: ignore[attr-defined]
        assert amount <= provided.capacity
        assert amount % provided.block == 0
    for found in world.inventory.pools.values():
        for name, source in found.shared.items():
            drawn = sum(
                ceil_to(device.shape.consumes.get(name, 0), source.block)
                for device in found.devices
                if str(device) in holders
            )
            assert drawn <= source.usable()


@pytest.mark.parametrize("seed", [1, 2])
def test_K18_sum_of_allocations_is_within_capacity(seed: int) -> None:
    world, rng = cluster(), random.Random(seed)
    ledger, classes = Ledger(world.inventory), Classes(world, Expressions())
    held: list[list[Pick]] = []
    taken = refused = 0
    for step in range(STEPS // 2):
        if held and rng.random() < 0.5:
            for pick in held.pop(rng.randrange(len(held))):
                for device, grant in zip(pick.devices, pick.grants, strict=True):
                    ledger.give_back(device, grant)
        wanted = world.claims["default", f"c{rng.randrange(len(WANTED))}"]
        goals = parts_of(0, "c", wanted)
        picks = Search(
            "node-00",
            world.inventory.of_node("node-00"),
            goals,
            {0: wanted},
            classes=classes,
            ledger=ledger,
            reporter=Reporter(),
        ).run()
        if picks is None:
            refused += 1
        else:
            taken += 1
            held.append(picks)
        if step % 10 == 0:
            check(world, held)
    assert taken > STEPS // 10
    assert refused > STEPS // 100

    for picks in held:
        for pick in picks:
            for device, grant in zip(pick.devices, pick.grants, strict=True):
                ledger.give_back(device, grant)
    assert not any(ledger.taken(device) for device in world.inventory.all_devices())
    assert {0} == {amount for found in world.inventory.pools.values() for amount in ledger.drawn(found).values()} | {0}


def test_K18_a_decision_leaves_no_trace() -> None:
    world = world_of(*SETS["ABC"], "pod-multi-net-1")
    scheduler = Scheduler(world, lambda: "")

    answers = {str(scheduler.place(world.sources["default", "my-pod"]).claims) for _ in range(20)}

    assert 1 == len(answers)


def test_K18_status_says_all_that_the_books_need() -> None:
    """Books made anew from the statuses refuse what the books at work refuse."""
    world = world_of(
        *SETS["B"],
        text="".join(
            pod(f"p{n}", "deviceClaims: {devices: [{name: d, class: example.com-sriov-pf}]}") for n in range(5)
        ),
    )
    scheduler = Scheduler(world, lambda: "")
    nodes = []
    for number in range(5):
        decision = scheduler.place(world.sources["default", f"p{number}"])
        scheduler.commit(decision)
        nodes.append(decision.node)

    assert ["node-00"] * 4 + [None] == nodes
    function = world_of(
        example("pools-one-node-sriov-0"),
        text=pod("v", "deviceClaims: {devices: [{name: d, class: example.com-sriov-vf}]}"),
    )
    function.claims.update(world.claims)
    assert Scheduler(function, lambda: "").place(function.sources["default", "v"]).node is None
