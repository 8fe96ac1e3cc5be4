# SPDX-License-Identifier: Apache-2.0
"""The CEL of Kubernetes: expressions that choose devices, validate objects and shape admissions.

`compile_selector(source, features)` gives a `Selector` with `matches(view)`; `Environment.compile(source)` gives a
`Program` with `evaluate(bindings)`. Both refuse with a `CompileError` that knows line, column and what was expected;
evaluation fails with an `EvaluationError`. The room is pure: no I/O, no clock, no threads.
"""

from __future__ import annotations

from dynamic_memory.cel.environment import COST_LIMIT, Environment, Program
from dynamic_memory.cel.environments.device import (
    DeviceFeatures,
    DeviceView,
    Selector,
    attribute_value,
    compile_selector,
    device_environment,
)
from dynamic_memory.cel.errors import CompileError, CostExceeded, EvaluationError, Fault
from dynamic_memory.cel.values import Semver

__all__ = [
    "COST_LIMIT",
    "CompileError",
    "CostExceeded",
    "DeviceFeatures",
    "DeviceView",
    "Environment",
    "EvaluationError",
    "Fault",
    "Program",
    "Selector",
    "Semver",
    "attribute_value",
    "compile_selector",
    "device_environment",
]
