# SPDX-License-Identifier: Apache-2.0
"""Claims of a node's own memory on a real kernel: huge pages to the page, NUMA nodes as numa_maps tells them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml
from tests.cluster.support.images import BUSYBOX
from tests.cluster.support.processes import eventually
from tests.kernel.support.node_driver import NodeDriver, memtest_pod

MI = 1 << 20
PROVISION = {
    "kind": "HugePageProvision",
    "metadata": {"name": "kernel-tests"},
    "spec": {"pages": [{"size": "2M", "count": 32, "node": 0}, {"size": "2M", "count": 16, "node": 1}]},
}


@pytest.fixture(scope="module")
def driver(machine, plane) -> Iterator[NodeDriver]:
    (machine.conf / "provision.yaml").write_text(yaml.safe_dump(PROVISION))
    provisioned = machine.command("hugepages provision /guest/conf/provision.yaml")
    assert provisioned.code == 0, provisioned.output
    driver = NodeDriver(machine, plane)
    driver.start()
    eventually(lambda: len(driver.devices()) == 4, 30, "two devices of each NUMA node")
    yield driver
    driver.kill()


def request(class_name: str, size: str, numa: int) -> dict:
    selector = {"cel": {"expression": f'device.attributes["resource.kubernetes.io"].numaNode == {numa}'}}
    return {
        "name": "mem",
        "exactly": {
            "deviceClassName": class_name,
            "capacity": {"requests": {"size": size}},
            "selectors": [selector],
        },
    }


def result(driver: NodeDriver, name: str, requests: list[dict], arguments: str, resources: dict | None = None) -> dict:
    """Run memtest in a pod with the claim, and return what it says."""
    template, pod = memtest_pod(name, driver.machine.name, BUSYBOX, requests, arguments, resources)
    driver.api.create(template, "default")
    driver.api.create(pod, "default")

    def said() -> str:
        phase = driver.api.get("Pod", name, "default")["status"]
        log = driver.machine.run(f"cat /var/log/pods/default_{name}_*/main/0.log").output
        assert ">>>::RESULT=" in log, (phase, log)
        return log.split(">>>::RESULT=")[1].splitlines()[0]

    try:
        return json.loads(eventually(said, 240, f"{name} says what it got", every=0.5))
    finally:
        driver.api.delete("Pod", name, "default", missing_ok=True)
        driver.api.delete("ResourceClaimTemplate", name, "default", missing_ok=True)


def gone(driver: NodeDriver) -> None:
    eventually(lambda: not driver.api.list("ResourceClaim", "default"), 60, "the claims are gone", every=0.5)


def test_hugepages_provision_gives_each_node_its_pages(machine, driver):
    for node, count in ((0, 32), (1, 16)):
        path = f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages"
        assert machine.sh(f"cat {path}") == str(count)


def test_the_devices_are_what_the_kernel_has(machine, driver):
    devices = driver.devices()
    sizes = {name: device["capacity"]["size"]["value"] for name, device in devices.items()}
    assert {name: size for name, size in sizes.items() if "2mi" in name} == {"numa0-2mi": "64Mi", "numa1-2mi": "32Mi"}
    assert {name for name in sizes if "4ki" in name} == {"numa0-4ki", "numa1-4ki"}


def test_validate_finds_this_node_fit(machine, driver):
    ran = machine.command("validate --containerd-config /guest/conf/containerd.toml")
    assert ran.code == 0, ran.output
    assert ran.output.splitlines()[-1].startswith("PASS")


@pytest.mark.parametrize("numa", [0, 1])
def test_a_pod_maps_exactly_the_huge_pages_that_it_claimed(driver, numa):
    claim = [request("dra.hugepages-2m", "8Mi", numa)]
    got = result(driver, f"exact-{numa}", claim, "--size 8Mi --hugetlb 2Mi --numa single")
    assert got["reason"] == "Succeeded", got
    assert got["nodes"] == {str(numa): 8 * MI}


def test_a_pod_gets_not_a_page_more_than_it_claimed(driver):
    claim = [request("dra.hugepages-2m", "8Mi", 0)]
    got = result(driver, "more", claim, "--size 10Mi --hugetlb 2Mi --should-fail")
    assert got["reason"] == "FailedAsExpected", got


@pytest.mark.parametrize("numa", [0, 1])
def test_memory_comes_from_the_node_that_was_claimed(driver, numa):
    claim = [request("dra.memory", "64Mi", numa)]
    limits = {"limits": {"memory": "256Mi"}, "requests": {"cpu": "10m", "memory": "128Mi"}}
    got = result(driver, f"pinned-{numa}", claim, "--size 48Mi --numa single", limits)
    assert got["reason"] == "Succeeded", got
    assert set(got["nodes"]) == {str(numa)}


def test_after_all_pods_nothing_is_left(machine, driver):
    gone(driver)
    assert machine.sh("ls /var/run/cdi") == ""
    assert machine.sh("ls /var/lib/dynamic-memory/driver/claims") == ""
    for node, count in ((0, 32), (1, 16)):
        path = f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/free_hugepages"
        assert machine.sh(f"cat {path}") == str(count)
