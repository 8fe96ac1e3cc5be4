# SPDX-License-Identifier: Apache-2.0
"""Reading CDI files, as a container runtime does: from the names of devices to what changes in a container.

`vendor/class=name`, in the file of a folder whose `kind` is `vendor/class` and that has a device of this name. Of the
edits, environment and mounts mean something to a simulated container. (Container Device Interface 0.8.0)
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from dynamic_memory.errors import RetryError

__all__ = ["Edits", "UnresolvableDevices", "read"]


class UnresolvableDevices(RetryError):
    """No file has these devices.

    Args:
        devices: their names.

    """

    def __init__(self, devices: tuple[str, ...]) -> None:
        self.devices = devices
        super().__init__(devices)

    def __str__(self) -> str:
        return f"CDI device injection failed: unresolvable CDI devices {', '.join(self.devices)}"


class Edits(msgspec.Struct, frozen=True):
    """What changes in a container: environment, and host paths by path in the container."""

    env: dict[str, str]
    mounts: dict[str, str]


def read(folder: Path, devices: Iterable[str]) -> Edits:
    """Return the edits of devices. Blocks for small files.

    Raises:
        UnresolvableDevices: some are in no file.

    """
    wanted = tuple(dict.fromkeys(devices))
    if not wanted:
        return Edits({}, {})
    kinds: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            spec = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        kinds.setdefault(spec.get("kind", ""), []).append(spec)
    edits = Edits({}, {})
    missing = []
    for device in wanted:
        kind, _, name = device.partition("=")
        found = [
            (spec, entry)
            for spec in kinds.get(kind, ())
            for entry in spec.get("devices") or ()
            if entry.get("name") == name
        ]
        if not found:
            missing.append(device)
            continue
        spec, entry = found[-1]
        for part in (spec.get("containerEdits") or {}, entry.get("containerEdits") or {}):
            _merge(edits, part)
    if missing:
        raise UnresolvableDevices(tuple(missing))
    return edits


def _merge(edits: Edits, part: dict[str, Any]) -> None:
    for text in part.get("env") or ():
        key, _, value = text.partition("=")
        edits.env[key] = value
    for mount in part.get("mounts") or ():
        edits.mounts[mount["containerPath"]] = mount["hostPath"]
