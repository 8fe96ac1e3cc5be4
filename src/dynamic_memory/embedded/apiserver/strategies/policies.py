# SPDX-License-Identifier: Apache-2.0
"""Request policies of capacities (KEP-5075): what may be asked of a device that several claims share. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.strategies.checks import check_set
from dynamic_memory.quantity import Quantity

__all__ = ["check_policy"]

MAX_OPTIONS: Final = 10
LARGEST: Final = Quantity.parse(str(2**63 - 1))
ZERO: Final = Quantity(0)


def check_policy(value: Quantity, policy: Mapping[str, Any], path: str) -> list[Cause]:
    """Check a requestPolicy of a capacity that has this value."""
    options, limits = policy.get("validValues"), policy.get("validRange")
    if options and limits is not None:
        text = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        return [fields.forbidden(path, text)]
    default = policy.get("default")
    if options:
        if default is None:
            return [fields.required(f"{path}.default", "required when validValues is defined")]
        return _options(Quantity.parse(default), value, options, f"{path}.validValues")
    if limits is not None:
        if default is None:
            return [fields.required(f"{path}.default", "required when validRange is defined")]
        return _range(Quantity.parse(default), value, limits, f"{path}.validRange")
    return []


def _options(default: Quantity, value: Quantity, options: list[str], path: str) -> list[Cause]:
    amounts = [Quantity.parse(option) for option in options]
    causes = [
        fields.invalid(fields.at(path, index + 1), str(later), "values must be sorted in ascending order")
        for index, (one, later) in enumerate(itertools.pairwise(amounts))
        if one > later
    ]

    def check(option: Quantity, here: str) -> list[Cause]:
        text = f"option is larger than capacity value: {value}"
        return [fields.invalid(here, str(option), text)] if option > value else []

    causes += check_set(amounts, MAX_OPTIONS, path, check, lambda option: str(option.value()))
    if default not in amounts or len(amounts) > MAX_OPTIONS:
        text = "default value is not valid according to the requestPolicy"
        causes.append(fields.invalid(path, str(default), text))
    return causes


def _range(default: Quantity, value: Quantity, limits: Mapping[str, Any], path: str) -> list[Cause]:
    if limits.get("min") is None:
        return [fields.required(f"{path}.min", "required when validRange is defined")]
    least = Quantity.parse(limits["min"])
    most = Quantity.parse(limits["max"]) if limits.get("max") is not None else None
    causes = []
    if least > value:
        causes.append(fields.invalid(f"{path}.min", str(least), f"min is larger than capacity value: {value}"))
    if default < least:
        causes.append(fields.invalid(f"{path}.default", str(default), f"default is less than min: {least}"))
    if most is not None:
        if least > most:
            causes.append(fields.invalid(f"{path}.max", str(least), f"min is larger than max: {most}"))
        if most > value:
            causes.append(fields.invalid(f"{path}.max", str(most), f"max is larger than capacity value: {value}"))
        if default > most:
            causes.append(fields.invalid(f"{path}.default", str(default), f"default is more than max: {most}"))
    if limits.get("step") is not None:
        causes += _step(Quantity.parse(limits["step"]), (default, least, most), value, path)
    return causes


def _step(
    step: Quantity, limits: tuple[Quantity, Quantity, Quantity | None], value: Quantity, path: str
) -> list[Cause]:
    default, least, most = limits
    here = f"{path}.step"
    if step <= ZERO:
        return [fields.invalid(here, str(step), "must be greater than zero")]
    causes = []
    added = least + step
    if added > value:
        causes.append(fields.invalid(here, str(step), f"one step {added} is larger than capacity value: {value}"))
    for name, amount in (("default", default), ("min", least), ("max", most), ("step", step)):
        if amount is not None and amount < ZERO:
            text = "must be greater than or equal to 0"
            return [*causes, fields.invalid(f"{path}.{name}", str(amount), text)]
        if amount is not None and amount > LARGEST:
            text = "must not be larger than 9223372036854775807"
            return [*causes, fields.invalid(f"{path}.{name}", str(amount), text)]
    for amount in (default, most):
        if amount is not None and (amount.value() - least.value()) % step.value():
            text = f"value is not a multiple of a given step ({step}) from ({least})"
            causes.append(fields.invalid(here, str(amount), text))
    return causes
