# SPDX-License-Identifier: Apache-2.0
"""What an owner can use, from what the fabric has. Pure.

Bytes that nobody of the owner holds, but that are taken, are not the owner's to use: they are left out of the total, so
that pool = free + extents holds in each owner's view (I1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

from dynamic_memory.api.names import fabric_pool
from dynamic_memory.fabric.backends.interface import DeviceKey, View
from dynamic_memory.fabric.directory import Directory
from dynamic_memory.fabric.model import HostWindow, PoolDevice
from dynamic_memory.fabric.sessions import Sessions

__all__ = ["host_window", "pool_devices"]


def pool_devices(view: View, directory: Directory, owner: str, known: Container[str]) -> tuple[PoolDevice, ...]:
    """Pool devices of an owner; `known` are the tags of all shares that somebody owns."""
    held: Counter[DeviceKey] = Counter()
    foreign: Counter[DeviceKey] = Counter()
    for tag, allocation in view.allocations.items():
        held[allocation.key] += allocation.size
        if tag not in known:
            foreign[allocation.key] += allocation.size
    return tuple(
        PoolDevice(
            pool=fabric_pool(device.domain),
            device=device.name,
            domain=device.domain,
            total=max(device.total - foreign[key], 0),
            free=max(device.total - held[key], 0),
            unit=device.unit,
            healthy=device.healthy,
            why=device.why,
            attributes=device.attributes,
        )
        for key, device in sorted(view.devices.items())
        if directory.owner_of_domain(device.domain) == owner
    )


def host_window(
    view: View, directory: Directory, sessions: Sessions, *, owner: str, node: str, now: float
) -> HostWindow:
    """The host of a node of an owner, at monotonic time `now`."""
    host = view.hosts[directory.host(owner, node)]
    entries = [entry for entry in view.allocations.values() if entry.host == host.name]
    units = (device.unit for device in view.devices.values() if device.domain == host.domain)
    return HostWindow(
        node=node,
        host=host.name,
        domain=host.domain,
        device=host.device,
        total=host.window,
        max_extents=host.max_extents,
        used=sum(entry.size for entry in entries),
        used_extents=sum(len(entry.ranges) for entry in entries),
        unit=next(units, 1),
        healthy=host.healthy,
        why=host.why,
        session=sessions.alive(owner, node),
        session_age=sessions.age(owner, node, now),
        session_lapsed=sessions.lapsed(owner, node, now),
    )
