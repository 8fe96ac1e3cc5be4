# SPDX-License-Identifier: Apache-2.0
"""Objects as the controllers read them: metadata typed, spec and status as they are on the wire.

A controller passes templates on whole, so it must not read them into types that know fewer fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import field

from dynamic_memory.api.meta import ObjectMeta
from dynamic_memory.api.wire import Kind, Wire

__all__ = [
    "CLAIMS",
    "DAEMON_SETS",
    "DEPLOYMENTS",
    "JOBS",
    "LEASES",
    "NODES",
    "PODS",
    "REPLICA_SETS",
    "SLICES",
    "STATEFUL_SETS",
    "TAINT_RULES",
    "TEMPLATES",
    "Object",
    "condition",
    "controller_of",
    "is_active",
    "is_available",
    "is_finished",
    "is_ready",
    "key_of",
    "owner_reference",
    "split",
    "with_condition",
]


class Object(Wire, frozen=True, kw_only=True):
    """Any object with spec and status; neither is ever changed in place."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


def _kind(group: str, kind: str, plural: str, *, namespaced: bool = True) -> Kind[Object]:
    return Kind(group=group, version="v1", kind=kind, plural=plural, namespaced=namespaced, type=Object)


PODS = _kind("", "Pod", "pods")
NODES = _kind("", "Node", "nodes", namespaced=False)
LEASES = _kind("coordination.k8s.io", "Lease", "leases")
REPLICA_SETS = _kind("apps", "ReplicaSet", "replicasets")
DEPLOYMENTS = _kind("apps", "Deployment", "deployments")
DAEMON_SETS = _kind("apps", "DaemonSet", "daemonsets")
STATEFUL_SETS = _kind("apps", "StatefulSet", "statefulsets")
JOBS = _kind("batch", "Job", "jobs")
CLAIMS = _kind("resource.k8s.io", "ResourceClaim", "resourceclaims")
TEMPLATES = _kind("resource.k8s.io", "ResourceClaimTemplate", "resourceclaimtemplates")
SLICES = _kind("resource.k8s.io", "ResourceSlice", "resourceslices", namespaced=False)
TAINT_RULES = _kind("resource.k8s.io", "DeviceTaintRule", "devicetaintrules", namespaced=False)


def key_of(obj: Object) -> str:
    """Return `namespace/name`."""
    return f"{obj.metadata.namespace}/{obj.metadata.name}"


def split(key: str) -> tuple[str, str]:
    """Return namespace and name of a key."""
    namespace, _, name = key.partition("/")
    return namespace, name


def controller_of(obj: Object) -> tuple[str, str, str] | None:
    """Return kind, name and UID of the object that manages this one."""
    for owner in obj.metadata.owner_references:
        if owner.controller:
            return owner.kind, owner.name, owner.uid
    return None


def owner_reference(kind: Kind[Object], obj: Object) -> dict[str, Any]:
    """Return the reference by which `obj` manages another object."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": obj.metadata.name,
        "uid": obj.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_finished(pod: Object) -> bool:
    """Tell whether the pod has ended."""
    return pod.status.get("phase") in {"Succeeded", "Failed"}


def is_active(pod: Object) -> bool:
    """Tell whether the pod runs or will run."""
    return not is_finished(pod) and pod.metadata.deletion_timestamp is None


def condition(obj: Object, type_: str) -> Mapping[str, Any]:
    """Return a condition of the status; empty if there is none of the type."""
    found: Iterable[Mapping[str, Any]] = obj.status.get("conditions") or ()
    return next((item for item in found if item.get("type") == type_), {})


def is_ready(pod: Object) -> bool:
    """Tell whether the pod is ready."""
    return condition(pod, "Ready").get("status") == "True"


def is_available(pod: Object, least: float, age: float) -> bool:
    """Tell whether the pod has been ready long enough.

    Args:
        pod: the pod.
        least: seconds that it must have been ready.
        age: seconds since it became ready.

    """
    return is_ready(pod) and (least <= 0 or age >= least)


def with_condition(  # noqa: PLR0917 - the fields of a condition, in order
    conditions: Iterable[Mapping[str, Any]], type_: str, status: str, reason: str, message: str, now: str
) -> list[dict[str, Any]]:
    """Return conditions with one stated; its transition time moves only when its status does."""
    kept = [dict(item) for item in conditions]
    stated = {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}
    for index, old in enumerate(kept):
        if old.get("type") == type_:
            if old.get("status") == status:
                stated["lastTransitionTime"] = old.get("lastTransitionTime", now)
            kept[index] = stated
            return kept
    return [*kept, stated]
