# SPDX-License-Identifier: Apache-2.0
"""Requests as nobody should send them: paths, queries, formats, bodies and patches, each near to a proper one.

What is sent is mostly right, with some of it exchanged, left out or added, since what is wrong from the start does not
come far into the server.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any
from urllib.parse import quote

import yaml
from hypothesis import strategies as st

__all__ = ["DEFINITION", "KINDS", "Sent", "name_of", "proper", "requests"]

DEFAULT = "namespaces/default/"
_container = {"name": "c", "image": "i", "resources": {"requests": {"memory": "1Gi"}, "claims": [{"name": "r"}]}}
_template = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]},
}
_once = {"spec": {**_template["spec"], "restartPolicy": "Never"}}
_terms = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}
_exactly = {"deviceClassName": "d", "capacity": {"requests": {"size": "1Gi"}}}
_selector = {"cel": {"expression": 'device.driver == "d.example.com"'}}
_schema = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {"size": {"type": "integer", "minimum": 1, "default": 3}, "list": {"type": "array"}},
            "x-kubernetes-validations": [{"rule": "self.size < 100", "message": "too large"}],
        }
    },
}
_schema["properties"]["spec"]["properties"]["list"] |= {  # type: ignore[index] # a literal of many types
    "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
}
_scale = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
_request = {"name": "r", "exactly": _exactly}

KINDS: list[tuple[str, str, dict[str, Any]]] = [
    (f"/api/v1/{DEFAULT}configmaps", "v1 ConfigMap", {"data": {"k": "v"}, "binaryData": {"b": "AA=="}}),
    (
        f"/api/v1/{DEFAULT}pods",
        "v1 Pod",
        {
            "spec": {
                "containers": [_container],
                "resourceClaims": [{"name": "r", "resourceClaimName": "c"}],
                "tolerations": [{"key": "k", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": _terms}},
            }
        },
    ),
    (f"/api/v1/{DEFAULT}services", "v1 Service", {"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}),
    ("/api/v1/nodes", "v1 Node", {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
    ("/api/v1/namespaces", "v1 Namespace", {"spec": {"finalizers": ["kubernetes"]}}),
    (
        f"/apis/apps/v1/{DEFAULT}deployments",
        "apps/v1 Deployment",
        {"spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": _template}},
    ),
    (f"/apis/batch/v1/{DEFAULT}jobs", "batch/v1 Job", {"spec": {"completions": 1, "template": _once}}),
    (
        f"/apis/resource.k8s.io/v1/{DEFAULT}resourceclaims",
        "resource.k8s.io/v1 ResourceClaim",
        {"spec": {"devices": {"requests": [_request], "constraints": [{"matchAttribute": "a.b/c"}]}}},
    ),
    (
        "/apis/resource.k8s.io/v1beta1/deviceclasses",
        "resource.k8s.io/v1beta1 DeviceClass",
        {"spec": {"selectors": [_selector]}},
    ),
    (
        "/apis/resource.k8s.io/v1/resourceslices",
        "resource.k8s.io/v1 ResourceSlice",
        {
            "spec": {
                "driver": "d.example.com",
                "nodeName": "n",
                "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": "m", "attributes": {"a": {"int": 1}}, "capacity": {"size": {"value": "1Gi"}}}],
            }
        },
    ),
    (
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "apiextensions.k8s.io/v1 CustomResourceDefinition",
        {
            "spec": {
                "group": "example.org",
                "scope": "Namespaced",
                "names": {"plural": "xs", "kind": "X"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": _schema},
                        "subresources": {"status": {}, "scale": _scale},
                        "additionalPrinterColumns": [{"name": "S", "type": "integer", "jsonPath": ".spec.size"}],
                    }
                ],
            }
        },
    ),
    (f"/apis/example.org/v1/{DEFAULT}xs", "example.org/v1 X", {"spec": {"size": 5, "list": [{"name": "a"}]}}),
    (
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
        "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy",
        {
            "spec": {
                "matchConstraints": {
                    "resourceRules": [
                        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
                    ]
                },
                "validations": [{"expression": "object.spec.size < 3", "message": "m"}],
                "variables": [{"name": "v", "expression": "1"}],
            }
        },
    ),
    (
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "rbac.authorization.k8s.io/v1 ClusterRole",
        {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    ),
    (
        f"/apis/coordination.k8s.io/v1/{DEFAULT}leases",
        "coordination.k8s.io/v1 Lease",
        {"spec": {"holderIdentity": "h", "renewTime": "2026-01-01T00:00:00.000000Z"}},
    ),
    (
        f"/apis/events.k8s.io/v1/{DEFAULT}events",
        "events.k8s.io/v1 Event",
        {
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "e.org/c",
            "reportingInstance": "i",
            "action": "A",
            "reason": "R",
            "type": "Normal",
            "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        },
    ),
    (f"/apis/policy/v1/{DEFAULT}poddisruptionbudgets", "policy/v1 PodDisruptionBudget", {"spec": {"minAvailable": 1}}),
    (
        "/apis/devmgmtproto.k8s.io/v1alpha1/devicedrivers",
        "devmgmtproto.k8s.io/v1alpha1 DeviceDriver",
        {"deviceTypes": ["gpu"]},
    ),
    (
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "authorization.k8s.io/v1 SelfSubjectAccessReview",
        {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}},
    ),
]
DEFINITION = next(number for number, (path, _, _) in enumerate(KINDS) if path.endswith("definitions"))
"""The number of the kind that defines another one of them, which is after it."""
SUBRESOURCES = [
    "status",
    "scale",
    "resize",
    "binding",
    "eviction",
    "token",
    "log",
    "exec",
    "ephemeralcontainers",
    "a/b",
]
METADATA: dict[str, Any] = {
    "labels": {"a": "b"},
    "annotations": {"a": "b"},
    "finalizers": ["example.com/f"],
    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "u"}],
    "generateName": "x-",
    "resourceVersion": "3",
    "uid": "u",
    "namespace": "other",
    "managedFields": [{"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"f:data": {}}}],
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "deletionTimestamp": "2026-01-01T00:00:00Z",
    "generation": 7,
}
MEDIA = [
    "application/json",
    "application/yaml",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "application/cbor",
    "text/plain",
    "application/json; charset=latin-1; charset",
    ";",
]
ACCEPTS = [
    "application/json",
    "*/*",
    "application/yaml",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json",
    "application/json;as=Nothing;v=v1;g=x",
    "application/vnd.kubernetes.protobuf",
    ",;=",
]
QUERIES: dict[str, list[str]] = {
    "limit": ["1", "0", "-1", "x"],
    "continue": ["x", "eyJydiI6MX0"],
    "labelSelector": ["a=b", "a in (b,c),!d", "a notin ()", "(", "a=b,"],
    "fieldSelector": ["metadata.name=x", "spec.nodeName!=n", "nosuch=1", "a\\", "="],
    "resourceVersion": ["0", "1", "5", "99999", "-1", "x"],
    "resourceVersionMatch": ["Exact", "NotOlderThan", "x"],
    "sendInitialEvents": ["true", "false", "x"],
    "allowWatchBookmarks": ["true", "x"],
    "watch": ["true", "1", "false", "x"],
    "timeoutSeconds": ["1", "0", "-1", "x"],
    "fieldManager": ["m", "a" * 200, "\x01", ""],
    "fieldValidation": ["Strict", "Warn", "Ignore", "x"],
    "force": ["true", "false", "x"],
    "dryRun": ["All", "None", ""],
    "propagationPolicy": ["Orphan", "Background", "Foreground", "x"],
    "gracePeriodSeconds": ["0", "-1", "x", "9" * 30],
    "orphanDependents": ["true", "x"],
    "includeObject": ["Object", "None", "x"],
    "pretty": ["true"],
    "nosuch": ["1"],
}

_text = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "x", "a/b", "A", "1Gi", "-1", "9e99999", "2026-13-01T00:00:00Z", "self.a", "$patch", "f:a", "é", "\ud7ff"]
    ),
)
_leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([1 << 31, 1 << 63, -(1 << 70), 1.5, 1e300, -0.0]),
    _text,
)
_value = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3), max_leaves=6
)


@dataclasses.dataclass(frozen=True)
class Sent:
    """A request, and the object that there should be before it."""

    method: str
    path: str
    media: str
    accept: str
    body: bytes
    kind: int


def name_of(kind: int) -> str:
    """Return the name of the one object of a kind."""
    return "xs.example.org" if kind == DEFINITION else "x"


def proper(kind: int) -> dict[str, Any]:
    """Return the object of a kind as it should be."""
    _, what, content = KINDS[kind]
    version, _, name = what.partition(" ")
    return {"apiVersion": version, "kind": name, "metadata": {"name": name_of(kind)}, **copy.deepcopy(content)}


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        found += _places(inner, (*at, key))
    return found


@st.composite
def _changed(draw: Any, value: Any) -> Any:
    """A value with some of it exchanged, left out or added."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, 3))):
        places = _places(value)
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        holder = value
        for key in above:
            holder = holder[key]
        match draw(st.sampled_from(["set", "set", "drop", "add", "twice"])):
            case "set":
                holder[last] = draw(_value)
            case "drop":
                del holder[last]
            case "add" if isinstance(holder, dict):
                holder[draw(_text)] = draw(_value)
            case "twice" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[last]))
            case _:
                pass
    return value


