# SPDX-License-Identifier: Apache-2.0
"""The behaviour of the kernel, on a tree of files: what appears, what changes state, what is refused.

Of a region's life, each step is one change that is seen whole: first its dax device, with the addresses of its extents,
then memory block after memory block; and the other way round. So wherever a writer dies, the dax device tells what the
blocks ought to be, and the step can be repeated. What follows from the blocks (the nodes' folders and `meminfo`) is
written last, and put right before the next change (`settle`).

Modelled on Linux 7.2 with a dynamic capacity device: a tag is one dax device (its `uuid`) with a mapping for each
extent, bound to kmem. As there: a new block follows `auto_online_blocks`, a block in zone Normal does not go offline
(EBUSY), and to write a state that a block has already is EINVAL. Blocks; callers on an event loop use a thread.
"""

from __future__ import annotations

import errno
import itertools
import os
import uuid
from collections.abc import Mapping as Map
from collections.abc import Sequence
from pathlib import Path

from dynamic_memory.host import planner
from dynamic_memory.host.errors import NotArrived, RegionFailed, Unreadable
from dynamic_memory.host.interface import Block, Region
from dynamic_memory.host.simulated.files import Files, Tree
from dynamic_memory.host.simulated.tree import OFFLINE_ZONES, block_files, meminfo
from dynamic_memory.host.sysfs import DaxDevice, Mapping, Sysfs, format_list, parse_list

__all__ = ["Kernel", "reboot"]

DAX_ALIGNMENT = 2 << 20
_ZONE_OF = {"online": "Normal", "online_kernel": "Normal", "online_movable": "Movable"}


