# SPDX-License-Identifier: Apache-2.0
"""Prepare and Unprepare of the node's own memory: answers, ledger, restarts, disks that fail."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from tests.support.machine import GIB, MIB, set_pages
from tests.unit.driver.local_rig import env, local_claim, parameters, pod_body, result, spec

from dynamic_memory.api.kinds import PODS, RESOURCE_CLAIMS
from dynamic_memory.driver import settings
from dynamic_memory.driver.calls import ClaimRef, Device, NotPrepared, NotReady
from dynamic_memory.driver.claims import RefusedClaim
from dynamic_memory.driver.unprepare import StillHeld
from dynamic_memory.kube.errors import Unavailable
from dynamic_memory.process import clock, durable

pytestmark = pytest.mark.looptime


async def test_R12_the_answer_names_request_pool_device_share_and_cdi_device(rig):
    body = local_claim(result(shareID="s1"))
    ref = rig.add(body)
    assert await rig.prepare(ref) == [
        Device(
            request="mem",
            pool="n1/mem",
            device="numa0-4ki",
            share_id="s1",
            cdi_ids=(f"dra.memory/claim=claim-{ref.uid}",),
        )
    ]


async def test_R12_an_alternative_is_answered_by_its_request(rig):
    ref = rig.add(local_claim(result(request="mem/near")))
    assert [device.request for device in await rig.prepare(ref)] == ["mem"]


@pytest.mark.parametrize(
    ("pods", "says"), [((), "reserved for 0 pods"), (("p1", "p2"), "reserved for 2 pods")], ids=["none", "two"]
)
async def test_R2_S1_a_claim_is_for_exactly_one_pod(rig, pods, says):
    with pytest.raises(NotPrepared, match=says):
        await rig.prepare(rig.add(local_claim(pods=pods)))
    assert rig.specs() == []


async def test_R3_who_reserves_a_claim_must_be_a_pod(rig):
    body = local_claim()
    other = {"apiGroup": "apps.example", "resource": "things", "name": "t", "uid": "u"}
    body["status"]["reservedFor"] = [other]
    with pytest.raises(NotPrepared, match="reserved for 0 pods"):
        await rig.prepare(rig.add(body))
    held = local_claim(name="held")
    held["status"]["reservedFor"].append(other)
    assert await rig.prepare(rig.add(held)), "a hold beside the pod is not another pod"


async def test_R3_the_pod_must_be_the_one_that_reserved_it(rig):
    ref = rig.add(local_claim())
    rig.api.put(PODS, pod_body("p1", uid="another"))
    with pytest.raises(NotPrepared, match=r"pod p1 .*does not exist"):
        await rig.prepare(ref)
    rig.api.remove(PODS, "p1", "app")
    with pytest.raises(NotPrepared, match=r"pod p1 .*does not exist"):
        await rig.prepare(ref)


async def test_R1_a_claim_that_is_not_allocated_is_refused(rig):
    body = local_claim()
    del body["status"]["allocation"]
    with pytest.raises(NotPrepared, match="not allocated"):
        await rig.prepare(rig.add(body))


async def test_R4_results_of_other_drivers_are_passed_over(rig):
    gpu = result(request="gpu", driver="gpu.example", pool="n1", device="gpu-0")
    assert await rig.prepare(rig.add(local_claim(gpu, name="gpu"))) == []
    assert rig.specs() == []
    both = rig.add(local_claim(gpu, result(), name="both"))
    assert [device.device for device in await rig.prepare(both)] == ["numa0-4ki"]


@pytest.mark.parametrize("device", ["numa1-4ki", "numa0-1gi", "memory-x7k2pq"])
async def test_R5_an_unknown_device_is_named(rig, device):
    with pytest.raises(RefusedClaim, match=f"device {device} of pool n1/mem is not one of this node's"):
        await rig.prepare(rig.add(local_claim(result(device=device))))


async def test_R5_a_pool_of_another_node_is_not_ours(rig):
    with pytest.raises(RefusedClaim, match="not one of this node's driver"):
        await rig.prepare(rig.add(local_claim(result(pool="n2/mem"))))


@pytest.mark.parametrize(
    ("size", "device", "says"),
    [
        (None, "numa0-4ki", "without the capacity 'size'"),
        ("0", "numa0-4ki", "a whole number above 0"),
        ("-4Ki", "numa0-4ki", "a whole number above 0"),
        ("1m", "numa0-4ki", "a whole number above 0"),
        ("4097", "numa0-4ki", "no multiple of a page of 4Ki"),
        ("3Mi", "numa0-2mi", "no multiple of a page of 2Mi"),
        ("much", "numa0-4ki", "request mem: "),
    ],
)
async def test_R6_an_amount_that_is_none_is_refused(rig, size, device, says):
    with pytest.raises(RefusedClaim, match=says):
        await rig.prepare(rig.add(local_claim(result(device=device, size=size))))
    assert rig.specs() == []


async def test_R7_a_repeated_prepare_gives_the_same_answer_and_writes_a_lost_file_again(rig):
    ref = rig.add(local_claim())
    first = await rig.prepare(ref)
    text = (rig.folder / "cdi" / rig.specs()[0]).read_text()
    (rig.folder / "cdi" / rig.specs()[0]).unlink()
    assert await rig.prepare(ref) == first
    assert (rig.folder / "cdi" / rig.specs()[0]).read_text() == text


async def test_R8_what_was_allocated_and_prepared_before_a_restart_works(rig):
    prepared, fresh = rig.add(local_claim(name="a")), rig.add(local_claim(name="b", pods=("p2",)))
    first = await rig.prepare(prepared)
    await rig.stop()
    await rig.start()
    assert await rig.prepare(prepared) == first
    assert len(await rig.prepare(fresh)) == 1
    assert rig.driver.node.records.taken("n1/mem", "numa0-4ki") == GIB


async def test_R8_a_claim_is_answered_as_before_when_its_device_is_gone(rig):
    ref = rig.add(local_claim(result(device="numa0-2mi", size="64Mi")))
    first = await rig.prepare(ref)
    await rig.stop()
    set_pages(rig.root, 0, 2 * MIB, 0)
    await rig.start()
    assert await rig.prepare(ref) == first


async def test_R9_R10_devices_on_two_nodes_and_of_two_pages_are_all_counted(rig):
    ref = rig.add(
        local_claim(
            result(),
            result(device="numa2-4ki", size="1Gi"),
            result(device="numa0-2mi", size="64Mi"),
        )
    )
    assert len(await rig.prepare(ref)) == 3
    found = env(rig, ref)
    assert found[f"DRAMEMORY_{ref.uid}_NUMANodes"] == "0,2"
    assert found[f"DRAMEMORY_{ref.uid}_memory"] == "numanode:0,size:512Mi;numanode:2,size:1Gi"
    assert found[f"DRAMEMORY_{ref.uid}_hugepages_2Mi"] == "numanode:0,size:64Mi"
    request = settings.settings_of(rig.record(ref)).requests[ref.uid]
    assert (request.memory, request.hugepages) == (1536 * MIB, {2 * MIB: 64 * MIB})


async def test_R13_more_than_the_node_has_is_not_prepared(rig):
    first = rig.add(local_claim(result(device="numa2-4ki", size="1536Mi"), name="a"))
    second = rig.add(local_claim(result(device="numa2-4ki", size="1Gi"), name="b", pods=("p2",)))
    await rig.prepare(first)
    with pytest.raises(NotReady, match="numa2-4ki has 2147483648 bytes, of which 1610612736 are prepared for others"):
        await rig.prepare(second)
    assert rig.record(second) is None
    await rig.prepare(first)
    await rig.unprepare(first)
    await rig.prepare(second)


async def test_R13_claims_at_the_same_time_do_not_both_get_the_last_bytes(rig):
    refs = [
        rig.add(local_claim(result(device="numa2-4ki", size="1Gi"), name=f"c{n}", pods=(f"p{n}",))) for n in range(5)
    ]
    answers = await asyncio.gather(*(rig.prepare(ref) for ref in refs), return_exceptions=True)
    assert sum(isinstance(answer, list) for answer in answers) == 2
    assert rig.driver.node.records.taken("n1/mem", "numa2-4ki") == 2 * GIB


async def test_R14_a_claim_that_nobody_knows_is_unprepared(rig):
    await rig.unprepare(ClaimRef("app", "never", str(uuid.uuid4())))
    ref = rig.add(local_claim())
    await rig.unprepare(ref)
    await rig.prepare(ref)
    (rig.folder / "cdi" / rig.specs()[0]).unlink()
    await rig.unprepare(ref)
    await rig.unprepare(ref)
    assert rig.record(ref) is None


async def test_R14_unprepare_needs_no_api_server(rig):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    rig.api.down = True
    await rig.unprepare(ref)
    assert rig.specs() == []
    await rig.unprepare(ref)  # the kubelet has not heard the answer


async def test_R15_the_file_goes_first_and_the_ledger_only_if_it_went(rig, monkeypatch):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    specs = rig.driver.node.specs
    remove = specs.remove

    def refuse(uid):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(specs, "remove", refuse)
    with pytest.raises(StillHeld, match="cannot be removed"):
        await rig.unprepare(ref)
    assert rig.driver.node.records.taken("n1/mem", "numa0-4ki") == 512 * MIB
    assert rig.record(ref).owner.name == "p1"
    monkeypatch.setattr(specs, "remove", remove)
    await rig.unprepare(ref)
    assert rig.driver.node.records.taken("n1/mem", "numa0-4ki") == 0
    assert (rig.record(ref), rig.specs()) == (None, [])


async def test_a_look_at_everything_in_the_middle_of_a_release_leaves_no_file(rig, monkeypatch):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    records = rig.driver.node.records
    update = records.update

    async def look_first(key, *how):
        monkeypatch.setattr(records, "update", update)
        assert rig.specs() == [], "the file went first"
        await rig.driver._leftovers.restore_specs()
        return await update(key, *how)

    monkeypatch.setattr(records, "update", look_first)
    await rig.unprepare(ref)
    assert (rig.record(ref), rig.specs()) == (None, [])


async def test_a_file_that_is_missing_comes_back_but_not_if_another_driver_released_it(rig):
    kept, released = (rig.add(local_claim(name=name, pods=(name,))) for name in ("kept", "released"))
    for ref in (kept, released):
        await rig.prepare(ref)
    other = rig.make()
    await other.node.records.load()
    await other._plugin._unpreparer.unprepare(released, clock.monotonic() + 5)
    assert rig.record(released) is not None, "this one has not heard of it"
    (rig.folder / f"cdi/dra.memory-claim-{kept.uid}.json").unlink()
    await rig.driver._leftovers.restore_specs()
    assert rig.specs() == [f"dra.memory-claim-{kept.uid}.json"]


async def test_a_file_that_cannot_be_restored_ends_nothing(rig, monkeypatch):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    (rig.folder / "cdi" / rig.specs()[0]).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(rig.driver.node.specs, "write", lambda _uid, _text: (_ for _ in ()).throw(OSError(28, "full")))
        await rig.driver._leftovers.restore_specs()
    assert rig.specs() == []
    await rig.driver._leftovers.restore_specs()
    assert rig.specs() == [f"dra.memory-claim-{ref.uid}.json"]


@pytest.mark.parametrize(
    ("containers", "clashes"),
    [
        ({"app": [("one", ""), ("two", "")]}, True),
        ({"app": [("one", ""), ("two", "mem")]}, True),
        ({"app": [("one", "")], "other": [("two", "")]}, False),
    ],
)
async def test_two_claims_of_a_container_are_not_file_systems_at_one_path(rig, containers, clashes):
    """The one would hide the other; a device class may give the path to both."""
    config = [parameters(fileSystem={"path": "/mnt/m"})]
    pod = pod_body("p1", containers, claims={"one": "a", "two": "b"})
    one, two = (rig.add(local_claim(name=name, config=config), pod=pod) for name in ("a", "b"))
    await rig.prepare(one)
    await rig.prepare(one)
    if not clashes:
        await rig.prepare(two)
        return
    with pytest.raises(RefusedClaim, match="claims app/a and app/b of container app both want /mnt/m"):
        await rig.prepare(two)
    assert rig.record(two) is None
    assert rig.specs() == [f"dra.memory-claim-{one.uid}.json"]


async def test_R16_a_failing_file_rolls_the_ledger_back(rig, monkeypatch):
    ref = rig.add(local_claim())
    specs = rig.driver.node.specs
    write = specs.write

    def refuse(uid, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(specs, "write", refuse)
    with pytest.raises(NotReady, match="CDI file cannot be written"):
        await rig.prepare(ref)
    assert rig.record(ref) is None
    assert rig.driver.node.records.taken("n1/mem", "numa0-4ki") == 0
    assert list((rig.folder / "metadata").iterdir()) == [], "nobody gives back what was not prepared"
    monkeypatch.setattr(specs, "write", write)
    await rig.prepare(ref)
    (rig.folder / "cdi" / rig.specs()[0]).unlink()
    monkeypatch.setattr(specs, "write", refuse)
    with pytest.raises(NotReady):
        await rig.prepare(ref)
    assert rig.record(ref).local, "what an earlier call prepared stays"
    assert [path.name for path in (rig.folder / "metadata").iterdir()] == [ref.uid]


async def test_R17_a_cancelled_call_leaves_all_of_it_or_nothing(rig):
    """The call is cancelled at every point at which it can be; then it is made again."""
    for point in range(60):
        ref = rig.add(local_claim(name=f"c{point}", pods=(f"p{point}",)))
        task = asyncio.ensure_future(rig.prepare(ref))
        for _ in range(point):
            await asyncio.sleep(0)
        done = task.done()
        task.cancel()
        await asyncio.wait({task})
        record, has_file = rig.record(ref), f"dra.memory-claim-{ref.uid}.json" in rig.specs()
        assert (record is not None) == has_file, point
        assert len(await rig.prepare(ref)) == 1
        await rig.unprepare(ref)
        if done:
            break
    else:
        pytest.fail("the call never came to its end")


async def test_R16_a_disk_that_fills_up_on_the_way_leaves_a_ledger_that_is_true(rig, monkeypatch):
    """Neither can the file be written nor the record be put back; what the index says is what the disk says."""
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    rig.driver.node.metadata = None  # what is recorded differs
    write = durable.write

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    def once(path, data):
        write(path, data)
        monkeypatch.setattr(durable, "write", full)

    with monkeypatch.context() as patch:
        patch.setattr(rig.driver.node.specs, "write", full)
        monkeypatch.setattr(durable, "write", once)
        with pytest.raises(NotReady, match="No space left"):
            await rig.prepare(ref)
    monkeypatch.setattr(durable, "write", write)
    known = rig.record(ref)
    assert await rig.driver.node.records.refresh(ref.uid) == known
    await rig.prepare(ref)
    assert spec(rig, ref) == json.loads(rig.record(ref).prepared.spec)
    await rig.unprepare(ref)
    assert (rig.record(ref), rig.specs()) == (None, [])


async def test_adminAccess_is_refused_since_nothing_is_counted_for_it(rig):
    with pytest.raises(RefusedClaim, match="request mem asks for adminAccess"):
        await rig.prepare(rig.add(local_claim(result(adminAccess=True))))
    assert rig.specs() == []


async def test_R7_two_calls_for_a_claim_at_the_same_time_have_one_answer(rig):
    """And a third one that the kubelet gives up does not disturb them."""
    ref, plugin = rig.add(local_claim()), rig.driver._plugin
    calls = [asyncio.ensure_future(plugin._one(ref, clock.monotonic() + 30, plugin._prepare)) for _ in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    await asyncio.wait(calls)
    assert calls[1].cancelled()
    (one, error), other = calls[0].result(), calls[2].result()
    assert (len(one), error) == (1, "")
    assert other == (one, "")
    assert rig.driver.node.records.taken("n1/mem", "numa0-4ki") == 512 * MIB
    assert len(plugin._locks) == 0


async def test_a_claim_that_was_made_anew_under_its_name_is_another_one(rig):
    """The kubelet has not given the first one back yet."""
    first = rig.add(local_claim(result(device="numa2-4ki", size="1536Mi")))
    await rig.prepare(first)
    rig.api.delete_claim("near")
    second = rig.add(local_claim(result(device="numa2-4ki", size="1536Mi"), pods=("p2",)))
    assert (first.name, first.uid) != (second.name, second.uid)
    with pytest.raises(NotPrepared, match="does not exist"):
        await rig.prepare(first)
    with pytest.raises(NotReady, match="are prepared for others"):
        await rig.prepare(second)
    await rig.unprepare(first)
    await rig.prepare(second)
    assert rig.specs() == [f"dra.memory-claim-{second.uid}.json"]
    await rig.unprepare(first)
    assert rig.specs() == [f"dra.memory-claim-{second.uid}.json"], "an Unprepare that is late is about the first"


async def test_R16_a_record_that_cannot_be_written_is_a_sentence_and_leaves_nothing(rig, monkeypatch):
    ref = rig.add(local_claim())

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dynamic_memory.process.durable.write", full)
        with pytest.raises(NotReady, match=r"cannot be recorded: .*No space left on device"):
            await rig.prepare(ref)
    assert rig.record(ref) is None
    assert rig.specs() == []
    assert not (rig.folder / "metadata").exists()
    assert len(await rig.prepare(ref)) == 1


async def test_an_api_server_that_does_not_answer_prepares_nothing(rig):
    ref = rig.add(local_claim())
    rig.api.fail(Unavailable(0, "Unreachable", "no answer"), verb="get", kind=RESOURCE_CLAIMS)
    with pytest.raises(Unavailable):
        await rig.prepare(ref)
    assert rig.record(ref) is None
