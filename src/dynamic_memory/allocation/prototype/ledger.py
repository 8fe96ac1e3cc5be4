# SPDX-License-Identifier: Apache-2.0
"""What is taken of devices and of the shared resources of pools.

All amounts are integers (billionths), so that what is given back is exactly what was taken. A device is either owned
whole by one claim, or shared: then each share is granted amounts of what the device provides, and the shared resources
of the pool are paid once, with the first share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dynamic_memory.allocation.prototype.inventory import Device, Inventory, Pool, ceil_to
from dynamic_memory.allocation.prototype.types import Allocation, DeviceClaim, DeviceSetClaim

__all__ = ["Grant", "Ledger"]

Grant = Mapping[str, int]
"""Amounts of what a device provides, by name, in billionths."""

_NOTHING: dict[str, int] = {}


class Ledger:
    """Books over one inventory."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._owned: set[Device] = set()
        self._shares: dict[Device, int] = {}
        self._granted: dict[Device, dict[str, int]] = {}
        self._drawn: dict[Pool, dict[str, int]] = {}
        self.counted: dict[str, int] = {}
        """Devices taken by number of pools that only count them (v1), by pool."""

    def enter(self, claims: Iterable[DeviceClaim]) -> None:
        """Enter what claims hold already, by their status."""
        index: dict[str, dict[str, Device]] = {}
        for claim in claims:
            shared, admin = _ways(claim)
            for entry in claim.status.allocations:
                pool = self._inventory.pools.get(entry.device_pool_name)
                if pool is None:
                    continue
                if entry.device_count:
                    self.counted[pool.name] = self.counted.get(pool.name, 0) + entry.device_count
                    continue
                if pool.name not in index:
                    index[pool.name] = {device.name: device for device in pool.devices}
                device = index[pool.name].get(entry.device_name)
                if device is None:
                    self._enter_vanished(pool, entry)
                elif not admin:
                    self._enter(device, _grant(device, entry) if shared and entry.allocations else None)

    def enter_counts(self, claims: Iterable[DeviceSetClaim]) -> None:
        """Enter the numbers of devices that sets of claims hold."""
        for claim in claims:
            for entry in claim.status.allocations:
                self.counted[entry.device_pool_name] = self.counted.get(entry.device_pool_name, 0) + entry.device_count

    def taken(self, device: Device) -> bool:
        """Tell whether anybody has anything of a device."""
        return device in self._owned or device in self._shares

    def owned(self, device: Device) -> bool:
        """Tell whether a claim has a device whole."""
        return device in self._owned

    def granted(self, device: Device) -> Mapping[str, int]:
        """Return what shares have of a device."""
        return self._granted.get(device, _NOTHING)

    def free(self, device: Device, name: str) -> int:
        """Return how much of something a device can still grant, in whole blocks."""
        provided = device.shape.provides.get(name)
        if provided is None:
            return 0
        left = provided.capacity - self.granted(device).get(name, 0)
        return max(left // provided.block * provided.block, 0)

    def drawn(self, pool: Pool) -> Mapping[str, int]:
        """Return what is drawn from the shared resources of a pool."""
        return self._drawn.get(pool, _NOTHING)

    def lacking(self, device: Device) -> str | None:
        """Return the shared resource that a device cannot be had for, None if it can."""
        if device in self._shares:
            return None
        shared = device.pool.shared
        drawn = self._drawn.get(device.pool, _NOTHING)
        for name, amount in device.shape.consumes.items():
            source = shared[name]
            if drawn.get(name, 0) + ceil_to(amount, source.block) > source.usable():
                return name
        return None

    def take(self, device: Device, grant: Grant | None) -> None:
        """Take a device whole, or a share of it; the caller has made sure that it can be had."""
        if grant is None:
            self._owned.add(device)
            self._draw(device, 1)
            return
        if device not in self._shares:
            self._draw(device, 1)
        self._shares[device] = self._shares.get(device, 0) + 1
        granted = self._granted.setdefault(device, {})
        for name, amount in grant.items():
            granted[name] = granted.get(name, 0) + amount

    def give_back(self, device: Device, grant: Grant | None) -> None:
        """Reverse a `take`."""
        if grant is None:
            self._owned.remove(device)
            self._draw(device, -1)
            return
        granted = self._granted[device]
        for name, amount in grant.items():
            granted[name] -= amount
        self._shares[device] -= 1
        if not self._shares[device]:
            del self._shares[device], self._granted[device]
            self._draw(device, -1)

    def _draw(self, device: Device, sign: int) -> None:
        if device.shape.consumes:
            drawn = self._drawn.setdefault(device.pool, {})
            for name, amount in device.shape.consumes.items():
                drawn[name] = drawn.get(name, 0) + sign * ceil_to(amount, device.pool.shared[name].block)

    def _enter(self, device: Device, grant: Grant | None) -> None:
        # Two claims that own one device are an error of others, and no reason to count it twice.
        if grant is not None or device not in self._owned:
            self.take(device, grant)

    def _enter_vanished(self, pool: Pool, entry: Allocation) -> None:
        """Count what a device that is no longer published still draws."""
        drawn = self._drawn.setdefault(pool, {})
        for amount in entry.allocations:
            if amount.name in pool.shared:
                drawn[amount.name] = drawn.get(amount.name, 0) + amount.allocation.nanos


def _ways(claim: DeviceClaim) -> tuple[bool, bool]:
    """Tell whether a claim takes shares, and whether it is only for administration."""
    details = [detail for instance in claim.spec.devices for detail in (*instance.all_of, *instance.one_of)]
    return any(detail.allow_shared for detail in details), bool(details) and all(
        detail.admin_access for detail in details
    )


def _grant(device: Device, entry: Allocation) -> dict[str, int]:
    return {
        amount.name: amount.allocation.nanos for amount in entry.allocations if amount.name in device.shape.provides
    }
