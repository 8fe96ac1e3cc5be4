# SPDX-License-Identifier: Apache-2.0
"""Time, in one place: what roles sleep on and how they write dates.

Everything that waits does so on the event loop's clock, which tests replace by a virtual one; wall time is read only to
write it down, never to measure with.
"""

from __future__ import annotations

import asyncio
import datetime as dt

__all__ = ["monotonic", "now", "parse_rfc3339", "rfc3339", "rfc3339_micro", "sleep"]


async def sleep(seconds: float) -> None:
    """Sleep on the event loop's clock; cancelled at once when the role stops."""
    await asyncio.sleep(seconds)  # noqa: TID251 - this is the one place that may


def monotonic() -> float:
    """Return seconds on the event loop's clock, for measuring."""
    return asyncio.get_running_loop().time()


def now() -> dt.datetime:
    """Return the wall time, in UTC, for writing down."""
    return dt.datetime.now(dt.UTC)


def rfc3339(moment: dt.datetime) -> str:
    """Return a time as `metav1.Time` has it: seconds, Z."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: dt.datetime) -> str:
    """Return a time as `metav1.MicroTime` has it: microseconds, Z."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> dt.datetime:
    """Return the time that an API object states.

    Raises:
        ValueError: the text is not an RFC 3339 time.

    """
    return dt.datetime.fromisoformat(text)
