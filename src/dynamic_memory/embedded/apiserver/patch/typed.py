# SPDX-License-Identifier: Apache-2.0
"""Objects and their schema together: what an object's fields are, how two differ, how one is merged into another."""

from __future__ import annotations

from dynamic_memory.embedded.apiserver.patch.comparing import Comparison, compare
from dynamic_memory.embedded.apiserver.patch.fitting import validate
from dynamic_memory.embedded.apiserver.patch.merging import field_set, merge, remove, without_empty
from dynamic_memory.embedded.apiserver.patch.shapes import TypeProblem, with_structs

__all__ = [
    "Comparison",
    "TypeProblem",
    "compare",
    "field_set",
    "merge",
    "remove",
    "validate",
    "with_structs",
    "without_empty",
]
