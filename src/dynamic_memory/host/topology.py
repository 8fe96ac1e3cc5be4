# SPDX-License-Identifier: Apache-2.0
"""The node's own memory: NUMA nodes, their pools of huge pages, and how far they are from the processors.

Everything is read below a root folder, so that a tree of files can stand for any machine. Nodes keep the numbers that
the kernel gave them, which may have gaps. What never changes while a node exists (processors, distances, tier) is read
once; amounts are read each time, a few dozen small files.

Sources: Documentation/ABI/stable/sysfs-devices-node (distance lists one number for each *online* node, in order),
Documentation/ABI/testing/sysfs-kernel-mm-hugepages and sysfs-kernel-mm-memory-tiers, Documentation/admin-guide/mm/
numaperf.rst (latency in ns, bandwidth in MB/s, from the best processors: access class 0).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from dynamic_memory.host.errors import Unreadable
from dynamic_memory.host.sysfs import Sysfs, parse_list, parse_meminfo

__all__ = ["HugePool", "LocalNode", "Topology", "TopologyReader"]

LOCAL_DISTANCE = 10
AT_PAGESZ = 6
_POOL = re.compile(r"hugepages-(?P<kib>\d+)kB")
_TIER = re.compile(r"memory_tier(?P<number>\d+)")


class HugePool(msgspec.Struct, frozen=True, kw_only=True):
    """Huge pages of one size on one node: counts, and bytes of a page.

    Attributes:
        page: bytes of a page.
        pages: that the administrator asked for and the kernel found (nr_hugepages, without surplus pages).
        free: that nobody maps, reserved or not.
        surplus: beyond the pool, given back when they are freed.

    """

    page: int
    pages: int
    free: int
    surplus: int = 0

    @property
    def size(self) -> int:
        """Bytes of the pool."""
        return self.pages * self.page

    @property
    def used(self) -> int:
        """Pages that are mapped or part of a file."""
        return max(self.pages - self.free, 0)


class LocalNode(msgspec.Struct, frozen=True, kw_only=True):
    """One NUMA node with memory.

    Attributes:
        id: its number.
        total: bytes online.
        free: bytes that nobody uses.
        fabric: bytes online that belong to shares of a fabric, and so are not the node's own.
        cpus: it has processors.
        distance: to the nearest node with processors (SLIT; 10 is the node itself).
        distances: to every online node, by number.
        tier: number of its memory tier, None if the kernel does not tell; a smaller number is faster memory.
        latency: read latency in nanoseconds from the nearest processors, if the kernel tells.
        bandwidth: read bandwidth in MB/s from the nearest processors, if the kernel tells.
        pools: huge pages, by the size of a page.

    """

    id: int
    total: int
    free: int = 0
    fabric: int = 0
    cpus: bool
    distance: int = LOCAL_DISTANCE
    distances: dict[int, int] = {}
    tier: int | None = None
    latency: int | None = None
    bandwidth: int | None = None
    pools: tuple[HugePool, ...] = ()

    @property
    def hugetlb(self) -> int:
        """Bytes in the pools of huge pages: they are part of `total`."""
        return sum((pool.pages + pool.surplus) * pool.page for pool in self.pools)

    def pool(self, page: int) -> HugePool | None:
        """Return the pool of one size."""
        return next((pool for pool in self.pools if pool.page == page), None)


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a machine.

    Attributes:
        base_page: bytes of an ordinary page (4 KiB on x86-64; 4, 16 or 64 KiB on arm64).
        huge_pages: sizes of huge pages that the kernel supports, ascending.
        default_huge_page: the size of MAP_HUGETLB without a size; None if the kernel has no huge pages.
        nodes: those that have memory, by number.

    """

    base_page: int
    huge_pages: tuple[int, ...] = ()
    default_huge_page: int | None = None
    nodes: tuple[LocalNode, ...] = ()

    def node(self, number: int) -> LocalNode | None:
        """Return the node of this number."""
        return next((node for node in self.nodes if node.id == number), None)


