# SPDX-License-Identifier: Apache-2.0
"""The ledger of the node: what a claim is given is written down, checked against what the node has, and then made so.

The record comes first, so that what was answered can be answered again after a restart, then the files that containers
see, before anybody else may change the record: files and record always agree. A claim whose files cannot be written
gets what it took taken back.

Two drivers of a node may both give memory of the node's own (see `records`). What is taken is added up and recorded
under one lock for both, in whose file each leaves its mark: who finds another's mark reads all records anew.
"""

from __future__ import annotations

import msgspec

from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver.calls import ClaimRef, NotReady
from dynamic_memory.driver.claims import ClaimShare
from dynamic_memory.driver.grants import Grant, Owner, totals
from dynamic_memory.driver.local_claims import check_other_claims
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.planner import State
from dynamic_memory.driver.points import passed
from dynamic_memory.driver.records import ClaimRecord, Prepared

__all__ = ["Entry", "Ledger"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written down of one claim.

    Attributes:
        ref: the claim.
        claim: the same, as it is allocated.
        prepared: what it is given.
        share: what it has of a fabric.
        owner: the pod that it is given to, if it has some of the node's own memory.
        instead_of: UID of the pod that may be replaced as its owner.

    """

    ref: ClaimRef
    claim: ResourceClaim
    prepared: Prepared
    share: ClaimShare | None = None
    owner: Owner | None = None
    instead_of: str = ""

    @property
    def local(self) -> tuple[Grant, ...]:
        """What it is given of the node's own memory."""
        return tuple(grant for grant in self.prepared.grants if not grant.far)

    def enter(self, record: ClaimRecord | None) -> ClaimRecord | None:
        """Return the record of the claim with this entry; as it is, if its share is being released.

        Raises:
            NotReady: the claim is another pod's.

        """
        record, ref, owner = self._with_share(record), self.ref, self.owner
        if self.instead_of and (record is None or record.owner is None or record.owner.uid != self.instead_of):
            # given back meanwhile, by another process: nobody would give back what is handed on now
            raise NotReady("", f"claim {ref} is not prepared for pod {self.instead_of} any more")
        if record is None:
            if self.share is not None:
                return None
            record = ClaimRecord(key=ref.uid, uid=ref.uid, namespace=ref.namespace, name=ref.name)
        if self._is_released(record):
            return record
        if record.owner is not None and owner is not None and record.owner.uid not in {owner.uid, self.instead_of}:
            raise NotReady("", f"claim {ref} is still prepared for pod {record.owner.name} ({record.owner.uid})")
        if self.instead_of and record.unprepare_due:
            # nobody asked: the kubelet takes the claim for prepared, and its Unprepare is about the pod before
            return msgspec.structs.replace(record, local=self.local, owner=owner, prepared=None, offered=self.prepared)
        # it asks, so it does not take the claim for prepared
        return msgspec.structs.replace(
            record, local=self.local, owner=owner, prepared=self.prepared, offered=None, unprepare_due=False
        )

    def stands(self, record: ClaimRecord | None) -> bool:
        """Tell whether a record has this entry."""
        return record is not None and self.prepared in (record.prepared, record.offered)

    def _is_released(self, record: ClaimRecord) -> bool:
        mine = record.share(self.share.tag) if self.share is not None else None
        return self.share is not None and (mine is None or mine.state is State.RELEASING)

    def _with_share(self, record: ClaimRecord | None) -> ClaimRecord | None:
        """Return the record with the share as one that a pod may be bound to by now."""
        mine = record.share(self.share.tag) if record is not None and self.share is not None else None
        if record is None or mine is None or mine.state is State.RELEASING:
            return record
        return record.with_share(msgspec.structs.replace(mine, committed=True))


class Ledger:
    """Writes down what claims are given.

    Args:
        node: the node.

    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def commit(self, entry: Entry) -> None:
        """Record, then write the files; all of it or nothing.

        Raises:
            NotReady: it cannot be given, or not be written.
            RefusedClaim: it is in the way of another claim of its pod.

        """
        try:
            if entry.local:
                async with self._node.ledger.hold(self._node.records.load):
                    await self._check(entry)
                    await self._record(entry)
            else:
                await self._record(entry)
        except OSError as error:
            raise NotReady("", f"claim {entry.ref} cannot be recorded: {error}") from error

    async def _check(self, entry: Entry) -> None:
        """Refuse what the node does not have, whatever the scheduler thought: the last line of defence.

        Raises:
            NotReady: it does not fit.
            RefusedClaim: its pod has another claim that is in its way.

        """
        if self._lacks(entry):
            # another driver may have given something back meanwhile
            await self._node.records.load()
        if why := self._lacks(entry):
            raise NotReady("", why)
        if entry.owner is not None:
            others = [
                (f"{other.namespace}/{other.name}", other.owner, told.grants)
                for other in self._node.records.owned_by(entry.owner.uid)
                if other.owner is not None and other.uid != entry.ref.uid
                if (told := other.prepared or other.offered) is not None
            ]
            check_other_claims(str(entry.ref), entry.owner, entry.prepared.grants, others)

    def _lacks(self, entry: Entry) -> str:
        record, slices = self._node.records.get(entry.ref.uid), self._node.local
        mine = totals(record.local) if record is not None else {}
        for (pool, device), size in totals(entry.local).items():
            others = self._node.records.taken(pool, device) - mine.get((pool, device), 0)
            found = slices.devices.get(device) if slices is not None else None
            total = found.size if found is not None else 0
            if mine.get((pool, device), 0) != size and others + size > total:
                taken = f"of which {others} are prepared for others"
                return f"device {device} has {total} bytes, {taken}: {size} do not fit"
        return ""

    async def _record(self, entry: Entry) -> None:
        before: ClaimRecord | None = None
        why: OSError | None = None

        def enter(record: ClaimRecord | None) -> ClaimRecord | None:
            nonlocal before
            before = record
            return entry.enter(record)

        def write(record: ClaimRecord | None) -> None:
            nonlocal why
            if not entry.stands(record):
                return
            passed("prepared-recorded")
            try:
                self._write_files(entry)
            except OSError as error:
                why = error
                if self._node.metadata is not None and not (before and before.local):
                    self._node.metadata.remove(entry.ref.uid)
                raise
            passed("cdi-written")

        try:
            record = await self._node.records.update(entry.ref.uid, enter, write)
        except OSError:
            if why is not None:
                raise NotReady("", f"claim {entry.ref}: its CDI file cannot be written: {why}") from why
            raise
        if not entry.stands(record):
            raise NotReady("", f"claim {entry.ref} is being released")

    def _write_files(self, entry: Entry) -> None:
        if self._node.metadata is not None and entry.local:
            attributes = self._node.local.attributes() if self._node.local is not None else {}
            self._node.metadata.write(entry.claim, entry.prepared.grants, attributes)
        self._node.specs.write(entry.ref.uid, entry.prepared.spec)
