# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

import pytest
from tests.unit.driver.local_rig import parameters

from dynamic_memory.api.kinds import PODS
from dynamic_memory.driver.calls import ClaimRef
from dynamic_memory.driver.claims import RefusedClaim
from dynamic_memory.driver.settings import settings_of
from dynamic_memory.driver.unprepare import StillHeld
from dynamic_memory.fabric.backends.faults import Failure, Faults
from dynamic_memory.process import clock

pytestmark = pytest.mark.looptime

TAG = "6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11"


async def test_I4_unprepare_succeeds_only_after_the_bytes_are_back(rig):
    await rig.start()
    ref = await rig.attached()
    await rig.prepare(ref)
    rig.host.busy = "2 pages pinned"
    with pytest.raises(StillHeld, match=r"MemoryBusy.*2 pages pinned"):
        await rig.unprepare(ref, seconds=10)
    assert await rig.extents() == [rig.tag()]
    assert rig.api.conditions()["Attached"] == ("False", "MemoryBusy")
    assert ("Pod", "ReleaseHeld") in {(kind, reason) for kind, reason, _ in rig.api.events()}
    assert ("ResourceClaim", "ReleaseHeld") in {(kind, reason) for kind, reason, _ in rig.api.events()}
    rig.host.busy = ""
    await rig.unprepare(ref, seconds=10)
    assert await rig.extents() == []


async def test_unprepare_waits_inside_the_call(rig):
    await rig.start()
    ref = await rig.attached()
    rig.host.busy = "pinned"
    began = clock.monotonic()

    async def lift():
        await clock.sleep(12)
        rig.host.busy = ""

    task = asyncio.create_task(lift())
    await rig.unprepare(ref)
    assert 12 <= clock.monotonic() - began < 20
    await task


async def test_I4_a_fabric_that_does_not_answer_holds_the_pod(rig):
    await rig.start()
    ref = await rig.attached()
    rig.fabric.down()
    with pytest.raises(StillHeld, match="FabricUnreachable"):
        await rig.unprepare(ref, seconds=5)
    await rig.fabric.up()
    assert await rig.extents() == [rig.tag()]
    await rig.unprepare(ref)
    assert await rig.extents() == []


async def test_rule_12_unprepare_during_an_attach_waits_for_what_was_in_flight(rig):
    driver = await rig.start()
    rig.fabric.inject(Faults(latency={"add": 5.0}))
    ref = rig.add_claim()
    await rig.until(lambda: any(call[0] == "add_memory" for call in rig.fabric.calls))
    assert driver.node.view.get(rig.tag()) is None
    await rig.unprepare(ref)
    assert await rig.extents() == []
    assert rig.host.made == {}
    await clock.sleep(30)
    assert await rig.extents() == []


async def test_rule_12_what_nobody_knows_is_a_success(rig):
    await rig.start()
    await rig.unprepare(ClaimRef("app", "gone", "11111111-2222-3333-4444-555555555555"))


async def test_rule_12_unknown_is_an_error_while_the_fabric_cannot_be_asked(rig):
    await rig.start()
    rig.fabric.down()
    with pytest.raises(Exception, match="does not answer"):
        await rig.unprepare(ClaimRef("app", "gone", "11111111-2222-3333-4444-555555555555"), seconds=2)


async def test_rule_12_the_claim_finds_the_share_when_the_record_is_lost(rig):
    driver = await rig.start()
    ref = await rig.attached()
    await rig.stop()
    for path in (rig.folder / "state" / "claims").iterdir():
        path.write_bytes(b"garbage")
    driver = await rig.start()
    await rig.until(lambda: driver.node.records.quarantined == 1 and driver.node.active)
    await rig.unprepare(ref)
    assert await rig.extents() == []


@pytest.mark.parametrize("how", ["deleted", "deallocated"])
async def test_rule_12_a_claim_gone_without_unprepare_is_detached_at_once(rig, how):
    driver = await rig.start()
    ref = await rig.attached()
    await rig.prepare(ref)
    if how == "deleted":
        rig.api.delete_claim("far")
    else:
        rig.api.deallocate()
    began = clock.monotonic()
    await rig.until(lambda: driver.node.records.all() == [])
    assert clock.monotonic() - began < 1
    assert await rig.extents() == []
    assert rig.specs() == []
    # the kubelet still calls
    await rig.unprepare(ref)


async def test_rule_8_released_memory_is_not_attached_again_while_the_claim_still_holds_the_share(rig):
    await rig.start()
    ref = await rig.attached()
    await rig.unprepare(ref)
    await clock.sleep(200)
    assert await rig.extents() == []
    await rig.stop()
    await rig.start()
    await clock.sleep(200)
    assert await rig.extents() == []


