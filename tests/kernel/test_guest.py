# SPDX-License-Identifier: Apache-2.0
"""The machine that the other tests stand on is what they take it for."""

from __future__ import annotations

from tests.cluster.support.images import BUSYBOX
from tests.cluster.support.processes import eventually


def test_the_guest_has_a_kernel_of_its_own_with_pure_cgroup_v2(machine):
    mounts = [line.split()[1:3] for line in machine.sh("cat /proc/mounts").splitlines()]
    assert [mount for mount in mounts if mount[1].startswith("cgroup")] == [["/sys/fs/cgroup", "cgroup2"]]
    assert {"cpuset", "hugetlb", "memory"} <= set(machine.sh("cat /sys/fs/cgroup/cgroup.controllers").split())


def test_the_guest_has_two_numa_nodes_with_processors_and_memory(machine):
    assert machine.sh("cat /sys/devices/system/node/has_memory") == "0-1"
    assert machine.sh("cat /sys/devices/system/node/has_cpu") == "0-1"


def test_the_guest_runs_this_source_tree(machine):
    ran = machine.command("--version")
    assert ran.code == 0, ran.output
    assert "dynamic-memory" in ran.output


def test_the_guest_is_a_node_that_runs_pods(machine, plane):
    container = {"name": "c", "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["cat", "/proc/self/cgroup"]}
    spec = {"restartPolicy": "Never", "nodeName": machine.name, "containers": [container]}
    plane.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "first"}, "spec": spec}, "default")
    eventually(lambda: _phase(plane) == "Succeeded", 240, "the pod has run", every=0.5)
    assert machine.sh("cat /var/log/pods/default_first_*/c/0.log").endswith("0::/")


def _phase(plane) -> str:
    return plane.api.get("Pod", "first", "default")["status"].get("phase", "")
