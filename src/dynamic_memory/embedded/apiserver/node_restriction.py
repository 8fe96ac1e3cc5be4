# SPDX-License-Identifier: Apache-2.0
"""What a kubelet may write, by the contents of the objects: else it could give itself the rights of others.

The rights of a kubelet follow from the pods on its node, and pods follow labels and taints. So it makes mirror pods
alone, which refer to nothing; ends pods of its node alone, and changes nothing of them but their status; gets tokens
for pods of its node alone; has slices, node object, lease and CSI entry of its own name alone; and gives its node no
labels that pods are steered by (`node_labels`), and no other taints.

The rules and their words are those of NodeRestriction. Source: k8s.io/kubernetes,
`plugin/pkg/admission/noderestriction/admission.go`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Protocol

from dynamic_memory.embedded.apiserver.admission.accounts import mirror_fault
from dynamic_memory.embedded.apiserver.core import Admission, AdmissionRequest
from dynamic_memory.embedded.apiserver.errors import StatusError, forbidden
from dynamic_memory.embedded.apiserver.node_labels import forbidden_labels
from dynamic_memory.embedded.apiserver.node_rights import MIRROR, mirrors, node_name, referred
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.resource import World

__all__ = ["NodeRestriction"]

LEASES = "kube-node-lease"
UNWRITTEN = frozenset({"eviction", "token"})
"""Subresources whose bodies are not stored, and are not given to policies to change."""
AUDIENCE = "request-serviceaccounts-token-audience"
PEM = b"-----BEGIN CERTIFICATE REQUEST-----"
SIGNERS = frozenset({"kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"})
VOLUME_STATUS = ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")


class Rights(Protocol):
    """Says who may do what."""

    def authorize(self, user: UserInfo, verb: str, *, resource: str, namespace: str, name: str) -> str | None:
        """Return None if it is allowed, else why it is not."""


class NodeRestriction:
    """Admission with these rules in front of the policies.

    Args:
        inner: what admits writes otherwise.
        world: the stored objects.
        rights: of users, for audiences that no volume of a pod names.

    """

    def __init__(self, inner: Admission, world: World, rights: Rights) -> None:
        self._inner = inner
        self._world = world
        self._rights = rights

    async def mutate(self, request: AdmissionRequest) -> Object:
        """Refuse what a kubelet may not write, as it came: what policies make of it is not the kubelet's doing.

        Raises:
            StatusError: 403, 404, or what the policies raise.

        """
        self._check(request)
        return await self._inner.mutate(request)

    async def validate(self, request: AdmissionRequest) -> None:
        """Refuse what a kubelet may not do without writing an object.

        Raises:
            StatusError: 403, 404, or what the policies raise.

        """
        if request.operation == "DELETE" or request.subresource in UNWRITTEN:
            self._check(request)
        await self._inner.validate(request)

    def _check(self, request: AdmissionRequest) -> None:
        node = node_name(request.user)
        if node is None:
            return
        why = self._refused(node, request) if node else f'could not determine node from user "{request.user.name}"'
        if why:
            raise forbidden(request.resource, request.shown_name, why)

    def _refused(self, node: str, request: AdmissionRequest) -> str:  # noqa: PLR0911 - one for each kind
        """Return why a kubelet may not write something, empty if it may."""
        match (request.resource.group, request.resource.plural):
            case ("", "pods"):
                return self._pod(node, request)
            case ("", "nodes"):
                return _own_node(node, request)
            case ("", "persistentvolumeclaims"):
                return _volume_claim(node, request)
            case ("", "serviceaccounts") if request.subresource == "token":
                return self._token(node, request)
            case ("coordination.k8s.io", "leases"):
                return _lease(node, request)
            case ("storage.k8s.io", "csinodes") if request.name != node:
                return "can only access CSINode with the same name as the requesting node"
            case ("resource.k8s.io", "resourceslices") if request.operation != "UPDATE":
                return _slice(node, request)
            case ("certificates.k8s.io", "certificatesigningrequests") if request.operation == "CREATE":
                return _certificate(node, request.object or {})
        return ""

    # --- pods

    def _pod(self, node: str, request: AdmissionRequest) -> str:
        sub, operation = request.subresource, request.operation
        if sub == "status":
            return _pod_status(node, request.object or {}, request.old_object or {})
        if sub == "eviction":
            pod = self._found("pods", request.namespace, request.name)
            return "" if _node(pod) == node else f"node {node} can only evict pods with spec.nodeName set to itself"
        if sub:
            return f"unexpected pod subresource \"{sub}\", only 'status' and 'eviction' are allowed"
        if operation == "CREATE":
            return self._mirror(node, request.object or {})
        if operation == "DELETE":
            own = _node(request.old_object or {}) == node
            return "" if own else f'node "{node}" can only delete pods with spec.nodeName set to itself'
        return f'unexpected operation "{operation}", node "{node}" can only create and delete mirror pods'

    def _mirror(self, node: str, pod: Mapping[str, Any]) -> str:
        """Return why a kubelet may not make a pod, empty if it may."""
        if not mirrors(pod):
            return f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
        if why := mirror_fault(pod):
            return why
        if _node(pod) != node:
            return f'node "{node}" can only create pods with spec.nodeName set to itself'
        return self._owner(node, pod["metadata"].get("ownerReferences") or []) or _references(node, pod)

    def _owner(self, node: str, owners: list[Mapping[str, Any]]) -> str:
        """Return why a mirror pod may not have these owners, empty if it may: it is owned by its node alone."""
        can = f'node "{node}" can only create pods with'
        if len(owners) > 1:
            return f"{can} a single owner reference set to itself"
        owner = owners[0] if owners else {}
        if [owner.get(key) for key in ("apiVersion", "kind", "name")] != ["v1", "Node", node]:
            return f"{can} an owner reference set to itself"
        if not owner.get("controller"):
            return f"{can} a controller owner reference set to itself"
        if owner.get("blockOwnerDeletion"):
            return f'node "{node}" must not set blockOwnerDeletion on an owner reference'
        uid = self._found("nodes", "", node)["metadata"].get("uid")
        return "" if owner.get("uid") == uid else f"node {node} UID mismatch: expected {owner.get('uid')} got {uid}"

    # --- tokens

    def _token(self, node: str, request: AdmissionRequest) -> str:
        spec = (request.object or {}).get("spec") or {}
        reference = spec.get("boundObjectRef") or {}
        name, uid = str(reference.get("name") or ""), str(reference.get("uid") or "")
        if reference.get("kind") != "Pod" or reference.get("apiVersion") != "v1" or not name:
            return "node requested token not bound to a pod"
        if not uid:
            return "node requested token with a pod binding without a uid"
        pod = self._found("pods", request.namespace, name)
        if pod["metadata"].get("uid") != uid:
            return (
                f"the UID in the bound object reference ({uid}) does not match the UID in record. The object might "
                "have been deleted and then recreated"
            )
        if _node(pod) != node:
            return "node requested token bound to a pod scheduled on a different node"
        return self._audience(spec.get("audiences") or [], pod, request)

    def _audience(self, audiences: list[str], pod: Mapping[str, Any], request: AdmissionRequest) -> str:
        """Return why a token may not be meant for somebody, empty if it may.

        The audience that is meant when none is named is allowed: pods here have no volume that names it.
        """
        if len(audiences) > 1:
            return "node may only request 0 or 1 audiences"
        if not audiences or audiences[0] in _audiences(pod):
            return ""
        audience, user = audiences[0], request.user
        where = {"namespace": request.namespace, "name": request.name}
        if self._rights.authorize(user, AUDIENCE, resource=audience, **where) is None:
            return ""
        return f'{user.name} is not authorized to request tokens for audience "{audience}"'

    def _found(self, plural: str, namespace: str, name: str) -> Mapping[str, Any]:
        """Return an object.

        Raises:
            StatusError: 404.

        """
        obj = self._world.get("", plural, namespace, name)
        if obj is None:
            kind = plural.removesuffix("s")  # as listers of the real server call it
            raise StatusError(404, "NotFound", f'{kind} "{name}" not found', kind=kind, name=name)
        return obj


def _references(node: str, pod: Mapping[str, Any]) -> str:
    """Return which object a mirror pod refers to that one of a kubelet must not, empty if it refers to none."""
    refers = f'node "{node}" can not create pods that reference'
    if any(referred(pod, "configmaps")):
        return f"{refers} configmaps"
    volumes = pod["spec"].get("volumes") or ()
    if any(source.get("clusterTrustBundle") for source in _sources(volumes)):
        return f"{refers} clustertrustbundles"
    if any(volume.get("persistentVolumeClaim") is not None for volume in volumes):
        return f"{refers} persistentvolumeclaims"
    return f"{refers} resourceclaims" if pod["spec"].get("resourceClaims") else ""


def _pod_status(node: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """Return why a kubelet may not write a pod's status, empty if it may."""
    if _node(old) != node:
        what = "pod status for pods with spec.nodeName set to itself"
        return f'node "{node}" can only update {what}'
    if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        return f'node "{node}" cannot update labels through pod status'
    if _claims(new) != _claims(old):
        return f'node "{node}" cannot update resource claim statues'
    key = "extendedResourceClaimStatus"
    if (new.get("status") or {}).get(key) != (old.get("status") or {}).get(key):
        return f'node "{node}" cannot update extended resource claim status'
    return ""


