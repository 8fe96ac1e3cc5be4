# SPDX-License-Identifier: Apache-2.0
"""What the service needs of a memory fabric.

A backend is asked in the fabric's own words: hosts and pool devices, not nodes and pools of a cluster. It is the
ledger: what `view` shows is what the hardware has, and everything else can be forgotten.

Rules of concurrency: the service calls `compose` and `release` one at a time for each tag, and one at a time for each
pool device; calls for different devices run at the same time, also for one host. It never cancels them, except when
the process ends; a process may be killed at any point, and what a call had done until then shows in the next `view`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from dynamic_memory.fabric.model import Attribute, Range

__all__ = ["Allocation", "Backend", "Changed", "Device", "DeviceKey", "Host", "Listener", "Order", "View"]

DeviceKey = tuple[str, str]
"""Fabric domain and name of a pool device."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A pool device: `total` bytes, handed out in multiples of `unit`."""

    domain: str
    name: str
    total: int
    unit: int
    healthy: bool = True
    why: str = ""
    attributes: dict[str, Attribute] = {}

    @property
    def key(self) -> DeviceKey:
        """What it is found by."""
        return (self.domain, self.name)


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host on the fabric: it maps `window` bytes at most, in `max_extents` extents at most, through `device`."""

    domain: str
    name: str
    device: str
    window: int
    max_extents: int
    healthy: bool = True
    why: str = ""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What `compose` is asked for; `size` is a positive multiple of the device's unit."""

    tag: str
    host: str
    domain: str
    device: str
    size: int

    @property
    def key(self) -> DeviceKey:
        """The pool device."""
        return (self.domain, self.device)


class Allocation(Order, frozen=True, kw_only=True):
    """An order with the extents that it got."""

    ranges: tuple[Range, ...]

    def difference(self, order: Order) -> str:
        """First field in which an order for the same tag differs; empty if it asks for exactly this."""
        fields = ("host", "domain", "device", "size")
        return next((field for field in fields if getattr(self, field) != getattr(order, field)), "")


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a fabric has, by key, by name and by tag. Read-only for the receiver."""

    devices: Mapping[DeviceKey, Device]
    hosts: Mapping[str, Host]
    allocations: Mapping[str, Allocation]


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """News of a backend: tags that appeared or went away, and whether devices or hosts changed."""

    tags: tuple[str, ...] = ()
    inventory: bool = False


Listener = Callable[[Changed], None]


class Backend(Protocol):
    """A memory fabric. All its failures are `FabricError`s."""

    @property
    def simulated(self) -> bool:
        """Whether no hardware is behind it."""
        ...

    async def open(self) -> None:
        """Find out what the fabric has.

        Raises:
            InvalidInput: the configuration does not match what is there.
            Unreachable: the fabric does not answer.

        """
        ...

    async def run(self) -> None:
        """Look after the fabric for ever: notice what changes by itself."""
        ...

    async def close(self) -> None:
        """Let go of the fabric."""
        ...

    async def refresh(self) -> None:
        """Make `view` at least as new as this call.

        Raises:
            Unreachable: the fabric does not answer.

        """
        ...

    def view(self) -> View:
        """What the fabric is known to have: only what would still be there after a crash of the service."""
        ...

    def subscribe(self, listener: Listener) -> None:
        """Have a function called after each change of `view`, whoever caused it; before the causing call returns."""
        ...

    async def compose(self, order: Order) -> Allocation:
        """Give a host memory of a device; the same order again is the same allocation.

        Raises:
            Exhausted: too few bytes on the device (`held` tells how many are taken).
            WindowFull: too much, or too many extents, for the host.
            DeviceDown: the device, or the path to the host.
            Conflicts: the tag is in use for something else.
            BackendFailure: could not be done; nothing is left behind.
            Unreachable: may or may not have been done.

        """
        ...

    async def release(self, tag: str) -> None:
        """Take the memory of a tag back from its host, whatever the host thinks of it; nothing to do if unknown.

        Raises:
            DeviceDown, BackendFailure: the host still has it.
            Unreachable: may or may not have been done.

        """
        ...
