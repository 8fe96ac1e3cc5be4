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
from dynamic_memory.driver import cdi, claims
from dynamic_memory.driver.claims import ClaimShare
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.planner import State
from dynamic_memory.driver.points import passed
from dynamic_memory.driver.progress import Outcome, Verdict
from dynamic_memory.driver.records import ClaimRecord, Prepared, ShareRecord
from dynamic_memory.errors import NeverError, RetryError
from dynamic_memory.host.interface import Region
from dynamic_memory.process import clock

__all__ = ["ClaimRef", "Device", "NotPrepared", "NotReady", "Preparer", "spec_of"]

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

    async def prepare(self, ref: ClaimRef, until: float) -> list[Device]:
        """Prepare one claim; the same answer again for the same claim.

        Args:
            ref: the claim.
            until: when to give up waiting, on the monotonic clock.

        Raises:
            DynamicMemoryError: it is not prepared, and why.

        """
        began = clock.monotonic()
        result = "error"
        try:
            devices = await self._prepare(ref, until)
            result = "ok"
        finally:
            PREPARE.labels(result).observe(clock.monotonic() - began)
        return devices

    async def _prepare(self, ref: ClaimRef, until: float) -> list[Device]:
        claim = await self._claim(ref)
        share = claims.share_of(claim, self._node.name)
        if share is None:
            # results of other drivers only: nothing of ours to do, and nothing to give
            return []
        region = await self._ready(ref, share)
        if region is None:
            region = await self._wait(ref, share, until)
        spec = spec_of(self._node, ref.uid, share, region)
        await self._record(ref, share, spec)
        await asyncio.to_thread(self._node.specs.write, ref.uid, spec)
        passed("cdi-written")
        log.info("prepared", extra={"claim": str(ref), "uid": ref.uid, "tag": share.tag})
        passed("prepared")
        return [
            Device(
                request=share.request,
                pool=share.pool,
                device=share.device,
                share_id=share.tag,
                cdi_ids=(cdi.device_id(ref.uid),),
            ),
            Device(
                request=share.window_request,
                pool=f"{self._node.name}/windows",
                device=share.window,
                share_id=share.window_share_id,
            ),
        ]

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
                raise NotPrepared(
                    f"claim {ref} is reserved for {len(pods)} pods; fabric memory is for one pod at a time"
                )
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

    async def _record(self, ref: ClaimRef, share: ClaimShare, spec: str) -> None:
        prepared = Prepared(tag=share.tag, cdi_id=cdi.device_id(ref.uid), spec=spec)

        def update(record: ClaimRecord | None) -> ClaimRecord | None:
            mine = record.share(share.tag) if record else None
            if record is None or mine is None or mine.state is State.RELEASING:
                return record
            record = record.with_share(msgspec.structs.replace(mine, committed=True))
            # it asks, so it does not take the claim for prepared
            return msgspec.structs.replace(record, prepared=prepared, unprepare_due=False)

        record = await self._node.records.update(ref.uid, update)
        if record is None or record.prepared != prepared:
            raise NotReady("", f"claim {ref} is being released")
        passed("prepared-recorded")

    async def _update(self, ref: ClaimRef, share: ClaimShare, change: Callable[[ShareRecord], ShareRecord]) -> None:
        def update(record: ClaimRecord | None) -> ClaimRecord | None:
            mine = record.share(share.tag) if record else None
            return record.with_share(change(mine)) if record and mine else record

        await self._node.records.update(ref.uid, update)


def spec_of(node: Node, uid: str, share: ClaimShare, region: Region) -> str:
    """Return the CDI file of a claim.

    A container learns of the claim that it has, and, under the claim's own name, of each if it has several.
    """
    numa = "" if region.node is None else str(region.node)
    own = f"bytes={share.size};numa={numa};pool={share.pool};device={share.device};share={share.tag}"
    edits = cdi.Edits(
        env={
            "DYNAMIC_MEMORY_BYTES": str(share.size),
            "DYNAMIC_MEMORY_NUMA_NODES": numa,
            "DYNAMIC_MEMORY_POOL": share.pool,
            "DYNAMIC_MEMORY_SHARE_IDS": share.tag,
            "DYNAMIC_MEMORY_SIMULATED": "true" if node.simulated else "false",
            f"DYNAMIC_MEMORY_CLAIM_{uid.replace('-', '_')}": own,
        }
    )
    return cdi.render(uid, edits)
