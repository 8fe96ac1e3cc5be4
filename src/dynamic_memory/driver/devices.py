# SPDX-License-Identifier: Apache-2.0
"""The node's window devices as Kubernetes sees them: how much fabric memory this host can map.

The value of a window is its total, less the bytes of shares that no allocated claim owns. It is never "what is free":
the scheduler subtracts the claims itself. The request policy follows the value, because the API server refuses a policy
that does not fit into it (KEP-5075: `min + step <= value`). Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dynamic_memory.api import names
from dynamic_memory.fabric.model import Capacity, HostWindow, Share

__all__ = ["ATTACH_FAILED_TAINT", "UNHEALTHY_TAINT", "Taint", "Unowned", "unowned", "window_devices"]

UNHEALTHY_TAINT = f"{names.DOMAIN}/path-down"
ATTACH_FAILED_TAINT = f"{names.DOMAIN}/attach-failed"
SIMULATED_ATTRIBUTE = "simulated"


class Taint(msgspec.Struct, frozen=True):
    """A NoSchedule taint on a window: its key, and since when (RFC 3339)."""

    key: str
    since: str


class Unowned(msgspec.Struct, frozen=True):
    """What is held on one window beyond what allocated claims account for: bytes and extents."""

    size: int = 0
    extents: int = 0


def unowned(shares: Iterable[Share], owned: Mapping[str, str], windows: Sequence[HostWindow]) -> dict[str, Unowned]:
    """Return, by window device, what the scheduler does not know to be taken.

    Args:
        shares: what the fabric holds for this node.
        owned: the window device of each tag that an allocated claim owns.
        windows: the node's windows.

    """
    result = {window.device: Unowned() for window in windows}
    for share in shares:
        device = owned.get(share.tag)
        domain = names.fabric_domain_of(share.pool)
        window = device or next((w.device for w in windows if w.domain == domain), None)
        if window not in result:
            continue
        before = result[window]
        # a claim accounts for its bytes and for one extent
        size, extents = (0, len(share.ranges) - 1) if device else (share.size, len(share.ranges))
        result[window] = Unowned(before.size + size, before.extents + extents)
    return result


def window_devices(
    capacity: Capacity, node: str, held: Mapping[str, Unowned], taints: Mapping[str, Sequence[Taint]]
) -> list[dict[str, Any]]:
    """Return the bodies of the node's devices for a slice, in the order of their names."""
    windows = sorted((w for w in capacity.hosts if w.node == node), key=lambda w: w.device)
    return [
        _device(window, capacity, held.get(window.device, Unowned()), taints.get(window.device, ()))
        for window in windows
    ]


def _device(window: HostWindow, capacity: Capacity, held: Unowned, taints: Sequence[Taint]) -> dict[str, Any]:
    unit = _unit(window, capacity)
    extents = max(window.max_extents - held.extents, 0)
    # a window without a free extent has no bytes to give, whatever its size
    size = max(window.total - held.size, 0) // unit * unit if extents else 0
    device: dict[str, Any] = {
        "name": window.device,
        "allowMultipleAllocations": True,
        "attributes": {
            names.KIND_ATTRIBUTE: {"string": names.DeviceKind.WINDOW.value},
            names.FABRIC_DOMAIN_ATTRIBUTE: {"string": window.domain},
            SIMULATED_ATTRIBUTE: {"bool": capacity.simulated},
        },
        "capacity": {
            names.CAPACITY_SIZE: _size_capacity(size, unit),
            names.CAPACITY_EXTENTS: _extents_capacity(extents),
        },
    }
    if taints:
        device["taints"] = [
            {"key": taint.key, "effect": "NoSchedule", "timeAdded": taint.since}
            for taint in sorted(taints, key=lambda t: t.key)
        ]
    return device


def _unit(window: HostWindow, capacity: Capacity) -> int:
    """Return what every size is a multiple of: window and pool devices of a domain must say the same."""
    return math.lcm(window.unit, *(pool.unit for pool in capacity.pools if pool.domain == window.domain))


def _size_capacity(size: int, unit: int) -> dict[str, Any]:
    if size >= 2 * unit:
        policy = {"default": str(unit), "validRange": {"min": str(unit), "step": str(unit)}}
    elif size == unit:
        policy = {"default": str(unit), "validValues": [str(unit)]}
    else:
        return {"value": "0"}
    return {"value": str(size), "requestPolicy": policy}


def _extents_capacity(extents: int) -> dict[str, Any]:
    if not extents:
        return {"value": "0"}
    return {"value": str(extents), "requestPolicy": {"default": "1", "validValues": ["1"]}}
