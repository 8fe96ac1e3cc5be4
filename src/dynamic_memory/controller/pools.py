# SPDX-License-Identifier: Apache-2.0
"""What a pool looks like to the scheduler: the fabric's capacity, less what no claim owns, as device bodies. Pure.

Source: KEP-5075 (consumable capacity), KEP-5007 (binding conditions), KEP-5055 (taints). The value is the total less
the bytes that shares without an allocated claim hold, never what is free: the scheduler subtracts claims itself. The
request policy is written anew with each value, because the API server refuses a value below `min + step`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from dynamic_memory.api import names
from dynamic_memory.fabric.model import Attribute, Capacity, PoolDevice

__all__ = [
    "DOWN_TAINT",
    "FULL_TAINT",
    "Misnamed",
    "Pool",
    "device_body",
    "misnamed",
    "pools",
    "size_capacity",
    "value_of",
]

DOWN_TAINT = f"{names.DOMAIN}/path-down"
"""The fabric cannot use the device at present."""
FULL_TAINT = f"{names.DOMAIN}/no-capacity"
"""Less than one unit is left; an empty capacity without a policy would still be given to who names no size."""

NO_SCHEDULE = "NoSchedule"
DEFAULT_TIER = "cxl"
MAX_ATTRIBUTES = 24
MAX_TEXT = 64
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """One pool as it is to be published.

    Attributes:
        name: `fabric/<domain>`.
        domain: the fabric domain.
        devices: bodies of the devices, by name.
        values: bytes published for each device, by name.

    """

    name: str
    domain: str
    devices: tuple[dict[str, Any], ...]
    values: dict[str, int]

    @property
    def where(self) -> dict[str, Any]:
        """Which nodes can reach the pool, as the `nodeSelector` of its slices."""
        requirement = {"key": names.FABRIC_DOMAIN_LABEL, "operator": "In", "values": [self.domain]}
        return {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}


class Misnamed(msgspec.Struct, frozen=True):
    """A device of the service that cannot be published, and why."""

    pool: str
    device: str
    why: str


def misnamed(capacity: Capacity) -> list[Misnamed]:
    """Return the devices whose names Kubernetes, or a claim's way back to the service, could not carry."""
    found: list[Misnamed] = []
    seen: set[tuple[str, str]] = set()
    for device in capacity.pools:
        why = _problem(device)
        if why is None and (device.pool, device.device) in seen:
            why = "the name is used twice"
        seen.add((device.pool, device.device))
        if why is not None:
            found.append(Misnamed(device.pool, device.device, why))
    return found


def pools(capacity: Capacity, held: Mapping[tuple[str, str], int]) -> dict[str, Pool]:
    """Return the pools to publish, by name.

    Args:
        capacity: what the service says.
        held: bytes of each (pool, device) that shares without an allocated claim hold.

    """
    wrong = {(m.pool, m.device) for m in misnamed(capacity)}
    by_pool: dict[str, list[PoolDevice]] = {}
    for device in capacity.pools:
        if (device.pool, device.device) not in wrong:
            by_pool.setdefault(device.pool, []).append(device)
    return {
        name: Pool(
            name=name,
            domain=devices[0].domain,
            devices=tuple(
                device_body(d, held=held.get((name, d.device), 0), simulated=capacity.simulated)
                for d in sorted(devices, key=lambda d: d.device)
            ),
            values={d.device: value_of(d, held.get((name, d.device), 0)) for d in devices},
        )
        for name, devices in sorted(by_pool.items())
    }


def value_of(device: PoolDevice, held: int) -> int:
    """Return the bytes to publish: the total less what no claim owns, in whole units, never below zero (rule 18)."""
    unit = max(device.unit, 1)
    return max(device.total - held, 0) // unit * unit


def size_capacity(value: int, unit: int) -> dict[str, Any]:
    """Return the capacity `size` with the policy that this value allows: min, step and default are the unit.

    The API server wants `min + step <= value`. With one unit left the policy is the list of that one value; with
    none, there is no policy, and the device needs a taint.
    """
    body: dict[str, Any] = {"value": str(value)}
    one = str(unit)
    if value >= 2 * unit:
        body["requestPolicy"] = {"default": one, "validRange": {"min": one, "step": one}}
    elif value >= unit:
        body["requestPolicy"] = {"default": one, "validValues": [one]}
    return body


def device_body(device: PoolDevice, *, held: int, simulated: bool) -> dict[str, Any]:
    """Return a pool device as it stands in a slice."""
    value = value_of(device, held)
    body: dict[str, Any] = {
        "name": device.device,
        "allowMultipleAllocations": True,
        "bindsToNode": True,
        "bindingConditions": [names.ATTACHED],
        "bindingFailureConditions": [names.ATTACH_FAILED],
        "attributes": _attributes(device, simulated=simulated),
        "capacity": {names.CAPACITY_SIZE: size_capacity(value, max(device.unit, 1))},
    }
    taints = []
    if not device.healthy:
        taints.append({"key": DOWN_TAINT, "effect": NO_SCHEDULE})
    if value < device.unit:
        taints.append({"key": FULL_TAINT, "effect": NO_SCHEDULE})
    if taints:
        body["taints"] = taints
    return body


def _attributes(device: PoolDevice, *, simulated: bool) -> dict[str, Any]:
    attributes: dict[str, Attribute] = {"tier": DEFAULT_TIER}
    for name, value in sorted(device.attributes.items())[:MAX_ATTRIBUTES]:
        too_long = isinstance(value, str) and len(value) > MAX_TEXT
        if _IDENTIFIER.fullmatch(name) and not too_long:
            attributes[name] = value
    attributes |= {
        names.KIND_ATTRIBUTE: names.DeviceKind.FABRIC.value,
        names.FABRIC_DOMAIN_ATTRIBUTE: device.domain,
        "simulated": simulated,
    }
    return {name: {_type_of(value): value} for name, value in attributes.items()}


def _type_of(value: Attribute) -> str:
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "string"


def _problem(device: PoolDevice) -> str | None:
    if device.pool != names.fabric_pool(device.domain):
        return f"the pool of domain {device.domain} must be called {names.fabric_pool(device.domain)}"
    if not _LABEL_VALUE.fullmatch(device.domain) or not _DNS_LABEL.fullmatch(device.domain):
        return "the domain must be a DNS label"
    if not _DNS_LABEL.fullmatch(device.device):
        return "the device must be a DNS label"
    return None
