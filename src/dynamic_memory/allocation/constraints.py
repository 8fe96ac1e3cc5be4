# SPDX-License-Identifier: Apache-2.0
"""Constraints over the devices of a claim, kept up to date while devices come and go in the search.

An attribute is compared by its *elements*: type and value, so that 1 and true differ. With list attributes enabled a
value counts as the set of its elements: devices match if they have an element in common, and differ if they have none.
Without, only scalars are comparable.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamic_memory.allocation.demand import Link, Want
from dynamic_memory.allocation.devices import Device
from dynamic_memory.api import resource

__all__ = ["Constraint", "Element", "elements_of", "find_attribute"]

Element = tuple[str, object]
"""Type and value of a scalar, or of one entry of a list."""

Lookup = Callable[[Want, Device, str], resource.DeviceAttribute | None]

_SCALARS = (("string", "string"), ("int", "int_"), ("bool", "bool_"), ("version", "version"))
_LISTS = (("int", "ints"), ("bool", "bools"), ("string", "strings"), ("version", "versions"))


def find_attribute(device: Device, name: str) -> resource.DeviceAttribute | None:
    """Find a published attribute by its full name; the driver may leave out its own domain."""
    attributes = device.kind.attributes
    found = attributes.get(name)
    if found is None:
        domain, slash, short = name.partition("/")
        if slash and domain == device.kind.driver:
            found = attributes.get(short)
    return found


def elements_of(attribute: resource.DeviceAttribute, *, lists: bool) -> frozenset[Element]:
    """Return the elements of a value; none if its type is not known (or not enabled)."""
    if lists:
        for type_, field in _LISTS:
            if values := getattr(attribute, field):
                return frozenset((type_, value) for value in values)
    for type_, field in _SCALARS:
        value = getattr(attribute, field)
        if value is not None:
            return frozenset(((type_, value),))
    return frozenset()


class Constraint:
    """One constraint of a claim during a search.

    Monotonic: once a device cannot be added, none can be added that would change that.
    """

    __slots__ = ("_find", "_link", "_lists", "_stack")

    def __init__(self, link: Link, find: Lookup, *, lists: bool) -> None:
        self._link = link
        self._find = find
        self._lists = lists
        self._stack: list[frozenset[Element]] = []

    @property
    def attribute(self) -> str:
        """Full name of the attribute."""
        return self._link.attribute

    def binds(self, want: Want) -> bool:
        """Tell whether the devices of a want count."""
        return want.named_in(self._link.requests)

    def add(self, want: Want, device: Device) -> bool:
        """Take a device in, unless it breaks the constraint.

        Raises:
            InvalidRequest: a derived attribute cannot be computed.

        """
        attribute = self._find(want, device, self._link.attribute)
        if attribute is None:
            return False
        own = elements_of(attribute, lists=self._lists)
        stack = self._stack
        if not own and (self._lists or stack):
            # Without list attributes, a first device is not looked at closely.
            return False
        if self._link.distinct:
            if any(not own.isdisjoint(other) for other in stack):
                return False
            stack.append(own)
            return True
        if stack:
            own = own & stack[-1]
            if not own:
                return False
        stack.append(own)
        return True

    def remove(self) -> None:
        """Take the device that was added last out again."""
        self._stack.pop()
