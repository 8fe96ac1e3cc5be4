# SPDX-License-Identifier: Apache-2.0
"""What a simulated kernel was told to do wrong: `faults.json` in the root of its tree.

Any process may write the file while others work on the tree; it is read anew at each operation, and while an operation
hangs, so lifting a fault takes effect at once. No file is no faults. A file that cannot be read is reported and counts
as the last one that could, so a half-written one does no harm.

    {"faults": [{"operation": "offline", "effect": "refuse", "blocks": 2}], "used": {"0": 1073741824}}
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from dynamic_memory.process import clock

__all__ = ["FILE", "Fault", "FaultFile", "Faults", "clear", "inject"]

FILE = "faults.json"

log = logging.getLogger(__name__)

Operation = Literal["arrive", "create", "online", "offline", "destroy"]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One thing that goes wrong as long as it stands in the file.

    Attributes:
        operation: what goes wrong. `arrive` is the extents of a new region becoming visible to the host.
        effect: `refuse`: the extents do not arrive, or the kernel answers with an error (EBUSY for `offline`);
            `hang`: the kernel does not answer.
        tag: only for the region of this tag; for any if empty.
        blocks: only for this many of the region's blocks, those with the lowest addresses (`online` and `offline`);
            for all if None.
        seconds: only for so long, counted from the first time that this process met the fault; for ever if None.

    """

    operation: Operation
    effect: Literal["refuse", "hang"] = "refuse"
    tag: str = ""
    blocks: int | None = None
    seconds: float | None = None


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The content of the file.

    Attributes:
        faults: what goes wrong.
        used: bytes in use on NUMA nodes, by number: what there has to be room for when memory goes.

    """

    faults: tuple[Fault, ...] = ()
    used: dict[int, int] = {}


def inject(root: Path, *faults: Fault, used: dict[int, int] | None = None) -> None:
    """Write the file of the tree at `root`, in place of what was injected before."""
    temporary = root / f".{FILE}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(Faults(faults, used or {})))
    temporary.replace(root / FILE)


def clear(root: Path) -> None:
    """Lift all faults of the tree at `root`."""
    (root / FILE).unlink(missing_ok=True)


class FaultFile:
    """The faults of one tree, as one process meets them.

    Args:
        root: folder of the tree.

    """

    def __init__(self, root: Path) -> None:
        self._path = root / FILE
        self._last = Faults()
        self._complained: bytes | None = None
        self._met: dict[tuple[Fault, str], float] = {}

    def read(self) -> Faults:
        """Return what the file says now."""
        try:
            data = self._path.read_bytes()
        except OSError:
            self._last = Faults()
            return self._last
        try:
            self._last = msgspec.json.decode(data, type=Faults)
        except msgspec.DecodeError as error:
            if data != self._complained:
                log.warning("%s is not a list of faults, and changes nothing: %s", self._path, error)
                self._complained = data
        return self._last

    def remaining(self, operation: Operation, effect: str, tag: str, position: int = 0) -> float:
        """Return for how many seconds a fault still holds: 0 if there is none, infinity if it holds for ever.

        Args:
            operation: what is being done.
            effect: what is asked about.
            tag: of the region.
            position: of the block in its region, counted from the lowest address.

        """
        return max((self._left(fault, tag) for fault in self._matching(operation, effect, tag, position)), default=0.0)

    def _matching(self, operation: str, effect: str, tag: str, position: int) -> Iterable[Fault]:
        for fault in self.read().faults:
            if (fault.operation, fault.effect) != (operation, effect) or fault.tag not in {"", tag}:
                continue
            if fault.blocks is None or position < fault.blocks:
                yield fault

    def _left(self, fault: Fault, tag: str) -> float:
        if fault.seconds is None:
            return math.inf
        now = clock.monotonic()
        first = self._met.setdefault((fault, tag), now)
        return max(0.0, first + fault.seconds - now)
