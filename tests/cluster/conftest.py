# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the cluster tests: one real cluster for each Kubernetes version, started once a run.

    pytest tests/cluster                     both versions
    pytest tests/cluster --kubernetes 1.37   one of them
    pytest tests/cluster --keep              leave the clusters' folders (logs) in place

When a test fails, what each process and each container of the real node logged during that test is part of the report,
the ends of it. Programs that were not built are a failure, not a reason to skip.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.control_plane import VERSIONS
from tests.cluster.support.fake_node import FakeNode
from tests.cluster.support.node import RealNode
from tests.cluster.support.processes import be_patient, eventually, tails
from tests.cluster.support.worlds import fake_nodes, rights, world

__all__ = ["fake_nodes", "rights", "world"]

TIMEOUT = 900
"""Seconds of a test, with all that its fixtures make; it only ends what would hang for ever."""
PATIENCE = 3.0
REPORTED = 60_000
"""Bytes of logs in the report of a failure; the log of a CI run has an end, so of the later ones there are fewer."""
FULL_REPORTS = 3
_numbers = itertools.count(1)
_clusters = pytest.StashKey[list[Cluster]]()
_offsets = pytest.StashKey[dict[Path, int]]()
_reports = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubernetes", action="append", choices=VERSIONS, help="only this version; may be repeated")
    parser.addoption("--keep", action="store_true", help="keep the folders of the clusters")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_clusters] = []
    config.stash[_reports] = []
    be_patient(PATIENCE)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cluster" in metafunc.fixturenames:
        versions = metafunc.config.getoption("--kubernetes") or VERSIONS
        metafunc.parametrize("cluster", versions, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # by a signal a test that hangs fails and is reported, and what it began is ended; a thread would end the run
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT, method="signal"))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of the version that the test is run for, with one real node."""
    if os.geteuid() != 0:
        pytest.fail("cluster tests run containers and make namespaces: they need root", pytrace=False)
    missing = [program for program in ("setpriv", "unshare", "nsenter", "ip") if shutil.which(program) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)} not found: run `make cluster-prerequisites`", pytrace=False)
    failed = request.session.testsfailed
    try:
        cluster = Cluster(request.param)
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    request.config.stash[_clusters].append(cluster)
    try:
        cluster.start()
        yield cluster
    finally:
        keep = request.config.getoption("--keep") or request.session.testsfailed > failed
        cluster.stop(keep=keep or not cluster.seconds.get("up"))


@pytest.fixture
def real_node(cluster: Cluster) -> RealNode:
    """The node with a real kubelet, Ready."""
    cluster.node.wait()
    return cluster.node


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace; it goes, with all that is in it, after the test."""
    name = f"test-{next(_numbers)}"
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    eventually(
        lambda: (
            cluster.api.find("ServiceAccount", "default", name)
            and cluster.api.find("ConfigMap", "kube-root-ca.crt", name)
        ),
        20,
        f"service account and authority of {name}",
    )
    yield name
    cluster.api.delete("Namespace", name)


@pytest.fixture
def fake_node(cluster: Cluster) -> Iterator[FakeNode]:
    """A node without containers, Ready; it goes after the test."""
    node = cluster.add_fake_node(f"fake-{next(_numbers)}")
    yield node
    node.remove(cluster.plane)


@pytest.fixture(scope="session")
def our_image(cluster: Cluster) -> str:
    """Name of the image of this source tree, which the real node has."""
    return cluster.load_image()


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_offsets] = {path: path.stat().st_size for path in _logs(item.config) if path.exists()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        reports = item.config.stash[_reports]
        reports.append(item.nodeid)
        total = REPORTED if len(reports) <= FULL_REPORTS else REPORTED // 6
        for path, text in tails(_logs(item.config), item.stash.get(_offsets, {}), total):
            report.sections.append((f"{path}", text))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for cluster in config.stash[_clusters]:
        kept = f"; folder: {cluster.folder}" if cluster.folder.exists() else ""
        terminalreporter.write_line(f"Kubernetes {cluster.version}: {cluster.timing()}{kept}")


def _logs(config: pytest.Config) -> list[Path]:
    found: list[Path] = []
    for cluster in config.stash[_clusters]:
        if cluster.logs.exists():
            found += sorted(cluster.logs.glob("*.log"))
            found += sorted(path for path in cluster.node.pod_logs.rglob("*.log") if not path.is_symlink())
    return found
