# SPDX-License-Identifier: Apache-2.0
"""What each role carries: nothing of others, no library that a child process or another command needs.

How much that is in the end is measured by tests/bench/bench_driver_memory.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.deployed import environment

ROLES = {"service": "fabric", "controller": "controller", "driver": "driver", "updater": "capacity"}
AGENTS = ("driver", "updater")
"""The roles of which there is one on each node."""
PROGRAM = """
import importlib, sys
for name in ("cli.roles", "process.config", "process.logging", "process.run", "process.endpoints", sys.argv[1]):
    importlib.import_module(f"dynamic_memory.{name}")
print(*sys.modules)
"""
NEVER = {"aiohttp", "cryptography", "markdown_it", "pygments", "rich", "unittest"}
PACKAGES = {f"dynamic_memory.{name}" for name in ("allocation", "cel", "embedded", *ROLES.values())}
NOT_WANTED = {
    "service": NEVER | PACKAGES - {"dynamic_memory.fabric"} | {"httpx2", "lightkube", "dynamic_memory.kube"},
    "controller": NEVER | PACKAGES - {"dynamic_memory.controller", "dynamic_memory.fabric"},
    "driver": NEVER
    | PACKAGES - {"dynamic_memory.driver", "dynamic_memory.fabric"}
    | {"dynamic_memory.fabric.backends"},
    "updater": NEVER | PACKAGES - {"dynamic_memory.capacity"} | {"grpc", "google.protobuf", "dynamic_memory.nri"},
}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_carries_nothing_that_only_others_need(role: str) -> None:
    command = [sys.executable, "-c", PROGRAM, f"{ROLES[role]}.role"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & NOT_WANTED[role] == set()


@pytest.mark.parametrize("role", AGENTS)
def test_the_threads_of_an_agent_of_each_node_share_heaps(role: str, tmp_path: Path) -> None:
    assert int(environment(role, tmp_path)["MALLOC_ARENA_MAX"]) <= 2
