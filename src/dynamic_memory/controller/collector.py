# SPDX-License-Identifier: Apache-2.0
"""Has memory released that belongs to no claim any more: the edge of `orphans` (rules 6 and 19).

A round begins with shares that the cache knows no claim for, and stops at the first doubt: a cache that is not
complete, a fabric that does not answer, an error of any kind. What is left is compared with a consistent list of all
claims, and looked at once more right before each action. A round that finds too many at once does nothing but say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from prometheus_client import Counter, Gauge

from dynamic_memory.api import core, kinds
from dynamic_memory.controller import orphans
from dynamic_memory.controller.books import Books, Unowned
from dynamic_memory.controller.claims import CLAIMS, ClaimView, shares_of
from dynamic_memory.controller.config import OrphansConfig
from dynamic_memory.controller.fabricview import FabricView
from dynamic_memory.controller.faultpoints import ROLE
from dynamic_memory.controller.orphans import Action
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.fabric.errors import Rejected
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.fabric.model import RemovedState, Share
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.kube.events import EventRecorder
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock, faults
from dynamic_memory.process.backoff import Backoff

__all__ = ["Collector"]

log = logging.getLogger(__name__)

ORPHANS = Gauge("dynamic_memory_orphans", "Shares on the fabric that belong to no claim.")
ORPHAN_BYTES = Gauge("dynamic_memory_orphan_bytes", "Bytes of shares that belong to no claim.")
STOPPED = Gauge("dynamic_memory_orphans_stopped", "1 while too many orphans at once keep the controller from acting.")
LAST_LIST = Gauge("dynamic_memory_orphans_last_list_time_seconds", "Time of the last consistent list of claims.")
ACTIONS = Counter("dynamic_memory_orphan_actions", "What was done about orphans.", ["action"])


class Collector:
    """Looks for orphans, for ever.

    Args:
        kube: API client.
        fabric: the service.
        view: the fabric as last seen.
        books: shares against claims.
        synced: whether the cache of claims is complete.
        owner: ours.
        config: how long to wait, how many at once.
        recorder: for events.
        alert: object that the events about too many orphans are about.

    """

    def __init__(
        self,
        *,
        kube: Kube,
        fabric: Fabric,
        view: FabricView,
        books: Books,
        synced: Callable[[], bool],
        owner: str,
        config: OrphansConfig,
        recorder: EventRecorder,
        alert: core.ObjectReference,
    ) -> None:
        self._kube = kube
        self._fabric = fabric
        self._view = view
        self._books = books
        self._synced = synced
        self._owner = owner
        self._config = config
        self._recorder = recorder
        self._alert = alert
        self._known: set[str] = set()

    async def run(self) -> None:
        """Look again and again."""
        backoff = Backoff(initial=self._config.interval, maximum=max(300.0, self._config.interval))
        while True:
            try:
                await self.round()
                backoff.reset()
                wait: float = self._config.interval
            except DynamicMemoryError as error:
                wait = backoff.next()
                log.warning("orphans not looked for", extra={"error": str(error)})
            await clock.sleep(wait)

    async def round(self) -> None:
        """Look once, and do what may be done.

        Raises:
            DynamicMemoryError: something did not answer; nothing more was done.

        """
        if not self._trustworthy():
            return
        candidates = self._candidates()
        if not candidates:
            self._show(())
            STOPPED.set(0)
            return
        began = clock.monotonic()
        listed = await self._listed_tags()
        if not self._trustworthy():
            return
        found = orphans.find(
            candidates,
            owner=self._owner,
            listed=listed,
            began=began,
            total=len(self._books.shares),
            at_once=self._config.at_once,
            part=self._config.part,
        )
        self._show(found.orphans)
        if found.stopped:
            await self._stop(found)
            return
        STOPPED.set(0)
        if not found.orphans:
            return
        # What is known of hosts must not be older than what is known of claims.
        await self._view.look()
        for orphan in found.orphans:
            await self._handle(orphan)

    def _candidates(self) -> list[Unowned]:
        now = clock.monotonic()
        return [entry for entry in self._books.unowned(now) if now - entry.since >= self._config.after]

    def _trustworthy(self) -> bool:
        return self._synced() and self._view.current

    async def _listed_tags(self) -> set[str]:
        """Return the shareIDs of all claims, from a quorum read that begins now."""
        listed = await self._kube.list(CLAIMS, consistent=True)
        LAST_LIST.set_to_current_time()
        return {share.tag for claim in listed.items for share in shares_of(claim)}

    async def _handle(self, orphan: Unowned) -> None:
        share = orphan.share
        if share.tag not in self._known:
            self._known.add(share.tag)
            log.warning(
                "memory belongs to no claim",
                extra={"tag": share.tag, "node": share.node, "pool": share.pool, "bytes": share.size},
            )
            faults.point(f"{ROLE}.orphan-seen")
        node = await self._node(share.node)
        what = orphans.action(share, self._view.host(share.node), node)
        if what is Action.NOTHING:
            return
        if await self._has_claim(orphan) or not self._trustworthy():
            log.info("memory has a claim after all", extra={"tag": share.tag})
            return
        await self._act(share, what, node)

    async def _act(self, share: Share, what: Action, node: core.Node | None) -> None:
        try:
            removed = await self._fabric.remove_memory(share.tag, host_off=what is Action.RELEASE)
        except Rejected as error:
            # The service saw the node after we looked: its driver was asked instead.
            log.warning("host is not proven off", extra={"tag": share.tag, "node": share.node, "error": str(error)})
            ACTIONS.labels("rejected").inc()
            return
        if removed.state is RemovedState.REQUESTED:
            faults.point(f"{ROLE}.release-asked")
            ACTIONS.labels("asked").inc()
            text = "its driver was asked to release it"
        else:
            faults.point(f"{ROLE}.released-by-service")
            ACTIONS.labels("released").inc()
            text = "the node is out of service, and the memory was released"
        log.info("orphan handled", extra={"tag": share.tag, "node": share.node, "state": removed.state.value})
        if node is not None:
            message = f"{share.size} bytes of {share.pool}/{share.device} belong to no claim ({share.tag}): {text}"
            await self._recorder.event(node_reference(node), type="Warning", reason="OrphanedMemory", message=message)

    async def _has_claim(self, orphan: Unowned) -> bool:
        """Look once more, right before acting: at the claim that had the share if it is known, else at all claims."""
        owner = orphan.last_owner
        if owner is None:
            return orphan.share.tag in await self._listed_tags()
        try:
            claim: ClaimView = await self._kube.get(CLAIMS, owner.name, owner.namespace)
        except NotFound:
            return False
        return any(share.tag == orphan.share.tag for share in shares_of(claim))

    async def _node(self, name: str) -> core.Node | None:
        try:
            return await self._kube.get(kinds.NODES, name)
        except NotFound:
            return None

    async def _stop(self, found: orphans.Found) -> None:
        STOPPED.set(1)
        ACTIONS.labels("stopped").inc()
        message = (
            f"{len(found.orphans)} shares of fabric memory seem to belong to no claim, more than the {found.limit} "
            "that are believed at once; none of them is released. Was this cluster restored from a backup, or does "
            "another cluster use its name at the service? If they really are orphans, release them with --force."
        )
        log.error("too many orphans, nothing released", extra={"found": len(found.orphans), "limit": found.limit})
        await self._recorder.event(self._alert, type="Warning", reason="TooManyOrphans", message=message)

    def _show(self, found: tuple[Unowned, ...]) -> None:
        self._known &= {orphan.share.tag for orphan in found}
        ORPHANS.set(len(found))
        ORPHAN_BYTES.set(sum(orphan.share.size for orphan in found))


def node_reference(node: core.Node) -> core.ObjectReference:
    """Return the reference by which `kubectl describe node` finds an event: its uid is the node's name there."""
    return core.ObjectReference(api_version="v1", kind="Node", name=node.metadata.name, uid=node.metadata.name)
