# SPDX-License-Identifier: Apache-2.0
"""Carrying a decision out: claims are reserved, devices become ready, the pod is bound.

Each step can be repeated: a claim that has the allocation or the reservation already is not written again. So a pod
whose scheduler was killed half-way is simply decided on again. Writes name the version that they are based on; if it
was another one, the claim is read again and looked at anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from dynamic_memory.allocation import claim_key
from dynamic_memory.api.kinds import RESOURCE_CLAIMS
from dynamic_memory.api.resource import AllocationResult, ResourceClaim
from dynamic_memory.api.wire import to_builtins
from dynamic_memory.embedded.scheduler.claims import ClaimBook, call_of
from dynamic_memory.embedded.scheduler.podclaims import (
    RESERVED_LIMIT,
    BindingFailed,
    ClaimUnusable,
    judge,
    reservation,
    reserved,
    sole_user,
)
from dynamic_memory.embedded.scheduler.types import SCHEDULED_PODS, Pod
from dynamic_memory.kube.errors import ApiError, Conflict, NotFound
from dynamic_memory.kube.informer import Change
from dynamic_memory.kube.interface import Kube
from dynamic_memory.kube.queue import EARLY
from dynamic_memory.process import clock

__all__ = ["FINALIZER", "Binder", "PodGone"]

FINALIZER = "resource.kubernetes.io/delete-protection"
_TRIES = 5


class PodGone(ClaimUnusable):
    """The pod was deleted while its devices were waited for."""


class Binder:
    """Writes what was decided.

    Args:
        kube: the API server.
        book: hears of every write.
        timeout: seconds for devices to become ready.

    """

    def __init__(self, kube: Kube, book: ClaimBook, *, timeout: float) -> None:
        self._kube = kube
        self._book = book
        self._timeout = timeout
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._gone: set[str] = set()
        self._expired: dict[str, str] = {}

    # --- what others report

    def claim_changed(self, change: Change[ResourceClaim]) -> None:
        """Have pods that wait for this claim look again."""
        claim = change.object
        if change.type == "deleted":
            self._expired.pop(claim_key(claim), None)
        self._wake(call_of(claim.metadata.namespace, claim.metadata.name))

    def pod_gone(self, uid: str) -> None:
        """Have a pod that was deleted wait no more."""
        if uid in self._waiting:
            self._gone.add(uid)
            self._wake(uid)

    def failed(self, claim: ResourceClaim) -> BindingFailed | None:
        """Return why an allocated claim will not become ready."""
        failure = judge(claim, clock.now(), self._timeout).failure
        if failure is None and claim.status.allocation is not None:
            stamp = self._expired.get(claim_key(claim))
            if stamp is not None and stamp == (claim.status.allocation.allocation_timestamp or ""):
                failure = BindingFailed(claim.metadata.name, "Timeout", f"no binding within {self._timeout:g}s")
        return failure

    # --- steps

    async def reserve(self, pod: Pod, claim: ResourceClaim, allocation: AllocationResult | None) -> ResourceClaim:
        """Write the allocation, if there is a new one, and the reservation for the pod.

        Raises:
            ClaimUnusable: the claim is not what the decision was based on.
            ApiError: the server refuses or does not answer.

        """
        current = self._book.get(claim.metadata.namespace, claim.metadata.name)
        for _ in range(_TRIES):
            _check(claim, current)
            assert current is not None  # noqa: S101 - _check has seen to it
            try:
                return await self._reserve(pod, current, allocation)
            except Conflict:
                current = await self._read(claim)
        raise ClaimUnusable({call_of(claim.metadata.namespace, claim.metadata.name)}, "the claim keeps changing")

    async def _reserve(self, pod: Pod, claim: ResourceClaim, allocation: AllocationResult | None) -> ResourceClaim:
        name = claim.metadata.name
        call = {call_of(claim.metadata.namespace, name)}
        users = [*claim.status.reserved_for]
        if not reserved(claim, pod):
            if len(users) >= RESERVED_LIMIT:
                raise ClaimUnusable(call, "resourceclaim in use")
            users.append(reservation(pod))
        if allocation is None:
            if claim.status.allocation is None:
                raise ClaimUnusable(call, f"claim {name} got deallocated elsewhere in the meantime")
            if len(users) == len(claim.status.reserved_for):
                return claim
            return await self._write_status(claim, {"reservedFor": to_builtins(users)})
        if claim.status.allocation is not None:
            raise ClaimUnusable(call, f"claim {name} got allocated elsewhere in the meantime")
        if FINALIZER not in claim.metadata.finalizers:
            body = {"metadata": {**_version(claim), "finalizers": [*claim.metadata.finalizers, FINALIZER]}}
            claim = await self._kube.patch(RESOURCE_CLAIMS, name, body, namespace=claim.metadata.namespace)
            self._book.wrote(claim, settled=False)
        stamped = msgspec.structs.replace(allocation, allocation_timestamp=clock.rfc3339(clock.now()))
        status = {"allocation": to_builtins(stamped), "reservedFor": to_builtins(users)}
        return await self._write_status(claim, status)

    async def unreserve(self, pod: Pod, claim: ResourceClaim) -> None:
        """Take the pod out of `status.reservedFor`; the allocation stays.

        Raises:
            ApiError: the server refuses or does not answer.

        """
        current = self._book.get(claim.metadata.namespace, claim.metadata.name)
        for _ in range(_TRIES):
            if current is None or current.metadata.uid != claim.metadata.uid or not reserved(current, pod):
                return
            rest = [user for user in current.status.reserved_for if user.uid != pod.metadata.uid]
            try:
                await self._write_status(current, {"reservedFor": to_builtins(rest) or None})
            except Conflict:
                current = await self._read(claim)
            except NotFound:
                return
            else:
                return

    async def deallocate(self, pod: Pod, claim: ResourceClaim) -> bool:
        """Clear an allocation that is of no use to the pod; tell whether it was done.

        Raises:
            ApiError: the server refuses or does not answer; somebody may have begun to use the claim.

        """
        current = self._book.get(claim.metadata.namespace, claim.metadata.name)
        if current is None or current.status.allocation is None or not sole_user(current, pod):
            return False
        await self._write_status(current, {"allocation": None, "reservedFor": None, "devices": None})
        self._expired.pop(claim_key(claim), None)
        return True

    async def ready(self, pod: Pod, claims: Sequence[ResourceClaim]) -> None:
        """Wait until every device of these claims is ready.

        Raises:
            BindingFailed: a device will not become ready.
            ClaimUnusable: a claim was taken away, or the pod is gone.

        """
        woken = asyncio.Event()
        names = [pod.metadata.uid, *(call_of(claim.metadata.namespace, claim.metadata.name) for claim in claims)]
        for name in names:
            self._waiting.setdefault(name, set()).add(woken)
        began = clock.monotonic()
        try:
            while not self._all_ready(pod, claims):
                if (left := self._left(claims, began)) <= EARLY:
                    raise self._late(claims)
                try:
                    async with asyncio.timeout(left):
                        await woken.wait()
                except TimeoutError:
                    continue
                woken.clear()
        finally:
            self._gone.discard(pod.metadata.uid)
            for name in names:
                self._waiting[name].discard(woken)
                if not self._waiting[name]:
                    del self._waiting[name]

    async def bind(self, pod: Pod, node: str) -> None:
        """Bind the pod to the node.

        Raises:
            ApiError: the server refuses or does not answer, and the pod is not on that node.

        """
        meta = pod.metadata
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._kube.create_raw(f"/api/v1/namespaces/{meta.namespace}/pods/{meta.name}/binding", body)
        except ApiError:
            # A lost answer is no lost bind.
            now = await self._kube.get(SCHEDULED_PODS, meta.name, meta.namespace)
            if now.metadata.uid != meta.uid or now.spec.node_name != node:
                raise

    # --- inside

    def _all_ready(self, pod: Pod, claims: Sequence[ResourceClaim]) -> bool:
        if pod.metadata.uid in self._gone:
            raise PodGone(set(), "the pod was deleted")
        ready = True
        for claim in claims:
            current = self._book.get(claim.metadata.namespace, claim.metadata.name)
            _check(claim, current)
            assert current is not None  # noqa: S101 - _check has seen to it
            if current.status.allocation is None or not reserved(current, pod):
                call = call_of(claim.metadata.namespace, claim.metadata.name)
                raise ClaimUnusable({call}, f"claim {claim.metadata.name} was taken away meanwhile")
            judgement = judge(current, clock.now(), self._timeout)
            if judgement.failure is not None:
                raise judgement.failure
            ready = ready and judgement.ready
        return ready

    def _left(self, claims: Sequence[ResourceClaim], began: float) -> float:
        """Return the seconds until the first claim is late: the event loop's, from the age that it had at first."""
        now = clock.now()
        ages = [0.0]
        for claim in claims:
            allocation = claim.status.allocation
            if allocation is not None and allocation.allocation_timestamp is not None:
                ages.append((now - clock.parse_rfc3339(allocation.allocation_timestamp)).total_seconds())
        waited = clock.monotonic() - began
        return self._timeout - max(waited, *ages)

    def _late(self, claims: Sequence[ResourceClaim]) -> BindingFailed:
        for claim in claims:
            current = self._book.get(claim.metadata.namespace, claim.metadata.name)
            allocation = None if current is None else current.status.allocation
            if allocation is not None:
                self._expired[claim_key(claim)] = allocation.allocation_timestamp or ""
        return BindingFailed(
            ", ".join(claim.metadata.name for claim in claims),
            "Timeout",
            f"binding conditions were not met within {self._timeout:g}s",
        )

    async def _read(self, claim: ResourceClaim) -> ResourceClaim | None:
        try:
            found = await self._kube.get(RESOURCE_CLAIMS, claim.metadata.name, claim.metadata.namespace)
        except NotFound:
            return None
        if found.metadata.uid == claim.metadata.uid:
            self._book.wrote(found, settled=False)
        return found

    async def _write_status(self, claim: ResourceClaim, status: dict[str, Any]) -> ResourceClaim:
        written = await self._kube.patch(
            RESOURCE_CLAIMS,
            claim.metadata.name,
            {"metadata": _version(claim), "status": status},
            namespace=claim.metadata.namespace,
            subresource="status",
        )
        self._book.wrote(written)
        return written

    def _wake(self, name: str) -> None:
        for event in self._waiting.get(name, ()):
            event.set()


def _version(claim: ResourceClaim) -> dict[str, str]:
    return {"uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version}


def _check(claim: ResourceClaim, current: ResourceClaim | None) -> None:
    call = {call_of(claim.metadata.namespace, claim.metadata.name)}
    if current is None or current.metadata.uid != claim.metadata.uid:
        raise ClaimUnusable(call, f"claim {claim.metadata.name} got deleted in the meantime")
    if current.metadata.deletion_timestamp is not None:
        raise ClaimUnusable(call, f"claim {claim.metadata.name} is being deleted")
