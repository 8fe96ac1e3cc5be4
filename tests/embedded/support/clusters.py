# SPDX-License-Identifier: Apache-2.0
"""Embedded clusters for tests, and what tests ask of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from dynamic_memory.embedded.cluster.cluster import Cluster
from dynamic_memory.embedded.cluster.config import ClusterConfig
from dynamic_memory.embedded.kubelet.objects import CLAIMS, PODS
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.process import config

__all__ = ["claim_pod", "cluster", "eventually", "found", "phase"]

QUICK = """
port: 0
nodes: [{count: 2, memory: [1Gi]}]
fabric: [{size: 4Gi}]
kubelet: {prepare: 0.2, unprepare: 0.1, sync: 0.2, registry: 0.05, nodeStatus: 0.2}
control: {initialBackoff: 0.1, maxBackoff: 0.5}
"""


@contextlib.asynccontextmanager
async def cluster(folder: Path, text: str = "", **wishes: Any) -> AsyncIterator[Cluster]:
    """Run a cluster with short waits; `text` is more of its file."""
    import msgspec

    settings = msgspec.structs.replace(config.loads((QUICK + text).encode(), ClusterConfig), **wishes)
    async with Cluster(folder, settings).running() as running:
        await running.wait_ready(120)
        yield running


async def eventually(check: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Wait for a truthy answer of `check`, which may be a coroutine."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        answer = check()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert asyncio.get_running_loop().time() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)


async def found(cluster: Cluster, kind: Any, name: str, namespace: str | None = "default") -> Any:
    """Return an object, or None."""
    with contextlib.suppress(NotFound):
        return await cluster.kube.get(kind, name, namespace)
    return None


async def phase(cluster: Cluster, name: str) -> str:
    """Return the phase of a pod; empty if there is none."""
    pod = await found(cluster, PODS, name)
    return "" if pod is None else pod.status.get("phase", "")


async def claim_pod(cluster: Cluster, name: str, size: str = "1Gi", **more: Any) -> None:
    """Make a claim of its own and a pod that uses it."""
    exactly = {"deviceClassName": "dra.fabric-memory", "capacity": {"requests": {"size": size}}}
    claim = {"metadata": {"name": name}, "spec": {"devices": {"requests": [{"name": "far", "exactly": exactly}]}}}
    await cluster.kube.create(CLAIMS, claim, namespace="default")
    container = {"name": "main", "image": "busybox", "resources": {"claims": [{"name": "far"}]}}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [{**container, **more.pop("container", {})}],
        "resourceClaims": [{"name": "far", "resourceClaimName": name}],
        **more,
    }
    await cluster.kube.create(PODS, {"metadata": {"name": name}, "spec": spec}, namespace="default")
