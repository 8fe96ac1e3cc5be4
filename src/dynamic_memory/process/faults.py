# SPDX-License-Identifier: Apache-2.0
"""Fault points: named places at which a test can kill a role, as `kill -9` would.

"Survives kill -9 at any instruction" is a claim that only a process which really dies there can prove. A role declares
its points, right after each effect that outlives the process; with DYNAMIC_MEMORY_FAULT=role.point in its environment
(or role.point#3 for the third passing) it sends itself SIGKILL there. Without the variable a point is a dictionary
look-up.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

__all__ = ["VARIABLE", "declare", "names", "point"]

VARIABLE = "DYNAMIC_MEMORY_FAULT"

_declared: dict[str, tuple[str, ...]] = {}
_known: set[str] = set()
_passed: Counter[str] = Counter()


def declare(role: str, *points: str) -> None:
    """State the fault points of a role, in the order in which a claim passes them."""
    _declared[role] = tuple(f"{role}.{name}" for name in points)
    _known.update(_declared[role])


def names(role: str) -> tuple[str, ...]:
    """Return the full names of all points of a role, for tests that try each."""
    return _declared[role]


def point(name: str) -> None:
    """Die here if the environment says so.

    Raises:
        KeyError: the point was not declared, so no test would know of it.

    """
    if name not in _known:
        raise KeyError(name)
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    target, _, nth = wanted.partition("#")
    if target != name:
        return
    _passed[name] += 1
    if _passed[name] == int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)