@st.composite
def _object(draw: Any, kind: int) -> dict[str, Any]:
    found = proper(kind)
    chosen = draw(st.lists(st.sampled_from(sorted(METADATA)), max_size=2, unique=True))
    found["metadata"] |= {key: METADATA[key] for key in chosen}
    changed: dict[str, Any] = draw(_changed(found))
    return changed


@st.composite
def _json_patch(draw: Any, obj: dict[str, Any]) -> list[Any]:
    def pointer() -> str:
        place = draw(st.sampled_from([(), ("-",), ("nosuch", "a"), *_places(obj)]))
        return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in place)

    found: list[Any] = []
    for _ in range(draw(st.integers(0, 3))):
        operation = draw(st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "explode"]))
        found.append({"op": operation, "path": pointer(), "from": pointer(), "value": draw(_value)})
    changed: list[Any] = draw(_changed(found))
    return changed


@st.composite
def _strategic(draw: Any, obj: dict[str, Any]) -> Any:
    orders = {"$patch": "delete", "$setElementOrder/containers": [{"name": "c"}], "$retainKeys": ["a"]}
    orders |= {"$deleteFromPrimitiveList/finalizers": ["a"], "$patch ": "replace"}
    places = [(), *_places(obj)]
    found = copy.deepcopy(obj)
    holder: Any = found
    for key in draw(st.sampled_from(places)):
        holder = holder[key]
    if isinstance(holder, dict):
        order = draw(st.sampled_from(sorted(orders)))
        holder[order.strip()] = (
            draw(st.sampled_from([orders[order], "merge", "replace"])) if draw(st.booleans()) else draw(_value)
        )
    return found


