# SPDX-License-Identifier: Apache-2.0
"""Exponential back-off with jitter: how long to wait before the next try.

Jitter keeps a hundred nodes that lost the same server from coming back in one instant.
"""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """A growing sequence of waits, in seconds; `reset` after a success.

    Args:
        initial: first wait.
        maximum: no wait is longer, jitter included.
        factor: growth from wait to wait.
        jitter: each wait is changed by up to this share, up or down.
        rng: source of chance; tests pass a seeded one.

    """

    def __init__(
        self,
        initial: float = 0.1,
        maximum: float = 30.0,
        factor: float = 2.0,
        jitter: float = 0.2,
        rng: random.Random | None = None,
    ) -> None:
        self._initial = initial
        self._maximum = maximum
        self._factor = factor
        self._jitter = jitter
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, hides nothing
        self._next = initial

    def next(self) -> float:
        """Return the next wait and grow the one after."""
        wait = self._next
        self._next = min(self._maximum, self._next * self._factor)
        return min(self._maximum, wait * self._rng.uniform(1 - self._jitter, 1 + self._jitter))

    def reset(self) -> None:
        """Start from the first wait again."""
        self._next = self._initial
