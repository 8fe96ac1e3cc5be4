# SPDX-License-Identifier: Apache-2.0
"""How much memory a simulated container uses: functions of its age, written in an annotation. Pure.

    100Mi                           always
    ramp 100Mi..2Gi 60s             from the first to the second in that time, then there
    sine 100Mi..1Gi 30s             up and down again, beginning below, once in that time
    steps 100Mi 10s, 1Gi 5s, 200Mi  one after the other; the last one stays
    …; cache 300Mi                  and so much page cache, which goes when memory is short

Each curve can also say when it next rises above a limit, so nobody has to look every so often: an OOM kill is a timer.
"""

from __future__ import annotations

import bisect
import itertools
import math
import re
from typing import Protocol

import msgspec

from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import parse_bytes

__all__ = ["ANNOTATION", "Curve", "Flat", "Model", "Ramp", "Reading", "Sine", "Steps", "parse", "parse_seconds"]

ANNOTATION = "simulation.dynamicmemory.dev/memory"
GRAMMAR = "a size, `ramp A..B T`, `sine A..B T` or `steps A T, B T, C`, and maybe `; cache SIZE`"
PRESSURE_SPAN = 0.1
"""A squeeze of a tenth of the limit is full pressure."""
_RANGE = re.compile(r"(?P<kind>ramp|sine)\s+(?P<low>\S+?)\.\.(?P<high>\S+)\s+(?P<seconds>\S+)")
_SECONDS = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


class Curve(Protocol):
    """Bytes by age, in seconds."""

    def at(self, age: float) -> int:
        """Return the bytes at an age."""
        ...

    def above(self, limit: int, age: float) -> float | None:
        """Return the first age, from `age` on, at which there are more bytes than `limit`; None if never."""
        ...


class Flat(msgspec.Struct, frozen=True):
    """Always the same."""

    size: int

    def at(self, age: float) -> int:
        """See `Curve`."""
        del age
        return self.size

    def above(self, limit: int, age: float) -> float | None:
        """See `Curve`."""
        return age if self.size > limit else None


class Ramp(msgspec.Struct, frozen=True):
    """From `low` to `high` in `seconds`, and there it stays; it may also go down."""

    low: int
    high: int
    seconds: float

    def at(self, age: float) -> int:
        """See `Curve`."""
        return round(self.low + (self.high - self.low) * min(1.0, max(0.0, age) / self.seconds))

    def above(self, limit: int, age: float) -> float | None:
        """See `Curve`."""
        if self.at(age) > limit:
            return age
        if self.high <= limit or self.high <= self.low or age >= self.seconds:
            return None
        # the first whole byte above the limit, after rounding
        return max(age, (limit + 1 - self.low) / (self.high - self.low) * self.seconds)


class Sine(msgspec.Struct, frozen=True):
    """From `low` to `high` and back, once in `seconds`."""

    low: int
    high: int
    seconds: float

    def at(self, age: float) -> int:
        """See `Curve`."""
        part = (1 - math.cos(2 * math.pi * age / self.seconds)) / 2
        return round(self.low + (self.high - self.low) * part)

    def above(self, limit: int, age: float) -> float | None:
        """See `Curve`."""
        if self.at(age) > limit:
            return age
        if max(self.low, self.high) <= limit:
            return None
        share = (limit + 1 - self.low) / (self.high - self.low)
        phase = math.acos(1 - 2 * min(1.0, max(0.0, share))) / (2 * math.pi) * self.seconds
        turn = math.floor(age / self.seconds) * self.seconds
        # it rises through the limit at `phase` of each turn; a curve that begins above falls, and rises mirrored
        crossings = (turn + offset for offset in (phase, self.seconds - phase, self.seconds + phase))
        return next((each for each in crossings if each >= age and self.at(each + self.seconds * 1e-6) > limit), None)


