# SPDX-License-Identifier: Apache-2.0
"""Resizes the containers of a pod in place: judges what the object asks for, then brings what runs there.

Plugins of the runtime hear of a pod before its cgroup is written; what one of them refuses stays as it is, and is tried
again later. Source: KEP-1287; `resize.steps` for the order.
"""

from __future__ import annotations

import msgspec

from dynamic_memory.embedded.kubelet import resize
from dynamic_memory.embedded.kubelet.parts import Parts
from dynamic_memory.embedded.kubelet.pod import ContainerRecord, PodRecord
from dynamic_memory.embedded.kubelet.reports import Reports
from dynamic_memory.embedded.kubelet.resize import Change, PodCgroup, Step
from dynamic_memory.embedded.kubelet.resources import limit_of, requests
from dynamic_memory.embedded.runtime.plugins import PluginRefused
from dynamic_memory.nri.proto import nri_pb2 as pb
from dynamic_memory.process import clock

__all__ = ["Resizer"]


class Resizer:
    """Resizes one pod.

    Args:
        parts: of its node.
        record: of the pod.
        reports: of the pod.

    """

    def __init__(self, parts: Parts, record: PodRecord, reports: Reports) -> None:
        self._parts = parts
        self._record = record
        self._reports = reports

    async def resize(self) -> bool:
        """Take what the object asks for now, if the node has it, and bring the containers there.

        Returns False while a container ends that is to be started again; nothing else is done meanwhile.
        """
        record = self._record
        wanted = {each.name: resize.given(each.spec.get("resources")) for each in record.containers}
        if any(resize.changed(wanted[each.name], each.allocated) for each in record.containers):
            self._judge(wanted)
        elif record.resize is not None:
            record.resize = None  # it was taken back
        return await self._actuate()

    def _judge(self, wanted: dict[str, dict[str, dict[str, str]]]) -> None:
        record, generation = self._record, self._record.object.metadata.generation
        if record.infeasible == generation:
            return
        used, allocatable = self._parts.others(record)
        verdict = resize.judge(requests(record.object.spec), used, allocatable)
        if verdict.kind != "accept":
            pending = (verdict.kind, verdict.message, generation)
            if record.resize != pending:
                text = self._summary(generation, verdict.message)
                self._reports.tell("Warning", f"Resize{verdict.kind}", f"Pod resize {verdict.kind}: {text}")
            record.resize = pending
            record.infeasible = generation if verdict.kind == "Infeasible" else 0
            return
        record.resize = None
        record.resizing = ("", "", generation)
        for each in record.containers:
            each.allocated = wanted[each.name]
        self._reports.tell("Normal", "ResizeStarted", f"Pod resize started: {self._summary(generation)}")

    async def _actuate(self) -> bool:
        record, runtime = self._record, self._parts.runtime
        wants = resize.pod_cgroup(record.object.spec, record.allocated())
        behind = self._behind()
        if not behind and not any(resize.steps(record.cgroup, wants, ())):
            self._complete()
            return True
        if record.resizing is None:
            record.resizing = ("", "", record.object.metadata.generation)
        if self._parts.periods.actuate:
            await self._reports.write()
            await clock.sleep(self._parts.periods.actuate)
            behind = self._behind()
        if self._renew(behind):
            return False
        changes = [Change(name=each.name, wanted=each.allocated, had=each.actual) for each in behind]
        usage = {name: container.read().current for name, container in runtime.of(record.uid).items()}
        if why := resize.too_low(record.cgroup, wants, changes, usage):
            self._fail(why)
            return True
        for step in resize.steps(record.cgroup, wants, changes):
            if why := await self._do(step, {each.name: each for each in behind}):
                self._fail(why)
                return True
        for each in behind:
            each.actual = each.allocated
        self._complete()
        return True

    def _behind(self) -> list[ContainerRecord]:
        return [
            each for each in self._record.containers if each.running and resize.changed(each.allocated, each.actual)
        ]

    def _renew(self, behind: list[ContainerRecord]) -> bool:
        """End the containers that cannot be resized while they run; tell whether some are still to end."""
        for each in behind:
            if not each.renew and each.current is not None and resize.restarts(each.spec, each.allocated, each.actual):
                each.renew, each.back_off = True, 0.0
                message = f"Container {each.name} resize requires restart"
                self._reports.tell("Normal", "Killing", message, each.name)
                each.current.stop(self._record.grace)
        return any(each.renew and each.running for each in self._record.containers)

    async def _do(self, step: Step, containers: dict[str, ContainerRecord]) -> str:
        """Take one step; return why it failed, or nothing."""
        record, runtime = self._record, self._parts.runtime
        if step.pod is not None:
            try:
                await runtime.update_pod(record.uid, _resources(step.pod))
            except PluginRefused as refused:
                sandbox = runtime.sandbox_id(record.uid)
                return (
                    f"failed to notify runtime for UpdatePodSandboxResources (resource={step.resource}); "
                    f'resize rejected: updatePodSandboxResources failed for sanboxID "{sandbox}": '
                    f"rpc error: code = Unknown desc = NRI sandbox update failed: {refused}"
                )
            runtime.set_pod_limit(record.uid, step.pod.memory)
            record.cgroup = step.pod
            return ""
        each = containers[step.container]
        wanted = resize.partly(each.allocated, each.actual, step.resource)
        try:
            await runtime.resize(record.uid, each.name, limit_of(wanted))
        except PluginRefused as refused:
            return f"rpc error: code = Unknown desc = NRI container update failed: {refused}"
        each.actual = wanted
        return ""

    def _fail(self, why: str) -> None:
        record = self._record
        generation = record.object.metadata.generation if record.resizing is None else record.resizing[2]
        failed = ("Error", why, generation)
        if record.resizing != failed:
            text = self._summary(generation, why)
            self._reports.tell("Warning", "ResizeError", f"Pod resize error: {text}")
        record.resizing = failed

    def _complete(self) -> None:
        """Say so, if something was in progress."""
        if self._record.resizing is not None:
            text = self._summary(self._record.resizing[2])
            self._reports.tell("Normal", "ResizeCompleted", f"Pod resize completed: {text}")
        self._record.resizing = None

    def _summary(self, generation: int, error: str = "") -> str:
        """Return what events of the kubelet say of a resize."""
        spec = self._record.object.spec
        said = {
            part: [{"name": each["name"], "resources": each.get("resources") or {}} for each in spec.get(part) or ()]
            for part in ("initContainers", "containers")
        }
        found = {part: value for part, value in said.items() if value} | {"generation": generation}
        return msgspec.json.encode(found | ({"error": error} if error else {})).decode()


def _resources(pod: PodCgroup) -> pb.LinuxResources:
    """Return what a runtime is told of a pod; -1 is no limit."""
    found = pb.LinuxResources()
    found.memory.limit.value = -1 if pod.memory is None else pod.memory
    found.cpu.shares.value = pod.shares
    found.cpu.quota.value = -1 if pod.quota is None else pod.quota
    found.cpu.period.value = resize.PERIOD
    return found
