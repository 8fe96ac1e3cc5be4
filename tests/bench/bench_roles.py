# SPDX-License-Identifier: Apache-2.0
"""How big each role is: resident memory of a process that has imported all that the role needs, in its deployment.

What a role takes while it works is printed by the cluster tests (scenario 1), for pods on a real node; what a driver
takes, by bench_driver_memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.deployed import environment

ROLES = {
    "service": "dynamic_memory.fabric.role",
    "controller": "dynamic_memory.controller.role",
    "driver": "dynamic_memory.driver.role",
    "updater": "dynamic_memory.capacity.role",
}
PROGRAM = """
import importlib, sys
importlib.import_module(sys.argv[1])
importlib.import_module("dynamic_memory.process.endpoints")
for line in open("/proc/self/status"):
    if line.startswith(("VmRSS", "RssAnon")):
        print(line.split()[1], end=" ")
"""


def measure(role: str, module: str, compiled: Path) -> list[float]:
    """Resident and anonymous memory, MiB; modules are compiled by a first run."""
    for _ in range(2):
        command, env = [sys.executable, "-c", PROGRAM, module], environment(role, compiled)
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return [int(value) / 1024 for value in done.stdout.split()]


def main() -> None:
    print(f"{'role':12}{'resident':>12}{'anonymous':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for role, module in ROLES.items():
            resident, anonymous = measure(role, module, Path(folder))
            print(f"{role:12}{resident:8.1f} MiB{anonymous:8.1f} MiB")


if __name__ == "__main__":
    main()
