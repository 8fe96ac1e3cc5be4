# SPDX-License-Identifier: Apache-2.0
"""How big each role is: resident memory of a process that has imported all that the role needs.

What a role takes while it works is printed by the cluster tests (scenario 1), for pods on a real node.
"""

from __future__ import annotations

import subprocess
import sys

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


def main() -> None:
    print(f"{'role':12}{'resident':>12}{'anonymous':>12}")
    for role, module in ROLES.items():
        done = subprocess.run([sys.executable, "-c", PROGRAM, module], capture_output=True, text=True, check=True)
        resident, anonymous = (int(value) / 1024 for value in done.stdout.split())
        print(f"{role:12}{resident:8.1f} MiB{anonymous:8.1f} MiB")


if __name__ == "__main__":
    main()
