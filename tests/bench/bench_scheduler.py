# SPDX-License-Identifier: Apache-2.0
"""Pods with claims bound per second: our scheduler and API server in one process, and the real ones beside them.

Nodes, slices and pods with a claim each are there first; then the scheduler starts. What counts is the time from the
first pod that is bound to the last, as a watch sees it. Every node has a local device that is shared; every claim takes
a part of one. With `--templates` the claims are made from a template, by the claim controller, within that time.

    python -m tests.bench.bench_scheduler [--nodes 200,1000] [--pods 1000] [--templates] [--profile] [--no-real]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster.support.control_plane import VERSIONS, ControlPlane
from tests.embedded.support.scheduling import GI, claim, claim_spec, device_class, memory_slice, node, pod
from tools.cluster.build import find

from dynamic_memory.api.kinds import (
    DEVICE_CLASSES,
    NODES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from dynamic_memory.api.wire import Kind
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.apiserver.server import Options, serve
from dynamic_memory.embedded.controllers import ControllerManager, ControllersConfig
from dynamic_memory.embedded.scheduler import Scheduler
from dynamic_memory.kube.client import Client
from dynamic_memory.kube.errors import AlreadyExists
from dynamic_memory.kube.informer import Informer
from dynamic_memory.kube.interface import Kube

WAIT = 300.0


async def put(kube: Kube, kind: Kind[Any], bodies: list[dict[str, Any]]) -> None:
    """Create objects, some at a time; statuses are written apart."""
    gate = asyncio.Semaphore(16)

    async def one(body: dict[str, Any]) -> None:
        async with gate:
            namespace = body["metadata"].get("namespace")
            status = body.get("status")
            try:
                await kube.create(kind, {k: v for k, v in body.items() if k != "status"}, namespace=namespace)
            except AlreadyExists:
                return
            if status and kind is NODES:
                await kube.patch(kind, body["metadata"]["name"], {"status": status}, subresource="status")

    await asyncio.gather(*(one(body) for body in bodies))


async def fill(kube: Kube, nodes: int, pods: int, *, templates: bool) -> None:
    """Make a cluster with pods that nobody has looked at."""
    names = [f"node-{number:04}" for number in range(nodes)]
    ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    bodies = [node(name, cpu="64", memory="256Gi") for name in names]
    for body in bodies:
        body["status"]["conditions"] = ready
    await put(kube, NODES, bodies)
    await put(kube, DEVICE_CLASSES, [device_class()])
    await put(kube, RESOURCE_SLICES, [memory_slice(f"{name}-mem", 64 * GI, node_name=name) for name in names])
    if templates:
        inner = {"spec": claim_spec(GI)}
        template = {"metadata": {"name": "t", "namespace": "default"}, "spec": inner}
        await put(kube, RESOURCE_CLAIM_TEMPLATES, [template])
        await put(kube, PODS, [pod(f"p{number}", templates={"m": "t"}) for number in range(pods)])
    else:
        await put(kube, RESOURCE_CLAIMS, [claim(f"c{number}") for number in range(pods)])
        await put(kube, PODS, [pod(f"p{number}", claims={"m": f"c{number}"}) for number in range(pods)])


async def measure(kube: Kube, pods: int, start: Callable[[], Any]) -> float:
    """Start the scheduler and return pods bound per second."""
    informer = Informer(kube, PODS)
    times: dict[str, float] = {}
    done = asyncio.Event()

    def seen(change: Any) -> None:
        if change.object.spec.node_name and change.object.metadata.name not in times:
            times[change.object.metadata.name] = time.perf_counter()
            if len(times) == pods:
                done.set()

    informer.subscribe(seen)
    follower = asyncio.create_task(informer.run())
    try:
        await informer.wait_synced()
        start()
        await asyncio.wait_for(done.wait(), WAIT)
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
    return (pods - 1) / (max(times.values()) - min(times.values()))


async def ours(nodes: int, pods: int, *, templates: bool, profile: bool) -> tuple[float, float]:
    """Return pods per second, and the CPU time that it took."""
    async with serve(Options(port=0)) as server:
        await fill(LocalKube(server.api), nodes, pods, templates=templates)
        tasks: list[asyncio.Task[None]] = []

        def start() -> None:
            kube = LocalKube(server.api, manager="kube-scheduler")
            tasks.append(asyncio.create_task(Scheduler(kube).run()))
            if templates:
                config = ControllersConfig(node_life=False)
                manager = ControllerManager(LocalKube(server.api, manager="kube-controller-manager"), config)
                tasks.append(asyncio.create_task(manager.run()))

        watching = cProfile.Profile() if profile else None
        if watching:
            watching.enable()
        began = time.process_time()
        try:
            return await measure(LocalKube(server.api), pods, start), time.process_time() - began
        finally:
            if watching:
                watching.disable()
                pstats.Stats(watching).sort_stats("tottime").print_stats(45)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def real(plane: ControlPlane, nodes: int, pods: int, *, templates: bool) -> float:
    kube = Client.from_environment(str(plane.kubeconfig))
    try:
        await fill(kube, nodes, pods, templates=templates)
        return await measure(kube, pods, lambda: plane.start_process("kube-scheduler"))
    finally:
        await kube.close()


def run_real(version: str, nodes: int, pods: int, *, templates: bool) -> float:
    # No kubelets: the nodes must not be given up meanwhile.
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(version, Path(folder), node_grace=3600)
        try:
            plane.start()
            plane.wait()
            plane.wait_for_pods()
            plane.children["kube-scheduler"].kill()
            return asyncio.run(real(plane, nodes, pods, templates=templates))
        finally:
            plane.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", default="200,1000")
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--templates", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--no-real", action="store_true")
    options = parser.parse_args()
    versions = [] if options.no_real else [version for version in VERSIONS[:1] if _built(version)]
    for nodes in map(int, options.nodes.split(",")):
        rate, spent = asyncio.run(ours(nodes, options.pods, templates=options.templates, profile=options.profile))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        busy = f"{options.pods / spent:.0f} a second of CPU time, peak {peak:.0f} MiB"
        print(f"{nodes:5} nodes, {options.pods} pods: ours {rate:6.1f} pods/s ({busy})", flush=True)
        for version in versions:
            theirs = run_real(version, nodes, options.pods, templates=options.templates)
            print(f"{'':12} Kubernetes {version}: {theirs:6.1f} pods/s; ratio {rate / theirs:.2f}", flush=True)


def _built(version: str) -> bool:
    try:
        return find(f"kubernetes-{version}").is_dir()
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main()
