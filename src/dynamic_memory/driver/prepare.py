# SPDX-License-Identifier: Apache-2.0
"""Prepare: what the kubelet calls before it starts a pod's containers.

The memory is normally there, because the scheduler waited for it. Where it is not yet, the call waits, until shortly
before the kubelet's deadline: a failed call is made again only after a minute or more. What is answered is recorded
first, so that it can be answered again after a restart, and the CDI file written again after a reboot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
from prometheus_client import Histogram

from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import claims, local_claims
from dynamic_memory.driver.claims import ClaimShare
from dynamic_memory.driver.grants import Grant, Owner, totals
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.planner import State
from dynamic_memory.driver.points import passed
from dynamic_memory.driver.progress import Outcome, Verdict
from dynamic_memory.driver.records import ClaimRecord, Prepared, ShareRecord
from dynamic_memory.driver.spec import cdi_ids, far_grant, spec_of
from dynamic_memory.errors import NeverError, RetryError
from dynamic_memory.host.interface import Region
from dynamic_memory.process import clock

__all__ = ["ClaimRef", "Device", "NotPrepared", "NotReady", "Preparer"]

log = logging.getLogger(__name__)

POLL = 0.25
PREPARE = Histogram(
    "dynamic_memory_driver_prepare_seconds",
    "Prepare of one claim, by result.",
    ["result"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 45),
)


class ClaimRef(msgspec.Struct, frozen=True):
    """A claim as the kubelet names it."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One prepared device, as the kubelet is told of it."""

    request: str
    pool: str
    device: str
    share_id: str
    cdi_ids: tuple[str, ...] = ()


class NotPrepared(NeverError):
    """The claim cannot be prepared as it is.

    Args:
        why: a sentence for people.

    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return self.why


class NotReady(RetryError):
    """The memory was not there in time.

    Args:
        reason: one of `names.Reason`; empty if nothing is known.
        message: what it waits for.

    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        self.message = message
        super().__init__(reason, message)

    def __str__(self) -> str:
        return f"memory is not ready: {self.reason}: {self.message}" if self.reason else self.message


