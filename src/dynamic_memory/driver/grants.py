# SPDX-License-Identifier: Apache-2.0
"""What a claim was prepared with: its grants, one for each allocated device, and who may use them.

Grants are written into the claim's record before anything else is done, so they are the node's ledger: what is in a
record is taken, until Unprepare. All else (environment, CDI file, cgroup limits) follows from them.

A *key* names what one CDI device stands for: a claim (`<UID>`), or, where a claim has several requests that containers
may use apart from each other, one request of it (`<UID>.<request>`). Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from dynamic_memory.quantity import format_bytes

__all__ = ["Grant", "Mode", "Owner", "by_key", "key_of", "page_text", "split_key", "totals"]

SEPARATOR = "."


class Mode(enum.StrEnum):
    """How memory of a claim is enforced; a claim's configuration chooses."""

    LIMIT = "limit"
    """The container gets no more than it claimed (memory.max)."""
    PROTECT = "protect"
    """What it claimed is kept from reclaim (memory.min or memory.low, cgroup v2); the claim limits nothing."""
    ADVISE = "advise"
    """Its pages are placed; how many there are is not limited."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The pod that a claim was prepared for: it alone may use it, until Unprepare.

    Attributes:
        name: of the pod, in the claim's namespace.
        uid: of the pod.
        containers: names of the containers that refer to each request; the key "" is the claim as a whole.

    """

    name: str
    uid: str
    containers: dict[str, tuple[str, ...]] = {}


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One allocated device of a claim.

    Attributes:
        request: name of the claim's request, without an alternative's name.
        pool: of the device.
        device: its name.
        share_id: of the share; empty if the scheduler gave none.
        size: bytes.
        numa: NUMA node that the memory is on; None if that is not known.
        page: bytes of a huge page; 0 for ordinary memory.
        far: it is fabric memory, whose node has movable blocks only: a memory policy has to name it, and a container
            must never have it as the only node of its cpuset.
        mode: how it is enforced.
        path: where the container has it as a file system; empty if it has not.

    """

    request: str
    pool: str
    device: str
    share_id: str = ""
    size: int
    numa: int | None = None
    page: int = 0
    far: bool = False
    mode: Mode = Mode.LIMIT
    path: str = ""


def page_text(page: int) -> str:
    """Return the size of a page as attributes and resource names have it: `4Ki`, `2Mi`, `1Gi`."""
    return format_bytes(page)


def key_of(uid: str, request: str, requests: Sequence[str]) -> str:
    """Return the key of one request of a claim; `requests` are all of the claim's that were granted something."""
    return uid if len(set(requests)) <= 1 else f"{uid}{SEPARATOR}{request}"


def split_key(key: str) -> tuple[str, str]:
    """Return UID and request of a key; the request is empty where the key stands for the whole claim."""
    uid, _, request = key.partition(SEPARATOR)
    return uid, request


def by_key(uid: str, grants: Sequence[Grant]) -> dict[str, tuple[Grant, ...]]:
    """Return the grants of a claim by key, in the order in which they were allocated."""
    requests = [grant.request for grant in grants]
    keys = {request: key_of(uid, request, requests) for request in requests}
    return {key: tuple(grant for grant in grants if grant.request == request) for request, key in keys.items()}


def totals(grants: Sequence[Grant]) -> dict[tuple[str, str], int]:
    """Return the bytes taken by (pool, device)."""
    taken: dict[tuple[str, str], int] = {}
    for grant in grants:
        taken[grant.pool, grant.device] = taken.get((grant.pool, grant.device), 0) + grant.size
    return taken