def _own_node(node: str, request: AdmissionRequest) -> str:  # noqa: PLR0911 - one for each rule
    """Return why a kubelet may not write a Node object, empty if it may."""
    if request.name != node:
        return f'node "{node}" is not allowed to modify node "{request.name}"'
    if request.object is None:
        return ""
    new, old = request.object, request.old_object
    source = (new.get("spec") or {}).get("configSource")
    if old is None:
        if source is not None:
            return f'node "{node}" is not allowed to create pods with a non-nil configSource'
        found = forbidden_labels(_labels(new), {})
        return f'node "{node}" is not allowed to set the following labels: {", ".join(found)}' if found else ""
    before = old.get("spec") or {}
    if source is not None and source != before.get("configSource"):
        return f'node "{node}" is not allowed to update configSource to a new non-nil configSource'
    if ((new.get("spec") or {}).get("taints") or []) != (before.get("taints") or []):
        return f'node "{node}" is not allowed to modify taints'
    if (new["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
        return f'node "{node}" is not allowed to modify ownerReferences'
    found = forbidden_labels(_labels(new), _labels(old))
    return f"is not allowed to modify labels: {', '.join(found)}" if found else ""


def _volume_claim(node: str, request: AdmissionRequest) -> str:
    if request.subresource != "status":
        return "may only update PVC status"
    if _stripped(request.object or {}) != _stripped(request.old_object or {}):
        return f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions'
    return ""


def _stripped(claim: Mapping[str, Any]) -> dict[str, Any]:
    """Return a volume claim without what a kubelet may write, or what changes with every write."""
    metadata = {
        key: value for key, value in claim["metadata"].items() if key not in {"resourceVersion", "managedFields"}
    }
    status = {key: value for key, value in (claim.get("status") or {}).items() if key not in VOLUME_STATUS}
    return {**claim, "metadata": metadata, "status": status}


def _lease(node: str, request: AdmissionRequest) -> str:
    if request.namespace != LEASES:
        return f'can only access leases in the "{LEASES}" system namespace'
    own = request.name == node
    return "" if own else "can only access node lease with the same name as the requesting node"


def _slice(node: str, request: AdmissionRequest) -> str:
    """Return why a kubelet may not make or delete a slice, empty if it may; a slice stays with its node."""
    if _node(request.object or request.old_object or {}) == node:
        return ""
    return f"can only {request.operation.lower()} ResourceSlice with the same NodeName as the requesting node"


def _certificate(node: str, obj: Mapping[str, Any]) -> str:
    """Return why a kubelet may not ask for a certificate, empty if it may: one of a node is for itself alone."""
    spec = obj.get("spec") or {}
    if spec.get("signerName") not in SIGNERS:
        return ""
    from cryptography import x509  # noqa: PLC0415 - 12 MB, and few ask
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    try:
        text = base64.b64decode(str(spec.get("request") or ""))
        if PEM not in text:
            return "unable to parse csr: PEM block type must be CERTIFICATE REQUEST"
        # it is parsed when it is asked for
        subject = x509.load_pem_x509_csr(text).subject
    except ValueError as error:
        return f"unable to parse csr: {error}"
    wanted = f"system:node:{node}"
    names = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return "" if names[-1:] == [wanted] else f"can only create a node CSR with CN={wanted}"


def _labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def _node(obj: Mapping[str, Any]) -> str:
    return str((obj.get("spec") or {}).get("nodeName") or "")


def _claims(pod: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    found = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    return [(each.get("name"), each.get("resourceClaimName")) for each in found]


def _sources(volumes: Any) -> list[Mapping[str, Any]]:
    return [source for volume in volumes for source in (volume.get("projected") or {}).get("sources") or ()]


def _audiences(pod: Mapping[str, Any]) -> set[str]:
    """Return whom the tokens are meant for that a pod's volumes ask for."""
    sources = _sources(pod["spec"].get("volumes") or ())
    return {
        str(source["serviceAccountToken"].get("audience") or "")
        for source in sources
        if "serviceAccountToken" in source
    }