class Steps(msgspec.Struct, frozen=True):
    """One size after the other; `starts` are the ages at which they begin, the first one 0."""

    starts: tuple[float, ...]
    sizes: tuple[int, ...]

    def at(self, age: float) -> int:
        """See `Curve`."""
        return self.sizes[max(0, bisect.bisect_right(self.starts, age) - 1)]

    def above(self, limit: int, age: float) -> float | None:
        """See `Curve`."""
        if self.at(age) > limit:
            return age
        later = (start for start, size in zip(self.starts, self.sizes, strict=True) if start >= age and size > limit)
        return next(later, None)


class Reading(msgspec.Struct, frozen=True):
    """What there is at a moment.

    Attributes:
        anonymous: bytes that cannot be dropped.
        cache: bytes of page cache that fit.
        pressure: of memory, in percent of time, as `some avg10` of PSI would show it. An estimate.

    """

    anonymous: int
    cache: int
    pressure: float

    @property
    def current(self) -> int:
        """`memory.current`."""
        return self.anonymous + self.cache


class Model(msgspec.Struct, frozen=True):
    """The memory of one container.

    Attributes:
        curve: what cannot be dropped.
        cache: page cache that it would like to have, bytes.

    """

    curve: Curve
    cache: int = 0

    def read(self, age: float, limit: int | None) -> Reading:
        """Return what there is at an age under a limit."""
        anonymous = self.curve.at(age)
        if limit is None:
            return Reading(anonymous, self.cache, 0.0)
        anonymous = min(anonymous, limit)
        cache = min(self.cache, limit - anonymous)
        squeezed = self.cache - cache
        pressure = min(100.0, 100.0 * squeezed / (PRESSURE_SPAN * limit)) if limit else 0.0
        return Reading(anonymous, cache, round(pressure, 2))


def parse(text: str) -> Model:
    """Return the model that an annotation describes.

    Raises:
        InvalidInput: it is none.

    """
    usage, *others = (part.strip() for part in text.split(";"))
    cache = 0
    for part in others:
        word, _, size = part.partition(" ")
        if word != "cache":
            raise InvalidInput(ANNOTATION, GRAMMAR, text)
        cache = _size(size.strip(), text)
    return Model(_curve(usage, text), cache)


def _curve(usage: str, text: str) -> Curve:
    if match := _RANGE.fullmatch(usage):
        low, high = _size(match["low"], text), _size(match["high"], text)
        seconds = parse_seconds(match["seconds"])
        if not seconds:
            raise InvalidInput(ANNOTATION, "a time of more than 0, such as 60s", text)
        return (Ramp if match["kind"] == "ramp" else Sine)(low, high, seconds)
    if usage.startswith("steps "):
        return _steps(usage.removeprefix("steps "), text)
    return Flat(_size(usage, text))


def _steps(usage: str, text: str) -> Steps:
    parts = [part.split() for part in usage.split(",")]
    if any(len(part) != 2 for part in parts[:-1]) or len(parts[-1]) not in {1, 2}:  # noqa: PLR2004 - size and time
        raise InvalidInput(ANNOTATION, GRAMMAR, text)
    spans = [parse_seconds(part[1]) for part in parts[:-1]]
    if not all(spans):
        raise InvalidInput(ANNOTATION, "steps with times of more than 0", text)
    starts = tuple(itertools.accumulate((span or 0.0 for span in spans), initial=0.0))
    return Steps(starts, tuple(_size(part[0], text) for part in parts))


def _size(size: str, text: str) -> int:
    try:
        number = parse_bytes(size)
    except InvalidInput:
        raise InvalidInput(ANNOTATION, GRAMMAR, text) from None
    if number < 0:
        raise InvalidInput(ANNOTATION, "sizes that are not negative", text)
    return number


def parse_seconds(text: str) -> float | None:
    """Return the seconds of `1.5`, `30s`, `2m`; None if it is no time."""
    match = _SECONDS.fullmatch(text)
    return float(match["number"]) * _UNITS[match["unit"]] if match else None
