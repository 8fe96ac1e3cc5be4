# SPDX-License-Identifier: Apache-2.0
"""What the scheduler writes into the status of a claim of the prototype."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from dynamic_memory.allocation.prototype.inventory import Device, ceil_to
from dynamic_memory.allocation.prototype.ledger import Grant
from dynamic_memory.allocation.prototype.types import ClaimStatus, ConfigRef
from dynamic_memory.allocation.prototype.v1 import CountingClaim, PoolCount
from dynamic_memory.allocation.prototype.v2 import Pick
from dynamic_memory.allocation.prototype.world import DEFAULT_NAMESPACE, World
from dynamic_memory.errors import RetryError
from dynamic_memory.quantity import Quantity

__all__ = ["MissingConfig", "counted_status", "device_status", "key_text"]


class MissingConfig(RetryError):
    """A claim refers to a configuration object that is not there; it may come."""

    def __init__(self, reference: ConfigRef, namespace: str) -> None:
        super().__init__(reference, namespace)
        self.reference = reference
        self.namespace = namespace

    def __str__(self) -> str:
        return f"waiting for {self.reference.kind} {self.namespace}/{self.reference.name}, which does not exist"


def device_status(world: World, namespace: str, picks: Sequence[Pick]) -> dict[str, Any]:
    """Return the status for the devices chosen for one claim.

    Raises:
        MissingConfig: a class or detail refers to an object that does not exist.

    """
    amounts: dict[Device, dict[str, Quantity]] = {}
    for pick in picks:
        for device, grant in zip(pick.devices, pick.grants, strict=True):
            entry = amounts.setdefault(device, {})
            if not pick.part.detail.admin_access:
                _add(entry, device, grant)
    leaves = {leaf.metadata.name: leaf for pick in picks for leaf in pick.leaves}.values()
    classes = [entry for leaf in leaves if leaf.spec.definition is not None for entry in leaf.spec.definition.configs]
    own = [entry for pick in picks for entry in pick.part.detail.configs]
    return {
        "classConfigs": _dereferenced(world, classes, namespace),
        "claimConfigs": _dereferenced(world, own, namespace),
        "allocations": [
            {
                "devicePoolName": device.pool.name,
                "deviceName": device.name,
                "allocations": [{"name": name, "allocation": str(amount)} for name, amount in entry.items()],
            }
            for device, entry in amounts.items()
        ],
    }


def counted_status(
    world: World, namespace: str, claims: Iterable[tuple[CountingClaim, Sequence[PoolCount]]]
) -> dict[str, Any]:
    """Return the status for numbers of devices (v1).

    Raises:
        MissingConfig: a class or claim refers to an object that does not exist.

    """
    claims = list(claims)
    return {
        "classConfigs": _dereferenced(world, [entry for claim, _ in claims for entry in claim.configs[0]], namespace),
        "claimConfigs": _dereferenced(world, [entry for claim, _ in claims for entry in claim.configs[1]], namespace),
        "allocations": [
            {"devicePoolName": part.pool.name, "deviceCount": part.number} for _, parts in claims for part in parts
        ],
    }


def key_text(status: ClaimStatus) -> dict[str, Any]:
    """Return a status as plain data, as it was."""
    found = msgspec.to_builtins(status, enc_hook=str)
    return {"classConfigs": [], "claimConfigs": [], **found}


def _add(entry: dict[str, Quantity], device: Device, grant: Grant | None) -> None:
    """Add what a claim has of a device: of what it provides, and what it draws from its pool."""
    for name, provided in device.shape.provides.items():
        if grant is None:
            entry[name] = provided.quantity
        elif name in grant:
            earlier = entry[name].nanos if name in entry else 0
            entry[name] = Quantity(earlier + grant[name], provided.quantity.format)
    for name, amount in device.shape.consumes.items():
        source = device.pool.shared[name]
        if name not in entry:
            entry[name] = Quantity(ceil_to(amount, source.block), source.quantity.format)


def _dereferenced(world: World, references: Iterable[ConfigRef], namespace: str) -> list[dict[str, Any]]:
    found = []
    for reference in references:
        place = reference.namespace or namespace
        version = reference.api_version or "v1"
        body = world.configs.get((version, reference.kind, place, reference.name))
        if body is None and place != DEFAULT_NAMESPACE:
            cluster = world.configs.get((version, reference.kind, DEFAULT_NAMESPACE, reference.name))
            body = cluster if cluster is not None and "namespace" not in cluster["metadata"] else None
        if body is None:
            raise MissingConfig(reference, place)
        if body not in found:
            found.append(body)
    return found
