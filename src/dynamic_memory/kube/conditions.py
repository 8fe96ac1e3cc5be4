# SPDX-License-Identifier: Apache-2.0
"""Conditions: one entry a type, whose transition time moves only when its status does (API conventions). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from dynamic_memory.api.meta import Condition

__all__ = ["find", "merge"]

MAX_MESSAGE = 32768


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """Return the condition of a type, or None."""
    return next((condition for condition in conditions if condition.type == type_), None)


def merge(conditions: Sequence[Condition], new: Condition, now: str) -> list[Condition]:
    """Return the conditions with `new` in them.

    Args:
        conditions: what is there.
        new: the condition to state; its transition time is not looked at.
        now: RFC 3339 time to write if the status changes.

    """
    old = find(conditions, new.type)
    unchanged = old is not None and old.status == new.status and old.last_transition_time
    since = old.last_transition_time if old is not None and unchanged else now
    stated = msgspec.structs.replace(new, last_transition_time=since, message=new.message[:MAX_MESSAGE])
    if old is None:
        return [*conditions, stated]
    return [stated if condition.type == new.type else condition for condition in conditions]
