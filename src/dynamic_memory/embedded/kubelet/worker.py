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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from dynamic_memory.embedded.kubelet import cdi, resize
from dynamic_memory.embedded.kubelet.claims import ClaimManager
from dynamic_memory.embedded.kubelet.config import Periods
from dynamic_memory.embedded.kubelet.launch import launch, sandbox
from dynamic_memory.embedded.kubelet.objects import PODS, Pod
from dynamic_memory.embedded.kubelet.plugins import DriverError
from dynamic_memory.embedded.kubelet.pod import ContainerRecord, PodRecord
from dynamic_memory.embedded.kubelet.resources import Lack, Resources, limit_of, pod_limit, requests
from dynamic_memory.embedded.kubelet.status import phase, pod_status
from dynamic_memory.embedded.runtime.container import ContainerSpec, Ended
from dynamic_memory.embedded.runtime.plugins import PluginRefused
from dynamic_memory.embedded.runtime.runtime import Runtime
from dynamic_memory.errors import InvalidInput
from dynamic_memory.kube.errors import ApiError, Conflict, NotFound
from dynamic_memory.kube.events import EventRecorder, reference
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock

__all__ = ["Parts", "Worker"]

log = logging.getLogger(__name__)

MANAGER = "kubelet"
RESET = 2.0
"""A container that ran for this many times the longest back-off starts its back-off anew."""
AGAIN = 1.0
"""Seconds after an API server that does not answer, or a defect."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers of a node share.

    Attributes:
        name: of the node.
        folder: of the kubelet.
        cdi: folder of CDI files.
        kube: the API server.
        runtime: the containers.
        claims: the claims.
        periods: how long to wait for what.
        recorder: events.
        node_ip: address of the node.
        admit: returns what the node lacks for a pod, or None if it takes it.
        others: returns what the other pods of the node use, and what there is.
        address: returns an address for a pod.
        left: called when a pod has given back what it had.

    """

    name: str
    folder: Path
    cdi: Path
    kube: Kube
    runtime: Runtime
    claims: ClaimManager
    periods: Periods
    recorder: EventRecorder
    node_ip: str
    admit: Callable[[PodRecord], Lack | None]
    others: Callable[[PodRecord], tuple[Resources, Resources]]
    address: Callable[[], str]
    left: Callable[[PodRecord], None]


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
        self._written: dict[str, Any] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._adopt()

    # --- from outside

    def wake(self) -> None:
        """Look at the pod now."""
        self._dirty = True
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"pod {self.record.key}")

    def update(self, pod: Pod) -> None:
        """Take a new version of the object."""
        self.record.take(pod)
        self.wake()

    def vanish(self) -> None:
        """The object is gone."""
        self.record.gone = True
        self.wake()

    async def close(self) -> None:
        """Leave the pod as it is: the kubelet ends."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in (self._task, *self._background) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _later(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.wake)

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
        elif record.gone or record.deleting or record.over or record.terminal:
            await self._end()
        elif await self._admitted() and await self._prepared():
            if await self._start_due():
                await self._resize()
            await self._write()
            self._dirty = self._dirty or self.record.over

    # --- the beginning

    async def _admitted(self) -> bool:
        record = self.record
        if record.admitted:
            return True
        lack = self._parts.admit(record)
        record.started = record.started or clock.rfc3339(clock.now())
        if lack is None:
            record.admitted = True
            self._make_pod()
            return True
        record.refused = (lack.reason, f"Pod was rejected: {lack}")
        self._tell("Warning", lack.reason, str(lack))
        for each in record.containers:
            if each.running and each.current is not None:
                each.current.kill()
        await self._finish("Failed")
        return False

    async def _prepared(self) -> bool:
        record, periods = self.record, self._parts.periods
        if not record.prepared:
            if record.object.spec.get("resourceClaims"):
                await self._write()
                try:
                    await self._parts.claims.prepare(record.object)
                except DriverError as error:
                    self._tell(
                        "Warning", "FailedPrepareDynamicResources", f"Failed to prepare dynamic resources: {error}"
                    )
                    self._later(periods.prepare)
                    return False
            record.prepared = True
            record.start_at = clock.monotonic() + periods.start
        if clock.monotonic() < record.start_at and not record.any_started:
            self._later(record.start_at - clock.monotonic())
            await self._write()
            return False
        record.ip = record.ip or self._parts.address()
        return True

    async def _start_due(self) -> bool:
        """Start what is to be started now; False if something could not be."""
        record, good = self.record, True
        for each in record.containers:
            if each.current is None or (each.ended and record.should_restart(each)):
                good = await self._start(each) and good
            # the next one waits until this one is through
            if each.init and not each.succeeded and not (each.sidecar and each.running):
                return good
        return good

    async def _start(self, each: ContainerRecord) -> bool:
        if each.current is not None and self._backs_off(each, each.current.ended):
            return True
        record, parts = self.record, self._parts
        log_file = self._folder() / each.name / f"{each.restarts + (each.current is not None)}.log"
        try:
            spec = self._launch(each, log_file)
        except cdi.UnresolvableDevices as error:
            return self._not_started(each, "CreateContainerError", str(error))
        except InvalidInput as error:
            return self._not_started(each, "CreateContainerConfigError", str(error))
        allocated = each.allocated
        try:
            started = await parts.runtime.create(record.uid, spec)
        except PluginRefused as refused:
            return self._not_started(each, "CreateContainerError", f"failed to create containerd container: {refused}")
        if each.current is not None:
            each.last = each.current
            each.restarts += 1
        each.actual = allocated
        each.current = started
        each.waiting = ("", "")
        self._tell("Normal", "Started", "Container started", each.name)
        return True

    def _launch(self, each: ContainerRecord, log_file: Path | None) -> ContainerSpec:
        record, parts = self.record, self._parts
        devices = parts.claims.devices(record.object, each.spec)
        edits = cdi.read(parts.cdi, devices)
        return launch(record.object, each, edits, node=parts.name, ip=record.ip, log=log_file, devices=devices)

    def _make_pod(self) -> None:
        """Make the pod's cgroup, or write its limits again."""
        record = self.record
        self._parts.runtime.make_pod(record.uid, record.qos, pod_limit(record.object.spec), sandbox(record.object))

    def _not_started(self, each: ContainerRecord, reason: str, message: str) -> bool:
        each.waiting = (reason, message)
        self._tell("Warning", "Failed", f"Error: {message}", each.name)
        self._later(self._parts.periods.prepare)
        return False

    def _backs_off(self, each: ContainerRecord, ended: Ended | None) -> bool:
        """Tell whether a container that ended has to wait still; its first restart has not."""
        periods = self._parts.periods
        if ended is None or each.current is None:
            return False
        if (ended.at - each.current.started).total_seconds() > RESET * periods.back_off_most:
            each.back_off = 0.0
        rest = each.back_off - (clock.now() - ended.at).total_seconds()
        if rest <= 0:
            each.back_off = min(float(periods.back_off_most), max(float(periods.back_off), each.back_off * 2))
            return False
        if each.waiting[0] != "CrashLoopBackOff":
            message = f"back-off {_duration(each.back_off)} restarting failed container={each.name} pod={self._long()}"
            each.waiting = ("CrashLoopBackOff", message)
            self._tell("Warning", "BackOff", message.replace("pod=", "in pod ", 1), each.name)
        self._later(rest + 0.001)
        return True

    # --- resize

    async def _resize(self) -> None:
        record = self.record
        wanted = {each.name: resize.given(each.spec.get("resources")) for each in record.containers}
        if any(resize.changed(wanted[each.name], each.allocated) for each in record.containers):
            self._judge(wanted)
        elif record.resize is not None:
            record.resize = None  # it was taken back
        await self._actuate()

    def _judge(self, wanted: dict[str, dict[str, dict[str, str]]]) -> None:
        record, generation = self.record, self.record.object.metadata.generation
        if record.infeasible == generation:
            return
        used, allocatable = self._parts.others(record)
        verdict = resize.judge(requests(record.object.spec), used, allocatable)
        if verdict.kind != "accept":
            if record.resize is None or record.resize[0] != verdict.kind:
                self._tell("Warning", f"Resize{verdict.kind}", verdict.message)
            record.resize = (verdict.kind, verdict.message, generation)
            record.infeasible = generation if verdict.kind == "Infeasible" else 0
            return
        record.resize = None
        record.resizing = ("", "", generation)
        for each in record.containers:
            each.allocated = wanted[each.name]
        self._tell("Normal", "ResizeStarted", f"Pod resize started: {msgspec.json.encode(wanted).decode()}")

    async def _actuate(self) -> None:
        record, runtime = self.record, self._parts.runtime
        behind = [each for each in record.containers if each.running and resize.changed(each.allocated, each.actual)]
        if not behind:
            return
        if record.resizing is None:
            record.resizing = ("", "", record.object.metadata.generation)
        if self._parts.periods.actuate:
            await self._write()
            await clock.sleep(self._parts.periods.actuate)
        errors = []
        for each in behind:
            current = each.current
            if current is None or current.ended is not None:
                continue
            if resize.restarts(each.spec, each.allocated, each.actual):
                each.back_off = 0.0
                current.kill()
                continue
            if why := resize.below_usage(each.name, each.allocated, each.actual, current.read().current):
                errors.append(why)
                continue
            self._make_pod()
            try:
                await runtime.resize(record.uid, each.name, limit_of(each.allocated))
            except PluginRefused as refused:
                errors.append(str(refused))
                continue
            each.actual = each.allocated
        if errors:
            record.resizing = ("Error", "; ".join(errors), record.resizing[2])
            return
        record.resizing = None
        self._tell(
            "Normal", "ResizeCompleted", f"Pod resize completed: {msgspec.json.encode(record.allocated()).decode()}"
        )

    # --- the end

    async def _end(self) -> None:
        record, parts = self.record, self._parts
        running = [each for each in record.containers if each.running]
        if running:
            self._stop(running)
            return
        if record.any_started and not record.gone:
            await self._write()
        try:
            await parts.claims.unprepare(record.uid)
        except DriverError as error:
            log.warning("Error syncing pod, skipping: %s", error, extra={"pod": record.key})
            self._later(parts.periods.unprepare)
            return
        await self._finish(phase(record) if record.any_started else "")

    def _stop(self, running: list[ContainerRecord]) -> None:
        """Ask what runs to end, once; sooner, if the grace got shorter."""
        record = self.record
        grace = 0.0
        if not record.gone:
            meta, spec = record.object.metadata, record.object.spec
            seconds = meta.deletion_grace_period_seconds
            grace = float(spec.get("terminationGracePeriodSeconds", 30) if seconds is None else seconds)
        if clock.monotonic() + grace < record.stop_by - 0.5:
            if record.stop_by == float("inf"):
                self._tell("Normal", "Killing", "Stopping container", running[0].name)
            record.stop_by = clock.monotonic() + grace
            for each in running:
                assert each.current is not None  # noqa: S101 - it runs
                each.current.stop(grace)

    async def _finish(self, last: str) -> None:
        record, parts = self.record, self._parts
        if last and not record.gone:
            if last not in {"Succeeded", "Failed"}:  # ended by a deletion although it would be started again
                last = "Succeeded" if all(each.succeeded for each in record.main) else "Failed"
            await self._write(last)
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

    # --- reports

    async def _write(self, final: str = "") -> None:
        record = self.record
        now = clock.rfc3339(clock.now())
        written = self._written.get("conditions") or ()
        status = pod_status(record, now=now, node_ip=self._parts.node_ip, final=final, written=written)
        if status == self._written or record.gone:
            return
        body = {"metadata": {"uid": record.uid}, "status": status}
        meta = record.object.metadata
        try:
            pod = await self._parts.kube.patch(
                PODS, meta.name, body, namespace=meta.namespace, subresource="status", manager=MANAGER
            )
        except (NotFound, Conflict):
            return  # it is gone; the watch will tell
        self._written = status
        if pod.metadata.uid == record.uid:
            record.object = msgspec.structs.replace(record.object, status=pod.status)

    def _tell(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Post an event; nobody waits for it."""
        regarding = reference(PODS, self.record.object)
        text = f"{message} ({container})" if container and container not in message else message
        task = asyncio.create_task(self._parts.recorder.event(regarding, type=kind, reason=reason, message=text))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _folder(self) -> Path:
        meta = self.record.object.metadata
        return self._parts.folder / "pods" / f"{meta.namespace}_{meta.name}_{meta.uid}"

    def _long(self) -> str:
        meta = self.record.object.metadata
        return f"{meta.name}_{meta.namespace}({meta.uid})"

    # --- after a restart of the kubelet

    def _adopt(self) -> None:
        """Take over what ran when the kubelet was started, from the runtime; if that is new too, from the status."""
        record, status = self.record, self.record.object.status
        record.started = str(status.get("startTime") or "")
        record.ip = str(status.get("podIP") or "")
        if status.get("phase") in {"Succeeded", "Failed"}:
            record.terminal = True
            record.finished = not self._parts.claims.has(record.uid)
            return
        seen = {
            each["name"]: each
            for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
        }
        record.prepared = self._parts.claims.is_prepared(record.object)
        if not any("containerID" in each for each in seen.values()):
            return
        self._make_pod()
        for each in record.containers:
            if "containerID" in seen.get(each.name, {}):
                self._adopt_container(each, seen[each.name])

    def _adopt_container(self, each: ContainerRecord, seen: dict[str, Any]) -> None:
        record, runtime = self.record, self._parts.runtime
        each.restarts = int(seen.get("restartCount", 0))
        held = seen.get("resources") or {}
        each.actual = resize.given(held)
        each.allocated = resize.given({"requests": seen.get("allocatedResources"), "limits": held.get("limits")})
        each.waiting = ("", "")
        each.current = runtime.get(record.uid, each.name)
        if each.current is not None:
            return
        state = seen.get("state") or {}
        try:
            spec = self._launch(each, None)
        except (cdi.UnresolvableDevices, InvalidInput):
            return  # it will be started anew
        ended = state.get("terminated") or (seen.get("lastState") or {}).get("terminated")
        began = (state.get("running") or ended or {}).get("startedAt")
        if began is None:
            return
        age = max(0.0, (clock.now() - clock.parse_rfc3339(began)).total_seconds())
        id_ = str(seen["containerID"]).rpartition("/")[2]
        each.current = runtime.run(record.uid, spec, id_=id_, age=age)
        if "running" not in state and ended is not None:
            each.current.ended = Ended(
                code=int(ended["exitCode"]),
                reason=str(ended.get("reason", "")),
                at=clock.parse_rfc3339(ended.get("finishedAt") or began),
            )


def _duration(seconds: float) -> str:
    """Return a time as Go prints it: 10s, 1m20s, 5m0s."""
    whole = int(seconds)
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{seconds:g}s"  # noqa: PLR2004 - a minute
