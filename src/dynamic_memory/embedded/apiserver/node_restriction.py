# SPDX-License-Identifier: Apache-2.0
"""What a kubelet may write, by the contents of the objects: else it could give itself the rights of others.

The rights of a kubelet follow from the pods on its node. So it makes mirror pods alone, which refer to nothing; changes
and ends pods of its node alone; gets tokens for pods of its node alone; and has slices, node object, lease and CSI
entry of its own name alone. Source: k8s.io/kubernetes, `plugin/pkg/admission/noderestriction/admission.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.core import Admission, AdmissionRequest
from dynamic_memory.embedded.apiserver.errors import forbidden
from dynamic_memory.embedded.apiserver.node_rights import mirrors, node_name, referred
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.resource import World

__all__ = ["NodeRestriction"]

NAMED = {("", "nodes"), ("coordination.k8s.io", "leases"), ("storage.k8s.io", "csinodes")}
REFERRED = ("secrets", "configmaps", "persistentvolumeclaims", "resourceclaims")


class NodeRestriction:
    """Admission with these rules in front of the policies.

    Args:
        inner: what admits writes otherwise.
        world: the stored objects.

    """

    def __init__(self, inner: Admission, world: World) -> None:
        self._inner = inner
        self._world = world

    async def mutate(self, request: AdmissionRequest) -> Object:
        """Leave changes to the policies."""
        return await self._inner.mutate(request)

    async def validate(self, request: AdmissionRequest) -> None:
        """Refuse what a kubelet may not write.

        Raises:
            StatusError: 403, or what the policies raise.

        """
        if (node := node_name(request.user)) and (why := self._refused(node, request)):
            raise forbidden(request.resource, request.name, why)
        await self._inner.validate(request)

    def _refused(self, node: str, request: AdmissionRequest) -> str:
        """Return why a kubelet may not write something, empty if it may."""
        what = (request.resource.group, request.resource.plural)
        if what == ("", "pods"):
            return self._pod(node, request)
        if what == ("", "serviceaccounts") and request.subresource == "token":
            return self._token(node, request)
        if what == ("resource.k8s.io", "resourceslices"):
            return _slice(node, request)
        if what in NAMED and request.operation == "CREATE" and request.name != node:
            return f"node {node!r} is not allowed to create {request.resource.plural} of other nodes"
        return ""

    def _pod(self, node: str, request: AdmissionRequest) -> str:
        if request.operation == "CREATE" and not request.subresource:
            return _mirror(node, request.object or {})
        if request.subresource == "eviction":
            pod: Mapping[str, Any] = self._world.get("", "pods", request.namespace, request.name) or {}
        else:
            pod = request.old_object or {}
        if _node(pod) != node:
            return f"node {node!r} can only change and end pods with spec.nodeName set to itself"
        return _status(node, request.object or {}, pod) if request.subresource == "status" else ""

    def _token(self, node: str, request: AdmissionRequest) -> str:
        reference = ((request.object or {}).get("spec") or {}).get("boundObjectRef") or {}
        name, uid = str(reference.get("name") or ""), str(reference.get("uid") or "")
        if reference.get("kind") != "Pod" or reference.get("apiVersion", "v1") != "v1" or not name:
            return f"node {node!r} requested a token that is not bound to a pod"
        pod = self._world.get("", "pods", request.namespace, name) or {}
        if not uid or not pod or pod["metadata"].get("uid") != uid:
            return f"node {node!r} requested a token bound to a pod without its uid, or with another one"
        if _node(pod) != node:
            return f"node {node!r} requested a token bound to a pod scheduled on a different node"
        if mirrors(pod) or (pod["spec"].get("serviceAccountName") or "default") != request.name:
            return f"node {node!r} requested a token of an account that the pod does not use"
        return ""


def _mirror(node: str, pod: Mapping[str, Any]) -> str:
    """Return why a kubelet may not make a pod, empty if it may."""
    if not mirrors(pod):
        return f"node {node!r} can only create mirror pods"
    if _node(pod) != node:
        return f"node {node!r} can only create pods with spec.nodeName set to itself"
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        return f"node {node!r} can not create pods that reference a service account"
    if spec.get("resourceClaims"):
        return f"node {node!r} can not create pods that reference resourceclaims"
    for plural in REFERRED:
        if any(referred(pod, plural)):
            return f"node {node!r} can not create pods that reference {plural}"
    return ""


def _status(node: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """Return why a kubelet may not write a pod's status, empty if it may."""
    if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        return f"node {node!r} cannot update labels through pod status"
    if mirrors(new) != mirrors(old):
        return f"node {node!r} cannot change what is a mirror pod"
    if _claims(new) != _claims(old):
        return f"node {node!r} cannot update resource claim statuses"
    return ""


def _slice(node: str, request: AdmissionRequest) -> str:
    for obj in (request.object, request.old_object):
        if obj is not None and _node(obj) != node:
            return f"node {node!r} can only write ResourceSlices with spec.nodeName set to itself"
    return ""


def _node(obj: Mapping[str, Any]) -> str:
    return str((obj.get("spec") or {}).get("nodeName") or "")


def _claims(pod: Mapping[str, Any]) -> Any:
    return (pod.get("status") or {}).get("resourceClaimStatuses") or []
