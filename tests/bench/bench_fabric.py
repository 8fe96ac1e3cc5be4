# SPDX-License-Identifier: Apache-2.0
"""How fast the Dynamic Memory Service answers, over loopback with mutual TLS, in a process of its own.

    python tests/bench/bench_fabric.py [--calls 2000] [--shares 200]

Each addition and each removal is on disk before it is answered. Client and server share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

from tests.support.certificates import Authority

from dynamic_memory.fabric.client import FabricClient
from dynamic_memory.fabric.errors import Unreachable
from dynamic_memory.fabric.identity import Identity

UNIT = 256 << 20
NODES = 8


def configuration(root: Path, port: int, shares: int) -> str:
    """A service with one device for each node, large enough that nothing is refused."""
    size = (shares + 64) * 8 * UNIT
    return json.dumps(
        {
            "listen": f"127.0.0.1:{port}",
            "tls": {name: str(root / "service" / file) for name, file in TLS.items()},
            "owners": [
                {"name": "c1", "nodes": {f"n{i}": f"h{i}" for i in range(NODES)}, "pools": ["fabric/d1"]},
            ],
            "backend": {
                "simulated": {
                    "state": str(root / "fabric.json"),
                    "domains": [
                        {
                            "name": "d1",
                            "devices": [{"name": f"m{i}", "size": size} for i in range(NODES)],
                            "hosts": [{"name": f"h{i}", "window": size, "maxExtents": 100000} for i in range(NODES)],
                        }
                    ],
                }
            },
            "health": None,
        }
    )


TLS = {"ca": "ca.crt", "certificate": "tls.crt", "key": "tls.key"}


def report(what: str, times: list[float], wall: float) -> None:
    """One line: rate and percentiles."""
    cuts = statistics.quantiles(times, n=100)
    print(f"{what:44} {len(times) / wall:8.0f}/s   p50 {cuts[49] * 1e3:6.2f} ms   p99 {cuts[98] * 1e3:6.2f} ms")


async def timed(calls: list, at_once: int) -> tuple[list[float], float]:
    """Make calls, so many at a time; the time of each and of all."""
    queue = iter(calls)
    times: list[float] = []

    async def worker() -> None:
        for call in queue:
            begin = time.perf_counter()
            await call()
            times.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return times, time.perf_counter() - begin


async def ready(client: FabricClient) -> None:
    """Wait for the service."""
    while True:
        try:
            await client.list_extents()
        except Unreachable:
            await asyncio.sleep(0.02)
        else:
            return


async def measure(root: Path, calls: int, shares: int) -> None:
    """Start a service and measure it."""
    authority = Authority()
    authority.issue(root / "service", Identity.role("c1", "service"), server=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (root / "service.yaml").write_text(configuration(root, port, shares))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dynamic_memory", "service", "--log-level", "error"),
        *("--config", str(root / "service.yaml")),
    )
    clients = [
        FabricClient.connect(f"127.0.0.1:{port}", authority.issue(root / f"n{i}", Identity.node("c1", f"n{i}")))
        for i in range(NODES)
    ]
    controller = FabricClient.connect(
        f"127.0.0.1:{port}", authority.issue(root / "controller", Identity.role("c1", "controller"))
    )
    try:
        await ready(controller)

        def add(number: int, tag: str):
            node = number % NODES
            return lambda: clients[node].add_memory(
                node=f"n{node}", pool="fabric/d1", device=f"m{node}", size=UNIT, tag=tag
            )

        def remove(number: int, tag: str):
            return lambda: clients[number % NODES].remove_memory(tag)

        standing = [str(uuid.uuid4()) for _ in range(shares)]
        await timed([add(number, tag) for number, tag in enumerate(standing)], 16)
        for at_once in (1, 16):
            tags = [str(uuid.uuid4()) for _ in range(calls)]
            pairs = list(enumerate(tags))
            title = f"with {shares} shares, {at_once} at once"
            # Additions and removals in turns, so that the number of shares stays what it is.
            added: list[float] = []
            removed: list[float] = []
            wall_add = wall_remove = 0.0
            for begin in range(0, calls, 50):
                part = pairs[begin : begin + 50]
                times, wall = await timed([add(*pair) for pair in part], at_once)
                added += times
                wall_add += wall
                times, wall = await timed([remove(*pair) for pair in part], at_once)
                removed += times
                wall_remove += wall
            report(f"AddMemory, {title}", added, wall_add)
            report(f"RemoveMemory, {title}", removed, wall_remove)
            repeat = [add(number % shares, standing[number % shares]) for number in range(calls)]
            report(f"AddMemory again, {title}", *await timed(repeat, at_once))
            report(f"GetCapacity, {title}", *await timed([controller.get_capacity] * calls, at_once))
            report(f"ListExtents (own), {title}", *await timed([clients[0].list_extents] * calls, at_once))
        status = await asyncio.to_thread(Path(f"/proc/{process.pid}/status").read_text)
        print("service:", " ".join(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()))
    finally:
        for client in [*clients, controller]:
            await client.close()
        process.terminate()
        await process.wait()


def main() -> None:
    """Measure in a temporary directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--shares", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-fabric-") as directory:
        asyncio.run(measure(Path(directory), arguments.calls, arguments.shares))


if __name__ == "__main__":
    main()
