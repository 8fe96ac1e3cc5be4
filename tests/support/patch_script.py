# SPDX-License-Identifier: Apache-2.0
"""Scripts of writes whose answers are the same on every API server: all kinds of patches, and who owns what after them.

A script is a list of steps; `{ns}` in a path is the namespace. `masked` takes out of an answer what differs from run to
run.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = ["CRD", "MEDIA", "SCRIPTS", "Step", "masked"]

MEDIA = {
    "json": "application/json",
    "merge": "application/merge-patch+json",
    "patch": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
VARYING = frozenset({"uid", "resourceVersion", "creationTimestamp", "time", "generation", "deletionTimestamp"})

ZERO = frozenset({"nodeInfo", "daemonEndpoints"})
"""Parts of a node's status that the real server shows even if nobody has said them."""


class Step(NamedTuple):
    """One request; `media` is a key of MEDIA, `{ns}` stands for the namespace in path and body."""

    method: str
    path: str
    body: Any = None
    media: str = "json"
    query: dict[str, str] = {}

    def placed(self, namespace: str) -> Step:
        """Return the step in a namespace."""
        body = json.loads(json.dumps(self.body).replace("{ns}", namespace))
        return Step(self.method, self.path.replace("{ns}", namespace), body, self.media, self.query)


def masked(value: Any) -> Any:
    """Return an answer without what differs from run to run; that a field is there is kept.

    Empty details and an empty status (or parts of it), which Go's types have and nobody reads, do not count; nor does
    the order of managers, which is that of times, or of causes, which is none.
    """
    if isinstance(value, list):
        return [masked(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: "*" if key in VARYING else masked(item) for key, item in value.items() if key not in ZERO}
    if "managedFields" in found:
        found["managedFields"].sort(key=_entry)
    if "causes" in found:
        found["causes"].sort(key=lambda cause: (cause.get("field", ""), cause["message"]))
    return {key: item for key, item in found.items() if item != {} or key not in {"details", "status"}}


def _entry(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(entry.get(name)) for name in ("operation", "manager", "subresource", "apiVersion"))


MAPS = "/api/v1/namespaces/{ns}/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{ns}/deployments"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/{ns}/resourceclaims"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
THINGS = "/apis/patches.example.com/v1/namespaces/{ns}/things"


def create(path: str, body: Any, manager: str = "creator") -> Step:
    return Step("POST", path, body, query={"fieldManager": manager})


def apply(path: str, body: Any, manager: str = "one", *, force: bool = False, sub: str = "") -> Step:
    query = {"fieldManager": manager, "force": str(force).lower()}
    name = f"{path}/{body['metadata']['name']}" + (f"/{sub}" if sub else "")
    return Step("PATCH", name, body, "apply", query)


def patch(path: str, name: str, body: Any, media: str = "merge", manager: str = "patcher") -> Step:
    return Step("PATCH", f"{path}/{name}", body, media, {"fieldManager": manager})


def config_map(data: Any = None, name: str = "x", **metadata: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}
    return made if data is None else {**made, "data": data}


def deployment(spec: Any, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", **metadata}, "spec": spec}


def thing(spec: Any = None, status: Any = None, **metadata: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "apiVersion": "patches.example.com/v1",
        "kind": "Thing",
        "metadata": {"name": "t", **metadata},
    }
    made |= {} if spec is None else {"spec": spec}
    return made if status is None else {**made, "status": status}


def containers(*items: Any, **spec: Any) -> dict[str, Any]:
    return {"template": {"spec": {"containers": list(items), **spec}}}


MAIN = {
    "name": "main",
    "image": "i",
    "ports": [{"containerPort": 80}],
    "env": [{"name": "A", "value": "1"}],
    "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}},
}
SPEC = {
    "replicas": 2,
    "selector": {"matchLabels": {"l": "1"}},
    "template": {
        "metadata": {"labels": {"l": "1"}},
        "spec": {"containers": [MAIN], "volumes": [{"name": "v", "emptyDir": {}}]},
    },
}
BEATS = {"lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "patched-{ns}"},
    "spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]},
}
LAST = "kubectl.kubernetes.io/last-applied-configuration"
CLAIM = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "metadata": {"name": "c"},
    "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "k"}}]}},
}
RESULT = {"request": "r", "driver": "d.example", "pool": "p", "device": "e"}
DEVICE = {
    "driver": "d.example",
    "pool": "p",
    "device": "e",
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ],
}

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.patches.example.com"},
    "spec": {
        "group": "patches.example.com",
        "names": {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "text": {"type": "string"},
                                    "names": {
                                        "type": "array",
                                        "items": {"type": "string"},
                                        "x-kubernetes-list-type": "set",
                                    },
                                    "items": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["a", "b"],
                                        "items": {
                                            "type": "object",
                                            "required": ["a"],
                                            "properties": {
                                                "a": {"type": "string"},
                                                "b": {"type": "integer", "default": 1},
                                                "v": {"type": "string"},
                                            },
                                        },
                                    },
                                    "plain": {"type": "array", "items": {"type": "string"}},
                                    "table": {
                                        "type": "object",
                                        "additionalProperties": {
                                            "type": "object",
                                            "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
                                        },
                                    },
                                    "whole": {
                                        "type": "object",
                                        "x-kubernetes-map-type": "atomic",
                                        "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
                                    },
                                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                },
                            },
                            "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
                        },
                    }
                },
            }
        ],
    },
}

