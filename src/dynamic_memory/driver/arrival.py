# SPDX-License-Identifier: Apache-2.0
"""The arrival of a claim's fabric memory, as Prepare waits for it.

Whoever holds the node's lock attaches: the loop of this process, which is asked and tells what it waits for, or that of
another driver of the node, whose record says when it is done.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dynamic_memory.driver.calls import ClaimRef, NotPrepared, NotReady
from dynamic_memory.driver.claims import ClaimShare
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.planner import State
from dynamic_memory.driver.progress import Outcome, Verdict
from dynamic_memory.driver.records import ClaimRecord, ShareRecord
from dynamic_memory.host.interface import Region
from dynamic_memory.process import clock

__all__ = ["Arrival"]

POLL = 0.25


class Arrival:
    """Tells when fabric memory is there.

    Args:
        node: the node.

    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def ready(self, ref: ClaimRef, share: ClaimShare) -> Region | None:
        """Return the region if record, fabric and host agree that the memory is there for this claim."""
        record = self._node.records.get(ref.uid) if self._node.active else await self._node.records.refresh(ref.uid)
        mine = record.share(share.tag) if record else None
        if mine is None or mine.state is not State.ATTACHED or mine.boot_id != self._node.boot_id:
            return None
        if self._node.view.synced and self._node.view.get(share.tag) is None:
            return None
        region = await self._node.host.region(share.tag)
        return region if region is not None and region.complete and region.size >= share.size else None

    async def wait(self, ref: ClaimRef, share: ClaimShare, until: float) -> Region:
        """Wait for the loop of this process, or of the other driver that holds the node's lock.

        Raises:
            NotPrepared: the memory will not come.
            NotReady: it was not there in time.

        """
        last = NotReady("", "nothing has been heard of the memory yet")
        while (left := until - clock.monotonic()) > 0:
            if self._node.active:
                last = await self._wait_for_loop(ref, share, until)
            else:
                last = NotReady("", f"another driver process attaches on this node: {self._node.holder() or 'unknown'}")
                await clock.sleep(min(POLL, left))
            region = await self.ready(ref, share)
            if region is not None:
                return region
        raise last

    async def _wait_for_loop(self, ref: ClaimRef, share: ClaimShare, until: float) -> NotReady:
        """Ask the loop for the share; return what it waits for when the time is over, or when it is ready."""
        node = self._node
        ticket = node.progress.ask(ref.uid)
        try:
            node.names_of[ref.uid] = (ref.namespace, ref.name)
            await self._take_back(ref, share)
            node.queue.add(ref.uid)
            seen, outcome = 0, Outcome(verdict=Verdict.WAITING)
            while (answer := await node.progress.wait(ref.uid, ticket, seen, until)) is not None:
                seen, outcomes = answer
                outcome = outcomes.get(share.tag) or outcomes.get("") or outcome
                if outcome.verdict is Verdict.REFUSED:
                    raise NotPrepared(outcome.message)
                if outcome.verdict is Verdict.RELEASED:
                    raise NotPrepared(
                        f"the memory could not be attached: {outcome.reason}: {outcome.message}"
                        if outcome.reason
                        else f"claim {ref} is not allocated to node {node.name} any more"
                    )
                if outcome.verdict is Verdict.READY:
                    break
        finally:
            node.progress.leave(ref.uid)
            if node.records.get(ref.uid) is None:
                node.names_of.pop(ref.uid, None)
        return NotReady(outcome.reason, outcome.message or "it is being attached")

    async def _take_back(self, ref: ClaimRef, share: ClaimShare) -> None:
        """Stop a release that an earlier Unprepare began (rule 8): the kubelet wants the claim again."""

        def change(mine: ShareRecord) -> ShareRecord:
            if mine.state is not State.RELEASING or mine.failure is not None:
                return msgspec.structs.replace(mine, committed=True) if mine.failure is None else mine
            return msgspec.structs.replace(mine, state=State.ATTACHING, committed=True, pods=())

        await self._update(ref, share, change)

    async def _update(self, ref: ClaimRef, share: ClaimShare, change: Callable[[ShareRecord], ShareRecord]) -> None:
        def update(record: ClaimRecord | None) -> ClaimRecord | None:
            mine = record.share(share.tag) if record else None
            return record.with_share(change(mine)) if record and mine else record

        await self._node.records.update(ref.uid, update)
