# SPDX-License-Identifier: Apache-2.0
"""How fast and how big a driver is, over its real sockets; its records are on the disk.

    python -m tests.bench.bench_driver [--claims 1000]

Prints: claim written -> Attached=True (p50, p95) on the simulated host, which is made of files; then, on a host in
memory, so that only the driver's own work counts, Prepare and Unprepare over gRPC with 0, 100 and 1000 claims prepared,
and the ratio of the last to the first; resident memory after importing the role, and while it runs. Fabric and API
server are in memory all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support.fake_fabric import FakeRig
from tests.support.fake_host import FakeHost
from tests.support.fake_kube import FakeKube
from tests.support.fake_kubelet import FakeKubelet
from tests.unit.driver.conftest import claim_body

from dynamic_memory.api.kinds import NODES, RESOURCE_CLAIMS
from dynamic_memory.driver.config import DriverConfig, FabricConfig
from dynamic_memory.driver.driver import Driver
from dynamic_memory.fabric.backends.interface import Device, Host
from dynamic_memory.host.config import HostConfig, SimulatedHostConfig, open_host
from dynamic_memory.process import clock
from dynamic_memory.process.config import Bytes

MIB = 1 << 20
ROUNDS = 40


def resident() -> float:
    """Resident memory of this process, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Bench:
    """One driver with its node."""

    def __init__(self, folder: Path, rig: FakeRig, *, files: bool) -> None:
        self.kube = FakeKube(history=500)
        self.kube.put(NODES, {"metadata": {"name": "n1", "uid": "node-uid"}})
        config = DriverConfig(
            owner="c1",
            fabric=FabricConfig(address="unused", tls=None),
            host=HostConfig(simulated=SimulatedHostConfig(root=folder / "host", nodes=(Bytes(64 << 30),))),
            node_name="n1",
            pod_uid="",
            kubelet_root=str(folder / "k"),
            cdi_dir=str(folder / "cdi"),
            state_dir=str(folder / "state"),
        )
        self.driver = Driver(
            config, kube=self.kube, fabric=rig.as_node("n1"), host=open_host(config.host) if files else FakeHost()
        )
        self.kubelet = FakeKubelet(config.registry_folder)
        self.number = 0

    def write(self) -> tuple[str, str, str]:
        """Write an allocated claim."""
        self.number += 1
        name = f"far-{self.number}"
        body = self.kube.put(RESOURCE_CLAIMS, claim_body(name=name, size="128Mi"))
        return "app", name, body["metadata"]["uid"]

    async def attach(self) -> tuple[tuple[str, str, str], float]:
        """Write a claim; return it and the seconds until it says Attached=True."""
        claim = self.write()
        began = time.perf_counter()
        while True:
            body = self.kube.body(RESOURCE_CLAIMS, claim[1], "app") or {}
            devices = body["status"].get("devices", [])
            if devices and devices[0]["conditions"][0]["status"] == "True":
                return claim, time.perf_counter() - began
            await clock.sleep(0.0005)

    async def prepare(self, claim: tuple[str, str, str]) -> float:
        began = time.perf_counter()
        answer = await self.kubelet.prepare(claim)
        assert answer[claim[2]].error == "", answer
        return time.perf_counter() - began

    async def unprepare(self, claim: tuple[str, str, str]) -> float:
        began = time.perf_counter()
        answer = await self.kubelet.unprepare(claim)
        assert answer[claim[2]] == "", answer
        return time.perf_counter() - began

    async def round(self) -> tuple[float, float, float]:
        """One claim's whole life."""
        claim, attach = await self.attach()
        prepare = await self.prepare(claim)
        unprepare = await self.unprepare(claim)
        self.kube.remove(RESOURCE_CLAIMS, claim[1], "app")
        return attach, prepare, unprepare


def line(name: str, seconds: list[float]) -> float:
    """Print p50 and p95; return p50, ms."""
    ordered = sorted(seconds)
    p50, p95 = statistics.median(ordered) * 1e3, ordered[int(len(ordered) * 0.95)] * 1e3
    print(f"{name:44} p50 {p50:7.2f} ms   p95 {p95:7.2f} ms   n {len(ordered)}")
    return p50


async def measure(folder: Path, most: int, *, files: bool) -> None:
    rig = await FakeRig.open(
        devices=(Device(domain="rack-1", name="cxl0", total=(most + 64) * 128 * MIB, unit=128 * MIB),),
        hosts=(
            Host(domain="rack-1", name="h1", device="port0", window=(most + 64) * 128 * MIB, max_extents=most + 64),
            Host(domain="rack-1", name="h2", device="port0", window=128 * MIB, max_extents=1),
        ),
    )
    bench = Bench(folder, rig, files=files)
    task = asyncio.create_task(bench.driver.run())
    try:
        await bench.kubelet.register()
        await bench.round()
        medians: dict[int, tuple[float, float]] = {}
        prepared = 0
        for count in (0,) if files else (0, most // 10, most):
            while prepared < count:
                claim, _ = await bench.attach()
                await bench.prepare(claim)
                prepared += 1
            rounds = [await bench.round() for _ in range(ROUNDS)]
            line(f"claim -> Attached=True, {count} prepared", [r[0] for r in rounds])
            medians[count] = (
                line(f"Prepare, {count} prepared", [r[1] for r in rounds]),
                line(f"Unprepare with release, {count} prepared", [r[2] for r in rounds]),
            )
            print(f"{'resident memory (with the fakes)':44} {resident():.1f} MiB")
        for index, name in enumerate(() if files else ("Prepare", "Unprepare")):
            print(f"{name + f': {most} prepared / none':44} x {medians[most][index] / medians[0][index]:.2f}")
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def import_size() -> None:
    """Resident memory of a process that has imported the role."""
    program = (
        "import dynamic_memory.driver.role\n"
        "print([l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS')][0])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    print(f"{'resident memory after importing the role':44} {int(out) / 1024:.1f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=int, default=1000, help="claims prepared in the last round")
    most = parser.parse_args().claims
    asyncio.run(import_size())
    for files in (True, False):
        print("\nhost made of files" if files else "\nhost in memory")
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(Path(folder), most, files=files))


if __name__ == "__main__":
    main()
