# SPDX-License-Identifier: Apache-2.0
"""Which memory belongs to nobody any more, and what may be done about it (rules 6 and 19). Pure.

An orphan is an extent of ours whose tag is the shareID of no claim in a consistent list of claims that began after the
extent was seen. ShareIDs are random and an allocation is never modified, so a tag that is missing there can not come
back. What may be done depends on the host: a driver that lives is asked, and gives the memory back when its blocks are
offline; only where the host is proven off, the service takes it. Until then it is counted as held.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Iterable

import msgspec

from dynamic_memory.api import core
from dynamic_memory.controller.books import Unowned
from dynamic_memory.fabric.model import HostWindow, Share

__all__ = [
    "MAX_AT_ONCE",
    "MAX_PART_AT_ONCE",
    "OUT_OF_SERVICE",
    "Action",
    "Found",
    "action",
    "find",
    "is_out_of_service",
    "limit_at_once",
]

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
"""Taint by which an administrator asserts that a node is shut down (KEP-2268)."""
MAX_AT_ONCE = 5
MAX_PART_AT_ONCE = 0.2


class Action(enum.Enum):
    """What to do with an orphan."""

    NOTHING = "nothing"
    """It was asked for already: the driver is at it."""
    ASK = "ask"
    """Ask for the release: the driver of the node does it."""
    RELEASE = "release"
    """The host is proven off: have the service do it."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one comparison.

    Attributes:
        orphans: shares that belong to nobody.
        stopped: so many were found at once that something else must be wrong; nothing may be done.
        limit: how many may be acted upon at once.

    """

    orphans: tuple[Unowned, ...]
    stopped: bool
    limit: int


def limit_at_once(total: int, *, at_once: int = MAX_AT_ONCE, part: float = MAX_PART_AT_ONCE) -> int:
    """Return how many orphans may be acted upon at once: `at_once`, or `part` of all shares if that is more."""
    return max(at_once, int(total * part))


def find(
    candidates: Iterable[Unowned],
    *,
    owner: str,
    listed: Container[str],
    began: float,
    total: int,
    at_once: int = MAX_AT_ONCE,
    part: float = MAX_PART_AT_ONCE,
) -> Found:
    """Return the candidates that are orphans by a list of claims.

    Args:
        candidates: shares that the cache knows no claim for.
        owner: ours; shares of other owners are never orphans of ours.
        listed: tags of all claims in a complete, consistent list.
        began: when that list began, monotonic seconds.
        total: number of all shares of ours.
        at_once: see `limit_at_once`.
        part: see `limit_at_once`.

    """
    orphans = tuple(c for c in candidates if c.share.owner == owner and c.seen < began and c.share.tag not in listed)
    limit = limit_at_once(total, at_once=at_once, part=part)
    new = sum(1 for o in orphans if not o.share.release_requested)
    return Found(orphans=orphans, stopped=new > limit, limit=limit)


def is_out_of_service(node: core.Node | None) -> bool:
    """Tell whether an administrator asserted that the node is off. A Node object that is gone proves nothing."""
    return node is not None and any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints)


def action(share: Share, host: HostWindow | None, node: core.Node | None) -> Action:
    """Return what may be done with an orphan.

    Args:
        share: the orphan.
        host: the host that holds it, as the service sees it; None if the service does not know it.
        node: the Node object, if there is one.

    """
    off = host is not None and host.node == share.node and host.session_lapsed and not host.session
    if off and is_out_of_service(node):
        return Action.RELEASE
    return Action.NOTHING if share.release_requested else Action.ASK
