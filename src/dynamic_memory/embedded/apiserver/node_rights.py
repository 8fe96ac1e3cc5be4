# SPDX-License-Identifier: Apache-2.0
"""What a kubelet may do: what its node and the pods on it need.

Users `system:node:<name>` of the group `system:nodes` have the rules of the ClusterRole `system:node` without a
binding, narrowed: secrets, config maps, claims, volumes and tokens only of pods on the node, leases and CSI entries
only of its own name, node objects only its own. The real authorizer keeps a graph; here the pods of the node are looked
through. Mirror pods, which a kubelet makes itself, give no rights. What depends on the contents of what is written is
in `node_restriction`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.rbac import GROUP, Attributes, allows
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.resource import World

__all__ = ["MIRROR", "mirrors", "node_name", "node_opinion", "referred"]

PREFIX = "system:node:"
NODES = "system:nodes"
ROLE = "system:node"
MIRROR = "kubernetes.io/config.mirror"

Object = Mapping[str, Any]


def node_name(user: UserInfo) -> str:
    """Return the node that a user is the kubelet of, empty when it is none."""
    return user.name.removeprefix(PREFIX) if user.name.startswith(PREFIX) and NODES in user.groups else ""


def node_opinion(node: str, wanted: Attributes, world: World) -> str | None:  # noqa: PLR0911 - one for each kind
    """Return None when a kubelet may do something, else why it is not allowed (empty: other rules may allow it)."""
    match (wanted.group, wanted.resource):
        case ("", "secrets" | "configmaps"):
            return _read(node, wanted, world, verbs=("get", "list", "watch"))
        case ("", "persistentvolumeclaims") | ("resource.k8s.io", "resourceclaims"):
            verbs = ("get", "update", "patch") if wanted.subresource == "status" and not wanted.group else ("get",)
            return _read(node, wanted, world, verbs=verbs)
        case ("", "serviceaccounts") if wanted.subresource == "token":
            return _read(node, wanted, world, verbs=("create",))
        case ("coordination.k8s.io", "leases"):
            return _own(node, wanted, namespace="kube-node-lease")
        case ("storage.k8s.io", "csinodes"):
            return _own(node, wanted)
        case ("", "nodes") if wanted.name not in {"", node}:
            return f"node {_quote(node)} cannot {wanted.verb} node {_quote(wanted.name)}, only its own Node object"
        case ("resource.k8s.io", "resourceslices"):
            # which node a slice is of is a matter of its fields
            if wanted.verb == "deletecollection" and f"spec.nodeName={node}" not in wanted.fields.split(","):
                return f"can only delete resourceslices with the field selector spec.nodeName={node}"
            return None
    role = world.get(GROUP, "clusterroles", "", ROLE) or {}
    return None if any(allows(rule, wanted) for rule in role.get("rules") or ()) else ""


def _quote(text: str) -> str:
    return f"'{text}'"


def _own(node: str, wanted: Attributes, namespace: str = "") -> str | None:
    if wanted.verb not in {"get", "create", "update", "patch", "delete"} or wanted.subresource:
        return f"can only get, create, update, patch, or delete a {wanted.resource.removesuffix('s')}"
    if namespace and wanted.namespace != namespace:
        return f"can only access leases in the {namespace!r} system namespace"
    if wanted.verb != "create" and wanted.name != node:
        return f"can only access {wanted.resource.removesuffix('s')} with the same name as the requesting node"
    return None


def _read(node: str, wanted: Attributes, world: World, *, verbs: tuple[str, ...]) -> str | None:
    if wanted.verb not in verbs:
        return f"cannot {wanted.verb} {wanted.resource}" if not wanted.subresource else ""
    if not wanted.name:
        return "No Object name found"
    for pod in world.list("", "pods", wanted.namespace):
        own = (pod.get("spec") or {}).get("nodeName") == node and not mirrors(pod)
        if own and wanted.name in referred(pod, wanted.resource):
            return None
    return f"no relationship found between node {_quote(node)} and this object"


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
            if isinstance(item, dict) and name.startswith(kind):
                yield str(item.get("name") or item.get("secretName") or "")
            elif kind == "secret" and name == "imagePullSecrets":
                yield from (str(entry.get("name", "")) for entry in item or ())
            yield from _mentioned(item, kind)
