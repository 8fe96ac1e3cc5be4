# SPDX-License-Identifier: Apache-2.0
"""A provider for the allocator that knows the expressions of the random cases, without an expression language.

With it the tests of the allocator fail for reasons of the allocator only; what the language makes of the same
expressions is compared in the differential test against Kubernetes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tests.support.allocation_cases import EXPRESSIONS

from dynamic_memory.allocation.devices import Kind
from dynamic_memory.allocation.matching import SelectorProblem
from dynamic_memory.api import resource
from dynamic_memory.quantity import Quantity

__all__ = ["TableProvider", "evaluate"]

DOMAIN = "dra.memory"
Facts = Mapping[str, Any]


class Device(NamedTuple):
    """What expressions can see: the facts are those of one domain, under short names."""

    driver: str
    attributes: dict[str, Any]
    capacity: dict[str, Any]
    multi: bool


TABLE: dict[str, Callable[[Device], bool]] = dict(
    zip(
        EXPRESSIONS,
        (
            lambda device: device.driver == "dra.memory",
            lambda device: device.driver == "gpu.example.com",
            lambda device: device.attributes["kind"] == "local",
            lambda device: device.attributes["kind"] == "fabric",
            lambda device: device.attributes["numa"] <= 1,
            lambda device: device.attributes.get("kind", "window") != "window",
            lambda device: device.capacity["size"] >= 2 * 2**30,
            lambda device: device.multi,
            lambda device: not device.multi,
            lambda _: True,
        ),
        strict=True,
    )
)
DERIVED = {"1": {"int_": 1}, '"a"': {"string": "a"}, "true": {"bool_": True}}


def evaluate(expression: str, driver: str, attributes: Facts, capacity: Facts, *, multi: bool) -> bool:
    """Apply an expression; attributes and capacities are plain values under the names as published.

    Raises:
        SelectorProblem: unknown expression, or a key that is not there.

    """
    rule = TABLE.get(expression)
    if rule is None:
        raise SelectorProblem("unknown expression", compiling=True)
    try:
        return rule(Device(driver, _own(driver, attributes), _own(driver, capacity), multi))
    except KeyError as missing:
        raise SelectorProblem(f"no such key: {missing}", compiling=False) from missing


def _own(driver: str, facts: Facts) -> dict[str, Any]:
    found = {}
    for name, value in facts.items():
        domain, _, short = name.rpartition("/")
        if (domain or driver) == DOMAIN:
            found[short] = value
    return found


class TableProvider:
    """Expressions by table, share identities by counting."""

    def __init__(self) -> None:
        self.evaluations = 0
        self._shares = itertools.count(1)

    def evaluate(self, expression: str, kind: Kind) -> bool:
        self.evaluations += 1
        attributes = {name: _value(attribute) for name, attribute in kind.attributes.items()}
        capacity = {name: Quantity.parse(own.value) for name, own in kind.spec.capacity.items()}
        return evaluate(expression, kind.driver, attributes, capacity, multi=kind.multi)

    def derive(self, expression: str, kind: Kind) -> resource.DeviceAttribute:
        if expression == "device.driver":
            return resource.DeviceAttribute(string=kind.driver)
        return resource.DeviceAttribute(**DERIVED[expression])

    def share_id(self) -> str:
        return f"00000000-0000-4000-8000-{next(self._shares):012d}"


def _value(attribute: resource.DeviceAttribute) -> Any:
    return next(
        getattr(attribute, name) for name in attribute.__struct_fields__ if getattr(attribute, name) is not None
    )
