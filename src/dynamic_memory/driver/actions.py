# SPDX-License-Identifier: Apache-2.0
"""One step of a share, carried out. Each is safe to repeat, and may be interrupted at any point.

A step changes one thing in the world and what `Work` knows of it; which step is next is the planner's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from dynamic_memory.api.names import Reason
from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import claims, conditions
from dynamic_memory.driver.cache import share_or_none
from dynamic_memory.driver.claims import ClaimShare
from dynamic_memory.driver.conditions import Report
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.planner import Facts, Reported, State, Step
from dynamic_memory.driver.points import passed, passed_step
from dynamic_memory.driver.reactions import Reaction
from dynamic_memory.driver.records import ClaimRecord, Failure, ShareRecord
from dynamic_memory.fabric.model import RemovedState
from dynamic_memory.host.interface import Region
from dynamic_memory.process import clock

__all__ = ["Actions", "Work", "human"]


def human(size: int) -> str:
    """Return a size as people write it: `512Mi`."""
    for exponent, unit in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if size and size % 1024**exponent == 0:
            return f"{size // 1024**exponent}{unit}"
    return str(size)


@dataclass
class Work:
    """What is known of one share while it is worked on.

    Attributes:
        key: of the record.
        tag: of the share.
        claim: as last read; None if it is gone.
        region: as last seen on the host.
        truth_published: the failure is in the node's slices.
        removed: the service has said that the bytes are back, whatever an unsynced view shows.
        added: the service has said that the bytes are attached.

    """

    key: str
    tag: str
    claim: ResourceClaim | None
    region: Region | None = None
    truth_published: bool = False
    removed: bool = False
    added: bool = False


class Actions:
    """Facts and steps of shares on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._undo_began: dict[str, float] = {}

    # --- what is

    def record(self, work: Work) -> ClaimRecord | None:
        """Return the record of the claim."""
        return self._node.records.get(work.key)

    def share(self, work: Work) -> ShareRecord | None:
        """Return the record of the share."""
        record = self.record(work)
        return record.share(work.tag) if record else None

    def wanted_share(self, work: Work) -> ClaimShare | None:
        """Return the share as the claim has it, if it does."""
        share = share_or_none(work.claim, self._node.name)
        return share if share is not None and share.tag == work.tag else None

    def facts(self, work: Work) -> Facts:
        """Return what decides the next step."""
        share, allocated = self.share(work), self.wanted_share(work) is not None
        region, failure = work.region, share.failure if share else None
        return Facts(
            allocated=allocated,
            record=self._state(share),
            failed=failure is not None,
            new_pod=bool(allocated and share and work.claim and self._new_pod(work.claim, share)),
            truth_published=work.truth_published or (failure is not None and not failure.publish),
            undo_expired=failure is not None and self._undone_for(work, failure) > self._node.timing.undo,
            extent=self._extent(work, share),
            region=region is not None,
            whole=region is not None and region.whole and share is not None and region.size >= share.size,
            online=region is not None and region.complete and share is not None and region.size >= share.size,
            any_online=region is not None and region.any_online,
            reported=conditions.reported(work.claim, work.tag) if work.claim and allocated else Reported.NOTHING,
        )

    def _state(self, share: ShareRecord | None) -> State | None:
        """What the record says; what was attached in an earlier boot is to be attached again (rule 14)."""
        if share is None:
            return None
        earlier = share.state is State.ATTACHED and share.boot_id != self._node.boot_id
        return State.ATTACHING if earlier else share.state

    def _undone_for(self, work: Work, failure: Failure) -> float:
        """Seconds since the attach failed; over a restart the wall clock has to do."""
        began = self._undo_began.setdefault(work.tag, clock.monotonic())
        return max(clock.monotonic() - began, clock.now().timestamp() - failure.at)

    @staticmethod
    def _new_pod(claim: ResourceClaim, share: ShareRecord) -> bool:
        known = {pod.uid for pod in share.pods}
        return any(pod.uid not in known for pod in claims.pods_of(claim))

    def _extent(self, work: Work, share: ShareRecord | None) -> bool:
        if work.removed:
            return False
        if work.added or self._node.view.get(work.tag) is not None:
            return True
        if self._node.view.synced or share is None:
            return False
        # the fabric cannot be seen: nothing is believed to be back, and what is online is believed to be held
        return share.state is State.RELEASING or bool(work.region and work.region.complete)

    # --- what is done

    async def carry_out(self, step: Step, work: Work) -> None:
        """Carry a step out.

        Raises:
            DynamicMemoryError: it could not be done; see `reactions`.

        """
        await self._HANDLERS[step](self, work)
        passed_step(step)

    async def fail(self, work: Work, reaction: Reaction) -> bool:
        """Record durably that the attach has failed; False if it must not fail any more, and is to be tried again."""
        failure = Failure(
            reason=reaction.reason.value, message=reaction.message, at=clock.now().timestamp(), publish=reaction.publish
        )
        pods = tuple(claims.pods_of(work.claim)) if work.claim else ()

        def change(share: ShareRecord) -> ShareRecord:
            if share.state is not State.ATTACHING or share.committed:
                return share
            return msgspec.structs.replace(share, state=State.RELEASING, failure=failure, pods=pods)

        await self._change(work, change)
        passed("failure-recorded")
        share = self.share(work)
        return share is not None and share.failure is not None

    async def read_claim(self, work: Work) -> None:
        """Read the claim again (rule 9)."""
        namespace, name = self._names(work)
        if name:
            work.claim = await self._node.claims.read(namespace, name, work.key)

    async def report(self, work: Work, report: Report) -> None:
        """Say it in the claim, if there is still one."""
        if work.claim is not None:
            report = msgspec.structs.replace(report, message=self._node.told(report.message))
            work.claim = await self._node.reporter.report(work.claim, work.tag, report)

    def say(self, work: Work, reason: str, message: str, *, warning: bool = False) -> None:
        """Post an event on the claim and the pods that it is, or was, for."""
        namespace, name = self._names(work)
        if not name:
            return
        share = self.share(work)
        pods = {pod.uid: pod for pod in (*(share.pods if share else ()), *self._pods(work))}
        self._node.reporter.say(
            namespace=namespace,
            name=name,
            uid=work.key,
            pods=pods.values(),
            reason=reason,
            message=self._node.told(message),
            warning=warning,
        )

    def _pods(self, work: Work) -> list[claims.Pod]:
        return claims.pods_of(work.claim) if work.claim else []

    def _names(self, work: Work) -> tuple[str, str]:
        if work.claim is not None:
            return work.claim.metadata.namespace, work.claim.metadata.name
        record = self.record(work)
        return (record.namespace, record.name) if record else ("", "")

    async def _change(self, work: Work, change: Callable[[ShareRecord], ShareRecord]) -> None:
        """Change the record of the share, if there is one."""

        def update(record: ClaimRecord | None) -> ClaimRecord | None:
            share = record.share(work.tag) if record else None
            return record.with_share(change(share)) if record and share else record

        await self._node.records.update(work.key, update)

    # --- attach

    async def _write_record(self, work: Work) -> None:
        wanted, claim = self.wanted_share(work), work.claim
        if wanted is None or claim is None:
            return
        share = ShareRecord(
            tag=wanted.tag,
            pool=wanted.pool,
            device=wanted.device,
            size=wanted.size,
            window=wanted.window,
            request=wanted.request,
            state=State.ATTACHING,
            boot_id=self._node.boot_id,
        )
        meta = claim.metadata

        def update(record: ClaimRecord | None) -> ClaimRecord:
            base = record or ClaimRecord(key=work.key, uid=meta.uid, namespace=meta.namespace, name=meta.name)
            return base if base.share(wanted.tag) else base.with_share(share)

        await self._node.records.update(work.key, update)

    async def _take_back(self, work: Work) -> None:
        def change(share: ShareRecord) -> ShareRecord:
            if share.state is not State.RELEASING or share.failure:
                return share
            return msgspec.structs.replace(share, state=State.ATTACHING, committed=False, pods=())

        await self._change(work, change)
        work.removed = False

    async def _withdraw_report(self, work: Work) -> None:
        share = self.share(work)
        if share is None or share.state is State.RELEASING:
            reason, message = Reason.RELEASING, "the memory is on its way back to the pool"
        elif share.boot_id and share.boot_id != self._node.boot_id:
            reason, message = Reason.REBOOTED, "the node restarted; its memory is being attached again"
        else:
            reason, message = Reason.WAITING_FOR_MEMORY, "the memory is not online any more; it is attached again"
        await self.report(work, Report(attached=False, reason=reason, message=message))

    async def _add_memory(self, work: Work) -> None:
        share = self.share(work)
        if share is None:
            return
        answer = await self._node.fabric.add_memory(
            node=self._node.name, pool=share.pool, device=share.device, size=share.size, tag=share.tag
        )
        self._node.view.learned(answer)
        work.added, work.removed = True, False
        await self.read_claim(work)

    async def _create_region(self, work: Work) -> None:
        share, extent = self.share(work), self._node.view.get(work.tag)
        if share is None:
            return
        if extent is None:
            await self._add_memory(work)
            extent = self._node.view.get(work.tag)
        ranges = [(r.device_offset, r.size) for r in extent.ranges] if extent else []
        work.region = await self._node.host.create_region(work.tag, share.size, ranges)

    async def _online(self, work: Work) -> None:
        await self.read_claim(work)
        if self.wanted_share(work) is None:
            return
        work.region = await self._node.host.online(work.tag)

    async def _report_attached(self, work: Work) -> None:
        share, region = self.share(work), work.region
        if share is None or region is None:
            return
        where = f" on NUMA node {region.node}" if region.node is not None else ""
        message = f"{human(share.size)} online{where}"
        await self.report(work, Report(attached=True, reason=Reason.EXTENT_ONLINE, message=message))

    async def _record_attached(self, work: Work) -> None:
        def change(share: ShareRecord) -> ShareRecord:
            if share.state is State.RELEASING:
                return share
            return msgspec.structs.replace(
                share, state=State.ATTACHED, committed=True, boot_id=self._node.boot_id, failure=None
            )

        await self._change(work, change)
        share = self.share(work)
        if share is not None:
            self._node.windows.succeeded(share.window)
            self.say(work, "MemoryAttached", f"{human(share.size)} of {share.pool} attached to {self._node.name}")

    # --- detach

    async def _write_releasing(self, work: Work) -> None:
        await self.read_claim(work)
        if self.facts(work).wanted:
            return
        extent, region = self._node.view.get(work.tag), work.region
        found = ShareRecord(
            tag=work.tag,
            pool=extent.pool if extent else "",
            device=extent.device if extent else "",
            size=extent.size if extent else region.size if region else 0,
            state=State.RELEASING,
            boot_id=self._node.boot_id,
        )
        pods = tuple(self._pods(work))
        meta = work.claim.metadata if work.claim else None

        def update(record: ClaimRecord | None) -> ClaimRecord:
            base = record or ClaimRecord(
                key=work.key,
                uid=meta.uid if meta else "",
                namespace=meta.namespace if meta else "",
                name=meta.name if meta else "",
            )
            share = base.share(work.tag) or found
            share = msgspec.structs.replace(share, state=State.RELEASING, pods=share.pods or pods)
            due = base.unprepare_due
            prepared = base.prepared
            if prepared is not None and prepared.tag == work.tag:
                prepared, due = None, True
            offered = None if base.offered and base.offered.tag == work.tag else base.offered
            return msgspec.structs.replace(
                base.with_share(share), prepared=prepared, offered=offered, unprepare_due=due
            )

        await self._node.records.update(work.key, update)
        await self._remove_spec(work)

    async def _remove_spec(self, work: Work) -> None:
        record = self.record(work)
        if record is None or record.prepared is None:
            self._node.specs.remove(work.key)

    async def _publish_truth(self, work: Work) -> None:
        share = self.share(work)
        if share is not None:
            await self._node.windows.hold(share.window)
        work.truth_published = True

    async def _offline(self, work: Work) -> None:
        work.region = await self._node.host.offline(work.tag)

    async def _destroy_region(self, work: Work) -> None:
        await self._node.host.destroy_region(work.tag)
        work.region = None

    async def _remove_memory(self, work: Work) -> None:
        removed = await self._node.fabric.remove_memory(work.tag)
        if removed.state is not RemovedState.REQUESTED:
            self._node.view.forgot(work.tag)
            work.removed, work.added = True, False
            share = self.share(work)
            if share is not None and removed.state is RemovedState.DONE:
                self.say(work, "MemoryReleased", f"{human(share.size)} given back to {share.pool}")

    async def _report_failed(self, work: Work) -> None:
        share = self.share(work)
        if share is None or share.failure is None:
            return
        failure = share.failure
        await self.report(work, Report(attached=False, failed=True, reason=failure.reason, message=failure.message))
        self.say(work, "AttachFailed", f"{failure.reason}: {failure.message}", warning=True)

    async def _drop_record(self, work: Work) -> None:
        await self._node.records.update(work.key, lambda record: record and record.without_share(work.tag))
        self._undo_began.pop(work.tag, None)
        if self.record(work) is None:
            self._node.specs.remove(work.key)
            self._node.names_of.pop(work.key, None)

    _HANDLERS: ClassVar[dict[Step, Callable[[Actions, Work], Awaitable[None]]]] = {
        Step.WRITE_RECORD: _write_record,
        Step.TAKE_BACK: _take_back,
        Step.WITHDRAW_REPORT: _withdraw_report,
        Step.ADD_MEMORY: _add_memory,
        Step.CREATE_REGION: _create_region,
        Step.ONLINE: _online,
        Step.REPORT_ATTACHED: _report_attached,
        Step.RECORD_ATTACHED: _record_attached,
        Step.WRITE_RELEASING: _write_releasing,
        Step.PUBLISH_TRUTH: _publish_truth,
        Step.OFFLINE: _offline,
        Step.DESTROY_REGION: _destroy_region,
        Step.REMOVE_MEMORY: _remove_memory,
        Step.REPORT_FAILED: _report_failed,
        Step.DROP_RECORD: _drop_record,
    }
