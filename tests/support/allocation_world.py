# SPDX-License-Identifier: Apache-2.0
"""Short ways to say what there is and what is wanted, for tests of the allocator."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.support.table_provider import TableProvider

from dynamic_memory.allocation import Allocator, Features, Inventory, Policy
from dynamic_memory.api import core, resource

__all__ = ["World", "claim", "devices_of", "memory", "read", "request"]


class World:
    """An inventory, an allocator over it, and short ways to say things."""

    def __init__(self, features: Features | None = None, policy: Policy = Policy.FIRST) -> None:
        self.inventory = Inventory(features)
        self.provider = TableProvider()
        self.allocator = Allocator(self.inventory, self.provider, policy)
        for name in ("memory", "any"):
            self.inventory.put_class(read(resource.DeviceClass, {"metadata": {"name": name}}))

    def node(self, name: str, **labels: str) -> None:
        self.inventory.put_node(read(core.Node, {"metadata": {"name": name, "labels": labels}}))

    def slice(self, name: str, devices: list[dict[str, Any]], **spec: Any) -> None:
        pool = {"name": spec.pop("pool", name), "generation": spec.pop("generation", 1)}
        pool["resourceSliceCount"] = spec.pop("count", 1)
        if not spec.keys() & {"nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"}:
            spec["allNodes"] = True
        body = {"driver": spec.pop("driver", "dra.memory"), "pool": pool, "devices": devices, **spec}
        self.inventory.put_slice(read(resource.ResourceSlice, {"metadata": {"name": name}, "spec": body}))

    def load(self, case: dict[str, Any]) -> list[resource.ResourceClaim]:
        for device_class in case["classes"]:
            self.inventory.put_class(read(resource.DeviceClass, device_class))
        nodes = case.get("nodes") or [case["node"]]
        for node in nodes:
            self.inventory.put_node(read(core.Node, node))
        for number, piece in enumerate(case["slices"]):
            self.inventory.put_slice(read(resource.ResourceSlice, piece), f"{number}")
        for number, own in enumerate(case["allocatedClaims"]):
            self.inventory.put_claim(read(resource.ResourceClaim, own), f"{number}")
        return [read(resource.ResourceClaim, own) for own in case.get("claims", ())]

    def commit(self, claim: resource.ResourceClaim, allocation: resource.AllocationResult) -> None:
        status = resource.ResourceClaimStatus(allocation=allocation)
        self.inventory.put_claim(msgspec.structs.replace(claim, status=status))


def read(type_: type[Any], body: dict[str, Any]) -> Any:
    return msgspec.convert(body, type=type_)


def memory(name: str, size: str = "4Gi", **more: Any) -> dict[str, Any]:
    """A device that can be shared."""
    return {"name": name, "allowMultipleAllocations": True, "capacity": {"size": {"value": size}}, **more}


def request(name: str = "r", size: str | None = None, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"deviceClassName": "any", "allocationMode": "ExactCount", "count": 1, **more}
    if size is not None:
        body["capacity"] = {"requests": {"size": size}}
    return {"name": name, "exactly": body}


def claim(*requests: dict[str, Any], name: str = "claim", **more: Any) -> resource.ResourceClaim:
    body = {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"devices": {"requests": list(requests), **more}},
    }
    return read(resource.ResourceClaim, body)


def devices_of(allocations: list[resource.AllocationResult] | None) -> list[str] | None:
    if allocations is None:
        return None
    return [result.device for own in allocations for result in own.devices.results]
