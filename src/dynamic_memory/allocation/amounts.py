# SPDX-License-Identifier: Apache-2.0
"""Quantities as the allocator needs them: a number, the text it is written back with, and an identity.

Kubernetes keeps the text of a quantity that was parsed, if it takes it for canonical, and writes that text again;
`1.500` stays `1.500`. And it compares the default of a policy not by value but by how it is held in memory: number,
scale, text. Both can be seen from outside, so both are followed here. Source: `resource.Quantity` of 1.37.
"""

from __future__ import annotations

import functools
import re

from dynamic_memory.api.wire import QuantityText
from dynamic_memory.quantity import Format, Quantity

__all__ = ["INT64_MAX", "NANO", "Amount", "canonical"]

NANO = 10**9
INT64_MAX = 2**63 - 1

_PARTS = re.compile(r"[+-]?0*(?P<whole>\d*)(?:\.(?P<fraction>\d*))?(?P<suffix>[^\d.].*)?", re.ASCII)
_EXPONENTS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_POWERS = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DIGITS = 18
_BINARY_DIGITS = 15
_SMALLEST = -9
_MILLI = NANO // 1000

Identity = tuple[int, int, str, Format]
"""Mantissa, scale, kept text and format."""


class Amount:
    """A quantity; immutable."""

    __slots__ = ("format", "identity", "nano", "text")

    def __init__(self, nano: int, text: str, form: Format, identity: Identity | None) -> None:
        self.nano = nano
        self.text = text
        self.format = form
        self.identity = identity
        """How Kubernetes holds it; None if as a big decimal, which equals nothing, not even a copy of itself."""

    @staticmethod
    def read(text: QuantityText) -> Amount:
        """Read a quantity.

        Raises:
            InvalidInput: it is none.

        """
        return _read(str(text).strip())


@functools.lru_cache(maxsize=65536)
def _read(text: str) -> Amount:
    quantity = Quantity.parse(text)
    identity = _identity(text, quantity.format)
    kept = identity[2] if identity is not None else ""
    return Amount(quantity.nanos, kept or str(quantity), quantity.format, identity)


def canonical(nano: int, form: Format) -> Amount:
    """Return a computed amount, in billionths and a multiple of a thousandth, written in canonical form."""
    whole, rest = divmod(nano, NANO)
    mantissa, scale = (nano // _MILLI, -3) if rest else (whole, 0)
    return Amount(nano, str(Quantity(nano, form)), form, (mantissa, scale, "", form))


def _identity(text: str, form: Format) -> Identity | None:
    if text == "0":
        return (0, 0, "0", Format.DECIMAL_SI)
    parts = _PARTS.fullmatch(text)
    if parts is None:
        return None
    whole, fraction, suffix = parts["whole"], parts["fraction"] or "", parts["suffix"] or ""
    if not whole and (fraction or suffix or "." in text):
        whole = "0"
    digits = (whole or "0") + fraction
    mantissa = int(digits)
    if form is Format.BINARY_SI:
        power = _POWERS[suffix]
        value = mantissa << power
        if fraction or _BINARY_DIGITS - len(digits) - power * 3 // 10 - 1 < 0 or value > INT64_MAX:
            return None
        scale, kept = 0, mantissa & 7 != 0
    else:
        exponent = _EXPONENTS[suffix] if form is Format.DECIMAL_SI else int(suffix[1:])
        scale, value = exponent - len(fraction), mantissa
        if len(digits) > _DIGITS or scale < _SMALLEST:
            return None
        kept = scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"
    return (-value if text.startswith("-") else value, scale, text if kept else "", form)
