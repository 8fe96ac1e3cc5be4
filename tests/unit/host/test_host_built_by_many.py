# SPDX-License-Identifier: Apache-2.0
"""Driver and updater of a node start at the same moment, each as process 1 of its own container."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BUILD = """
import os, sys
from pathlib import Path
os.getpid = lambda: 1
from dynamic_memory.host.config import HostConfig, SimulatedHostConfig, open_host
sys.stdin.readline()
open_host(HostConfig(simulated=SimulatedHostConfig(root=Path(sys.argv[1]))))
"""


def test_containers_that_start_together_find_one_tree(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILD, str(tmp_path / "host")]
    builders = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    for builder in builders:
        assert builder.stdin is not None
        builder.stdin.write("go\n")
        builder.stdin.flush()

    failures = [builder.communicate(timeout=30)[1] for builder in builders]

    assert ["" for _ in builders] == failures
    assert (tmp_path / "host" / "proc" / "meminfo").is_file()
