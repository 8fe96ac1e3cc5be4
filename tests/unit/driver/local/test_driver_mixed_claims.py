# SPDX-License-Identifier: Apache-2.0
"""Claims of fabric and local memory at once: prepared as one, and handed on as one."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from tests.support.fake_fabric import FakeRig
from tests.support.machine import MIB
from tests.unit.driver.conftest import claim_body
from tests.unit.driver.local_rig import local_claim, parameters, pod_body, result, spec

from dynamic_memory.api.kinds import PODS
from dynamic_memory.driver import settings
from dynamic_memory.driver.claims import RefusedClaim
from dynamic_memory.driver.unprepare import StillHeld
from dynamic_memory.process import clock

pytestmark = pytest.mark.looptime


async def test_a_claim_of_fabric_and_local_memory_is_one_claim(rig, tmp_path):
    await rig.stop()
    fabric = await FakeRig.open()
    driver = rig.make(fabric=fabric.as_node("n1"))
    rig.driver = driver
    rig._task = asyncio.create_task(driver.run())
    body = claim_body("near", pods=("p1",))
    near = result(request="near")
    body["status"]["allocation"]["devices"]["results"].append(near)
    body["spec"]["devices"]["requests"].append({"name": "near", "exactly": {"deviceClassName": "dra.memory"}})
    ref = rig.add(body)
    devices = await rig.prepare(ref, seconds=40)
    assert [(device.request, device.cdi_ids) for device in devices] == [
        ("far", (f"dra.memory/claim=claim-{ref.uid}.far",)),
        ("far-window", ()),
        ("near", (f"dra.memory/claim=claim-{ref.uid}.near",)),
    ]
    found = settings.settings_of(rig.record(ref)).requests
    assert found[f"{ref.uid}.near"].memory == 512 * MIB
    assert found[f"{ref.uid}.far"].far_nodes == (1,)
    await rig.unprepare(ref, seconds=40)
    assert (await fabric.as_operator().list_extents()).shares == ()
    assert rig.driver.node.records.taken("n1/mem", "numa0-4ki") == 0
    assert rig.specs() == []


def mixed(device="numa0-4ki", size="512Mi", uid="", pods=("p1",)):
    """A claim of fabric memory and of the node's own, as it is allocated."""
    body = claim_body("near", uid=uid, pods=pods)
    body["status"]["allocation"]["devices"]["results"].append(result(request="near", device=device, size=size))
    body["spec"]["devices"]["requests"].append({"name": "near", "exactly": {"deviceClassName": "dra.memory"}})
    return body


async def start_with_fabric(rig):
    await rig.stop()
    fabric = await FakeRig.open()
    rig.driver = rig.make(fabric=fabric.as_node("n1"))
    rig._task = asyncio.create_task(rig.driver.run())
    await rig.until(lambda: rig.driver.node.active)
    return fabric


async def forced_mixed(rig, monkeypatch, *, busy=""):
    """A claim whose first pod was removed by force, allocated anew to a second one while the first still runs."""
    fabric = await start_with_fabric(rig)
    alive = {"uid-p1"}
    monkeypatch.setattr(rig.driver._owners, "_lives", lambda uid: uid in alive)
    ref = rig.add(mixed())
    await rig.prepare(ref, 40)
    (old,) = rig.record(ref).shares
    rig.host.busy = busy
    rig.api.remove(PODS, "p1", "app")
    rig.add(mixed("numa2-4ki", "1Gi", uid=ref.uid, pods=("p2",)))
    await rig.until(lambda: any(s.state == "attached" and s.tag != old.tag for s in rig.record(ref).shares))
    return fabric, alive, ref, old.tag


async def test_S4_a_claim_of_fabric_and_local_memory_is_handed_on_whole_and_only_when_its_pod_has_ended(
    rig, monkeypatch, caplog
):
    fabric, alive, ref, old = await forced_mixed(rig, monkeypatch)
    await clock.sleep(10)
    assert rig.record(ref).owner.uid == "uid-p1", "its containers still run"
    assert rig.driver.node.records.taken("n1/mem", "numa0-4ki") == 512 * MIB
    assert rig.specs() == [], "nobody starts with half of it"
    alive.clear()
    await rig.until(lambda: rig.record(ref).owner.uid == "uid-p2")
    records = rig.driver.node.records
    assert (records.taken("n1/mem", "numa0-4ki"), records.taken("n1/mem", "numa2-4ki")) == (0, 1024 * MIB)
    found = settings.settings_of(rig.record(ref))
    assert found.may_use("uid-p2", "app", f"{ref.uid}.near")
    assert found.may_use("uid-p2", "app", f"{ref.uid}.far")
    assert not found.may_use("uid-p1", "app", f"{ref.uid}.far")
    names = {device["name"] for device in spec(rig, ref)["devices"]}
    assert names == {f"claim-{ref.uid}.far", f"claim-{ref.uid}.near"}, "those that the kubelet knows"
    text = json.dumps(spec(rig, ref))
    assert old not in text
    assert "numa2-4ki" in text
    # what is handed on is remembered: over a restart, and a reboot, which loses the files
    await rig.stop()
    caplog.set_level(logging.INFO)
    rig.driver = rig.make(fabric=fabric.as_node("n1"))
    rig._task = asyncio.create_task(rig.driver.run())
    await rig.until(lambda: rig.driver.node.active)
    assert "stale CDI file removed" not in caplog.text
    assert rig.specs()
    await rig.stop()
    (rig.folder / f"cdi/dra.memory-claim-{ref.uid}.json").unlink()
    rig.driver = rig.make(fabric=fabric.as_node("n1"))
    rig._task = asyncio.create_task(rig.driver.run())
    await rig.until(rig.specs)
    assert json.dumps(spec(rig, ref)) == text
    # the kubelet takes it for prepared, and gives it back in the end
    rig.api.set_pod("p2", "Running")
    await rig.unprepare(ref, 40)
    assert (await fabric.as_operator().list_extents()).shares == ()
    assert rig.driver.node.records.taken("n1/mem", "numa2-4ki") == 0
    assert rig.specs() == []


