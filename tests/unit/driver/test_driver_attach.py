# SPDX-License-Identifier: Apache-2.0
"""A share's way to its node, against a fabric, a host and an API server that refuse what real ones refuse."""

from __future__ import annotations

import json

import pytest
from tests.unit.driver.conftest import claim_body

from dynamic_memory.api.kinds import RESOURCE_CLAIMS
from dynamic_memory.driver.calls import ClaimRef, NotPrepared, NotReady
from dynamic_memory.fabric.backends.faults import Failure, Faults
from dynamic_memory.host.errors import OnlineFailed, RegionFailed
from dynamic_memory.process import clock

pytestmark = pytest.mark.looptime


async def test_a_claim_is_attached_reported_prepared_and_given_back(rig):
    await rig.start()
    ref = await rig.attached()
    assert rig.api.conditions() == {"Attached": ("True", "ExtentOnline"), "AttachFailed": ("False", "ExtentOnline")}
    assert rig.host.made[rig.tag()].complete
    devices = await rig.prepare(ref)
    assert [(d.request, d.pool, d.device, d.share_id) for d in devices] == [
        ("far", "fabric/rack-1", "cxl0", rig.tag()),
        ("far-window", "n1/windows", "port0", devices[1].share_id),
    ]
    assert devices[0].cdi_ids == (f"dra.memory/claim=claim-{ref.uid}",)
    [name] = rig.specs()
    env = json.loads((rig.folder / "cdi" / name).read_text())["devices"][0]["containerEdits"]["env"]
    assert "DYNAMIC_MEMORY_BYTES=536870912" in env
    assert "DYNAMIC_MEMORY_NUMA_NODES=1" in env
    assert f"DYNAMIC_MEMORY_SHARE_IDS={rig.tag()}" in env
    assert "DYNAMIC_MEMORY_SIMULATED=true" in env

    await rig.unprepare(ref)
    assert rig.specs() == []
    assert await rig.extents() == []
    assert rig.host.made == {}
    assert rig.api.conditions()["Attached"] == ("False", "Releasing")
    assert rig.record(ref).shares[0].state == "releasing"
    rig.api.deallocate()
    await rig.until(lambda: rig.record(ref) is None)
    await clock.sleep(120)
    assert await rig.extents() == []


async def test_R7_prepare_again_is_the_same_answer_and_writes_a_lost_file(rig):
    await rig.start()
    ref = await rig.attached()
    first = await rig.prepare(ref)
    [name] = rig.specs()
    (rig.folder / "cdi" / name).unlink()
    assert await rig.prepare(ref) == first
    assert rig.specs() == [name]


async def test_rule_8_the_record_is_on_the_disk_before_memory_is_added(rig):
    seen = []

    async def add_memory(**arguments):
        folder = rig.folder / "state" / "claims"
        seen.append([json.loads(path.read_text())["shares"][0]["state"] for path in folder.glob("*.json")])
        return await real(**arguments)

    driver = await rig.start()
    real, driver.node.fabric.add_memory = driver.node.fabric.add_memory, add_memory
    await rig.attached()
    assert seen == [["attaching"]]


@pytest.mark.parametrize("how", ["other-uid", "other-share", "deallocated", "gone"])
@pytest.mark.parametrize("when", ["add", "online"])
async def test_rule_9_a_claim_that_changed_meanwhile_is_undone(rig, how, when):
    driver = await rig.start()
    ref_uid = []

    def change():
        ref_uid.append(rig.api.claim().metadata.uid)
        if how == "other-share":
            rig.api.allocate(tag="6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11", node="n2")
        elif how == "deallocated":
            rig.api.deallocate()
        else:
            rig.api.delete_claim("far")
            if how == "other-uid":
                rig.add_claim(node="n2")

    target = driver.node.fabric if when == "add" else rig.host
    method = "add_memory" if when == "add" else "create_region"
    real = getattr(target, method)

    async def intercepted(*arguments, **keywords):
        answer = await real(*arguments, **keywords)
        if not ref_uid:
            change()
        return answer

    setattr(target, method, intercepted)
    rig.add_claim()
    await rig.until(lambda: ref_uid)
    await rig.until(lambda: driver.node.records.all() == [])
    assert await rig.extents() == []
    assert rig.host.made == {}
    assert "online" not in [operation for operation, _ in rig.host.calls]


async def test_rule_10_one_apply_has_all_devices_and_both_conditions_and_keeps_transition_times(rig):
    await rig.start()
    rig.host.arrival = 3
    ref = await rig.attached()
    device = rig.api.devices()
    assert len(device) == 1
    assert [c["type"] for c in device[0]["conditions"]] == [
        "dynamicmemory.dev/Attached",
        "dynamicmemory.dev/AttachFailed",
    ]
    before = {c["type"]: c["lastTransitionTime"] for c in device[0]["conditions"]}
    assert rig.api.reports() == 2  # waiting, then attached
    await clock.sleep(2)
    rig.host.busy = "pinned"
    with pytest.raises(Exception, match="pinned"):
        await rig.unprepare(ref, seconds=3)
    after = {c["type"]: c["lastTransitionTime"] for c in rig.api.devices()[0]["conditions"]}
    assert after["dynamicmemory.dev/AttachFailed"] == before["dynamicmemory.dev/AttachFailed"]


