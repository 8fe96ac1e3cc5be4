# SPDX-License-Identifier: Apache-2.0
"""Scenario 1: the manifests of deploy/ as they are, every role a pod, and the examples: memory comes, and goes back.

Prints when each arrow of the sequence happened: from the pod's creation to the last byte in the pool.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.images import BUSYBOX
from tests.cluster.support.node import RealNode
from tests.cluster.support.processes import eventually, patient
from tests.cluster.support.world import NAMESPACE
from tests.cluster.support.worlds import DEPLOY, apply

from dynamic_memory.api import names
from dynamic_memory.quantity import parse_bytes

EXAMPLES = DEPLOY.parent / "examples"
CLAIM_BYTES = 512 << 20
POOL_BYTES = 4 << 30
ROLES = ("service", "controller", "driver", "updater")
RESOURCE = names.EXTENDED_RESOURCE
STEPS = 12
"""From the pod's creation to the last byte in the pool."""


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, our_image: str, rights: None) -> Iterator[None]:
    """Every role as a pod of deploy/, ready; gone again after this module."""
    start = time.monotonic()
    apply(cluster, DEPLOY)
    workloads = sorted(path for path in DEPLOY.glob("*.yaml") if path.name >= "50")
    eventually(lambda: _ready(cluster), 90, "every role is ready")
    print(f"deployed in {time.monotonic() - start:.1f} s")
    yield
    apply(cluster, *workloads, verb="delete")
    eventually(lambda: not _pods(cluster), 60, "the roles are gone")
    for item in cluster.api.list("ResourceSlice"):
        if item["spec"]["driver"] == names.DRIVER:
            cluster.api.delete("ResourceSlice", item["metadata"]["name"], missing_ok=True)


def _pods(cluster: Cluster) -> list[dict[str, Any]]:
    labels = "app.kubernetes.io/part-of=dynamic-memory"
    return cluster.api.list("Pod", NAMESPACE, labels=labels)


def _ready(cluster: Cluster) -> bool:
    pods = _pods(cluster)
    ready = {
        pod["metadata"]["labels"]["app.kubernetes.io/name"]
        for pod in pods
        for condition in pod["status"].get("conditions", [])
        if condition["type"] == "Ready" and condition["status"] == "True"
    }
    states = {pod["metadata"]["name"]: pod["status"].get("containerStatuses") for pod in pods}
    assert ready == {f"dynamic-memory-{role}" for role in ROLES}, states
    slices = [s["spec"]["pool"]["name"] for s in cluster.api.list("ResourceSlice")]
    assert {"fabric/rack-a", names.windows_pool(cluster.node.name)} <= set(slices), slices
    return True


