# SPDX-License-Identifier: Apache-2.0
"""Which devices can a detail of a claim be about at all?

Those of a driver that some leaf class of the detail's class names, if that class' constraints and the detail's own are
true of them. Whether they are free is not asked here.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_memory.allocation.prototype.errors import UnknownName
from dynamic_memory.allocation.prototype.expressions import Expressions, HasAnswers
from dynamic_memory.allocation.prototype.types import DeviceClass, DeviceClassDefinition
from dynamic_memory.allocation.prototype.world import World

__all__ = ["DRIVER_MISMATCH", "NOT_MET", "Classes", "drivers_of"]

DRIVER_MISMATCH = "claim and pool driver do not match"
NOT_MET = "constraints not met"
ERROR = "error evaluating constraints: "


def drivers_of(world: World, definition: DeviceClassDefinition) -> set[str]:
    """Return the drivers that a leaf class selects: its own, or those that serve its device type."""
    if definition.driver:
        return {definition.driver}
    return {
        name
        for name, driver in world.drivers.items()
        if definition.device_type and definition.device_type in driver.device_types
    }


class Classes:
    """Answers whether attributes meet classes and constraints; the classes are those of one moment."""

    def __init__(self, world: World, expressions: Expressions) -> None:
        self._world = world
        self._expressions = expressions
        self._leaves: dict[str, list[tuple[DeviceClass, set[str]]]] = {}

    def leaves(self, name: str, where: str) -> Sequence[tuple[DeviceClass, set[str]]]:
        """Return the leaf classes of a class, with the drivers of each.

        Raises:
            UnknownName: there is no such class.
            InvalidInput: meta classes select each other in a circle.

        """
        known = self._leaves.get(name)
        if known is None:
            leaves = self._world.leaves(name)
            if leaves is None:
                raise UnknownName(f"{where}.class", "a DeviceClass", name)
            known = self._leaves[name] = [
                (leaf, drivers_of(self._world, leaf.spec.definition))
                for leaf in leaves
                if leaf.spec.definition is not None
            ]
        return known

    def meets(self, name: str, constraints: str | None, driver: str, kind: HasAnswers, where: str) -> DeviceClass | str:
        """Return the leaf class by which a device of a driver, with these attributes, can be had, or why it cannot.

        Raises:
            UnknownName: there is no such class.
            InvalidInput: meta classes select each other in a circle.
            ExpressionError: an expression is wrong in itself.

        """
        reason = DRIVER_MISMATCH
        for leaf, drivers in self.leaves(name, where):
            if driver not in drivers or leaf.spec.definition is None:
                continue
            place = f"class {leaf.metadata.name}: spec.definition.constraints"
            answer = self._expressions.matches(leaf.spec.definition.constraints, kind, place)
            if answer is True:
                own = self._expressions.matches(constraints, kind, f"{where}.constraints")
                if own is True:
                    return leaf
                return f"{ERROR}{own}" if isinstance(own, str) else NOT_MET
            reason = f"{ERROR}{answer}" if isinstance(answer, str) else NOT_MET
        return reason
