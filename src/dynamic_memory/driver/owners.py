# SPDX-License-Identifier: Apache-2.0
"""Handing a prepared claim on when its pod was removed by force.

A pod that is deleted by force leaves the API at once. Its claim may then be reserved for another pod of this node while
the kubelet still takes it for prepared: it asks neither Unprepare for the first nor Prepare for the second. Until now
the first pod owns the claim, and every container of the second is refused. The claim is prepared for the second, as it
is allocated now, when the first is neither in the API nor alive on the node, and not before: nobody gets memory that is
still in use.

Of a claim with fabric memory as well, the share of the first pod is on its way back by then, or waits for somebody who
uses it, and the share of the second one is attached like any other. Both parts are handed on together. As nobody asked,
what is prepared is *offered*: an Unprepare that is still about the first pod takes nothing of the second (rule 12).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import claims
from dynamic_memory.driver.calls import ClaimRef
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.prepare import Preparer
from dynamic_memory.driver.records import ClaimRecord
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.process import clock

__all__ = ["Owners"]

log = logging.getLogger(__name__)

AGAIN = 2.0


class Owners:
    """Looks for claims whose owner is gone.

    Args:
        node: the node.
        preparer: of the node.
        lives: tells whether a pod, by UID, still has containers on the node.

    """

    def __init__(self, node: Node, preparer: Preparer, lives: Callable[[str], bool] = lambda _uid: False) -> None:
        self._node = node
        self._preparer = preparer
        self._lives = lives
        self._waiting: set[str] = set()
        self._asked = asyncio.Event()

    def changed(self, claim: ResourceClaim) -> None:
        """Take note of a claim that may have got another pod."""
        record = self._node.records.get(claim.metadata.uid)
        if record is not None and self._next(record, claim) is not None:
            self._waiting.add(claim.metadata.uid)
            self._asked.set()

    async def run(self) -> None:
        """Hand on for ever, what is waiting again every two seconds."""
        while True:
            await self._asked.wait()
            for uid in sorted(self._waiting):
                try:
                    done = await self.hand_on(uid)
                except (DynamicMemoryError, OSError) as error:
                    # OSError: no record can be written; the rest of the driver has to go on all the same
                    log.warning("claim not handed on yet", extra={"uid": uid, "error": str(error)})
                    done = False
                if done:
                    self._waiting.discard(uid)
            if not self._waiting:
                self._asked.clear()
                continue
            await clock.sleep(AGAIN)

    async def hand_on(self, uid: str) -> bool:
        """Make the pod that a claim is reserved for its owner, if the one before is gone.

        Returns:
            Whether nothing is left to do. While a call of the kubelet for the claim is in hand, something is.

        Raises:
            DynamicMemoryError: the claim cannot be prepared for it, see `Preparer`.
            OSError: the record cannot be written.

        """
        if self._node.calls.locked(uid):
            return False  # it may take long, and others wait for this loop
        async with self._node.calls(uid):
            return await self._hand_on(uid)

    async def _hand_on(self, uid: str) -> bool:
        record, claim = self._node.records.get(uid), self._node.claims.get(uid)
        wanted = self._next(record, claim) if record is not None and claim is not None else None
        if record is None or claim is None or record.owner is None or wanted is None:
            return True
        before = record.owner
        found = await self._node.claims.pod(record.namespace, before.name)
        if (found is not None and found.metadata.uid == before.uid) or self._lives(before.uid):
            return False
        ref = ClaimRef(record.namespace, record.name, uid)
        await self._preparer.prepare(ref, clock.monotonic() + AGAIN, instead_of=before.uid)
        log.info("claim handed on", extra={"uid": uid, "from": before.uid, "to": wanted.uid})
        return True

    @staticmethod
    def _next(record: ClaimRecord, claim: ResourceClaim) -> claims.Pod | None:
        """Return the pod that should own the claim and does not."""
        pods = claims.pods_of(claim)
        if record.owner is None or not record.local or len(pods) != 1 or pods[0].uid == record.owner.uid:
            return None
        return pods[0]
