# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynamic_memory.cel import DeviceView, attribute_value
from dynamic_memory.quantity import Quantity

# Expressions with the answers of k8s.io/dynamic-resource-allocation/cel 0.37.0: compile error, or output type, worst
# and real cost, and value (as a DeviceAttribute) or runtime error.
CORPUS = json.loads((Path(__file__).parent / "kubernetes.json").read_text())


def view(device: dict) -> DeviceView:
    return DeviceView(
        device.get("Driver", ""),
        {name: attribute_value(attribute) for name, attribute in (device.get("Attributes") or {}).items()},
        {name: Quantity.parse(capacity["value"]) for name, capacity in (device.get("Capacity") or {}).items()},
        allow_multiple_allocations=bool(device.get("AllowMultipleAllocations")),
    )


@pytest.fixture
def device() -> DeviceView:
    return view(CORPUS["device"])
