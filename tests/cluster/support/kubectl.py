# SPDX-License-Identifier: Apache-2.0
"""The real kubectl, for what people see when they type."""

from __future__ import annotations

import subprocess

import yaml
from tests.cluster.support.api import Object
from tests.cluster.support.cluster import Cluster

__all__ = ["kubectl"]


def kubectl(cluster: Cluster, *arguments: str, stdin: Object | None = None) -> tuple[int, str]:
    """Run kubectl as the administrator; return its exit code and all that it printed."""
    command = [str(cluster.plane.bin / "kubectl"), "--kubeconfig", str(cluster.plane.kubeconfig), *arguments]
    text = yaml.safe_dump(stdin) if stdin is not None else None
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr
