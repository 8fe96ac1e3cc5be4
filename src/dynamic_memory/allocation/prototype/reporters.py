# SPDX-License-Identifier: Apache-2.0
"""What a search for devices tells about itself; nothing depends on it.

The hooks of `Reporter` do nothing. `Tracing` keeps a line for each step, for `schedule -v`.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Reporter", "Tracing"]


class Reporter:
    """Base of reporters; every hook does nothing."""

    def ignored(self, part: str, device: str, reason: str) -> None:
        """A device does not meet the class or the constraints."""

    def trying(self, part: str, count: int) -> None:
        """A number of devices is looked for."""

    def rejected(self, part: str, device: str, reason: str) -> None:
        """A device meets class and constraints but cannot be had."""

    def chosen(self, part: str, devices: Sequence[str]) -> None:
        """Devices are taken, for now."""

    def released(self, part: str, devices: Sequence[str]) -> None:
        """Devices are given back: what follows does not work out with them."""


class Tracing(Reporter):
    """Keeps a line of text for every step, up to a limit; the number of steps beyond it is counted."""

    def __init__(self, limit: int = 1000) -> None:
        self.lines: list[str] = []
        self.dropped = 0
        self._limit = limit

    def _note(self, line: str) -> None:
        if len(self.lines) < self._limit:
            self.lines.append(line)
        else:
            self.dropped += 1

    def ignored(self, part: str, device: str, reason: str) -> None:
        """Note a device that cannot be meant."""
        self._note(f"{part}: {device} ignored: {reason}")

    def trying(self, part: str, count: int) -> None:
        """Note how many are looked for."""
        self._note(f"{part}: looking for {count} device{'' if count == 1 else 's'}")

    def rejected(self, part: str, device: str, reason: str) -> None:
        """Note a device that cannot be had."""
        self._note(f"{part}: {device} not possible: {reason}")

    def chosen(self, part: str, devices: Sequence[str]) -> None:
        """Note devices that are tried."""
        self._note(f"{part}: tried {', '.join(devices) or 'nothing'}")

    def released(self, part: str, devices: Sequence[str]) -> None:
        """Note devices that were tried in vain."""
        self._note(f"{part}: gave back {', '.join(devices) or 'nothing'}: the rest does not fit with it")
