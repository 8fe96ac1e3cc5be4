# SPDX-License-Identifier: Apache-2.0
"""Takes one pod from its binding to its end, one step at a time, whenever something has changed.

A worker has a task only while it has something to do: it is woken by the pod's object, by a container that ended, by a
timer, or by room on the node. The order is the kubelet's: claims are prepared before anything runs; at the end the
containers stop, then the claims are unprepared, and only then the last status is written and the object goes. Until
Unprepare succeeds the pod stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from dynamic_memory.embedded.kubelet.adoption import adopt
from dynamic_memory.embedded.kubelet.objects import PODS, Pod
from dynamic_memory.embedded.kubelet.parts import Parts
from dynamic_memory.embedded.kubelet.plugins import DriverError
from dynamic_memory.embedded.kubelet.pod import ContainerRecord, PodRecord
from dynamic_memory.embedded.kubelet.reports import Reports
from dynamic_memory.embedded.kubelet.resizing import Resizer
from dynamic_memory.embedded.kubelet.starting import Starter
from dynamic_memory.embedded.kubelet.status import phase
from dynamic_memory.kube.errors import ApiError, Conflict, NotFound
from dynamic_memory.process import clock

__all__ = ["Worker"]

log = logging.getLogger(__name__)

LEAST_GRACE = 2.0
"""Seconds that a sidecar has to end, however long the others took."""
AGAIN = 1.0
"""Seconds after an API server that does not answer, or a defect."""


class Worker:
    """One pod.

    Args:
        parts: of its node.
        pod: the object, as it was first seen.

    """

    def __init__(self, parts: Parts, pod: Pod) -> None:
        self._parts = parts
        self.record = PodRecord(pod)
        self._task: asyncio.Task[None] | None = None
        self._dirty = False
        self._timer: asyncio.TimerHandle | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._reports = Reports(parts, self.record)
        self._starter = Starter(parts, self.record, self._reports, self._later)
        self._resizer = Resizer(parts, self.record, self._reports)
        adopt(parts, self.record)

    # --- from outside

    def wake(self) -> None:
        """Look at the pod now."""
        self._dirty = True
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"pod {self.record.key}")

    def update(self, pod: Pod) -> None:
        """Take a new version of the object."""
        self.record.take(pod)
        self._reports.seen(pod)
        if self.record.deleting:
            self._give_up()
        self.wake()

    def vanish(self) -> None:
        """The object is gone."""
        self.record.gone = True
        self._give_up()
        self.wake()

    async def close(self) -> None:
        """Leave the pod as it is: the kubelet ends."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._reports.close()

    def _later(self, seconds: float) -> None:
        """Look again in so many seconds; sooner, if that was asked for before (each container has its own back-off)."""
        due = clock.monotonic() + seconds
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._due)

    def _due(self) -> None:
        self._timer = None
        self.wake()

    def _give_up(self) -> None:
        """Wait no more for a driver that prepares claims: the pod is to go."""
        if self._preparing is not None:
            self._preparing.cancel()

    # --- the loop

    async def _run(self) -> None:
        try:
            while self._dirty:
                self._dirty = False
                try:
                    await self._step()
                except ApiError as error:
                    log.info("pod %s: %s", self.record.key, error)
                    self._later(AGAIN)
                except Exception:
                    log.exception("Error syncing pod, skipping", extra={"pod": self.record.key})
                    self._later(AGAIN)
        finally:
            self._task = None

    async def _step(self) -> None:
        record = self.record
        if record.finished:
            await self._leave()
        elif record.gone or record.deleting or record.over or record.terminal or self._too_long():
            await self._end()
        elif await self._admitted() and await self._prepared():
            if await self._resizer.resize():
                await self._starter.start_due()
            await self._reports.write()
            self._dirty = self._dirty or self.record.over

    def _too_long(self) -> bool:
        """Tell whether the pod has been here for longer than it may (`activeDeadlineSeconds`)."""
        record = self.record
        seconds = record.object.spec.get("activeDeadlineSeconds")
        if record.expired or seconds is None or not record.admitted:
            return record.expired
        left = seconds - (clock.now() - clock.parse_rfc3339(record.started)).total_seconds()
        record.expired = left <= 0
        if not record.expired:
            self._later(left + 0.001)
        return record.expired

    # --- the beginning

    async def _admitted(self) -> bool:
        record = self.record
        if record.admitted:
            return True
        lack = self._parts.admit(record)
        record.started = record.started or clock.rfc3339(clock.now())
        if lack is None:
            record.admitted = True
            self._parts.make_pod(record)
            return True
        record.refused = (lack.reason, f"Pod was rejected: {lack}")
        self._reports.tell("Warning", lack.reason, str(lack))
        for each in record.containers:
            if each.running and each.current is not None:
                each.current.kill()
        await self._finish("Failed")
        return False

    async def _prepared(self) -> bool:
        record, periods = self.record, self._parts.periods
        if not record.prepared:
            if record.object.spec.get("resourceClaims"):
                await self._reports.write()
                try:
                    await self._prepare()
                except asyncio.CancelledError:
                    if asyncio.current_task().cancelling():  # type: ignore[union-attr] # a worker runs in a task
                        raise
                    return False  # the pod is to go
                except DriverError as error:
                    self._reports.tell(
                        "Warning", "FailedPrepareDynamicResources", f"Failed to prepare dynamic resources: {error}"
                    )
                    self._later(periods.prepare)
                    return False
            record.prepared = True
            record.start_at = clock.monotonic() + periods.start
        if clock.monotonic() < record.start_at and not record.any_started:
            self._later(record.start_at - clock.monotonic())
            await self._reports.write()
            return False
        record.ip = record.ip or self._parts.address()
        return True

    async def _prepare(self) -> None:
        """Have the claims prepared; cancelled by `_give_up`."""
        self._preparing = asyncio.create_task(self._parts.claims.prepare(self.record.object))
        try:
            await self._preparing
        finally:
            self._preparing = None

    # --- the end

    async def _end(self) -> None:
        record, parts = self.record, self._parts
        names = {each.name for each in record.containers}
        for name, container in parts.runtime.of(record.uid).items():
            if name not in names:
                container.kill()  # of a pod that went while no kubelet was there
        running = [each for each in record.containers if each.running]
        if running:
            self._stop(running)
            return
        if record.any_started and not record.gone:
            await self._reports.write()
        try:
            await parts.claims.unprepare(record.uid)
        except DriverError as error:
            log.warning("Error syncing pod, skipping: %s", error, extra={"pod": record.key})
            self._later(parts.periods.unprepare)
            return
        await self._finish("" if record.terminal else phase(record))

    def _stop(self, running: list[ContainerRecord]) -> None:
        """Ask what runs to end, once; sooner, if the grace got shorter. Sidecars come last, in reverse order."""
        record, now = self.record, clock.monotonic()
        grace = 0.0
        if not record.gone:
            seconds = record.object.metadata.deletion_grace_period_seconds
            grace = record.grace if seconds is None else float(seconds)
        sooner = now + grace < record.stop_by - 0.5
        if sooner:
            record.stop_by = now + grace
        for each in [each for each in running if not each.sidecar] or running[-1:]:
            assert each.current is not None  # noqa: S101 - it runs
            if not each.stopping:
                self._reports.tell("Normal", "Killing", f"Stopping container {each.name}", each.name)
            if sooner or not each.stopping:
                each.stopping = True
                each.current.stop(max(record.stop_by - now, min(grace, LEAST_GRACE)))

    async def _finish(self, last: str) -> None:
        record, parts = self.record, self._parts
        if last and not record.gone:
            record.started = record.started or clock.rfc3339(clock.now())
            if record.expired:
                last = "Failed"
            elif last not in {"Succeeded", "Failed"}:  # ended by a deletion although it would be started again
                good = bool(record.main) and all(each.succeeded for each in record.main)
                last = "Succeeded" if good else "Failed"
            await self._reports.write(last)
        await parts.runtime.end_pod(record.uid)
        record.finished = True
        parts.left(record)
        await self._leave()

    async def _leave(self) -> None:
        """Delete the object of a pod that is to go."""
        record = self.record
        if record.gone or not record.deleting:
            return
        meta = record.object.metadata
        with contextlib.suppress(NotFound, Conflict):  # it is gone already, or another one of its name is there
            await self._parts.kube.delete(PODS, meta.name, meta.namespace, uid=meta.uid, grace_period=0)
