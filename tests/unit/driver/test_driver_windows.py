# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import contextlib

import pytest

from dynamic_memory.api.kinds import RESOURCE_SLICES
from dynamic_memory.fabric.backends.faults import Faults
from dynamic_memory.kube.errors import Unavailable
from dynamic_memory.kube.slices import SlicePublisher
from dynamic_memory.process import clock

pytestmark = pytest.mark.looptime

TAG = "6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11"


def device(rig):
    return rig.api.slices()[0]["spec"]["devices"][0]


def taints(rig):
    return [taint["key"] for taint in device(rig).get("taints", [])]


async def test_the_windows_of_the_node_are_published(rig):
    await rig.start()
    await rig.until(rig.api.slices)
    [item] = rig.api.slices()
    assert item["spec"]["nodeName"] == "n1"
    assert item["spec"]["driver"] == "dra.memory"
    assert item["spec"]["pool"] == {"name": "n1/windows", "generation": 1, "resourceSliceCount": 1}
    assert item["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid"}
    ]
    assert device(rig)["name"] == "port0"
    assert device(rig)["capacity"]["size"]["value"] == str(8 << 30)


async def test_slices_that_the_kubelet_deletes_are_published_again(rig):
    await rig.start()
    await rig.until(rig.api.slices)
    for _ in range(2):
        rig.api.remove(RESOURCE_SLICES, rig.api.slices()[0]["metadata"]["name"])
        assert rig.api.slices() == []
        await rig.until(rig.api.slices, seconds=3)


async def test_nothing_is_written_while_nothing_changes(rig):
    await rig.start()
    await rig.until(rig.api.slices)
    await clock.sleep(1)
    writes = rig.api.count("apply", RESOURCE_SLICES)
    await rig.attached()
    await clock.sleep(200)
    assert rig.api.count("apply", RESOURCE_SLICES) == writes


async def test_a_publication_of_which_nobody_knows_whether_it_was_written_is_taken_back(rig, monkeypatch):
    await rig.start()
    await rig.until(rig.api.slices)
    publish, lost = SlicePublisher.publish, []

    async def answer_lost(self, devices):
        await publish(self, devices)
        if not lost:
            lost.append(taints(rig))
            rig.fabric.inject(Faults())  # what was published before is right again
            raise Unavailable(504, "Timeout", "no answer")

    monkeypatch.setattr(SlicePublisher, "publish", answer_lost)
    rig.fabric.inject(Faults(hosts_down={"h1": "link lost"}))
    await rig.until(lambda: lost)
    assert lost == [["dynamicmemory.dev/path-down"]]
    await rig.until(lambda: not taints(rig), seconds=5)


async def test_a_slice_that_is_deleted_during_a_publication_is_published_right_after_it(rig, monkeypatch):
    await rig.start()
    await rig.until(rig.api.slices)
    publish, ended = SlicePublisher.publish, []

    async def deleted_at_the_end(self, devices):
        await publish(self, devices)
        if not ended:
            rig.api.remove(RESOURCE_SLICES, rig.api.slices()[0]["metadata"]["name"])
            await clock.sleep(0.5)  # it is known before this one ends
            ended.append(clock.monotonic())

    monkeypatch.setattr(SlicePublisher, "publish", deleted_at_the_end)
    rig.fabric.inject(Faults(hosts_down={"h1": "link lost"}))
    await rig.until(lambda: ended and rig.api.slices())
    assert clock.monotonic() - ended[0] < 1


async def test_a_path_that_is_down_taints_the_window(rig):
    await rig.start()
    await rig.until(rig.api.slices)
    rig.fabric.inject(Faults(hosts_down={"h1": "link lost"}))
    await rig.until(lambda: taints(rig) == ["dynamicmemory.dev/path-down"])
    rig.fabric.inject(Faults())
    await rig.until(lambda: not taints(rig))


async def test_rule_18_a_share_without_a_claim_lowers_the_value_until_it_is_back(rig):
    driver = await rig.start()
    await rig.until(rig.api.slices)
    rig.host.busy = "pinned"
    await rig.attached()
    assert device(rig)["capacity"]["size"]["value"] == str(8 << 30)
    rig.api.deallocate()
    await rig.until(lambda: device(rig)["capacity"]["size"]["value"] == str((8 << 30) - (512 << 20)))
    assert device(rig)["capacity"]["extents"]["value"] == "7"
    rig.host.busy = ""
    await rig.until(lambda: device(rig)["capacity"]["size"]["value"] == str(8 << 30))
    assert driver.node.records.all() == []


async def test_an_api_server_that_is_away_delays_and_loses_nothing(rig):
    rig.api.down = True
    await rig.start()
    await clock.sleep(30)
    assert rig.api.slices() == []
    rig.api.down = False
    await rig.until(rig.api.slices)
    await rig.attached()


async def test_rule_15_a_taint_outlives_the_driver_until_a_probe_is_good(rig):
    driver = await rig.start()
    await rig.until(rig.api.slices)
    await driver.node.windows.hold("port0")
    assert taints(rig) == ["dynamicmemory.dev/attach-failed"]
    await rig.stop()
    rig.fabric.inject(Faults(devices_down={"rack-1/cxl0": "offline"}))
    await rig.start()
    await clock.sleep(60)
    assert taints(rig) == ["dynamicmemory.dev/attach-failed"]
    rig.fabric.inject(Faults())
    await rig.until(lambda: not taints(rig))


async def test_rule_15_each_failure_holds_a_window_longer(rig):
    driver = await rig.start()
    await rig.until(rig.api.slices)
    held = []
    for _ in range(3):
        await driver.node.windows.hold("port0")
        began = clock.monotonic()
        await rig.until(lambda: not taints(rig), seconds=100)
        held.append(clock.monotonic() - began)
    assert held == pytest.approx([10, 20, 40], abs=1)
    driver.node.windows.succeeded("port0")
    await driver.node.windows.hold("port0")
    began = clock.monotonic()
    await rig.until(lambda: not taints(rig), seconds=100)
    assert clock.monotonic() - began == pytest.approx(10, abs=1)


async def test_rule_13_only_one_of_two_drivers_publishes_and_the_next_takes_its_taints_over(rig):
    first = await rig.start()
    await rig.until(rig.api.slices)
    await rig.until(lambda: first.node.active)
    second = await rig.start()
    await rig.until(lambda: "[+]slices" in second._ready.report(), seconds=5)  # or a rolling update would never go on
    await first.node.windows.hold("port0")
    # what only the second driver has seen must not take back what the first one said
    second.node.windows.changed()
    rig.fabric.inject(Faults(hosts_down={"h1": "link lost"}))
    await rig.until(lambda: "dynamicmemory.dev/path-down" in taints(rig))
    rig.fabric.inject(Faults())
    await rig.until(lambda: "dynamicmemory.dev/path-down" not in taints(rig))
    assert taints(rig) == ["dynamicmemory.dev/attach-failed"]
    leader = rig._tasks.pop(0)
    leader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leader
    await rig.until(lambda: second.node.active)
    await clock.sleep(5)
    assert taints(rig) == ["dynamicmemory.dev/attach-failed"]
    await rig.until(lambda: not taints(rig), seconds=20)
