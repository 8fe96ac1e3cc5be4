# SPDX-License-Identifier: Apache-2.0
"""Ages as kubectl shows them: two or three significant figures (`95s`, `4m10s`, `7h5m`, `2d3h`, `2y112d`).

The limits are those of `duration.HumanDuration` in k8s.io/apimachinery.
"""

from __future__ import annotations

import datetime as dt

__all__ = ["human_duration", "since"]

MINUTE = 60
HOUR = 60
DAY = 24
YEAR = 365
TOLERATED = -1  # seconds into the future that count as now: clocks of two machines differ


def human_duration(seconds: float) -> str:  # noqa: PLR0911 - one return for each range
    """Return a duration for a human's eye; a negative one is `<invalid>`."""
    whole = int(seconds)
    if whole < TOLERATED:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 2 * MINUTE:
        return f"{whole}s"
    minutes = whole // MINUTE
    if minutes < 3 * HOUR:
        return _two(minutes, "m", whole % MINUTE if minutes < 10 else 0, "s")  # noqa: PLR2004 - limits of the source
    hours = minutes // HOUR
    if hours < 2 * DAY:
        return _two(hours, "h", minutes % HOUR if hours < 8 else 0, "m")  # noqa: PLR2004 - the same
    days = hours // DAY
    if days < 2 * YEAR:
        return _two(days, "d", hours % DAY if days < 8 else 0, "h")  # noqa: PLR2004 - the same
    years = days // YEAR
    return _two(years, "y", days % YEAR if years < 8 else 0, "d")  # noqa: PLR2004 - the same


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit}{small}{small_unit}" if small else f"{large}{unit}"


def since(moment: object, now: dt.datetime) -> str:
    """Return the time between an RFC 3339 text and now; `<unknown>` when there is none."""
    if not isinstance(moment, str) or not moment:
        return "<unknown>"
    try:
        then = dt.datetime.fromisoformat(moment)
    except ValueError:
        return "<unknown>"
    if then.tzinfo is None:
        return "<unknown>"
    return human_duration((now - then).total_seconds())
