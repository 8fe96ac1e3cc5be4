# SPDX-License-Identifier: Apache-2.0
"""What a search tells about itself.

The search calls a reporter at every step and never asks it anything, so that tracing, explaining and counting are
matters of the caller. The hooks of `Reporter` do nothing; a reporter overrides those it needs.
"""

from __future__ import annotations

import enum

from dynamic_memory.allocation.demand import Demand, Want
from dynamic_memory.allocation.devices import Device
from dynamic_memory.allocation.views import NodeView

__all__ = ["Counting", "Reason", "Reporter", "Tracing"]


class Reason(enum.Enum):
    """Why a device that the selectors let through is not taken."""

    IN_USE = "in use"
    CAPACITY = "too little capacity"
    REFUSED = "capacity request not possible"
    ELSEWHERE = "for other nodes"
    NODE_OPERATIONS = "needs a node that declares DRAOptionalNodeOperations"
    PARTITIONS_OFF = "consumes counters, which is disabled"
    GROUPS = "compatibility groups"
    COUNTERS = "too little left of a counter"
    TAINT = "taint"
    CONSTRAINT = "constraint"


class Reporter:
    """Base of reporters; every hook does nothing."""

    def starting(self, view: NodeView, demand: Demand) -> None:
        """Search begins on a node."""

    def trying(self, want: Want, slot: int) -> None:
        """A device is looked for, the `slot`-th of its request."""

    def rejected(self, want: Want, device: Device, reason: Reason, detail: str = "") -> None:
        """A device is not possible here; the detail of a broken constraint is its attribute."""

    def chosen(self, want: Want, device: Device) -> None:
        """A device is taken, for now."""

    def released(self, want: Want, device: Device) -> None:
        """A device is given back, because what follows does not work out with it."""

    def finished(self, view: NodeView, *, fits: bool) -> None:
        """Search ended without an error."""


class Counting(Reporter):
    """Counts steps: the measure of work that does not depend on the machine."""

    def __init__(self) -> None:
        self.nodes = 0
        self.steps = 0
        self.chosen_devices = 0
        self.released_devices = 0

    def starting(self, view: NodeView, demand: Demand) -> None:  # noqa: ARG002 - signature of the hook
        """Count a node."""
        self.nodes += 1

    def trying(self, want: Want, slot: int) -> None:  # noqa: ARG002 - signature of the hook
        """Count a step."""
        self.steps += 1

    def chosen(self, want: Want, device: Device) -> None:  # noqa: ARG002 - signature of the hook
        """Count a device."""
        self.chosen_devices += 1

    def released(self, want: Want, device: Device) -> None:  # noqa: ARG002 - signature of the hook
        """Count a device."""
        self.released_devices += 1


class Tracing(Reporter):
    """Keeps a line of text for every step, up to a limit."""

    def __init__(self, limit: int = 10_000) -> None:
        self.lines: list[str] = []
        self._limit = limit

    def _note(self, line: str) -> None:
        if len(self.lines) < self._limit:
            self.lines.append(line)

    def starting(self, view: NodeView, demand: Demand) -> None:
        """Note the node and its pools."""
        pools = ", ".join(str(pool) for pool in view.pools) or "no pools"
        self._note(f"{view.name}: {len(demand.claims)} claims, {pools}")

    def trying(self, want: Want, slot: int) -> None:
        """Note what is looked for."""
        self._note(f"claim {want.claim}, request {want.full_name}: device {slot + 1}")

    def rejected(self, want: Want, device: Device, reason: Reason, detail: str = "") -> None:  # noqa: ARG002 - hook
        """Note the device and why not."""
        self._note(f"request {want.full_name}: {'/'.join(device.id)}: {reason.value}")

    def chosen(self, want: Want, device: Device) -> None:
        """Note the device."""
        self._note(f"request {want.full_name}: {'/'.join(device.id)} taken")

    def released(self, want: Want, device: Device) -> None:
        """Note the device."""
        self._note(f"request {want.full_name}: {'/'.join(device.id)} given back")

    def finished(self, view: NodeView, *, fits: bool) -> None:
        """Note the outcome."""
        self._note(f"{view.name}: {'fits' if fits else 'does not fit'}")
