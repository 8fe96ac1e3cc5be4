# SPDX-License-Identifier: Apache-2.0
"""A file has its old content or its new one, whatever happens in between."""

from __future__ import annotations

import os
import stat

import pytest

from dynamic_memory.process import durable


def test_write_read_remove(tmp_path):
    path = tmp_path / "record"
    assert durable.read(path) is None
    durable.write(path, b"one")
    durable.write(path, b"two" * 100_000)
    assert durable.read(path) == b"two" * 100_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    durable.remove(path)
    durable.remove(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failure_at_any_step_leaves_the_old_content_and_no_rubbish(tmp_path, monkeypatch, step):
    path = tmp_path / "record"
    durable.write(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((type(path), "replace") if step == "replace" else (os, step)), fail)
    with pytest.raises(OSError, match="No space"):
        durable.write(path, b"new")
    monkeypatch.undo()
    assert durable.read(path) == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["record"]


def test_data_is_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    log = []
    fsync, replace = os.fsync, type(tmp_path).replace

    def synced(descriptor):
        log.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def replaced(self, target):
        log.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(type(tmp_path), "replace", replaced)
    durable.write(tmp_path / "a", b"x")
    durable.remove(tmp_path / "a")
    assert log == ["file", "rename", "folder", "folder"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        durable.write(tmp_path / "no" / "a", b"x")
