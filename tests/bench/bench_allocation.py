# SPDX-License-Identifier: Apache-2.0
"""How long does a decision take, here and in the allocator of Kubernetes, on the same cluster in the same run?

    python -m tests.bench.bench_allocation [--nodes 1000] [--seconds 3]

Prints, for a pod that fits on the first node, one that fits only on the last, and the same for a claim over the fabric
pool and a window: milliseconds a decision of both, and the ratio. Then how our decision grows with nodes that do not
matter. The peer needs Go the first time; without it only our own numbers are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.allocation_cases import cluster
from tools.allocator.build import build

__all__ = ["main"]

GOAL = 10
GROWTH = 4


def measure(command: list[str], file: Path, seconds: float) -> dict[str, Any]:
    done = subprocess.run([*command, "--bench", str(file), str(seconds)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["scenarios"]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return 1 if a choice differs from the peer's."""
    parser = argparse.ArgumentParser(description="Decisions of the allocation engine against those of Kubernetes.")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=8, help="local devices of a node")
    parser.add_argument("--allocated", type=int, default=5000, help="claims that are allocated already")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each scenario and program")
    options = parser.parse_args(arguments)
    ours = [sys.executable, "-m", "dynamic_memory.allocation"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cluster.json"
        file.write_text(json.dumps(cluster(options.nodes, devices=options.devices, allocated=options.allocated)))
        got = measure(ours, file, options.seconds)
        try:
            peer = measure([str(build())], file, options.seconds)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            print(f"no peer: {error}", file=sys.stderr)
            peer = {}
        larger = Path(folder) / "larger.json"
        larger.write_text(
            json.dumps(cluster(GROWTH * options.nodes, devices=options.devices, allocated=options.allocated))
        )
        grown = measure(ours, larger, options.seconds)
    print(f"{options.nodes} nodes x {options.devices} devices, {options.allocated} allocated claims; ms a decision")
    print(f"{'':16}{'ours':>10}{'Kubernetes':>12}{'ratio':>8}   {GROWTH}x nodes, ours")
    different = False
    for name, own in got.items():
        line = f"{name:16}{own['msPerDecision']:10.3f}"
        if name in peer:
            ratio = peer[name]["msPerDecision"] / own["msPerDecision"]
            line += f"{peer[name]['msPerDecision']:12.2f}{ratio:7.0f}x"
            different |= (peer[name]["node"], peer[name]["devices"]) != (own["node"], own["devices"])
        else:
            line += f"{'-':>12}{'-':>8}"
        print(f"{line}   {grown[name]['msPerDecision']:10.3f}")
    if different:
        print("the two programs chose differently", file=sys.stderr)
    elif peer:
        print(f"same nodes and devices in all scenarios; goal: {GOAL} times faster")
    return int(different)


if __name__ == "__main__":
    sys.exit(main())
