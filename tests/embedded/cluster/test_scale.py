# SPDX-License-Identifier: Apache-2.0
"""200 simulated nodes and 2,000 pods in one process: all run, and what it takes."""

from __future__ import annotations

import asyncio
import resource
import time

import pytest
from tests.embedded.support.clusters import cluster

from dynamic_memory.embedded.cluster.config import ClusterConfig
from dynamic_memory.embedded.kubelet.objects import PODS
from dynamic_memory.process import config

NODES, COUNT = 200, 2000


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_200_nodes_run_2000_pods_in_one_process(folder):
    nodes = config.loads(f"nodes: [{{count: {NODES}, memory: [4Gi]}}]\nfabric: []".encode(), ClusterConfig)
    begun, cpu = time.monotonic(), time.process_time()
    async with cluster(folder, roles="none", nodes=nodes.nodes, fabric=(), keep=False) as running:
        up = time.monotonic() - begun
        container = {"name": "c", "image": "b", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
        for number in range(COUNT):
            body = {"metadata": {"name": f"p{number}"}, "spec": {"containers": [container]}}
            await running.kube.create(PODS, body, namespace="default")
        async with asyncio.timeout(500):
            while True:
                pods = (await running.kube.list(PODS)).items
                if sum(pod.status.get("phase") == "Running" for pod in pods) == COUNT:
                    break
                await asyncio.sleep(0.5)
        assert len({pod.spec["nodeName"] for pod in pods}) == NODES
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        seconds, used = time.monotonic() - begun, time.process_time() - cpu
        print(f"{NODES} nodes up in {up:.1f} s, {COUNT} pods after {seconds:.1f} s ({used:.1f} s CPU), {memory} MiB")
        assert memory < 600
