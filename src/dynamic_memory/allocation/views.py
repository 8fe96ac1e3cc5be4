# SPDX-License-Identifier: Apache-2.0
"""What one node sees of the inventory: its pools, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynamic_memory.allocation.devices import Device
from dynamic_memory.allocation.matching import Shape
from dynamic_memory.allocation.node_selectors import CompiledSelector
from dynamic_memory.allocation.pools import Candidates, Pool

__all__ = ["NodeView"]

_SHAPES_KEPT = 64
_OPTIONAL_NODE_OPERATIONS = "DRAOptionalNodeOperations"


class NodeView:
    """Pools of a node; made anew when slices or the node change, valid across changes of claims."""

    __slots__ = ("_candidates", "_known", "_labels", "name", "optional_operations", "own", "pools", "shared")

    def __init__(
        self,
        name: str,
        labels: Mapping[str, str],
        declared: Sequence[str],
        known: dict[CompiledSelector, bool],
        pools: Sequence[Pool],
    ) -> None:
        self.name = name
        self._labels = labels
        self._known = known
        self.optional_operations = _OPTIONAL_NODE_OPERATIONS in declared
        ordered = sorted(pools, key=lambda pool: pool.key)
        self.pools = [pool for pool in ordered if not pool.last] + [pool for pool in ordered if pool.last]
        self.own = [pool for pool in self.pools if not pool.shared]
        self.shared = tuple(pool for pool in self.pools if pool.shared)
        self._candidates: dict[int, Candidates] = {}

    def candidates(self, shape: Shape) -> Candidates:
        """Return the devices that selectors of this shape let through, of all pools that can be used."""
        found = self._candidates.get(shape.number)
        if found is None:
            if len(self._candidates) >= _SHAPES_KEPT:
                self._candidates.clear()
            found = self._candidates[shape.number] = Candidates()
            for pool in self.pools:
                if not pool.blocked:
                    found.extend(pool.candidates(shape))
        return found

    def reaches(self, device: Device) -> bool:
        """Tell whether a device of a slice with node selection for each device is for this node.

        Raises:
            InvalidNodeSelector: the selector of the device is invalid.

        """
        return device.filter is None or device.filter.matches(self.name, self._labels, self._known)
