# SPDX-License-Identifier: Apache-2.0
"""One test cluster: control plane, one real node, as many more nodes as a test wants."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.support.api import Api
from tests.cluster.support.control_plane import ControlPlane
from tests.cluster.support.fake_node import FakeNode
from tests.cluster.support.images import our_image
from tests.cluster.support.kubectl import Operator
from tests.cluster.support.node import RealNode
from tests.cluster.support.pace import REAL
from tests.cluster.support.processes import Child, patient

__all__ = ["NODE", "Cluster"]

NODE = "node-1"
ROOT = Path(__file__).parents[3]


class Cluster:
    """A running cluster of one Kubernetes version; its folder is `/tmp/dmc-...`, short because sockets are in it."""

    pace = REAL
    scratch: Path | None = None

    def __init__(self, version: str) -> None:
        self.version = version
        self.folder = Path(tempfile.mkdtemp(prefix="dmc-"))
        self.seconds: dict[str, float] = {}
        self.plane = ControlPlane(version, self.folder)
        self.node = RealNode(NODE, self.plane)
        self.operator = Operator(self)

    @property
    def api(self) -> Api:
        """The API server, as administrator."""
        return self.plane.api

    @property
    def logs(self) -> Path:
        return self.plane.logs

    def start(self) -> None:
        """Start the control plane and the real node."""
        start = time.monotonic()
        self.plane.start()
        self.node.start()
        self.plane.wait()
        self.seconds["API server"] = time.monotonic() - start
        self.node.wait_containerd()
        self.seconds["containerd"] = time.monotonic() - start
        self.plane.wait_for_pods()
        self.node.wait()
        self.seconds["up"] = time.monotonic() - start

    def load_image(self) -> str:
        """Make our image, import it into the real node, and return its name."""
        start = time.monotonic()
        name, archive = our_image()
        self.seconds["image made"] = time.monotonic() - start
        self.seconds["image imported"] = self.node.import_image(archive)
        return name

    def make_node(self, name: str, **options: Any) -> FakeNode:
        """Return a new node without containers, switched off."""
        return FakeNode(name, self.plane, **options)

    def add_fake_node(self, name: str, **options: Any) -> FakeNode:
        """Return a new node without containers, ready for pods."""
        node = self.make_node(name, **options)
        node.start()
        node.wait()
        return node

    def start_role(self, name: str, role: str, config: Path, fault: str | None = None) -> Child:
        """Start one of our roles as a process; with a fault point it kills itself there."""
        environment = {"DYNAMIC_MEMORY_FAULT": fault} if fault else {}
        return self._start(name, (role, "--config", config), environment)

    def start_command(self, name: str, *arguments: str | Path) -> Child:
        """Start a command of `dynamic-memory` as a process."""
        return self._start(name, arguments, {})

    def _start(self, name: str, arguments: Sequence[str | Path], environment: Mapping[str, str]) -> Child:
        command = [sys.executable, "-m", "dynamic_memory", *arguments]
        return Child(name, command, logs=self.logs, environment=environment, folder=ROOT)

    def kubectl(self, *arguments: str | Path, stdin: str | None = None, check: bool = True) -> str:
        """Run the kubectl of this version as administrator and return what it printed.

        Raises:
            AssertionError: it failed, and `check` is true; the text has its errors.

        """
        result = subprocess.run(
            [self.plane.bin / "kubectl", *map(str, arguments)],
            input=stdin,
            env={**os.environ, "KUBECONFIG": str(self.plane.kubeconfig), "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(120),
        )
        text = " ".join(map(str, arguments))
        assert not check or result.returncode == 0, f"kubectl {text}: {result.stdout}{result.stderr}"
        return result.stdout if check else result.stdout + result.stderr

    def stop(self, *, keep: bool) -> None:
        """End everything; the folder stays if `keep`."""
        start = time.monotonic()
        try:
            self.node.remove()
        finally:
            self.plane.stop()
        self.seconds["down"] = time.monotonic() - start
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)  # a file that cannot be removed is no failure of a test

    def timing(self) -> str:
        """Return what took how long, for people."""
        return ", ".join(f"{what} {seconds:.1f} s" for what, seconds in self.seconds.items())
