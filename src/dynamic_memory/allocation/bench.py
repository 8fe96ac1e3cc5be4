# SPDX-License-Identifier: Apache-2.0
"""The shell round the benchmark: read a cluster from a file, measure decisions, print the result.

One decision is what a scheduler does for one pod: choose node and devices, enter the allocated claims into the state,
and (so that the next round finds the same state) take them out again. Everything is measured. The peer in
`tools/allocator` does the same with the allocator of Kubernetes and reads the same file.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from dynamic_memory.allocation.allocator import Allocator, Placement
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.inventory import Inventory
from dynamic_memory.allocation.protocol import Progress
from dynamic_memory.allocation.selectors import CelProvider
from dynamic_memory.api import core, resource
from dynamic_memory.errors import InvalidInput

__all__ = ["bench"]


class Scenario(msgspec.Struct, rename="camel"):
    """A pod to place: its claims, and where it is known to fit first."""

    name: str
    claims: list[resource.ResourceClaim]
    expect_node: str = ""


class Workload(msgspec.Struct, rename="camel"):
    """A cluster and pods to place in it; slices and claims are decoded one by one."""

    nodes: list[core.Node]
    scenarios: list[Scenario]
    classes: list[resource.DeviceClass] = []
    slices: list[msgspec.Raw] = []
    allocated_claims: list[msgspec.Raw] = []
    features: str | list[str] | None = None


def bench(file: str, seconds: float, share_id: Callable[[], str], progress: Progress) -> bytes:
    """Measure every scenario of a file for so many seconds, and return the report as JSON.

    Raises:
        OSError: the file cannot be read.
        msgspec.DecodeError: it is not what is expected.
        InvalidInput: a scenario does not come out as it says.
        FatalAllocationError: claims that cannot be handled.

    """
    load = msgspec.json.decode(Path(file).read_bytes(), type=Workload)
    features = Features.of(load.features)
    inventory = Inventory(features)
    for node in load.nodes:
        inventory.put_node(node)
    for device_class in load.classes:
        inventory.put_class(device_class)
    for number, raw in enumerate(load.slices):
        piece = msgspec.json.decode(raw, type=resource.ResourceSlice)
        inventory.put_slice(piece, f"{number}")
        progress("devices", len(piece.spec.devices))
    for number, raw in enumerate(load.allocated_claims):
        inventory.put_claim(msgspec.json.decode(raw, type=resource.ResourceClaim), f"{number}")
        progress("claims", 1)
    load.slices, load.allocated_claims = [], []
    allocator = Allocator(inventory, CelProvider(features, share_id))
    gc.collect()
    gc.freeze()
    report = {}
    for scenario in load.scenarios:
        placement = _decide(allocator, inventory, scenario)
        chosen = placement.node if placement is not None else ""
        if scenario.expect_node and chosen != scenario.expect_node:
            raise InvalidInput(f"scenario {scenario.name}", f"node {scenario.expect_node}", chosen)
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not count:
            _decide(allocator, inventory, scenario)
            count += 1
        results = [result for own in (placement.allocations if placement else ()) for result in own.devices.results]
        report[scenario.name] = {
            "msPerDecision": elapsed * 1000 / count,
            "node": chosen,
            "devices": [f"{result.driver}/{result.pool}/{result.device}" for result in results],
        }
    return msgspec.json.encode({"scenarios": report})


def _decide(allocator: Allocator, inventory: Inventory, scenario: Scenario) -> Placement | None:
    placement = allocator.place(scenario.claims)
    if placement is not None:
        for number, (claim, allocation) in enumerate(zip(scenario.claims, placement.allocations, strict=True)):
            allocated = msgspec.structs.replace(claim, status=resource.ResourceClaimStatus(allocation=allocation))
            inventory.put_claim(allocated, f"new-{number}")
        for number in range(len(scenario.claims)):
            inventory.remove_claim(f"new-{number}")
    return placement