class _Static(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while the set of online nodes is the same."""

    cpus: bool
    distances: dict[int, int]
    tier: int | None
    latency: int | None
    bandwidth: int | None


class TopologyReader:
    """Reads the topology again and again. The methods block for a few milliseconds.

    Args:
        root: folder in which `sys` and `proc` are.

    """

    def __init__(self, root: Path) -> None:
        self._sysfs = Sysfs(root)
        self._root = root
        self._known: tuple[int, ...] = ()
        self._static: dict[int, _Static] = {}

    def read(self) -> Topology:
        """Return what is there now.

        Raises:
            Unreadable: no NUMA node has memory.

        """
        online = tuple(self._online())
        if online != self._known:
            tiers = self._tiers()
            self._static = {number: self._read_static(number, online, tiers) for number in online}
            self._known = online
        fabric = self._fabric()
        with_cpus = [number for number in online if self._static[number].cpus]
        nodes = [self._node(number, with_cpus, fabric.get(number, 0)) for number in online]
        found = tuple(node for node in nodes if node is not None)
        if not found:
            raise Unreadable(str(self._sysfs.nodes_dir), "at least one NUMA node with memory")
        meminfo = parse_meminfo(_text(self._root / "proc/meminfo"))
        sizes = tuple(sorted(_pool_folders(self._root / "sys/kernel/mm/hugepages")))
        return Topology(
            base_page=_base_page(self._root),
            huge_pages=sizes,
            default_huge_page=meminfo.get("Hugepagesize") if sizes else None,
            nodes=found,
        )

    def _online(self) -> list[int]:
        listed = parse_list(_text(self._sysfs.nodes_dir / "online"))
        present = self._sysfs.node_ids()
        return [number for number in present if number in listed] if listed else present

    def _node(self, number: int, with_cpus: list[int], fabric: int) -> LocalNode | None:
        folder = self._sysfs.nodes_dir / f"node{number}"
        fields = parse_meminfo(_text(folder / "meminfo"))
        total = fields.get("MemTotal", 0)
        if not total:
            return None
        static = self._static[number]
        pools = tuple(
            HugePool(
                page=page,
                pages=max(_number(path / "nr_hugepages") - _number(path / "surplus_hugepages"), 0),
                free=_number(path / "free_hugepages"),
                surplus=_number(path / "surplus_hugepages"),
            )
            for page, path in sorted(_pool_folders(folder / "hugepages").items())
        )
        near = [static.distances[other] for other in with_cpus if other in static.distances]
        return LocalNode(
            id=number,
            total=total,
            free=fields.get("MemFree", 0),
            fabric=min(fabric, total),
            cpus=static.cpus,
            distance=min(near, default=LOCAL_DISTANCE),
            distances=static.distances,
            tier=static.tier,
            latency=static.latency,
            bandwidth=static.bandwidth,
            pools=pools,
        )

    def _read_static(self, number: int, online: tuple[int, ...], tiers: dict[int, int]) -> _Static:
        folder = self._sysfs.nodes_dir / f"node{number}"
        distances = [int(text) for text in _text(folder / "distance").split() if text.isdecimal()]
        initiators = folder / "access0/initiators"
        return _Static(
            cpus=bool(parse_list(_text(folder / "cpulist"))),
            distances=dict(zip(online, distances, strict=False)),
            tier=tiers.get(number),
            latency=_number(initiators / "read_latency") or None,
            bandwidth=_number(initiators / "read_bandwidth") or None,
        )

    def _tiers(self) -> dict[int, int]:
        found: dict[int, int] = {}
        folder = self._root / "sys/devices/virtual/memory_tiering"
        for entry in _entries(folder):
            match = _TIER.fullmatch(entry.name)
            if match:
                found |= dict.fromkeys(parse_list(_text(entry / "nodelist")), int(match["number"]))
        return found

    def _fabric(self) -> dict[int, int]:
        """Bytes online by node that are shares of a fabric: dax devices with a tag."""
        if not any(entry.name.startswith("dax") for entry in _entries(self._sysfs.dax_dir)):
            return {}
        held: dict[int, int] = {}
        for region in self._sysfs.regions().values():
            for block in region.blocks:
                if block.state == "online":
                    held[block.node] = held.get(block.node, 0) + block.size
        return held


def _base_page(root: Path) -> int:
    """Return the size of a page as the kernel told it to this process (auxiliary vector), else as the C library does.

    A tree of files has its own `proc/self/auxv`; on a real root that file is this process's.
    """
    try:
        data = (root / "proc/self/auxv").read_bytes()
    except OSError:
        data = b""
    word = struct.calcsize("@L")
    for offset in range(0, len(data) - 2 * word + 1, 2 * word):
        kind, value = struct.unpack_from("@LL", data, offset)
        if kind == AT_PAGESZ and value:
            return int(value)
    return os.sysconf("SC_PAGE_SIZE")


def _pool_folders(parent: Path) -> dict[int, Path]:
    """Return the folders `hugepages-<n>kB` by the size of a page in bytes; anything else is passed over."""
    found = {}
    for entry in _entries(parent):
        match = _POOL.fullmatch(entry.name)
        if match:
            found[int(match["kib"]) * 1024] = entry
    return found


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:
        return


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdecimal() else 0
