# SPDX-License-Identifier: Apache-2.0
"""The ledger of the node: what a claim is given is written down, checked against what the node has, and then made so.

The record comes first, so that what was answered can be answered again after a restart, then the files that containers
see. A claim whose files cannot be written gets what it took taken back.
"""

from __future__ import annotations

import asyncio

import msgspec

from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver.calls import ClaimRef, NotReady
from dynamic_memory.driver.claims import ClaimShare
from dynamic_memory.driver.grants import Grant, Owner, totals
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.planner import State
from dynamic_memory.driver.points import passed
from dynamic_memory.driver.records import ClaimRecord, Prepared

__all__ = ["Ledger"]


class Ledger:
    """Writes down what claims are given.

    Args:
        node: the node.

    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def commit(
        self,
        ref: ClaimRef,
        claim: ResourceClaim,
        share: ClaimShare | None,
        prepared: Prepared,
        owner: Owner | None,
        *,
        instead_of: str,
    ) -> None:
        """Record, then write the files; a claim whose files cannot be written gets what it took taken back."""
        local = tuple(grant for grant in prepared.grants if not grant.far)
        if not local:
            await self._record(ref, share, prepared, owner, instead_of)
            await asyncio.to_thread(self._node.specs.write, ref.uid, prepared.spec)
            passed("cdi-written")
            return
        async with self._node.ledger:
            if not self._node.active:
                await self._node.records.load()
            before = self._node.records.get(ref.uid)
            self._check(before, local)
            await self._record(ref, share, prepared, owner, instead_of)
        try:
            if self._node.metadata is not None:
                attributes = self._node.local.attributes() if self._node.local is not None else {}
                await asyncio.to_thread(self._node.metadata.write, claim, prepared.grants, attributes)
            await asyncio.to_thread(self._node.specs.write, ref.uid, prepared.spec)
        except OSError as error:
            await self._roll_back(ref, before)
            raise NotReady("", f"claim {ref}: its CDI file cannot be written: {error}") from error
        passed("cdi-written")

    def _check(self, before: ClaimRecord | None, local: tuple[Grant, ...]) -> None:
        """Refuse what the node does not have, whatever the scheduler thought: the last line of defence."""
        mine = totals(before.local) if before is not None else {}
        local_slices = self._node.local
        for (pool, device), size in totals(local).items():
            others = self._node.records.taken(pool, device) - mine.get((pool, device), 0)
            found = local_slices.devices.get(device) if local_slices is not None else None
            total = found.size if found is not None else 0
            if mine.get((pool, device), 0) != size and others + size > total:
                raise NotReady(
                    "",
                    f"device {device} has {total} bytes, of which {others} are prepared for others: {size} do not fit",
                )

    async def _roll_back(self, ref: ClaimRef, before: ClaimRecord | None) -> None:
        """Give back what this call took; what an earlier one prepared stays."""

        def update(record: ClaimRecord | None) -> ClaimRecord | None:
            if record is None:
                return None
            if before is None:
                return record.without_local()
            return msgspec.structs.replace(
                record,
                local=before.local,
                owner=before.owner,
                prepared=before.prepared,
                offered=before.offered,
                unprepare_due=before.unprepare_due,
            )

        await self._node.records.update(ref.uid, update)
        if self._node.metadata is not None and (before is None or not before.local):
            await asyncio.to_thread(self._node.metadata.remove, ref.uid)

    async def _record(
        self, ref: ClaimRef, share: ClaimShare | None, prepared: Prepared, owner: Owner | None, instead_of: str
    ) -> None:
        local = tuple(grant for grant in prepared.grants if not grant.far)

        def update(record: ClaimRecord | None) -> ClaimRecord | None:
            if instead_of and (record is None or record.owner is None or record.owner.uid != instead_of):
                # given back meanwhile, by another process: nobody would give back what is handed on now
                raise NotReady("", f"claim {ref} is not prepared for pod {instead_of} any more")
            if share is not None:
                mine = record.share(share.tag) if record else None
                if record is None or mine is None or mine.state is State.RELEASING:
                    return record
                record = record.with_share(msgspec.structs.replace(mine, committed=True))
            elif record is None:
                record = ClaimRecord(key=ref.uid, uid=ref.uid, namespace=ref.namespace, name=ref.name)
            if record.owner is not None and owner is not None and record.owner.uid not in {owner.uid, instead_of}:
                raise NotReady("", f"claim {ref} is still prepared for pod {record.owner.name} ({record.owner.uid})")
            if instead_of and record.unprepare_due:
                # nobody asked: the kubelet takes the claim for prepared, and its Unprepare is about the pod before
                return msgspec.structs.replace(record, local=local, owner=owner, prepared=None, offered=prepared)
            # it asks, so it does not take the claim for prepared
            return msgspec.structs.replace(
                record, local=local, owner=owner, prepared=prepared, offered=None, unprepare_due=False
            )

        record = await self._node.records.update(ref.uid, update)
        if record is None or prepared not in (record.prepared, record.offered):
            raise NotReady("", f"claim {ref} is being released")
        passed("prepared-recorded")
