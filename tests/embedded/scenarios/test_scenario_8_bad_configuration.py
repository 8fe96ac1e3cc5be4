# SPDX-License-Identifier: Apache-2.0
"""Scenario 8 for the cluster in one process: a wrong `cluster.yaml`, or option, ends `up` with 2 and one line that has
file, line, setting and what was expected; and nothing is made. For the roles: tests/unit/cli."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dynamic_memory.cli import main

GOOD = """\
nodes:
- name: big
  count: 2
  memory: [4Gi, 4Gi]
fabric:
- name: rack-a
  size: 8Gi
kubelet:
  prepare: 1s
roles: inline
"""


def replaced(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `up`, and return the one line that it says; nothing may have been made."""

    def run(*arguments: str) -> str:
        folder = tmp_path / "cluster"
        monkeypatch.setattr(sys, "argv", ["dynamic-memory", "up", "--folder", str(folder), *arguments])
        code = main()
        said = capsys.readouterr()
        assert code == 2, said.err
        assert said.out == ""
        assert len(said.err.splitlines()) == 1, said.err
        assert not folder.exists()
        return said.err

    return run


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "helth: 127.0.0.1:0\n", "11: helth: expected a documented key"),
        (replaced("  count: 2", "  cuont: 2"), "3: nodes[0].cuont: expected a documented key"),
        (replaced("  prepare: 1s", "  perpare: 1s"), "9: kubelet.perpare: expected a documented key"),
        (replaced("  count: 2", "  count: two"), "3: nodes[0].count: expected `int`, got `str`"),
        (replaced("roles: inline", "roles: threads"), "10: roles: "),
        (replaced("  size: 8Gi", "  size: a lot"), "7: fabric[0].size: expected a size such as 512Mi"),
        (replaced("  size: 8Gi", "  size: 0"), "7: fabric[0].size: expected more than 0"),
        (replaced("[4Gi, 4Gi]", "[4Gi, much]"), "4: nodes[0].memory[1]: expected a size such as 512Mi"),
        (replaced("  prepare: 1s", "  prepare: soon"), "9: kubelet.prepare: expected a time"),
        (replaced("  count: 2", "  count: 5001"), "3: nodes[0].count: expected 0 to 5000"),
        (replaced("  count: 2", "  fabric: rack-b"), "3: nodes[0].fabric: expected one of ['rack-a']"),
        (GOOD + "faults: {hosts: {small: {}}}\n", "11: faults.hosts.small: expected the name of a node"),
        (GOOD + "rbac: perhaps\n", "11: rbac: expected `bool`, got `str`"),
        ("owner: cluster\nfabric: {name: [\n", "3: expected YAML"),
        ("- nodes\n", "1: "),
    ],
    ids=lambda value: value.partition(" ")[2].replace(" expected", "") if value[:1].isdigit() else "",
)
def test_scenario_8_what_is_wrong_in_a_cluster_yaml_is_named_with_its_line(refused, tmp_path, text, said):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    assert f"{path}:{said}" in refused("--config", str(path))


def test_scenario_8_a_cluster_yaml_that_is_not_there_is_named(refused, tmp_path):
    path = tmp_path / "absent.yaml"
    assert f"{path}: cannot be read: No such file or directory" in refused("--config", str(path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fabric", "1Mi"], "--fabric: expected a multiple of 134217728 bytes"),
        (["--fabric", "much"], "--fabric: expected a size such as 64Gi, got 'much'"),
    ],
    ids=["too small", "no size"],
)
def test_scenario_8_an_option_that_cannot_be_is_named(refused, options, said):
    assert said in refused(*options)


def test_scenario_8_up_as_a_process_ends_with_2_and_one_line(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(GOOD + "helth: 127.0.0.1:0\n")
    command = [sys.executable, "-m", "dynamic_memory", "up", "--config", str(path), "--folder", str(tmp_path / "it")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2, done.stderr
    assert f"{path}:11: helth: expected a documented key" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "it").exists()