@st.composite
def requests(draw: Any) -> Sent:
    """Draw a request."""
    kind = draw(st.integers(0, len(KINDS) - 1))
    obj = draw(_object(kind))
    method = draw(st.sampled_from(["POST", "PUT", "PATCH", "PATCH", "PATCH", "GET", "DELETE", "OPTIONS"]))
    path = KINDS[kind][0]
    named = name_of(kind)
    if method != "POST" and draw(st.integers(0, 9)):
        path += f"/{named}"
        if not draw(st.integers(0, 3)):
            path += f"/{draw(st.sampled_from(SUBRESOURCES))}"
    elif method == "POST" and not draw(st.integers(0, 4)):
        path += f"/{named}/{draw(st.sampled_from(SUBRESOURCES))}"
    if not draw(st.integers(0, 19)):
        parts = path.split("/")
        parts[draw(st.integers(1, len(parts) - 1))] = quote(draw(_text), safe="")
        path = "/".join(parts)
    names = draw(st.lists(st.sampled_from(sorted(QUERIES)), max_size=3))
    query = [(name, draw(st.sampled_from(QUERIES[name]) | _text)) for name in names]
    media = "application/json"
    value: Any = obj
    if method == "PATCH":
        media = draw(st.sampled_from(MEDIA[2:6]))
        if "json-patch" in media:
            value = draw(_json_patch(obj))
        elif "strategic" in media:
            value = draw(_strategic(obj))
        elif "apply" in media and draw(st.integers(0, 4)):
            query.append(("fieldManager", draw(st.sampled_from(["m", "n"]))))
    elif method == "DELETE" and draw(st.booleans()):
        options = {"propagationPolicy": "Orphan", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}
        value = draw(_changed(options))
    body = json.dumps(value).encode()
    if "yaml" in media and draw(st.booleans()):
        body = yaml.safe_dump(value).encode()
    match draw(st.integers(0, 19)):
        case 0:
            body = body[: draw(st.integers(0, len(body)))]
        case 1:
            body = draw(st.binary(max_size=20))
        case 2:
            body = b"k8s\0" + draw(st.binary(max_size=40))
            media = "application/vnd.kubernetes.protobuf"
        case 3:
            media = draw(st.sampled_from(MEDIA))
        case _:
            pass
    text = "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in query)
    accept = draw(st.sampled_from(["application/json", "application/json", *ACCEPTS]))
    return Sent(method, f"{path}?{text}" if text else path, media, accept, body, kind)
