# SPDX-License-Identifier: Apache-2.0
"""What each role carries: nothing of others, no library that a child process or another command needs, small settings.

How much that is in the end is measured by tests/bench/bench_driver_memory.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.deployed import environment
from tools import image

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


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_carries_nothing_that_only_others_need(role: str) -> None:
    done = run("-c", PROGRAM, f"{ROLES[role]}.role")

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & NOT_WANTED[role] == set()


@pytest.mark.parametrize("role", AGENTS)
def test_an_agent_of_each_node_has_settings_that_keep_it_small(role: str, tmp_path: Path) -> None:
    settings = environment(role, tmp_path)

    assert int(settings["PYTHONOPTIMIZE"]) in image.LEVELS
    assert settings["PYTHONNODEBUGRANGES"] == "1"
    assert int(settings["MALLOC_ARENA_MAX"]) <= 2


@pytest.mark.parametrize("role", AGENTS)
def test_a_role_without_asserts_and_docstrings_still_says_what_is_wrong(role: str, tmp_path: Path) -> None:
    path = tmp_path / "role.yaml"
    path.write_text("health: null\nnonsense: 1\n")

    done = run("-m", "dynamic_memory", role, "--config", str(path), PYTHONOPTIMIZE="2")

    assert done.returncode == 2
    assert "nonsense" in done.stderr
