# SPDX-License-Identifier: Apache-2.0
"""stub until cel"""

from __future__ import annotations
from dynamic_memory.allocation.devices import Kind
from dynamic_memory.api import resource
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.matching import SelectorProblem


class CelSelectors:
    def __init__(self, features: Features) -> None: ...
    def evaluate(self, expression: str, kind: Kind) -> bool:
        raise SelectorProblem("no cel yet", compiling=True)

    def derive(self, expression: str, kind: Kind) -> resource.DeviceAttribute:
        raise SelectorProblem("no cel yet", compiling=True)