SCRIPTS: dict[str, list[Step]] = {
    "apply of a config map": [
        apply(MAPS, config_map({"a": "1"}, labels={"l": "1"})),
        apply(MAPS, config_map({"a": "1"}, labels={"l": "1"})),
        apply(MAPS, config_map({"a": "1", "b": "2"}), "two"),
        apply(MAPS, config_map({"a": "9"}), "three"),
        apply(MAPS, config_map({"a": "9"}), "three", force=True),
        apply(MAPS, config_map({"b": "3"}), "one"),
        apply(MAPS, config_map({}), "three"),
        apply(MAPS, config_map(), "two"),
        apply(MAPS, config_map(), "three"),
    ],
    "refused applies": [
        apply(MAPS, {**config_map({"a": "1"}), "nope": 1}),
        apply(MAPS, config_map({"a": 1})),
        apply(MAPS, config_map([])),
        apply(MAPS, config_map({"a": "1"}, finalizers=["x.example/f", "x.example/f"])),
        apply(MAPS, config_map({"a": "1"}, managedFields=[])),
        apply(MAPS, {**config_map({}), "kind": "Secret"}),
        apply(MAPS, {**config_map({}), "apiVersion": "v2"}),
        apply(DEPLOYMENTS, deployment(containers({"name": "a"}, {"name": "a"}))),
        apply(DEPLOYMENTS, deployment({"paused": 1})),
    ],
    "updates own what they change": [
        create(MAPS, config_map({"a": "1", "b": "1"}, labels={"l": "1"})),
        patch(MAPS, "x", {"data": {"b": "2", "c": "3"}}),
        patch(MAPS, "x", {"data": {"a": None}, "metadata": {"annotations": {"n": "1"}}}, manager="second"),
        patch(MAPS, "x", {"data": {"b": "2"}}, manager="third"),
        apply(MAPS, config_map({"b": "5", "c": "5"})),
        apply(MAPS, config_map({"b": "5", "c": "5"}), force=True),
        patch(MAPS, "x", [{"op": "remove", "path": "/data"}], "patch", manager="remover"),
        patch(MAPS, "x", {"metadata": {"managedFields": [{}]}}),
        patch(MAPS, "x", {"data": {"z": "1"}}),
        apply(MAPS, config_map({"z": "2"})),
        apply(MAPS, config_map({"y": "2"})),
    ],
    "a deployment": [
        create(DEPLOYMENTS, deployment(SPEC, labels={"l": "1"}), "kubectl-create"),
        apply(DEPLOYMENTS, deployment({"replicas": 3, **containers({"name": "main", "image": "j"})})),
        apply(DEPLOYMENTS, deployment({"replicas": 3, **containers({"name": "main", "image": "j"})}), force=True),
        apply(
            DEPLOYMENTS,
            deployment(containers({"name": "side", "image": "s", "ports": [{"containerPort": 80, "protocol": "UDP"}]})),
            "two",
        ),
        patch(DEPLOYMENTS, "d", {"spec": containers({"name": "main", "$patch": "delete"})}, "strategic"),
        patch(DEPLOYMENTS, "d", {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}, "strategic"),
        apply(DEPLOYMENTS, deployment({"replicas": 3})),
    ],
    "from kubectl apply to server-side apply": [
        create(
            MAPS,
            config_map(
                {"a": "1", "b": "1"},
                annotations={
                    LAST: '{"apiVersion":"v1","data":{"a":"1","b":"1"},"kind":"ConfigMap","metadata":'
                    '{"annotations":{},"name":"x"}}\n'
                },
            ),
            "kubectl-client-side-apply",
        ),
        apply(MAPS, config_map({"a": "2", "b": "1"}), "other"),
        apply(MAPS, config_map({"a": "2", "b": "1"}), "kubectl"),
        patch(MAPS, "x", {"data": {"b": "7"}}, manager="hand"),
        apply(MAPS, config_map({"a": "3", "b": "3"}), "kubectl"),
    ],
    "the status of a claim": [
        create(CLAIMS, CLAIM),
        Step(
            "PATCH",
            f"{CLAIMS}/c/status",
            {"status": {"allocation": {"devices": {"results": [RESULT]}}}},
            "merge",
            {"fieldManager": "scheduler"},
        ),
        apply(CLAIMS, {**CLAIM, "spec": None, "status": {"devices": [DEVICE]}}, "driver", sub="status"),
        apply(CLAIMS, {**CLAIM, "spec": None, "status": {"devices": [DEVICE]}}, "driver", sub="status"),
        apply(
            CLAIMS,
            {
                **{k: CLAIM[k] for k in ("apiVersion", "kind")},
                "metadata": {"name": "c", "labels": {"l": "1"}},
                "status": {
                    "devices": [{**DEVICE, "conditions": [{**DEVICE["conditions"][0], "status": "False"}]}]  # type: ignore[index]
                },
            },
            "other",
            sub="status",
        ),
        apply(CLAIMS, {**{k: CLAIM[k] for k in ("apiVersion", "kind", "metadata")}}, "driver", sub="status"),
    ],
    "a kind of a CRD": [
        apply(
            THINGS,
            thing(
                {
                    "text": "a",
                    "names": ["a", "b"],
                    "items": [{"a": "1"}, {"a": "1", "b": 2, "v": "x"}],
                    "plain": ["a"],
                    "table": {"t": {"x": "1"}},
                    "whole": {"x": "1"},
                    "free": {"f": {"g": 1, "h": [1, {"i": 2}]}},
                },
                {"phase": "p"},
            ),
        ),
        apply(
            THINGS,
            thing({"names": ["c", "b"], "items": [{"a": "2", "v": "y"}, {"a": "1"}], "table": {"t": {"y": "2"}}}),
            "two",
        ),
        apply(THINGS, thing({"plain": ["b"], "whole": {"y": "2"}, "free": {"f": {"g": 2}}}), "three"),
        apply(THINGS, thing({"plain": ["b"], "whole": {"y": "2"}, "free": {"f": {"g": 2}}}), "three", force=True),
        patch(THINGS, "t", {"spec": {"text": "b", "items": [{"a": "9"}]}}),
        Step("PATCH", f"{THINGS}/t/status", {"status": {"phase": "q"}}, "merge", {"fieldManager": "patcher"}),
        apply(THINGS, thing({"text": "b"})),
        apply(THINGS, thing(), "two"),
        apply(THINGS, thing(), "three"),
        patch(THINGS, "t", {"spec": {"text": "x"}}, "strategic"),
    ],
    "an update of a new kind of a CRD": [
        create(THINGS, thing({"text": "a", "items": [{"a": "1"}], "table": {"t": {}}, "plain": []}, labels={"l": "1"})),
        patch(THINGS, "t", {"spec": {"names": ["a"], "free": {"x": {}}}}),
    ],
    "JSON patches that do not apply": [
        create(MAPS, config_map({"a": "1"})),
        patch(MAPS, "x", [{"op": "test", "path": "/data/a", "value": "2"}], "patch"),
        patch(MAPS, "x", [{"op": "remove", "path": "/data/b"}], "patch"),
        patch(MAPS, "x", [{"op": "add", "path": "/nope/b", "value": 1}], "patch"),
        patch(MAPS, "x", {}, "patch"),
        patch(MAPS, "x", [], "merge"),
        patch(MAPS, "x", "text", "merge"),
        patch(MAPS, "x", [{"op": "nope", "path": "/data"}], "patch"),
        patch(MAPS, "x", [{"op": "replace", "path": "/data/b", "value": "new"}], "patch"),
        patch(MAPS, "x", [{"op": "copy", "from": "/data/a", "path": "/data/c"}], "patch"),
        patch(MAPS, "x", [{"op": "move", "from": "/data/a", "path": "/data/d"}], "patch"),
        patch(MAPS, "nope", [], "patch"),
        patch(MAPS, "nope", {}, "merge"),
    ],
    "strategic patches": [
        create(DEPLOYMENTS, deployment(SPEC)),
        patch(DEPLOYMENTS, "d", {"spec": containers({"name": "b", "image": "b"})}, "strategic"),
        patch(
            DEPLOYMENTS,
            "d",
            {
                "spec": {
                    "template": {
                        "spec": {
                            "$setElementOrder/containers": [{"name": "main"}, {"name": "b"}],
                            "containers": [{"name": "main", "env": [{"name": "B", "value": "2"}]}],
                        }
                    }
                }
            },
            "strategic",
        ),
        patch(DEPLOYMENTS, "d", {"spec": containers({"image": "b"})}, "strategic"),
        patch(DEPLOYMENTS, "d", {"spec": {"$patch": "nope"}}, "strategic"),
        patch(DEPLOYMENTS, "d", {"spec": containers("x")}, "strategic"),
        patch(DEPLOYMENTS, "d", [], "strategic"),
        patch(
            DEPLOYMENTS,
            "d",
            {
                "spec": {
                    "template": {
                        "spec": {
                            "volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]
                        }
                    }
                }
            },
            "strategic",
        ),
        patch(DEPLOYMENTS, "d", {"metadata": {"finalizers": ["a.example/x", "b.example/x"]}}, "strategic"),
        patch(
            DEPLOYMENTS,
            "d",
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a.example/x"], "finalizers": ["c.example/x"]}},
            "strategic",
        ),
        patch(DEPLOYMENTS, "d", {"metadata": {"$patch": "replace", "finalizers": []}}, "strategic"),
    ],
    "nodes and their status": [
        create("/api/v1/nodes", NODE),
        Step(
            "PATCH",
            "/api/v1/nodes/patched-{ns}/status",
            {"status": {"capacity": {"cpu": "2000m", "example.com/x": "1Ki"}, "allocatable": {"cpu": "2"}}},
            "strategic",
            {"fieldManager": "kubelet"},
        ),
        Step(
            "PATCH",
            "/api/v1/nodes/patched-{ns}/status",
            {"status": {"conditions": [{"type": name, "status": "True", **BEATS} for name in ("Ready", "Mine")]}},
            "strategic",
            {"fieldManager": "kubelet"},
        ),
        Step(
            "PATCH",
            "/api/v1/nodes/patched-{ns}/status",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "patched-{ns}", "labels": {"l": "1"}},
                "status": {
                    "capacity": {"example.com/y": "3"},
                    "conditions": [{"type": "Ours", "status": "False", "reason": "R", "message": "m", **BEATS}],
                },
            },
            "apply",
            {"fieldManager": "updater", "force": "true"},
        ),
        Step(
            "PATCH",
            "/api/v1/nodes/patched-{ns}/status",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "patched-{ns}"},
                "status": {"capacity": {"example.com/z": "3"}},
            },
            "apply",
            {"fieldManager": "updater", "force": "true"},
        ),
        Step(
            "PATCH",
            "/api/v1/nodes/patched-{ns}",
            {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}], "unschedulable": True}},
            "strategic",
            {"fieldManager": "kubectl-cordon"},
        ),
        Step("DELETE", "/api/v1/nodes/patched-{ns}"),
    ],
    "a slice of devices": [
        apply(
            SLICES,
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceSlice",
                "metadata": {"name": "slice-{ns}"},
                "spec": {
                    "driver": "d.example",
                    "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
                    "allNodes": True,
                    "devices": [
                        {"name": "a", "attributes": {"x": {"int": 1}}, "capacity": {"size": {"value": "1024Mi"}}},
                        {"name": "b", "attributes": {"y": {"string": "s"}}},
                    ],
                },
            },
            "controller",
        ),
        apply(
            SLICES,
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceSlice",
                "metadata": {"name": "slice-{ns}"},
                "spec": {
                    "driver": "d.example",
                    "pool": {"name": "p", "generation": 2, "resourceSliceCount": 1},
                    "allNodes": True,
                    "devices": [{"name": "b"}],
                },
            },
            "controller",
        ),
        Step("DELETE", f"{SLICES}/slice-{{ns}}"),
    ],
    "a lease": [
        create(
            LEASES,
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "l"},
                "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"},
            },
        ),
        patch(LEASES, "l", {"spec": {"holderIdentity": "b", "renewTime": "2026-01-01T00:00:01.000000Z"}}),
        patch(LEASES, "l", {"spec": {"holderIdentity": None}}, "strategic", "releaser"),
    ],
    "finalizers": [
        create(MAPS, config_map({"a": "1"}, finalizers=["a.example/x"])),
        apply(MAPS, config_map(finalizers=["b.example/x"])),
        apply(MAPS, config_map(finalizers=["c.example/x", "b.example/x"]), "two"),
        apply(MAPS, config_map(finalizers=[])),
        apply(MAPS, config_map(), "two"),
        patch(MAPS, "x", {"metadata": {"finalizers": None}}),
    ],
}
