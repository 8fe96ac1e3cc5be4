# SPDX-License-Identifier: Apache-2.0
"""Where pages are, and the tree of limits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.support.machine import KIB, MIB, put

from dynamic_memory.host import memtest
from dynamic_memory.host.cgroup_tree import Amount, read_tree
from dynamic_memory.host.memtest import Reason
from dynamic_memory.host.numa_maps import nodes_of, parse_numa_maps

ONE = "7f0000000000 default anon=512 dirty=512 active=0 N0=512 kernelpagesize_kB=4\n"
TWO = "7f0000000000 prefer:1 anon=300 dirty=300 N0=100 N1=200 kernelpagesize_kB=4\n"
FILE = "7f1000000000 default file=/usr/lib/libc.so.6 mapped=400 N3=400 kernelpagesize_kB=4\n"
HUGE = "7f2000000000 bind:1 file=/anon_hugepage\\040(deleted) huge anon=8 dirty=8 N1=8 kernelpagesize_kB=2048\n"


def test_O11_nodes_of_one_and_of_two():
    assert nodes_of(parse_numa_maps(ONE)) == {0: 2 * MIB}
    assert nodes_of(parse_numa_maps(TWO)) == {0: 400 * KIB, 1: 800 * KIB}


def test_O11_pages_of_files_do_not_count_but_huge_pages_do():
    assert nodes_of(parse_numa_maps(ONE + FILE)) == {0: 2 * MIB}
    found = parse_numa_maps(HUGE)
    assert nodes_of(found) == {1: 16 * MIB}
    assert (found[0].policy, found[0].page) == ("bind:1", 2 * MIB)


@pytest.mark.parametrize(
    ("maps", "page", "numa", "reason"),
    [
        (ONE + FILE, 4 * KIB, "single", Reason.SUCCEEDED),
        (TWO, 4 * KIB, "single", Reason.NUMA_MISMATCH),
        (TWO, 4 * KIB, "any", Reason.SUCCEEDED),
        (TWO, 4 * KIB, "0,1", Reason.SUCCEEDED),
        (TWO, 4 * KIB, "1", Reason.NUMA_MISMATCH),
        (ONE + HUGE, 2 * MIB, "1", Reason.SUCCEEDED),
        (ONE + HUGE, 2 * MIB, "0", Reason.NUMA_MISMATCH),
        (FILE, 4 * KIB, "3", Reason.NUMA_MISMATCH),
    ],
)
def test_O11_where_pages_should_be(maps, page, numa, reason):
    assert memtest.judge(maps, size=MIB, page=page, numa=numa).reason is reason


def test_O11_lines_that_are_no_mappings_are_passed_over():
    assert parse_numa_maps("\nnonsense here\n") == []


def test_real_memory_is_on_a_node():
    command = [sys.executable, "-m", "dynamic_memory", "memtest", "--size", "8Mi", "--numa", "any"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    (line,) = done.stdout.splitlines()
    found = json.loads(line.removeprefix(">>>::RESULT="))
    assert found["reason"] == "Succeeded"
    assert sum(found["nodes"].values()) >= 8 * MIB


@pytest.mark.parametrize(
    ("should_fail", "reason", "code"), [(True, "FailedAsExpected", 0), (False, "AllocationFailed", 1)]
)
def test_O12_huge_pages_that_are_not_there_are_refused_by_the_kernel(should_fail, reason, code):
    """A petabyte of 2Mi pages: no pool of any machine has it."""
    command = [sys.executable, "-m", "dynamic_memory", "memtest", "--size", "1Pi", "--hugetlb", "2Mi"]
    done = subprocess.run(
        [*command, *(["--should-fail"] if should_fail else [])], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == code
    found = json.loads(done.stdout.removeprefix(">>>::RESULT="))
    assert found["reason"] == reason
    assert "ENOMEM" in found["message"]


# --- cgroups


def v2(root, path, **files):
    for name, text in {"cpuset.mems": "", "memory.max": "max", "memory.current": "0", **files}.items():
        put(root / path / name.replace("__", "."), text)


def test_a_tree_of_version_2(tmp_path):
    put(tmp_path / "cgroup.controllers", "memory hugetlb cpuset")
    pod = {
        "memory.max": str(64 * MIB),
        "memory.current": "4096",
        "memory.events": "low 0\nhigh 0\nmax 7\noom 1",
        "hugetlb.2MB.max": str(4 * MIB),
        "hugetlb.2MB.rsvd.max": str(6 * MIB),
        "hugetlb.2MB.current": str(2 * MIB),
        "hugetlb.2MB.events": "max 3",
        "hugetlb.1GB.max": "max",
        "cpuset.mems": "0-1",
    }
    v2(tmp_path, "kubepods/pod1", **pod)
    v2(tmp_path, "kubepods")
    (kubepods,) = read_tree(tmp_path).children
    (found,) = kubepods.children
    assert (found.path, found.mems, found.depth) == ("/kubepods/pod1", "0-1", 2)
    assert found.amounts == (
        Amount(resource="memory", limit=64 * MIB, current=4096, failures=7),
        Amount(resource="1GB", limit=None),
        Amount(resource="2MB", limit=4 * MIB, reserved_limit=6 * MIB, current=2 * MIB, failures=3),
    )
    assert not kubepods.amounts[0].limited
    assert read_tree(tmp_path, "/kubepods/pod1") == found
    assert read_tree(tmp_path, "/none") is None


def test_a_tree_of_version_1(tmp_path):
    put(tmp_path / "memory/pod/memory.limit_in_bytes", "9223372036854771712")
    put(tmp_path / "memory/pod/memory.usage_in_bytes", "8192")
    put(tmp_path / "memory/pod/memory.failcnt", "2")
    put(tmp_path / "hugetlb/pod/hugetlb.2MB.limit_in_bytes", "0")
    put(tmp_path / "hugetlb/pod/hugetlb.2MB.rsvd.limit_in_bytes", "0")
    put(tmp_path / "cpuset/pod/cpuset.mems", "0")
    (pod,) = read_tree(tmp_path).children
    assert pod.mems == "0"
    assert pod.amounts == (
        Amount(resource="memory", limit=None, current=8192, failures=2),
        Amount(resource="2MB", limit=0, reserved_limit=0),
    )
