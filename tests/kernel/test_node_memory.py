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
SHARES = (("one", "8Mi", 0), ("two", "4Mi", 1))
"""Container, size, NUMA node."""
PROVISION = {
    "kind": "HugePageProvision",
    "metadata": {"name": "kernel-tests"},
    "spec": {"pages": [{"size": "2M", "count": 32, "node": 0}, {"size": "2M", "count": 16, "node": 1}]},
}

FILES = """
import errno, json, mmap, os, re
size, page = {size}, 2 << 20
file = os.open("/mnt/huge/pool", os.O_CREAT | os.O_RDWR)
os.ftruncate(file, size + page)
said = {{}}
try:
    mmap.mmap(file, size + page)
except OSError as error:
    said["map"] = errno.errorcode[error.errno]
try:
    os.posix_fallocate(file, 0, size + page)
except OSError as error:
    said["allocate"] = errno.errorcode[error.errno]
pages = mmap.mmap(file, size)
for at in range(0, size, page):
    pages[at] = 1
lines = [line for line in open("/proc/self/numa_maps") if "/mnt/huge/pool" in line]
said["nodes"] = {{n: int(c) for line in lines for n, c in re.findall(r"N(\\d+)=(\\d+)", line)}}
try:
    mmap.mmap(-1, page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000).write(b"x")
except OSError as error:
    said["beside"] = errno.errorcode[error.errno]
said["mount"] = next(line.split()[3] for line in open("/proc/mounts") if line.split()[1] == "/mnt/huge")
print(">>>::RESULT=" + json.dumps(said))
"""
"""What a container does with huge pages as files, to say what it could not."""


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
    return said(driver, *memtest_pod(name, driver.machine.name, BUSYBOX, requests, arguments, resources))


def said(driver: NodeDriver, template: dict, pod: dict) -> dict:
    """Run a pod that prints a result, and return that."""
    name = pod["metadata"]["name"]
    driver.api.create(template, "default")
    driver.api.create(pod, "default")

    def line() -> str:
        status = driver.api.get("Pod", name, "default")["status"]
        log = driver.machine.run(f"cat /var/log/pods/default_{name}_*/main/0.log").output
        assert ">>>::RESULT=" in log, (status, log)
        return log.split(">>>::RESULT=")[1].splitlines()[0]

    try:
        return json.loads(eventually(line, 240, f"{name} says what it got", every=0.5))
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
def test_O12_a_pod_maps_exactly_the_huge_pages_that_it_claimed(driver, numa):
    claim = [request("dra.hugepages-2m", "8Mi", numa)]
    got = result(driver, f"exact-{numa}", claim, "--size 8Mi --hugetlb 2Mi --numa single")
    assert got["reason"] == "Succeeded", got
    assert got["nodes"] == {str(numa): 8 * MI}


def test_O12_a_pod_gets_not_a_page_more_than_it_claimed(driver):
    claim = [request("dra.hugepages-2m", "8Mi", 0)]
    got = result(driver, "more", claim, "--size 10Mi --hugetlb 2Mi --should-fail")
    assert got["reason"] == "FailedAsExpected", got


@pytest.mark.parametrize("numa", [0, 1])
def test_huge_pages_as_files_are_as_many_as_claimed_and_not_one_more(driver, numa):
    claim = [request("dra.hugepages-2m", "8Mi", numa)]
    template, pod = memtest_pod(f"files-{numa}", driver.machine.name, BUSYBOX, claim, "")
    files = {"apiVersion": "dynamicmemory.dev/v1", "kind": "MemoryConfig", "fileSystem": {"path": "/mnt/huge"}}
    template["spec"]["spec"]["devices"]["config"] = [{"opaque": {"driver": "dra.memory", "parameters": files}}]
    (container,) = pod["spec"]["containers"]
    python = container["command"][2].split()[1]  # "exec PYTHON -B -m ..."
    container["command"] = [python, "-B", "-c", FILES.format(size=8 * MI)]
    got = said(driver, template, pod)
    assert (got["map"], got["allocate"]) == ("ENOMEM", "ENOSPC"), got
    assert got.get("beside") == "ENOMEM", "what the files hold counts against the claim"
    # numa_maps counts in pages of the mapping's own size
    assert got["nodes"] == {str(numa): 4}, got
    assert "pagesize=2M" in got["mount"], got


