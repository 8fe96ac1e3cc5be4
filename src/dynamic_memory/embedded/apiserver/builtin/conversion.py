# SPDX-License-Identifier: Apache-2.0
"""Conversion of builtin kinds that are served in several versions: to the stored one and back.

resource.k8s.io is stored as v1: v1beta2 differs in nothing, v1beta1 has the fields of a request beside its name and
the body of a device under `basic`. events.k8s.io is stored as events of the core group, autoscaling as v2. Nothing is
changed in place; what does not change is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver.resource import Resource

__all__ = ["convert"]

Object = dict[str, Any]

_EXACT: Final = (
    "deviceClassName",
    "selectors",
    "allocationMode",
    "count",
    "adminAccess",
    "tolerations",
    "capacity",
    "derivedAttributes",
)
_EVENT_NAMES: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_EVENT_NAMES_BACK: Final = {new: old for old, new in _EVENT_NAMES.items()}


def convert(resource: Resource) -> None:
    """Give a builtin resource its conversion, if its version is not the stored one."""
    if (resource.group, resource.version) == ("events.k8s.io", "v1"):
        resource.to_storage = lambda obj: _renamed(obj, _EVENT_NAMES_BACK, "v1")
        resource.from_storage = lambda obj: _renamed(obj, _EVENT_NAMES, "events.k8s.io/v1")
    elif resource.group == "autoscaling" and resource.version == "v1" and resource.kind == "HorizontalPodAutoscaler":
        resource.to_storage, resource.from_storage = _scaler_to_v2, _scaler_to_v1
    elif resource.group == "resource.k8s.io" and resource.version != "v1":
        up, down = _V1BETA1.get(resource.kind, (_same, _same)) if resource.version == "v1beta1" else (_same, _same)
        resource.to_storage = _versioned("resource.k8s.io/v1", up)
        resource.from_storage = _versioned(resource.api_version, down)


def _same(obj: Object) -> Object:
    return obj


def _versioned(api_version: str, change: Callable[[Object], Object]) -> Callable[[Object], Object]:
    return lambda obj: {**change(obj), "apiVersion": api_version}


def _renamed(obj: Object, names: Mapping[str, str], api_version: str) -> Object:
    return {**{names.get(name, name): value for name, value in obj.items()}, "apiVersion": api_version}


def _map_in(obj: Object, path: tuple[str, ...], change: Callable[[Any], Any]) -> Object:
    """Return the object with the value at a path changed; the object itself where there is none."""
    name, rest = path[0], path[1:]
    inner = obj.get(name)
    if inner is None:
        return obj
    return {**obj, name: _map_in(inner, rest, change) if rest else change(inner)}


def _each(change: Callable[[Object], Object]) -> Callable[[Any], Any]:
    return lambda items: (
        [change(item) if isinstance(item, dict) else item for item in items] if isinstance(items, list) else items
    )


def _request_up(request: Object) -> Object:
    exact = {name: request[name] for name in _EXACT if name in request}
    rest = {name: value for name, value in request.items() if name not in _EXACT}
    if request.get("firstAvailable") and not exact.get("deviceClassName"):
        return rest
    return {**rest, "exactly": exact}


def _request_down(request: Object) -> Object:
    rest = {name: value for name, value in request.items() if name != "exactly"}
    return {**rest, **(request.get("exactly") or {})}


def _device_up(device: Object) -> Object:
    rest = {name: value for name, value in device.items() if name != "basic"}
    return {**rest, **(device.get("basic") or {})}


def _device_down(device: Object) -> Object:
    return {"name": device.get("name", ""), "basic": {key: value for key, value in device.items() if key != "name"}}


def _at(path: tuple[str, ...], change: Callable[[Object], Object]) -> Callable[[Object], Object]:
    return lambda obj: _map_in(obj, path, _each(change))


_CLAIM: Final = ("spec", "devices", "requests")
_TEMPLATE: Final = ("spec", "spec", "devices", "requests")
_V1BETA1: Final[dict[str, tuple[Callable[[Object], Object], Callable[[Object], Object]]]] = {
    "ResourceClaim": (_at(_CLAIM, _request_up), _at(_CLAIM, _request_down)),
    "ResourceClaimTemplate": (_at(_TEMPLATE, _request_up), _at(_TEMPLATE, _request_down)),
    "ResourceSlice": (_at(("spec", "devices"), _device_up), _at(("spec", "devices"), _device_down)),
}


def _scaler_to_v2(obj: Object) -> Object:
    spec = dict(obj.get("spec") or {})
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    if percentage is not None:
        target = {"type": "Utilization", "averageUtilization": percentage}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    status = dict(obj.get("status") or {})
    current = status.pop("currentCPUUtilizationPercentage", None)
    if current is not None:
        value = {"averageUtilization": current, "averageValue": "0"}
        status["currentMetrics"] = [{"type": "Resource", "resource": {"name": "cpu", "current": value}}]
    made = {**obj, "apiVersion": "autoscaling/v2", "spec": spec}
    return {**made, "status": status} if "status" in obj else made


def _cpu(metrics: Any, part: str) -> int | None:
    for metric in metrics or ():
        named = metric.get("resource") or {}
        if named.get("name") == "cpu" and isinstance(used := (named.get(part) or {}).get("averageUtilization"), int):
            return used
    return None


def _scaler_to_v1(obj: Object) -> Object:
    spec = dict(obj.get("spec") or {})
    percentage = _cpu(spec.pop("metrics", None), "target")
    spec.pop("behavior", None)
    if percentage is not None:
        spec["targetCPUUtilizationPercentage"] = percentage
    made = {**obj, "apiVersion": "autoscaling/v1", "spec": spec}
    if "status" in obj:
        status = {name: value for name, value in obj["status"].items() if name not in ("currentMetrics", "conditions")}
        current = _cpu(obj["status"].get("currentMetrics"), "current")
        made["status"] = status if current is None else {**status, "currentCPUUtilizationPercentage": current}
    return made
