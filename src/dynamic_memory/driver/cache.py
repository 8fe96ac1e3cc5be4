# SPDX-License-Identifier: Apache-2.0
"""The claims of this node: kept current by a watch over all claims, of which only those of the node are kept.

For anything that cannot be taken back the claim is read again from the API server: a cache may be late. What was read
then counts until the watch has come as far; otherwise a late watch would have the driver attach a share, find out that
nobody wants it, undo it, and begin again, for as long as the watch is late.
"""

from __future__ import annotations

from collections.abc import Iterable

from dynamic_memory.api.core import Pod
from dynamic_memory.api.kinds import PODS, RESOURCE_CLAIMS
from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import claims
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.kube.informer import Change, Informer
from dynamic_memory.kube.interface import Kube

__all__ = ["Claims", "share_or_none"]


def share_or_none(claim: ResourceClaim | None, node: str) -> claims.ClaimShare | None:
    """Return the share that a claim holds on this node; None also for a claim that is refused."""
    if claim is None:
        return None
    try:
        return claims.share_of(claim, node)
    except claims.RefusedClaim:
        return None


class Claims:
    """Claims that are allocated to one node and ask something of this driver."""

    def __init__(self, kube: Kube, node: str) -> None:
        self._kube = kube
        self._node = node
        self.informer: Informer[ResourceClaim] = Informer(
            kube, RESOURCE_CLAIMS, keep=self._is_ours, indexes={"uid": self._uid, "tag": self._tags}
        )
        self._windows: dict[str, str] = {}
        self._ahead: dict[str, ResourceClaim | None] = {}
        self.informer.subscribe(self._changed)

    def get(self, uid: str) -> ResourceClaim | None:
        """Return a claim by UID as the cache has it, or as it was read since."""
        cached = self._cached(uid)
        return self._ahead.get(uid, cached) if cached is not None else None

    def by_tag(self, tag: str) -> ResourceClaim | None:
        """Return the claim that holds a share as the cache has it."""
        found = self.informer.by_index("tag", tag)
        return found[0] if found else None

    def all(self) -> Iterable[ResourceClaim]:
        """Return all claims of the node as the cache has them."""
        return self.informer.all()

    async def read(self, namespace: str, name: str, uid: str) -> ResourceClaim | None:
        """Read a claim from the API server; None if it is gone, or another one has its name.

        Raises:
            ApiError: the server does not answer, or refuses.

        """
        try:
            found = await self._kube.get(RESOURCE_CLAIMS, name, namespace)
        except NotFound:
            found = None
        claim = found if found is not None and found.metadata.uid == uid else None
        cached = self._cached(uid)
        if cached is not None and (claim is None or _version(claim) > _version(cached)):
            self._ahead[uid] = claim
        return claim

    async def pod(self, namespace: str, name: str) -> Pod | None:
        """Read a pod from the API server; None if it is gone.

        Raises:
            ApiError: the server does not answer, or refuses.

        """
        try:
            return await self._kube.get(PODS, name, namespace)
        except NotFound:
            return None

    async def owned(self) -> dict[str, ResourceClaim]:
        """List all claims from the API server, and return those of this node by the tags of their shares.

        Raises:
            ApiError: the server does not answer, or refuses.

        """
        listed = await self._kube.list(RESOURCE_CLAIMS, consistent=True)
        return {tag: claim for claim in listed.items if self._is_ours(claim) for tag in self._tags(claim)}

    def window_of(self, tag: str) -> str | None:
        """Return the window device that the claim of a share accounts for it; None if no claim of the node does."""
        return self._windows.get(tag)

    def _cached(self, uid: str) -> ResourceClaim | None:
        found = self.informer.by_index("uid", uid)
        return found[0] if found else None

    def _changed(self, change: Change[ResourceClaim]) -> None:
        """Keep the windows by tag: they are asked for all shares at once, whenever one of them changes."""
        uid = change.object.metadata.uid
        ahead = self._ahead.get(uid)
        if change.type == "deleted" or (ahead is not None and _version(change.object) >= _version(ahead)):
            self._ahead.pop(uid, None)
        for claim in (change.old, change.object):
            for tag in self._tags(claim) if claim else ():
                self._windows.pop(tag, None)
        share = share_or_none(change.object, self._node) if change.type != "deleted" else None
        if share is not None:
            self._windows[share.tag] = share.window

    def _is_ours(self, claim: ResourceClaim) -> bool:
        return claims.node_of(claim) == self._node and bool(claims.our_results(claim))

    @staticmethod
    def _uid(claim: ResourceClaim) -> list[str]:
        return [claim.metadata.uid]

    @staticmethod
    def _tags(claim: ResourceClaim) -> list[str]:
        return [result.share_id for result in claims.fabric_results(claim) if result.share_id]


def _version(claim: ResourceClaim) -> int:
    return int(claim.metadata.resource_version or 0)
