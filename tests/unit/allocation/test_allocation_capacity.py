# SPDX-License-Identifier: Apache-2.0
"""What a request takes of a capacity, and the text it is written with."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.allocation_world import read

from dynamic_memory.allocation.amounts import Amount
from dynamic_memory.allocation.capacity import Charge, read_capacities
from dynamic_memory.allocation.errors import CapacityUnusable
from dynamic_memory.api import resource

STEPPED = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "512Mi", "max": "3Gi"}}
LISTED = {"default": "1Gi", "validValues": ["1Gi", "2Gi", "4Gi"]}
UNALIGNED = {"default": "700Mi", "validRange": {"min": "1Gi", "step": "1Gi"}}


def taken(wanted: str | None, policy: Any, *, value: str = "4Gi", fractional: bool = False) -> str | None:
    body: dict[str, Any] = {"value": value}
    if policy is not None:
        body["requestPolicy"] = policy
    capacities = read_capacities({"size": read(resource.DeviceCapacity, body)})
    requests = {} if wanted is None else {"size": Amount.read(wanted)}
    answer = Charge(1, requests, fractional=fractional).of(capacities)
    return None if answer is None or not answer.fits_empty else answer.amounts["size"].text


@pytest.mark.parametrize(
    ("wanted", "policy", "text"),
    [
        (None, None, "4Gi"),
        (None, STEPPED, "1Gi"),
        ("1500Mi", None, "1500Mi"),
        ("1.500", None, "1.500"),
        ("5Gi", None, None),
        ("1", STEPPED, "1Gi"),
        ("1025Mi", STEPPED, "1536Mi"),
        ("1073741825", STEPPED, "1536Mi"),
        ("3Gi", STEPPED, "3Gi"),
        ("3073Mi", STEPPED, None),
        ("1.5Gi", LISTED, "2Gi"),
        ("4Gi", LISTED, "4Gi"),
        ("5Gi", LISTED, None),
        # The default is taken as it stands, though no request could get it.
        (None, UNALIGNED, "700Mi"),
        ("700Mi", UNALIGNED, "1Gi"),
    ],
)
def test_amounts_follow_the_policy(wanted: str | None, policy: Any, text: str | None) -> None:
    assert taken(wanted, policy) == text


@pytest.mark.parametrize(("fractional", "text"), [(True, "1200m"), (False, "2")])
def test_fractions_of_a_unit_need_their_feature(*, fractional: bool, text: str) -> None:
    policy = {"default": "1", "validRange": {"min": "1", "step": "100m" if fractional else "1"}}

    assert taken("1150m", policy, value="10", fractional=fractional) == text


@pytest.mark.parametrize(
    ("wanted", "policy", "value"), [("10E", STEPPED, "4Gi"), ("-1", None, "4Gi"), (None, {"default": "-1Gi"}, "4Gi")]
)
def test_amounts_that_cannot_be_computed_with_are_errors(wanted: str | None, policy: Any, value: str) -> None:
    with pytest.raises(CapacityUnusable):
        taken(wanted, policy, value=value)


def test_a_capacity_that_the_device_lacks_rules_it_out() -> None:
    assert Charge(1, {"other": Amount.read("1")}, fractional=False).of({}) is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("1.500", "1.500"),
        ("+5", "+5"),
        ("005", "005"),
        ("5.", "5."),
        ("1E3", "1E3"),
        ("1000", "1k"),
        ("1.0", "1"),
        (".5", "500m"),
        ("1.3Ki", "1331200m"),
        ("1024Ki", "1Mi"),
        ("0.5Gi", "512Mi"),
        ("20Ei", "9223372036854775807"),
        ("10E", "10E"),
        ("0.0", "0"),
        (1024, "1024"),
    ],
)
def test_the_text_of_a_quantity_is_that_of_kubernetes_1_37(text: Any, kept: str) -> None:
    assert Amount.read(text).text == kept
