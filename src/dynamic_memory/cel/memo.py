# SPDX-License-Identifier: Apache-2.0
"""Answers of selectors, remembered by expression and the attributes that it reads.

Devices of one kind differ in a few values that most selectors never look at, so one evaluation answers for all of them.
Generated code is faster than any look-up, so this serves the selectors that must be interpreted.
What an expression reads is found in its tree; one that reads by computed names, or a whole map, is not remembered.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from dynamic_memory.cel.ast import Call, Has, Ident, Literal, Node, Select
from dynamic_memory.cel.environments.device import DeviceView, Selector

__all__ = ["Memo", "Read", "reads"]

Read = tuple[str, str, str]
"""What is read: `driver` or `allowMultipleAllocations`, or `attributes` or `capacity` with domain and name."""


def reads(tree: Node) -> tuple[Read, ...] | None:
    """Return what an expression reads of a device, sorted; None if that depends on the device."""
    found: set[Read] = set()
    return tuple(sorted(found)) if _collect(tree, found) else None


def _step(node: Node) -> tuple[Node, str] | None:
    """Return operand and constant name of `operand.name`, `operand["name"]`, also if optional or in has()."""
    if type(node) in (Select, Has):
        return node.operand, node.field  # type: ignore[attr-defined] # both have them
    if type(node) is Call and node.function in ("_[_]", "_[?_]"):
        key = node.args[1]
        if type(key) is Literal and type(key.value) is str:
            return node.args[0], key.value
    return None


def _collect(node: Node, found: set[Read]) -> bool:
    path: list[str] = []
    at: Node = node
    while (step := _step(at)) is not None:
        at = step[0]
        path.append(step[1])
    if type(at) is Ident and at.slot < 0 and at.name == "device":
        path.reverse()
        if len(path) == 1 and path[0] in ("driver", "allowMultipleAllocations"):
            found.add((path[0], "", ""))
            return True
        if len(path) >= 3 and path[0] in ("attributes", "capacity"):  # noqa: PLR2004 - map, domain, name
            found.add((path[0], path[1], path[2]))
            return True
        return False
    return all(_collect(child, found) for child in _children(node))


def _children(node: Node) -> list[Node]:
    children: list[Node] = []
    for base in type(node).__mro__:
        for name in getattr(base, "__slots__", ()):
            _gather(getattr(node, name, None), children)
    return children


def _gather(value: Any, children: list[Node]) -> None:
    if isinstance(value, Node):
        children.append(value)
    elif isinstance(value, list | tuple):
        for element in value:
            _gather(element, children)


def _key(value: Any) -> Hashable:
    if isinstance(value, list | tuple):
        return (list, *map(_key, value))
    return (type(value), value)


class Memo:
    """Answers of selectors.

    Args:
        limit: most answers kept; beyond it all are forgotten.

    """

    def __init__(self, limit: int = 100_000) -> None:
        self.limit = limit
        self.hits = 0
        self.misses = 0
        self._answers: dict[Hashable, bool] = {}
        self._reads: dict[Selector, tuple[Read, ...] | None] = {}

    def matches(self, selector: Selector, device: DeviceView) -> bool:
        """Return `selector.matches(device)`, remembered; errors are not, and raised as there."""
        if selector.is_generated:
            return selector.matches(device)
        if selector not in self._reads:
            self._reads[selector] = reads(selector.program.tree)
        wanted = self._reads[selector]
        if wanted is None:
            return selector.matches(device)
        key = (selector, *[_value(device, *read) for read in wanted])
        answer = self._answers.get(key)
        if answer is not None:
            self.hits += 1
            return answer
        self.misses += 1
        answer = selector.matches(device)
        if len(self._answers) >= self.limit:
            self._answers.clear()
        self._answers[key] = answer
        return answer


def _value(device: DeviceView, part: str, domain: str, name: str) -> Hashable:
    if part == "driver":
        return device.driver
    if part == "allowMultipleAllocations":
        return device.allow_multiple_allocations
    values = device.attributes if part == "attributes" else device.capacity
    held = values.get(domain, {})
    return _key(held[name]) if name in held else (domain in values,)
