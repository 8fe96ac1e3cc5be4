# SPDX-License-Identifier: Apache-2.0
"""Services: addresses and node ports are given out, and kept.

Source: `pkg/registry/core/service` and `ValidateService` of Kubernetes 1.37. One address family: IPv4.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import dns_label, dns_subdomain, validate_labels
from dynamic_memory.embedded.apiserver.resource import Context, Strategy

__all__ = ["ServiceStrategy"]

NETWORK: Final = ipaddress.IPv4Network("10.96.0.0/12")
NODE_PORTS: Final = range(30000, 32768)
FIRST: Final = 10
"""Addresses below are left for services that ask for one (the API server, DNS)."""
MAX_PORT: Final = 65535
_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_WITH_PORTS: Final = ("LoadBalancer", "NodePort")

Object = dict[str, Any]


class ServiceStrategy(Strategy):
    """Service."""

    asks_for_required = True

    def default(self, obj: Object) -> Object:
        """Fill in target ports and families."""
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return obj
        for port in spec.get("ports") or ():
            if port.get("targetPort") in (None, 0, ""):
                port["targetPort"] = port.get("port", 0)
        if spec.get("type") == "ExternalName":
            spec.pop("internalTrafficPolicy", None)
            return obj
        if spec.get("clusterIP") == "None" and not spec.get("selector"):
            spec.setdefault("ipFamilies", ["IPv4", "IPv6"])
            spec.setdefault("ipFamilyPolicy", "RequireDualStack")
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        if spec.get("type") in _WITH_PORTS:
            spec.setdefault("externalTrafficPolicy", "Cluster")
        if spec.get("type") == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        elif spec.get("clusterIPs") and not spec.get("clusterIP"):
            spec["clusterIP"] = spec["clusterIPs"][0]
        return obj

    def prepare_create(self, obj: Object, ctx: Context) -> Object:
        """Give it an address and node ports."""
        _allocate(obj, ctx)
        obj.setdefault("status", {"loadBalancer": {}})
        return obj

    def prepare_update(self, new: Object, old: Object, ctx: Context, subresource: str | None) -> Object:
        """Keep the address and ports that it has, unless it changes its type."""
        spec, before = new.get("spec"), old.get("spec") or {}
        if subresource is not None or not isinstance(spec, dict):
            return new
        if spec.get("type") != "ExternalName" and before.get("clusterIP") and not spec.get("clusterIP"):
            spec["clusterIP"], spec["clusterIPs"] = before["clusterIP"], list(before.get("clusterIPs") or ())
        known = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in before.get("ports") or ()}
        if spec.get("type") in _WITH_PORTS:
            for port in spec.get("ports") or ():
                kept = known.get((port.get("port"), port.get("protocol")))
                if not port.get("nodePort") and kept:
                    port["nodePort"] = kept
        _allocate(new, ctx)
        return new

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check the spec."""
        return list(_check(obj.get("spec") or {}))

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check the spec again, and that the address is as it was."""
        if subresource is not None:
            return []
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        causes = list(_check(spec))
        same_type = "ExternalName" not in (spec.get("type"), before.get("type"))
        if same_type and before.get("clusterIP") and spec.get("clusterIP") != before["clusterIP"]:
            text = "may not change once set"
            causes.append(fields.invalid("spec.clusterIPs[0]", spec.get("clusterIPs"), text))
        return causes


def _allocate(obj: Object, ctx: Context) -> None:
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    services = list(ctx.world.list("", "services")) if ctx.world is not None else []
    me = (obj["metadata"].get("namespace"), obj["metadata"].get("name"))
    others = [
        one["spec"]
        for one in services
        if (one["metadata"].get("namespace"), one["metadata"]["name"]) != me and one.get("spec")
    ]
    if spec.get("type") != "ExternalName" and not spec.get("clusterIP"):
        used = {address for other in others for address in other.get("clusterIPs") or ()}
        address = next((str(one) for one in _addresses() if str(one) not in used), "")
        if address:
            spec["clusterIP"], spec["clusterIPs"] = address, [address]
    if spec.get("type") in _WITH_PORTS and spec.get("allocateLoadBalancerNodePorts", True):
        taken = {port.get("nodePort") for other in others for port in other.get("ports") or ()}
        taken |= {port.get("nodePort") for port in spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            if not port.get("nodePort"):
                port["nodePort"] = next(number for number in NODE_PORTS if number not in taken)
                taken.add(port["nodePort"])


def _addresses() -> Iterable[ipaddress.IPv4Address]:
    first = int(NETWORK.network_address)
    return (ipaddress.IPv4Address(number) for number in range(first + FIRST, first + NETWORK.num_addresses - 1))


def _check(spec: Mapping[str, Any]) -> Iterable[Cause]:
    kind, ports = spec.get("type", ""), spec.get("ports") or []
    address = spec.get("clusterIP", "")
    if kind not in _TYPES:
        yield fields.not_supported("spec.type", kind, _TYPES) if kind else fields.required("spec.type")
    if not ports and address != "None" and kind != "ExternalName":
        yield fields.required("spec.ports")
    if kind == "ExternalName":
        name = spec.get("externalName", "")
        if not name:
            yield fields.required("spec.externalName")
        yield from (fields.invalid("spec.externalName", name, text) for text in dns_subdomain(name.rstrip(".")) if name)
    if kind in ("NodePort", "LoadBalancer") and address == "None":
        text = f"may not be set to 'None' for {kind} services"
        yield fields.invalid("spec.clusterIPs[0]", address, text)
    if address and address != "None":
        try:
            ipaddress.ip_address(address)
        except ValueError:
            text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            yield fields.invalid("spec.clusterIPs[0]", address, text)
    yield from validate_labels(spec.get("selector"), "spec.selector")
    affinity = spec.get("sessionAffinity", "")
    if affinity not in ("ClientIP", "None"):
        yield fields.not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    yield from _ports(ports, kind)


def _ports(ports: list[Mapping[str, Any]], kind: str) -> Iterable[Cause]:
    names: set[str] = set()
    seen: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        here, name = f"spec.ports[{index}]", port.get("name", "")
        if not name and len(ports) > 1:
            yield fields.required(f"{here}.name")
        elif name:
            yield from (fields.invalid(f"{here}.name", name, text) for text in dns_label(name))
            if name in names:
                yield fields.duplicate(f"{here}.name", name)
            names.add(name)
        number, target = port.get("port", 0), port.get("targetPort")
        if not 1 <= number <= MAX_PORT:
            yield fields.invalid(f"{here}.port", number, f"must be between 1 and {MAX_PORT}, inclusive")
        if isinstance(target, int) and not 1 <= target <= MAX_PORT:
            yield fields.invalid(f"{here}.targetPort", target, f"must be between 1 and {MAX_PORT}, inclusive")
        protocol = port.get("protocol", "")
        if protocol not in ("SCTP", "TCP", "UDP"):
            yield fields.not_supported(f"{here}.protocol", protocol, ("SCTP", "TCP", "UDP"))
        if port.get("nodePort") and kind not in _WITH_PORTS:
            text = "may not be used when `type` is 'ClusterIP'"
            yield fields.forbidden(f"{here}.nodePort", text)
        if (number, protocol) in seen:
            yield fields.duplicate(here, {"port": number, "protocol": protocol})
        seen.add((number, protocol))