class Kernel:
    """Changes the tree at `root`; one at a time may.

    Args:
        root: folder of a tree that is built.
        files: how to change it.

    """

    def __init__(self, root: Path, files: Files | None = None) -> None:
        self.sysfs = Sysfs(root)
        self._tree = Tree(root, files or Files())

    # --- regions

    def device(self, tag: str) -> DaxDevice | None:
        """Return the dax device of a tag."""
        return self.sysfs.dax_device_of(tag)

    def region(self, tag: str) -> Region | None:
        """Return the region of a tag."""
        return self.sysfs.region(tag)

    def plug(self, tag: str, size: int, ranges: Sequence[tuple[int, int]]) -> None:
        """Make the dax device of a tag, and all its memory blocks; a half-made one is completed.

        Raises:
            NotArrived: the extents have fewer than `size` bytes.
            RegionFailed: no such region is possible.

        """
        block_size = self.sysfs.block_size()
        device = self.device(tag)
        if device is None:
            planner.check_ranges(tag, size, ranges, block_size)
            planner.check_auto_online(tag, self.sysfs.auto_online())
            device = self._make_device(tag, size, ranges, block_size)
        elif device.size < size:
            raise NotArrived(tag, size, device.size)
        elif device.size > size:
            raise RegionFailed(tag, f"exists with {device.size} bytes, {size} were asked for")
        for index in device.blocks(block_size):
            if self.sysfs.block(index, block_size) is None:
                self._add_block(index, device.node)

    def unplug(self, tag: str) -> None:
        """Take the blocks of a tag away, the highest first, then its dax device.

        Raises:
            StillOnline: a block is not offline; nothing is done.

        """
        region, device = self.region(tag), self.device(tag)
        if region is None or device is None:
            return
        planner.check_destroy(region)
        for block in reversed(region.blocks):
            self._tree.take(self.sysfs.memory_dir / f"memory{block.index}")
        self._tree.take(self.sysfs.dax_dir / device.name)

    def _make_device(self, tag: str, size: int, ranges: Sequence[tuple[int, int]], block_size: int) -> DaxDevice:
        devices = self.sysfs.dax_devices()
        window = self._window()
        taken = [mapping for device in devices for mapping in device.mappings]
        mappings = planner.place([length for _, length in ranges], taken, window, block_size)
        if mappings is None:
            raise RegionFailed(tag, f"no free addresses for {size} bytes in a window of {window.size} bytes")
        names = {device.name for device in devices}
        name = next(name for name in (f"dax0.{number}" for number in itertools.count()) if name not in names)
        node = max(parse_list((self.sysfs.nodes_dir / "possible").read_text(encoding="ascii")))
        content = {
            "uuid": tag,
            "size": str(size),
            "resource": f"{min(mapping.start for mapping in mappings):#x}",
            "align": str(DAX_ALIGNMENT),
            "target_node": str(node),
            "numa_node": "0",
            "memmap_on_memory": "0",
        }
        offset = 0
        for number, mapping in enumerate(mappings):
            content |= {
                f"mapping{number}/start": f"{mapping.start:#x}",
                f"mapping{number}/end": f"{mapping.end:#x}",
                f"mapping{number}/page_offset": f"{offset:#x}",
            }
            offset += mapping.size
        self._tree.place(self.sysfs.dax_dir / name, content, {"driver": "../../drivers/kmem"})
        return DaxDevice(name, tag, size, node, tuple(sorted(mappings, key=lambda mapping: mapping.start)))

    def _window(self) -> Mapping:
        decoder = self.sysfs.root / "sys/bus/cxl/devices/decoder0.0"
        try:
            start, size = (int((decoder / name).read_text(encoding="ascii"), 0) for name in ("start", "size"))
        except (OSError, ValueError) as error:
            raise Unreadable(str(decoder), "start and size of the window") from error
        return Mapping(start, start + size - 1)

    # --- blocks

    def write_state(self, index: int, value: str) -> None:
        """Write `offline`, `online`, `online_kernel` or `online_movable` to the state of a block.

        Raises:
            OSError: ENODEV: there is no such block; EINVAL: it has that state; EBUSY: its pages cannot move.

        """
        block = self.sysfs.block(index, self.sysfs.block_size())
        folder = self.sysfs.memory_dir / f"memory{index}"
        if block is None:
            raise _error(errno.ENODEV, folder)
        if (value == "offline") == (block.state == "offline"):
            raise _error(errno.EINVAL, folder)
        if value != "offline":
            self._tree.put(folder / "valid_zones", _ZONE_OF[value])
            self._tree.put(folder / "state", "online")
            return
        if block.zone != "Movable":
            raise _error(errno.EBUSY, folder)
        self._tree.put(folder / "state", "offline")
        self._tree.put(folder / "valid_zones", OFFLINE_ZONES)

    def mark(self, index: int, *, going: bool) -> None:
        """Say that the pages of an online block are being moved away, or that this was given up."""
        path = self.sysfs.memory_dir / f"memory{index}/state"
        self._tree.put(path, "going-offline" if going else "online")

    def _add_block(self, index: int, node: int) -> None:
        zone = _ZONE_OF.get(self.sysfs.auto_online())
        files = block_files(index, state="online" if zone else "offline", zones=zone or OFFLINE_ZONES)
        self._tree.place(self.sysfs.memory_dir / f"memory{index}", files, {f"node{node}": f"../../node/node{node}"})

    # --- what follows from the blocks

    def settle(self, used: Map[int, int]) -> None:
        """Put right whatever follows from the blocks, and what a writer that died has left.

        Args:
            used: bytes in use, by node.

        """
        self._tree.clean()
        size = self.sysfs.block_size()
        blocks: dict[int, list[Block]] = {}
        for index in self.sysfs.block_indices():
            block = self.sysfs.block(index, size)
            if block is None:
                continue
            blocks.setdefault(block.node, []).append(block)
            if block.state == "going-offline":  # who was moving its pages is gone, so the kernel has given up
                self.mark(index, going=False)
            elif block.state == "offline":
                self._tree.put(self.sysfs.memory_dir / f"memory{index}/valid_zones", OFFLINE_ZONES)
        self._settle_nodes(blocks)
        self._settle_totals(blocks, used)

    def _settle_nodes(self, blocks: Map[int, Sequence[Block]]) -> None:
        for node in set(blocks) - set(self.sysfs.node_ids()):
            self._tree.place(self.sysfs.nodes_dir / f"node{node}", {"cpulist": "", "meminfo": meminfo(0, 0, node)})
        for node in self.sysfs.node_ids():
            folder = self.sysfs.nodes_dir / f"node{node}"
            want, have = {block.index for block in blocks.get(node, ())}, set(self.sysfs.node_blocks(node))
            for index in sorted(want - have):
                self._tree.link(folder / f"memory{index}", f"../../memory/memory{index}")
            for index in sorted(have - want):
                self._tree.unlink(folder / f"memory{index}")
            if not want and not self._cpus(node):
                self._tree.take(folder)

    def _settle_totals(self, blocks: Map[int, Sequence[Block]], used: Map[int, int]) -> None:
        online = {node: [b for b in blocks.get(node, ()) if b.state != "offline"] for node in self.sysfs.node_ids()}
        totals = {node: sum(block.size for block in of_node) for node, of_node in online.items()}
        in_use = {node: min(total, max(0, used.get(node, 0))) for node, total in totals.items()}
        for node, total in totals.items():
            path = self.sysfs.nodes_dir / f"node{node}/meminfo"
            self._tree.put(path, meminfo(total, in_use[node], node))
        lists = {
            "online": list(totals),
            "has_memory": [node for node, total in totals.items() if total],
            "has_normal_memory": [n for n, of_node in online.items() if any(b.zone == "Normal" for b in of_node)],
            "has_cpu": [node for node in totals if self._cpus(node)],
        }
        for name, nodes in lists.items():
            self._tree.put(self.sysfs.nodes_dir / name, format_list(nodes))
        self._tree.put(self.sysfs.root / "proc/meminfo", meminfo(sum(totals.values()), sum(in_use.values())))

    def _cpus(self, node: int) -> str:
        return (self.sysfs.nodes_dir / f"node{node}/cpulist").read_text(encoding="ascii").strip()


def reboot(root: Path) -> None:
    """Restart the host at `root`: a new boot, its own memory alone; nobody else may be changing the tree."""
    kernel = Kernel(root)
    for device in kernel.sysfs.dax_devices():
        for index in device.blocks(kernel.sysfs.block_size()):
            folder = kernel.sysfs.memory_dir / f"memory{index}"
            if folder.exists():
                kernel._tree.take(folder)  # noqa: SLF001 - the same module
        kernel._tree.take(kernel.sysfs.dax_dir / device.name)  # noqa: SLF001
    kernel.settle({})
    kernel._tree.put(root / "proc/sys/kernel/random/boot_id", str(uuid.uuid4()))  # noqa: SLF001


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
