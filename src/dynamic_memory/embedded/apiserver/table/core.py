# SPDX-License-Identifier: Apache-2.0
"""Rows of the core group and of what belongs to it: nodes, services, configuration, quotas, storage, events, leases."""

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
    label_selector,
    labels,
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


def _ingress_points(status: Object) -> str:
    points = (status.get("loadBalancer") or {}).get("ingress") or []
    return ",".join(sorted({str(p.get("ip") or p.get("hostname")) for p in points if p.get("ip") or p.get("hostname")}))


def _external(spec: Object, status: Object) -> str:
    external = ",".join(spec.get("externalIPs") or [])
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return external or "<none>"
        case "LoadBalancer":
            return ",".join(part for part in (_ingress_points(status), external) if part) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
    return "<unknown>"


def _port(port: Object) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node}/{port.get('protocol', '')}"


def _service(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    return [
        name(obj),
        spec.get("type", ""),
        (spec.get("clusterIPs") or ["<none>"])[0],
        _external(spec, status),
        ",".join(_port(port) for port in spec.get("ports") or []) or "<none>",
        age(obj, now),
        labels(spec.get("selector")),
    ]


def _some(entries: list[str]) -> str:
    shown = ",".join(entries[:SHOWN])
    return f"{shown} + {len(entries) - SHOWN} more..." if len(entries) > SHOWN else shown


def _join(address: str, port: object) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _endpoints(obj: Object, now: dt.datetime) -> list[Cell]:
    found = []
    for subset in obj.get("subsets") or []:
        addresses = [str(a.get("ip", "")) for a in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        found += addresses if not ports else [_join(a, p.get("port", 0)) for p in ports for a in addresses]
    return [name(obj), _some(found) if obj.get("subsets") else "<none>", age(obj, now)]


def _endpoint_slice(obj: Object, now: dt.datetime) -> list[Cell]:
    ports = [str(p.get("port") if p.get("port") is not None else p.get("name", "*")) for p in obj.get("ports") or []]
    addresses = [str(a) for e in obj.get("endpoints") or [] for a in e.get("addresses") or []]
    return [
        name(obj),
        obj.get("addressType", ""),
        _some(ports) or "<unset>",
        _some(addresses) or "<unset>",
        age(obj, now),
    ]


def _ingress(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    rules = spec.get("rules") or []
    hosts = [str(rule["host"]) for rule in rules[:SHOWN] if rule.get("host")]
    shown = ",".join(hosts) or "*"
    if hosts and len(rules) > SHOWN:
        shown += f" + {len(rules) - SHOWN} more..."
    ports = "80, 443" if spec.get("tls") else "80"
    return [name(obj), spec.get("ingressClassName") or "<none>", shown, _ingress_points(status), ports, age(obj, now)]


def _network_policy(obj: Object, now: dt.datetime) -> list[Cell]:
    return [name(obj), label_selector((obj.get("spec") or {}).get("podSelector")), age(obj, now)]


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


def _access_modes(modes: list[str] | None) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return ",".join(shown for mode, shown in short.items() if mode in (modes or []))


def _phase(obj: Object, status: Object) -> str:
    return "Terminating" if obj.get("metadata", {}).get("deletionTimestamp") else str(status.get("phase", ""))


def _storage_class_name(obj: Object, spec: Object) -> str:
    beta = (obj.get("metadata", {}).get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    return str(beta if beta is not None else spec.get("storageClassName") or "")


def _volume_claim(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    bound = bool(spec.get("volumeName"))
    return [
        name(obj),
        _phase(obj, status),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "0") if bound else "",
        _access_modes(status.get("accessModes")) if bound else "",
        _storage_class_name(obj, spec),
        spec.get("volumeAttributesClassName") or "<unset>",
        age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


def _volume(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    claim = spec.get("claimRef")
    return [
        name(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        _access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj, status),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _storage_class_name(obj, spec),
        spec.get("volumeAttributesClassName") or "<unset>",
        status.get("reason", ""),
        age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


def _storage_class(obj: Object, now: dt.datetime) -> list[Cell]:
    annotations = obj.get("metadata", {}).get("annotations") or {}
    default = annotations.get("storageclass.kubernetes.io/is-default-class") == "true"
    return [
        f"{name(obj)} (default)" if default else name(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


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
    ("", "Service"): Printer(
        (
            NAME,
            text("Type", ".spec.type"),
            text("Cluster-IP", ".spec.clusterIP"),
            text("External-IP", ".spec.externalIPs"),
            text("Port(s)", ".spec.ports"),
            AGE,
            text("Selector", ".spec.selector", 1),
        ),
        _service,
    ),
    ("", "Endpoints"): Printer((NAME, text("Endpoints", ".subsets"), AGE), _endpoints),
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
    ("", "PersistentVolumeClaim"): Printer(
        (
            NAME,
            text("Status", ".status.phase"),
            text("Volume", ".spec.volumeName"),
            text("Capacity", ".status.capacity"),
            text("Access Modes", ".status.accessModes"),
            text("StorageClass", "StorageClass of the pvc"),
            text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
            AGE,
            text("VolumeMode", ".spec.volumeMode", 1),
        ),
        _volume_claim,
    ),
    ("", "PersistentVolume"): Printer(
        (
            NAME,
            text("Capacity", ".spec.capacity"),
            text("Access Modes", ".spec.accessModes"),
            text("Reclaim Policy", ".spec.persistentVolumeReclaimPolicy"),
            text("Status", ".status.phase"),
            text("Claim", ".spec.claimRef"),
            text("StorageClass", "StorageClass of the pv"),
            text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
            text("Reason", ".status.reason"),
            AGE,
            text("VolumeMode", ".spec.volumeMode", 1),
        ),
        _volume,
    ),
    ("storage.k8s.io", "StorageClass"): Printer(
        (
            NAME,
            text("Provisioner", ".provisioner"),
            text("ReclaimPolicy", ".reclaimPolicy"),
            text("VolumeBindingMode", ".volumeBindingMode"),
            text("AllowVolumeExpansion", ".allowVolumeExpansion"),
            AGE,
        ),
        _storage_class,
    ),
    ("", "Event"): EVENT,
    ("events.k8s.io", "Event"): EVENT,
    ("coordination.k8s.io", "Lease"): Printer((NAME, text("Holder", ".spec.holderIdentity"), AGE), _lease),
    ("discovery.k8s.io", "EndpointSlice"): Printer(
        (NAME, text("AddressType", ".addressType"), text("Ports", ".ports"), text("Endpoints", ".endpoints"), AGE),
        _endpoint_slice,
    ),
    ("networking.k8s.io", "Ingress"): Printer(
        (
            NAME,
            text("Class", "The name of the IngressClass resource that should be used for additional configuration"),
            text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
            text("Address", "Address is a list containing ingress points for the load-balancer"),
            text("Ports", "Ports of TLS configurations that open"),
            AGE,
        ),
        _ingress,
    ),
    ("networking.k8s.io", "NetworkPolicy"): Printer(
        (NAME, text("Pod-Selector", ".spec.podSelector"), AGE), _network_policy
    ),
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
