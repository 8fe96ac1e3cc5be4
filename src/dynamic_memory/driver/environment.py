# SPDX-License-Identifier: Apache-2.0
"""The variables by which a container, and an NRI plugin where CDI names are not shown to it, learns of local memory.

The names are those that users of dra-driver-memory know, for one key (see `grants`) each:

    DRAMEMORY_<key>_NUMANodes=0-1
    DRAMEMORY_<key>_memory=numanode:0,size:512Mi
    DRAMEMORY_<key>_hugepages_2Mi=numanode:0,size:64Mi;numanode:1,size:32Mi

Several grants of one kind stand in one variable, apart by semicolons: a second variable of the same name would replace
the first. Whoever reads them back must not believe them: anybody can write them into a pod. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from dynamic_memory.driver.grants import Grant, page_text
from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.sysfs import format_list, parse_list
from dynamic_memory.quantity import format_bytes, parse_bytes

__all__ = ["PREFIX", "Allocation", "Told", "parse", "render"]

PREFIX = "DRAMEMORY_"
NODES = "NUMANodes"
MEMORY = "memory"
HUGEPAGES = "hugepages_"
_NAME = re.compile(r"DRAMEMORY_(?P<key>[0-9A-Za-z-]+(?:\.[0-9a-z-]+)?)_(?P<what>NUMANodes|memory|hugepages_\w+)")
# four digits: the kernel has 1024 nodes at most, and a user's 0-999999999 must not be written out
_LIST = re.compile(r"\d{1,4}(?:-\d{1,4})?(?:,\d{1,4}(?:-\d{1,4})?){0,1023}")
_PART = re.compile(r"numanode:(?P<numa>\d+),size:(?P<size>\d+(?:[KMGTPE]i)?)")


class Allocation(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Memory of one node: bytes, and bytes of a huge page, or 0."""

    page: int = 0
    numa: int
    size: int


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the variables of one key say."""

    nodes: tuple[int, ...] = ()
    allocations: tuple[Allocation, ...] = ()


def render(key: str, grants: Sequence[Grant]) -> dict[str, str]:
    """Return the variables of one key; fabric memory, and what is on no known node, has none of them."""
    near = [grant for grant in grants if not grant.far and grant.numa is not None]
    if not near:
        return {}
    env = {f"{PREFIX}{key}_{NODES}": format_list(grant.numa for grant in near if grant.numa is not None)}
    for page in sorted({grant.page for grant in near}):
        what = f"{HUGEPAGES}{page_text(page)}" if page else MEMORY
        parts = (f"numanode:{grant.numa},size:{format_bytes(grant.size)}" for grant in near if grant.page == page)
        env[f"{PREFIX}{key}_{what}"] = ";".join(parts)
    return env


def parse(env: Iterable[str]) -> dict[str, Told]:
    """Return what `NAME=value` entries say, by key; entries without the prefix are passed over.

    Raises:
        InvalidInput: an entry has the prefix and is not one that `render` writes.

    """
    found: dict[str, Told] = {}
    for entry in env:
        if not entry.startswith(PREFIX):
            continue
        name, _, value = entry.partition("=")
        match = _NAME.fullmatch(name)
        if match is None:
            raise InvalidInput(name, f"{PREFIX}<claim>_{NODES}, _{MEMORY} or _{HUGEPAGES}<size>")
        told = found.get(match["key"], Told())
        if match["what"] == NODES:
            if not _LIST.fullmatch(value):
                raise InvalidInput(name, "a list of NUMA nodes such as 0-1,3", value)
            told = msgspec.structs.replace(told, nodes=tuple(sorted(parse_list(value))))
        else:
            page = 0 if match["what"] == MEMORY else _page(name, match["what"].removeprefix(HUGEPAGES))
            more = tuple(_allocation(name, part, page) for part in value.split(";"))
            told = msgspec.structs.replace(told, allocations=(*told.allocations, *more))
        found[match["key"]] = told
    return found


def _page(name: str, text: str) -> int:
    try:
        page = parse_bytes(text)
    except InvalidInput:
        page = 0
    if page <= 0:
        raise InvalidInput(name, "the size of a page such as 2Mi", text)
    return page


def _allocation(name: str, text: str, page: int) -> Allocation:
    match = _PART.fullmatch(text)
    if match is None:
        raise InvalidInput(name, "numanode:<number>,size:<quantity>", text)
    return Allocation(page=page, numa=int(match["numa"]), size=parse_bytes(match["size"]))
