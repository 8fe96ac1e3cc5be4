# SPDX-License-Identifier: Apache-2.0
"""Fixtures of scenarios whose roles are processes: rights and policies applied, nodes without containers, worlds."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.fake_node import FakeNode
from tests.cluster.support.processes import eventually, patient
from tests.cluster.support.world import NAMESPACE, World

__all__ = ["apply", "fake_nodes", "rights", "world"]

DEPLOY = Path(__file__).parents[3] / "deploy"
_numbers = itertools.count(1)


def apply(cluster: Cluster, *paths: Path, verb: str = "apply") -> str:
    """Run the real kubectl on manifests and return what it prints."""
    files = [argument for path in paths for argument in ("-f", str(path))]
    command = [str(cluster.plane.bin / "kubectl"), "--kubeconfig", str(cluster.plane.kubeconfig), verb, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patient(120))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def rights(cluster: Cluster) -> None:
    """Everything of deploy/ but the workloads: namespace, rights, classes, policies, configuration."""
    apply(cluster, *sorted(path for path in DEPLOY.glob("*.yaml") if path.name < "50"))
    for account in ("service", "controller", "driver", "updater"):
        eventually(lambda name=account: cluster.api.find("ServiceAccount", name, NAMESPACE), 20, account)
    # a policy counts some moments after it was created: wait until the last one does
    unsized = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "unsized"},
        "spec": {"devices": {"requests": [{"name": "far", "exactly": {"deviceClassName": "dra.fabric-memory"}}]}},
    }
    greedy = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "greedy"},
        "spec": {
            "containers": [
                {"name": "c", "image": "none", "resources": {"limits": {"dynamicmemory.dev/memory": "1"}}},
            ]
        },
    }
    for body in (unsized, greedy):
        eventually(lambda body=body: _refused(cluster, body), 30, f"the policy on {body['kind']} counts")


def _refused(cluster: Cluster, body: dict[str, Any]) -> bool:
    try:
        cluster.api.create(body, "default", dryRun="All")
    except OSError as error:
        return "dynamic-memory-" in str(error)
    return False


@pytest.fixture
def fake_nodes(cluster: Cluster, rights: None) -> Iterator[Callable[..., list[FakeNode]]]:
    """Make nodes without containers; they go after the test."""
    with contextlib.ExitStack() as stack:

        def make(count: int = 1, **options: Any) -> list[FakeNode]:
            made = []
            for _ in range(count):
                node = cluster.make_node(f"n{next(_numbers)}", **options)
                stack.callback(node.remove, cluster.plane)
                node.start()
                made.append(node)
            for node in made:
                node.wait()
            return made

        yield make


@pytest.fixture
def world(cluster: Cluster, rights: None, request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    """Make a fabric and its roles on nodes; they end after the test, and before the nodes do."""
    with contextlib.ExitStack() as stack:

        def make(
            nodes: Any, *, start: bool = True, patient: bool = False, lapse: bool = False, **options: Any
        ) -> World:
            pace = cluster.pace
            if patient:  # the controller looks for orphans more often: it does nothing else than it would do later
                options["controller"] = {"orphans": {"after": pace.orphans, "interval": pace.orphans}}
            if lapse:  # the service believes soon that a host is off
                options["service"] = {"sessionLapse": pace.lapse}
            folder = Path(tempfile.mkdtemp(prefix="dmw-", dir=cluster.scratch))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            made = World(cluster, folder, {node.name: node.kubelet_root for node in nodes}, **options)
            stack.callback(made.stop)
            if start:
                made.start()
            return made

        yield make
