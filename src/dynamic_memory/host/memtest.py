# SPDX-License-Identifier: Apache-2.0
"""The container that proves where its memory is: maps, touches every page, and asks the kernel where the pages are.

The reasons are those of dra-driver-memory's tester, so that scripts written for it can read ours.
"""

from __future__ import annotations

import enum
import errno
import mmap
import os
from pathlib import Path

import msgspec

from dynamic_memory.host.numa_maps import nodes_of, parse_numa_maps

__all__ = ["Outcome", "Reason", "allocate", "judge", "run"]

MAP_HUGETLB = 0x40000
MAP_HUGE_SHIFT = 26


class Reason(enum.StrEnum):
    """How a test ended."""

    SUCCEEDED = "Succeeded"
    FAILED_AS_EXPECTED = "FailedAsExpected"
    UNEXPECTED_SUCCESS = "UnexpectedSuccess"
    ALLOCATION_FAILED = "AllocationFailed"
    NUMA_MISMATCH = "NUMAMismatch"
    CANNOT_CHECK = "CannotCheckNUMA"

    @property
    def good(self) -> bool:
        """Whether the test ended as it should."""
        return self in {Reason.SUCCEEDED, Reason.FAILED_AS_EXPECTED}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result.

    Attributes:
        reason: see `Reason`.
        message: a sentence for people.
        size: bytes that were asked for.
        page: bytes of a page.
        nodes: bytes by NUMA node, of the mapping.

    """

    reason: Reason
    message: str = ""
    size: int
    page: int
    nodes: dict[int, int] = {}


def run(size: int, page: int, numa: str, *, should_fail: bool, proc: Path = Path("/proc")) -> Outcome:
    """Allocate and judge.

    Args:
        size: bytes.
        page: bytes of a huge page; 0 for ordinary memory.
        numa: `any`, `single`, or a list of nodes (`0,2`) of which no page may be missing.
        should_fail: the allocation must be refused.
        proc: where procfs is mounted.

    """
    unit = page or mmap.PAGESIZE
    try:
        memory = allocate(size, page)
    except OSError as error:
        text = f"mmap of {size} bytes: {errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}"
        reason = Reason.FAILED_AS_EXPECTED if should_fail else Reason.ALLOCATION_FAILED
        return Outcome(reason=reason, message=text, size=size, page=unit)
    try:
        for offset in range(0, size, unit):
            memory[offset] = 1
        if should_fail:
            text = "the allocation should have been refused"
            return Outcome(reason=Reason.UNEXPECTED_SUCCESS, message=text, size=size, page=unit)
        try:
            maps = (proc / "self/numa_maps").read_text()
        except OSError as error:
            reason = Reason.SUCCEEDED if numa == "any" else Reason.CANNOT_CHECK
            return Outcome(reason=reason, message=f"numa_maps: {error.strerror}", size=size, page=unit)
    finally:
        memory.close()
    return judge(maps, size=size, page=unit, numa=numa)


def allocate(size: int, page: int) -> mmap.mmap:
    """Map anonymous memory.

    Raises:
        OSError: the kernel refuses (ENOMEM: a limit, or no free huge pages).

    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    if page:
        flags |= MAP_HUGETLB | ((page.bit_length() - 1) << MAP_HUGE_SHIFT)
    return mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def judge(maps: str, *, size: int, page: int, numa: str) -> Outcome:
    """Say whether the pages of a process are where they should be; pages of files do not count.

    Args:
        maps: `numa_maps` of the process.
        size: bytes that were asked for.
        page: bytes of a page.
        numa: see `run`.

    """
    mappings = [mapping for mapping in parse_numa_maps(maps) if page in {mapping.page, mmap.PAGESIZE}]
    nodes = nodes_of(mappings)
    present = set(nodes)
    if numa == "any":
        good, wanted = True, "any node"
    elif numa == "single":
        good, wanted = len(present) == 1, "a single node"
    else:
        allowed = {int(number) for number in numa.split(",")}
        good, wanted = bool(present) and present <= allowed, f"nodes {numa}"
    where = ", ".join(str(node) for node in nodes) or "no node"
    reason = Reason.SUCCEEDED if good else Reason.NUMA_MISMATCH
    message = f"process {os.getpid()} has its pages on {where}, {wanted} was asked for"
    return Outcome(reason=reason, message=message, size=size, page=page, nodes=nodes)
