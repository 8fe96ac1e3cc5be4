# SPDX-License-Identifier: Apache-2.0
"""The service account of a pod, as the ServiceAccount plugin of the real API server sees to it.

The account has to exist, and its imagePullSecrets become those of the pod. Two things are different here: a pod gets no
token volume, and may name any account as long as its namespace has no `default` one, because then nobody makes accounts
there. (Priority and tolerations, which other plugins fill in, are the business of the kind.)

Source: plugin/pkg/admission/serviceaccount of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.core import AdmissionRequest
from dynamic_memory.embedded.apiserver.errors import forbidden
from dynamic_memory.embedded.apiserver.node_rights import mirrors, referred
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.store import Store

__all__ = ["Accounts", "mirror_fault"]

_ACCOUNTS = StorageKey("", "serviceaccounts")
_PODS = StorageKey("", "pods")


class Accounts:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def admit(self, request: AdmissionRequest, obj: Object) -> Object:
        """Return a pod with the secrets of its account; anything else as it is.

        Raises:
            StatusError: 403, there is no such account; a mirror pod refers to one, or to secrets.

        """
        if request.resource.storage != _PODS or request.operation != "CREATE" or request.subresource:
            return obj
        spec = obj.get("spec") or {}
        if mirrors(obj):
            if why := mirror_fault(obj):
                raise forbidden(request.resource, request.shown_name, why)
            return obj
        namespace, name = request.namespace, spec.get("serviceAccountName") or "default"
        found = self._store.get(_ACCOUNTS, (namespace, name))
        if found is None:
            if self._store.get(_ACCOUNTS, (namespace, "default")) is None:
                return obj
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden(request.resource, request.shown_name, why)
        secrets = found.object.get("imagePullSecrets")
        if not secrets or spec.get("imagePullSecrets"):
            return obj
        return {**obj, "spec": {**spec, "imagePullSecrets": secrets}}


def mirror_fault(pod: Mapping[str, Any]) -> str:
    """Return what a mirror pod must not refer to, whoever makes it; empty if it refers to none of that."""
    spec = pod.get("spec") or {}
    if spec.get("serviceAccountName"):
        return "a mirror pod may not reference service accounts"
    if any(referred(pod, "secrets")):
        return "a mirror pod may not reference secrets"
    sources = [
        each for volume in spec.get("volumes") or () for each in (volume.get("projected") or {}).get("sources") or ()
    ]
    if any("serviceAccountToken" in each for each in sources):
        return "a mirror pod may not use ServiceAccountToken volume projections"
    return ""
