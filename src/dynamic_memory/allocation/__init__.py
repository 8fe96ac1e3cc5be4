# SPDX-License-Identifier: Apache-2.0
"""The allocation engine: which devices of which node does a pod get, and if none, why not?

Pure: no I/O, no clock, no event loop. `Inventory` is what there is and who has it, kept up to date by events;
`Allocator` decides over it. `python -m dynamic_memory.allocation` answers questions as JSON lines.
"""

from dynamic_memory.allocation.allocator import Allocator, Placement, Plan, Provider
from dynamic_memory.allocation.errors import FatalAllocationError, NodeAllocationError
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.inventory import Inventory, claim_key
from dynamic_memory.allocation.policies import Policy
from dynamic_memory.allocation.reporters import Counting, Reason, Reporter, Tracing

__all__ = [
    "Allocator",
    "Counting",
    "FatalAllocationError",
    "Features",
    "Inventory",
    "NodeAllocationError",
    "Placement",
    "Plan",
    "Policy",
    "Provider",
    "Reason",
    "Reporter",
    "Tracing",
    "claim_key",
]