async def test_rule_8_a_new_pod_or_a_prepare_takes_a_release_back(rig):
    await rig.start()
    ref = await rig.attached()
    await rig.unprepare(ref)
    rig.api.reserve("p2")
    await rig.until(lambda: rig.api.conditions()["Attached"] == ("True", "ExtentOnline"))
    await rig.unprepare(ref)
    assert await rig.extents() == []
    await rig.prepare(ref)
    assert await rig.extents() == [rig.tag()]
    assert rig.api.conditions()["Attached"] == ("True", "ExtentOnline")


async def test_a_claim_allocated_anew_gives_the_old_share_back_and_takes_the_new_one(rig):
    await rig.start()
    ref = await rig.attached()
    old = rig.tag()
    rig.api.allocate()
    await rig.until(lambda: rig.api.conditions().get("Attached", ("",))[0] == "True")
    assert rig.tag() != old
    await rig.until(lambda: [s.tag for s in rig.record(ref).shares] == [rig.tag()])
    assert await rig.extents() == [rig.tag()]


async def forced(rig, config=()):
    """A claim whose first pod was deleted by force while the kernel holds its memory, and which has a second one.

    The second one's allocation has this configuration.
    """
    await rig.start()
    ref = await rig.attached()
    await rig.prepare(ref)
    old = rig.tag()
    rig.host.busy = "pinned"
    rig.api.deallocate()
    with pytest.raises(StillHeld):
        await rig.unprepare(ref, seconds=1)
    rig.api.allocate(pods=("p2",), config=config)
    rig.api.set_pod("p2")
    await rig.until(lambda: rig.api.conditions()["Attached"] == ("True", "ExtentOnline"))
    return ref, old, rig.tag()


async def test_rule_12_unprepare_is_not_about_the_share_of_a_pod_that_has_not_begun(rig):
    ref, old, new = await forced(rig)
    with pytest.raises(StillHeld, match="pinned"):
        await rig.unprepare(ref, seconds=5)
    assert await rig.extents() == sorted([old, new])
    assert rig.api.conditions()["Attached"] == ("True", "ExtentOnline")
    rig.host.busy = ""
    await rig.unprepare(ref)
    assert await rig.extents() == [new]
    # the kubelet has forgotten the claim, and prepares it for the second pod
    await rig.prepare(ref)
    rig.api.set_pod("p2", "Running")
    await rig.unprepare(ref)
    assert await rig.extents() == []


@pytest.mark.parametrize("ended", ["running", "deleted", "gone"])
async def test_rule_12_unprepare_is_about_the_share_of_a_pod_that_has_ended(rig, ended):
    """Also if it was never prepared: the kubelet took the claim for prepared."""
    ref, old, new = await forced(rig)
    rig.host.busy = ""
    if ended == "gone":
        rig.api.remove(PODS, "p2", "app")
    else:
        rig.api.set_pod("p2", "Running" if ended == "running" else "Pending", deleted=ended == "deleted")
    await rig.unprepare(ref)
    assert await rig.extents() == []
    assert {old, new}.isdisjoint(await rig.extents())
    assert rig.specs() == []


async def test_a_pod_that_the_kubelet_does_not_prepare_finds_its_share_in_the_cdi_file(rig):
    """As long as no Unprepare has succeeded the kubelet takes the claim for prepared, with the device of before."""
    ref, old, new = await forced(rig)
    path = rig.folder / "cdi" / f"dra.memory-claim-{ref.uid}.json"
    await rig.until(path.exists)
    text = path.read_text()
    assert new in text
    assert old not in text
    found = settings_of(rig.record(ref))
    assert found.may_use("uid-p2", "any", ref.uid), "a runtime that asks hears the same"
    assert not found.may_use("uid-p1", "any", ref.uid)
    # the answer to a Prepare would have been the same file
    rig.host.busy = ""
    await rig.prepare(ref)
    assert path.read_text() == text
    await rig.stop()
    path.unlink()
    await rig.start()
    await rig.until(path.exists)
    assert path.read_text() == text


async def test_a_pod_that_the_kubelet_does_not_prepare_gets_the_file_system_of_its_claim(rig):
    ref, _, new = await forced(rig, config=[parameters(mode="protect", fileSystem={"path": "/mnt/far"})])
    path = rig.folder / "cdi" / f"dra.memory-claim-{ref.uid}.json"
    await rig.until(path.exists)
    text = path.read_text()
    assert new in text
    assert '"/mnt/far"' in text
    rig.host.busy = ""
    await rig.prepare(ref)
    assert path.read_text() == text


async def test_no_cdi_file_is_written_for_a_claim_that_is_configured_in_a_way_that_nobody_understands(rig, caplog):
    ref, _, _ = await forced(rig, config=[parameters(mode="protekt")])
    await clock.sleep(20)
    assert rig.specs() == []
    assert "no CDI file" in caplog.text
    rig.host.busy = ""
    with pytest.raises(RefusedClaim, match=r"request far.*mode"):
        await rig.prepare(ref)


