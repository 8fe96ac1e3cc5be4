# SPDX-License-Identifier: Apache-2.0
"""The solver: goals met one after the other, with a way back.

What all generations of the prototype have in common is the shape of the problem: a list of goals in order, each with
options in order, and state that an option changes. A goal yields its options lazily; whatever it changes before it
yields, it changes back when it is asked for the next. So the solver knows nothing of devices, and a goal nothing of the
others. The first full solution wins, which makes the answer the same on every run.

The effort of the worst case is exponential: every option, here or within a goal, is a step of a `Budget`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from dynamic_memory.allocation.prototype.errors import SearchTooLong

__all__ = ["STEPS", "Budget", "Solution", "solve"]

T = TypeVar("T")

STEPS = 200_000
"""Steps that a search on one node may take: some seconds at most."""

Goal = Callable[[], Iterator[T]]


class Budget:
    """Counts steps, and ends a search that takes too many."""

    __slots__ = ("_limit", "_node", "used")

    def __init__(self, node: str, limit: int = STEPS) -> None:
        self._node = node
        self._limit = limit
        self.used = 0

    def step(self) -> None:
        """Count one step.

        Raises:
            SearchTooLong: it was one too many.

        """
        self.used += 1
        if self.used > self._limit:
            raise SearchTooLong(self._node, self._limit)


class Solution(Generic[T]):
    """How a search ended.

    Attributes:
        chosen: one option for each goal; None if there is no solution.
        deepest: the first goal that was never met, counted from 0; the number of goals if all were.

    """

    __slots__ = ("_open", "chosen", "deepest")

    def __init__(self, chosen: list[T] | None, deepest: int, open_: Sequence[Iterator[T]]) -> None:
        self.chosen = chosen
        self.deepest = deepest
        # The goals' state is that of the solution for as long as their iterators wait.
        self._open = open_


def solve(goals: Sequence[Goal[T]], budget: Budget) -> Solution[T]:
    """Meet all goals, or find that it cannot be done.

    Raises:
        SearchTooLong: there are too many ways to try.

    """
    chosen: list[T] = []
    deepest = 0
    if not goals:
        return Solution(chosen, 0, ())
    open_ = [goals[0]()]
    while open_:
        try:
            option = next(open_[-1])
        except StopIteration:
            open_.pop()
            if chosen:
                chosen.pop()
            continue
        budget.step()
        chosen.append(option)
        deepest = max(deepest, len(chosen))
        if len(chosen) == len(goals):
            return Solution(chosen, deepest, open_)
        open_.append(goals[len(chosen)]())
    return Solution(None, deepest, ())
