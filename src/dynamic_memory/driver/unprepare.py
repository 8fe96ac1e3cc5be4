# SPDX-License-Identifier: Apache-2.0
"""Unprepare: what the kubelet calls when the last pod of a claim has ended; the answer waits for the bytes.

As long as it answers with an error the pod stays Terminating and the claim allocated, so nobody counts the memory as
free. The kubelet only logs the error, and asks again after 11-15 s: the driver says in events what holds the memory,
and uses the call's own time to get it back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec
from prometheus_client import Histogram

from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import claims
from dynamic_memory.driver.calls import ClaimRef
from dynamic_memory.driver.claims import ClaimShare
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.planner import State
from dynamic_memory.driver.points import passed
from dynamic_memory.driver.progress import Outcome, Verdict
from dynamic_memory.driver.records import ClaimRecord, ShareRecord
from dynamic_memory.errors import RetryError
from dynamic_memory.fabric.none import NoFabric
from dynamic_memory.process import clock

__all__ = ["StillHeld", "Unpreparer"]

log = logging.getLogger(__name__)

POLL = 0.25
UNPREPARE = Histogram(
    "dynamic_memory_driver_unprepare_seconds",
    "Unprepare of one claim, by result.",
    ["result"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 20, 45),
)


class StillHeld(RetryError):
    """The bytes are not back.

    Args:
        reason: one of `names.Reason`; empty if nothing is known.
        message: what holds them.

    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        self.message = message
        super().__init__(reason, message)

    def __str__(self) -> str:
        return f"memory is not released yet: {self.reason}: {self.message}" if self.reason else self.message


