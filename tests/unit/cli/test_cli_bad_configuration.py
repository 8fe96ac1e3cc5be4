# SPDX-License-Identifier: Apache-2.0
"""Scenario 8: a wrong configuration ends every role with 2 and one line: file, line, setting, what was expected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SERVICE = """\
listen: 127.0.0.1:0
tls: null
owners:
- name: cluster
  nodes: {node-1: host-1}
  pools: [fabric/rack-a]
backend:
  simulated:
    state: /tmp/none/fabric.json
    domains:
    - name: rack-a
      devices: [{name: pool0, size: 4Gi}]
      hosts: [{name: host-1, window: 4Gi, maxExtents: 8}]
"""
CONTROLLER = """\
owner: cluster
fabric:
  address: 127.0.0.1:1
"""
DRIVER = """\
owner: cluster
fabric:
  address: 127.0.0.1:1
host:
  simulated:
    root: /tmp/none
"""
UPDATER = """\
nodeName: node-1
host:
  simulated:
    root: /tmp/none
"""
ROLES = {"service": SERVICE, "controller": CONTROLLER, "driver": DRIVER, "updater": UPDATER}


def run(role: str, path: Path | str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dynamic_memory", role, "--config", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("role", ROLES)
def test_scenario_8_unknown_key_is_named_with_its_line(role: str, tmp_path: Path) -> None:
    path = tmp_path / "role.yaml"
    path.write_text(ROLES[role] + "helth: 127.0.0.1:0\n")

    done = run(role, path)

    line = len(path.read_text().splitlines())
    assert done.returncode == 2, done.stderr
    assert f"{path}:{line}: helth: expected a documented key" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_scenario_8_wrong_type_is_named_with_its_line(role: str, tmp_path: Path) -> None:
    path = tmp_path / "role.yaml"
    path.write_text(ROLES[role] + "health: 12\n")

    done = run(role, path)

    line = len(path.read_text().splitlines())
    assert done.returncode == 2, done.stderr
    assert f"{path}:{line}: health: expected `str | null`, got `int`" in done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_scenario_8_missing_file_is_named(role: str, tmp_path: Path) -> None:
    done = run(role, tmp_path / "absent.yaml")

    assert done.returncode == 2, done.stderr
    assert f"{tmp_path / 'absent.yaml'}: cannot be read: No such file or directory" in done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_scenario_8_what_is_not_yaml_is_named_with_its_line(role: str, tmp_path: Path) -> None:
    path = tmp_path / "role.yaml"
    path.write_text("owner: cluster\nfabric: {address: [\n")

    done = run(role, path)

    assert done.returncode == 2, done.stderr
    assert f"{path}:3: expected YAML" in done.stderr


def test_scenario_8_a_size_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "service.yaml"
    path.write_text(SERVICE.replace("size: 4Gi", "size: a lot"))

    done = run("service", path)

    assert done.returncode == 2, done.stderr
    assert f"{path}:12: backend.simulated.domains[0].devices[0].size: expected a size such as 512Mi" in done.stderr


def test_a_command_line_that_is_wrong_ends_with_2() -> None:
    command = [sys.executable, "-m", "dynamic_memory", "driver"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "--config" in done.stderr
