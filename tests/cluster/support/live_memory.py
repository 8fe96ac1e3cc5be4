# SPDX-License-Identifier: Apache-2.0
"""Watches that nobody takes memory away from a host that still uses it (I2).

Like the observer of the fabric it shares no code with the roles: it reads the fabric's file, the files of the simulated
hosts as a person would read /sys, and the fabric's file again. A memory block that is online under a tag that the
fabric knows neither before nor after is memory that was pulled. A look during which memory could have come
and gone, for it took so long, tells nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["LiveMemory", "online"]

LONG = 0.5
"""Seconds; in less, no memory comes, is used and goes back."""


class LiveMemory:
    """Looks at some hosts every few milliseconds while it is entered.

    Args:
        state: the fabric's file.
        hosts: root folders of simulated hosts, by node.
        every: seconds between two looks.

    """

    def __init__(self, state: Path, hosts: Mapping[str, Path], every: float = 0.02) -> None:
        self._state = state
        self._hosts = dict(hosts)
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="live memory", daemon=True)
        self.pulled: set[tuple[str, str]] = set()
        self.looks = 0
        self.seen: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self.pulled, f"I2: memory was online that the fabric had taken away: {sorted(self.pulled)}"
        if error is None:
            assert self.looks > 0, "nothing was observed"
            assert self.seen, "no memory was online at any time"

    def _look(self) -> None:
        while not self._stop.wait(self._every):
            began = time.monotonic()
            try:
                before = _held(self._state)
                used = {(node, tag) for node, root in self._hosts.items() for tag in online(root)}
                after = _held(self._state)
            except (OSError, ValueError):
                continue  # something changed while it was read
            if time.monotonic() - began > LONG:
                continue
            self.looks += 1
            self.seen |= {tag for _, tag in used}
            self.pulled |= {(node, tag) for node, tag in used if tag not in before | after}


def online(root: Path) -> dict[str, int]:
    """Return the number of blocks that are online under each tag on a host.

    Raises:
        OSError, ValueError: the tree changed under the reader.

    """
    memory = root / "sys/devices/system/memory"
    if not memory.exists():
        return {}
    block = int((memory / "block_size_bytes").read_text(), 16)
    found: dict[str, int] = {}
    for device in (root / "sys/bus/dax/devices").glob("dax*"):
        tag = (device / "uuid").read_text().strip()
        for mapping in device.glob("mapping*"):
            first, last = (int((mapping / name).read_text(), 16) for name in ("start", "end"))
            for index in range(first // block, last // block + 1):
                state = memory / f"memory{index}" / "state"
                if state.exists() and state.read_text().strip() != "offline":
                    found[tag] = found.get(tag, 0) + 1
    return found


def _held(state: Path) -> set[str]:
    return {entry["tag"] for entry in json.loads(state.read_bytes())["allocations"]} if state.exists() else set()
