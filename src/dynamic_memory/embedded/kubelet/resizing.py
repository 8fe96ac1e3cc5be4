# SPDX-License-Identifier: Apache-2.0
"""Resizes the containers of a pod in place: judges what the object asks for, then brings what runs there.

Source: KEP-1287.
"""

from __future__ import annotations

import msgspec

from dynamic_memory.embedded.kubelet import resize
from dynamic_memory.embedded.kubelet.parts import Parts
from dynamic_memory.embedded.kubelet.pod import PodRecord
from dynamic_memory.embedded.kubelet.reports import Reports
from dynamic_memory.embedded.kubelet.resources import limit_of, requests
from dynamic_memory.embedded.runtime.plugins import PluginRefused
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

    async def resize(self) -> None:
        """Take what the object asks for now, if the node has it, and bring the containers there."""
        record = self._record
        wanted = {each.name: resize.given(each.spec.get("resources")) for each in record.containers}
        if any(resize.changed(wanted[each.name], each.allocated) for each in record.containers):
            self._judge(wanted)
        elif record.resize is not None:
            record.resize = None  # it was taken back
        await self._actuate()

    def _judge(self, wanted: dict[str, dict[str, dict[str, str]]]) -> None:
        record, generation = self._record, self._record.object.metadata.generation
        if record.infeasible == generation:
            return
        used, allocatable = self._parts.others(record)
        verdict = resize.judge(requests(record.object.spec), used, allocatable)
        if verdict.kind != "accept":
            if record.resize is None or record.resize[0] != verdict.kind:
                self._reports.tell("Warning", f"Resize{verdict.kind}", verdict.message)
            record.resize = (verdict.kind, verdict.message, generation)
            record.infeasible = generation if verdict.kind == "Infeasible" else 0
            return
        record.resize = None
        record.resizing = ("", "", generation)
        for each in record.containers:
            each.allocated = wanted[each.name]
        self._reports.tell("Normal", "ResizeStarted", f"Pod resize started: {msgspec.json.encode(wanted).decode()}")

    async def _actuate(self) -> None:
        record, runtime = self._record, self._parts.runtime
        behind = [each for each in record.containers if each.running and resize.changed(each.allocated, each.actual)]
        if not behind:
            return
        if record.resizing is None:
            record.resizing = ("", "", record.object.metadata.generation)
        if self._parts.periods.actuate:
            await self._reports.write()
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
            self._parts.make_pod(record)
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
        self._reports.tell(
            "Normal", "ResizeCompleted", f"Pod resize completed: {msgspec.json.encode(record.allocated()).decode()}"
        )
