# SPDX-License-Identifier: Apache-2.0
"""The commands `up` and `demo`, as people run them."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from dynamic_memory.api.meta import ObjectMeta
from dynamic_memory.cli import cli
from dynamic_memory.cli.demo import TABLES
from dynamic_memory.cli.live import Live
from dynamic_memory.cli.up import Unusable, usable
from dynamic_memory.embedded.cluster.cluster import _takes_pods
from dynamic_memory.embedded.cluster.config import ClusterConfig
from dynamic_memory.embedded.cluster.story import Picture
from dynamic_memory.embedded.kubelet.objects import Node
from dynamic_memory.errors import InvalidInput

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "dynamic_memory"]


def test_the_demo_shows_all_of_it_and_says_so():
    done = subprocess.run([*COMMAND, "demo"], capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    # the example as it stands in the README: two precise errors
    assert 'spec.containers[0].volumeMounts[0].name: Not found: "dynamic-memory"' in said
    assert "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`" in said
    # the corrected one: attached, running, shown, given back
    for text in (
        "the pod is Pending",
        "Attached=True in the claim",
        "the pod is Running",
        "dynamicmemory.dev/memory 0 ->",
        "dynamic-memory-claim   allocated,reserved",
        "every byte is back in the pool",
        "the pod is gone",
    ):
        assert text in said, said
    rows = [line.split() for line in said.splitlines() if "->" in line and line[:1].isdigit()]
    assert [int(row[0]) for row in rows] == list(range(1, 22))
    assert "never" not in {row[1] for row in rows}
    assert "All of it happened" in said
    assert "\x1b" not in said, "a pipe gets plain text"


def test_a_demo_that_was_kept_ends_cleanly_with_ctrl_c(folder):
    arguments = ["demo", "--keep", "--nodes", "1", "--folder", str(folder)]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert any("until Ctrl-C" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert "not as it should be" not in errors
    assert process.returncode == 0, errors


def test_a_demo_that_is_interrupted_says_so(folder):
    arguments = ["demo", "--keep", "--nodes", "1", "--folder", str(folder)]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert any("is up after" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert "not as it should be: it was interrupted" in errors
    assert process.returncode == 1


def test_up_says_where_it_is_and_ends_cleanly_with_ctrl_c(folder):
    arguments = ["up", "--nodes", "1", "--fabric", "2Gi", "--port", "0", "--folder", str(folder)]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        text = "".join(lines)
        assert f"export KUBECONFIG={folder}/kubeconfig" in text, text
        assert "1 node, 2Gi of fabric memory" in text
        assert (folder / "kubeconfig").exists()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not [path for path in folder.rglob("*") if path.is_socket()]
    assert "count: 1" in (folder / "cluster.yaml").read_text()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_roles_that_are_processes_end_with_the_cluster_however_it_ends(folder, how):
    arguments = ["up", "--nodes", "1", "--roles", "process", "--port", "0", "--folder", str(folder)]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        # while they start: the nodes are there, and the roles are not ready
        while len(roles := _children(process.pid)) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(roles) == 4
        process.send_signal(how)
        assert process.wait(30) == (0 if how == signal.SIGINT else -how)
    deadline = time.monotonic() + 30
    while (left := [pid for pid in roles if _alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def _children(parent: int) -> list[int]:
    """Processes that a process has started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["--fabric", "1Mi"], "--fabric"),
        (["--fabric", "much"], "much"),
        (["--folder", "/tmp/" + "x" * 90], "--folder"),
    ],
)
def test_wishes_that_cannot_be_are_refused(arguments, where, folder):
    given = arguments if "--folder" in arguments else [*arguments, "--folder", str(folder)]
    done = subprocess.run([*COMMAND, "up", *given], capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert done.returncode == 2
    assert where in done.stderr
    assert not folder.exists()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "--folder: /f: No space left on device"),
        (errno.EMFILE, "--folder: /f: Too many open files; fewer nodes, or a higher `ulimit -n`, may help"),
    ],
)
def test_what_the_machine_refuses_is_said_in_a_sentence(number, said):
    with pytest.raises(Unusable) as refused, usable(Path("/f")):
        raise OSError(number, os.strerror(number))
    assert str(refused.value) == said


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence():
    for command in ("up", "demo"):
        result = CliRunner().invoke(cli, [command, "--folder", "/dev/null/c"])
        assert str(result.exception) == "--folder: /dev/null/c/logs: Not a directory"


def test_a_pipe_that_nobody_reads_ends_it_in_a_sentence():
    script = "from dynamic_memory.cli.up import *; from pathlib import Path\n"
    script += "with usable(Path()):\n  while True: print('x' * 9999, flush=True)"
    command = f'{sys.executable} -c "{script}" | true'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.rstrip().endswith("Unusable: nobody reads what is printed")


@pytest.mark.parametrize(
    ("taint", "up"),
    [("node.kubernetes.io/unschedulable", True), ("mine", True), ("node.kubernetes.io/not-ready", False)],
)
def test_a_node_that_somebody_cordoned_is_up_all_the_same(taint, up):
    node = Node(
        metadata=ObjectMeta(name="a"),
        spec={"taints": [{"key": taint, "effect": "NoSchedule"}]},
        status={"conditions": [{"type": "Ready", "status": "True"}]},
    )
    assert _takes_pods(node) is up


def test_options_change_what_the_folder_remembers(folder):
    from dynamic_memory.cli.up import _config

    nothing = {"config": None, "nodes": None, "fabric": None, "roles": None, "run_processes": False, "port": None}
    folder.mkdir(parents=True)
    (folder / "cluster.yaml").write_text("nodes: [{count: 3}]\nfabric: [{size: 1Gi}]\n")
    found = _config(folder, nothing)
    assert (found.nodes[0].count, int(found.fabric[0].size)) == (3, 1 << 30)
    found = _config(folder, {**nothing, "nodes": 5, "roles": "none", "run_processes": True, "port": 7})
    assert (found.nodes[0].count, found.roles, found.run_processes, found.port) == (5, "none", True, 7)
    assert found.rbac, "who may make pods runs commands here"
    with pytest.raises(InvalidInput, match="rbac"):
        ClusterConfig(run_processes=True)
    (folder / "cluster.yaml").write_text("nodes: [{name: a}, {name: b}]\n")
    with pytest.raises(InvalidInput, match="--nodes"):
        _config(folder, {**nothing, "nodes": 5})


def test_help_names_both_without_importing_them():
    result = CliRunner().invoke(cli, ["--help"])
    assert "demo" in result.output
    assert "up " in result.output


def test_the_live_view_shows_tables_and_the_last_lines():
    live = Live(TABLES, 3)
    for number in range(5):
        live.happened(number, f"line {number}")
    live.chapter("chapter")
    picture = Picture([("node-1", "Ready", "16Gi", "2Gi", "18Gi")], [("pod", "Running", "node-1")], [], [])
    live.show(picture, whole=False)
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(live._render())
    text = console.file.getvalue()
    assert "node-1" in text
    assert "FABRIC MEMORY" in text
    assert "line 4" in text
    assert "line 1" not in text
    assert os.linesep in text
