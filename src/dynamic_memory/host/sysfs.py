# SPDX-License-Identifier: Apache-2.0
"""Readers of the kernel's files about memory, below any root folder: `/` on a real node, a tree of files elsewhere.

What is read may change meanwhile, and a reader takes no lock: a block or device that vanishes between two reads is
left out, never an error. Files that always exist are another matter; without them the host is `Unreadable`.

Sources: the kernel's Documentation/ABI/testing/sysfs-devices-memory, sysfs-devices-node and sysfs-bus-dax, and
Documentation/filesystems/proc.rst. Addresses and sizes of dax devices may be written 0x… or in decimals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast, get_args

import msgspec

from dynamic_memory.host.errors import Unreadable
from dynamic_memory.host.interface import Block, BlockState, Memory, NumaNode, Region, Zone

__all__ = ["DaxDevice", "Mapping", "NodeUse", "Sysfs", "format_list", "parse_list", "parse_meminfo"]

KIB = 1024
_FIELD = re.compile(r"^(?:Node \d+ )?(?P<name>[\w()]+):\s+(?P<value>\d+)(?: kB)?$")
_STATES: tuple[str, ...] = get_args(BlockState)
_NO_TAGS = {"", "0", "00000000-0000-0000-0000-000000000000"}


class Mapping(msgspec.Struct, frozen=True):
    """One extent of a dax device in the host's address space: bytes `start` to `end`, the last one included."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start + 1

    def blocks(self, block_size: int) -> range:
        """Indices of the memory blocks that lie in it whole; the kernel makes no others."""
        return range(-(-self.start // block_size), (self.end + 1) // block_size)


class DaxDevice(msgspec.Struct, frozen=True):
    """A dax device: what the kernel makes memory blocks of.

    Attributes:
        name: `dax0.1`.
        tag: its `uuid`, the tag of a share; empty if it has none.
        size: bytes.
        node: NUMA node that its blocks belong to.
        mappings: its extents, by address.

    """

    name: str
    tag: str
    size: int
    node: int
    mappings: tuple[Mapping, ...]

    def blocks(self, block_size: int) -> tuple[int, ...]:
        """Indices of the memory blocks that the kernel makes of it."""
        return tuple(index for mapping in self.mappings for index in mapping.blocks(block_size))


class NodeUse(msgspec.Struct, frozen=True):
    """How much of a NUMA node could be taken by others.

    Attributes:
        id: number of the node.
        total: bytes online.
        available: bytes free, or used for what can be dropped.

    """

    id: int
    total: int
    available: int


class Sysfs:
    """The files below one root.

    Args:
        root: folder in which `sys` and `proc` are.

    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memory_dir = root / "sys/devices/system/memory"
        self.nodes_dir = root / "sys/devices/system/node"
        self.dax_dir = root / "sys/bus/dax/devices"
        self._dax_names: dict[str, str] = {}

    # --- the host as a whole

    def boot_id(self) -> str:
        """Return the identity of the present boot.

        Raises:
            Unreadable: the file is missing.

        """
        return self._text(self.root / "proc/sys/kernel/random/boot_id")

    def block_size(self) -> int:
        """Return the size of a memory block; the file is hexadecimal without a prefix.

        Raises:
            Unreadable: the file is missing or not a number.

        """
        return self._number(self.memory_dir / "block_size_bytes", 16)

    def auto_online(self) -> str:
        """Return what the kernel does with new blocks.

        Raises:
            Unreadable: the file is missing.

        """
        return self._text(self.memory_dir / "auto_online_blocks")

    def mem_total(self) -> int:
        """Return the bytes online on all nodes.

        Raises:
            Unreadable: the file is missing or has no MemTotal.

        """
        path = self.root / "proc/meminfo"
        try:
            return parse_meminfo(self._text(path))["MemTotal"]
        except KeyError as error:
            raise Unreadable(str(path), "a line MemTotal") from error

    def memory(self) -> Memory:
        """Return all of it.

        Raises:
            Unreadable: a file that always exists is missing.

        """
        return Memory(
            block_size=self.block_size(),
            nodes=tuple(self.nodes()),
            total=self.mem_total(),
            auto_online=self.auto_online(),
            fabric_online=sum(region.online for region in self.regions().values()),
        )

    # --- memory blocks

    def block_indices(self) -> list[int]:
        """Return the indices of all memory blocks, in order."""
        return sorted(_numbered(self.memory_dir, "memory"))

    def block(self, index: int, size: int) -> Block | None:
        """Return a memory block, or None if the kernel has none of this index (any more)."""
        folder = self.memory_dir / f"memory{index}"
        state = _read(folder / "state")
        zones = _read(folder / "valid_zones")
        if state not in _STATES or zones is None:
            return None
        node = min(_numbered(folder, "node"), default=None)
        if node is None:
            return None
        return Block(index, node, size, cast("BlockState", state), _zone(state, zones))

    # --- NUMA nodes

    def node_ids(self) -> list[int]:
        """Return the numbers of the nodes that the kernel has now."""
        return sorted(_numbered(self.nodes_dir, "node"))

    def node_blocks(self, node: int) -> list[int]:
        """Return the indices of a node's blocks."""
        return sorted(_numbered(self.nodes_dir / f"node{node}", "memory"))

    def nodes(self) -> Iterator[NumaNode]:
        """Return every node with its bytes online."""
        size = self.block_size()
        for number in self.node_ids():
            use = self.node_use(number)
            if use is not None:
                cpus = bool(parse_list(_read(self.nodes_dir / f"node{number}/cpulist") or ""))
                yield NumaNode(number, use.total, cpus, movable=self._movable(number, size))

    def node_use(self, node: int) -> NodeUse | None:
        """Return how full a node is, or None if there is none of this number (any more)."""
        fields = parse_meminfo(_read(self.nodes_dir / f"node{node}/meminfo") or "")
        if "MemTotal" not in fields:
            return None
        droppable = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")
        return NodeUse(node, fields["MemTotal"], sum(fields.get(name, 0) for name in droppable))

    def uses(self) -> list[NodeUse]:
        """Return how full every node is."""
        return [use for node in self.node_ids() if (use := self.node_use(node)) is not None]

    def _movable(self, node: int, size: int) -> bool:
        online = False
        for index in self.node_blocks(node):
            block = self.block(index, size)
            if block is None or block.state == "offline":
                continue
            online = True
            if block.zone != "Movable":
                return False
        return online

    # --- dax devices and the regions they are

    def dax_devices(self) -> list[DaxDevice]:
        """Return every dax device, by name; one that is being made or taken away is left out."""
        found = [self._dax_device(folder) for folder in _folders(self.dax_dir, "dax")]
        return sorted((device for device in found if device is not None), key=lambda device: device.name)

    def dax_device_of(self, tag: str) -> DaxDevice | None:
        """Return the dax device of a tag; where it was last time is looked at first, so that many do not matter."""
        name = self._dax_names.get(tag)
        device = self._dax_device(self.dax_dir / name) if name else None
        if device is None or device.tag != tag:
            self._dax_names = {device.tag: device.name for device in self.dax_devices() if device.tag}
            name = self._dax_names.get(tag)
            device = self._dax_device(self.dax_dir / name) if name else None
        return device

    def _dax_device(self, folder: Path) -> DaxDevice | None:
        size, node = (_integer(_read(folder / name)) for name in ("size", "target_node"))
        mappings = sorted(_mappings(folder), key=lambda mapping: mapping.start)
        tag = _read(folder / "uuid") or ""
        if size is None or node is None:
            return None
        return DaxDevice(folder.name, "" if tag in _NO_TAGS else tag, size, node, tuple(mappings))

    def region(self, tag: str) -> Region | None:
        """Return the region of one tag.

        Raises:
            Unreadable: a file that always exists is missing.

        """
        device = self.dax_device_of(tag)
        return None if device is None else self.region_of(device, self.block_size())

    def regions(self) -> dict[str, Region]:
        """Return the tagged dax devices with their memory blocks.

        Raises:
            Unreadable: a file that always exists is missing.

        """
        size = self.block_size()
        return {device.tag: self.region_of(device, size) for device in self.dax_devices() if device.tag}

    def region_of(self, device: DaxDevice, block_size: int) -> Region:
        """Return a dax device with those of its memory blocks that are there."""
        blocks = tuple(
            block for index in device.blocks(block_size) if (block := self.block(index, block_size)) is not None
        )
        return Region(device.tag, device.size, blocks[0].node if blocks else None, blocks)

    # --- files

    @staticmethod
    def _text(path: Path) -> str:
        text = _read(path)
        if text is None:
            raise Unreadable(str(path), "a file of the kernel")
        return text

    def _number(self, path: Path, base: int) -> int:
        text = self._text(path)
        try:
            return int(text, base)
        except ValueError as error:
            raise Unreadable(str(path), "a number") from error


def parse_meminfo(text: str) -> dict[str, int]:
    """Return the fields of `/proc/meminfo` or a node's `meminfo`, in bytes; what has no unit is as it stands."""
    fields = {}
    for line in text.splitlines():
        match = _FIELD.match(line.strip())
        if match:
            fields[match["name"]] = int(match["value"]) * (KIB if line.rstrip().endswith("kB") else 1)
    return fields


def parse_list(text: str) -> list[int]:
    """Return the numbers of a kernel list such as `0-3,8`; what is not one is left out."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last.isdecimal() or not last):
            numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def format_list(numbers: Iterable[int]) -> str:
    """Return numbers as a kernel list: `0-3,8`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _zone(state: str, zones: str) -> Zone:
    """Return the zone of a block; an offline one lists the zones that it could go to."""
    if state == "offline" or not zones or " " in zones or zones == "none":
        return "none"
    return "Movable" if zones == "Movable" else "Normal"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _integer(text: str | None) -> int | None:
    try:
        return int(text or "", 0)
    except ValueError:
        return None


def _mappings(folder: Path) -> Iterator[Mapping]:
    for mapping in _folders(folder, "mapping"):
        start, end = _integer(_read(mapping / "start")), _integer(_read(mapping / "end"))
        if start is not None and end is not None and end >= start:
            yield Mapping(start, end)


def _folders(parent: Path, prefix: str) -> list[Path]:
    try:
        return [entry for entry in parent.iterdir() if entry.name.startswith(prefix)]
    except OSError:
        return []


def _numbered(parent: Path, prefix: str) -> Iterator[int]:
    """Numbers of the entries `<prefix>N`; `memory_failure` and the like are something else."""
    for entry in _folders(parent, prefix):
        number = entry.name.removeprefix(prefix)
        if number.isdecimal():
            yield int(number)
