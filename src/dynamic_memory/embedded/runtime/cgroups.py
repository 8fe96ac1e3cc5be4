# SPDX-License-Identifier: Apache-2.0
"""The cgroup tree of a simulated node, in the shape of version 2: what a runtime makes, and what tools read of pods.

    kubepods/memory.max                                      written by the kubelet at its start, raised by the updater
    kubepods/burstable/pod<uid>/<container id>/memory.current

A file that exists is replaced whole, never truncated, so that a reader does not find it empty. Blocks for small files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

__all__ = ["CONTROLLERS", "PAGES", "ROOT", "Cgroups", "hugetlb_files", "memory_files", "page_name"]

ROOT = "kubepods"
CONTROLLERS = ("cpuset", "memory", "hugetlb")
PAGES = ("2MB", "1GB")
"""Sizes of huge pages that a simulated kernel has, as cgroups spell them."""
_UNITS = {"Mi": "MB", "Gi": "GB", "Ki": "KB"}
QOS_FOLDERS = {"Guaranteed": "", "Burstable": "burstable", "BestEffort": "besteffort"}


class Cgroups:
    """The tree below one folder.

    Args:
        root: the folder that stands for /sys/fs/cgroup.

    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: set[Path] = set()

    @property
    def pods(self) -> Path:
        """The cgroup of all pods."""
        return self.root / ROOT

    def mount(self) -> None:
        """Make the root of the tree, as the kernel shows it when nothing has been made in it."""
        self.write(self.root, {"cgroup.controllers": " ".join(CONTROLLERS) + "\n"})

    def start(self, limit: int) -> None:
        """Make the cgroup of all pods, with its limit in bytes, as the kubelet does at its start."""
        for folder in QOS_FOLDERS.values():
            (self.pods / folder).mkdir(parents=True, exist_ok=True)
        self.mount()
        for folder in QOS_FOLDERS.values():
            self.write(self.pods / folder, {"memory.min": "0\n"})
        self.write(self.pods, {"memory.max": f"{limit}\n", "cpuset.mems": "\n"})
        if not (self.pods / "memory.current").exists():
            self.write(self.pods, {"memory.current": "0\n"})

    def limit(self) -> int | None:
        """Return the limit over all pods; None if there is none, or it cannot be read."""
        try:
            text = (self.pods / "memory.max").read_text(encoding="ascii").strip()
        except OSError:
            return None
        return int(text) if text.isdecimal() else None

    def pod(self, uid: str, qos: str) -> Path:
        """Return the folder of a pod."""
        return self.pods / QOS_FOLDERS[qos] / f"pod{uid}"

    def write(self, folder: Path, files: Mapping[str, str]) -> None:
        """Write files of a cgroup, made if it is not there."""
        if folder not in self._made:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        for name, text in files.items():
            path = folder / name
            scratch = folder / f".{name}"
            with contextlib.suppress(FileNotFoundError):  # the pod went meanwhile
                descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
                try:
                    os.write(descriptor, text.encode())
                finally:
                    os.close(descriptor)
                scratch.replace(path)

    def remove(self, folder: Path) -> None:
        """Remove a cgroup and those in it; it may be gone already."""
        shutil.rmtree(folder, ignore_errors=True)
        self._made = {each for each in self._made if each != folder and folder not in each.parents}


def page_name(resource: str) -> str:
    """Return the size of a huge page as cgroups spell it (`2MB`) from its resource name (`hugepages-2Mi`)."""
    size = resource.removeprefix("hugepages-")
    return size[:-2] + _UNITS.get(size[-2:], "B")


def hugetlb_files(limits: Mapping[str, int]) -> dict[str, str]:
    """Return the files that limit huge pages: every size, in bytes; those that are not named get none."""
    return {f"hugetlb.{page}.{kind}": f"{limits.get(page, 0)}\n" for page in PAGES for kind in ("max", "rsvd.max")}


def memory_files(limit: int | None, *, anonymous: int, cache: int, pressure: float, kills: int) -> dict[str, str]:
    """Return the files about memory of a container's cgroup (Documentation/admin-guide/cgroup-v2.rst)."""
    return {
        "memory.max": f"{'max' if limit is None else limit}\n",
        "memory.current": f"{anonymous + cache}\n",
        "memory.stat": f"anon {anonymous}\nfile {cache}\ninactive_file {cache}\n",
        "memory.events": f"low 0\nhigh 0\nmax 0\noom {kills}\noom_kill {kills}\noom_group_kill 0\n",
        "memory.pressure": f"some avg10={pressure:.2f} avg60={pressure:.2f} avg300={pressure:.2f} total=0\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    }
