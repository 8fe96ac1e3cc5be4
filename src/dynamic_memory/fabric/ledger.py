# SPDX-License-Identifier: Apache-2.0
"""Books of a fabric whose manager keeps none of its own: who holds what, and whether an order fits. Pure.

For the simulated fabric this is the hardware; for a fabric manager that wants to be told the extents it is the copy
that extents are chosen from. Every entry is counted once on its device and once on its host (I1), and `plan` refuses
what would not fit on either (I7).
"""

from __future__ import annotations

from collections.abc import Iterable

from dynamic_memory.errors import InvalidInput
from dynamic_memory.fabric import extents
from dynamic_memory.fabric.backends.interface import Allocation, Device, DeviceKey, Host, Order
from dynamic_memory.fabric.errors import BadArgument, Conflicts, DeviceDown, Exhausted, UnknownDevice, WindowFull

__all__ = ["Ledger"]


class Ledger:
    """Devices, hosts and allocations that fit together.

    Args:
        devices: all pool devices.
        hosts: all hosts.
        allocations: what is held already.

    Raises:
        InvalidInput: an allocation names a device or host that is not there, or overlaps with another.

    """

    def __init__(
        self, devices: Iterable[Device], hosts: Iterable[Host], allocations: Iterable[Allocation] = ()
    ) -> None:
        self.devices = {device.key: device for device in devices}
        self.hosts = {host.name: host for host in hosts}
        self.allocations: dict[str, Allocation] = {}
        self._on_device: dict[DeviceKey, dict[str, Allocation]] = {key: {} for key in self.devices}
        self._on_host: dict[str, dict[str, Allocation]] = {name: {} for name in self.hosts}
        for allocation in allocations:
            self._check(allocation)
            self.add(allocation)

    def plan(self, order: Order) -> Allocation:
        """Find extents for an order, without taking them. An order that is in the books already gets what it has.

        Raises:
            Conflicts: the tag is in the books for something else.
            UnknownDevice: no such device.
            BadArgument: no such host in the domain, or a size that the device does not hand out.
            DeviceDown: the device, or the path to the host.
            Exhausted: the device has too few bytes.
            WindowFull: the host can map too few bytes, or hold too few extents.

        """
        existing = self.allocations.get(order.tag)
        if existing is not None:
            if difference := existing.difference(order):
                raise Conflicts(order.tag, difference)
            return existing
        device, host = self._find(order)
        if not device.healthy:
            raise DeviceDown(f"pool device {device.domain}/{device.name}", device.why)
        if not host.healthy:
            raise DeviceDown(f"host {host.name}", host.why)
        held = self.held(device.key)
        # A device that shrank may hold more than it has.
        have = max(device.total - held, 0)
        taken = [extent for entry in self._on_device[device.key].values() for extent in entry.ranges]
        ranges = extents.choose(extents.holes(device.total, taken), order.size) if have >= order.size else None
        if ranges is None:
            raise Exhausted(order.size, have, held=held)
        used, used_extents = self.used(host.name)
        room = max(host.max_extents - used_extents, 0)
        if order.size > host.window - used:
            raise WindowFull(order.size, max(host.window - used, 0), room)
        if len(ranges) > room:
            raise WindowFull(order.size, host.window - used, room, len(ranges))
        return Allocation(
            tag=order.tag, host=order.host, domain=order.domain, device=order.device, size=order.size, ranges=ranges
        )

    def add(self, allocation: Allocation) -> None:
        """Enter what `plan` answered; nothing may have been entered in between, unless it is the same."""
        self.allocations[allocation.tag] = allocation
        self._on_device[allocation.key][allocation.tag] = allocation
        self._on_host[allocation.host][allocation.tag] = allocation

    def remove(self, tag: str) -> Allocation | None:
        """Strike an entry out; None if there is none."""
        allocation = self.allocations.pop(tag, None)
        if allocation is not None:
            del self._on_device[allocation.key][tag]
            del self._on_host[allocation.host][tag]
        return allocation

    def held(self, key: DeviceKey) -> int:
        """Bytes of a device that hosts hold."""
        return sum(entry.size for entry in self._on_device[key].values())

    def used(self, host: str) -> tuple[int, int]:
        """Bytes and extents that a host holds."""
        entries = self._on_host[host].values()
        return sum(entry.size for entry in entries), sum(len(entry.ranges) for entry in entries)

    def set_health(self, devices: Iterable[Device], hosts: Iterable[Host]) -> None:
        """Replace the descriptions of devices and hosts that are in the books."""
        self.devices.update({device.key: device for device in devices if device.key in self.devices})
        self.hosts.update({host.name: host for host in hosts if host.name in self.hosts})

    def _find(self, order: Order) -> tuple[Device, Host]:
        device = self.devices.get(order.key)
        if device is None:
            raise UnknownDevice(f"{order.domain}/{order.device}")
        host = self.hosts.get(order.host)
        if host is None or host.domain != order.domain:
            raise BadArgument("node", f"a host of fabric domain {order.domain!r}")
        if order.size <= 0 or order.size % device.unit:
            raise BadArgument("bytes", f"a positive multiple of {device.unit}")
        return device, host

    def _check(self, allocation: Allocation) -> None:
        where = f"allocation {allocation.tag}"
        if allocation.key not in self.devices:
            raise InvalidInput(where, "a pool device of the configuration", "/".join(allocation.key))
        if allocation.host not in self.hosts:
            raise InvalidInput(where, "a host of the configuration", allocation.host)
        if allocation.tag in self.allocations:
            raise InvalidInput(where, "a tag that stands once")
        if sum(extent.size for extent in allocation.ranges) != allocation.size:
            raise InvalidInput(where, f"extents of {allocation.size} bytes in all")
        taken = [extent for entry in self._on_device[allocation.key].values() for extent in entry.ranges]
        for extent in allocation.ranges:
            if extent.device_offset < 0 or extent.size <= 0:
                raise InvalidInput(where, "extents on the device", extent)
            if any(extent.device_offset < other.end and other.device_offset < extent.end for other in taken):
                raise InvalidInput(where, "extents that nobody else has", extent)
            taken.append(extent)
