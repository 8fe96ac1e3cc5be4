# SPDX-License-Identifier: Apache-2.0
"""Where the pages of a process are: `/proc/<pid>/numa_maps`. Pure.

Source: numa(7), "/proc/pid/numa_maps". Each line is a mapping: address, policy, and fields; `N<node>=<pages>` counts
pages of `kernelpagesize_kB` each. A mapping with `file=` is backed by a file: its pages were placed by whoever read the
file first, so they say nothing of this process (huge pages of an anonymous mapping show `file=/anon_hugepage`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

__all__ = ["NumaMapping", "nodes_of", "parse_numa_maps"]

ANONYMOUS_FILES = ("/anon_hugepage", "/dev/zero")
_NODE = re.compile(r"N(?P<node>\d+)=(?P<pages>\d+)")


class NumaMapping(msgspec.Struct, frozen=True, kw_only=True):
    """One mapping.

    Attributes:
        start: address.
        policy: as the kernel prints it.
        file: path of the file that backs it; empty for anonymous memory.
        page: bytes of a page.
        nodes: bytes by node.

    """

    start: int
    policy: str
    file: str = ""
    page: int = 4096
    nodes: dict[int, int] = {}

    @property
    def anonymous(self) -> bool:
        """Whether the process placed its pages itself."""
        return not self.file or self.file.startswith(ANONYMOUS_FILES)


def parse_numa_maps(text: str) -> list[NumaMapping]:
    """Return the mappings; a line that is not one is passed over."""
    found = []
    for line in text.splitlines():
        address, _, rest = line.partition(" ")
        policy, *fields = rest.split() or [""]
        if not re.fullmatch(r"[0-9a-f]+", address):
            continue
        named = dict(field.split("=", 1) for field in fields if "=" in field)
        kib = named.get("kernelpagesize_kB", "4")
        page = int(kib) * 1024 if kib.isdecimal() else 4096
        pages = {int(m["node"]): int(m["pages"]) * page for field in fields if (m := _NODE.fullmatch(field))}
        found.append(
            NumaMapping(start=int(address, 16), policy=policy, file=named.get("file", ""), page=page, nodes=pages)
        )
    return found


def nodes_of(mappings: Iterable[NumaMapping]) -> dict[int, int]:
    """Return bytes by node of everything that the process placed itself."""
    total: dict[int, int] = {}
    for mapping in mappings:
        for node, size in mapping.nodes.items() if mapping.anonymous else ():
            total[node] = total.get(node, 0) + size
    return dict(sorted(total.items()))
