# SPDX-License-Identifier: Apache-2.0
"""The Node object and the lease."""

from __future__ import annotations

from dynamic_memory.embedded.kubelet import objects

NODE = "n1"


def node(bench):
    return bench.kube.body(objects.NODES, NODE)


async def test_a_node_says_what_its_host_has(bench):
    await bench.start()
    await bench.until(lambda: node(bench).get("status"), "it has a status")
    status = node(bench)["status"]
    assert status["capacity"]["memory"] == "2097152Ki"
    assert status["allocatable"]["memory"] == "1572864Ki"
    assert status["capacity"]["pods"] == "5"
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True",
    }  # fmt: skip
    assert status["nodeInfo"]["bootID"] == await bench.host.boot_id()
    assert (bench.runtime.cgroups.pods / "memory.max").read_text() == f"{2 << 30}\n"


async def test_the_lease_is_renewed(bench):
    await bench.start()

    def renewed():
        return (bench.kube.body(objects.LEASES, NODE, "kube-node-lease") or {"spec": {}})["spec"].get("renewTime")

    first = await bench.until(renewed, "there is one")
    await bench.until(lambda: renewed() != first, "again")


async def test_memory_is_the_kubelets_and_other_keys_are_copied_to_allocatable(bench):
    await bench.start()
    await bench.until(lambda: node(bench).get("status"), "it has a status")
    body = node(bench)
    body["status"]["capacity"] |= {"memory": "1Ki", "dynamicmemory.dev/memory": "4Gi"}
    body["status"]["allocatable"]["example.com/gone"] = "1"
    body["status"]["conditions"].append({"type": "dynamicmemory.dev/DynamicMemoryReady", "status": "True"})
    bench.kube.put(objects.NODES, body)

    def right():
        status = node(bench)["status"]
        return (
            status["capacity"]["memory"] == "2097152Ki"
            and status["allocatable"].get("dynamicmemory.dev/memory") == "4Gi"
        )

    await bench.until(right, "put right")
    status = node(bench)["status"]
    assert status["capacity"]["dynamicmemory.dev/memory"] == "4Gi"
    assert "example.com/gone" not in status["allocatable"]
    assert any(each["type"] == "dynamicmemory.dev/DynamicMemoryReady" for each in status["conditions"])


async def test_nothing_is_written_when_nothing_changed(bench):
    await bench.start()
    await bench.until(lambda: node(bench).get("status"), "it has a status")
    version = node(bench)["metadata"]["resourceVersion"]
    gets = bench.kube.count("get", objects.NODES)
    await bench.until(lambda: bench.kube.count("get", objects.NODES) > gets + 3, "it was looked at")
    assert node(bench)["metadata"]["resourceVersion"] == version


async def test_a_node_that_was_deleted_is_registered_again(bench):
    await bench.start()
    await bench.until(lambda: node(bench).get("status"), "it has a status")
    bench.kube.remove(objects.NODES, NODE)
    await bench.until(lambda: (node(bench) or {}).get("status"), "it is back")
