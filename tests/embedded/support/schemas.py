# SPDX-License-Identifier: Apache-2.0
"""Small schemas for tests of patches: from JSON schemas with x-kubernetes extensions, and a few kinds made of them."""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.schema import MISSING, Schema

__all__ = ["CONFIG_MAP", "CUSTOM", "DEPLOYMENT", "STRING", "list_map", "list_set", "map_of", "schema_of", "struct"]

STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}


def schema_of(source: dict[str, Any]) -> Schema:
    """Build a schema, ref (`x-ref`) included."""
    additional = source.get("additionalProperties")
    return Schema(
        type=source.get("type", ""),
        properties={name: schema_of(item) for name, item in source.get("properties", {}).items()},
        required=frozenset(source.get("required", ())),
        additional=schema_of(additional) if isinstance(additional, dict) else None,
        items=schema_of(source["items"]) if "items" in source else None,
        default=source.get("default", MISSING),
        nullable=source.get("nullable", False),
        format=source.get("format", ""),
        preserve_unknown=source.get("x-kubernetes-preserve-unknown-fields", False),
        int_or_string=source.get("x-kubernetes-int-or-string", False),
        list_type=source.get("x-kubernetes-list-type", ""),
        list_map_keys=tuple(source.get("x-kubernetes-list-map-keys", ())),
        map_type=source.get("x-kubernetes-map-type", ""),
        patch_merge_key=source.get("x-kubernetes-patch-merge-key", ""),
        patch_strategy=source.get("x-kubernetes-patch-strategy", ""),
        ref=source.get("x-ref", ""),
    )


def struct(ref: str = "", required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "x-ref": ref}


def map_of(value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value, **more}


def list_map(item: dict[str, Any], *keys: str, merge: bool = True) -> dict[str, Any]:
    merging = {"x-kubernetes-patch-merge-key": keys[0], "x-kubernetes-patch-strategy": "merge"} if merge else {}
    kind = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
    return {"type": "array", "items": item, **kind, **merging}


def list_set(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"}


META = struct(
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    name=STRING,
    namespace=STRING,
    uid=STRING,
    resourceVersion=STRING,
    generation=INTEGER,
    creationTimestamp={"type": "string", "format": "date-time"},
    labels=map_of(STRING),
    annotations=map_of(STRING),
    finalizers=list_set(STRING),
    ownerReferences=list_map(struct(uid=STRING, name=STRING, kind=STRING, apiVersion=STRING), "uid"),
    managedFields={"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
)
_PORT = struct(
    "io.k8s.api.core.v1.ContainerPort",
    ("containerPort",),
    containerPort=INTEGER,
    protocol={"type": "string", "default": "TCP"},
    name=STRING,
)
_CONTAINER = struct(
    "io.k8s.api.core.v1.Container",
    ("name",),
    name=STRING,
    image=STRING,
    args={"type": "array", "items": STRING},
    ports=list_map(_PORT, "containerPort", "protocol"),
    env=list_map(struct(name=STRING, value=STRING), "name"),
    resources=struct("io.k8s.api.core.v1.ResourceRequirements", limits=map_of(STRING), requests=map_of(STRING)),
)
_POD_SPEC = struct(
    "io.k8s.api.core.v1.PodSpec",
    ("containers",),
    containers=list_map(_CONTAINER, "name"),
    volumes={
        **list_map(struct(name=STRING, emptyDir=struct(), secret=struct(secretName=STRING)), "name"),
        "x-kubernetes-patch-strategy": "merge,retainKeys",
    },
    nodeSelector=map_of(STRING, **{"x-kubernetes-map-type": "atomic"}),
)
_POD_TEMPLATE = struct("io.k8s.api.core.v1.PodTemplateSpec", metadata=META, spec=_POD_SPEC)

DEPLOYMENT = schema_of(
    struct(
        "io.k8s.api.apps.v1.Deployment",
        apiVersion=STRING,
        kind=STRING,
        metadata=META,
        spec=struct(
            "io.k8s.api.apps.v1.DeploymentSpec",
            ("selector", "template"),
            replicas=INTEGER,
            paused={"type": "boolean"},
            selector={**struct(matchLabels=map_of(STRING)), "x-kubernetes-map-type": "atomic"},
            strategy={
                **struct("io.k8s.api.apps.v1.DeploymentStrategy", type=STRING, rollingUpdate=map_of(STRING)),
                "x-kubernetes-patch-strategy": "retainKeys",
            },
            template=_POD_TEMPLATE,
        ),
        status=struct("io.k8s.api.apps.v1.DeploymentStatus", replicas=INTEGER, readyReplicas=INTEGER),
    )
)
"""A Deployment, as far as tests need it."""

CONFIG_MAP = schema_of(
    struct(
        "io.k8s.api.core.v1.ConfigMap",
        apiVersion=STRING,
        kind=STRING,
        metadata=META,
        data=map_of(STRING),
        immutable={"type": "boolean"},
    )
)

CUSTOM = schema_of(
    struct(
        apiVersion=STRING,
        kind=STRING,
        metadata=META,
        spec=struct(
            text=STRING,
            number={"type": "number"},
            either={"x-kubernetes-int-or-string": True},
            maybe={"type": "string", "nullable": True},
            names=list_set(STRING),
            numbers=list_set(INTEGER),
            items=list_map(struct(a=STRING, b={"type": "string", "default": "x"}, v=INTEGER), "a", "b", merge=False),
            atomic={"type": "array", "items": STRING},
            whole={**struct(x=STRING, y=STRING), "x-kubernetes-map-type": "atomic"},
            free={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            table=map_of(struct(x=STRING, y=STRING)),
        ),
        status=struct(phase=STRING, conditions=list_map(struct(type=STRING, status=STRING), "type", merge=False)),
    )
)
"""A kind of a CRD with one field of each sort."""
