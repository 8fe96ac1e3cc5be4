# SPDX-License-Identifier: Apache-2.0
"""A Go program of this tree is built once for each content of its sources, as a script and as a module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools import gobuild
from tools.allocator import build as allocator
from tools.gobuild import Program

TOOLS = Path(__file__).resolve().parents[3] / "tools"
GO = """#!/bin/sh
case $1 in list) echo "$@" >> "$CALLS.list"; [ "$(wc -l <"$CALLS.list")" -gt "${OFFLINE:-0}" ]; exit;; esac
echo "$@" >> "$CALLS"
while [ $# -gt 1 ]; do case $1 in -o) out=$2;; esac; shift; done
echo x > "$out"
exit "${CODE:-0}"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `go` that writes what it is asked for; the file of its calls."""
    binaries = tmp_path / "path"
    binaries.mkdir()
    (binaries / "go").write_text(GO)
    (binaries / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("DYNAMIC_MEMORY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "calls").write_text("")
    return tmp_path / "calls"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    module = tmp_path / "peer-of-ours"
    module.mkdir()
    for name in ("go.mod", "go.sum", "main.go", "README"):
        (module / name).write_text(name)
    return Program(module=module, sources=("main.go",), binary="peer", tags="small")


def test_the_second_build_does_nothing(calls: Path, program: Program):
    assert program.find() is None
    path = program.build()
    assert program.build() == program.find() == path
    assert path.parent.name.startswith("peer-of-ours-")
    [call] = calls.read_text().splitlines()
    assert "-tags small" in call


@pytest.mark.parametrize(("file", "other"), [("go.mod", True), ("go.sum", True), ("main.go", True), ("README", False)])
def test_what_decides_the_program_decides_its_folder(calls: Path, program: Program, file: str, other: bool):
    first = program.build()
    (program.module / file).write_text("changed")
    assert (program.build() != first) == other
    assert len(calls.read_text().splitlines()) == 1 + other


def test_a_build_that_failed_leaves_nothing_and_says_so(
    calls: Path, program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("CODE", "3")
    assert program.main() == 1
    assert capsys.readouterr().err == "build.py: peer-of-ours did not build (go exited 3)\n"
    assert list(program.path().parent.parent.iterdir()) == []


@pytest.mark.parametrize(("failures", "code"), [(3, 0), (4, 1)])
def test_sources_that_cannot_be_had_at_once_are_asked_for_again(
    calls: Path, program: Program, monkeypatch: pytest.MonkeyPatch, failures: int, code: int
):
    monkeypatch.setattr(gobuild, "PAUSES", (0, 0, 0))
    monkeypatch.setenv("OFFLINE", str(failures))
    assert program.main() == code
    assert len(Path(f"{calls}.list").read_text().splitlines()) == 4
    assert len(calls.read_text().splitlines()) == 1 - code


def test_without_go_it_says_what_to_install(
    calls: Path, program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", "")
    assert program.main() == 1
    assert "install Go" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["allocator", "informer", "nri-reference"])
def test_each_script_builds_its_module_from_anywhere(calls: Path, tmp_path: Path, name: str):
    command = [sys.executable, str(TOOLS / name / "build.py")]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, check=True)
    path = Path(done.stdout.strip())
    assert path.is_file()
    assert path.parent.name.startswith(f"{name}-")
    if name == "allocator":
        assert allocator.find() == path
