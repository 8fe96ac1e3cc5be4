# SPDX-License-Identifier: Apache-2.0
"""Prepare: what the kubelet calls before it starts a pod's containers.

The memory is normally there, because the scheduler waited for it. Where it is not yet, the call waits, until shortly
before the kubelet's deadline (see `arrival`): a failed call is made again only after a minute or more. What is answered
is recorded first (see `ledger`), so that it can be answered again after a restart, and the CDI file written again after
a reboot.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec
from prometheus_client import Histogram

from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import claims, local_claims
from dynamic_memory.driver.arrival import Arrival
from dynamic_memory.driver.calls import ClaimRef, Device, NotPrepared, NotReady
from dynamic_memory.driver.claims import ClaimShare
from dynamic_memory.driver.grants import Grant, Owner
from dynamic_memory.driver.ledger import Entry, Ledger
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.points import passed
from dynamic_memory.driver.records import Prepared
from dynamic_memory.driver.spec import cdi_ids, far_grant, spec_of
from dynamic_memory.process import clock

__all__ = ["Preparer"]

log = logging.getLogger(__name__)

PREPARE = Histogram(
    "dynamic_memory_driver_prepare_seconds",
    "Prepare of one claim, by result.",
    ["result"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 45),
)


class Preparer:
    """Prepares claims of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._arrival = Arrival(node)
        self._ledger = Ledger(node)

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
            region = await self._arrival.ready(ref, share) or await self._arrival.wait(ref, share, until)
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
        entry = Entry(ref=ref, claim=claim, prepared=prepared, share=share, owner=owner, instead_of=instead_of)
        commit = asyncio.ensure_future(self._ledger.commit(entry))
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
        if not local.devices or not self._node.active:
            await local.read()  # who leads does so now and then, to publish it
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
