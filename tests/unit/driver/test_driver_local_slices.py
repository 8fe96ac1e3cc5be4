# SPDX-License-Identifier: Apache-2.0
"""The node's own memory, published and kept true."""

from __future__ import annotations

import pytest
from tests.support.machine import GIB, MIB, Node, build, set_pages, set_total
from tests.unit.driver.local_rig import LocalRig, local_claim, result

from dynamic_memory.api.kinds import RESOURCE_SLICES
from dynamic_memory.kube.slices import SlicePublisher
from dynamic_memory.process import clock

pytestmark = pytest.mark.looptime


@pytest.fixture
async def rig(rig, tmp_path):
    made = LocalRig(tmp_path)
    yield made
    await made.stop()


async def test_D14_the_machine_is_known_before_anybody_is_served(rig):
    await rig.start()
    assert rig.order[0] == "serving with ['numa0-2mi', 'numa0-4ki', 'numa2-4ki']"


async def test_a_pool_is_published_with_the_node_and_belongs_to_it(rig):
    await rig.start()
    await rig.until(rig.slices)
    (found,) = rig.slices()
    assert found["spec"]["nodeName"] == "n1"
    assert found["spec"]["pool"] == {"name": "n1/mem", "generation": 1, "resourceSliceCount": 1}
    assert found["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert list(rig.devices()) == ["numa0-4ki", "numa0-2mi", "numa2-4ki"]


async def test_D12_a_change_is_published_soon_with_one_write(rig):
    await rig.start()
    await rig.until(rig.slices)
    before = rig.api.count("apply", RESOURCE_SLICES)
    set_pages(rig.root, 0, 2 * MIB, 512)
    began = clock.monotonic()
    await rig.until(lambda: rig.value("numa0-2mi") == "1Gi")
    assert clock.monotonic() - began < 6
    assert rig.value("numa0-4ki") == "3Gi"
    assert rig.api.count("apply", RESOURCE_SLICES) == before + 1
    set_total(rig.root, 2, 4 * GIB)
    await rig.until(lambda: rig.value("numa2-4ki") == "4Gi")
    assert rig.api.count("apply", RESOURCE_SLICES) == before + 2
    await clock.sleep(60)
    assert rig.api.count("apply", RESOURCE_SLICES) == before + 2, "nothing changed, nothing is written"


async def test_D13_many_devices_are_cut_into_slices(rig, tmp_path):
    big = LocalRig(tmp_path / "big", [Node(n, GIB, pools={2 * MIB: 2, GIB: 1}) for n in range(100)])
    set_total(big.root, 0, 4 * GIB)
    await big.start()
    await big.until(lambda: len(big.devices()) > 200)
    slices = big.slices()
    assert all(len(found["spec"]["devices"]) <= 64 for found in slices)
    assert {found["spec"]["pool"]["resourceSliceCount"] for found in slices} == {len(slices)}
    assert len({found["spec"]["pool"]["generation"] for found in slices}) == 1
    before = big.api.count("apply", RESOURCE_SLICES)
    set_pages(big.root, 50, 2 * MIB, 4)
    await big.until(lambda: big.value("numa50-2mi") == "8Mi")
    assert big.api.count("apply", RESOURCE_SLICES) == before + 1, "only the slice that changed"
    await big.stop()


async def test_D11_a_restarted_driver_publishes_nothing_new(rig):
    await rig.start()
    await rig.until(rig.slices)
    before, writes = rig.slices(), rig.api.count("apply", RESOURCE_SLICES)
    await rig.stop()
    await rig.start()
    await rig.until(rig.driver.node.local.published.is_set)
    assert rig.slices() == before
    assert rig.api.count("apply", RESOURCE_SLICES) == writes


async def test_slices_that_the_kubelet_deletes_come_back(rig):
    await rig.start()
    await rig.until(rig.slices)
    rig.api.remove(RESOURCE_SLICES, rig.slices()[0]["metadata"]["name"])
    await rig.until(rig.slices)


@pytest.mark.parametrize("change", ["claim", "slice"])
async def test_what_changes_during_a_publication_is_published_right_after_it(rig, monkeypatch, change):
    set_pages(rig.root, 0, 2 * MIB, 64)
    await rig.start()
    await rig.until(rig.slices)
    await clock.sleep(1)
    publish, ended = SlicePublisher.publish, []

    async def changed_at_the_end(self, bodies):
        await publish(self, bodies)
        if not ended:
            if change == "claim":
                rig.add(local_claim(result(device="numa0-2mi", size="256Mi")))
            else:
                rig.api.remove(RESOURCE_SLICES, rig.slices()[0]["metadata"]["name"])
            await clock.sleep(0.5)  # it is known before this one ends
            ended.append(clock.monotonic())

    monkeypatch.setattr(SlicePublisher, "publish", changed_at_the_end)
    set_total(rig.root, 2, 4 * GIB)
    await rig.until(lambda: ended)
    await rig.until(lambda: rig.devices().get("numa0-2mi", {}).get("taints") if change == "claim" else rig.slices())
    assert clock.monotonic() - ended[0] < 1, "it did not wait for the machine to be read again"


async def test_D19_a_smaller_reservation_leaves_what_is_allocated_with_a_taint(rig):
    await rig.start()
    await rig.until(rig.slices)
    rig.add(local_claim(result(device="numa0-2mi", size="256Mi")))
    set_pages(rig.root, 0, 2 * MIB, 64)
    await rig.until(lambda: rig.value("numa0-2mi") == "256Mi")
    await rig.until(lambda: rig.devices()["numa0-2mi"].get("taints"))
    assert "256Mi" not in rig.driver.node.local.troubles()["numa0-2mi"]
    assert "claims hold 268435456 bytes of numa0-2mi, which has 134217728" in rig.driver.node.local.troubles().values()
    rig.api.deallocate("near")
    await rig.until(lambda: rig.value("numa0-2mi") == "128Mi")
    assert "taints" not in rig.devices()["numa0-2mi"]


async def test_D19_what_is_prepared_counts_when_its_claim_is_gone(rig):
    await rig.start()
    ref = rig.add(local_claim(result(device="numa0-2mi", size="256Mi")))
    await rig.prepare(ref)
    rig.api.delete_claim("near")
    set_pages(rig.root, 0, 2 * MIB, 0)
    await rig.until(lambda: "taints" in rig.devices().get("numa0-2mi", {}))
    await rig.unprepare(ref)
    await rig.until(lambda: "numa0-2mi" not in rig.devices())


async def test_memory_that_cannot_be_read_is_not_taken_away(rig):
    await rig.start()
    await rig.until(rig.slices)
    (rig.root / "sys/devices/system/node").rename(rig.root / "away")
    await clock.sleep(20)
    assert list(rig.devices()) == ["numa0-4ki", "numa0-2mi", "numa2-4ki"]


@pytest.mark.parametrize(
    ("version", "dropped", "expected"),
    [
        (("1", "36"), set(), "nodeAllocatableResourceMappings"),
        (("1", "37+"), set(), "nodeAllocatableResources"),
        (("1", "36"), {"nodeAllocatableResourceMappings"}, None),
        (("1", "37"), {"nodeAllocatableResources"}, None),
    ],
)
async def test_D15_the_mapping_is_found_out_by_reading_back(rig, version, dropped, expected):
    rig.api.raw["/version"] = {"major": version[0], "minor": version[1], "gitVersion": "v1.x"}
    rig.api.drop = dropped
    await rig.start()
    await rig.until(rig.slices)
    device = rig.devices()["numa0-4ki"]
    assert [key for key in device if key.startswith("nodeAllocatable")] == ([expected] if expected else [])


async def test_local_memory_of_a_fabric_is_not_the_nodes_own(tmp_path):
    """A dax device with a tag is a share; what is online of it on a node is not offered a second time."""
    from tests.support.machine import put

    from dynamic_memory.host.topology import TopologyReader

    root = build(tmp_path, [Node(0, GIB), Node(1, 512 * MIB, cpus="")])
    put(root / "sys/devices/system/memory/block_size_bytes", "8000000")
    device = root / "sys/bus/dax/devices/dax0.0"
    for name, text in {
        "size": str(256 * MIB),
        "target_node": "1",
        "uuid": "6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11",
    }.items():
        put(device / name, text)
    put(device / "mapping0/start", f"{GIB:#x}")
    put(device / "mapping0/end", f"{GIB + 256 * MIB - 1:#x}")
    for index in (8, 9):
        put(root / f"sys/devices/system/memory/memory{index}/state", "online")
        put(root / f"sys/devices/system/memory/memory{index}/valid_zones", "Movable")
        (root / f"sys/devices/system/memory/memory{index}/node1").mkdir()
    assert TopologyReader(root).read().node(1).fabric == 256 * MIB
