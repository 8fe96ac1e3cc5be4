# SPDX-License-Identifier: Apache-2.0
"""Exact Kubernetes quantities: `512Mi`, `1.5`, `100m`, `2e3`.

A quantity is a number of billionths, held as an integer, and the family of suffixes it was written with, because that
decides how it is printed. Source: `resource.Quantity` of Kubernetes' apimachinery, whose rules are followed to the
letter (as of 1.37): a number without digits is 0; what is finer than a billionth is rounded up, away from zero; what is
written with a binary suffix and larger than 2^63 - 1 is cut to that; the canonical form has no fraction and the largest
suffix that allows it, and a binary one that would need a fraction is printed as a decimal.
"""

from __future__ import annotations

import enum
import functools
import re
from fractions import Fraction

from dynamic_memory.errors import InvalidInput

__all__ = ["Format", "Quantity", "format_bytes", "parse_bytes"]

NANO = 10**9
LARGEST = 2**63 - 1
MAX_TEXT = 1024
MAX_EXPONENT = 2 * MAX_TEXT
_TEXT = re.compile(
    r"(?P<sign>[+-]?)(?P<digits>\d*\.?\d*)(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE](?P<exponent>[+-]?\d+))?",
    re.ASCII,
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_SUFFIX = {0: "", **{exponent: suffix for suffix, exponent in _BINARY.items()}}


class Format(enum.Enum):
    """The family of suffixes that a quantity is printed with."""

    BINARY_SI = "BinarySI"
    DECIMAL_SI = "DecimalSI"
    DECIMAL_EXPONENT = "DecimalExponent"


@functools.total_ordering
class Quantity:
    """A quantity: immutable, equal and ordered by value, whatever its format."""

    __slots__ = ("_format", "_nanos", "_whole")

    def __init__(self, nanos: int, form: Format = Format.DECIMAL_SI, *, whole: bool = True) -> None:
        self._nanos = nanos
        self._format = form
        self._whole = whole

    @classmethod
    def parse(cls, text: str | int) -> Quantity:
        """Read a quantity as it stands in JSON or YAML.

        Raises:
            InvalidInput: the text is not a quantity.

        """
        if isinstance(text, int) and not isinstance(text, bool):
            return cls(text * NANO)
        if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
            raise InvalidInput("quantity", "a quantity such as 512Mi, 1.5 or 100m", text)
        return cls._read(text)

    # the same few stand in every object, and are read again with each of its changes
    @classmethod
    @functools.lru_cache(maxsize=4096)
    def _read(cls, text: str) -> Quantity:
        match = _TEXT.fullmatch(text)
        if match is None:
            raise InvalidInput("quantity", "a quantity such as 512Mi, 1.5 or 100m", text)
        suffix = match["suffix"] or ""
        if match["exponent"] is not None:
            form, exponent = Format.DECIMAL_EXPONENT, int(match["exponent"])
            if exponent > MAX_EXPONENT:
                raise InvalidInput("quantity", f"an exponent of at most {MAX_EXPONENT}", text)
            factor = Fraction(10) ** max(-MAX_EXPONENT, exponent)
        elif suffix in _BINARY:
            form, factor = Format.BINARY_SI, Fraction(2 ** _BINARY[suffix])
        else:
            form, factor = Format.DECIMAL_SI, Fraction(10) ** _DECIMAL[suffix]
        digits = match["digits"]
        exact = Fraction(f"0{digits}".rstrip(".")) * factor
        nanos = _ceiling(exact * NANO)
        if form is Format.BINARY_SI:
            nanos = min(nanos, LARGEST * NANO)
        whole = not digits.partition(".")[2] and (factor.denominator == 1)
        return cls(-nanos if match["sign"] == "-" else nanos, form, whole=whole)

    @classmethod
    def of_bytes(cls, count: int, *, binary: bool = True) -> Quantity:
        """Return a whole number of bytes, printed with Ki, Mi, … (or k, M, …)."""
        return cls(count * NANO, Format.BINARY_SI if binary else Format.DECIMAL_SI)

    @property
    def format(self) -> Format:
        """The family of suffixes it is printed with."""
        return self._format

    @property
    def nanos(self) -> int:
        """The value in billionths, exact."""
        return self._nanos

    @property
    def is_whole(self) -> bool:
        """Whether it was written without a fraction."""
        return self._whole

    @property
    def is_int64(self) -> bool:
        """Whether apimachinery holds it as a whole number of 64 bits: not if it was written with a fraction (1.0)."""
        return self._whole and not self._nanos % NANO and -LARGEST - 1 <= self._nanos // NANO <= LARGEST

    @property
    def sign(self) -> int:
        """-1, 0 or 1."""
        return (self._nanos > 0) - (self._nanos < 0)

    def value(self) -> int:
        """Return the value as an integer, rounded up away from zero."""
        return self._scaled(NANO)

    def milli_value(self) -> int:
        """Return the value in thousandths, rounded up away from zero."""
        return self._scaled(NANO // 1000)

    def as_fraction(self) -> Fraction:
        """Return the exact value."""
        return Fraction(self._nanos, NANO)

    def round_up(self, exponent: int) -> Quantity:
        """Return the value rounded up, away from zero, to a multiple of 10 to the `exponent` (-9 to 18)."""
        step = 10 ** (exponent + 9)
        return Quantity(self._scaled(step) * step, self._format)

    def is_zero(self) -> bool:
        """Tell whether the value is 0."""
        return not self._nanos

    def _scaled(self, step: int) -> int:
        return -(-self._nanos // step) if self._nanos >= 0 else self._nanos // step

    def __str__(self) -> str:
        if not self._nanos:
            return "0"
        if self._format is Format.BINARY_SI and abs(self._nanos) >= 1024 * NANO and self._nanos % NANO == 0:
            mantissa, exponent = self.value(), 0
            while mantissa % 1024 == 0 and exponent + 10 in _BINARY_SUFFIX:
                mantissa, exponent = mantissa // 1024, exponent + 10
            return f"{mantissa}{_BINARY_SUFFIX[exponent]}"
        mantissa, exponent = self._nanos, -9
        is_exponent = self._format is Format.DECIMAL_EXPONENT
        while mantissa % 1000 == 0 and (is_exponent or exponent + 3 in _DECIMAL_SUFFIX):
            mantissa, exponent = mantissa // 1000, exponent + 3
        if is_exponent:
            return f"{mantissa}e{exponent}" if exponent else str(mantissa)
        return f"{mantissa}{_DECIMAL_SUFFIX[exponent]}"

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __hash__(self) -> int:
        return hash(Fraction(self._nanos, NANO))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Quantity):
            return self._nanos == other._nanos
        return self._nanos == other * NANO if isinstance(other, int) else NotImplemented

    def __lt__(self, other: Quantity | int) -> bool:
        return self._nanos < (other._nanos if isinstance(other, Quantity) else other * NANO)

    def __add__(self, other: Quantity | int) -> Quantity:
        return Quantity(self._nanos + _nanos(other), self._common(other), whole=self._both_whole(other))

    def __sub__(self, other: Quantity | int) -> Quantity:
        return Quantity(self._nanos - _nanos(other), self._common(other), whole=self._both_whole(other))

    def __mul__(self, factor: int) -> Quantity:
        return Quantity(self._nanos * factor, self._format, whole=self._whole)

    def __neg__(self) -> Quantity:
        return Quantity(-self._nanos, self._format, whole=self._whole)

    def __bool__(self) -> bool:
        return bool(self._nanos)

    def _both_whole(self, other: Quantity | int) -> bool:
        return self._whole and (not isinstance(other, Quantity) or other.is_whole)

    def _common(self, other: Quantity | int) -> Format:
        """Zero takes the format of what is added to it, as in apimachinery."""
        return other.format if not self._nanos and isinstance(other, Quantity) else self._format


def parse_bytes(text: str | int) -> int:
    """Return the value of a quantity in whole units, rounded up.

    Raises:
        InvalidInput: the text is not a quantity.

    """
    return Quantity.parse(text).value()


def format_bytes(count: int) -> str:
    """Return a number of bytes in its canonical binary form: 1Gi, 512Mi, 1536Mi."""
    return str(Quantity.of_bytes(count))


def _nanos(value: Quantity | int) -> int:
    return value.nanos if isinstance(value, Quantity) else value * NANO


def _ceiling(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
