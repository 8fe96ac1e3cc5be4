# SPDX-License-Identifier: Apache-2.0
"""The two ledgers side by side: what the fabric holds, and what claims are allocated. Pure.

The scheduler subtracts allocated claims from a pool's value by itself. What it cannot know of is memory that no
allocated claim owns, and so this is what the books find: each event costs as much as the shares it concerns, whatever
the number of claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from dynamic_memory.controller.claims import ClaimKey
from dynamic_memory.fabric.model import Share

__all__ = ["Books", "Owner", "Unowned"]

DeviceKey = tuple[str, str]


class Owner(msgspec.Struct, frozen=True):
    """The claim that was last seen to own a share."""

    namespace: str
    name: str
    uid: str


class Unowned(msgspec.Struct, frozen=True, kw_only=True):
    """A share of ours that no claim in the cache is allocated.

    Attributes:
        share: the share.
        seen: when it was first seen on the fabric, monotonic seconds.
        since: when it was first seen without a claim, monotonic seconds.
        last_owner: the claim that had it, if this process ever knew.

    """

    share: Share
    seen: float
    since: float
    last_owner: Owner | None


class Books:
    """Shares against claims.

    A share that was just attached may be known before the cache has its claim, because two streams are compared. For
    `grace` seconds it does not count as without owner, unless its owner was seen to go. Nothing rests on that: it only
    keeps the published value from flickering.
    """

    def __init__(self, owner: str, *, grace: float) -> None:
        self._owner = owner
        self._grace = grace
        self._shares: dict[str, Share] = {}
        self._seen: dict[str, float] = {}
        self._claims: dict[ClaimKey, frozenset[str]] = {}
        self._owners: dict[str, Owner] = {}
        self._last_owners: dict[str, Owner] = {}
        self._unowned: dict[str, float] = {}
        self._fresh: dict[str, float] = {}

    @property
    def shares(self) -> Mapping[str, Share]:
        """All shares of ours on the fabric, by tag."""
        return self._shares

    def replace_shares(self, shares: Iterable[Share], now: float) -> list[Share]:
        """Take over a snapshot of the fabric, and return the shares that are gone since the last one."""
        first = not self._seen
        new = {share.tag: share for share in shares}
        gone = [share for tag in list(self._shares) if tag not in new and (share := self.drop_share(tag)) is not None]
        for share in new.values():
            self.put_share(share, now, settled=first)
        return gone

    def put_share(self, share: Share, now: float, *, settled: bool = False) -> bool:
        """Add or change a share; tell whether the bytes without owner changed. Another owner's share is ignored."""
        if share.owner != self._owner:
            return False
        known = self._shares.get(share.tag)
        self._shares[share.tag] = share
        if known is not None:
            return share.tag in self._unowned and known.size != share.size
        self._seen[share.tag] = now
        if share.tag in self._owners:
            return False
        self._unowned[share.tag] = now
        if not settled:
            self._fresh[share.tag] = now + self._grace
        return True

    def drop_share(self, tag: str) -> Share | None:
        """Remove a share whose bytes are back, and return it."""
        for table in (self._seen, self._unowned, self._fresh, self._last_owners):
            table.pop(tag, None)
        return self._shares.pop(tag, None)

    def put_claim(self, key: ClaimKey, uid: str, tags: Iterable[str], now: float) -> bool:
        """Set what a claim is allocated; tell whether the bytes without owner changed."""
        old, new = self._claims.get(key, frozenset()), frozenset(tags)
        if new:
            self._claims[key] = new
        else:
            self._claims.pop(key, None)
        owner = Owner(key[0], key[1], uid)
        changed = False
        for tag in new:
            self._owners[tag] = owner
            self._fresh.pop(tag, None)
            changed |= self._unowned.pop(tag, None) is not None
        for tag in old - new:
            changed |= self._orphaned(tag, now)
        return changed

    def drop_claim(self, key: ClaimKey, now: float) -> bool:
        """Forget a claim; tell whether the bytes without owner changed."""
        return self.put_claim(key, "", (), now)

    def _orphaned(self, tag: str, now: float) -> bool:
        owner = self._owners.pop(tag, None)
        if tag not in self._shares:
            return False
        if owner is not None:
            self._last_owners[tag] = owner
        self._unowned[tag] = now
        return True

    def unowned(self, now: float) -> list[Unowned]:
        """Return the shares that no claim owns, oldest first."""
        return [
            Unowned(share=self._shares[tag], seen=self._seen[tag], since=since, last_owner=self._last_owners.get(tag))
            for tag, since in sorted(self._unowned.items(), key=lambda item: item[1])
            if self._fresh.get(tag, now) <= now
        ]

    def held(self, now: float) -> dict[DeviceKey, int]:
        """Return the bytes of each pool device (pool, device) that shares hold which no claim owns."""
        held: dict[DeviceKey, int] = {}
        for entry in self.unowned(now):
            key = entry.share.pool, entry.share.device
            held[key] = held.get(key, 0) + entry.share.size
        return held

    def next_change(self, now: float) -> float | None:
        """Return when a fresh share begins to count, if there is one; monotonic seconds."""
        return min((at for at in self._fresh.values() if at > now), default=None)
