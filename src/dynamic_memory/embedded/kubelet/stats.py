# SPDX-License-Identifier: Apache-2.0
"""What a simulated node and its pods use: in the shape of the kubelet's `stats/summary`, and as metrics.k8s.io has it.

Memory is what the containers' models say. A working set is what cannot be dropped (the whole use less inactive files).
Of processors only so much is known that a running container takes a thousandth of one.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.kubelet.kubelet import Kubelet
from dynamic_memory.embedded.kubelet.pod import PodRecord

__all__ = ["WINDOW", "node_usage", "pod_usage", "summary"]

WINDOW = "15s"
NANO_CORES = 1_000_000
KIB = 1024


def node_usage(kubelet: Kubelet) -> dict[str, str]:
    """Return what a node uses, as quantities."""
    running = [each for worker in kubelet.workers.values() for each in worker.record.containers if each.running]
    anonymous = sum(kubelet.runtime.usage(uid).anonymous for uid in kubelet.runtime.pods())
    return {"cpu": f"{len(running) * NANO_CORES}n", "memory": f"{anonymous // KIB}Ki"}


def pod_usage(record: PodRecord) -> list[dict[str, Any]]:
    """Return what the running containers of a pod use, as metrics.k8s.io has it."""
    return [
        {"name": each.name, "usage": {"cpu": f"{NANO_CORES}n", "memory": f"{each.current.read().anonymous // KIB}Ki"}}
        for each in record.containers
        if each.running and each.current is not None
    ]


def summary(kubelet: Kubelet, now: str) -> dict[str, Any]:
    """Return the node and its pods as `/stats/summary` shows them, as far as memory is concerned."""
    pods = []
    total = 0
    for worker in kubelet.workers.values():
        record = worker.record
        containers = []
        for each in record.containers:
            if not each.running or each.current is None:
                continue
            reading = each.current.read()
            total += reading.anonymous
            containers.append({"name": each.name, "memory": _memory(reading.anonymous, reading.cache, now)})
        if containers:
            meta = record.object.metadata
            usage = kubelet.runtime.usage(record.uid)
            pods.append(
                {
                    "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
                    "containers": containers,
                    "memory": _memory(usage.anonymous, usage.cache, now),
                }
            )
    node = {
        "nodeName": kubelet.name,
        "memory": {
            "time": now,
            "availableBytes": max(0, kubelet.node.memory - total),
            "usageBytes": total,
            "workingSetBytes": total,
        },
    }
    return {"node": node, "pods": pods}


def _memory(anonymous: int, cache: int, now: str) -> dict[str, Any]:
    return {"time": now, "usageBytes": anonymous + cache, "workingSetBytes": anonymous, "rssBytes": anonymous}
