# SPDX-License-Identifier: Apache-2.0
"""The status of a pod, made from what is known of it, with the words of the kubelet (pkg/kubelet/status). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dynamic_memory.embedded.kubelet.pod import ContainerRecord, PodRecord
from dynamic_memory.embedded.runtime.container import Container
from dynamic_memory.process.clock import rfc3339

__all__ = ["RUNTIME", "phase", "pod_status"]

RUNTIME = "simulated"
OWN = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
RESIZE = ("PodResizePending", "PodResizeInProgress")


def phase(record: PodRecord) -> str:
    """Return the phase that follows from the containers."""
    if record.refused:
        return "Failed"
    for each in record.containers:
        if each.init and each.ended and not each.succeeded and not each.sidecar and not record.should_restart(each):
            return "Failed"
    if not record.initialized or any(each.current is None for each in record.main):
        return "Pending"
    if not all(each.ended for each in record.main):
        return "Running"
    if any(record.should_restart(each) for each in record.main):
        return "Running"
    return "Succeeded" if all(each.succeeded for each in record.main) else "Failed"


def pod_status(
    record: PodRecord, *, now: str, node_ip: str, final: str = "", written: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the whole status that is the kubelet's.

    Args:
        record: the pod.
        now: RFC 3339 time of what changes.
        node_ip: address of the node.
        final: the phase that its end leads to; else it is computed, and not a last one while claims are held.
        written: conditions as they were last written.

    """
    if record.refused:
        reason, message = record.refused
        return {"phase": "Failed", "reason": reason, "message": message, "startTime": record.started}
    computed = phase(record)
    if not final and computed in {"Succeeded", "Failed"}:
        computed = "Running" if record.any_started else "Pending"
    shown = final or computed
    status: dict[str, Any] = {
        "phase": shown,
        "observedGeneration": record.object.metadata.generation,
        "startTime": record.started,
        "hostIP": node_ip,
        "hostIPs": [{"ip": node_ip}],
        "conditions": _conditions(record, shown, now, written),
        "containerStatuses": [_container(each, record, final) for each in record.main],
    }
    if record.expired and final:
        message = "Pod was active on the node longer than the specified deadline"
        status |= {"reason": "DeadlineExceeded", "message": message}
    if record.ip:
        status |= {"podIP": record.ip, "podIPs": [{"ip": record.ip}]}
    if any(each.init for each in record.containers):
        status["initContainerStatuses"] = [_container(each, record, final) for each in record.containers if each.init]
    return status


def _conditions(record: PodRecord, shown: str, now: str, written: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    # what was written counts more than what the watch has shown so far
    old = {each["type"]: each for each in (*(record.object.status.get("conditions") or ()), *written)}
    generation = record.object.metadata.generation
    scheduled = old.get("PodScheduled") or {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}
    wanted = [_condition(old, now, generation, *judged) for judged in _judged(record, shown)]
    wanted.append(dict(scheduled))
    for kind, entry in zip(RESIZE, (record.resize, record.resizing), strict=True):
        if entry is not None:
            wanted.append(_condition(old, now, entry[2], kind, True, entry[0], entry[1]))
    return wanted + [dict(each) for kind, each in old.items() if kind not in OWN and kind not in RESIZE]


def _condition(  # noqa: PLR0917 - what is judged comes as a tuple
    old: dict[str, Any], now: str, generation: int, kind: str, good: bool, reason: str = "", message: str = ""
) -> dict[str, Any]:
    value: dict[str, Any] = {"type": kind, "status": "True" if good else "False", "observedGeneration": generation}
    value |= {key: text for key, text in (("reason", reason), ("message", message)) if text}
    before = old.get(kind) or {}
    value["lastTransitionTime"] = before.get("lastTransitionTime") if before.get("status") == value["status"] else now
    return value


def _judged(record: PodRecord, shown: str) -> Iterable[tuple[Any, ...]]:
    """Yield type, whether it is true, and maybe reason and message of each condition."""
    done = shown in {"Succeeded", "Failed"}
    incomplete = [each.name for each in record.containers if each.init and not (each.sidecar or each.succeeded)]
    unready = [each.name for each in record.main if not each.running]
    yield "PodReadyToStartContainers", bool(record.ip) and not done
    if incomplete and not done:
        yield (
            "Initialized",
            False,
            "ContainersNotInitialized",
            f"containers with incomplete status: {_names(incomplete)}",
        )
    else:
        yield "Initialized", True, "PodCompleted" if shown == "Succeeded" else ""
    for kind in ("Ready", "ContainersReady"):
        if done:
            yield kind, False, "PodCompleted" if shown == "Succeeded" else "PodFailed"
        elif unready:
            yield kind, False, "ContainersNotReady", f"containers with unready status: {_names(unready)}"
        else:
            yield kind, True


def _names(names: Iterable[str]) -> str:
    return f"[{' '.join(names)}]"


def _container(record: ContainerRecord, pod: PodRecord, final: str) -> dict[str, Any]:
    image = str(record.spec.get("image", ""))
    status: dict[str, Any] = {
        "name": record.name,
        "image": image,
        "imageID": f"{RUNTIME}/{image}" if record.current is not None else "",
        "ready": record.running or (record.init and not record.sidecar and record.succeeded),
        "started": record.running and (not record.init or record.sidecar),
        "restartCount": record.restarts,
        "state": _state(record, pod, final),
    }
    # one that waits to be started again is the last one
    last = record.current if "waiting" in status["state"] and record.ended else record.last
    status["lastState"] = {} if last is None else {"terminated": _terminated(last)}
    if record.current is not None:
        status["containerID"] = f"{RUNTIME}://{record.current.id}"
        status["resources"] = {part: values for part, values in record.actual.items() if values}
        if record.allocated["requests"]:
            status["allocatedResources"] = record.allocated["requests"]
    return status


def _state(record: ContainerRecord, pod: PodRecord, final: str) -> dict[str, Any]:
    current = record.current
    if final and current is None and not record.init and pod.initialized:
        message = "The container could not be located when the pod was terminated"
        return {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message}}
    if final and current is not None and current.ended is not None:
        return {"terminated": _terminated(current)}
    if current is not None and current.ended is None:
        return {"running": {"startedAt": rfc3339(current.started)}}
    if current is not None and (not record.waiting[0] or not pod.should_restart(record)):
        return {"terminated": _terminated(current)}
    reason, message = record.waiting
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def _terminated(container: Container) -> dict[str, Any]:
    ended = container.ended
    assert ended is not None  # noqa: S101 - of one that has ended only
    return {
        "exitCode": ended.code,
        "reason": ended.reason,
        **({"message": ended.message} if ended.message else {}),
        "startedAt": rfc3339(container.started),
        "finishedAt": rfc3339(ended.at),
        "containerID": f"{RUNTIME}://{container.id}",
    }
