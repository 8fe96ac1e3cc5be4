# SPDX-License-Identifier: Apache-2.0
"""What the cluster tests themselves stand on, as far as it can be tried without a cluster."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from tests.cluster.support.api import _path
from tests.cluster.support.control_plane import Slot
from tests.cluster.support.processes import Child, NotInTime, be_patient, eventually, tail, tails
from tests.support import ports
from tests.support.ports import PORTS, free_ports


def test_eventually_returns_the_first_true_result():
    results = iter([None, 0, "yes"])
    assert eventually(lambda: next(results), 5, "a result", every=0) == "yes"


def test_eventually_tells_the_last_state():
    with pytest.raises(NotInTime, match=r"not within 0 s: the pod runs; last: AssertionError\('Pending'\)"):
        eventually(lambda: _raise(AssertionError("Pending")), 0, "the pod runs", every=0)


def _raise(error: Exception) -> bool:
    raise error


@pytest.mark.parametrize("error", [TypeError("a defect of the test"), ValueError("another")])
def test_eventually_does_not_hide_defects(error: Exception):
    with pytest.raises(type(error)):
        eventually(lambda: _raise(error), 5, "anything", every=0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("Pod", "app", "a"), "/api/v1/namespaces/app/pods/a"),
        (("Pod", ""), "/api/v1/pods"),
        (("Node", "", "n", "status"), "/api/v1/nodes/n/status"),
        (("ResourceClaim", "app", "c", "status"), "/apis/resource.k8s.io/v1/namespaces/app/resourceclaims/c/status"),
        (("ResourceSlice", "ignored", "s"), "/apis/resource.k8s.io/v1/resourceslices/s"),
        (("ClusterRole", "", "system:node"), "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode"),
    ],
)
def test_paths_of_the_api(arguments: tuple[str, ...], expected: str):
    assert _path(*arguments) == expected


def test_an_object_of_a_namespace_needs_one():
    with pytest.raises(AssertionError, match="which namespace"):
        _path("Pod", "", "a")


def test_two_slots_share_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    first, second = Slot(), Slot()
    assert not set(vars(first).values()) & set(vars(second).values())
    first.release()
    third = Slot()
    assert third.number == first.number
    second.release()
    third.release()


def test_a_patient_run_waits_longer():
    begin = time.monotonic()
    be_patient(20)
    try:
        assert eventually(lambda: time.monotonic() > begin + 0.1, 0.05, "a tenth of a second has passed", every=0.01)
        with pytest.raises(NotInTime, match="not within 0 s"):
            eventually(lambda: False, 0, "anything")
    finally:
        be_patient(1)


def test_free_ports_differ_from_call_to_call_and_are_none_that_the_kernel_gives_to_callers():
    found = [port for _ in range(20) for port in free_ports(20)]
    assert len(set(found)) == 400
    assert set(found) <= set(PORTS)


def test_a_port_that_somebody_listens_on_is_not_free(monkeypatch: pytest.MonkeyPatch):
    first, second = free_ports(2)
    monkeypatch.setattr(ports, "PORTS", (first, second))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert free_ports(1) == free_ports(1) == [second]
        with pytest.raises(OSError, match="no 2 free ports"):
            free_ports(2)


def test_the_end_of_a_log_from_a_place_on(tmp_path: Path):
    (tmp_path / "log").write_text("before\n" + "x" * 100 + "end")
    assert tail(tmp_path / "log", 7, 1000) == "x" * 100 + "end"
    assert tail(tmp_path / "log", 7, 5) == "... xxend"


def test_the_ends_of_many_logs_are_of_about_the_size_that_was_asked_for(tmp_path: Path):
    logs = {"short": 10, "long": 5000, "longer": 9000, "same": 300}
    paths = [tmp_path / name for name in logs]
    for path in paths:
        path.write_text(path.name[0] * logs[path.name])
    told = dict(tails([*paths, tmp_path / "gone"], {tmp_path / "same": 300}, 3010, least=100))
    assert {path.name: len(text.removeprefix("... ")) for path, text in told.items()} == {
        "short": 10,
        "long": 1500,
        "longer": 1500,
    }
    told = dict(tails(paths, {}, 0, least=100))
    assert {len(text.removeprefix("... ")) for text in told.values()} == {10, 100}
    assert tails([], {}, 1000) == []


def test_a_child_is_killed_with_its_children(tmp_path: Path):
    script = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    child = Child("parent", [sys.executable, "-c", script], logs=tmp_path)
    grandchild = int(eventually(lambda: (tmp_path / "parent.log").read_text().strip(), 30, "its start"))
    child.kill()
    assert child.code == -signal.SIGKILL
    eventually(lambda: _ended(grandchild), 30, "the grandchild is gone too")


def _ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_child_that_ended_is_reported_with_its_log(tmp_path: Path):
    child = Child("short", ["sh", "-c", "echo the reason; exit 3"], logs=tmp_path)
    assert child.wait(30) == 3
    with pytest.raises(AssertionError, match=r"short ended with 3:\nthe reason"):
        child.check()


def test_a_child_that_ignores_the_signal_is_killed(tmp_path: Path):
    child = Child("deaf", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"], logs=tmp_path)
    eventually(lambda: "up" in (tmp_path / "deaf.log").read_text(), 30, "its start")
    assert child.stop(0.2) == -signal.SIGKILL
