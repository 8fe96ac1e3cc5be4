# SPDX-License-Identifier: Apache-2.0
"""metrics.k8s.io/v1beta1: usage of nodes and pods, made up when asked for and not stored.

The models do not have this group. Source: k8s.io/metrics, `pkg/apis/metrics/v1beta1`.
"""

from __future__ import annotations

import functools
from typing import Final

from dynamic_memory.embedded.apiserver.builtin.models import schema_of
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.schema import Schema

__all__ = ["GROUP", "metrics_resources"]

GROUP: Final = "metrics.k8s.io"
_PREFIX: Final = "io.k8s.metrics.pkg.apis.metrics.v1beta1"


def _usage(description: str) -> Schema:
    quantity = Schema("string", quantity=True, ref="io.k8s.apimachinery.pkg.api.resource.Quantity")
    return Schema("object", description, additional=quantity)


def _whole(kind: str) -> Schema:
    metadata = schema_of("meta_v1", "ObjectMeta")
    container = Schema(
        "object",
        "Usage of one container.",
        properties={"name": Schema("string", "Its name in the pod."), "usage": _usage("What it uses.")},
        required=frozenset({"name", "usage"}),
        ref=f"{_PREFIX}.ContainerMetrics",
    )
    parts = (
        {"usage": _usage("What the node uses.")}
        if kind == "NodeMetrics"
        else {"containers": Schema("array", "Usage of each container.", items=container, list_type="atomic")}
    )
    return Schema(
        "object",
        f"Resource usage: {kind}.",
        properties={
            "apiVersion": Schema("string", "The group and version of this representation."),
            "kind": Schema("string", "The kind of this object."),
            "metadata": Schema("object", "Standard metadata.", properties=metadata.properties, ref=metadata.ref),
            "timestamp": Schema("string", "The end of the window.", format="date-time"),
            "window": Schema("string", "The length of the window in which usage was measured (`30s`)."),
            **parts,
        },
        required=frozenset({"timestamp", "window", *parts}),
        ref=f"{_PREFIX}.{kind}",
    )


def metrics_resources() -> list[Resource]:
    """Return NodeMetrics and PodMetrics."""
    return [
        Resource(
            GROUP,
            "v1beta1",
            kind,
            plural,
            namespaced,
            verbs=("get", "list"),
            make_schema=functools.partial(_whole, kind),
            stored=False,
        )
        for kind, plural, namespaced in (("NodeMetrics", "nodes", False), ("PodMetrics", "pods", True))
    ]
