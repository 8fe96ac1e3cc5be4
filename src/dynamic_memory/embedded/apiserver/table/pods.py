# SPDX-License-Identifier: Apache-2.0
"""The row of a pod: the summary of its containers that everybody reads first.

STATUS is not one field: it starts as the phase and is replaced by what the init containers and then the containers say
(the first container that waits or has ended wins), and by `Terminating` once the pod is being deleted.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from dynamic_memory.embedded.apiserver.table.columns import AGE, NAME, Cell, Printer, age, name, text
from dynamic_memory.embedded.apiserver.table.duration import since

__all__ = ["POD"]

Object = dict[str, Any]

DOCS = (
    "The aggregate readiness state of this pod for accepting traffic.",
    "The aggregate status of the containers in this pod.",
    (
        "The number of times the containers in this pod have been restarted and when the last container in this pod "
        "has restarted."
    ),
)
COLUMNS = (
    NAME,
    text("Ready", DOCS[0]),
    text("Status", DOCS[1]),
    text("Restarts", DOCS[2]),
    AGE,
    text("IP", ".status.podIP", 1),
    text("Node", ".spec.nodeName", 1),
    text("Nominated Node", ".status.nominatedNodeName", 1),
    text("Readiness Gates", ".spec.readinessGates", 1),
)


class _Restarts:
    """A count of restarts and the end of the last run before one."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = ""

    def add(self, container: Object) -> None:
        self.count += container.get("restartCount") or 0
        ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last = max(self.last, ended)

    def show(self, now: dt.datetime) -> str:
        return f"{self.count} ({since(self.last, now)} ago)" if self.count and self.last else str(self.count)


def _has(status: Object, kind: str, *, value: str = "True") -> bool:
    return any(c.get("type") == kind and c.get("status") == value for c in status.get("conditions") or [])


def _ended(terminated: Object, prefix: str = "") -> str:
    if terminated.get("reason"):
        return f"{prefix}{terminated['reason']}"
    if terminated.get("signal"):
        return f"{prefix}Signal:{terminated['signal']}"
    return f"{prefix}ExitCode:{terminated.get('exitCode', 0)}"


def _initialising(container: Object, index: int, total: int) -> str:
    """Return the reason that an init container gives to the pod which it still holds up."""
    state = container.get("state") or {}
    if terminated := state.get("terminated"):
        return _ended(terminated, "Init:")
    waiting = (state.get("waiting") or {}).get("reason")
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{index}/{total}"


class _Summary:
    """READY, STATUS and RESTARTS of one pod."""

    def __init__(self, pod: Object) -> None:
        self.spec = pod.get("spec") or {}
        self.status = pod.get("status") or {}
        self.sidecars = {
            c.get("name") for c in self.spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"
        }
        self.total = len(self.spec.get("containers") or []) + len(self.sidecars)
        self.ready = 0
        self.phase = self.status.get("phase", "")
        self.reason = self.status.get("reason") or self.phase
        self.restarts = _Restarts()
        if any(
            c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated"
            for c in self.status.get("conditions") or []
        ):
            self.reason = "SchedulingGated"
        sidecar_restarts = _Restarts()
        initialising = self._init_containers(sidecar_restarts)
        if not initialising or _has(self.status, "Initialized"):
            self.restarts = sidecar_restarts
            self._containers()
        if pod.get("metadata", {}).get("deletionTimestamp"):
            if self.status.get("reason") == "NodeLost":
                self.reason = "Unknown"
            elif self.phase not in {"Succeeded", "Failed"}:
                self.reason = "Terminating"

    def _init_containers(self, sidecar_restarts: _Restarts) -> bool:
        total = len(self.spec.get("initContainers") or [])
        for index, container in enumerate(self.status.get("initContainerStatuses") or []):
            sidecar = container.get("name") in self.sidecars
            self.restarts.add(container)
            if sidecar:
                sidecar_restarts.add(container)
            terminated = (container.get("state") or {}).get("terminated")
            if terminated is not None and not terminated.get("exitCode"):
                continue
            if sidecar and container.get("started"):
                self.ready += bool(container.get("ready"))
                continue
            self.reason = _initialising(container, index, total)
            return True
        return False

    def _containers(self) -> None:
        running = False
        failed = ""
        for container in reversed(self.status.get("containerStatuses") or []):
            self.restarts.add(container)
            state = container.get("state") or {}
            if waiting := (state.get("waiting") or {}).get("reason"):
                self.reason = waiting
            elif (terminated := state.get("terminated")) is not None:
                self.reason = _ended(terminated)
                if terminated.get("exitCode"):
                    failed = self.reason
            elif container.get("ready") and state.get("running") is not None:
                running = True
                self.ready += 1
        if self.reason == "Completed":
            if running and _has(self.status, "Ready"):
                self.reason = "Running"
            elif failed:
                self.reason = failed
            elif running:
                self.reason = "NotReady"


def _gates(spec: Object, status: Object) -> str:
    gates = spec.get("readinessGates") or []
    if not gates:
        return "<none>"
    passed = sum(_has(status, gate.get("conditionType", "")) for gate in gates)
    return f"{passed}/{len(gates)}"


def _cells(pod: Object, now: dt.datetime) -> list[Cell]:
    summary = _Summary(pod)
    spec, status = summary.spec, summary.status
    addresses = status.get("podIPs") or [{}]
    return [
        name(pod),
        f"{summary.ready}/{summary.total}",
        summary.reason,
        summary.restarts.show(now),
        age(pod, now),
        addresses[0].get("ip") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        _gates(spec, status),
    ]


def _conditions(pod: Object) -> list[dict[str, str]]:
    match (pod.get("status") or {}).get("phase"):
        case "Succeeded":
            return [_completed("Succeeded", "The pod has completed successfully.")]
        case "Failed":
            return [_completed("Failed", "The pod failed.")]
    return []


def _completed(reason: str, message: str) -> dict[str, str]:
    return {"type": "Completed", "status": "True", "reason": reason, "message": message}


POD = Printer(COLUMNS, _cells, _conditions)
