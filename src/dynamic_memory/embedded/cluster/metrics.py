# SPDX-License-Identifier: Apache-2.0
"""metrics.k8s.io of an embedded cluster: what `kubectl top` shows, asked of the simulated nodes at the moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.builtin.metrics import GROUP
from dynamic_memory.embedded.apiserver.errors import method_not_allowed, not_found
from dynamic_memory.embedded.apiserver.request import Request, Response, json_response
from dynamic_memory.embedded.apiserver.routes import Route
from dynamic_memory.embedded.apiserver.selectors import parse_labels
from dynamic_memory.embedded.cluster.node import SimulatedNode
from dynamic_memory.embedded.kubelet.stats import WINDOW, node_usage, pod_usage
from dynamic_memory.process import clock

__all__ = ["MetricsApi"]

VERSION = f"{GROUP}/v1beta1"


class MetricsApi:
    """See the module.

    Args:
        nodes: the nodes of the cluster, by name; as they are whenever somebody asks.

    """

    def __init__(self, nodes: Mapping[str, SimulatedNode]) -> None:
        self._nodes = nodes

    def install(self, api: Api) -> None:
        """Let an API server answer with these."""
        api.unstored[GROUP, "nodes"] = self._answer_nodes
        api.unstored[GROUP, "pods"] = self._answer_pods

    async def _answer_nodes(self, request: Request, route: Route) -> Response:
        return _answer(request, route, "NodeMetrics", self.nodes())

    async def _answer_pods(self, request: Request, route: Route) -> Response:
        return _answer(request, route, "PodMetrics", self.pods(route.namespace))

    def nodes(self) -> list[dict[str, Any]]:
        """Return the NodeMetrics of all nodes that are on."""
        return [
            _metrics(
                {"name": node.name, "labels": {"kubernetes.io/hostname": node.name, **node.group.labels}},
                {"usage": node_usage(node.kubelet)},
            )
            for node in self._nodes.values()
            if node.on
        ]

    def pods(self, namespace: str = "") -> list[dict[str, Any]]:
        """Return the PodMetrics of all pods that run, of one namespace or of all."""
        found = []
        for node in self._nodes.values():
            for worker in node.kubelet.workers.values():
                meta = worker.record.object.metadata
                containers = pod_usage(worker.record) if namespace in {"", meta.namespace} else []
                if containers:
                    about = {"name": meta.name, "namespace": meta.namespace, "labels": meta.labels}
                    found.append(_metrics(about, {"containers": containers}))
        return sorted(found, key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"]))


def _metrics(metadata: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    now = clock.rfc3339(clock.now())
    return {"metadata": {**metadata, "creationTimestamp": now}, "timestamp": now, "window": WINDOW, **usage}


def _answer(request: Request, route: Route, kind: str, found: Iterable[dict[str, Any]]) -> Response:
    if route.verb == "get":
        for each in found:
            if each["metadata"]["name"] == route.name:
                return json_response(200, {"kind": kind, "apiVersion": VERSION, **each})
        raise not_found(route.resource, route.name)
    if route.verb != "list":
        raise method_not_allowed(route.resource, route.verb)
    wanted = parse_labels(request.first("labelSelector"))
    items = [each for each in found if wanted is None or wanted(each["metadata"].get("labels") or {})]
    return json_response(200, {"kind": f"{kind}List", "apiVersion": VERSION, "metadata": {}, "items": items})
