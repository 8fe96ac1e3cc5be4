# SPDX-License-Identifier: Apache-2.0
"""How cgroups are mounted on a node: version 2 alone, version 1, or both (hybrid). Pure.

Source: Documentation/filesystems/proc.rst, section 3.5 (mountinfo). The options of a mount and those of its file system
(super options) are different fields; `memory_hugetlb_accounting` is one of the latter, in the last field.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = ["CgroupMode", "CgroupMounts", "Mount", "cgroup_mounts", "parse_mountinfo"]

FIELDS_BEFORE = 6
FIELDS_AFTER = 3
ACCOUNTING = "memory_hugetlb_accounting"
_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One line of mountinfo.

    Attributes:
        device: `major:minor` of the file system.
        root: folder of the file system that is mounted.
        path: where.
        type: of the file system.
        options: of this mount.
        super_options: of the file system.

    """

    device: str
    root: str
    path: str
    type: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]


class CgroupMode(enum.StrEnum):
    """What is mounted."""

    NONE = "none"
    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"
    """Version 1 has the controllers; version 2 is there as well, without them."""
    AMBIGUOUS = "ambiguous"
    """Version 2 is mounted at several places."""


class CgroupMounts(msgspec.Struct, frozen=True, kw_only=True):
    """The cgroups of a node.

    Attributes:
        mode: see `CgroupMode`.
        unified: where version 2 is mounted; empty if it is not, or at several places.
        v1: where each controller of version 1 is mounted.
        hugetlb_accounting: huge pages count as memory too: memory.max has to have room for them.

    """

    mode: CgroupMode
    unified: str = ""
    v1: dict[str, str] = {}
    hugetlb_accounting: bool = False


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts; a line that is not one is passed over."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if not separator or len(left) < FIELDS_BEFORE or len(right) < FIELDS_AFTER:
            continue
        found.append(
            Mount(
                device=left[2],
                root=_unescape(left[3]),
                path=_unescape(left[4]),
                options=tuple(left[5].split(",")),
                type=right[0],
                super_options=tuple(right[-1].split(",")),
            )
        )
    return found


def cgroup_mounts(mounts: list[Mount], chosen: str | None = None) -> CgroupMounts:
    """Return how cgroups are mounted.

    Args:
        mounts: all mounts.
        chosen: where version 2 is to be looked for; None if it may be anywhere, but only once.

    """
    # of several at one place only the last one is seen
    v2 = list({mount.path: mount for mount in mounts if mount.type == "cgroup2"}.values())
    if chosen is not None and any(mount.path == chosen for mount in v2):
        v2 = [mount for mount in v2 if mount.path == chosen]
    v1 = {
        controller: mount.path
        for mount in mounts
        if mount.type == "cgroup"
        for controller in mount.super_options
        if controller in {"memory", "cpuset", "hugetlb"}
    }
    accounting = any(ACCOUNTING in mount.super_options for mount in v2)
    if len(v2) > 1:
        mode = CgroupMode.AMBIGUOUS
    elif v1:
        mode = CgroupMode.HYBRID if v2 else CgroupMode.V1
    else:
        mode = CgroupMode.V2 if v2 else CgroupMode.NONE
    unified = v2[0].path if len(v2) == 1 else ""
    return CgroupMounts(mode=mode, unified=unified, v1=v1, hugetlb_accounting=accounting)


def _unescape(text: str) -> str:
    for escaped, plain in _ESCAPES.items():
        text = text.replace(escaped, plain)
    return text
