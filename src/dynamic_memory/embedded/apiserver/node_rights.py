# SPDX-License-Identifier: Apache-2.0
"""What a kubelet may do: what its node and the pods on it need.

Users `system:node:<name>` of the group `system:nodes` have the rules of the ClusterRole `system:node` without a
binding, narrowed: secrets, config maps, claims, volumes and tokens only of pods on the node, pods and slices only those
of the node, leases and CSI entries only of its own name, node objects only its own. The real authorizer keeps a graph;
here the pods of the node are looked through. Mirror pods, which a kubelet makes itself, give no rights. What depends on
the contents of what is written is in `node_restriction`. Source of rules and words: k8s.io/kubernetes,
`plugin/pkg/auth/authorizer/node/node_authorizer.go`, with `AuthorizeNodeWithSelectors` (KEP-4601, always on from 1.34).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.rbac import GROUP, Attributes, allows
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.resource import World
from dynamic_memory.embedded.apiserver.selectors import parse_fields

__all__ = ["MIRROR", "mirrors", "node_name", "node_opinion", "referred"]

PREFIX = "system:node:"
NODES = "system:nodes"
ROLE = "system:node"
MIRROR = "kubernetes.io/config.mirror"

Object = Mapping[str, Any]


def node_name(user: UserInfo) -> str | None:
    """Return the node that a user is the kubelet of, empty when nobody can say which; None when it is no kubelet."""
    return user.name.removeprefix(PREFIX) if user.name.startswith(PREFIX) and NODES in user.groups else None


def node_opinion(node: str, wanted: Attributes, world: World) -> str | None:  # noqa: C901, PLR0911 - a table of kinds
    """Return None when a kubelet may do something, else why it is not allowed (empty: other rules may allow it)."""
    if not node:
        return f'unknown node for user "{PREFIX}"'
    match (wanted.group, wanted.resource):
        case ("", "secrets" | "configmaps"):
            return _read(node, wanted, world)
        case ("", "persistentvolumeclaims") if wanted.subresource == "status":
            if wanted.verb not in {"update", "patch"}:
                return "can only get/update/patch this type"
            return _related(node, wanted, world)
        case ("", "persistentvolumeclaims" | "persistentvolumes") | (_, "resourceclaims" | "volumeattachments"):
            return _get(node, wanted, world)
        case ("", "serviceaccounts"):
            return _account(node, wanted, world)
        case ("coordination.k8s.io", "leases"):
            return _own(node, wanted, "node lease", namespace="kube-node-lease")
        case ("storage.k8s.io", "csinodes"):
            return _own(node, wanted, "CSINode")
        case ("", "nodes"):
            return _node(node, wanted)
        case ("", "pods"):
            return _pod(node, wanted, world)
        case ("resource.k8s.io", "resourceslices"):
            return _slice(node, wanted, world)
    role = world.get(GROUP, "clusterroles", "", ROLE) or {}
    return None if any(allows(rule, wanted) for rule in role.get("rules") or ()) else ""


# --- kinds


def _own(node: str, wanted: Attributes, what: str, namespace: str = "") -> str | None:
    if wanted.verb not in {"get", "create", "update", "patch", "delete"}:
        return f"can only get, create, update, patch, or delete a {what}"
    if wanted.subresource:
        return f"cannot authorize {what} subresources"
    if namespace and wanted.namespace != namespace:
        return f'can only access leases in the "{namespace}" system namespace'
    # the name of a new one is a matter of its fields
    if wanted.verb != "create" and wanted.name != node:
        return f"can only access {what} with the same name as the requesting node"
    return None


def _node(node: str, wanted: Attributes) -> str | None:
    # which one is written is a matter of its fields
    if wanted.verb in {"update", "patch"} and wanted.subresource in {"", "status"}:
        return None
    if wanted.subresource or wanted.verb not in {"create", "get", "list", "watch"}:
        return ""
    if wanted.verb == "create" or wanted.name == node:
        return None
    which = f"'{wanted.name}'" if wanted.name else "all nodes"
    return f"node '{node}' cannot read {which}, only its own Node object"


def _pod(node: str, wanted: Attributes, world: World) -> str | None:
    match (wanted.subresource, wanted.verb):
        # which one is written is a matter of its fields
        case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
            return None
        case ("", "get"):
            return _related(node, wanted, world)
        case ("", "list" | "watch"):
            if _selects(wanted, node):
                return None
            if wanted.name:
                return _related(node, wanted, world)
            return "can only list/watch pods with spec.nodeName field selector"
    return ""


def _slice(node: str, wanted: Attributes, world: World) -> str | None:
    if wanted.subresource:
        return "cannot authorize ResourceSlice subresources"
    match wanted.verb:
        case "create":  # which node it is of is a matter of its fields
            return None
        case "get" | "update" | "patch" | "delete":
            return _related(node, wanted, world)
        case "list" | "watch" | "deletecollection":
            if _selects(wanted, node):
                return None
            return "can only list/watch/deletecollection resourceslices with nodeName field selector"
    verbs = "get, watch, list, create, update, patch, delete, deletecollection"
    return f"only the following verbs are allowed for a ResourceSlice: {verbs}"


def _read(node: str, wanted: Attributes, world: World) -> str | None:
    if wanted.verb not in {"get", "list", "watch"}:
        return "can only read resources of this type"
    if wanted.subresource:
        return "cannot read subresource"
    if not wanted.namespace:
        return "can only read namespaced object of this type"
    return _related(node, wanted, world)


def _get(node: str, wanted: Attributes, world: World) -> str | None:
    if wanted.verb != "get":
        return "can only get individual resources of this type"
    return "cannot get subresource" if wanted.subresource else _related(node, wanted, world)


def _account(node: str, wanted: Attributes, world: World) -> str | None:
    if wanted.verb == "get" and not wanted.subresource:  # for credential providers of the kubelet
        return _related(node, wanted, world)
    if wanted.verb != "create" or not wanted.name:
        return "can only create tokens for individual service accounts"
    if wanted.subresource != "token":
        return "can only create token subresource of serviceaccount"
    return _related(node, wanted, world)


def _selects(wanted: Attributes, node: str) -> bool:
    """Say whether a field selector takes nothing but what is on a node."""
    try:
        terms = parse_fields(wanted.fields)
    except StatusError:
        return False
    return any(term.path == "spec.nodeName" and term.equal and term.value == node for term in terms)


# --- relations


def _related(node: str, wanted: Attributes, world: World) -> str | None:
    """Return None if an object has to do with a node: it is there, or pods that are there need it."""
    if not wanted.name:
        return "No Object name found"
    if wanted.resource in {"pods", "resourceslices", "volumeattachments"}:
        related = _spec(world.get(wanted.group, wanted.resource, wanted.namespace, wanted.name)).get("nodeName") == node
    elif wanted.resource == "persistentvolumes":
        # the volume says whose it is: a claim could name any
        claim = _spec(world.get("", "persistentvolumes", "", wanted.name)).get("claimRef") or {}
        related = _needed(node, "persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", ""), world)
    else:
        related = _needed(node, wanted.resource, wanted.namespace, wanted.name, world)
    return None if related else f"no relationship found between node '{node}' and this object"


def _needed(node: str, resource: str, namespace: str, name: str, world: World) -> bool:
    """Say whether a pod that is on a node needs an object of its namespace."""
    return bool(namespace and name) and any(
        name in referred(pod, resource)
        for pod in world.list("", "pods", namespace)
        if _spec(pod).get("nodeName") == node and not mirrors(pod)
    )


def _spec(obj: Object | None) -> Object:
    return (obj or {}).get("spec") or {}


def mirrors(pod: Object) -> bool:
    """Say whether a pod stands for one that a kubelet runs on its own."""
    return MIRROR in (pod["metadata"].get("annotations") or {})


def referred(pod: Object, resource: str) -> Iterator[str]:
    """Yield the names of objects of a kind that a pod refers to."""
    spec = pod.get("spec") or {}
    if resource == "serviceaccounts":
        yield spec.get("serviceAccountName") or "default"
        return
    if resource == "resourceclaims":
        yield from (
            claim["resourceClaimName"] for claim in spec.get("resourceClaims") or () if claim.get("resourceClaimName")
        )
        statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
        yield from (claim["resourceClaimName"] for claim in statuses if claim.get("resourceClaimName"))
        return
    if resource == "persistentvolumeclaims":
        volumes = spec.get("volumes") or ()
        yield from (v["persistentVolumeClaim"].get("claimName", "") for v in volumes if v.get("persistentVolumeClaim"))
        return
    yield from _mentioned(spec, "secret" if resource == "secrets" else "configMap")


def _mentioned(value: Any, kind: str) -> Iterator[str]:
    """Yield names that fields like `secretRef`, `secretKeyRef`, `secret.secretName`, `imagePullSecrets` mention."""
    if isinstance(value, list):
        for item in value:
            yield from _mentioned(item, kind)
    elif isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, dict) and (name.startswith(kind) or (kind, name) == ("secret", "nodePublishSecretRef")):
                yield str(item.get("name") or item.get("secretName") or "")
            elif kind == "secret" and name == "imagePullSecrets":
                yield from (str(entry.get("name", "")) for entry in item or ())
            elif kind == "secret" and name == "azureFile":
                yield str(item.get("secretName") or "")
            yield from _mentioned(item, kind)
