# SPDX-License-Identifier: Apache-2.0
"""The real kubectl, for what people see when they type."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import yaml
from tests.cluster.support.api import Object
from tests.cluster.support.processes import patient

if TYPE_CHECKING:
    from tests.cluster.support.cluster import Cluster

__all__ = ["Operator", "kubectl"]


def kubectl(cluster: Cluster, *arguments: str, stdin: Object | None = None) -> tuple[int, str]:
    """Run kubectl as the administrator; return its exit code and all that it printed."""
    command = [str(cluster.plane.bin / "kubectl"), "--kubeconfig", str(cluster.plane.kubeconfig), *arguments]
    text = yaml.safe_dump(stdin) if stdin is not None else None
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=patient(60))
    return done.returncode, done.stdout + done.stderr


class Operator:
    """Somebody who types: each method returns the exit code, and all that was printed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def apply(self, body: Object) -> tuple[int, str]:
        return kubectl(self._cluster, "apply", "-f", "-", stdin=body)

    def annotate(self, pod: str, namespace: str, key: str, value: str) -> tuple[int, str]:
        return kubectl(self._cluster, "annotate", "pod", pod, "-n", namespace, f"{key}={value}")

    def delete_by_force(self, pod: str, namespace: str) -> tuple[int, str]:
        return kubectl(self._cluster, "delete", "pod", pod, "-n", namespace, "--force", "--wait=false")
