# SPDX-License-Identifier: Apache-2.0
"""Devices of a made-up fabric, by the functions that publish those of a real one.

The controller publishes pools, the driver windows; a sample is worth something only as long as it has what they write.
Nothing is behind it, and its devices say so (`simulated`).
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.allocation.prototype.memory import MemoryShape
from dynamic_memory.api import names
from dynamic_memory.controller.pools import device_body
from dynamic_memory.driver.devices import window_devices
from dynamic_memory.fabric.model import Capacity, HostWindow, PoolDevice

__all__ = ["SampleFabric"]

POOL_DEVICE = "memory-0"
WINDOW = "port0"


class SampleFabric:
    """See the module; it is the `Fabric` of `generate_memory`."""

    def pool(self, shape: MemoryShape, domain: str) -> list[dict[str, Any]]:
        """Return the devices of a domain's pool: one, with all of its memory."""
        return [device_body(_pool(shape, domain), held=0, simulated=True)]

    def windows(self, shape: MemoryShape, node: str, domain: str) -> list[dict[str, Any]]:
        """Return the windows of a node: one."""
        window = HostWindow(
            node=node,
            host=node,
            domain=domain,
            device=WINDOW,
            total=shape.window or shape.fabric,
            max_extents=shape.extents,
            used=0,
            used_extents=0,
            unit=shape.unit,
            healthy=True,
        )
        capacity = Capacity(revision=1, simulated=True, pools=(_pool(shape, domain),), hosts=(window,))
        return window_devices(capacity, node, {}, {})


def _pool(shape: MemoryShape, domain: str) -> PoolDevice:
    return PoolDevice(
        pool=names.fabric_pool(domain),
        device=POOL_DEVICE,
        domain=domain,
        total=shape.fabric,
        free=shape.fabric,
        unit=shape.unit,
        healthy=True,
    )
