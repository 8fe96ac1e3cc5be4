# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the kernel tests: one virtual machine with a kernel of its own, and a cluster of which it is the node.

Programs and images that were not built are a failure, not a reason to skip: `make test-kernel` builds them. When a test
fails, the ends of the logs are part of the report: console, kubelet, containerd, driver and containers of the guest,
and the control plane.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.support.control_plane import ControlPlane
from tests.cluster.support.images import base_images
from tests.cluster.support.node import is_ready
from tests.cluster.support.processes import be_patient, eventually, tails
from tests.kernel.support.guest import GATEWAY, Guest
from tools.kernel.build import find

TIMEOUT = 1800
"""Seconds of a test, with all that its fixtures make; it only ends what would hang for ever."""
PATIENCE = 3.0
REPORTED = 40_000
"""Bytes of logs in the report of a failure; of later ones there are fewer, for the log of a CI run has an end."""
GUEST_LOGS = "/var/log/kubelet.log /var/log/containerd.log /var/log/driver.log /var/log/pods/*/*/*.log"
_machines: list[Guest] = []
_planes: list[ControlPlane] = []
_reports: list[str] = []


def pytest_configure() -> None:
    be_patient(PATIENCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # by a signal a test that hangs fails and is reported, and what it began is ended; a thread would end the run
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT, method="signal"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        _reports.append(item.nodeid)
        total = REPORTED if len(_reports) == 1 else REPORTED // 10
        for guest in _machines:
            report.sections.append((f"{guest.name}: logs", guest.logs(GUEST_LOGS, total // 2)))
        paths = [guest.console for guest in _machines]
        paths += [path for plane in _planes for path in sorted(plane.logs.glob("*.log"))]
        report.sections += [(f"{path}", text) for path, text in tails(paths, {}, total // 2)]
    return report


@pytest.fixture(scope="session")
def machine() -> Iterator[Guest]:
    """A machine without Kubernetes: containerd and kubelet are off until a test asks for `plane`."""
    folder = Path(tempfile.mkdtemp(prefix="dmk-"))
    guest = Guest("guest-1", folder / "guest", find(), folder)
    _machines.append(guest)
    try:
        guest.start(off=("containerd", "kubelet"))
        yield guest
    finally:
        guest.stop()
        shutil.rmtree(folder, ignore_errors=True)  # a file that cannot be removed is no failure of a test


@pytest.fixture(scope="session")
def plane(machine: Guest) -> Iterator[ControlPlane]:
    """A cluster whose one node is the machine, Ready."""
    folder = Path(tempfile.mkdtemp(prefix="dmc-"))
    plane = ControlPlane("1.37", folder, addresses=[GATEWAY])
    _planes.append(plane)
    try:
        plane.start()
        machine.configure_node(plane.server.replace("127.0.0.1", GATEWAY), plane.authority)
        machine.sh("rm /run/guest/containerd.off")
        plane.wait()
        eventually(lambda: machine.run("/guest/bin/ctr version").code == 0, 120, "containerd of the guest answers")
        machine.import_images(base_images())
        machine.sh("rm /run/guest/kubelet.off")
        plane.wait_for_pods()
        eventually(lambda: _takes_pods(plane, machine.name), 240, "the guest is a node that takes pods", every=0.5)
        yield plane
    finally:
        plane.stop()
        shutil.rmtree(folder, ignore_errors=True)  # a file that cannot be removed is no failure of a test


def _takes_pods(plane: ControlPlane, name: str) -> bool:
    node = plane.api.find("Node", name)
    return node is not None and is_ready(node) and not node["spec"].get("taints")
