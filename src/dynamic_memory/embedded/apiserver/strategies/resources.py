# SPDX-License-Identifier: Apache-2.0
"""Requests and limits of containers and pods: validation, sums, and the QoS class that follows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import dns_label, label_key
from dynamic_memory.embedded.apiserver.strategies.checks import is_extended_resource
from dynamic_memory.quantity import Quantity

__all__ = ["check_requirements", "pod_requests", "qos_class", "resource_name"]

ZERO: Final = Quantity(0)
_CONTAINER: Final = ("cpu", "memory", "ephemeral-storage")
_STANDARD: Final = (
    *_CONTAINER,
    "storage",
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
)
_COMPUTE: Final = ("cpu", "memory")
_HUGE: Final = "hugepages-"


def _is_native(name: str) -> bool:
    domain, slash, _ = name.partition("/")
    return not slash or domain == "kubernetes.io" or domain.endswith(".kubernetes.io")


def _overcommit(name: str) -> bool:
    return _is_native(name) and not name.startswith(_HUGE)


def resource_name(name: str, path: str) -> list[Cause]:
    """Check the name of a resource of a container."""
    causes = [fields.invalid(path, name, text) for text in label_key(name)]
    if causes:
        return causes
    if "/" not in name:
        known = name in _CONTAINER or name.startswith(_HUGE)
        if name not in _STANDARD and not known and not name.startswith("requests."):
            causes.append(fields.invalid(path, name, "must be a standard resource type or fully qualified"))
        if not known:
            causes.append(fields.invalid(path, name, "must be a standard resource for containers"))
    elif not _is_native(name) and not is_extended_resource(name):
        causes.append(fields.invalid(path, name, "doesn't follow extended resource name standard"))
    return causes


def _amount(name: str, amount: Quantity, path: str) -> list[Cause]:
    causes = []
    if amount < ZERO:
        causes.append(fields.invalid(path, str(amount), "must be greater than or equal to 0"))
    if not _is_native(name) and amount.milli_value() % 1000:
        causes.append(fields.invalid(path, str(amount), "must be an integer"))
    return causes


def check_requirements(requirements: Mapping[str, Any], path: str, claims: set[str]) -> list[Cause]:
    """Check requests, limits and claims of a container.

    Args:
        requirements: `resources` of the container.
        path: of it.
        claims: names of the pod's resourceClaims.

    """
    causes: list[Cause] = []
    limits = {name: Quantity.parse(value) for name, value in (requirements.get("limits") or {}).items()}
    requests = {name: Quantity.parse(value) for name, value in (requirements.get("requests") or {}).items()}
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            here = fields.key(f"{path}.{part}", name)
            causes += resource_name(name, here)
            causes += _amount(name, amount, here)
    causes += _within(requests, limits, path)
    named = limits.keys() | requests.keys()
    if any(name.startswith(_HUGE) for name in named) and not named.intersection(_COMPUTE):
        causes.append(fields.forbidden(path, "HugePages require cpu or memory"))
    return causes + list(_claims(requirements.get("claims") or [], claims, f"{path}.claims"))


def _within(requests: Mapping[str, Quantity], limits: Mapping[str, Quantity], path: str) -> Iterable[Cause]:
    for name, amount in requests.items():
        limit = limits.get(name)
        if limit is None:
            if not _overcommit(name):
                text = "Limit must be set for non overcommitable resources"
                yield fields.required(f"{path}.limits", text)
        elif amount != limit and not _overcommit(name):
            yield fields.invalid(f"{path}.requests", str(amount), f"must be equal to {name} limit of {limit}")
        elif amount > limit:
            text = f"must be less than or equal to {name} limit of {limit}"
            yield fields.invalid(f"{path}.requests", str(amount), text)


def _claims(entries: list[Mapping[str, Any]], known: set[str], path: str) -> Iterable[Cause]:
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        here = fields.at(path, index)
        name, request = entry.get("name", ""), entry.get("request", "")
        if not name:
            yield fields.required(here)
            continue
        key = f"{name}/{request}" if request else name
        if request:
            yield from (fields.invalid(f"{here}.request", request, text) for text in dns_label(request))
        if name in seen or key in seen or (not request and any(one.startswith(f"{name}/") for one in seen)):
            yield fields.duplicate(here, key)
        seen.add(key)
        if name not in known:
            names = f": {', '.join(sorted(known))}" if known else " which is empty"
            said = fields.not_found(here, name)
            text = f"{said.message}: must be one of the names in pod.spec.resourceClaims{names}"
            yield Cause(said.reason, text, said.field)


def qos_class(spec: Mapping[str, Any]) -> str:
    """Return the QoS class of a pod: Guaranteed, Burstable or BestEffort."""
    whole = spec.get("resources")
    if whole and (whole.get("requests") or whole.get("limits")):
        return _quality(whole)
    found = {
        _quality(container.get("resources") or {})
        for kind in ("initContainers", "containers")
        for container in spec.get(kind) or ()
    }
    if not found:
        return "BestEffort"
    return found.pop() if len(found) == 1 else "Burstable"


def _quality(requirements: Mapping[str, Any]) -> str:
    limits, requests = (
        {
            name: amount
            for name, value in (requirements.get(part) or {}).items()
            if name in _COMPUTE and (amount := Quantity.parse(value)) > ZERO
        }
        for part in ("limits", "requests")
    )
    if not limits and not requests:
        return "BestEffort"
    if len(limits) == len(_COMPUTE) and all(limits.get(name) == amount for name, amount in requests.items()):
        return "Guaranteed"
    return "Burstable"


def pod_requests(spec: Mapping[str, Any], name: str) -> Quantity:
    """Return how much of a resource a pod asks for: its containers together, or the largest init container."""
    whole = ((spec.get("resources") or {}).get("requests") or {}).get(name)
    if whole is not None:
        return Quantity.parse(whole)

    def asked(container: Mapping[str, Any]) -> Quantity:
        return Quantity.parse(((container.get("resources") or {}).get("requests") or {}).get(name, "0"))

    total = sum(map(asked, spec.get("containers") or ()), ZERO)
    largest, sidecars = ZERO, ZERO
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars = sidecars + asked(container)
            largest = max(largest, sidecars)
        else:
            largest = max(largest, sidecars + asked(container))
    overhead = Quantity.parse((spec.get("overhead") or {}).get(name, "0"))
    return max(total + sidecars, largest) + overhead
