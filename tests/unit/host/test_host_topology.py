# SPDX-License-Identifier: Apache-2.0
"""NUMA nodes, huge pages and distances, read from machines made of files."""

from __future__ import annotations

import os

import pytest
from tests.support.machine import (
    ARM64_4K,
    ARM64_64K,
    GIB,
    KIB,
    MIB,
    X86,
    Node,
    build,
    remove_node,
    set_pages,
    set_total,
)

from dynamic_memory.host.errors import Unreadable
from dynamic_memory.host.topology import HugePool, LocalNode, TopologyReader


def read(root):
    return TopologyReader(root).read()


def test_D1_base_page_nodes_and_totals_come_from_the_root(tmp_path):
    build(tmp_path, [Node(0, 16 * GIB, cpus="0-7", pools={2 * MIB: 512, GIB: 2})])
    found = read(tmp_path)
    assert (found.base_page, found.huge_pages, found.default_huge_page) == (4 * KIB, X86, 2 * MIB)
    assert found.nodes == (
        LocalNode(
            id=0,
            total=16 * GIB,
            free=8 * GIB,
            cpus=True,
            distances={0: 10},
            tier=4,
            pools=(HugePool(page=2 * MIB, pages=512, free=512), HugePool(page=GIB, pages=2, free=2)),
        ),
    )
    assert found.nodes[0].hugetlb == 3 * GIB


@pytest.mark.parametrize(
    ("sizes", "foreign", "expected"),
    [
        (X86, (), X86),
        ((), (), ()),
        (None, (), ()),
        ((64 * KIB,), (), (64 * KIB,)),
        ((2 * MIB,), ("hugepages-2MB", "hugepages-x", "thing", "hugepages--1kB"), (2 * MIB,)),
    ],
    ids=["two-sizes", "empty", "missing", "64kB", "foreign-names"],
)
def test_D2_supported_sizes(tmp_path, sizes, foreign, expected):
    build(tmp_path, [Node(0, GIB)], sizes=sizes or (), foreign=foreign)
    if sizes == ():
        (tmp_path / "sys/kernel/mm/hugepages").mkdir(parents=True)
    assert read(tmp_path).huge_pages == expected


@pytest.mark.parametrize(("base", "sizes"), [(4 * KIB, ARM64_4K), (64 * KIB, ARM64_64K)], ids=["arm64-4k", "arm64-64k"])
def test_D1_pages_of_arm64(tmp_path, base, sizes):
    build(tmp_path, [Node(0, 64 * GIB)], sizes=sizes, base_page=base)
    found = read(tmp_path)
    assert (found.base_page, found.huge_pages) == (base, sizes)


def test_D1_eight_nodes(tmp_path):
    build(tmp_path, [Node(n, 4 * GIB, cpus=f"{4 * n}-{4 * n + 3}") for n in range(8)])
    found = read(tmp_path)
    assert [node.id for node in found.nodes] == list(range(8))
    assert found.nodes[3].distances == {n: 10 if n == 3 else 20 for n in range(8)}


def test_D4_sparse_numbers_stay_what_they_are(tmp_path):
    build(tmp_path, [Node(0, GIB), Node(2, 2 * GIB), Node(5, 3 * GIB)], distances={(0, 5): 31, (2, 5): 22})
    found = read(tmp_path)
    assert [(node.id, node.total) for node in found.nodes] == [(0, GIB), (2, 2 * GIB), (5, 3 * GIB)]
    assert found.node(5).distances == {0: 31, 2: 22, 5: 10}, "columns are online nodes, in order"
    assert found.node(1) is None


def test_D5_a_node_without_processors_has_a_distance_and_a_tier(tmp_path):
    nodes = [Node(0, GIB), Node(1, GIB, cpus="4-7"), Node(3, 8 * GIB, cpus="", tier=20, latency=350)]
    build(tmp_path, nodes, distances={(0, 3): 40, (1, 3): 28})
    far = read(tmp_path).node(3)
    assert (far.cpus, far.distance, far.tier, far.latency, far.bandwidth) == (False, 28, 20, 350, 20000)


def test_a_node_without_memory_is_left_out(tmp_path):
    build(tmp_path, [Node(0, GIB), Node(1, 0)])
    assert [node.id for node in read(tmp_path).nodes] == [0]


def test_surplus_pages_are_not_part_of_a_pool_and_not_free_memory_either(tmp_path):
    build(tmp_path, [Node(0, GIB, pools={2 * MIB: 10}, surplus={2 * MIB: 3})])
    node = read(tmp_path).nodes[0]
    assert node.pool(2 * MIB) == HugePool(page=2 * MIB, pages=10, free=10, surplus=3)
    assert node.hugetlb == 26 * MIB


def test_amounts_are_read_anew_and_a_node_that_goes_or_comes_is_noticed(tmp_path):
    build(tmp_path, [Node(0, 4 * GIB), Node(1, GIB, cpus="")])
    reader = TopologyReader(tmp_path)
    assert len(reader.read().nodes) == 2
    set_pages(tmp_path, 0, 2 * MIB, 7)
    set_total(tmp_path, 1, 2 * GIB)
    found = reader.read()
    assert found.node(0).pool(2 * MIB).pages == 7
    assert found.node(1).total == 2 * GIB
    remove_node(tmp_path, 1, [0])
    assert [node.id for node in reader.read().nodes] == [0]


def test_without_an_auxiliary_vector_the_page_is_this_machines(tmp_path):
    build(tmp_path, [Node(0, GIB)])
    (tmp_path / "proc/self/auxv").unlink()
    assert read(tmp_path).base_page == os.sysconf("SC_PAGE_SIZE")


def test_a_root_without_nodes_is_unreadable(tmp_path):
    with pytest.raises(Unreadable) as caught:
        read(tmp_path)
    assert "NUMA node" in str(caught.value)


def test_the_machine_of_this_test_can_be_read():
    found = read_root()
    assert found.nodes
    assert found.base_page == os.sysconf("SC_PAGE_SIZE")


def read_root():
    from pathlib import Path

    return TopologyReader(Path("/")).read()
