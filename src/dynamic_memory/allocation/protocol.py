# SPDX-License-Identifier: Apache-2.0
"""The JSON lines protocol: one question a line, one answer a line.

This is the way in for other programs: differential tests against the allocator of Kubernetes, and people who plan
capacity with scripts. It is pure: a line of bytes in, a line of bytes out. A question that cannot be read is answered
like one that cannot be served, so that answers and questions stay in step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from dynamic_memory.allocation.allocator import Allocator
from dynamic_memory.allocation.errors import FatalAllocationError, NodeAllocationError
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.inventory import Inventory
from dynamic_memory.allocation.selectors import CelProvider, evaluate_expression
from dynamic_memory.api import core, resource
from dynamic_memory.errors import InvalidInput

__all__ = ["CelQuery", "Query", "answer"]


class _Head(msgspec.Struct):
    id: Any = None
    kind: str = ""


class Query(msgspec.Struct, rename="camel"):
    """kind "allocate": which devices of the node do the claims get?"""

    node: core.Node
    features: str | list[str] | None = None
    classes: list[resource.DeviceClass] = []
    slices: list[resource.ResourceSlice] = []
    allocated_claims: list[resource.ResourceClaim] = []
    claims: list[resource.ResourceClaim] = []


class CelDevice(msgspec.Struct, rename="camel"):
    """The device that an expression is applied to."""

    driver: str = ""
    attributes: dict[str, resource.DeviceAttribute] = {}
    capacity: dict[str, resource.DeviceCapacity] = {}
    allow_multiple_allocations: bool | None = None


class CelQuery(msgspec.Struct, rename="camel"):
    """kind "cel": what does an expression say of a device?"""

    expression: str
    features: str | list[str] | None = None
    env: str = "stored"
    device: CelDevice = msgspec.field(default_factory=CelDevice)


def answer(line: bytes, share_id: Callable[[], str]) -> bytes:
    """Answer one line; `share_id` makes UUIDs."""
    head = _Head()
    try:
        head = msgspec.json.decode(line, type=_Head)
        match head.kind:
            case "allocate":
                body = _allocate(msgspec.json.decode(line, type=Query), share_id)
            case "cel":
                body = _evaluate(msgspec.json.decode(line, type=CelQuery))
            case _:
                raise InvalidInput("kind", '"allocate" or "cel"', head.kind)
    except (msgspec.DecodeError, InvalidInput, UnicodeDecodeError) as error:
        body = {"ok": False, "error": str(error), "scope": "fatal"}
    return msgspec.json.encode({"id": head.id, **body})


def _allocate(query: Query, share_id: Callable[[], str]) -> dict[str, Any]:
    features = Features.of(query.features)
    inventory = Inventory(features)
    inventory.put_node(query.node)
    for device_class in query.classes:
        inventory.put_class(device_class)
    # What comes in a list need not have names, or different ones.
    for number, piece in enumerate(query.slices):
        inventory.put_slice(piece, f"{number}")
    for number, claim in enumerate(query.allocated_claims):
        inventory.put_claim(claim, f"{number}")
    allocator = Allocator(inventory, CelProvider(features, share_id))
    try:
        allocations = allocator.allocate(query.claims, query.node.metadata.name)
    except FatalAllocationError as error:
        return {"ok": False, "error": str(error), "scope": "fatal"}
    except NodeAllocationError as error:
        return {"ok": False, "error": str(error), "scope": "node"}
    if allocations is None:
        return {"ok": False, "unsatisfied": True}
    return {"ok": True, "allocations": allocations}


def _evaluate(query: CelQuery) -> dict[str, Any]:
    if query.env not in {"stored", "new"}:
        raise InvalidInput("env", '"stored" or "new"', query.env)
    device = query.device
    spec = resource.Device(
        name="",
        attributes=device.attributes,
        capacity=device.capacity,
        allow_multiple_allocations=device.allow_multiple_allocations,
    )
    features = Features.of(query.features)
    return evaluate_expression(query.expression, device.driver, spec, features, stored=query.env == "stored")
