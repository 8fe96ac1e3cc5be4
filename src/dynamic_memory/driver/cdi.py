# SPDX-License-Identifier: Apache-2.0
"""CDI files: how a container learns what memory its claim gave it (Container Device Interface 0.8.0).

One file a claim, so that writing one never depends on the others. It has one device, or, where containers may use the
claim's requests apart from each other, one for each request: the kubelet gives a container the devices of the requests
that it names. A file is made whole under another name, in the same folder, and renamed: the runtime never sees half of
one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

__all__ = [
    "CLASS",
    "DEVICE_PREFIX",
    "KIND",
    "VENDOR",
    "DeviceNode",
    "Edits",
    "Mount",
    "Specs",
    "device_id",
    "device_name",
    "render",
    "render_all",
]

VERSION = "0.8.0"
VENDOR = "dra.memory"
CLASS = "claim"
KIND = f"{VENDOR}/{CLASS}"
FILE_PREFIX = f"{VENDOR}-{CLASS}-"
DEVICE_PREFIX = "claim-"


class Mount(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A mount into the container: of a folder or file of the host, or of a file system of this type."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    type: str = ""


class DeviceNode(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A device file for the container, for example `/dev/dax0.0`."""

    path: str
    host_path: str = ""
    permissions: str = ""


class Edits(msgspec.Struct, frozen=True, kw_only=True):
    """What changes in a container that uses the claim."""

    env: dict[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()


def device_name(key: str) -> str:
    """Return the name of the device of a claim, or of one request of it (see `grants.key_of`)."""
    return f"{DEVICE_PREFIX}{key}"


def device_id(key: str) -> str:
    """Return the qualified name that the kubelet passes to the runtime."""
    return f"{KIND}={device_name(key)}"


def render(uid: str, edits: Edits) -> str:
    """Return the spec file of a claim with one device: the same text for the same edits."""
    return render_all({uid: edits})


def render_all(edits: Mapping[str, Edits]) -> str:
    """Return the spec file of a claim with a device for each key: the same text for the same edits."""
    devices = [{"name": device_name(key), "containerEdits": _edits(each)} for key, each in sorted(edits.items())]
    spec = {"cdiVersion": VERSION, "kind": KIND, "devices": devices}
    return msgspec.json.format(msgspec.json.encode(spec), indent=2).decode() + "\n"


def _edits(edits: Edits) -> dict[str, Any]:
    containers: dict[str, Any] = {"env": [f"{key}={value}" for key, value in sorted(edits.env.items())]}
    if edits.mounts:
        containers["mounts"] = msgspec.to_builtins(edits.mounts)
    if edits.device_nodes:
        containers["deviceNodes"] = msgspec.to_builtins(edits.device_nodes)
    return containers


class Specs:
    """The folder of CDI files. The methods block for one small file.

    Args:
        folder: where the runtime looks, usually /var/run/cdi; made if it is missing.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, uid: str, text: str) -> None:
        """Write the file of a claim, unless it says the same already.

        Nothing is synced to the disk: the folder does not outlive a reboot, and the text is in the claim's record.
        """
        path = self._path(uid)
        if self.says(uid, text):
            return
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        # the runtime reads *.json and *.yaml only; each write has a name of its own, for Prepare and the loop may write
        # at the same time, and so may another container, in which the driver is process 1 as well
        partial = path.with_suffix(f".{secrets.token_hex(8)}.tmp")
        try:
            partial.write_text(text)
            partial.chmod(0o644)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def says(self, uid: str, text: str) -> bool:
        """Tell whether the file of a claim is there and has this text."""
        try:
            return self._path(uid).read_bytes() == text.encode()
        except FileNotFoundError:
            return False

    def remove(self, uid: str) -> None:
        """Remove the file of a claim; it may be gone already."""
        self._path(uid).unlink(missing_ok=True)

    def found(self) -> dict[Path, str]:
        """Return the files that are there, with the UID of their claim; without one, what a killed writer left."""
        files = sorted(self._folder.glob(f"{FILE_PREFIX}*"))
        return {path: path.stem.removeprefix(FILE_PREFIX) if path.suffix == ".json" else "" for path in files}

    def prune(self, keep: Iterable[str], found: Iterable[Path] | None = None) -> list[str]:
        """Remove the files of all other claims, and what a killed writer left; return the names of the files.

        Args:
            keep: UIDs of claims.
            found: only files of these; default: all that are there.

        """
        kept = {self._path(uid).name for uid in keep}
        stale = [path for path in (self.found() if found is None else found) if path.name not in kept]
        for path in stale:
            path.unlink(missing_ok=True)
        return [path.name for path in stale]

    def _path(self, uid: str) -> Path:
        return self._folder / f"{FILE_PREFIX}{uid}.json"
