# SPDX-License-Identifier: Apache-2.0
"""Scenario 9 with NRI: a real kubelet and containerd hold containers to their claims, by the driver's plugin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.deaths import Scene
from tests.cluster.support.images import BUSYBOX
from tests.cluster.support.own_memory import own_memory
from tests.cluster.support.processes import eventually

SIZE = 64 << 20
LIMIT = 128 << 20


@pytest.fixture(scope="module")
def stage(cluster: Cluster, rights: None) -> Iterator[Scene]:
    with own_memory(cluster, "limited", SIZE) as made:
        yield made


def pod(
    stage: Scene, name: str, *, claimed: bool = True, env: dict[str, str] | None = None, gate: Path | None = None
) -> None:
    """Make a pod; with a gate, an init container holds the other back until that file is there."""
    container: dict[str, Any] = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.2; done"],
        "resources": {"limits": {"memory": str(LIMIT)}},
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
    }
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False}
    if claimed:
        container["resources"]["claims"] = [{"name": "mem"}]
        spec["resourceClaims"] = [{"name": "mem", "resourceClaimTemplateName": "limited"}]
    spec["containers"] = [container]
    if gate is not None:
        spec["volumes"] = [{"name": "gate", "hostPath": {"path": str(gate.parent), "type": "Directory"}}]
        spec["initContainers"] = [
            {
                "name": "first",
                "image": BUSYBOX,
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", f"until [ -e /gate/{gate.name} ]; do sleep 0.1; done"],
                "volumeMounts": [{"name": "gate", "mountPath": "/gate", "readOnly": True}],
            }
        ]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    stage.world.api.create(body, stage.namespace)


def limit(stage: Scene, cluster: Cluster, name: str) -> int:
    """Bytes that limit the container of a pod, from its cgroup on the node."""
    found = stage.world.api.find("Pod", name, stage.namespace)
    assert found is not None
    (status,) = found["status"]["containerStatuses"]
    identity = status["containerID"].removeprefix("containerd://")
    script = f"find /sys/fs/cgroup -path '*/{identity}/memory.*' -name 'memory.max' -o -path '*/{identity}/*' "
    script += "-name memory.limit_in_bytes | xargs cat"
    return int(cluster.node.run("sh", "-c", script).stdout.split()[0])


def gone(stage: Scene, *pods: str) -> None:
    for name in pods:
        stage.world.api.delete("Pod", name, stage.namespace)
    for name in pods:
        stage.world.wait_gone(name, stage.namespace)


def test_containers_get_what_their_claims_say_over_restarts_of_everything(stage: Scene, cluster: Cluster) -> None:
    node = cluster.node
    pod(stage, "claims")
    pod(stage, "plain", claimed=False)
    for name in ("claims", "plain"):
        stage.world.wait_running(name, stage.namespace)
    for name, expected in (("claims", SIZE), ("plain", LIMIT)):
        # a plugin that did not answer in the runtime's 2 s, on a busy machine, is back a moment later, and mends
        eventually(lambda name=name, it=expected: limit(stage, cluster, name) == it, 20, f"{name} has its limit")
    stage.world.kill(f"driver-{node.name}")
    stage.world.start_driver(node.name)
    node.children["containerd"].kill()
    node.start_process("containerd")
    eventually(node._containerd_answers, 30, "containerd is back")
    stage.world.wait_registered(node.name)
    pod(stage, "late")
    stage.world.wait_running("late", stage.namespace, timeout=120)
    # a container that started before the plugin was back is mended when it is
    eventually(lambda: limit(stage, cluster, "late") == SIZE, 20, "it is held to its claim")
    assert (limit(stage, cluster, "claims"), limit(stage, cluster, "plain")) == (SIZE, LIMIT)
    gone(stage, "claims", "plain", "late")


def test_a_driver_that_dies_between_prepare_and_start_still_holds_the_container_to_its_claim(
    stage: Scene, cluster: Cluster
) -> None:
    node, world = cluster.node, stage.world
    driver = f"driver-{node.name}"
    # it has prepared, and dies before the kubelet hears of it
    world.kill(driver)
    world.start_driver(node.name, "driver.prepared")
    world.wait_registered(node.name)
    pod(stage, "unanswered")
    world.died(driver)
    world.start_driver(node.name)
    # it dies when the kubelet knows, and before the container is made
    gate = world.folder / "gate" / "open"
    gate.parent.mkdir()
    pod(stage, "answered", gate=gate)

    def waits() -> bool:
        found = world.api.get("Pod", "answered", stage.namespace)
        states = found["status"].get("initContainerStatuses") or [{"state": {}}]
        return "running" in states[0]["state"]

    eventually(waits, 60, "the init container runs")
    world.kill(driver)
    world.start_driver(node.name)
    gate.touch()
    for name in ("unanswered", "answered"):
        world.wait_running(name, stage.namespace, timeout=90)
        # a container that started before the plugin was back is mended when it is
        eventually(lambda name=name: limit(stage, cluster, name) == SIZE, 20, f"{name} is held to its claim")
    gone(stage, "unanswered", "answered")
    assert not list(world.cdi_dir(node.name).glob("dra.memory-claim-*.json"))


def test_S8_a_pod_that_names_the_claim_of_another_is_refused_and_told_why(stage: Scene, cluster: Cluster) -> None:
    pod(stage, "victim")
    stage.world.wait_running("victim", stage.namespace)
    uid = stage.world.claim_of("victim", stage.namespace)["metadata"]["uid"]
    pod(stage, "thief", claimed=False, env={f"DRAMEMORY_{uid}_memory": "numanode:0,size:1Ti"})

    def told() -> bool:
        messages = [message for _, _, message in stage.world.events(stage.namespace, "thief")]
        return any(f"has variables of claim {uid}" in message or "may not use claim" in message for message in messages)

    eventually(told, 60, "the thief is told why")
    assert not stage.world.running("thief", stage.namespace)
    gone(stage, "thief")
    assert stage.world.running("victim", stage.namespace)
    eventually(lambda: limit(stage, cluster, "victim") == SIZE, 20, "the victim is held to its claim, and nothing else")
    gone(stage, "victim")