async def test_what_is_waited_for_is_said_in_claim_and_events(rig):
    await rig.start()
    rig.host.arrival = 10
    rig.add_claim()
    await rig.until(lambda: rig.api.conditions().get("Attached") == ("False", "WaitingForMemory"))
    await rig.until(lambda: rig.api.conditions().get("Attached") == ("True", "ExtentOnline"))
    await clock.sleep(1)
    events = rig.api.events()
    assert {(kind, reason) for kind, reason, _ in events} == {
        ("ResourceClaim", "AttachWaiting"),
        ("Pod", "AttachWaiting"),
        ("ResourceClaim", "MemoryAttached"),
        ("Pod", "MemoryAttached"),
    }
    assert all(message.endswith("(simulated)") for _, _, message in events)


async def test_a_service_that_is_away_is_waited_for(rig):
    rig.fabric.down()
    await rig.start()
    rig.add_claim()
    await rig.until(lambda: rig.api.conditions().get("Attached") == ("False", "FabricUnreachable"))
    await clock.sleep(300)
    assert rig.api.conditions()["AttachFailed"][0] == "False"
    await rig.fabric.up()
    await rig.until(lambda: rig.api.conditions()["Attached"][0] == "True")


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda rig: rig.fabric.inject(Faults(failures=(Failure("add", times=1),))), "FabricError"),
        (lambda rig: rig.host.faults.update(online=[OnlineFailed("t", [3], "EINVAL")]), "OnlineFailed"),
        (lambda rig: rig.host.faults.update(create=[RegionFailed("t", "ENOSPC")]), "OnlineFailed"),
    ],
    ids=["fabric", "online", "region"],
)
async def test_rule_15_a_failure_is_published_and_undone_before_it_is_reported(rig, break_it, reason):
    driver = await rig.start()
    await rig.until(rig.api.slices)
    break_it(rig)
    at_report = []

    def look(call):
        if (call.verb, call.kind) == ("apply", str(RESOURCE_CLAIMS)):
            taints = [t["key"] for s in rig.api.slices() for d in s["spec"]["devices"] for t in d.get("taints", [])]
            at_report.append((taints, dict(rig.host.made), driver.node.view.all()))

    rig.api.before = look
    rig.add_claim()
    await rig.until(lambda: rig.api.conditions().get("AttachFailed") == ("True", reason))
    assert rig.api.conditions()["Attached"] == ("False", reason)
    assert at_report[-1] == (["dynamicmemory.dev/attach-failed"], {}, [])
    # a good probe takes the taint away, not before the hold is over
    await clock.sleep(5)
    assert "taints" in rig.api.slices()[0]["spec"]["devices"][0]
    await clock.sleep(10)
    assert "taints" not in rig.api.slices()[0]["spec"]["devices"][0]
    # nothing is tried again until the scheduler has let go
    assert await rig.extents() == []
    rig.api.deallocate()
    await rig.until(lambda: driver.node.records.all() == [])
    rig.api.allocate()
    await rig.until(lambda: rig.api.conditions()["Attached"][0] == "True")


async def test_rule_15_a_failure_is_reported_after_a_minute_even_if_something_is_left(rig):
    driver = await rig.start()
    rig.host.faults["online"] = [OnlineFailed("t", [3], "EINVAL")]
    rig.fabric.inject(Faults(failures=(Failure("remove", times=None),)))
    rig.add_claim()
    began = clock.monotonic()
    await rig.until(lambda: rig.api.conditions().get("AttachFailed", ("",))[0] == "True", seconds=100)
    assert clock.monotonic() - began > 0
    rig.api.deallocate()
    await clock.sleep(20)
    assert len(await rig.extents()) == 1
    assert driver.node.records.all() != []
    # meanwhile the window says that these bytes cannot be had
    size = rig.api.slices()[0]["spec"]["devices"][0]["capacity"]["size"]["value"]
    assert size == str((8 << 30) - (512 << 20))
    rig.fabric.inject(Faults())
    await rig.until(lambda: driver.node.records.all() == [])
    await rig.until(
        lambda: rig.api.slices()[0]["spec"]["devices"][0]["capacity"]["size"]["value"] == str(8 << 30), seconds=5
    )


