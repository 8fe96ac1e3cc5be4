# SPDX-License-Identifier: Apache-2.0
"""What plugins of the real API server fill in, as far as users see it: account, tolerations and priority of pods.

Left out, and so not seen here: the token volume of each pod, TaintNodesByCondition, LimitRanger, ResourceQuota. A pod
may name a service account that does not exist as long as its namespace has no `default` one: nobody makes accounts
there.

Source: plugin/pkg/admission/{serviceaccount,defaulttolerationseconds,priority} of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.core import AdmissionRequest
from dynamic_memory.embedded.apiserver.errors import StatusError, forbidden
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.store import Store

__all__ = ["PodDefaults"]

_ACCOUNTS = StorageKey("", "serviceaccounts")
_CLASSES = StorageKey("scheduling.k8s.io", "priorityclasses")
_SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_SECONDS = 300
_MIRROR = "kubernetes.io/config.mirror"


class PodDefaults:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def fill(self, request: AdmissionRequest, obj: Object) -> Object:
        """Return the object with what is missing; the same one if nothing is.

        Raises:
            StatusError: 403, account or priority class do not exist, or the priority is not that of the class.

        """
        resource = request.resource
        if resource.plural != "pods" or resource.group or request.subresource or not isinstance(obj.get("spec"), dict):
            return obj
        spec = dict(obj["spec"])
        if request.operation == "CREATE":
            if _MIRROR not in (obj["metadata"].get("annotations") or {}):
                self._account(request, spec)
            self._priority(request, spec)
        else:
            old = (request.old_object or {}).get("spec") or {}
            for name in ("priority", "preemptionPolicy"):
                if spec.get(name) is None and name in old:
                    spec[name] = old[name]
        _tolerate(spec)
        return obj if spec == obj["spec"] else {**obj, "spec": spec}

    def _account(self, request: AdmissionRequest, spec: dict[str, Any]) -> None:
        namespace = request.namespace
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        found = self._store.get(_ACCOUNTS, (namespace, name))
        if found is not None:
            secrets = found.object.get("imagePullSecrets")
            if secrets and not spec.get("imagePullSecrets"):
                spec["imagePullSecrets"] = secrets
        elif self._store.get(_ACCOUNTS, (namespace, "default")) is not None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise _refused(request, why)

    def _priority(self, request: AdmissionRequest, spec: dict[str, Any]) -> None:
        name, value, preemption = self._class(request, spec.get("priorityClassName") or "")
        if name:
            spec["priorityClassName"] = name
        given = spec.get("priority")
        if given is not None and given != value:
            raise _refused(
                request,
                f"the integer value of priority ({given}) must not be provided in pod spec; priority admission "
                f"controller computed {value} from the given PriorityClass name",
            )
        given = spec.get("preemptionPolicy")
        if given is not None and given != preemption:
            raise _refused(
                request,
                f"the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission "
                f"controller computed {preemption} from the given PriorityClass name",
            )
        spec["priority"], spec["preemptionPolicy"] = value, preemption

    def _class(self, request: AdmissionRequest, name: str) -> tuple[str, int, str]:
        """Return name, value and preemption policy of the class that a pod names, or of the default one."""
        found: Mapping[str, Any] | None = None
        if name:
            record = self._store.get(_CLASSES, ("", name))
            if record is not None:
                found = record.object
            elif name in _SYSTEM_CLASSES:
                return name, _SYSTEM_CLASSES[name], "PreemptLowerPriority"
            else:
                raise _refused(request, f"no PriorityClass with name {name} was found")
        else:
            marked = [r.object for r in self._store.everything(_CLASSES) if r.object.get("globalDefault")]
            found = min(marked, key=_value, default=None)
        if found is None:
            return "", 0, "PreemptLowerPriority"
        return found["metadata"]["name"], _value(found), found.get("preemptionPolicy") or "PreemptLowerPriority"


def _value(found: Mapping[str, Any]) -> int:
    return int(found.get("value") or 0)


def _tolerate(spec: dict[str, Any]) -> None:
    """Have a pod leave a node that is lost after five minutes, unless it says otherwise."""
    there = spec.get("tolerations") or []
    missing = [
        taint
        for taint in _TAINTS
        if not any((t.get("key") or taint) == taint and (t.get("effect") or "NoExecute") == "NoExecute" for t in there)
    ]
    if missing:
        added = [
            {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _SECONDS}
            for taint in missing
        ]
        spec["tolerations"] = [*there, *added]


def _refused(request: AdmissionRequest, why: str) -> StatusError:
    metadata = (request.object or {}).get("metadata") or {}
    name = request.name or str(metadata.get("name") or metadata.get("generateName") or "Unknown")
    return forbidden(request.resource, name, why)
