# SPDX-License-Identifier: Apache-2.0
"""The engine finds an allocation exactly if there is one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.support.allocation_cases import ALPHA, DEFAULTS, NODE, allocation_case
from tests.support.allocation_world import World
from tests.support.brute_force import satisfiable
from tests.support.table_provider import evaluate

from dynamic_memory.allocation import FatalAllocationError, Features, NodeAllocationError
from dynamic_memory.allocation.matching import SelectorProblem
from dynamic_memory.quantity import Quantity

SETS_TRIED = 4
SETS_LIMIT = 20_000


def enabled(features: str | list[str] | None) -> frozenset[str]:
    match features:
        case None:
            return frozenset(DEFAULTS)
        case "all":
            return frozenset((*DEFAULTS, *ALPHA))
        case "none":
            return frozenset()
        case _:
            return frozenset(features)


def matches(expression: str, driver: str, device: dict[str, Any]) -> bool:
    attributes = {name: next(iter(own.values())) for name, own in device.get("attributes", {}).items()}
    capacity = {name: Quantity.parse(own["value"]) for name, own in device.get("capacity", {}).items()}
    try:
        return evaluate(expression, driver, attributes, capacity, multi=device.get("allowMultipleAllocations", False))
    except SelectorProblem:
        # There was no error, so the engine did not come to this device: it is in use, or not needed.
        return False


def check(seed: int) -> None:
    case = allocation_case(seed)
    world = World(Features.of(case.get("features")))
    claims = world.load(case)
    try:
        found = world.allocator.allocate(claims, NODE)
    except (FatalAllocationError, NodeAllocationError) as error:
        event(type(error).__name__)
        return
    event("fits" if found is not None else "does not fit")
    wants = [own for entry in case["claims"] for own in entry["spec"]["devices"]["requests"]]
    devices = sum(len(piece["spec"].get("devices", ())) for piece in case["slices"])
    if found is None and devices ** min(len(wants), SETS_TRIED + 1) > SETS_LIMIT:
        event("too large to try everything")
        return

    assert satisfiable(case, enabled(case.get("features")), matches) == (found is not None)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**40))
def test_satisfiable_or_not_is_what_trying_everything_says(seed: int) -> None:
    check(seed)


@pytest.mark.long
@pytest.mark.timeout(3000)
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**40))
def test_satisfiable_or_not_in_many_cases(seed: int) -> None:
    check(seed)
