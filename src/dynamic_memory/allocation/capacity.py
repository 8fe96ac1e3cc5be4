# SPDX-License-Identifier: Apache-2.0
"""What a request takes of the capacities of a device (KEP-5075).

The amount depends on the request and on the device's policies only, never on what is in use. So it is computed once for
each pair of *charge* (the capacities a request names) and device kind, and fitting is then one addition and comparison
a capacity. Amounts are exact integers in billionths, the smallest step that Kubernetes knows.

Upstream computes on stepped ranges in 64 bits; what does not fit there is an error and ends the search, because trying
device after device would only repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping

from dynamic_memory.allocation.amounts import INT64_MAX, NANO, Amount, canonical
from dynamic_memory.allocation.errors import CapacityUnusable
from dynamic_memory.api import resource

__all__ = ["Capacity", "Charge", "Taken", "read_capacities"]

_MILLI = NANO // 1000


class Capacity:
    """One capacity of a device kind, parsed."""

    __slots__ = ("default", "maximum", "minimum", "name", "ranged", "step", "value", "values")

    def __init__(self, name: str, spec: resource.DeviceCapacity) -> None:
        self.name = name
        self.value = Amount.read(spec.value)
        policy = spec.request_policy or resource.CapacityRequestPolicy()
        self.default = None if policy.default is None else Amount.read(policy.default)
        self.values = [Amount.read(text) for text in policy.valid_values]
        span = policy.valid_range
        self.ranged = span is not None
        self.minimum = None if span is None else Amount.read(span.min)
        self.maximum = None if span is None or span.max is None else Amount.read(span.max)
        self.step = None if span is None or span.step is None else Amount.read(span.step)

    def consumed(self, wanted: Amount | None, *, fractional: bool) -> Amount:
        """Round `wanted` to what the policy allows; nothing wanted means the default, or all of it.

        Raises:
            CapacityUnusable: the result is beyond 64 bits on a stepped range, or negative.

        """
        if wanted is None:
            amount = self.value if self.default is None else self.default
        elif self.minimum is not None:
            amount = self._rounded(wanted, fractional=fractional)
        elif self.values:
            amount = next((value for value in self.values if wanted.nano <= value.nano), wanted)
        else:
            amount = wanted
        if amount.nano < 0:
            raise CapacityUnusable(self.name, "it is negative")
        return amount

    def _rounded(self, wanted: Amount, *, fractional: bool) -> Amount:
        minimum, step = self.minimum, self.step
        if minimum is not None and wanted.nano < minimum.nano:
            return minimum
        if minimum is None or step is None:
            return wanted
        unit = _MILLI if fractional and self._in_milli() else NANO
        if wanted.nano > INT64_MAX * unit or (unit == _MILLI and wanted.nano % _MILLI):
            raise CapacityUnusable(self.name, f"request {wanted.text} does not fit into 64 bits")
        low, size = _ceil(minimum.nano, unit), _ceil(step.nano, unit)
        if size <= 0:
            raise CapacityUnusable(self.name, f"step {step.text} of its policy is not positive")
        count = -((low - _ceil(wanted.nano, unit)) // size)
        result = low + count * size
        if low >= 0 and result > INT64_MAX:
            raise CapacityUnusable(self.name, f"request {wanted.text}, rounded up, does not fit into 64 bits")
        return canonical(result * unit, step.format)

    def allows(self, amount: Amount, *, fractional: bool) -> bool:
        """Tell whether the policy lets this much be taken; the default may always be taken as it stands."""
        if self.default is not None and amount.identity is not None and amount.identity == self.default.identity:
            return True
        if self.ranged:
            return self._in_range(amount, fractional=fractional)
        return not self.values or any(amount.nano == value.nano for value in self.values)

    def _in_range(self, amount: Amount, *, fractional: bool) -> bool:
        if self.maximum is not None and amount.nano > self.maximum.nano:
            return False
        if self.step is None or self.minimum is None:
            return True
        unit = _MILLI if fractional and self._in_milli() else NANO
        if unit == _MILLI and not _exact_milli(amount):
            return False
        size = _ceil(self.step.nano, unit)
        return size != 0 and (_ceil(amount.nano, unit) - _ceil(self.minimum.nano, unit)) % size == 0

    def _in_milli(self) -> bool:
        given = [amount for amount in (self.minimum, self.maximum, self.step) if amount is not None]
        return all(_exact_milli(amount) for amount in given) and (self.step is None or self.step.nano >= _MILLI)


def _exact_milli(amount: Amount) -> bool:
    return amount.nano % _MILLI == 0 and abs(amount.nano) // _MILLI <= INT64_MAX


def _ceil(nano: int, unit: int) -> int:
    """Convert to whole units, away from zero."""
    return -(-nano // unit) if nano >= 0 else nano // unit


def read_capacities(spec: Mapping[str, resource.DeviceCapacity]) -> dict[str, Capacity]:
    """Parse all capacities of a device.

    Raises:
        InvalidInput: a quantity is none.

    """
    return {name: Capacity(name, entry) for name, entry in spec.items()}


class Taken:
    """What a charge takes of a device kind: the amounts, and what may be in use at most for it to fit."""

    __slots__ = ("amounts", "ceilings", "fits_empty")

    def __init__(self, amounts: dict[str, Amount], capacities: Mapping[str, Capacity]) -> None:
        self.amounts = amounts
        self.ceilings = tuple((name, capacities[name].value.nano - amount.nano) for name, amount in amounts.items())
        self.fits_empty = all(ceiling >= 0 for _, ceiling in self.ceilings)

    def fits(self, used: Mapping[str, int]) -> bool:
        """Tell whether there is room beside `used` (billionths by capacity)."""
        return all(used.get(name, 0) <= ceiling for name, ceiling in self.ceilings)


class Charge:
    """The capacities that a request names; equal ones are one object with one number (see `matching`)."""

    __slots__ = ("_fractional", "number", "requests")

    def __init__(self, number: int, requests: Mapping[str, Amount], *, fractional: bool) -> None:
        self.number = number
        self.requests = requests
        self._fractional = fractional

    def of(self, capacities: Mapping[str, Capacity]) -> Taken | None:
        """Return what is taken of a device with these capacities; None if the device cannot serve the request.

        Raises:
            CapacityUnusable: the request cannot be computed with; checked for all capacities before any refusal.

        """
        if any(name not in capacities for name in self.requests):
            return None
        fractional = self._fractional
        amounts = {
            name: capacity.consumed(self.requests.get(name), fractional=fractional)
            for name, capacity in capacities.items()
        }
        if not all(capacities[name].allows(amount, fractional=fractional) for name, amount in amounts.items()):
            return None
        return Taken(amounts, capacities)
