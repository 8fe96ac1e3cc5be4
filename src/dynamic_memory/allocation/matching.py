# SPDX-License-Identifier: Apache-2.0
"""Which kinds of device do the selectors of a request let through?

A *shape* is a list of selectors: those of the class, then those of the request. Most requests of a cluster have one
of a few shapes, and a shape's answer for a kind of device never changes, so it is kept with the kind. A selector that
fails is an answer too (a `Fault`): upstream treats the failure as fatal, but only when the search reaches the device.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from dynamic_memory.allocation.amounts import Amount
from dynamic_memory.allocation.capacity import Charge, Taken
from dynamic_memory.allocation.devices import Kind
from dynamic_memory.allocation.errors import CapacityUnusable, SelectorFailed
from dynamic_memory.api import resource
from dynamic_memory.api.wire import QuantityText

__all__ = ["Fault", "Matcher", "SelectorProblem", "Selectors", "Shape", "taken"]

_KEPT = 1024
_KEPT_WITH_KIND = 4096

V = TypeVar("V")


class SelectorProblem(Exception):
    """A selector that cannot be evaluated.

    Args:
        text: what the expression language says.
        compiling: the expression itself is wrong, not its application to a device.

    """

    def __init__(self, text: str, *, compiling: bool) -> None:
        self.text = text
        self.compiling = compiling
        super().__init__(text)


class Selectors(Protocol):
    """The expression language, as the allocator needs it."""

    def evaluate(self, expression: str, kind: Kind) -> bool:
        """Apply a selector to a device.

        Raises:
            SelectorProblem: it does not compile, or fails on the device.

        """

    def derive(self, expression: str, kind: Kind) -> resource.DeviceAttribute:
        """Compute a derived attribute of a device.

        Raises:
            SelectorProblem: it does not compile, or fails on the device.

        """


class Fault:
    """A selector that failed: of the class or of the claim, which one, and why."""

    __slots__ = ("compiling", "index", "of_class", "problem")

    def __init__(self, *, of_class: bool, index: int, compiling: bool, problem: str) -> None:
        self.of_class = of_class
        self.index = index
        self.compiling = compiling
        self.problem = problem

    def error(self, class_name: str, claim: str, device: str) -> SelectorFailed:
        """Make the exception for the claim and the device at hand."""
        owner = f"class {class_name}" if self.of_class else f"claim {claim}"
        return SelectorFailed(owner, self.index, None if self.compiling else device, self.problem)


class Shape:
    """The selectors of a class and a request; equal ones are one object with one number."""

    __slots__ = ("_ask", "_selectors", "number")

    def __init__(self, number: int, of_class: Sequence[str], of_request: Sequence[str], provider: Selectors) -> None:
        self.number = number
        self._ask = provider.evaluate
        self._selectors = tuple(
            (group is of_class, index, expression)
            for group in (of_class, of_request)
            for index, expression in enumerate(group)
        )

    def ask(self, kind: Kind) -> bool | Fault:
        """Tell whether a kind of device is let through."""
        if not self._selectors:
            return True
        answer = kind.matches.get(self.number)
        if answer is None:
            if len(kind.matches) >= _KEPT_WITH_KIND:
                kind.matches.clear()
            answer = kind.matches[self.number] = self._work_out(kind)
        return answer  # type: ignore[return-value] # the table of the kind is untyped to keep layers apart

    def _work_out(self, kind: Kind) -> bool | Fault:
        for of_class, index, expression in self._selectors:
            try:
                if not self._ask(expression, kind):
                    return False
            except SelectorProblem as problem:
                return Fault(of_class=of_class, index=index, compiling=problem.compiling, problem=problem.text)
        return True


class Matcher:
    """Shapes and charges by content, so that equal requests share what was worked out for them.

    Numbers are never used twice; what is kept under the number of a forgotten shape is never found again.
    """

    def __init__(self, provider: Selectors, *, fractional: bool) -> None:
        self.provider = provider
        self._fractional = fractional
        self._shapes: OrderedDict[object, Shape] = OrderedDict()
        self._charges: OrderedDict[object, Charge] = OrderedDict()
        self._last = 0

    def shape(self, of_class: Sequence[str], of_request: Sequence[str]) -> Shape:
        """Return the shape with these expressions."""
        key = (tuple(of_class), tuple(of_request))
        return _intern(self._shapes, key, lambda: Shape(self._next(), of_class, of_request, self.provider))

    def charge(self, requests: Mapping[str, QuantityText]) -> Charge:
        """Return the charge for these requested capacities.

        Raises:
            InvalidInput: a quantity is none.

        """
        key = tuple(sorted(requests.items())) if len(requests) > 1 else tuple(requests.items())
        return _intern(
            self._charges,
            key,
            lambda: Charge(
                self._next(),
                {name: Amount.read(text) for name, text in requests.items()},
                fractional=self._fractional,
            ),
        )

    def _next(self) -> int:
        self._last += 1
        return self._last


def _intern(known: OrderedDict[object, V], key: object, make: Callable[[], V]) -> V:
    found = known.get(key)
    if found is None:
        found = known[key] = make()
        if len(known) > _KEPT:
            known.popitem(last=False)
    else:
        known.move_to_end(key)
    return found


def taken(charge: Charge, kind: Kind) -> Taken | CapacityUnusable | None:
    """Return what a charge takes of a kind of device (see `Charge.of`), an error as a value."""
    try:
        return kind.taken[charge.number]  # type: ignore[return-value] # as above
    except KeyError:
        pass
    answer: Taken | CapacityUnusable | None
    try:
        answer = charge.of(kind.capacities)
    except CapacityUnusable as error:
        answer = error
    if len(kind.taken) >= _KEPT_WITH_KIND:
        kind.taken.clear()
    kind.taken[charge.number] = answer
    return answer
