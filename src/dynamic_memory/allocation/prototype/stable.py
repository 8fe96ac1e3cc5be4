# SPDX-License-Identifier: Apache-2.0
"""Claims of `resource.k8s.io/v1` beside those of the prototype: what the allocator of that group needs to be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.inventory import Inventory as StableInventory
from dynamic_memory.allocation.prototype.world import World
from dynamic_memory.api import core, resource
from dynamic_memory.errors import InvalidInput

__all__ = ["check_requests", "reserved_for", "stable_inventory"]


def check_requests(claim: resource.ResourceClaim) -> None:
    """Refuse constraints and configuration for requests that a claim does not have."""
    devices = claim.spec.devices
    known = {
        name
        for request in devices.requests
        for name in (request.name, *(f"{request.name}/{option.name}" for option in request.first_available))
    }
    named = {
        "constraints": [entry.requests for entry in devices.constraints],
        "config": [entry.requests for entry in devices.config],
    }
    for field, entries in named.items():
        for number, requests in enumerate(entries):
            for index, name in enumerate(requests):
                if name not in known:
                    path = f"claim {claim.metadata.name}: spec.devices.{field}[{number}].requests[{index}]"
                    raise InvalidInput(path, f"a request of the claim ({', '.join(sorted(known))})", name)


def stable_inventory(world: World, nodes: Iterator[core.Node]) -> StableInventory:
    """Return what the allocator decides on: nodes, classes, slices, and the claims that are allocated."""
    inventory = StableInventory(Features())
    for node in nodes:
        inventory.put_node(node)
    for found in world.stable_classes.values():
        inventory.put_class(found)
    for name, piece in world.slices.items():
        inventory.put_slice(piece, name)
    for (namespace, name), claim in world.stable_claims.items():
        if claim.status.allocation is not None:
            inventory.put_claim(claim, f"{namespace}/{name}")
    return inventory


def reserved_for(claim: resource.ResourceClaim, pod: Mapping[str, Any], group: str, name: str) -> list[dict[str, str]]:
    """Return who uses a claim: the pod, or its group."""
    entries = [
        {"apiGroup": entry.api_group, "resource": entry.resource, "name": entry.name, "uid": entry.uid}
        for entry in claim.status.reserved_for
    ]
    for entry in entries:
        if not entry["apiGroup"]:
            del entry["apiGroup"]
    own = {"resource": "pods", "name": name, "uid": str(pod["metadata"].get("uid", ""))}
    if group:
        own = {"apiGroup": "scheduling.k8s.io", "resource": "podgroups", "name": group, "uid": ""}
    same = [entry for entry in entries if entry["resource"] == own["resource"] and entry["name"] == own["name"]]
    return entries if same else [*entries, own]
