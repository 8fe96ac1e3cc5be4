# SPDX-License-Identifier: Apache-2.0
"""The tree of cgroups with what limits memory and huge pages in it: limits, usage, and how often a limit was hit.

Version 2 says it in one folder a cgroup (`hugetlb.2MB.max`, `.rsvd.max`, `.current`, `.events`; `memory.max`,
`.current`, `.events`), version 1 in a tree a controller (`limit_in_bytes`, `usage_in_bytes`, `failcnt`). Cgroups vanish
while they are read; what is gone is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

__all__ = ["Amount", "Cgroup", "read_tree"]

UNLIMITED = 1 << 60
MAX_DEPTH = 16
_SIZE = re.compile(r"hugetlb\.(?P<size>\d+[KMG]B)\.(?:max|limit_in_bytes)")


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of a cgroup. Bytes; a limit that is None is none at all.

    Attributes:
        resource: `memory`, or a size of huge pages as cgroups have it (`2MB`).
        limit: of what may be used.
        reserved_limit: of what may be reserved by mmap (huge pages).
        current: in use.
        failures: how often the limit was hit.

    """

    resource: str
    limit: int | None
    reserved_limit: int | None = None
    current: int = 0
    failures: int = 0

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.limit is not None or self.reserved_limit is not None


class Cgroup(msgspec.Struct, frozen=True, kw_only=True):
    """One cgroup: its path below the root, its nodes, its amounts, and the cgroups in it."""

    path: str
    mems: str = ""
    amounts: tuple[Amount, ...] = ()
    children: tuple[Cgroup, ...] = ()

    @property
    def depth(self) -> int:
        """How deep it is below the root."""
        return self.path.strip("/").count("/") + 1 if self.path.strip("/") else 0

    def walk(self) -> Iterator[Cgroup]:
        """Return this cgroup and all below, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


def read_tree(root: Path, path: str = "/") -> Cgroup | None:
    """Return the tree below a cgroup; None if there is none of this path.

    Args:
        root: where cgroup version 2 is mounted, or the folder with the controllers of version 1.
        path: of the cgroup.

    """
    if (root / "cgroup.controllers").is_file():
        return _read(root, path, 0, _amounts_v2)
    memory, hugetlb = root / "memory", root / "hugetlb"
    base = memory if memory.is_dir() else hugetlb

    def amounts(folder: Path) -> tuple[tuple[Amount, ...], str]:
        below = folder.relative_to(base)
        found = [*_memory_v1(memory / below), *_hugetlb(hugetlb / below, _V1)]
        return tuple(found), _text(root / "cpuset" / below / "cpuset.mems")

    return _read(base, path, 0, amounts)


def _read(base: Path, path: str, depth: int, amounts: object) -> Cgroup | None:
    folder = base / path.strip("/")
    if not folder.is_dir():
        return None
    assert callable(amounts)  # noqa: S101 - for the type checker
    found, mems = amounts(folder)
    children = []
    if depth < MAX_DEPTH:
        for name in sorted(_folders(folder)):
            child = _read(base, f"{path.rstrip('/')}/{name}", depth + 1, amounts)
            if child is not None:
                children.append(child)
    return Cgroup(path=path, mems=mems, amounts=found, children=tuple(children))


def _amounts_v2(folder: Path) -> tuple[tuple[Amount, ...], str]:
    found = list(_hugetlb(folder, _V2))
    if (folder / "memory.max").is_file():
        found.insert(
            0,
            Amount(
                resource="memory",
                limit=_limit(folder / "memory.max"),
                current=_number(folder / "memory.current"),
                failures=_event(folder / "memory.events", "max"),
            ),
        )
    return tuple(found), _text(folder / "cpuset.mems")


def _memory_v1(folder: Path) -> Iterator[Amount]:
    if (folder / "memory.limit_in_bytes").is_file():
        yield Amount(
            resource="memory",
            limit=_limit(folder / "memory.limit_in_bytes"),
            current=_number(folder / "memory.usage_in_bytes"),
            failures=_number(folder / "memory.failcnt"),
        )


class _Names(msgspec.Struct, frozen=True):
    limit: str
    reserved: str
    current: str


_V2 = _Names("max", "rsvd.max", "current")
_V1 = _Names("limit_in_bytes", "rsvd.limit_in_bytes", "usage_in_bytes")


def _hugetlb(folder: Path, names: _Names) -> Iterator[Amount]:
    try:
        entries = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return
    for entry in entries:
        match = _SIZE.fullmatch(entry)
        if match is None:
            continue
        stem = f"hugetlb.{match['size']}"
        failures = _event(folder / f"{stem}.events", "max") if names is _V2 else _number(folder / f"{stem}.failcnt")
        yield Amount(
            resource=match["size"],
            limit=_limit(folder / f"{stem}.{names.limit}"),
            reserved_limit=_limit(folder / f"{stem}.{names.reserved}"),
            current=_number(folder / f"{stem}.{names.current}"),
            failures=failures,
        )


def _folders(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _limit(path: Path) -> int | None:
    text = _text(path)
    number = int(text) if text.isdecimal() else UNLIMITED
    return None if number >= UNLIMITED else number


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdecimal() else 0


def _event(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0
