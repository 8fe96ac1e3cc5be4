# SPDX-License-Identifier: Apache-2.0
"""Pods: defaults, what admission of a real cluster adds, and what may change of a pod that exists.

Source: `pkg/registry/core/pod` and `plugin/pkg/admission` (Priority, DefaultTolerationSeconds, ServiceAccount,
PodResize) of Kubernetes 1.37. No service account token is mounted: simulated containers have no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause, StatusError, forbidden
from dynamic_memory.embedded.apiserver.resource import Context, Strategy
from dynamic_memory.embedded.apiserver.schema import clone
from dynamic_memory.embedded.apiserver.strategies.podchanges import check_change, check_ephemeral, check_resize
from dynamic_memory.embedded.apiserver.strategies.podspec import check_pod_spec, default_pod_spec
from dynamic_memory.embedded.apiserver.strategies.resources import pod_requests, qos_class
from dynamic_memory.quantity import Quantity

__all__ = ["PodStrategy"]

TOLERATION_SECONDS: Final = 300
_TAINTS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_SYSTEM_PRIORITIES: Final = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_MIRROR: Final = "kubernetes.io/config.mirror"
_RESIZABLE: Final = ("cpu", "memory")

Object = dict[str, Any]


class PodStrategy(Strategy):
    """Pod."""

    asks_for_required = True

    def default(self, obj: Object) -> Object:
        """Fill in what depends on other fields."""
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return obj
        default_pod_spec(spec)
        if spec.get("terminationGracePeriodSeconds", 0) < 0:
            spec["terminationGracePeriodSeconds"] = 1
        spec.setdefault("enableServiceLinks", True)
        for kind in ("containers", "initContainers"):
            for container in spec.get(kind) or ():
                _request_limits(container)
                if spec.get("hostNetwork"):
                    for port in container.get("ports") or ():
                        if not port.get("hostPort"):
                            port["hostPort"] = port.get("containerPort", 0)
        return obj

    def admit(self, obj: Object, ctx: Context, subresource: str, old: Object | None) -> Object:
        """Add priority, tolerations and service account."""
        if subresource or not isinstance(obj.setdefault("spec", {}), dict):
            return obj
        spec = obj["spec"]
        _tolerate(spec)
        if old is not None:
            return obj
        _prioritize(obj, spec, ctx)
        # a kubelet's own pod has no account
        mirror = _MIRROR in (obj["metadata"].get("annotations") or {})
        if not spec.get("serviceAccountName") and not mirror:
            spec["serviceAccountName"] = spec["serviceAccount"] = "default"
        return obj

    def prepare_create(self, obj: Object, ctx: Context) -> Object:
        """Begin its status."""
        del ctx
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj.setdefault("spec", {}))}
        return obj

    def prepare_update(self, new: Object, old: Object, ctx: Context, subresource: str | None) -> Object:
        """Keep everything but the part that a subresource is about."""
        if subresource == "resize":
            new = _only_resources(new, old)
            _fits_node(new, old, ctx)
        elif subresource == "ephemeralcontainers":
            spec = clone(old.get("spec") or {})
            added = (new.get("spec") or {}).get("ephemeralContainers")
            if added is not None:
                spec["ephemeralContainers"] = added
            new = {**clone(old), "metadata": new["metadata"], "spec": spec}
        elif subresource == "status" and isinstance(new.get("status"), dict):
            quality = (old.get("status") or {}).get("qosClass")
            if quality and not new["status"].get("qosClass"):
                new["status"]["qosClass"] = quality
        return new

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check the spec."""
        spec = obj.get("spec") or {}
        causes = check_pod_spec(spec, "spec")
        if spec.get("ephemeralContainers"):
            text = "cannot be set on create"
            causes.append(fields.forbidden("spec.ephemeralContainers", text))
        return causes

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check that only what may change did."""
        if subresource == "binding":
            return []
        causes = _check_mirror(new, old)
        if subresource == "status":
            return causes + _check_status(new, old)
        spec = new.get("spec") or {}
        before = old.get("spec") or {}
        if spec == before:
            return causes
        causes += check_pod_spec(spec, "spec")
        if subresource == "resize":
            return causes + check_resize(new, old)
        if subresource == "ephemeralcontainers":
            return causes + list(check_ephemeral(spec, before))
        return causes + check_change(spec, before)

    def warnings(self, obj: Object) -> list[str]:
        """Warn of what the real server warns of most often."""
        spec = obj.get("spec") or {}
        found = []
        if "deviceClaims" in spec and not isinstance(spec["deviceClaims"], dict):
            found.append("spec.deviceClaims: a list of named claims is the prototype's earlier form")
        return found


def _request_limits(container: Object) -> None:
    resources = container.get("resources")
    if isinstance(resources, dict) and resources.get("limits"):
        requests = resources.setdefault("requests", {})
        for name, amount in resources["limits"].items():
            requests.setdefault(name, amount)


def _prioritize(obj: Object, spec: Object, ctx: Context) -> None:
    """Find the priority of the pod's class, as the Priority admission plugin does.

    Raises:
        StatusError: 403, there is no such class.

    """
    name = spec.get("priorityClassName") or ""
    value, policy = 0, "PreemptLowerPriority"
    if name in _SYSTEM_PRIORITIES:
        value = _SYSTEM_PRIORITIES[name]
    elif name:
        found = ctx.world.get("scheduling.k8s.io", "priorityclasses", "", name) if ctx.world is not None else None
        if found is None:
            raise _refused(obj, f"no PriorityClass with name {name} was found")
        value, policy = found.get("value", 0), found.get("preemptionPolicy", policy)
    elif ctx.world is not None:
        classes = [one for one in ctx.world.list("scheduling.k8s.io", "priorityclasses") if one.get("globalDefault")]
        if classes:
            lowest = min(classes, key=lambda one: one.get("value", 0))
            spec["priorityClassName"] = lowest["metadata"]["name"]
            value, policy = lowest.get("value", 0), lowest.get("preemptionPolicy", policy)
    if spec.get("priority") not in (None, value):
        text = (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority admission "
            f"controller computed {value} from the given PriorityClass name"
        )
        raise _refused(obj, text)
    spec["priority"] = value
    spec.setdefault("preemptionPolicy", policy)


class _Pods:
    group = ""
    plural = "pods"


def _refused(obj: Mapping[str, Any], why: str) -> StatusError:
    metadata = obj.get("metadata") or {}
    return forbidden(_Pods(), metadata.get("name") or metadata.get("generateName") or "Unknown", why)


def _tolerate(spec: Object) -> None:
    """Tolerate for five minutes nodes that are not ready or unreachable, unless the pod says otherwise."""
    tolerations = spec.get("tolerations") or []
    for taint in _TAINTS:
        known = any(
            (one.get("key") == taint or not one.get("key")) and one.get("effect") in (None, "", "NoExecute")
            for one in tolerations
        )
        if not known:
            made = {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS}
            tolerations = [*tolerations, made]
    spec["tolerations"] = tolerations


def _only_resources(new: Object, old: Object) -> Object:
    """Return the old pod with the new resources and resize policies of its containers."""
    kept = clone(old)
    spec, asked = kept.setdefault("spec", {}), new.get("spec") or {}
    for kind in ("containers", "initContainers"):
        mine, theirs = spec.get(kind) or [], asked.get(kind) or []
        if [one.get("name") for one in mine] != [one.get("name") for one in theirs]:
            spec[kind] = theirs
            continue
        for container, other in zip(mine, theirs, strict=True):
            for part in ("resources", "resizePolicy"):
                container.pop(part, None)
                if part in other:
                    container[part] = other[part]
    if "resources" in asked:
        spec["resources"] = asked["resources"]
    kept["metadata"] = {**old["metadata"], "managedFields": new["metadata"].get("managedFields")}
    if kept["metadata"]["managedFields"] is None:
        del kept["metadata"]["managedFields"]
    return kept  # type: ignore[no-any-return] # a clone of a dict


def _fits_node(new: Object, old: Object, ctx: Context) -> None:
    """Refuse a resize beyond what the pod's node can ever give.

    Raises:
        StatusError: 403 with cause NodeCapacity.

    """
    spec = new.get("spec") or {}
    node = spec.get("nodeName")
    if not node or ctx.world is None or spec == old.get("spec"):
        return
    found = ctx.world.get("", "nodes", "", node)
    if found is None:
        raise _refused(new, f'node "{node}" not found')
    allocatable = (found.get("status") or {}).get("allocatable") or {}
    short = []
    for name in _RESIZABLE:
        asked, there = pod_requests(spec, name), Quantity.parse(allocatable.get(name, "0"))
        if asked > there:
            one, other = (asked.milli_value(), there.milli_value()) if name == "cpu" else (asked.value(), there.value())
            short.append(f"{name}, requested: {one}, allocatable: {other}")
    if short:
        why = f"node didn't have enough allocatable resources: {'; '.join(short)}"
        causes = [Cause("NodeCapacity", "", "")]
        raise forbidden(_Pods(), new["metadata"].get("name", ""), why, causes=causes)


def _check_mirror(new: Object, old: Object) -> list[Cause]:
    """Check that a kubelet's own pod stays the one that it is, and other pods become none."""
    of, before = ((pod["metadata"].get("annotations") or {}).get(_MIRROR) for pod in (new, old))
    if of == before:
        return []
    return [fields.forbidden(f"metadata.annotations[{_MIRROR}]", "may not remove or update mirror pod annotation")]


def _check_status(new: Object, old: Object) -> list[Cause]:
    causes = []
    if (new.get("spec") or {}).get("nodeName", "") != (old.get("spec") or {}).get("nodeName", ""):
        node = (new.get("spec") or {}).get("nodeName", "")
        causes.append(fields.forbidden("status.nodeName", f'may not be changed directly: "{node}"'))
    claims = {claim.get("name") for claim in (new.get("spec") or {}).get("resourceClaims") or ()}
    for index, status in enumerate((new.get("status") or {}).get("resourceClaimStatuses") or ()):
        if status.get("name") not in claims:
            path = f"status.resourceClaimStatuses[{index}].name"
            text = "must match the name of an entry in `spec.resourceClaims`"
            causes.append(fields.invalid(path, status.get("name", ""), text))
    return causes