class Unpreparer:
    """Takes back what was prepared on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def unprepare(self, ref: ClaimRef, until: float) -> None:
        """Give the memory of one claim back; a claim that nobody knows is a success.

        Args:
            ref: the claim; it may be gone.
            until: when to give up waiting, on the monotonic clock.

        Raises:
            DynamicMemoryError: the memory is not back yet, and why.

        """
        began = clock.monotonic()
        result = "held"
        try:
            await self._unprepare(ref, until)
            result = "ok"
        finally:
            UNPREPARE.labels(result).observe(clock.monotonic() - began)

    async def _unprepare(self, ref: ClaimRef, until: float) -> None:
        node = self._node
        if await self._is_local(ref):
            await self._release_local(ref)
            return
        while not node.active:
            left = until - clock.monotonic()
            if left <= 0:
                raise StillHeld("", f"another driver process works on this node: {node.holder() or 'unknown'}")
            await clock.sleep(min(POLL, left))
        ticket = node.progress.ask(ref.uid)
        try:
            tags = await self._write_releasing(ref)
            if tags:
                node.specs.remove(ref.uid)
                passed("cdi-removed")
                await self._released(ref, tags, ticket, until)
            else:
                await self._unknown(ref, until)
        finally:
            node.progress.leave(ref.uid)
        await self._release_local(ref)
        await self._succeeded(ref)
        log.info("unprepared", extra={"claim": str(ref), "uid": ref.uid, "tags": sorted(tags)})
        passed("unprepared")

    async def _is_local(self, ref: ClaimRef) -> bool:
        """Tell whether the claim surely has nothing of a fabric: then neither the loop nor the service is asked."""
        record = await self._node.records.refresh(ref.uid)
        if record is not None:
            return not record.shares and bool(record.local) and (record.prepared is None or not record.prepared.tag)
        if isinstance(self._node.fabric, NoFabric):
            return True
        claim = await self._node.claims.read(ref.namespace, ref.name, ref.uid)
        ours = claims.our_results(claim) if claim is not None else []
        return bool(ours) and not claims.fabric_results(claim) if claim is not None else False

    async def _release_local(self, ref: ClaimRef) -> None:
        """Give the node's own memory back: first nobody can start with it any more, then it is free."""
        node = self._node
        record = node.records.get(ref.uid)
        took = record.local if record is not None else ()
        try:
            if took:
                await asyncio.to_thread(self._remove_files, ref)
                passed("cdi-removed")
            # until now the record said that a file is missing, and whoever looks at everything may have written it
            # again; from now on another driver may prepare the claim for another pod, whose files these are then
            await node.records.update(
                ref.uid,
                lambda found: found and (found.without_local() if took else found),
                lambda left: None if left is not None and left.local else self._remove_files(ref),
            )
        except OSError as error:
            raise StillHeld("", f"claim {ref} cannot be taken back: {error}") from error
        if took:
            log.info("unprepared", extra={"claim": str(ref), "uid": ref.uid, "local": len(took)})
            passed("unprepared")

    def _remove_files(self, ref: ClaimRef) -> None:
        try:
            self._node.specs.remove(ref.uid)
        except OSError as error:
            raise OSError(error.errno, f"its CDI file cannot be removed: {error}") from error
        if self._node.metadata is not None:
            self._node.metadata.remove(ref.uid)

    async def _write_releasing(self, ref: ClaimRef) -> set[str]:
        """Record that the claim's shares are on their way back, before the first destructive step (rule 8)."""
        node = self._node
        claim = await node.claims.read(ref.namespace, ref.name, ref.uid)
        share = self._share(claim)
        pods = tuple(claims.pods_of(claim)) if claim else ()
        awaited = share is not None and await self._has_not_begun(ref, pods)
        released: set[str] = set()

        def update(record: ClaimRecord | None) -> ClaimRecord | None:
            base = record or ClaimRecord(key=ref.uid, uid=ref.uid, namespace=ref.namespace, name=ref.name)
            kept = share.tag if share is not None and awaited and self._is_untouched(base, share.tag) else ""
            if share is not None and not kept and base.share(share.tag) is None:
                base = base.with_share(self._new(share))
            released.clear()
            released.update(mine.tag for mine in base.shares if mine.tag != kept)
            if not released:
                return record
            for mine in base.shares:
                if mine.tag in released:
                    known = {pod.uid: pod for pod in (*mine.pods, *pods)}
                    base = base.with_share(
                        msgspec.structs.replace(mine, state=State.RELEASING, pods=tuple(known.values()))
                    )
            return msgspec.structs.replace(base, prepared=None, offered=None, unprepare_due=True)

        await node.records.update(ref.uid, update)
        passed("releasing-recorded")
        return released

    async def _has_not_begun(self, ref: ClaimRef, pods: Sequence[claims.Pod]) -> bool:
        """Tell whether the claim is reserved for a pod that nothing was started of: no Unprepare is about that one.

        When a pod was deleted by force while its memory was held, the claim has a new share, for another pod, before
        the kubelet is done with the old one.
        """
        for pod in pods:
            found = await self._node.claims.pod(ref.namespace, pod.name)
            if found is None or found.metadata.uid != pod.uid or found.metadata.deletion_timestamp is not None:
                continue
            if found.status.phase in {"", "Pending"}:
                return True
        return False

    @staticmethod
    def _is_untouched(record: ClaimRecord, tag: str) -> bool:
        """Tell whether a share was neither prepared nor begun to be released."""
        mine = record.share(tag)
        prepared = record.prepared is not None and record.prepared.tag == tag
        return not prepared and (mine is None or mine.state is not State.RELEASING)

    async def _succeeded(self, ref: ClaimRef) -> None:
        """Remember that the kubelet does not take the claim for prepared any more."""

        def update(record: ClaimRecord | None) -> ClaimRecord | None:
            if record is None or not record.unprepare_due:
                return record
            return msgspec.structs.replace(record, offered=None, unprepare_due=False)

        await self._node.records.update(ref.uid, update)

    def _share(self, claim: ResourceClaim | None) -> ClaimShare | None:
        try:
            return claims.share_of(claim, self._node.name) if claim else None
        except claims.RefusedClaim:
            return None  # nothing is ever attached for it

    def _new(self, share: ClaimShare) -> ShareRecord:
        return ShareRecord(
            tag=share.tag,
            pool=share.pool,
            device=share.device,
            size=share.size,
            window=share.window,
            request=share.request,
            state=State.RELEASING,
            boot_id=self._node.boot_id,
        )

    async def _released(self, ref: ClaimRef, tags: set[str], ticket: int, until: float) -> None:
        """Wait until the loop, asked after the record was written, says of every share that it is back."""
        node = self._node
        node.queue.add(ref.uid)
        seen, last = 0, Outcome(verdict=Verdict.WAITING, message="the release has begun")
        while (answer := await node.progress.wait(ref.uid, ticket, seen, until)) is not None:
            seen, outcomes = answer
            held = [outcome for tag, outcome in outcomes.items() if tag in tags | {""} and not self._is_back(outcome)]
            if not held:
                return
            last = held[0]
        raise StillHeld(last.reason, last.message)

    @staticmethod
    def _is_back(outcome: Outcome) -> bool:
        return outcome.verdict in (Verdict.RELEASED, Verdict.REFUSED)

    async def _unknown(self, ref: ClaimRef, until: float) -> None:
        """Neither record nor claim knows a share: succeed only if the fabric shows nothing that could be its (rule 12).

        What the fabric holds for this node without record and claim may be this claim's; it is being released.
        """
        node = self._node
        while True:
            snapshot = await node.fabric.list_extents()
            stray = [
                share.tag
                for share in snapshot.shares
                if share.node == node.name
                and node.claims.by_tag(share.tag) is None
                and self._is_orphan(node.records.key_of(share.tag))
            ]
            if not stray:
                return
            node.look_for_orphans()
            left = until - clock.monotonic()
            if left <= 0:
                raise StillHeld("", f"claim {ref} is unknown, but memory without a claim is still here: {stray[0]}")
            await clock.sleep(min(POLL, left))

    @staticmethod
    def _is_orphan(key: str | None) -> bool:
        return key is None or key.startswith("orphan-")
