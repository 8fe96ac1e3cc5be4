# SPDX-License-Identifier: Apache-2.0
"""Rows of the kinds that make pods: apps, batch, autoscaling, and disruption budgets."""

from __future__ import annotations

import datetime as dt
from typing import Any

from dynamic_memory.embedded.apiserver.table.columns import (
    AGE,
    NAME,
    WORKLOAD,
    Cell,
    Printer,
    age,
    boolean,
    condition,
    integer,
    label_selector,
    labels,
    layout,
    name,
    selector_text,
    text,
)
from dynamic_memory.embedded.apiserver.table.duration import human_duration, since

__all__ = ["PRINTERS"]

Object = dict[str, Any]
SHOWN_METRICS = 2
SELECTOR = text("Selector", ".spec.selector", 1)


def _parts(obj: Object) -> tuple[Object, Object]:
    return obj.get("spec") or {}, obj.get("status") or {}


def _deployment(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    selector = selector_text(spec.get("selector"))
    return [
        name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age(obj, now),
        *layout(spec.get("template")),
        "<invalid>" if selector == "<error>" else selector,
    ]


def _replica_set(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [name(obj), *counts, age(obj, now), *layout(spec.get("template")), label_selector(spec.get("selector"))]


def _replication_controller(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [name(obj), *counts, age(obj, now), *layout(spec.get("template")), labels(spec.get("selector"))]


def _daemon_set(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    fields = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled")
    template = spec.get("template") or {}
    return [
        name(obj),
        *(status.get(field, 0) for field in fields),
        status.get("numberAvailable", 0),
        labels((template.get("spec") or {}).get("nodeSelector")),
        age(obj, now),
        *layout(template),
        label_selector(spec.get("selector")),
    ]


def _stateful_set(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [name(obj), ready, age(obj, now), *layout(spec.get("template"))]


def _controller_revision(obj: Object, now: dt.datetime) -> list[Cell]:
    owners = obj.get("metadata", {}).get("ownerReferences") or []
    controller = "<none>"
    for owner in owners:
        if owner.get("controller"):
            group = str(owner.get("apiVersion", "")).rpartition("/")[0]
            kind = f"{owner.get('kind', '')}.{group}" if group else str(owner.get("kind", ""))
            controller = f"{kind.lower()}/{owner.get('name', '')}"
    return [name(obj), controller, obj.get("revision", 0), age(obj, now)]


def _true(obj: Object, kind: str) -> bool:
    return (condition(obj, kind) or {}).get("status") == "True"


def _job_status(obj: Object) -> str:
    if _true(obj, "Complete"):
        return "Complete"
    if _true(obj, "Failed"):
        return "Failed"
    if obj.get("metadata", {}).get("deletionTimestamp"):
        return "Terminating"
    for kind, shown in (
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        if _true(obj, kind):
            return shown
    return "Running"


def _job_duration(status: Object, now: dt.datetime) -> str:
    started, ended = status.get("startTime"), status.get("completionTime")
    if not started:
        return ""
    until = dt.datetime.fromisoformat(ended) if ended else now
    return human_duration((until - dt.datetime.fromisoformat(started)).total_seconds())


def _job(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    succeeded = status.get("succeeded", 0)
    parallelism = spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    else:
        completions = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    return [
        name(obj),
        _job_status(obj),
        completions,
        _job_duration(status, now),
        age(obj, now),
        *layout(spec.get("template")),
        label_selector(spec.get("selector")),
    ]


def _cron_job(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    last = status.get("lastScheduleTime")
    suspend = spec.get("suspend")
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    return [
        name(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or "<none>",
        "<unset>" if suspend is None else str(bool(suspend)),
        len(status.get("active") or []),
        since(last, now) if last else "<none>",
        age(obj, now),
        *layout(job.get("template")),
        label_selector(job.get("selector")),
    ]


def _budget(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    limits = [spec.get("minAvailable"), spec.get("maxUnavailable")]
    shown = ["N/A" if limit is None else str(limit) for limit in limits]
    return [name(obj), *shown, status.get("disruptionsAllowed", 0), age(obj, now)]


def _metric(spec: Object, current: Object) -> str:
    """Return one metric of an autoscaler as `current/target`; both shapes are those of autoscaling/v2."""
    kind = str(spec.get("type", ""))
    key = kind[:1].lower() + kind[1:]
    if key not in {"external", "pods", "object", "resource", "containerResource"}:
        return "<unknown type>"
    wanted = (spec.get(key) or {}).get("target") or {}
    found = (current.get(key) or {}).get("current") or {}
    average = wanted.get("averageValue")
    if key in {"resource", "containerResource"}:
        label = (spec.get(key) or {}).get("name", "")
        if average is not None:
            return f"{label}: {found.get('averageValue', '<unknown>')}/{average}"
        share, target = found.get("averageUtilization"), wanted.get("averageUtilization")
        shown = "<unknown>" if share is None else f"{share}%"
        return f"{label}: {shown}/{'<auto>' if target is None else f'{target}%'}"
    if average is not None:
        suffix = "" if key == "pods" else " (avg)"
        return f"{found.get('averageValue', '<unknown>')}/{average}{suffix}"
    return f"{found.get('value', '<unknown>')}/{wanted.get('value', '0')}"


def _v1_metrics(spec: Object, status: Object) -> tuple[list[Object], list[Object]]:
    """Return the one metric of autoscaling/v1 in the shape of v2."""
    target = spec.get("targetCPUUtilizationPercentage")
    if target is None:
        return [], []
    current = status.get("currentCPUUtilizationPercentage")
    wanted = {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": target}}}
    found = {"resource": {"current": {"averageUtilization": current}}} if current is not None else {}
    return [wanted], [found]


def _autoscaler(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    metrics, current = spec.get("metrics"), status.get("currentMetrics") or []
    if metrics is None:
        metrics, current = _v1_metrics(spec, status)
    shown = [_metric(entry, current[i] if i < len(current) else {}) for i, entry in enumerate(metrics)]
    targets = ", ".join(shown[:SHOWN_METRICS]) or "<none>"
    if len(shown) > SHOWN_METRICS:
        targets = f"{targets} + {len(shown) - SHOWN_METRICS} more..."
    reference = spec.get("scaleTargetRef") or {}
    minimum = spec.get("minReplicas")
    return [
        name(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        targets,
        "<unset>" if minimum is None else str(minimum),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age(obj, now),
    ]


def _scale(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    return [name(obj), spec.get("replicas", 0), status.get("replicas", 0), age(obj, now)]


_REPLICAS = (
    NAME,
    integer("Desired", ".spec.replicas"),
    integer("Current", ".status.replicas"),
    integer("Ready", ".status.readyReplicas"),
    AGE,
    *WORKLOAD,
    SELECTOR,
)

PRINTERS = {
    ("apps", "Deployment"): Printer(
        (
            NAME,
            text("Ready", "Number of the pod with ready state"),
            text("Up-to-date", ".status.updatedReplicas"),
            text("Available", ".status.availableReplicas"),
            AGE,
            *WORKLOAD,
            SELECTOR,
        ),
        _deployment,
    ),
    ("apps", "ReplicaSet"): Printer(_REPLICAS, _replica_set),
    ("", "ReplicationController"): Printer(_REPLICAS, _replication_controller),
    ("apps", "DaemonSet"): Printer(
        (
            NAME,
            integer("Desired", ".status.desiredNumberScheduled"),
            integer("Current", ".status.currentNumberScheduled"),
            integer("Ready", ".status.numberReady"),
            integer("Up-to-date", ".status.updatedNumberScheduled"),
            integer("Available", ".status.numberAvailable"),
            text("Node Selector", ".spec.template.spec.nodeSelector"),
            AGE,
            *WORKLOAD,
            SELECTOR,
        ),
        _daemon_set,
    ),
    ("apps", "StatefulSet"): Printer(
        (NAME, text("Ready", "Number of the pod with ready state"), AGE, *WORKLOAD), _stateful_set
    ),
    ("apps", "ControllerRevision"): Printer(
        (NAME, text("Controller", "Controller of the object"), text("Revision", ".revision"), AGE), _controller_revision
    ),
    ("batch", "Job"): Printer(
        (
            NAME,
            text("Status", "Status of the job."),
            text("Completions", ".status.succeeded"),
            text("Duration", "Time required to complete the job."),
            AGE,
            *WORKLOAD,
            SELECTOR,
        ),
        _job,
    ),
    ("batch", "CronJob"): Printer(
        (
            NAME,
            text("Schedule", ".spec.schedule"),
            text("Timezone", ".spec.timeZone"),
            boolean("Suspend", ".spec.suspend"),
            integer("Active", ".status.active"),
            text("Last Schedule", ".status.lastScheduleTime"),
            AGE,
            *WORKLOAD,
            text("Selector", ".spec.jobTemplate.spec.selector", 1),
        ),
        _cron_job,
    ),
    ("policy", "PodDisruptionBudget"): Printer(
        (
            NAME,
            text("Min Available", "The minimum number of pods that must be available."),
            text("Max Unavailable", "The maximum number of pods that may be unavailable."),
            integer("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
            AGE,
        ),
        _budget,
    ),
    ("autoscaling", "HorizontalPodAutoscaler"): Printer(
        (
            NAME,
            text("Reference", ".spec.scaleTargetRef"),
            text("Targets", ".spec.metrics"),
            text("MinPods", ".spec.minReplicas"),
            text("MaxPods", ".spec.maxReplicas"),
            text("Replicas", ".status.currentReplicas"),
            AGE,
        ),
        _autoscaler,
    ),
    ("autoscaling", "Scale"): Printer(
        (
            text("Name", ".metadata.name"),
            integer("Desired", ".spec.replicas"),
            integer("Available", ".status.replicas"),
            AGE,
        ),
        _scale,
    ),
}