@pytest.mark.parametrize("numa", [0, 1])
def test_memory_comes_from_the_node_that_was_claimed(driver, numa):
    claim = [request("dra.memory", "64Mi", numa)]
    limits = {"limits": {"memory": "256Mi"}, "requests": {"cpu": "10m", "memory": "128Mi"}}
    got = result(driver, f"pinned-{numa}", claim, "--size 48Mi --numa single", limits)
    assert got["reason"] == "Succeeded", got
    assert set(got["nodes"]) == {str(numa)}


def test_N5_N6_N14_N17_S10_the_cgroups_of_a_pod_say_what_each_container_has_claimed(machine, driver):
    """Two containers, each with a request of one claim; one of them is resized, the other ends."""
    requests = [{**request("dra.hugepages-2m", size, numa), "name": f"of-{name}"} for name, size, numa in SHARES]
    memory = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}
    containers = [
        {
            "name": name,
            "image": BUSYBOX,
            "imagePullPolicy": "Never",
            "command": ["sh", "-c", f"echo {name} > /dev/null; exec sleep 3600"],
            "resources": {**memory, "claims": [{"name": "mem", "request": f"of-{name}"}]},
        }
        for name, _, _ in SHARES
    ]
    template, pod = memtest_pod("cgroups", machine.name, BUSYBOX, requests, "")
    pod["spec"] |= {"containers": containers, "volumes": []}
    driver.api.create(template, "default")
    uid = driver.api.create(pod, "default")["metadata"]["uid"]

    def cgroup(container: str = "") -> str:
        path = f"/sys/fs/cgroup/kubepods/burstable/pod{uid}"
        if not container:
            return path
        statuses = driver.api.get("Pod", "cgroups", "default")["status"]["containerStatuses"]
        (found,) = [status["containerID"] for status in statuses if status["name"] == container]
        return f"{path}/{found.removeprefix('containerd://')}"

    def given(path: str) -> int:
        return int(machine.sh(f"cat {path}/memory.max"))

    def pages(path: str) -> set[int]:
        """Limits of 2 MiB pages, of what is used and of what is reserved."""
        return {int(line) for line in machine.sh(f"cat {path}/hugetlb.2MB.max {path}/hugetlb.2MB.rsvd.max").split()}

    try:
        eventually(
            lambda: driver.api.get("Pod", "cgroups", "default")["status"].get("phase") == "Running", 240, "it runs"
        )
        for name, size, numa in SHARES:
            assert pages(cgroup(name)) == {int(size.removesuffix("Mi")) * MI}, name
            assert machine.sh(f"cat {cgroup(name)}/cpuset.mems") == str(numa)
        assert pages(cgroup()) == {12 * MI}

        # the kubelet writes the pod's cgroup itself, with no huge pages: before its containers grow, after they shrink
        for size in (96, 80):
            memory = {"requests": {"memory": f"{size}Mi"}, "limits": {"memory": f"{size}Mi"}}
            driver.api.patch(
                "Pod",
                "cgroups",
                {"spec": {"containers": [{"name": "one", "resources": memory}]}},
                "default",
                style="strategic",
                subresource="resize",
            )
            eventually(lambda size=size: given(cgroup()) == (64 + size) * MI, 60, f"the pod has {size}Mi", every=0.1)
            eventually(lambda size=size: given(cgroup("one")) == size * MI, 60, f"it has {size}Mi", every=0.1)
            assert pages(cgroup("one")) == {8 * MI}
            assert machine.sh(f"cat {cgroup('one')}/cpuset.mems") == "0"
            eventually(lambda: pages(cgroup()) == {12 * MI}, 10, "the pod has its pages", every=0.1)

        machine.sh(f"kill -9 $(cat {cgroup('two')}/cgroup.procs)")
        eventually(lambda: pages(cgroup()) == {8 * MI}, 60, "the pod has the pages of the one that is left", every=0.5)
    finally:
        driver.api.delete("Pod", "cgroups", "default", missing_ok=True)
        driver.api.delete("ResourceClaimTemplate", "cgroups", "default", missing_ok=True)


def test_after_all_pods_nothing_is_left(machine, driver):
    gone(driver)
    assert machine.sh("ls /var/run/cdi") == ""
    assert machine.sh("ls /var/lib/dynamic-memory/driver/claims") == ""
    for node, count in ((0, 32), (1, 16)):
        path = f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/free_hugepages"
        assert machine.sh(f"cat {path}") == str(count)
