# SPDX-License-Identifier: Apache-2.0
"""Provisioning of huge pages: a HugePageProvision and the machine give a plan, and the plan is carried out.

The document is that of dra-driver-memory; all of its fields count. Without `node` the pages of a size are spread evenly
over the nodes with processors, the remainder goes to the first. A pool is never made smaller than what is mapped, or
prepared for a claim. The kernel may find fewer pages than it is asked for: what was reached is read back, memory is
compacted, and it is asked again, a few times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from dynamic_memory.errors import InvalidInput, NotHereError
from dynamic_memory.host.topology import LocalNode, Topology
from dynamic_memory.quantity import format_bytes

__all__ = ["Provision", "Result", "Shrinks", "Step", "apply", "parse_size", "plan"]

KIND = "HugePageProvision"
TRIES = 3
MAX_COUNT = (1 << 31) - 1
_SIZE = re.compile(r"(?P<number>[1-9]\d*)(?P<unit>[KMG])i?B?", re.IGNORECASE)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class _Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""


class _Pages(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number of pages; without `size` of the default size, without `node` on all nodes."""

    count: int
    size: str = ""
    node: int | None = None


class _Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pages: tuple[_Pages, ...] = ()
    default_hugepages_size: str = ""


class Provision(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What is to be provisioned: `kind: HugePageProvision`, `spec.pages[]` of `size`, `count` and maybe `node`."""

    kind: str = ""
    api_version: str = ""
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One pool that is to have `after` pages."""

    node: int
    page: int
    before: int
    after: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool has after a step, in pages."""

    step: Step
    reached: int

    @property
    def missing(self) -> int:
        """Pages that the kernel did not find."""
        return max(self.step.after - self.reached, 0)


class Shrinks(NotHereError):
    """A pool would become smaller than what is used of it.

    Args:
        node: of the pool.
        page: bytes of a page.
        count: that was asked for.
        used: pages that are mapped.
        claimed: pages that are prepared for claims.

    """

    def __init__(self, node: int, page: int, count: int, used: int, claimed: int) -> None:
        self.node = node
        self.page = page
        self.count = count
        self.used = used
        self.claimed = claimed
        super().__init__(node, page, count, used, claimed)

    def __str__(self) -> str:
        return (
            f"{self.count} pages of {format_bytes(self.page)} on node {self.node} are less than what is used there "
            f"({self.used} mapped, {self.claimed} claimed): end the pods that use them first"
        )


def parse_size(text: str, supported: tuple[int, ...], path: str = "size") -> int:
    """Return the bytes of a page: `2M`, `2Mi`, `2m`, `1G`, and what else the machine has.

    Raises:
        InvalidInput: it is not a size of this machine's huge pages.

    """
    match = _SIZE.fullmatch(text)
    size = int(match["number"]) * _UNITS[match["unit"].upper()] if match else 0
    if size not in supported:
        known = ", ".join(format_bytes(each) for each in supported) or "none: the kernel has no huge pages"
        raise InvalidInput(path, f"a size of huge pages of this machine ({known})", text)
    return size


def plan(document: Provision, topology: Topology, claimed: Mapping[tuple[int, int], int] | None = None) -> list[Step]:
    """Return the pools to set, by node and size.

    Args:
        document: what is asked for.
        topology: the machine.
        claimed: bytes that claims hold, by (node, page).

    Raises:
        InvalidInput: the document is not one for this machine.
        Shrinks: a pool is in use.

    """
    if document.kind != KIND:
        raise InvalidInput("kind", KIND, document.kind or None)
    if not document.spec.pages:
        raise InvalidInput("spec.pages", "at least one entry")
    default = document.spec.default_hugepages_size
    if default:
        parse_size(default, topology.huge_pages, "spec.defaultHugepagesSize")
    wanted: dict[tuple[int, int], int] = {}
    for number, entry in enumerate(document.spec.pages):
        path = f"spec.pages[{number}]"
        page = parse_size(entry.size or default, topology.huge_pages, f"{path}.size")
        if not 0 <= entry.count <= MAX_COUNT:
            raise InvalidInput(f"{path}.count", f"a number from 0 to {MAX_COUNT}", entry.count)
        for node, count in _spread(entry, page, topology, path).items():
            if (node, page) in wanted:
                raise InvalidInput(path, f"one entry for pages of {format_bytes(page)} on node {node}, not two")
            wanted[node, page] = count
    return [_step(topology, node, page, count, claimed or {}) for (node, page), count in sorted(wanted.items())]


def apply(root: Path, steps: list[Step], pause: Callable[[], None] = lambda: None) -> list[Result]:
    """Carry a plan out: what shrinks first, then what grows, each with its result. Blocks.

    Args:
        root: folder in which `sys` is.
        steps: the plan.
        pause: called before the kernel is asked again.

    Raises:
        OSError: the kernel refuses to be written to.

    """
    reached: dict[tuple[int, int], int] = {}
    for step in sorted(steps, key=lambda step: step.after - step.before):
        folder = root / f"sys/devices/system/node/node{step.node}"
        file = folder / f"hugepages/hugepages-{step.page // 1024}kB/nr_hugepages"
        count = step.before
        for attempt in range(TRIES):
            if attempt:
                _compact(folder)
                pause()
            file.write_text(f"{step.after}\n")
            count = int(file.read_text())
            if count >= step.after:
                break
        reached[step.node, step.page] = count
    return [Result(step=step, reached=reached[step.node, step.page]) for step in steps]


def _spread(entry: _Pages, page: int, topology: Topology, path: str) -> dict[int, int]:
    able = [node for node in topology.nodes if node.pool(page) is not None]
    if entry.node is not None:
        if not any(node.id == entry.node for node in able):
            known = ", ".join(str(node.id) for node in able) or "none"
            raise InvalidInput(f"{path}.node", f"a node that has pages of {format_bytes(page)} ({known})", entry.node)
        return {entry.node: entry.count}
    # a node without processors is slower memory, often movable: nobody gets it without naming it
    near: list[LocalNode] = [node for node in able if node.cpus] or able
    if not near:
        raise InvalidInput(path, f"a machine with a pool of {format_bytes(page)} pages")
    each, rest = divmod(entry.count, len(near))
    return {node.id: each + (rest if index == 0 else 0) for index, node in enumerate(near)}


def _step(topology: Topology, node: int, page: int, count: int, claimed: Mapping[tuple[int, int], int]) -> Step:
    found = topology.node(node)
    pool = found.pool(page) if found else None
    before, used = (pool.pages, pool.used) if pool else (0, 0)
    held = -(-claimed.get((node, page), 0) // page)
    if count < before and count < max(used, held):
        raise Shrinks(node, page, count, used, held)
    return Step(node=node, page=page, before=before, after=count)


def _compact(folder: Path) -> None:
    """Have the kernel move pages together; a kernel without compaction has no such file, and nothing is lost."""
    file = folder / "compact"
    if file.exists():
        file.write_text("1\n")
