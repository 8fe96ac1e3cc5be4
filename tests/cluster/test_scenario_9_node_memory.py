# SPDX-License-Identifier: Apache-2.0
"""Scenario 9: memory of the node itself, claimed on a real kubelet and containerd.

The node's kernel is that of this machine, so what is claimed is real: a tmpfs of the claimed size, on the claimed node.
(The variables are read where the kernel keeps them: a shell drops names with dashes.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.deaths import Scene, scene
from tests.cluster.support.images import BUSYBOX
from tests.cluster.support.processes import eventually

from dynamic_memory.api import names

SIZE = 32 << 20
WHERE = "/mnt/dynamic-memory"
SCRIPT = f"""
trap 'exit 0' TERM
tr '\\0' '\\n' < /proc/1/environ | grep ^DRAMEMORY_
head -c {SIZE} /dev/zero > {WHERE}/all && echo FITS
printf x >> {WHERE}/all && echo MORE || echo FULL
grep ' {WHERE} ' /proc/mounts
cat /var/run/kubernetes.io/dra-device-attributes/*/*/*/dra.memory-metadata.json
echo END
while true; do sleep 0.2; done
"""


@pytest.fixture(scope="module")
def stage(cluster: Cluster, rights: None) -> Iterator[Scene]:
    """A driver with local memory on the real node, and a template for some of it as a file system."""
    cluster.node.wait()
    driver = {"local": {"root": "/", "rescan": "1s", "preflight": "report"}}  # without NRI nothing is held
    with scene(cluster, 0, nodes=[cluster.node], driver=driver) as made:
        made.world.start()
        eventually(lambda: _devices(cluster), 20, "the node's own memory is published")
        spec = claim_spec()
        for kind, body in (("ResourceClaimTemplate", {"spec": spec}), ("ResourceClaim", spec)):
            meta = {"name": "near"}
            cluster.api.create(
                {"apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": meta, "spec": body}, made.namespace
            )
        yield made


def claim_spec() -> dict[str, Any]:
    parameters = {"apiVersion": "dynamicmemory.dev/v1", "kind": "MemoryConfig", "fileSystem": {"path": WHERE}}
    request = {"deviceClassName": "dra.memory", "capacity": {"requests": {"size": str(SIZE)}}}
    return {
        "devices": {
            "requests": [{"name": "mem", "exactly": request}],
            "config": [{"requests": ["mem"], "opaque": {"driver": "dra.memory", "parameters": parameters}}],
        }
    }


def _devices(cluster: Cluster) -> dict[str, Any]:
    pool = names.memory_pool(cluster.node.name)
    slices = [item for item in cluster.api.list("ResourceSlice") if item["spec"]["pool"]["name"] == pool]
    return {device["name"]: device for item in slices for device in item["spec"]["devices"]}


def pod(stage: Scene, name: str, source: dict[str, str]) -> None:
    container = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", SCRIPT],
        "resources": {"limits": {"memory": "128Mi"}, "claims": [{"name": "mem"}]},
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [container],
        "resourceClaims": [{"name": "mem", **source}],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    stage.world.api.create(body, stage.namespace)


def log(stage: Scene, name: str) -> list[str]:
    path = f"/api/v1/namespaces/{stage.namespace}/pods/{name}/log"

    def complete() -> list[str]:
        lines = str(stage.world.api.call("GET", path)).splitlines()
        return lines if "END" in lines else []

    return eventually(complete, 20, f"{name} has looked at its memory")


def files(stage: Scene, node: str) -> set[str]:
    return {path.name for path in stage.world.cdi_dir(node).glob("dra.memory-claim-*.json")}


def test_a_container_has_its_memory_as_files_and_not_a_byte_more(stage: Scene, cluster: Cluster) -> None:
    api, node = stage.world.api, cluster.node.name
    pod(stage, "one", {"resourceClaimTemplateName": "near"})
    pod(stage, "two", {"resourceClaimTemplateName": "near"})
    claims = {}
    for name in ("one", "two"):
        stage.world.wait_running(name, stage.namespace)
        lines = log(stage, name)
        claims[name] = stage.world.claim_of(name, stage.namespace)
        uid = claims[name]["metadata"]["uid"]
        (result,) = claims[name]["status"]["allocation"]["devices"]["results"]
        assert f"DRAMEMORY_{uid}_memory=numanode:{result['device'][4]},size:32Mi" in lines
        assert lines.index("FITS") < lines.index("FULL")
        assert "MORE" not in lines
        (mount,) = [line for line in lines if f" {WHERE} tmpfs " in line]
        assert "size=32768k" in mount
        assert f"mpol=bind:{result['device'][4]}" in mount
        (newest, _) = [json.loads(line) for line in lines if line.startswith("{")]
        assert newest["metadata"]["uid"] == uid
        assert newest["podClaimName"] == "mem"
        assert newest["requests"][0]["devices"][0]["name"] == result["device"]
    uids = {name: claim["metadata"]["uid"] for name, claim in claims.items()}
    assert files(stage, node) >= {f"dra.memory-claim-{uid}.json" for uid in uids.values()}
    # the driver dies and comes back: nobody notices, and Unprepare still knows what to do
    stage.world.kill(f"driver-{node}")
    stage.world.start_driver(node)
    stage.world.wait_registered(node)
    for name in uids:
        assert stage.world.running(name, stage.namespace)
        api.delete("Pod", name, stage.namespace)
    for name in uids:
        stage.world.wait_gone(name, stage.namespace)
    assert files(stage, node).isdisjoint({f"dra.memory-claim-{uid}.json" for uid in uids.values()})


def test_S2_a_second_pod_of_a_claim_waits_and_is_told_why(stage: Scene, cluster: Cluster) -> None:
    api = stage.world.api
    pod(stage, "first", {"resourceClaimName": "near"})
    stage.world.wait_running("first", stage.namespace)
    pod(stage, "second", {"resourceClaimName": "near"})

    def told() -> bool:
        messages = [message for _, _, message in stage.world.events(stage.namespace, "second")]
        return any("cannot be reserved for more than one pod" in message for message in messages)

    eventually(told, 20, "the second pod is told why it waits")
    assert not stage.world.running("second", stage.namespace)
    api.delete("Pod", "first", stage.namespace)
    stage.world.wait_gone("first", stage.namespace)
    stage.world.wait_running("second", stage.namespace)
    assert "FULL" in log(stage, "second")
    api.delete("Pod", "second", stage.namespace)
    stage.world.wait_gone("second", stage.namespace)


def test_R8_a_driver_that_dies_between_prepare_and_the_start_of_the_container(stage: Scene, cluster: Cluster) -> None:
    """What was prepared is on the disk; the kubelet, which got no answer, asks again after 60 to 90 seconds."""
    node = cluster.node.name
    stage.world.kill(f"driver-{node}")
    stage.world.start_driver(node, "driver.prepared")
    stage.world.wait_registered(node)
    pod(stage, "late", {"resourceClaimTemplateName": "near"})
    stage.world.died(f"driver-{node}", 60)
    uid = stage.world.claim_of("late", stage.namespace)["metadata"]["uid"]
    assert f"dra.memory-claim-{uid}.json" in files(stage, node)
    assert not stage.world.running("late", stage.namespace)
    stage.world.start_driver(node)
    stage.world.wait_running("late", stage.namespace, timeout=120)
    assert "FULL" in log(stage, "late")
    stage.world.api.delete("Pod", "late", stage.namespace)
    stage.world.wait_gone("late", stage.namespace)
    assert f"dra.memory-claim-{uid}.json" not in files(stage, node)
