# SPDX-License-Identifier: Apache-2.0
"""Starts the containers of a pod in their order, and again after they ended, with the back-off of the real kubelet."""

from __future__ import annotations

from collections.abc import Callable

from dynamic_memory.embedded.kubelet import cdi
from dynamic_memory.embedded.kubelet.parts import Parts
from dynamic_memory.embedded.kubelet.pod import ContainerRecord, PodRecord
from dynamic_memory.embedded.kubelet.reports import Reports
from dynamic_memory.embedded.runtime.container import Ended
from dynamic_memory.embedded.runtime.plugins import PluginRefused
from dynamic_memory.errors import InvalidInput
from dynamic_memory.process import clock

__all__ = ["Starter"]

RESET = 2.0
"""A container that ran for this many times the longest back-off starts its back-off anew."""


class Starter:
    """Starts the containers of one pod.

    Args:
        parts: of its node.
        record: of the pod.
        reports: of the pod.
        later: asks for another look at the pod, in so many seconds.

    """

    def __init__(self, parts: Parts, record: PodRecord, reports: Reports, later: Callable[[float], None]) -> None:
        self._parts = parts
        self._record = record
        self._reports = reports
        self._later = later

    async def start_due(self) -> None:
        """Start what is to be started now."""
        record = self._record
        for each in record.containers:
            if each.current is None or (each.ended and record.should_restart(each)):
                await self._start(each)
            # the next one waits until this one is through
            if each.init and not each.succeeded and not (each.sidecar and each.running):
                return

    async def _start(self, each: ContainerRecord) -> None:
        if each.current is not None and self._backs_off(each, each.current.ended):
            return
        record, parts = self._record, self._parts
        log_file = parts.log_file(record.object.metadata, each.name, each.restarts + (each.current is not None))
        try:
            spec = parts.container(record, each, log_file)
        except cdi.UnresolvableDevices as error:
            self._not_started(each, "CreateContainerError", str(error))
            return
        except InvalidInput as error:
            self._not_started(each, "CreateContainerConfigError", str(error))
            return
        allocated = each.allocated
        try:
            started = await parts.runtime.create(record.uid, spec)
        except PluginRefused as refused:
            self._not_started(each, "CreateContainerError", f"failed to create containerd container: {refused}")
            return
        if each.current is not None:
            each.last = each.current
            each.restarts += 1
        each.actual, each.renew = allocated, False
        each.current = started
        each.waiting = ("", "")
        self._reports.tell("Normal", "Started", "Container started", each.name)

    def _not_started(self, each: ContainerRecord, reason: str, message: str) -> None:
        each.waiting = (reason, message)
        self._reports.tell("Warning", "Failed", f"Error: {message}", each.name)
        self._later(self._parts.periods.prepare)

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
            told = f"Back-off restarting failed container {each.name} in pod {self._long()}"
            self._reports.tell("Warning", "BackOff", told, each.name)
        self._later(rest + 0.001)
        return True

    def _long(self) -> str:
        meta = self._record.object.metadata
        return f"{meta.name}_{meta.namespace}({meta.uid})"


def _duration(seconds: float) -> str:
    """Return a time as Go prints it: 10s, 1m20s, 5m0s."""
    whole = int(seconds)
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{seconds:g}s"  # noqa: PLR2004 - a minute
