# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynamic_memory.driver import cdi

UID = "11111111-2222-3333-4444-555555555555"


def test_a_spec_is_one_device_with_environment():
    text = cdi.render(UID, cdi.Edits(env={"B": "2", "A": "1"}))
    assert json.loads(text) == {
        "cdiVersion": "0.8.0",
        "kind": "dra.memory/claim",
        "devices": [{"name": f"claim-{UID}", "containerEdits": {"env": ["A=1", "B=2"]}}],
    }
    assert text == cdi.render(UID, cdi.Edits(env={"A": "1", "B": "2"}))


def test_names_are_as_the_cdi_specification_wants_them():
    assert cdi.device_id(UID) == f"dra.memory/claim=claim-{UID}"
    # CDI SPEC, "Device Names": vendor, class and device name
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]*[a-zA-Z0-9]", cdi.VENDOR)
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_-]*[a-zA-Z0-9]", cdi.CLASS)
    assert re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]*[a-zA-Z0-9]", cdi.device_name(UID))


def test_mounts_and_device_nodes_have_their_place():
    edits = cdi.Edits(
        env={"A": "1"},
        mounts=(cdi.Mount(host_path="/h", container_path="/c", options=("ro", "bind")),),
        device_nodes=(cdi.DeviceNode(path="/dev/dax0.0", permissions="rw"),),
    )
    assert json.loads(cdi.render(UID, edits))["devices"][0]["containerEdits"] == {
        "env": ["A=1"],
        "mounts": [{"hostPath": "/h", "containerPath": "/c", "options": ["ro", "bind"]}],
        "deviceNodes": [{"path": "/dev/dax0.0", "permissions": "rw"}],
    }


def test_a_file_is_written_whole_and_only_if_it_differs(tmp_path):
    specs = cdi.Specs(tmp_path / "cdi")
    specs.write(UID, "one")
    path = tmp_path / "cdi" / f"dra.memory-claim-{UID}.json"
    inode = path.stat().st_ino
    assert path.stat().st_mode & 0o777 == 0o644
    specs.write(UID, "one")
    assert path.stat().st_ino == inode
    specs.write(UID, "two")
    assert path.read_text() == "two"
    assert [p.name for p in (tmp_path / "cdi").iterdir()] == [path.name]
    specs.remove(UID)
    specs.remove(UID)
    assert not path.exists()


def test_prune_takes_only_what_is_ours_and_stale(tmp_path):
    specs = cdi.Specs(tmp_path)
    specs.write("kept", "k")
    specs.write("stale", "s")
    (tmp_path / "dra.memory-claim-kept.123.tmp").write_text("half")
    (tmp_path / "nvidia.com-gpu.json").write_text("theirs")
    assert specs.prune(["kept"], []) == []
    assert specs.prune(["kept"]) == ["dra.memory-claim-kept.123.tmp", "dra.memory-claim-stale.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dra.memory-claim-kept.json", "nvidia.com-gpu.json"]


def test_two_that_write_the_same_file_at_the_same_time_do_not_meet(tmp_path, monkeypatch):
    """Prepare and the loop do, and two drivers in a rolling update, each process 1 of its container."""
    specs = cdi.Specs(tmp_path)
    chmod, other = Path.chmod, ["other"]

    def meanwhile(path, mode):
        chmod(path, mode)
        if other:
            specs.write(UID, other.pop())

    monkeypatch.setattr(Path, "chmod", meanwhile)
    specs.write(UID, "one")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["one"]


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(_path, _mode):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "chmod", full)
    with pytest.raises(OSError, match="No space"):
        cdi.Specs(tmp_path).write(UID, "one")
    assert list(tmp_path.iterdir()) == []


WRITER = """
import itertools, sys
from pathlib import Path
from dynamic_memory.driver import cdi
specs = cdi.Specs(Path(sys.argv[1]))
for number in itertools.count():
    env = {f"V{n}": str(number) * 50 for n in range(200)}
    specs.write("u1", cdi.render("u1", cdi.Edits(env=env)))
"""


def test_C3_a_reader_never_sees_half_a_file_whenever_the_writer_is_killed(tmp_path):
    path = tmp_path / "dra.memory-claim-u1.json"
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) as writer:
            seen, end = set(), time.monotonic() + 30
            try:
                while len(seen) < 5:
                    assert time.monotonic() < end
                    if path.exists():
                        (device,) = json.loads(path.read_text())["devices"]
                        env = device["containerEdits"]["env"]
                        assert len(env) == 200
                        assert len({entry.partition("=")[2] for entry in env}) == 1, "of one write"
                        seen.add(env[0])
            finally:
                writer.kill()
        json.loads(path.read_text())
    cdi.Specs(tmp_path).prune(["u1"])
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
