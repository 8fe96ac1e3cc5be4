# SPDX-License-Identifier: Apache-2.0
"""How fast our NRI plugin answers, beside NRI's own Go stub: the same runtime side, in Go, on a socket for each.

    python -m tests.bench.bench_nri [--claims 100] [--creations 3000] [--containers 12000]

Prints for both: CreateContainer round trip (p50, p90, p99), Synchronize of all containers, resident memory; and the
ratio of ours to Go's. Ours is the driver's plugin with its ledger and a pod's cgroup made of files; Go's knows one
claim by heart. Both are processes of their own, and ours is a part of a driver: what a whole one takes, with its
connections to API server, fabric and kubelet, is what bench_driver_memory prints. A machine without Go says so and
prints nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
ROUNDS = 3


def reference() -> Path:
    """The Go program; built if it is not there yet."""
    spec = importlib.util.spec_from_file_location("nri_reference", HERE.parents[1] / "tools/nri-reference/build.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program: Path = module.build()
    return program


async def serve(socket: Path, folder: Path, claims: int) -> None:
    """Be our plugin, with this many claims in the ledger; one is for the container that is created."""
    import os

    from tests.unit.driver.nri_world import MIB, World, huge

    from dynamic_memory.nri import Stub
    from dynamic_memory.process.backoff import Backoff

    world = World(folder)
    os.fsync = lambda _descriptor: None  # the ledger is filled before anything is measured
    for number in range(2, claims + 1):
        await world.prepare(number, huge(0, 2 * MIB), pod=f"pod-{number}")
    await world.prepare(1, huge(0, 64 * MIB), pod="bench")
    world.sandbox("bench")
    await Stub(world.plugin, name="dra.memory", socket=socket, environ={}, backoff=Backoff(0.05, 0.1)).run()


def measure(program: Path, plugin: list[str], creations: int, containers: int) -> dict[str, Any]:
    """One runtime and one plugin; what the runtime has measured, and the plugin's memory."""
    with tempfile.TemporaryDirectory(prefix="bench-nri-") as name:
        socket = Path(name) / "nri.sock"
        command = [str(each).replace("SOCKET", str(socket)).replace("FOLDER", name) for each in plugin]
        runtime = subprocess.Popen(
            [program, "runtime", socket, str(creations), str(containers)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        while not socket.exists():
            time.sleep(0.01)
        other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert runtime.stdout is not None
            line = runtime.stdout.readline()
            found: dict[str, Any] = json.loads(line)
            status = Path(f"/proc/{other.pid}/status").read_text() if other.poll() is None else ""
        finally:
            for process in (runtime, other):
                process.kill()
                process.wait()
            runtime.stdout.close()
    assert found["adjusted"] == found["created"], "the plugin did not do its work"
    resident = [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")]
    return {**found, "resident": resident[0] if resident else 0.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=int, default=100)
    parser.add_argument("--creations", type=int, default=3000)
    parser.add_argument("--containers", type=int, default=12_000)
    parser.add_argument("--serve", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        socket, folder = arguments.serve
        asyncio.run(serve(socket, folder / "node", arguments.claims))
        return 0
    try:
        program = reference()
    except FileNotFoundError as error:
        print(f"not measured: {error}")
        return 0
    ours = [sys.executable, "-m", "tests.bench.bench_nri", "--serve", "SOCKET", "FOLDER"]
    ours += ["--claims", str(arguments.claims)]
    plugins = {"Go stub": [program, "plugin", "SOCKET"], f"ours, {arguments.claims} claims": ours}
    best: dict[str, dict[str, Any]] = {}
    for _ in range(ROUNDS):
        for name, plugin in plugins.items():
            found = measure(program, [str(each) for each in plugin], arguments.creations, arguments.containers)
            if name not in best or found["p50"] < best[name]["p50"]:
                best[name] = found
    print(f"CreateContainer round trip, the best of {ROUNDS} rounds of {arguments.creations}; microseconds")
    for name, found in best.items():
        print(
            f"  {name:18} p50 {found['p50']:7.1f}  p90 {found['p90']:7.1f}  p99 {found['p99']:7.1f}   "
            f"Synchronize of {arguments.containers}: {found['synchronize'] / 1000:6.1f} ms   "
            f"the plugin alone {found['resident']:.1f} MiB"
        )
    go, mine = best.values()
    ratios = {what: mine[what] / go[what] for what in ("p50", "p99", "synchronize")}
    print("  ours / Go: " + "  ".join(f"{what} {ratio:.2f}" for what, ratio in ratios.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
