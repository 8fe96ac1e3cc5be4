# SPDX-License-Identifier: Apache-2.0
"""The JSON lines protocol: one question a line, one answer a line.

This is the way in for other programs: differential tests against the allocator of Kubernetes, and people who plan
capacity with scripts. It is pure: a line of bytes in, a line of bytes out. A question that cannot be read is answered
like one that cannot be served, so that answers and questions stay in step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from dynamic_memory.allocation.allocator import Allocator
from dynamic_memory.allocation.errors import FatalAllocationError, NodeAllocationError
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.inventory import Inventory
from dynamic_memory.allocation.selectors import CelProvider, evaluate_expression
from dynamic_memory.api import core, resource
from dynamic_memory.errors import InvalidInput

__all__ = ["Answer", "CelQuery", "Progress", "Query", "answer"]


Progress = Callable[[str, int], None]
"""Is told what was read ("devices", "claims") and how many."""


class Answer(msgspec.Struct, frozen=True):
    """One line to write, without the end of line, and whether the question could be read."""

    line: bytes
    readable: bool


class _Head(msgspec.Struct):
    id: Any = None
    kind: str = ""


class Query(msgspec.Struct, rename="camel"):
    """kind "allocate": which devices of the node do the claims get?"""

    node: core.Node
    features: str | list[str] | None = None
    classes: list[resource.DeviceClass] = []
    slices: list[msgspec.Raw] = []
    allocated_claims: list[msgspec.Raw] = []
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
    env: Literal["stored", "new"] = "stored"
    device: CelDevice = msgspec.field(default_factory=CelDevice)


def answer(line: bytes, share_id: Callable[[], str], progress: Progress) -> Answer:
    """Answer one line; `share_id` makes UUIDs, `progress` hears of what was read."""
    head = _Head()
    try:
        head = msgspec.json.decode(line, type=_Head)
        match head.kind:
            case "allocate":
                body = _allocate(msgspec.json.decode(line, type=Query), share_id, progress)
            case "cel":
                body = _evaluate(msgspec.json.decode(line, type=CelQuery))
            case _:
                body = {"ok": False, "error": f"unknown kind {head.kind!r}", "scope": "fatal"}
    except (msgspec.DecodeError, InvalidInput, UnicodeDecodeError, RecursionError) as error:
        body = {"ok": False, "error": str(error), "scope": "fatal"}
        return Answer(msgspec.json.encode({"id": head.id, **body}), readable=False)
    return Answer(msgspec.json.encode({"id": head.id, **body}), readable=True)


def _allocate(query: Query, share_id: Callable[[], str], progress: Progress) -> dict[str, Any]:
    features = Features.of(query.features)
    inventory = Inventory(features)
    inventory.put_node(query.node)
    for device_class in query.classes:
        inventory.put_class(device_class)
    # What comes in a list need not have names, or different ones. Read one by one, a large cluster takes the memory of
    # its inventory and no more.
    for number, raw in enumerate(query.slices):
        piece = msgspec.json.decode(raw, type=resource.ResourceSlice)
        inventory.put_slice(piece, f"{number}")
        progress("devices", len(piece.spec.devices))
    for number, raw in enumerate(query.allocated_claims):
        inventory.put_claim(msgspec.json.decode(raw, type=resource.ResourceClaim), f"{number}")
        progress("claims", 1)
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
    device = query.device
    spec = resource.Device(
        name="",
        attributes=device.attributes,
        capacity=device.capacity,
        allow_multiple_allocations=device.allow_multiple_allocations,
    )
    return evaluate_expression(query.expression, device.driver, spec, Features.of(query.features), query.env)