class Preparer:
    """Prepares claims of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def prepare(self, ref: ClaimRef, until: float, instead_of: str = "") -> list[Device]:
        """Prepare one claim; the same answer again for the same claim.

        Args:
            ref: the claim.
            until: when to give up waiting, on the monotonic clock.
            instead_of: UID of a pod that owns the claim, is gone, and may be replaced.

        Raises:
            DynamicMemoryError: it is not prepared, and why.

        """
        began = clock.monotonic()
        result = "error"
        try:
            devices = await self._prepare(ref, until, instead_of)
            result = "ok"
        finally:
            PREPARE.labels(result).observe(clock.monotonic() - began)
        return devices

    async def _prepare(self, ref: ClaimRef, until: float, instead_of: str) -> list[Device]:
        claim = await self._claim(ref)
        share = claims.share_of(claim, self._node.name)
        local = await self._local(ref, claim)
        if share is None and not local:
            # results of other drivers only: nothing of ours to do, and nothing to give
            return []
        # what is wrong with the claim is said before the memory is waited for
        far: tuple[Grant, ...] = ()
        if share is not None:
            far = (far_grant(claim, share, None, self._node.default_mode),)
        local_claims.check_paths((*local, *far))
        self._check_enforced(ref, (*far, *local))
        owner = await self._owner(ref, claim) if local else None
        if share is not None:
            region = await self._ready(ref, share) or await self._wait(ref, share, until)
            self._check_enforced(ref, (*far, *local))  # again: that may have taken long
            far = tuple(msgspec.structs.replace(grant, numa=region.node) for grant in far)
        given = (*far, *local)
        mounts = self._node.metadata.mounts(claim, given) if self._node.metadata is not None and local else {}
        text = spec_of(ref.uid, given, simulated=self._node.simulated, mounts=mounts)
        ids = cdi_ids(ref.uid, given)
        prepared = Prepared(
            tag=share.tag if share else "",
            cdi_id=next(iter(ids.values())),
            spec=text,
            grants=given,
            pod=claims.pods_of(claim)[0] if owner is None else None,
        )
        # whatever becomes of the call: all of it is done, or nothing of it
        commit = asyncio.ensure_future(self._commit(ref, claim, share, prepared, owner, instead_of=instead_of))
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            await asyncio.wait({commit})
            raise
        log.info("prepared", extra={"claim": str(ref), "uid": ref.uid, "tag": prepared.tag, "local": len(local)})
        passed("prepared")
        return self._devices(share, given, ids)

    def _check_enforced(self, ref: ClaimRef, given: tuple[Grant, ...]) -> None:
        """Refuse where nobody would hold containers to the claim: a runtime starts them all the same."""
        why = self._node.unenforced(given)
        if why:
            raise NotReady("", f"claim {ref}: containers could not be held to it: {why}")

    def _devices(self, share: ClaimShare | None, given: tuple[Grant, ...], ids: dict[str, str]) -> list[Device]:
        found = [
            Device(
                request=grant.request,
                pool=grant.pool,
                device=grant.device,
                share_id=grant.share_id,
                cdi_ids=(ids[grant.request],),
            )
            for grant in given
        ]
        if share is not None:
            window = Device(
                request=share.window_request,
                pool=f"{self._node.name}/windows",
                device=share.window,
                share_id=share.window_share_id,
            )
            found.insert(1, window)
        return found

    async def _local(self, ref: ClaimRef, claim: ResourceClaim) -> tuple[Grant, ...]:
        """Return what the claim takes of the node's own memory; the same again if that was recorded before."""
        results = local_claims.local_results(claim, self._node.name)
        if not results:
            return ()
        local = self._node.local
        if local is None:
            raise NotPrepared(f"claim {ref} asks for the node's own memory, which this driver does not serve (local)")
        record = self._node.records.get(ref.uid) if self._node.active else await self._node.records.refresh(ref.uid)
        if record is not None and record.prepared is not None:
            before = {(grant.device, grant.share_id) for grant in record.local}
            if before == {(result.device, result.share_id or "") for result in results}:
                return record.local
        if not local.devices:
            await local.read()
        return local_claims.grants_of(claim, self._node.name, local.devices, local.config.mode)

    async def _owner(self, ref: ClaimRef, claim: ResourceClaim) -> Owner:
        """Return the pod that the claim is reserved for, with the containers that use it."""
        reserved = claims.pods_of(claim)[0]
        pod = await self._node.claims.pod(ref.namespace, reserved.name)
        if pod is None or pod.metadata.uid != reserved.uid:
            raise NotPrepared(f"claim {ref} is reserved for pod {reserved.name} ({reserved.uid}), which does not exist")
        return local_claims.owner_of(pod, claim)

    async def _claim(self, ref: ClaimRef) -> ResourceClaim:
        claim = await self._node.claims.read(ref.namespace, ref.name, ref.uid)
        if claim is None:
            raise NotPrepared(f"claim {ref} with UID {ref.uid} does not exist (any more)")
        if claim.status.allocation is None:
            raise NotPrepared(f"claim {ref} is not allocated")
        if claims.our_results(claim) and claims.node_of(claim) != self._node.name:
            raise NotPrepared(f"claim {ref} is not allocated to node {self._node.name}")
        if claims.our_results(claim):
            pods = claims.pods_of(claim)
            if len(pods) != 1:
                raise NotPrepared(f"claim {ref} is reserved for {len(pods)} pods; memory is for one pod at a time")
        return claim

    async def _ready(self, ref: ClaimRef, share: ClaimShare) -> Region | None:
        """Return the region if record, fabric and host agree that the memory is there for this claim."""
        record = self._node.records.get(ref.uid) if self._node.active else await self._node.records.refresh(ref.uid)
        mine = record.share(share.tag) if record else None
        if mine is None or mine.state is not State.ATTACHED or mine.boot_id != self._node.boot_id:
            return None
        if self._node.view.synced and self._node.view.get(share.tag) is None:
            return None
        region = await self._node.host.region(share.tag)
        return region if region is not None and region.complete and region.size >= share.size else None

    async def _wait(self, ref: ClaimRef, share: ClaimShare, until: float) -> Region:
        """Wait for the loop of this process, or of the other driver that holds the node's lock."""
        last = NotReady("", "nothing has been heard of the memory yet")
        while (left := until - clock.monotonic()) > 0:
            if self._node.active:
                last = await self._wait_for_loop(ref, share, until)
            else:
                last = NotReady("", f"another driver process attaches on this node: {self._node.holder() or 'unknown'}")
                await clock.sleep(min(POLL, left))
            region = await self._ready(ref, share)
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

    async def _commit(
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
            self._check_ledger(before, local)
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

    def _check_ledger(self, before: ClaimRecord | None, local: tuple[Grant, ...]) -> None:
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

    async def _update(self, ref: ClaimRef, share: ClaimShare, change: Callable[[ShareRecord], ShareRecord]) -> None:
        def update(record: ClaimRecord | None) -> ClaimRecord | None:
            mine = record.share(share.tag) if record else None
            return record.with_share(change(mine)) if record and mine else record

        await self._node.records.update(ref.uid, update)
