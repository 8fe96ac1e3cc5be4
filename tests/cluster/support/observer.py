# SPDX-License-Identifier: Apache-2.0
"""An observer that trusts nobody: it reads the fabric's own file and looks at every moment of a scenario.

It shares no code with service, controller or driver. What it sees broken once, it tells at the end, even if it was
mended a moment later: more bytes held than there are (I1, I7), or bytes that two shares have.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["Observer"]


class Observer:
    """Looks at one domain in the file of a simulated fabric every few milliseconds while it is entered."""

    def __init__(self, state: Path, domain: str, total: int, every: float = 0.01) -> None:
        self._state = state
        self._domain = domain
        self._total = total
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="observer", daemon=True)
        self.broken: list[str] = []
        self.looks = 0
        self.most = 0
        self.most_of: dict[str, int] = {}
        """The most bytes that each tag ever held."""

    def __enter__(self) -> Observer:  # noqa: PYI034 - there is no subclass
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        assert self.looks > 0, "nothing was observed"
        assert not self.broken, self.broken[:5]

    def _look(self) -> None:
        seen: tuple[int, int] | None = None
        while not self._stop.wait(self._every):
            try:
                status = self._state.stat()
                if (status.st_mtime_ns, status.st_ino) == seen:
                    self.looks += 1
                    continue
                seen = status.st_mtime_ns, status.st_ino
                self._judge(json.loads(self._state.read_bytes()))
                self.looks += 1
            except (FileNotFoundError, ValueError):
                continue

    def _judge(self, state: Any) -> None:
        held = [entry for entry in ranges(state) if entry[1].startswith(f"{self._domain}/")]
        total = sum(size for *_, size in held)
        self.most = max(self.most, total)
        if total > self._total:
            self.broken.append(f"{time.time()}: {total} bytes held of {self._total}")
        by_device: dict[str, list[tuple[int, int, str]]] = {}
        of_tag: dict[str, int] = {}
        for tag, device, offset, size in held:
            by_device.setdefault(device, []).append((offset, size, tag))
            of_tag[tag] = of_tag.get(tag, 0) + size
        for tag, size in of_tag.items():
            self.most_of[tag] = max(self.most_of.get(tag, 0), size)
        for device, entries in by_device.items():
            entries.sort()
            for (start, size, tag), (following, _, other) in itertools.pairwise(entries):
                if start + size > following:
                    self.broken.append(f"{device}: {tag} and {other} share bytes")


def ranges(state: Any) -> list[tuple[str, str, int, int]]:
    """Return (tag, device, offset, size) of every extent in the fabric's file."""
    return [
        (entry["tag"], f"{entry['domain']}/{entry['device']}", part["device_offset"], part["size"])
        for entry in state["allocations"]
        for part in entry["ranges"]
    ]
