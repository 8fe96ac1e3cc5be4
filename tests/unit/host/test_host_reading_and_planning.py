# SPDX-License-Identifier: Apache-2.0
"""The readers of kernel files and the planners, on what real kernels and broken ones show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.errors import InvalidInput
from dynamic_memory.host import planner
from dynamic_memory.host.config import HostConfig, SimulatedHostConfig, open_host
from dynamic_memory.host.errors import Busy, HostTimeout, NotArrived, Unreadable
from dynamic_memory.host.interface import Block, Region
from dynamic_memory.host.sysfs import Mapping, NodeUse, Sysfs, format_list, parse_list, parse_meminfo
from dynamic_memory.process.config import Bytes, ConfigError, loads

MIB = 1 << 20
GIB = 1 << 30
BLOCK = 128 * MIB


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


MEMINFO = """\
MemTotal:        2985788 kB
MemFree:         2477356 kB
HugePages_Total:       4
Hugepagesize:       2048 kB
"""
NODE_MEMINFO = """\

Node 1 MemTotal:         524288 kB
Node 1 MemFree:          524000 kB
Node 1 MemUsed:             288 kB
Node 1 Active(file):        100 kB
Node 1 Inactive(file):       60 kB
Node 1 SReclaimable:         28 kB
"""


def test_meminfo_is_read_in_bytes():
    assert parse_meminfo(MEMINFO) == {
        "MemTotal": 2985788 * 1024,
        "MemFree": 2477356 * 1024,
        "HugePages_Total": 4,
        "Hugepagesize": 2 * MIB,
    }


def test_what_can_be_dropped_counts_as_available(tmp_path):
    write(tmp_path, {"sys/devices/system/node/node1/meminfo": NODE_MEMINFO})
    assert Sysfs(tmp_path).uses() == [NodeUse(1, 512 * MIB, (524000 + 100 + 60 + 28) * 1024)]


@pytest.mark.parametrize(("text", "numbers"), [("0-3,8\n", [0, 1, 2, 3, 8]), ("", []), ("\n", []), ("5", [5])])
def test_kernel_lists(text, numbers):
    assert parse_list(text) == numbers


@given(st.sets(st.integers(0, 300)))
def test_kernel_lists_survive_being_written(numbers):
    assert parse_list(format_list(numbers)) == sorted(numbers)


def real_tree(root):
    """What a Linux 7.2 shows with one tagged dax device of two extents, one untagged, and the usual noise."""
    memory, dax = "sys/devices/system/memory", "sys/bus/dax/devices"
    write(
        root,
        {
            "proc/meminfo": MEMINFO,
            "proc/sys/kernel/random/boot_id": "b1d2\n",
            f"{memory}/block_size_bytes": "8000000\n",
            f"{memory}/auto_online_blocks": "offline\n",
            f"{memory}/memory0/state": "online\n",
            f"{memory}/memory0/valid_zones": "none\n",
            f"{memory}/memory1/state": "online\n",
            f"{memory}/memory1/valid_zones": "DMA32\n",
            f"{memory}/memory32/state": "online\n",
            f"{memory}/memory32/valid_zones": "Movable\n",
            f"{memory}/memory40/state": "offline\n",
            f"{memory}/memory40/valid_zones": "Normal Movable\n",
            f"{memory}/probe": "",
            "sys/devices/system/node/node0/memory_failure/total": "0\n",
            f"{dax}/dax0.0/uuid": "tag\n",
            f"{dax}/dax0.0/size": "268435456\n",
            f"{dax}/dax0.0/target_node": "1\n",
            f"{dax}/dax0.0/mapping0/start": "0x140000000\n",
            f"{dax}/dax0.0/mapping0/end": "0x147ffffff\n",
            f"{dax}/dax0.0/mapping1/start": "0x100000000\n",
            f"{dax}/dax0.0/mapping1/end": "0x107ffffff\n",
            f"{dax}/dax1.0/size": "134217728\n",
            f"{dax}/dax1.0/target_node": "1\n",
            f"{dax}/dax2.0/uuid": "vanishing\n",
        },
    )
    for index, node in ((0, 0), (1, 0), (32, 1), (40, 1)):
        (root / memory / f"memory{index}/node{node}").symlink_to(f"../../node/node{node}")
        folder = root / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"memory{index}").symlink_to(f"../../memory/memory{index}")
        write(folder, {"cpulist": "0-3\n" if node == 0 else "\n", "meminfo": f"Node {node} MemTotal: 131072 kB\n"})


def test_a_real_tree_is_understood(tmp_path):
    real_tree(tmp_path)
    sysfs = Sysfs(tmp_path)
    assert sysfs.boot_id() == "b1d2"
    assert sysfs.regions() == {
        "tag": Region(
            "tag",
            256 * MIB,
            1,
            (Block(32, 1, BLOCK, "online", "Movable"), Block(40, 1, BLOCK, "offline", "none")),
        )
    }
    memory = sysfs.memory()
    assert (memory.block_size, memory.total, memory.fabric_online) == (BLOCK, 2985788 * 1024, BLOCK)
    assert [(node.id, node.cpus, node.movable) for node in memory.nodes] == [(0, True, False), (1, False, True)]


def test_what_vanishes_while_it_is_read_is_left_out(tmp_path):
    real_tree(tmp_path)
    folder = tmp_path / "sys/devices/system/memory/memory32"
    for name in ("node1", "state", "valid_zones"):
        (folder / name).unlink()
        assert [block.index for block in Sysfs(tmp_path).regions()["tag"].blocks] == [40]
    (tmp_path / "sys/bus/dax/devices/dax0.0/size").unlink()
    assert Sysfs(tmp_path).regions() == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("proc/meminfo", None),
        ("proc/meminfo", "nonsense"),
        ("sys/devices/system/memory/block_size_bytes", None),
        ("sys/devices/system/memory/block_size_bytes", "nonsense"),
        ("sys/devices/system/memory/auto_online_blocks", None),
    ],
)
def test_a_kernel_that_does_not_tell_is_unreadable(tmp_path, name, content):
    real_tree(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        write(tmp_path, {name: content})
    with pytest.raises(Unreadable, match=name):
        Sysfs(tmp_path).memory()


def test_only_whole_blocks_of_an_extent_become_blocks():
    assert list(Mapping(BLOCK - 1, 3 * BLOCK).blocks(BLOCK)) == [1, 2]
    assert list(Mapping(BLOCK + 1, 2 * BLOCK - 2).blocks(BLOCK)) == []


@given(
    sizes=st.lists(st.integers(1, 6), max_size=6),
    holes=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4)), max_size=5),
)
def test_places_lie_in_the_window_and_do_not_overlap(sizes, holes):
    window = Mapping(64 * BLOCK, 96 * BLOCK - 1)
    taken = [Mapping((64 + at) * BLOCK, (64 + min(32, at + size)) * BLOCK - 1) for at, size in holes]
    placed = planner.place([size * BLOCK for size in sizes], taken, window, BLOCK)
    blocked = {index for mapping in taken for index in mapping.blocks(BLOCK)}
    if placed is None:
        assert sum(sizes) > 0
        return
    assert [mapping.size for mapping in placed] == [size * BLOCK for size in sizes]
    indices = [index for mapping in placed for index in mapping.blocks(BLOCK)]
    assert len(indices) == len(set(indices)) == sum(sizes)
    assert not blocked & set(indices)
    assert all(64 <= index < 96 for index in indices)


def test_blocks_go_offline_from_the_top():
    region = Region("t", 3 * BLOCK, 1, tuple(Block(n, 1, BLOCK, "online", "Movable") for n in (4, 5, 9)))
    assert [block.index for block in planner.to_offline(region)] == [9, 5, 4]


def test_headroom_is_what_is_left_without_the_leaving_bytes():
    region = Region("t", BLOCK, 1, (Block(4, 1, BLOCK, "online", "Movable"),))
    planner.check_headroom(region, [NodeUse(0, GIB, BLOCK), NodeUse(1, BLOCK, 4096)])
    with pytest.raises(Busy, match="134217728 bytes would go"):
        planner.check_headroom(region, [NodeUse(0, GIB, BLOCK - 4096), NodeUse(1, BLOCK, 4096)])
    offline = Region("t", BLOCK, 1, (Block(4, 1, BLOCK, "offline", "none"),))
    planner.check_headroom(offline, [])


def test_errors_speak():
    assert str(Busy("t", [3], "EBUSY")) == "1 memory block of t could not be taken offline: EBUSY"
    assert str(HostTimeout("offline", "t", 60.0)) == "offline of t was not done after 60 s"
    assert str(NotArrived("t", 2, 1)) == "the host sees 1 of 2 bytes of t"


YAML = """\
simulated:
  root: /tmp/h
  nodes: [4Gi, 4Gi]
  blockSize: {block}
deadline: 1.5s
"""


def test_configuration_in_the_units_of_kubernetes():
    config = loads(YAML.format(block="2Gi").encode(), HostConfig)
    assert config.simulated is not None
    assert (config.simulated.block_size, config.simulated.nodes, config.deadline) == (2 * GIB, (4 * GIB, 4 * GIB), 1.5)


@pytest.mark.parametrize(("block", "path"), [("100Mi", "blockSize"), ("3Gi", "blockSize"), ("8Gi", "nodes[0]")])
def test_a_host_that_cannot_be_is_refused_with_the_path(block, path):
    with pytest.raises(InvalidInput) as caught:
        loads(YAML.format(block=block).encode(), HostConfig)
    assert caught.value.path == f"host.simulated.{path}"


def test_unknown_keys_are_refused():
    with pytest.raises(ConfigError, match="unknown"):
        loads(b"simulated: {rot: /tmp/h}", HostConfig)


def test_a_real_host_is_not_pretended(tmp_path):
    with pytest.raises(InvalidInput, match="a real one is not supported yet"):
        open_host(HostConfig())
    host = open_host(HostConfig(simulated=SimulatedHostConfig(root=tmp_path / "h", nodes=(Bytes(GIB),))))
    assert host.simulated
