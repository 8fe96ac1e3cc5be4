# SPDX-License-Identifier: Apache-2.0
"""Rows of the core group and of what belongs to it: nodes, namespaces, configuration, quotas, events, leases."""

from __future__ import annotations

import datetime as dt
from typing import Any

from dynamic_memory.embedded.apiserver.table.columns import (
    AGE,
    NAME,
    Cell,
    Column,
    Printer,
    age,
    boolean,
    condition,
    integer,
    name,
    text,
)
from dynamic_memory.embedded.apiserver.table.duration import since

__all__ = ["PRINTERS"]

Object = dict[str, Any]
ROLE_PREFIX = "node-role.kubernetes.io/"
SHOWN = 3  # entries of a list before "+ n more..."


def _parts(obj: Object) -> tuple[Object, Object]:
    return obj.get("spec") or {}, obj.get("status") or {}


def _age_only(obj: Object, now: dt.datetime) -> list[Cell]:
    return [name(obj), age(obj, now)]


def _namespace(obj: Object, now: dt.datetime) -> list[Cell]:
    return [name(obj), (obj.get("status") or {}).get("phase", ""), age(obj, now)]


def _config_map(obj: Object, now: dt.datetime) -> list[Cell]:
    return [name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)]


def _secret(obj: Object, now: dt.datetime) -> list[Cell]:
    return [name(obj), obj.get("type", ""), len(obj.get("data") or {}), age(obj, now)]


def _node_roles(obj: Object) -> str:
    found = set()
    for key, value in (obj.get("metadata", {}).get("labels") or {}).items():
        if key.startswith(ROLE_PREFIX) and key != ROLE_PREFIX:
            found.add(key.removeprefix(ROLE_PREFIX))
        elif key == "kubernetes.io/role" and value:
            found.add(value)
    return ",".join(sorted(found)) or "<none>"


def _address(status: Object, kind: str) -> str:
    addresses = status.get("addresses") or []
    return next((a.get("address", "") for a in addresses if a.get("type") == kind), "<none>")


def _node(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    ready = condition(obj, "Ready")
    shown = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    if spec.get("unschedulable"):
        shown += ",SchedulingDisabled"
    info = status.get("nodeInfo") or {}
    kernel = info.get("kernelVersion") or "<unknown>"
    if info.get("architecture"):
        kernel += f" ({info['architecture']})"
    return [
        name(obj),
        shown,
        _node_roles(obj),
        age(obj, now),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or "<unknown>",
        kernel,
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _quota(obj: Object, now: dt.datetime) -> list[Cell]:
    status = obj.get("status") or {}
    used = status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource, hard in sorted((status.get("hard") or {}).items()):
        entry = f"{resource}: {used.get(resource, '0')}/{hard}"
        (limits if resource.startswith("limits.") else requests).append(entry)
    return [name(obj), ", ".join(requests), ", ".join(limits), age(obj, now)]


def _event_fields(obj: Object) -> Object:
    """Return an event in the field names of the core group; events.k8s.io has others for the same things."""
    if "regarding" not in obj and "deprecatedCount" not in obj and "note" not in obj:
        return obj
    return {
        **obj,
        "involvedObject": obj.get("regarding") or {},
        "message": obj.get("note", ""),
        "source": obj.get("deprecatedSource") or {},
        "firstTimestamp": obj.get("deprecatedFirstTimestamp"),
        "lastTimestamp": obj.get("deprecatedLastTimestamp"),
        "count": obj.get("deprecatedCount"),
        "reportingComponent": obj.get("reportingController"),
    }


def _event(obj: Object, now: dt.datetime) -> list[Cell]:
    event = _event_fields(obj)
    first = since(event.get("firstTimestamp") or event.get("eventTime"), now)
    last = since(event["lastTimestamp"], now) if event.get("lastTimestamp") else first
    count = event.get("count") or 1
    if series := event.get("series"):
        last = since(series.get("lastObservedTime"), now)
        count = series.get("count", 0)
    target = event.get("involvedObject") or {}
    source = event.get("source") or {}
    origin = [
        source.get("component") or event.get("reportingComponent") or "",
        source.get("host") or event.get("reportingInstance") or "",
    ]
    kind = str(target.get("kind", "")).lower()
    return [
        last,
        event.get("type", ""),
        event.get("reason", ""),
        f"{kind}/{target['name']}" if target.get("name") else kind,
        target.get("fieldPath", ""),
        ", ".join(origin) if origin[1] else origin[0],
        str(event.get("message", "")).strip(),
        first,
        count,
        name(obj),
    ]


def _lease(obj: Object, now: dt.datetime) -> list[Cell]:
    return [name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age(obj, now)]


def _priority_class(obj: Object, now: dt.datetime) -> list[Cell]:
    policy = obj.get("preemptionPolicy") or ""
    return [name(obj), obj.get("value", 0), bool(obj.get("globalDefault")), age(obj, now), policy]


def _runtime_class(obj: Object, now: dt.datetime) -> list[Cell]:
    return [name(obj), obj.get("handler", ""), age(obj, now)]


EVENT = Printer(
    (
        text("Last Seen", ".lastTimestamp"),
        text("Type", ".type"),
        text("Reason", ".reason"),
        text("Object", ".involvedObject"),
        text("Subobject", ".involvedObject.fieldPath", 1),
        text("Source", ".source", 1),
        text("Message", ".message"),
        text("First Seen", ".firstTimestamp", 1),
        text("Count", ".count", 1),
        Column("Name", "string", ".metadata.name", 1, "name"),
    ),
    _event,
)

PRINTERS = {
    ("", "Namespace"): Printer((NAME, text("Status", "The status of the namespace"), AGE), _namespace),
    ("", "ConfigMap"): Printer((NAME, text("Data", ".data"), AGE), _config_map),
    ("", "Secret"): Printer((NAME, text("Type", ".type"), text("Data", ".data"), AGE), _secret),
    ("", "ServiceAccount"): Printer((NAME, AGE), _age_only),
    ("", "Node"): Printer(
        (
            NAME,
            text("Status", "The status of the node"),
            text("Roles", "The roles of the node"),
            AGE,
            text("Version", ".status.nodeInfo.kubeletVersion"),
            text("Internal-IP", ".status.addresses", 1),
            text("External-IP", ".status.addresses", 1),
            text("OS-Image", ".status.nodeInfo.osImage", 1),
            text("Kernel-Version", ".status.nodeInfo.kernelVersion", 1),
            text("Container-Runtime", ".status.nodeInfo.containerRuntimeVersion", 1),
        ),
        _node,
    ),
    ("", "ResourceQuota"): Printer(
        (
            NAME,
            text("Request", "Request represents a minimum amount of cpu/memory that a container may consume."),
            text(
                "Limit",
                "Limits control the maximum amount of cpu/memory that a container may use independent of contention on "
                "the node.",
            ),
            AGE,
        ),
        _quota,
    ),
    ("", "Event"): EVENT,
    ("events.k8s.io", "Event"): EVENT,
    ("coordination.k8s.io", "Lease"): Printer((NAME, text("Holder", ".spec.holderIdentity"), AGE), _lease),
    ("scheduling.k8s.io", "PriorityClass"): Printer(
        (
            NAME,
            integer("Value", ".value"),
            boolean("Global-Default", ".globalDefault"),
            AGE,
            text("PreemptionPolicy", ".preemptionPolicy"),
        ),
        _priority_class,
    ),
    ("node.k8s.io", "RuntimeClass"): Printer((NAME, text("Handler", ".handler"), AGE), _runtime_class),
}
