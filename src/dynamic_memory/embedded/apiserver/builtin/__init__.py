# SPDX-License-Identifier: Apache-2.0
"""The kinds that ship with the server."""

from __future__ import annotations

import functools

from dynamic_memory.embedded.apiserver.builtin.conversion import convert
from dynamic_memory.embedded.apiserver.builtin.metrics import metrics_resources
from dynamic_memory.embedded.apiserver.builtin.prototype import prototype_resources
from dynamic_memory.embedded.apiserver.builtin.resources import builtin_resources
from dynamic_memory.embedded.apiserver.resource import Registry
from dynamic_memory.embedded.apiserver.strategies import strategy_of

__all__ = ["builtin_registry"]


def builtin_registry() -> Registry:
    """Return a registry of all builtin kinds; schemas and strategies are made when they are first used."""
    made = [*builtin_resources(), *metrics_resources(), *prototype_resources()]
    for resource in made:
        convert(resource)
        if resource.builtin:
            resource.make_strategy = functools.partial(strategy_of, resource)
    return Registry(made)
