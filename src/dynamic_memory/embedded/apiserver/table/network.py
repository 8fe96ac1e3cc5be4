# SPDX-License-Identifier: Apache-2.0
"""Rows of the network: services, endpoints, ingresses, policies."""

from __future__ import annotations

import datetime as dt
from typing import Any

from dynamic_memory.embedded.apiserver.table.columns import (
    AGE,
    NAME,
    Cell,
    Printer,
    age,
    label_selector,
    labels,
    name,
    text,
)

__all__ = ["PRINTERS"]

Object = dict[str, Any]
SHOWN = 3  # entries of a list before "+ n more..."


def _parts(obj: Object) -> tuple[Object, Object]:
    return obj.get("spec") or {}, obj.get("status") or {}


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


PRINTERS = {
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
}
