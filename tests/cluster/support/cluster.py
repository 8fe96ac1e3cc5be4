# SPDX-License-Identifier: Apache-2.0
"""One test cluster: control plane, one real node, as many more nodes as a test wants."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from tests.cluster.support.api import Api
from tests.cluster.support.control_plane import ControlPlane
from tests.cluster.support.images import our_image
from tests.cluster.support.node import RealNode

__all__ = ["NODE", "Cluster"]

NODE = "node-1"


class Cluster:
    """A running cluster of one Kubernetes version; its folder is `/tmp/dm-...`, short because sockets are in it."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.folder = Path(tempfile.mkdtemp(prefix="dm-"))
        self.seconds: dict[str, float] = {}
        self.plane = ControlPlane(version, self.folder)
        self.node = RealNode(NODE, self.plane)

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

    def stop(self, *, keep: bool) -> None:
        """End everything; the folder stays if `keep`."""
        start = time.monotonic()
        try:
            self.node.remove()
        finally:
            self.plane.stop()
        self.seconds["down"] = time.monotonic() - start
        if not keep:
            shutil.rmtree(self.folder)

    def timing(self) -> str:
        """Return what took how long, for people."""
        return ", ".join(f"{what} {seconds:.1f} s" for what, seconds in self.seconds.items())