async def test_an_attach_that_a_pod_may_be_bound_to_never_fails(rig):
    driver = await rig.start()
    ref = await rig.attached()
    await rig.prepare(ref)
    rig.host.reboot()
    driver.node.boot_id = rig.host.boot
    rig.host.faults["online"] = [OnlineFailed("t", [3], "EINVAL")] * 8
    driver.node.queue.add(ref.uid)
    await rig.until(lambda: rig.api.conditions()["Attached"] == ("False", "NodeRebooted"))
    await rig.until(lambda: rig.api.conditions()["Attached"] == ("False", "OnlineFailed"))
    await rig.until(lambda: rig.api.conditions()["Attached"] == ("True", "ExtentOnline"))
    assert rig.api.conditions()["AttachFailed"][0] == "False"


async def test_I7_bytes_still_held_are_waited_for(rig):
    await rig.start()
    await rig.until(rig.api.slices)
    fabric = rig.fabric.as_node("n2")
    held = "6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11"
    await fabric.add_memory(node="n2", pool="fabric/rack-1", device="cxl0", size=8 << 30, tag=held)
    rig.add_claim()
    await rig.until(lambda: rig.api.conditions().get("Attached") == ("False", "WaitingForRelease"))
    await rig.fabric.as_controller().remove_memory(held)
    await clock.sleep(100)
    assert rig.api.conditions()["AttachFailed"][0] == "False"
    await fabric.remove_memory(held)
    await rig.until(lambda: rig.api.conditions()["Attached"][0] == "True", seconds=3)


async def test_bytes_that_nobody_releases_are_waited_for_half_a_minute(rig):
    await rig.start()
    await rig.until(rig.api.slices)
    await rig.fabric.as_node("n2").add_memory(
        node="n2", pool="fabric/rack-1", device="cxl0", size=8 << 30, tag="6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11"
    )
    rig.add_claim()
    await clock.sleep(25)
    assert rig.api.conditions() == {
        "Attached": ("False", "WaitingForRelease"),
        "AttachFailed": ("False", "WaitingForRelease"),
    }
    await rig.until(lambda: rig.api.conditions()["AttachFailed"][0] == "True")


async def test_rule_16_a_claim_that_slipped_through_is_refused_without_a_taint(rig):
    driver = await rig.start()
    await rig.until(rig.api.slices)
    body = rig.api.put(RESOURCE_CLAIMS, claim_body())
    body["spec"]["devices"].pop("constraints")
    rig.api.put(RESOURCE_CLAIMS, body)
    await rig.until(lambda: rig.api.conditions().get("AttachFailed") == ("True", "InvalidClaim"))
    assert "taints" not in rig.api.slices()[0]["spec"]["devices"][0]
    applies = rig.api.reports()
    driver.node.queue.add(body["metadata"]["uid"])
    await clock.sleep(200)
    assert rig.api.reports() == applies


async def test_rule_11_prepare_waits_for_what_is_on_its_way(rig):
    await rig.start()
    rig.host.arrival = 20
    ref = rig.add_claim()
    began = clock.monotonic()
    await rig.prepare(ref)
    assert 20 < clock.monotonic() - began < 25
    assert len(rig.specs()) == 1


async def test_rule_11_prepare_gives_up_in_time_and_says_what_it_waited_for(rig):
    await rig.start()
    rig.host.arrival = 50
    ref = rig.add_claim()
    with pytest.raises(NotReady, match="WaitingForMemory"):
        await rig.prepare(ref, seconds=10)
    assert rig.specs() == []


async def test_prepare_of_what_failed_says_why(rig):
    await rig.start()
    rig.host.faults["online"] = [OnlineFailed("t", [3], "EINVAL")]
    ref = rig.add_claim()
    await rig.until(lambda: rig.api.conditions().get("AttachFailed", ("",))[0] == "True")
    with pytest.raises(NotPrepared, match="OnlineFailed"):
        await rig.prepare(ref)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda api: api.delete_claim("far"), "does not exist"),
        (lambda api: api.deallocate(), "not allocated"),
        (lambda api: api.allocate(node="n2"), "not allocated to node n1"),
        (lambda api: api.reserve(), "reserved for 0 pods"),
        (lambda api: api.reserve("p1", "p2"), "reserved for 2 pods"),
    ],
)
async def test_R1_R2_R3_prepare_refuses_what_is_not_to_be_prepared(rig, change, says):
    await rig.start()
    ref = rig.add_claim(node="n1")
    change(rig.api)
    with pytest.raises(NotPrepared, match=says):
        await rig.prepare(ref)


async def test_R4_a_claim_without_devices_of_ours_is_a_success_without_devices(rig):
    await rig.start()
    body = rig.api.raw_claim(rig.add_claim(node="n2").name)
    for result in body["status"]["allocation"]["devices"]["results"]:
        result["driver"] = "other.example"
    rig.api.put(RESOURCE_CLAIMS, body)
    assert await rig.prepare(ClaimRef("app", "far", body["metadata"]["uid"])) == []
