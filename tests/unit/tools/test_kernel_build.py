# SPDX-License-Identifier: Apache-2.0
"""A guest that was made is used as it is, whatever mirrors say; a mirror that fails for a moment is asked again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tools.kernel import build

APT = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $*" in
*"show linux-image-amd64") [ -e "$LISTS" ] && printf 'Package: x\\nDepends: linux-image-6.1.0-1-amd64 (= 6.1.1-1)\\n';;
*update) touch "$LISTS";;
*download*) [ "$(grep -c download "$CALLS")" -gt "$FAILURES" ] && touch kernel.deb;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt without lists, whose downloads fail the first `FAILURES` times; the file of its calls."""
    binaries = tmp_path / "path"
    binaries.mkdir()
    for name in ("apt-cache", "apt-get", "dpkg"):
        (binaries / name).write_text(APT)
        (binaries / name).chmod(0o755)
    monkeypatch.setattr(build, "PAUSES", (0, 0, 0))
    monkeypatch.setenv("PATH", f"{binaries}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("LISTS", str(tmp_path / "lists"))
    monkeypatch.setenv("DYNAMIC_MEMORY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "calls").write_text("")
    return tmp_path / "calls"


def test_a_guest_that_was_made_needs_no_mirror(calls: Path):
    folder = build._folder()
    folder.mkdir(parents=True)
    (folder / "disk.img").write_text("")
    with pytest.raises(FileNotFoundError, match="run `make kernel-guest` first"):
        build.find()
    for name in ("vmlinuz", "initramfs.gz"):
        (folder / name).write_text("")
    assert build.build() == build.find()
    assert build.find().disk == folder / "disk.img"
    assert not calls.read_text()


@pytest.mark.parametrize("failures", [0, 2])
def test_a_kernel_that_cannot_be_had_at_once_is_asked_for_again_with_new_lists(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
):
    monkeypatch.setenv("FAILURES", str(failures))
    assert build._unpack(tmp_path / "kernel") == "linux-image-6.1.0-1-amd64=6.1.1-1"
    lines = calls.read_text().splitlines()
    assert sum(line.endswith(" update") for line in lines) == 1 + failures
    assert sum("download linux-image-6.1.0-1-amd64=6.1.1-1" in line for line in lines) == 1 + failures
    assert lines[-1].startswith("dpkg -x ")


def test_a_kernel_that_cannot_be_had_at_all_is_a_failure(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAILURES", "9")
    with pytest.raises(subprocess.CalledProcessError):
        build._unpack(tmp_path / "kernel")
