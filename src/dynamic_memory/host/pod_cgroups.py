# SPDX-License-Identifier: Apache-2.0
"""The cgroups of pods, which no runtime writes for us: limits of huge pages, and protected memory.

The kubelet makes the cgroup of a pod with huge pages limited to what the pod's spec says, 0 for a pod whose pages come
from a claim, and protects nothing. A container can use no more than its pod may, and is protected no more than all
cgroups above it are.

Version 2 has `hugetlb.<size>.max` and `.rsvd.max` and `memory.min` in the folder of the cgroup; version 1 has
`hugetlb.<size>.limit_in_bytes` and `.rsvd.limit_in_bytes` below the controller `hugetlb`, and protects nothing. Of the
two limits the one of reservations is written first: with a room for pages and none for reservations mmap fails.

The files are the kernel's and a write takes microseconds; nothing here waits.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.mounts import CgroupMode, CgroupMounts

__all__ = ["PodCgroups", "expand_slice"]

TOPS = ("kubepods.slice", "kubepods")
HUGE = 1 << 60
"""A limit from here on means none."""


def expand_slice(parent: str) -> str:
    """Return the path of the cgroup of a pod from what a runtime calls it.

    With the systemd driver that is the name of a slice alone, and the names of the slices above follow from it
    (`a-b.slice` is in `a.slice`); with the other driver it is the path.

    Raises:
        InvalidInput: it is no path of a cgroup.

    """
    name = parent.strip("/")
    if not name or ".." in name.split("/"):
        raise InvalidInput("cgroup_parent", "the path of a cgroup", parent)
    if "/" in name or not name.endswith(".slice"):
        return name
    parts = name.removesuffix(".slice").split("-")
    return "/".join(f"{'-'.join(parts[: length + 1])}.slice" for length in range(len(parts)))


class PodCgroups:
    """Writes to cgroups of pods.

    Args:
        mounts: how cgroups are mounted.
        root: what the paths of the mounts are below, `/` but for tests.

    """

    def __init__(self, mounts: CgroupMounts, root: Path = Path("/")) -> None:
        self._unified = _below(root, mounts.unified) if mounts.mode is CgroupMode.V2 else None
        hugetlb = mounts.v1.get("hugetlb")
        self._hugetlb = self._unified or (_below(root, hugetlb) if hugetlb else None)
        controllers = _controllers(self._unified)
        self.limits_hugepages = self._hugetlb is not None and (self._unified is None or "hugetlb" in controllers)
        """Whether huge pages can be limited at all."""
        self.protects = "memory" in controllers
        """Whether memory can be protected."""
        self.accounting = mounts.hugetlb_accounting
        """Whether huge pages count as memory, too."""

    def set_hugepages(self, path: str, limits: Mapping[str, int]) -> list[str]:
        """Limit huge pages of a pod; return what did not work, a sentence each.

        A limit below what is in use is refused by the kernel; that is not told, the next call tries again.

        Args:
            path: see `expand_slice`.
            limits: bytes by size as cgroups spell it (`2MB`).

        """
        if self._hugetlb is None or not self.limits_hugepages:
            return []
        end = "max" if self._unified is not None else "limit_in_bytes"
        problems: list[str] = []
        for size, limit in sorted(limits.items()):
            stem = f"{self._hugetlb}/{path}/hugetlb.{size}."
            _write(f"{stem}rsvd.{end}", limit, problems, busy_is_fine=True)
            _write(f"{stem}{end}", limit, problems, busy_is_fine=True)
        return problems

    def hugepages(self, path: str, size: str) -> int | None:
        """Return the limit of a pod in bytes; None if there is none."""
        if self._hugetlb is None:
            return None
        return _read(
            self._hugetlb / path / f"hugetlb.{size}.{'max' if self._unified is not None else 'limit_in_bytes'}"
        )

    def protect(self, path: str, amount: int) -> list[str]:
        """Protect this many bytes of a cgroup from being reclaimed; return what did not work, a sentence each."""
        if self._unified is None or not self.protects:
            return []
        problems: list[str] = []
        _write(f"{self._unified}/{path}/memory.min", amount, problems, busy_is_fine=False)
        return problems

    def protected(self, path: str) -> int:
        """Return the bytes of a cgroup that are protected."""
        return 0 if self._unified is None else (_read(self._unified / path / "memory.min") or 0)

    @staticmethod
    def above(path: str) -> list[str]:
        """Return the cgroups from the top down to the one above a pod's; none if it is not one of the kubelet's.

        The one of all pods is the first, unless the kubelet has a `cgroupRoot`.
        """
        parts = path.split("/")
        ours = any(part in TOPS or part.endswith(f"-{TOPS[0]}") for part in parts[:-1])
        return ["/".join(parts[:n]) for n in range(1, len(parts))] if ours else []


def _below(root: Path, path: str) -> Path:
    return root / path.strip("/")


def _controllers(unified: Path | None) -> list[str]:
    if unified is None:
        return []
    try:
        return (unified / "cgroup.controllers").read_text(encoding="ascii").split()
    except OSError:
        return []


def _read(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and int(text) < HUGE else None


def _write(file: str, value: int, problems: list[str], *, busy_is_fine: bool) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC | os.O_TRUNC)
        try:
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        if not (busy_is_fine and error.errno == errno.EBUSY):
            problems.append(f"{file}: {error.strerror or error}")
