# SPDX-License-Identifier: Apache-2.0
"""Scenario 9 with as many pods as a kubelet takes at once: claims, and what the kubelet tells others of them.

The kubelet starts a hundred pods without claims, then a hundred with a claim each, as fast as it can: what claims add
is the ratio of the two. While they run, the kubelet's pod resources (KEP-3695) name the devices of each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.deaths import Scene
from tests.cluster.support.images import BUSYBOX
from tests.cluster.support.own_memory import own_memory
from tests.cluster.support.processes import eventually
from tests.support.wire import fields, text

COUNT = 100
SIZE = 32 << 20
TIMES = 2.0
"""How much longer pods with claims may take; an NRI plugin, a gRPC call and a CDI file each come to some tenths."""
PATIENCE = 240


@pytest.fixture(scope="module")
def stage(cluster: Cluster, rights: None) -> Iterator[Scene]:
    with own_memory(cluster, "small", SIZE) as made:
        yield made


def pod(stage: Scene, name: str, *, claimed: bool) -> None:
    container: dict[str, Any] = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": str(2 * SIZE)}},
    }
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": 1,  # with 0, a pod is gone before its containers are
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": {"kubernetes.io/hostname": stage.nodes[0].name},
    }
    if claimed:
        container["resources"]["claims"] = [{"name": "mem"}]
        spec["resourceClaims"] = [{"name": "mem", "resourceClaimTemplateName": "small"}]
    spec["containers"] = [container]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    stage.world.api.create(body, stage.namespace)


def started(stage: Scene, prefix: str, *, claimed: bool) -> float:
    """Make the pods; return the seconds until all of them run."""
    begin = time.monotonic()
    for number in range(COUNT):
        pod(stage, f"{prefix}-{number}", claimed=claimed)

    def run() -> bool:
        phases = [item["status"].get("phase") for item in stage.world.api.list("Pod", stage.namespace)]
        assert phases.count("Running") == COUNT, {phase: phases.count(phase) for phase in set(phases)}
        return True

    eventually(run, PATIENCE, f"{COUNT} pods {prefix} run", every=0.25)
    return time.monotonic() - begin


def ended(stage: Scene, prefix: str) -> None:
    for number in range(COUNT):
        stage.world.api.delete("Pod", f"{prefix}-{number}", stage.namespace)
    eventually(
        lambda: not stage.world.api.list("Pod", stage.namespace), PATIENCE, f"pods {prefix} are gone", every=0.25
    )


def pod_resources(cluster: Cluster, namespace: str) -> dict[str, tuple[str, str, str, str, str]]:
    """Claim, driver, pool, device and CDI device of each pod, as the kubelet lists them for monitoring agents."""
    socket = cluster.node.kubelet_root / "pod-resources" / "kubelet.sock"
    with grpc.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "localhost")]) as channel:
        answer: bytes = channel.unary_unary("/v1.PodResourcesLister/List")(b"", timeout=10)
    found = {}
    for listed in fields(answer)[1]:
        if text(listed, 2) != namespace:
            continue
        (container,) = fields(listed)[3]
        for resource in fields(container).get(5, []):
            (claimed,) = fields(resource)[4]
            cdi = text(claimed, 1, 1)
            found[text(listed, 1)] = (text(resource, 2), text(claimed, 2), text(claimed, 3), text(claimed, 4), cdi)
    return found


def limits(cluster: Cluster) -> list[int]:
    """Memory limits of all cgroups below the kubelet's, in bytes."""
    script = (
        "find /sys/fs/cgroup -path '*kubepods*' '(' -name memory.max -o -name memory.limit_in_bytes ')' | xargs cat"
    )
    return [int(line) for line in cluster.node.run("sh", "-c", script).stdout.split() if line.isdigit()]


@pytest.mark.timeout(5 * PATIENCE)
def test_a_hundred_pods_with_claims_start_about_as_fast_as_without(stage: Scene, cluster: Cluster) -> None:
    world = stage.world
    plain = started(stage, "plain", claimed=False)
    ended(stage, "plain")
    claimed = started(stage, "claimed", claimed=True)
    print(f"{COUNT} pods run after {plain:.1f} s without claims, {claimed:.1f} s with: {claimed / plain:.2f} times")
    assert claimed < TIMES * plain

    claims = {item["metadata"]["name"]: item for item in world.api.list("ResourceClaim", stage.namespace)}
    assert len(claims) == COUNT
    listed = pod_resources(cluster, stage.namespace)
    assert len(listed) == COUNT
    for name, (claim, driver, pool, device, cdi) in listed.items():
        (result,) = claims[claim]["status"]["allocation"]["devices"]["results"]
        assert (driver, pool, device) == (result["driver"], result["pool"], result["device"]), name
        assert claims[claim]["metadata"]["uid"] in cdi
        assert claims[claim]["status"]["reservedFor"][0]["name"] == name
    assert limits(cluster).count(SIZE) >= COUNT, "each container is held to its claim"

    status = Path(f"/proc/{world.children[f'driver-{cluster.node.name}'].pid}/status").read_text()
    (resident,) = [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")]
    print(f"the driver takes {resident:.0f} MiB of memory with {COUNT} claims")

    ended(stage, "claimed")
    eventually(lambda: not world.api.list("ResourceClaim", stage.namespace), 60, "the claims are gone")
    node = cluster.node.name
    assert not list(world.cdi_dir(node).glob("dra.memory-claim-*.json"))
    assert not list((world.state_dir(node) / "claims").glob("*.json"))