async def test_no_cdi_file_is_written_for_a_claim_that_the_kubelet_has_given_back(rig):
    ref, _, new = await forced(rig)
    rig.host.busy = ""
    await rig.unprepare(ref)
    await rig.stop()
    await rig.start()
    await clock.sleep(200)
    assert await rig.extents() == [new]
    assert rig.specs() == []
    assert settings_of(rig.record(ref)) is None


async def test_rule_12_an_orphan_on_the_fabric_is_released(rig):
    await rig.fabric.as_node("n1").add_memory(node="n1", pool="fabric/rack-1", device="cxl0", size=1 << 30, tag=TAG)
    driver = await rig.start()
    await rig.until(
        lambda: driver.node.records.key_of(TAG) is None and driver.node.view.synced and not driver.node.view.all()
    )
    assert await rig.extents() == []


async def test_rule_19_a_claim_that_only_a_fresh_list_knows_keeps_its_memory(rig):
    driver = await rig.start()
    await rig.until(lambda: driver.node.view.synced)
    ref = await rig.attached()
    driver.node.records._by_key.clear()
    driver.node.records._key_of_tag.clear()
    driver.node.claims.by_tag = lambda _tag: None
    assert await driver._orphans.check() == []
    assert await rig.extents() == [rig.tag()]
    assert ref.uid


async def test_rule_19_many_orphans_at_once_are_not_believed(rig):
    fabric = rig.fabric.as_node("n1")
    for number in range(6):
        await fabric.add_memory(
            node="n1", pool="fabric/rack-1", device="cxl0", size=128 << 20, tag=TAG[:-1] + str(number)
        )
    driver = await rig.start()
    await rig.until(lambda: driver.node.view.synced and driver.node.active)
    await clock.sleep(200)
    assert len(await rig.extents()) == 6


async def test_rule_6_a_requested_release_of_an_orphan_is_done_by_the_driver(rig):
    driver = await rig.start()
    ref = await rig.attached()
    await rig.fabric.as_controller().remove_memory(rig.tag())
    await clock.sleep(5)
    # its claim is still allocated: nothing is pulled from under a pod
    assert await rig.extents() == [rig.tag()]
    rig.api.deallocate()
    await rig.until(lambda: driver.node.records.all() == [])
    assert await rig.extents() == []
    assert ref.uid


async def test_I5_a_driver_killed_at_any_moment_of_attach_and_release_leaves_nothing_behind(rig):
    """Cut at every await of the whole way; the next driver brings it to the same end."""
    for cut in range(1, 60):
        ref = rig.add_claim(name="far")
        await rig.start()
        for _ in range(cut):
            await clock.sleep(0)
        await rig.stop()
        await rig.start()
        await rig.until(lambda: rig.api.conditions().get("Attached", ("",))[0] == "True")
        assert await rig.extents() == [rig.tag()]
        await rig.unprepare(ref)
        assert await rig.extents() == []
        rig.api.delete_claim("far")
        await rig.until(lambda: rig.driver.node.records.all() == [])
        await rig.stop()


async def test_a_release_that_fails_on_the_fabric_is_tried_again(rig):
    await rig.start()
    ref = await rig.attached()
    rig.fabric.inject(Faults(failures=(Failure("remove", times=3),)))
    await rig.unprepare(ref)
    assert await rig.extents() == []


# --- a disk that is full


def full(*_):
    raise OSError(28, "No space left on device")


async def test_a_full_disk_is_waited_out_and_said(rig, monkeypatch, caplog):
    driver = await rig.start()
    await rig.until(lambda: driver.node.active)
    with monkeypatch.context() as patched:
        patched.setattr(driver.node.records, "_update", full)
        ref = rig.add_claim()
        with pytest.raises(OSError, match="No space left"):
            await rig.prepare(ref)
        await clock.sleep(5)
        assert await rig.extents() == []
        assert driver.node.names_of == {}
    said = [entry for entry in caplog.records if "disk" in entry.message]
    assert {entry.key for entry in said} == {ref.uid}
    assert 3 < len(said) < 10
    await rig.prepare(ref)
    assert await rig.extents() == [rig.tag()]


async def test_a_full_disk_does_not_end_a_driver_that_finds_an_orphan(rig, monkeypatch):
    driver = await rig.start()
    await rig.until(lambda: driver.node.view.synced)
    with monkeypatch.context() as patched:
        patched.setattr(driver.node.records, "_update", full)
        await rig.fabric.as_node("n1").add_memory(node="n1", pool="fabric/rack-1", device="cxl0", size=1 << 29, tag=TAG)
        await clock.sleep(5)
        assert not rig._tasks[0].done()
        assert await rig.extents() == [TAG]
    await clock.sleep(10)
    assert await rig.extents() == []
