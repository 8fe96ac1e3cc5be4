# SPDX-License-Identifier: Apache-2.0
"""One leader among the replicas of a role, by a Lease.

A replica that sees the lease unchanged for its whole duration, on its own monotonic clock, takes it; the leader renews
it well before. Clocks of machines are never compared. The leading task is supervised: if it ends or fails the lease is
given up and the failure passed on; if renewal fails for too long the task is cancelled before anybody else can lead
(time counts from the moment the last good request was *sent*, so the others wait longer than the leader leads). On an
orderly stop the lease is released, so that the next replica need not wait.

Source: `coordination.k8s.io/v1`; the algorithm of client-go's leaderelection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from dynamic_memory.api.coordination import Lease
from dynamic_memory.api.kinds import LEASES
from dynamic_memory.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff

__all__ = ["LeaderElection"]

log = logging.getLogger(__name__)


class LeaderElection:
    """Runs a task while this replica leads.

    Args:
        kube: the API server.
        namespace: of the lease.
        name: of the lease.
        identity: this replica; no two may have the same.
        duration: seconds for which a lease holds without renewal.
        renew_deadline: seconds of failed renewals after which the leader stops; less than `duration`.
        retry: seconds between two looks at the lease.

    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry: float = 2.0,
    ) -> None:
        if not retry < renew_deadline < duration:
            raise ValueError("expected retry < renew_deadline < duration")
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._renew_deadline = renew_deadline
        self._retry = retry
        self._seen_version = ""
        self._seen_at = 0.0
        self._held_since = 0.0
        self.leading = False

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Lead whenever possible; `lead` is cancelled when the lease is lost, and run again when it is won.

        Returns when `lead` returns by itself.

        Raises:
            Exception: whatever `lead` raised, after the lease was released.

        """
        while True:
            await self._acquire()
            log.info("leading", extra={"lease": self._name, "identity": self._identity})
            self.leading = True
            try:
                if await self._lead(lead):
                    return
            finally:
                self.leading = False
            log.warning("not leading any more", extra={"lease": self._name, "identity": self._identity})

    async def _acquire(self) -> None:
        pause = Backoff(self._retry, self._retry * 1.2, factor=1.0)
        while True:
            try:
                self._held_since = clock.monotonic()
                if await self._try_to_hold():
                    return
            except ApiError as error:
                log.warning("the lease cannot be had: %s", error, extra={"lease": self._name})
            await clock.sleep(pause.next())

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> bool:
        """Run `lead` while the lease is ours; tell whether it ended by itself."""

        async def led() -> None:
            await lead()

        task = asyncio.create_task(led(), name=f"leading {self._name}")
        ended = False
        try:
            await self._renew_while_running(task)
        finally:
            ended = task.done()
            if not ended:
                task.cancel()
                await asyncio.wait({task})
                if not task.cancelled() and (failure := task.exception()) is not None:
                    log.error("stopping to lead failed", exc_info=failure, extra={"lease": self._name})
            await self._release()
        if ended:
            await task
        return ended

    async def _renew_while_running(self, task: asyncio.Task[None]) -> None:
        """Renew the lease until the task ends, somebody else has the lease, or renewing failed for too long."""
        while (rest := self._held_since + self._renew_deadline - clock.monotonic()) > 0:
            done, _ = await asyncio.wait({task}, timeout=min(self._retry, rest))
            if done:
                return
            asked = clock.monotonic()
            try:
                async with asyncio.timeout(self._held_since + self._renew_deadline - asked):
                    if not await self._try_to_hold():
                        return
                self._held_since = asked
            except (ApiError, TimeoutError) as error:
                what = str(error) or "no answer"
                log.warning("the lease could not be renewed: %s", what, extra={"lease": self._name})

    async def _try_to_hold(self) -> bool:
        """Create, renew or take over the lease; tell whether it is ours now, False if it is somebody else's.

        Raises:
            ApiError: unknown; also a Conflict, if the lease changed while we renewed it.

        """
        now = clock.rfc3339_micro(clock.now())
        try:
            lease = await self._kube.get(LEASES, self._name, self._namespace)
        except NotFound:
            body = {"metadata": {"name": self._name, "namespace": self._namespace}, "spec": self._spec(now, now, 0)}
            try:
                await self._kube.create(LEASES, body, namespace=self._namespace)
            except AlreadyExists:
                return False
            return True
        transitions = lease.spec.lease_transitions or 0
        if lease.spec.holder_identity == self._identity:
            await self._write(lease, self._spec(now, lease.spec.acquire_time or now, transitions))
            return True
        if lease.metadata.resource_version != self._seen_version:
            self._seen_version, self._seen_at = lease.metadata.resource_version, clock.monotonic()
        holds = max(self._duration, float(lease.spec.lease_duration_seconds or 0))
        if lease.spec.holder_identity and clock.monotonic() - self._seen_at < holds:
            return False
        try:
            await self._write(lease, self._spec(now, now, transitions + 1))
        except Conflict:
            return False
        return True

    async def _write(self, lease: Lease, spec: dict[str, Any]) -> None:
        """Write the lease; Conflict if anybody else has meanwhile."""
        body = {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": spec}
        await self._kube.patch(LEASES, self._name, body, namespace=self._namespace)

    def _spec(self, renewed: str, acquired: str, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._duration),
            "acquireTime": acquired,
            "renewTime": renewed,
            "leaseTransitions": transitions,
        }

    async def _release(self) -> None:
        """Give the lease up, if it is ours; the task is over by now."""
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(self._retry):
                lease = await self._kube.get(LEASES, self._name, self._namespace)
                if lease.spec.holder_identity == self._identity:
                    await self._write(lease, {"holderIdentity": "", "leaseDurationSeconds": 1})