async def test_rule_12_an_unprepare_after_handing_on_keeps_the_new_share(rig, monkeypatch):
    fabric, alive, ref, old = await forced_mixed(rig, monkeypatch, busy="pinned")
    with pytest.raises(StillHeld, match="pinned"):
        await rig.unprepare(ref, 2)
    alive.clear()
    await rig.until(lambda: rig.record(ref).owner.uid == "uid-p2")
    (new,) = [share.tag for share in rig.record(ref).shares if share.tag != old]
    rig.host.busy = ""
    await rig.unprepare(ref, 40)
    assert [share.tag for share in (await fabric.as_operator().list_extents()).shares] == [new]
    # the kubelet has forgotten the claim, and prepares it for the second pod
    devices = await rig.prepare(ref, 40)
    assert [device.request for device in devices] == ["far", "far-window", "near"]
    assert rig.record(ref).owner.uid == "uid-p2"
    assert rig.driver.node.records.taken("n1/mem", "numa2-4ki") == 1024 * MIB
    rig.api.set_pod("p2", "Running")
    await rig.unprepare(ref, 40)
    assert (await fabric.as_operator().list_extents()).shares == ()


async def test_S4_a_claim_of_both_that_keeps_its_allocation_is_handed_on(rig, monkeypatch):
    await start_with_fabric(rig)
    monkeypatch.setattr(rig.driver._owners, "_lives", lambda _uid: False)
    ref = rig.add(mixed())
    await rig.prepare(ref, 40)
    before = rig.record(ref).shares
    rig.api.put(PODS, pod_body("p2", claims={"mem": "near"}))
    rig.api.remove(PODS, "p1", "app")
    rig.api.reserve("p2", name="near")
    await rig.until(lambda: rig.record(ref).owner.uid == "uid-p2")
    assert rig.record(ref).shares == before
    assert settings.settings_of(rig.record(ref)).may_use("uid-p2", "app", f"{ref.uid}.far")
    await rig.unprepare(ref, 40)
    assert rig.record(ref) is None or not rig.record(ref).local


async def test_the_file_of_a_claim_that_lost_its_fabric_memory_when_it_was_handed_on_comes_back(rig, monkeypatch):
    """An alternative without a fabric was allocated to the second pod."""
    fabric = await start_with_fabric(rig)
    monkeypatch.setattr(rig.driver._owners, "_lives", lambda _uid: False)
    ref = rig.add(mixed())
    await rig.prepare(ref, 40)
    rig.api.remove(PODS, "p1", "app")
    rig.add(local_claim(result("near"), uid=ref.uid, name=ref.name, pods=("p2",)))
    await rig.until(lambda: rig.record(ref).owner.uid == "uid-p2" and not rig.record(ref).shares)
    assert rig.record(ref).offered, "nobody asked for it"
    text = json.dumps(spec(rig, ref))
    await rig.stop()
    (rig.folder / f"cdi/dra.memory-claim-{ref.uid}.json").unlink()
    rig.driver = rig.make(fabric=fabric.as_node("n1"))
    rig._task = asyncio.create_task(rig.driver.run())
    await rig.until(rig.specs)
    assert json.dumps(spec(rig, ref)) == text


async def test_what_is_wrong_with_a_claim_of_both_is_said_before_the_fabric_is_waited_for(rig):
    await start_with_fabric(rig)
    both = mixed()
    both["status"]["allocation"]["devices"]["config"] = [parameters(fileSystem={"path": "/mnt/m"})]
    both["status"]["allocation"]["devices"]["results"][0]["device"] = "nowhere"
    ref = rig.add(both)
    with pytest.raises(RefusedClaim, match="requests near and far both want /mnt/m"):
        await rig.prepare(ref, 40)
    far = [parameters(fileSystem={"path": "mnt"}) | {"requests": ["far"]}]
    both["status"]["allocation"]["devices"]["config"] = far
    ref = rig.add(both)
    with pytest.raises(RefusedClaim, match=r"request far: .*fileSystem.path"):
        await rig.prepare(ref, 40)
