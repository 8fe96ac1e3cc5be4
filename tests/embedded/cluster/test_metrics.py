# SPDX-License-Identifier: Apache-2.0
"""metrics.k8s.io: what `kubectl top` would show, from the models of the containers."""

from __future__ import annotations

import json
from urllib.request import urlopen

from tests.embedded.support.clusters import cluster, eventually, phase

from dynamic_memory.embedded.kubelet.objects import PODS
from dynamic_memory.embedded.kubelet.stats import summary

MI = 1 << 20


async def test_usage_of_nodes_and_pods_is_that_of_their_models(folder):
    import asyncio

    async with cluster(folder, roles="none") as running:

        async def ask(path: str):
            url = f"{running.server.url}/apis/metrics.k8s.io/v1beta1/{path}"
            return await asyncio.to_thread(lambda: json.load(urlopen(url)))

        for name, size in (("a", "100Mi"), ("b", "300Mi; cache 50Mi")):
            meta = {"name": name, "labels": {"app": name}, "annotations": {"simulation.dynamicmemory.dev/memory": size}}
            spec = {"containers": [{"name": "main", "image": "busybox"}], "nodeName": "node-1"}
            await running.kube.create(PODS, {"metadata": meta, "spec": spec}, namespace="default")
        for name in ("a", "b"):
            await eventually(lambda name=name: _running(running, name), f"{name} runs")
        pods = await ask("namespaces/default/pods")
        assert pods["kind"] == "PodMetricsList"
        usage = {item["metadata"]["name"]: item["containers"][0]["usage"]["memory"] for item in pods["items"]}
        assert usage == {"a": f"{100 * 1024}Ki", "b": f"{300 * 1024}Ki"}
        (only,) = (await ask("pods?labelSelector=app%3Db"))["items"]
        assert only["metadata"]["name"] == "b"
        nodes = {item["metadata"]["name"]: item["usage"]["memory"] for item in (await ask("nodes"))["items"]}
        assert nodes == {"node-1": f"{400 * 1024}Ki", "node-2": "0Ki"}
        assert (await ask("nodes/node-1"))["kind"] == "NodeMetrics"
        found = summary(running.nodes["node-1"].kubelet, "now")
        assert found["node"]["memory"]["workingSetBytes"] == 400 * MI
        assert found["node"]["memory"]["availableBytes"] == 624 * MI
        by_name = {pod["podRef"]["name"]: pod["memory"] for pod in found["pods"]}
        assert by_name["b"]["usageBytes"] == 350 * MI
        assert by_name["b"]["workingSetBytes"] == 300 * MI


async def _running(running, name):
    return await phase(running, name) == "Running"
