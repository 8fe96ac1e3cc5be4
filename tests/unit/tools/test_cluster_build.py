# SPDX-License-Identifier: Apache-2.0
"""Programs are built once for each content of what decides them, and half a build is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tools.cluster import build

GO = """#!/bin/sh
case $1 in list) echo "$@" >> "$CALLS.list"; [ "$(wc -l <"$CALLS.list")" -gt "${OFFLINE:-0}" ]; exit;; esac
echo "$@" >> "$CALLS"
while [ $# -gt 1 ]; do case $1 in -o) out=$2;; esac; shift; done
case $out in */) for name in $NAMES; do echo x > "$out$name"; done;; *) echo x > "$out";; esac
exit "${CODE:-0}"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `go` that writes what it is asked for; the file of its calls."""
    binaries = tmp_path / "path"
    binaries.mkdir()
    (binaries / "go").write_text(GO)
    (binaries / "go").chmod(0o755)
    modules = tmp_path / "modules"
    for name, component in build.COMPONENTS.items():
        (modules / name).mkdir(parents=True)
        (modules / name / "go.mod").write_text(f"module {name}\n")
        (modules / name / "go.sum").write_text("")
        assert component.name == name
    monkeypatch.setattr(build, "HERE", modules)
    monkeypatch.setenv("PATH", f"{binaries}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("DYNAMIC_MEMORY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "calls").write_text("")
    return tmp_path / "calls"


def test_what_is_missing_says_which_command_makes_it(calls: Path):
    with pytest.raises(FileNotFoundError, match="run `make cluster-bins` first"):
        build.find("etcd")


def test_the_second_build_does_nothing(calls: Path):
    folder = build.build("etcd")
    assert build.build("etcd") == build.find("etcd") == folder
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize("file", ["go.mod", "go.sum"])
def test_other_sources_are_another_folder(calls: Path, file: str):
    first = build.build("runc")
    (build.HERE / "runc" / file).write_text("changed")
    with pytest.raises(FileNotFoundError):
        build.find("runc")
    assert build.build("runc") != first
    assert len(calls.read_text().splitlines()) == 2


def test_a_build_that_failed_leaves_nothing(calls: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CODE", "1")
    with pytest.raises(subprocess.CalledProcessError):
        build.build("etcd")
    assert list((build.cache_dir() / "bin").iterdir()) == []


def test_a_component_of_several_programs_needs_all_of_them(calls: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NAMES", "loopback bridge host-local")
    folder = build.build("cni")
    (folder / "bridge").unlink()
    with pytest.raises(FileNotFoundError, match="lacks bridge"):
        build.find("cni")
    assert (build.build("cni") / "bridge").exists()


def test_kubernetes_says_its_version(calls: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NAMES", " ".join(build.KUBERNETES))
    build.build("kubernetes-1.37")
    assert "gitVersion=v1.37.0 " in calls.read_text()
    assert "gitMinor=37" in calls.read_text()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"DYNAMIC_MEMORY_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/dynamic-memory"),
        ({"HOME": "/c"}, "/c/.cache/dynamic-memory"),
    ],
)
def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str):
    for name in ("DYNAMIC_MEMORY_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert build.cache_dir() == Path(expected)
