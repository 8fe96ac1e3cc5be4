# SPDX-License-Identifier: Apache-2.0
"""Machines made of files: sysfs and procfs trees of any number of NUMA nodes, below a folder.

    root = build(tmp_path, nodes=[Node(0, 16 * GIB, pools={2 * MIB: 512}), Node(2, 8 * GIB, cpus="", tier=20)])

Written after what a kernel shows: distances in the order of online nodes, pools a node and a size, meminfo in kB.
`set_pages`, `set_total` and `online` change a machine as an administrator or a hot-plug would.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dynamic_memory.host.sysfs import format_list

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
X86 = (2 * MIB, GIB)
ARM64_4K = (64 * KIB, 2 * MIB, 32 * MIB, GIB)
ARM64_64K = (2 * MIB, 512 * MIB, 16 * GIB)
NODES = "sys/devices/system/node"


class Node(NamedTuple):
    """A NUMA node; `pools` are pages by size; `cpus` empty makes it CPU-less."""

    id: int
    total: int
    cpus: str = "0-3"
    pools: Mapping[int, int] = {}
    free_pages: Mapping[int, int] = {}
    tier: int | None = 4
    latency: int = 0
    surplus: Mapping[int, int] = {}


def build(
    root: Path,
    nodes: Sequence[Node],
    *,
    sizes: Sequence[int] = X86,
    base_page: int = 4 * KIB,
    distances: Mapping[tuple[int, int], int] | None = None,
    foreign: Sequence[str] = (),
) -> Path:
    """Make the tree of a machine and return its root."""
    online = [node.id for node in nodes]
    put(root / f"{NODES}/online", format_list(online))
    put(root / f"{NODES}/possible", format_list(range(max(online, default=0) + 1)))
    for node in nodes:
        add_node(root, node, online, sizes, distances or {})
    tiers: dict[int, list[int]] = {}
    for node in nodes:
        if node.tier is not None:
            tiers.setdefault(node.tier, []).append(node.id)
    for tier, members in tiers.items():
        put(root / f"sys/devices/virtual/memory_tiering/memory_tier{tier}/nodelist", format_list(members))
    for size in sizes:
        put(root / f"sys/kernel/mm/hugepages/hugepages-{size // KIB}kB/nr_hugepages", "0")
    for name in foreign:
        (root / f"sys/kernel/mm/hugepages/{name}").mkdir(parents=True)
    total = sum(node.total for node in nodes)
    lines = [f"MemTotal:       {total // KIB} kB"]
    lines += [f"Hugepagesize:       {(2 * MIB if 2 * MIB in sizes else sizes[0]) // KIB} kB"] if sizes else []
    put(root / "proc/meminfo", "\n".join(lines))
    auxv = root / "proc/self/auxv"
    auxv.parent.mkdir(parents=True, exist_ok=True)
    auxv.write_bytes(struct.pack("@LLLLLL", 3, 0x400040, 6, base_page, 0, 0))
    return root


def add_node(
    root: Path, node: Node, online: Sequence[int], sizes: Sequence[int], distances: Mapping[tuple[int, int], int]
) -> None:
    folder = root / f"{NODES}/node{node.id}"
    put(folder / "cpulist", node.cpus)
    default = {other: 10 if other == node.id else 20 for other in online}
    row = [distances.get((node.id, other), distances.get((other, node.id), default[other])) for other in online]
    put(folder / "distance", " ".join(map(str, row)))
    set_total(root, node.id, node.total)
    if node.latency:
        put(folder / "access0/initiators/read_latency", str(node.latency))
        put(folder / "access0/initiators/read_bandwidth", "20000")
    for size in sizes:
        set_pages(root, node.id, size, node.pools.get(size, 0), node.free_pages.get(size), node.surplus.get(size, 0))


def set_pages(root: Path, node: int, page: int, count: int, free: int | None = None, surplus: int = 0) -> None:
    """What an administrator reserves."""
    folder = root / f"{NODES}/node{node}/hugepages/hugepages-{page // KIB}kB"
    put(folder / "nr_hugepages", str(count + surplus))
    put(folder / "free_hugepages", str(count if free is None else free))
    put(folder / "surplus_hugepages", str(surplus))


def set_total(root: Path, node: int, total: int) -> None:
    """What hot-plug does."""
    text = f"Node {node} MemTotal:       {total // KIB} kB\nNode {node} MemFree:        {total // KIB // 2} kB"
    put(root / f"{NODES}/node{node}/meminfo", text)


def remove_node(root: Path, node: int, online: Sequence[int]) -> None:
    """What happens when the last block of a node goes offline and the node with it."""
    shutil.rmtree(root / f"{NODES}/node{node}")
    put(root / f"{NODES}/online", format_list(online))


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
