# SPDX-License-Identifier: Apache-2.0
"""Timestamps and durations: their texts and their parts.

Time zones are UTC or a fixed offset (`+02:00`): names of places would need the machine's time-zone files, which an
expression's result must not depend on. Source: CEL specification, "Timestamp and duration"; Go's time.ParseDuration.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from dynamic_memory.cel.errors import Fault
from dynamic_memory.cel.functions.signature import declare
from dynamic_memory.cel.values import INT_MAX, Duration, Timestamp, to_datetime

__all__ = ["OVERLOADS", "format_duration", "format_timestamp", "parse_duration", "parse_timestamp"]

_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_TIMESTAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_OFFSET = re.compile(r"([+-]?)(\d\d):(\d\d)", re.ASCII)


def parse_duration(text: str) -> Duration:
    """Read a duration such as 1h30m or -1.5s."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return Duration(0)
    total, at = 0, 0
    while part := _PART.match(rest, at):
        number = part[1].rstrip(".")
        total += int(Fraction(f"0{number}" if number.startswith(".") else number) * _UNITS[part[2]])
        at = part.end()
    if not rest or at < len(rest) or total > INT_MAX:
        raise Fault(f'time: invalid duration "{text}"')
    return Duration(sign * total)


def format_duration(value: Duration) -> str:
    """Return seconds with as many decimals as needed: 1.5s."""
    seconds, nanos = divmod(abs(value.nanos), 10**9)
    decimals = f".{nanos:09}".rstrip("0").rstrip(".")
    return f"{'-' if value.nanos < 0 else ''}{seconds}{decimals}s"


def parse_timestamp(text: str) -> Timestamp:
    """Read a timestamp of RFC 3339."""
    match = _TIMESTAMP.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)  # noqa: TRY301 - joins the failures of the parser beneath
        zone = "+00:00" if match[8] == "Z" else match[8]
        moment = dt.datetime.fromisoformat(f"{text[:19]}{zone}")
        seconds = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(seconds=1)
    except (ValueError, OverflowError):
        raise Fault(f'parsing time "{text}" as RFC 3339') from None
    return Timestamp(seconds * 10**9 + int((match[7] or "").ljust(9, "0")))


def format_timestamp(value: Timestamp) -> str:
    """Return RFC 3339 in UTC with as many decimals as needed."""
    nanos = value.nanos % 10**9
    decimals = f".{nanos:09}".rstrip("0") if nanos else ""
    return (
        f"{to_datetime(value).strftime('%Y').rjust(4, '0')}{to_datetime(value).strftime('-%m-%dT%H:%M:%S')}{decimals}Z"
    )


def _zone(name: str) -> dt.tzinfo:
    match = _OFFSET.fullmatch(name)
    if match:
        minutes = int(match[2]) * 60 + int(match[3])
        if minutes < 24 * 60:
            return dt.timezone(dt.timedelta(minutes=-minutes if match[1] == "-" else minutes))
    if name in ("UTC", "", "Etc/UTC", "Z"):
        return dt.UTC
    raise Fault(f"unknown time zone {name}")


def _part(read: Callable[[dt.datetime], int]) -> Callable[..., int]:
    def call(value: Timestamp, zone: str = "UTC") -> int:
        try:
            return read(to_datetime(value).astimezone(_zone(zone)))
        except OverflowError:
            raise Fault("timestamp out of range") from None

    return call


_PARTS: dict[str, Callable[[dt.datetime], int]] = {
    "getFullYear": lambda d: d.year,
    "getMonth": lambda d: d.month - 1,
    "getDayOfYear": lambda d: d.timetuple().tm_yday - 1,
    "getDayOfMonth": lambda d: d.day - 1,
    "getDate": lambda d: d.day,
    "getDayOfWeek": lambda d: d.isoweekday() % 7,
    "getHours": lambda d: d.hour,
    "getMinutes": lambda d: d.minute,
    "getSeconds": lambda d: d.second,
    "getMilliseconds": lambda d: d.microsecond // 1000,
}


def _whole(nanos: int) -> Callable[[Duration], int]:
    return lambda value: abs(value.nanos) // nanos * (1 if value.nanos >= 0 else -1)


_rows: list[tuple[str, str, Any]] = []
for _name, _read in _PARTS.items():
    _rows.append((f"timestamp_{_name}", f"timestamp.{_name}() -> int", _part(_read)))
    _rows.append((f"timestamp_{_name}_zone", f"timestamp.{_name}(string) -> int", _part(_read)))
_rows += [
    ("duration_hours", "duration.getHours() -> int", _whole(3600 * 10**9)),
    ("duration_minutes", "duration.getMinutes() -> int", _whole(60 * 10**9)),
    ("duration_seconds", "duration.getSeconds() -> int", _whole(10**9)),
    (
        "duration_milliseconds",
        "duration.getMilliseconds() -> int",
        lambda d: _whole(10**6)(Duration(d.nanos)) % 1000 if d.nanos >= 0 else -(-d.nanos // 10**6 % 1000),
    ),
]
OVERLOADS = declare(_rows)
