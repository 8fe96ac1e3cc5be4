# SPDX-License-Identifier: Apache-2.0
"""The scenarios of the main job on the embedded cluster: the code of tests/cluster, on another cluster."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator

import pytest
from tests.cluster.support.processes import eventually
from tests.cluster.support.world import NAMESPACE
from tests.cluster.support.worlds import fake_nodes, world
from tests.embedded.support.stage import EmbeddedCluster

__all__ = ["fake_nodes", "world"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[EmbeddedCluster]:
    """One embedded cluster for all scenarios."""
    found = EmbeddedCluster()
    assert found.forks, "it gets ready while the first scenarios run"
    found.start()
    gc.freeze()  # what has been imported stays; to look through all of it takes a sixth of a second, each time
    yield found
    gc.unfreeze()
    found.stop()


@pytest.fixture(scope="session")
def rights(cluster: EmbeddedCluster) -> None:
    """An embedded cluster has the manifests from its start."""
    for account in ("service", "controller", "driver", "updater"):
        assert cluster.api.find("ServiceAccount", account, NAMESPACE)


@pytest.fixture
def namespace(cluster: EmbeddedCluster) -> Iterator[str]:
    """A fresh namespace; it goes, with all that is in it, after the test."""
    name = f"test-{next(_numbers)}"
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    eventually(lambda: cluster.api.find("ServiceAccount", "default", name), 30, f"service account of {name}")
    yield name
    cluster.api.delete("Namespace", name)
