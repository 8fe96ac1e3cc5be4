# SPDX-License-Identifier: Apache-2.0
"""Makes the tree of a freshly booted host: its own memory online, an empty window for fabric memory.

Addresses: the nodes' own memory from 0 upwards, without holes; then, at the next 1 TiB, the window that the firmware
of a CXL host declares (its root decoder). The window has a NUMA node of its own, which exists while it has blocks.
Pools of huge pages have the sizes of x86-64, and may be empty.
"""

from __future__ import annotations

import errno
import fcntl
import uuid
from pathlib import Path

from dynamic_memory.host.config import SimulatedHostConfig
from dynamic_memory.host.simulated.files import Files, Tree
from dynamic_memory.host.sysfs import format_list
from dynamic_memory.quantity import parse_bytes

__all__ = ["OFFLINE_ZONES", "block_files", "build", "is_built", "meminfo"]

WINDOW_ALIGNMENT = 1 << 40
CPUS_OF_A_NODE = 4
OFFLINE_ZONES = "Normal Movable"
PAGES = (2 << 20, 1 << 30)
LOCAL, REMOTE = 10, 20
"""Distances between nodes."""
MEMORY = "sys/devices/system/memory"
NODES = "sys/devices/system/node"
_EMPTY = ("sys/bus/dax/devices", "sys/bus/dax/drivers/kmem")


def is_built(root: Path) -> bool:
    """Tell whether there is a whole tree below `root`."""
    return (root / "sys").is_dir()


def build(config: SimulatedHostConfig) -> None:
    """Make the tree unless it is there; any number of processes may try at the same time, one of them does it.

    Raises:
        OSError: the folder cannot be made or written.

    """
    root = config.root
    if is_built(root):
        return
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".building.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_built(root):
            _build(config, Tree(root, Files()))


def _build(config: SimulatedHostConfig, tree: Tree) -> None:
    temporary = tree.root / ".building"
    if temporary.exists():
        tree.take(temporary)
    files, links = _content(config)
    tree.place(temporary, files, links, folders=_EMPTY)
    for name in ("proc", "sys"):
        try:
            tree.move(temporary / name, tree.root / name)
        except OSError as error:
            # whoever comes second finds the folder there and leaves it
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
    tree.take(temporary)


def block_files(index: int, *, state: str, zones: str) -> dict[str, str]:
    """Return the files of a memory block."""
    return {
        "state": state,
        "valid_zones": zones,
        "phys_index": f"{index:08x}",
        "phys_device": "0",
        "removable": "1",
    }


def meminfo(total: int, used: int, node: int | None = None) -> str:
    """Return `/proc/meminfo`, or the `meminfo` of a NUMA node, in short."""
    prefix = "" if node is None else f"Node {node} "
    fields = {"MemTotal": total, "MemFree": total - used} | ({} if node is None else {"MemUsed": used})
    return "\n".join(f"{prefix}{f'{name}:':<16}{value // 1024:>8} kB" for name, value in fields.items())


def _content(config: SimulatedHostConfig) -> tuple[dict[str, str], dict[str, str]]:
    """Return all files and links; what follows from the blocks is added by the kernel when it first runs."""
    size = int(config.block_size)
    files = {
        "proc/sys/kernel/random/boot_id": str(uuid.uuid4()),
        f"{MEMORY}/block_size_bytes": f"{size:x}",
        f"{MEMORY}/auto_online_blocks": config.auto_online,
        f"{NODES}/possible": format_list(range(len(config.nodes) + 1)),
    }
    links: dict[str, str] = {}
    index = 0
    for node, memory in enumerate(config.nodes):
        cpus = range(node * CPUS_OF_A_NODE, (node + 1) * CPUS_OF_A_NODE)
        files[f"{NODES}/node{node}/cpulist"] = format_list(cpus)
        files[f"{NODES}/node{node}/meminfo"] = meminfo(memory, 0, node)
        files[f"{NODES}/node{node}/distance"] = " ".join(
            str(LOCAL if other == node else REMOTE) for other in range(len(config.nodes))
        )
        for _ in range(memory // size):
            for name, text in block_files(index, state="online", zones="Normal").items():
                files[f"{MEMORY}/memory{index}/{name}"] = text
            links[f"{MEMORY}/memory{index}/node{node}"] = f"../../node/node{node}"
            links[f"{NODES}/node{node}/memory{index}"] = f"../../memory/memory{index}"
            index += 1
    files |= _hugepages(config)
    files["proc/meminfo"] = meminfo(sum(config.nodes), 0)
    online = format_list(range(len(config.nodes)))
    for name in ("online", "has_memory", "has_normal_memory", "has_cpu"):
        files[f"{NODES}/{name}"] = online
    start = -(-index * size // WINDOW_ALIGNMENT) * WINDOW_ALIGNMENT
    decoder = "sys/bus/cxl/devices/decoder0.0"
    files |= {
        f"{decoder}/start": f"{start:#x}",
        f"{decoder}/size": f"{int(config.window):#x}",
        f"{decoder}/cap_ram": "1",
        f"{decoder}/devtype": "cxl_decoder_root",
    }
    return files, links


def _hugepages(config: SimulatedHostConfig) -> dict[str, str]:
    """Return the pools of huge pages: spread evenly, what is left over on the first nodes that have room."""
    room = [int(size) for size in config.nodes]
    asked = {parse_bytes(page): int(amount) for page, amount in config.hugepages.items()}
    files: dict[str, str] = {}
    for page in sorted(PAGES, reverse=True):  # large ones first, while there is room for them
        pools = [0] * len(room)
        left, node = asked.get(page, 0) // page, 0
        while left and any(size >= page for size in room):
            if room[node] >= page:
                pools[node], room[node], left = pools[node] + 1, room[node] - page, left - 1
            node = (node + 1) % len(room)
        folder = f"hugepages-{page // 1024}kB"
        for node, count in enumerate(pools):
            files |= _pool(f"{NODES}/node{node}/hugepages/{folder}", count)
        files |= _pool(f"sys/kernel/mm/hugepages/{folder}", sum(pools))
    return files


def _pool(folder: str, count: int) -> dict[str, str]:
    return {
        f"{folder}/nr_hugepages": str(count),
        f"{folder}/free_hugepages": str(count),
        f"{folder}/surplus_hugepages": "0",
    }
