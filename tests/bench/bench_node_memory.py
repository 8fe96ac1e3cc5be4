# SPDX-License-Identifier: Apache-2.0
"""Prepare and Unprepare of a node's own memory over gRPC, with none, 110 and 1000 claims prepared; records on the disk.

    python -m tests.bench.bench_node_memory

Three drivers, asked in turns, so that what else the machine does is the same for all. Prints the median of each and how
much the number of claims costs: a driver whose CDI file holds all claims writes all of them at each Prepare.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.fake_kube import FakeKube
from tests.support.fake_kubelet import FakeKubelet
from tests.support.machine import GIB, Node, build, put
from tests.unit.driver.local_rig import local_claim, pod_body, result

from dynamic_memory.api.kinds import NODES, PODS, RESOURCE_CLAIMS
from dynamic_memory.driver.config import DriverConfig, LocalConfig
from dynamic_memory.driver.driver import Driver
from dynamic_memory.fabric.none import NoFabric
from dynamic_memory.host.config import HostConfig, open_host
from dynamic_memory.process import clock
from dynamic_memory.process.readiness import Readiness

COUNTS = (0, 110, 1000)
ROUNDS = 50


class Bench:
    """One node, its kubelet and its claims."""

    def __init__(self, kube: FakeKube, kubelet: FakeKubelet) -> None:
        self.kube = kube
        self.kubelet = kubelet
        self.made = 0

    def claim(self) -> tuple[str, str, str]:
        self.made += 1
        name = f"c{self.made}"
        meta = self.kube.put(RESOURCE_CLAIMS, local_claim(result(size="1Mi"), name=name, pods=(f"p{name}",)))[
            "metadata"
        ]
        self.kube.put(PODS, pod_body(f"p{name}", claims={"mem": name}))
        return "app", name, meta["uid"]

    async def prepare(self, claim: tuple[str, str, str]) -> float:
        began = time.perf_counter()
        answer = await self.kubelet.prepare(claim)
        took = time.perf_counter() - began
        assert not answer[claim[2]].error, answer
        return took

    async def unprepare(self, claim: tuple[str, str, str]) -> float:
        began = time.perf_counter()
        assert await self.kubelet.unprepare(claim) == {claim[2]: ""}
        return time.perf_counter() - began


@contextlib.asynccontextmanager
async def node(folder: Path, count: int) -> AsyncIterator[Bench]:
    """Run a driver with so many claims prepared."""
    root = build(folder / "root", [Node(0, 64 * GIB)])
    put(root / "proc/sys/kernel/random/boot_id", "a-boot")
    kube, ready = FakeKube(), Readiness()
    kube.put(NODES, {"metadata": {"name": "n1", "uid": "node-uid"}})
    config = DriverConfig(
        host=HostConfig(root=root),
        local=LocalConfig(root=root, preflight="off"),
        node_name="n1",
        kubelet_root=str(folder / "k"),
        cdi_dir=str(folder / "cdi"),
        state_dir=str(folder / "state"),
    )
    driver = Driver(config, kube=kube, fabric=NoFabric(), host=open_host(config.host, fabric=False), ready=ready)
    task = asyncio.create_task(driver.run())
    try:
        bench = Bench(kube, FakeKubelet(config.registry_folder))
        await bench.kubelet.register()
        while not ready:
            await clock.sleep(0.05)
        for _ in range(count):
            await bench.prepare(bench.claim())
        yield bench
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def measure(folder: Path) -> None:
    times: dict[int, list[tuple[float, float]]] = {count: [] for count in COUNTS}
    async with contextlib.AsyncExitStack() as stack:
        benches = {count: await stack.enter_async_context(node(folder / str(count), count)) for count in COUNTS}
        for _ in range(ROUNDS):
            for count, bench in benches.items():
                claim = bench.claim()
                times[count].append((await bench.prepare(claim), await bench.unprepare(claim)))
    medians: dict[str, dict[int, float]] = {"Prepare": {}, "Unprepare": {}}
    for count, measured in times.items():
        for name, seconds in zip(medians, zip(*measured, strict=True), strict=True):
            medians[name][count] = statistics.median(seconds)
            print(f"{name + f', {count} prepared':44} {medians[name][count] * 1000:7.2f} ms")
    for name, found in medians.items():
        print(f"{f'{name}: {COUNTS[-1]} prepared / none':44} x {found[COUNTS[-1]] / found[0]:.2f}")


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main()
