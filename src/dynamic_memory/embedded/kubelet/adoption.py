# SPDX-License-Identifier: Apache-2.0
"""Takes over the pods that ran when the kubelet was started.

What runs is asked of the runtime. If that is new too (the whole cluster was started again), the containers that the
status has are run anew, as old as they were, so that nobody sees a restart.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.kubelet import cdi, resize
from dynamic_memory.embedded.kubelet.parts import Parts
from dynamic_memory.embedded.kubelet.pod import ContainerRecord, PodRecord
from dynamic_memory.embedded.runtime.container import Ended
from dynamic_memory.errors import InvalidInput
from dynamic_memory.process import clock

__all__ = ["adopt"]


def adopt(parts: Parts, record: PodRecord) -> None:
    """Take over what ran when the kubelet was started, from the runtime; if that is new too, from the status."""
    status = record.object.status
    record.started = str(status.get("startTime") or "")
    record.ip = str(status.get("podIP") or "")
    if status.get("phase") in {"Succeeded", "Failed"}:
        record.terminal = True
        record.finished = not parts.claims.has(record.uid)
        return
    seen = {
        each["name"]: each
        for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    }
    record.prepared = parts.claims.is_prepared(record.object)
    if not any("containerID" in each for each in seen.values()):
        return
    ran = [each for each in record.containers if "containerID" in seen.get(each.name, {})]
    for each in ran:
        held = seen[each.name].get("resources") or {}
        each.actual = resize.given(held)
        requests = seen[each.name].get("allocatedResources")
        each.allocated = resize.given({"requests": requests, "limits": held.get("limits")})
    parts.make_pod(record)
    for each in ran:
        _adopt_container(parts, record, each, seen[each.name])


def _adopt_container(parts: Parts, record: PodRecord, each: ContainerRecord, seen: dict[str, Any]) -> None:
    runtime = parts.runtime
    each.restarts = int(seen.get("restartCount", 0))
    each.waiting = ("", "")
    each.current = runtime.get(record.uid, each.name)
    if each.current is not None:
        return
    state = seen.get("state") or {}
    try:
        spec = parts.container(record, each, None)
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
