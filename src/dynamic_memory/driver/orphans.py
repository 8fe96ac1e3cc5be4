# SPDX-License-Identifier: Apache-2.0
"""Memory of this node that nobody knows: found on the fabric or on the host, without a record and without a claim.

A tag is an orphan only if a list of all claims that *began after* it was seen does not have it (rule 19), and only
while the fabric can be seen. Many orphans at once are not believed: then something is wrong, and a human must look.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec
from prometheus_client import Gauge

from dynamic_memory.driver.node import Node
from dynamic_memory.driver.planner import State
from dynamic_memory.driver.points import passed
from dynamic_memory.driver.records import ClaimRecord, ShareRecord, orphan_key
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.process import clock

__all__ = ["Orphans", "too_many"]

log = logging.getLogger(__name__)

FEW = 5
PART = 0.2
UNBELIEVED = Gauge("dynamic_memory_driver_unbelieved_orphans", "Unknown shares that are too many to be released.")


def too_many(found: int, known: int) -> bool:
    """Tell whether so many orphans are not to be believed: more than 5, and more than 20 % of what there is."""
    return found > max(FEW, PART * known)


class Orphans:
    """Looks for orphans when asked to, and has them released."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._asked = asyncio.Event()

    def look(self) -> None:
        """Ask for a look soon."""
        self._asked.set()

    async def run(self) -> None:
        """Look whenever somebody asked."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self.check()
            except (DynamicMemoryError, OSError) as error:
                # OSError: no record can be written; claims that are ready have to be served all the same
                log.warning("cannot look for orphans", extra={"error": str(error)})
                self._asked.set()
            await clock.sleep(1.0)

    async def check(self) -> list[str]:
        """Look once; return the tags that are now being released.

        Raises:
            DynamicMemoryError: API server or host cannot be asked.

        """
        node = self._node
        if not node.view.synced or not node.claims.informer.synced:
            return []
        regions = await node.host.regions()
        seen = {share.tag: share for share in node.view.all()}
        tags = {*seen, *regions}
        unknown = {tag for tag in tags if node.records.key_of(tag) is None and node.claims.by_tag(tag) is None}
        if not unknown:
            UNBELIEVED.set(0)
            return []
        owned = await node.claims.owned()
        for tag in unknown & owned.keys():
            node.queue.add(owned[tag].metadata.uid)
        orphans = sorted(tag for tag in unknown - owned.keys() if node.records.key_of(tag) is None)
        if too_many(len(orphans), len(tags)):
            UNBELIEVED.set(len(orphans))
            log.error("too many unknown shares at once: none is released", extra={"count": len(orphans)})
            return []
        UNBELIEVED.set(0)
        for tag in orphans:
            share, region = seen.get(tag), regions.get(tag)
            record = ShareRecord(
                tag=tag,
                pool=share.pool if share else "",
                device=share.device if share else "",
                size=share.size if share else region.size if region else 0,
                state=State.RELEASING,
                boot_id=node.boot_id,
            )
            await self._release(record)
        return orphans

    async def _release(self, share: ShareRecord) -> None:
        key = orphan_key(share.tag)

        def update(record: ClaimRecord | None) -> ClaimRecord:
            base = record or ClaimRecord(key=key)
            return msgspec.structs.replace(base, shares=(share,))

        log.warning("releasing memory that no claim owns", extra={"tag": share.tag, "size": share.size})
        await self._node.records.update(key, update)
        passed("orphan-recorded")
        self._node.queue.add(key)