def _kubectl(cluster: Cluster, *arguments: str) -> str:
    command = [str(cluster.plane.bin / "kubectl"), "--kubeconfig", str(cluster.plane.kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patient(60))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environment(log: str) -> dict[str, str]:
    """Return our variables of a container that prints its environment."""
    return dict(line.split("=", 1) for line in log.splitlines() if line.startswith("DYNAMIC_MEMORY") and "=" in line)


def _fabric(cluster: Cluster, *arguments: str) -> Any:
    """Ask the service over mTLS, with the controller's own certificate."""
    leader = cluster.api.get("Lease", "dynamic-memory-controller", NAMESPACE)["spec"]["holderIdentity"]
    inside = ["exec", "-n", NAMESPACE, leader, "-c", "controller", "--"]
    options = ["--tls", "/var/run/dynamic-memory/tls", "--address", "service.dynamic-memory.svc:7443"]
    return json.loads(_kubectl(cluster, *inside, "dynamic-memory", "fabric", *options, *arguments, "-o", "json"))


class Timeline(threading.Thread):
    """Notes when each step of the way was first seen, at 20 looks a second."""

    def __init__(self, cluster: Any, namespace: str, pod: str, state: Path) -> None:
        super().__init__(daemon=True)
        self._cluster, self._namespace, self._pod = cluster, namespace, pod
        self._state = state
        self._end = threading.Event()
        self.start_time = time.monotonic()
        self.seen: dict[str, float] = {}

    def note(self, what: str, true: object = True) -> None:
        if true:
            self.seen.setdefault(what, time.monotonic() - self.start_time)

    def run(self) -> None:
        while not self._end.wait(0.05):
            try:
                self._look()
            except (OSError, KeyError, ValueError):
                continue

    def stop(self) -> None:
        self._end.set()
        self.join()  # a call to the API server ends by itself
        self._cluster.api.close()

    def _look(self) -> None:
        api = self._cluster.api
        pod = api.find("Pod", self._pod, self._namespace)
        claims = api.list("ResourceClaim", self._namespace)
        held = len(json.loads(self._state.read_bytes())["allocations"])
        shown = _shown(self._cluster, self._cluster.node)
        attached = [
            condition
            for claim in claims
            for device in (claim.get("status") or {}).get("devices") or []
            for condition in device["conditions"]
            if condition["type"] == names.ATTACHED and condition["status"] == "True"
        ]
        ending = pod is None or pod["metadata"].get("deletionTimestamp")
        if not ending and pod is not None:
            self.note(
                "scheduler -> API server: claim allocated",
                any((c.get("status") or {}).get("allocation") for c in claims),
            )
            self.note("driver -> service: AddMemory, extent composed", held)
            self.note("driver -> API server: Attached=True", attached)
            self.note("updater -> API server: node capacity grew", shown)
            self.note("scheduler -> API server: pod bound", pod["spec"].get("nodeName"))
            self.note("kubelet: pod runs", pod["status"]["phase"] == "Running")
        else:
            self.note("user -> API server: pod deleted")
            ended = pod is None or any(
                "terminated" in entry.get("state", {}) for entry in pod["status"].get("containerStatuses", [])
            )
            self.note("kubelet: container ended", ended)
            self.note("driver -> service: RemoveMemory, bytes are back", not held)
            self.note("updater -> API server: node capacity shrank", not shown)
            self.note("kubelet -> API server: pod is gone", pod is None)
            self.note("Kubernetes: claim is gone", not claims)

    def table(self) -> str:
        lines = ["user -> API server: pod created".ljust(56) + "  0.00 s"]
        lines += [f"{what:<56}{at:6.2f} s" for what, at in sorted(self.seen.items(), key=lambda entry: entry[1])]
        return "\n".join(lines)


def test_scenario_1_all_roles_run_as_pods_with_the_rights_of_the_manifests(cluster, deployed, real_node: RealNode):
    for pod in _pods(cluster):
        for status in pod["status"]["containerStatuses"]:
            assert status["restartCount"] == 0, (pod["metadata"]["name"], status)
    capacity = _fabric(cluster, "capacity")
    assert capacity["simulated"] is True
    assert [(item["total"], item["free"]) for item in capacity["pools"]] == [(POOL_BYTES, POOL_BYTES)]
    assert any(host["node"] == real_node.name and host["session"] for host in capacity["hosts"])


def test_scenario_1_memory_comes_with_a_pod_and_goes_back_with_it(cluster, deployed, real_node: RealNode, namespace):
    before = cluster.api.get("Node", real_node.name)
    ceiling = int(_ceiling(real_node).read_text())
    cluster.api.create(yaml.safe_load((EXAMPLES / "resource-claims" / "fabric-512mi.yaml").read_text()), namespace)
    pod = yaml.safe_load((EXAMPLES / "pods" / "with-fabric-memory.yaml").read_text())
    pod["spec"]["containers"][0]["image"] = BUSYBOX
    name = pod["metadata"]["name"]
    timeline = Timeline(cluster, namespace, name, real_node.state / "service" / "fabric.json")
    cluster.api.create(pod, namespace)
    timeline.start()
    try:
        eventually(lambda: cluster.api.get("Pod", name, namespace)["status"]["phase"] == "Running", 60, "the pod runs")
        (claim,) = cluster.api.list("ResourceClaim", namespace)
        results = claim["status"]["allocation"]["devices"]["results"]
        share = next(result["shareID"] for result in results if result["pool"] == "fabric/rack-a")
        (conditions,) = [device["conditions"] for device in claim["status"]["devices"]]
        assert {c["type"]: c["status"] for c in conditions} == {names.ATTACHED: "True", names.ATTACH_FAILED: "False"}
        (extent,) = _fabric(cluster, "extents")
        assert (extent["tag"], extent["size"], extent["node"]) == (share, CLAIM_BYTES, real_node.name)
        eventually(
            lambda: str(CLAIM_BYTES) in _environment(_kubectl(cluster, "logs", "-n", namespace, name)).values(),
            20,
            "the container says how much memory it has",
        )
        eventually(lambda: _shown(cluster, real_node) == CLAIM_BYTES, 10, "the capacity view grew")
        node = cluster.api.get("Node", real_node.name)
        assert node["status"]["capacity"]["memory"] == before["status"]["capacity"]["memory"]
        lifted = ceiling + CLAIM_BYTES
        eventually(lambda: int(_ceiling(real_node).read_text()) == lifted, 10, "the limit over pods is lifted")
        eventually(
            lambda: "MemoryAttached" in {event["reason"] for event in cluster.api.list("Event", namespace)},
            20,
            "people are told",
        )
        assert all(
            "simulated" in event["message"]
            for event in cluster.api.list("Event", namespace)
            if event["reason"].startswith("Memory")
        )
        cluster.api.delete("Pod", name, namespace)
        eventually(lambda: cluster.api.find("Pod", name, namespace) is None, 60, "the pod is gone")
        eventually(lambda: not cluster.api.list("ResourceClaim", namespace), 30, "the claim is gone")
        eventually(lambda: _shown(cluster, real_node) == 0, 10, "the capacity view shrank")
        assert _fabric(cluster, "extents") == []
        assert [(item["total"], item["free"]) for item in _fabric(cluster, "capacity")["pools"]] == [
            (POOL_BYTES, POOL_BYTES)
        ]
        eventually(lambda: len(timeline.seen) == STEPS, 20, "the timeline has seen the end")
    finally:
        timeline.stop()
        print(f"\nKubernetes {cluster.version}, {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC\n{timeline.table()}")
        resident = ", ".join(f"{role} {size:.0f} MB" for role, size in sorted(_resident().items()))
        print(f"resident memory: {resident}")
    assert len(timeline.seen) == STEPS, timeline.table()
    back = timeline.seen["driver -> service: RemoveMemory, bytes are back"]
    assert back <= timeline.seen["kubelet -> API server: pod is gone"], "I4: the pod went before its memory was back"


def _ceiling(node: RealNode) -> Path:
    """Return the file with the limit over all pods of the node: cgroup v2, or v1."""
    v1 = Path("/sys/fs/cgroup/memory") / node._cgroup / "kubepods" / "memory.limit_in_bytes"
    return v1 if v1.exists() else Path("/sys/fs/cgroup") / node._cgroup / "kubepods" / "memory.max"


def _resident() -> dict[str, float]:
    """Return the resident memory of each role's process on this machine, MB."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                role = next(
                    (role for role in ROLES if role in words and any("dynamic-memory" in w for w in words)), None
                )
                if role and "--config=/etc/dynamic-memory" in " ".join(words):
                    found[role] = int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
    return found


def _shown(cluster: Cluster, node: RealNode) -> int:
    return parse_bytes(cluster.api.get("Node", node.name)["status"]["capacity"].get(RESOURCE, 0))


def test_scenario_1_examples_and_manifests_name_nothing_else(cluster, deployed, namespace):
    """What people copy is accepted as it is."""
    for path in sorted(Path(EXAMPLES).glob("*/*.yaml")):
        if path.parent.name in {"resource-claims", "pods"}:
            for body in yaml.safe_load_all(path.read_text()):
                cluster.api.create(body, namespace, dryRun="All")
