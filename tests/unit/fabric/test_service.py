# SPDX-License-Identifier: Apache-2.0
"""What each call of the service means, by rule; through the in-process fake, in virtual time."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from tests.support.fake_fabric import GIB, MIB, FakeFabric, FakeRig, share_of

from dynamic_memory.errors import Kind
from dynamic_memory.fabric.backends.faults import Failure, Faults
from dynamic_memory.fabric.backends.interface import Device, Host
from dynamic_memory.fabric.directory import Owner
from dynamic_memory.fabric.errors import (
    BackendFailure,
    BadArgument,
    Conflicts,
    Denied,
    DeviceDown,
    Exhausted,
    Rejected,
    UnknownDevice,
    UnknownNode,
    Unreachable,
    WindowFull,
)
from dynamic_memory.fabric.identity import SERVICE, Identity
from dynamic_memory.fabric.model import MAX_SIZE, Change, RemovedState
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

UNIT = 128 * MIB


async def capacity_of(fabric, device="cxl0"):
    return next(each for each in (await fabric.get_capacity()).pools if each.device == device)


# --- rule 5: AddMemory ---


async def test_rule_5_a_share_is_what_was_asked_for(rig):
    driver = rig.as_node("n1")
    wanted = share_of(size=3 * GIB)

    share = await driver.add_memory(**wanted)

    assert {field: getattr(share, field) for field in wanted} == wanted
    assert share.owner == "c1"
    assert sum(extent.size for extent in share.ranges) == 3 * GIB
    assert not share.release_requested
    device = await capacity_of(driver)
    assert (device.total, device.free, device.unit, device.attributes) == (8 * GIB, 5 * GIB, UNIT, {"latencyNs": 250})


async def test_rule_5_I5_same_tag_and_arguments_are_the_same_extents(rig):
    driver = rig.as_node("n1")
    wanted = share_of()

    assert await driver.add_memory(**wanted) == await driver.add_memory(**wanted)
    assert (await capacity_of(driver)).free == 7 * GIB


@pytest.mark.parametrize(("field", "value"), [("size", 2 * GIB), ("device", "cxl1")])
async def test_rule_5_same_tag_other_arguments_conflict(rig, field, value):
    driver = rig.as_node("n1")
    wanted = share_of()
    await driver.add_memory(**wanted)

    with pytest.raises(Conflicts) as refused:
        await driver.add_memory(**{**wanted, field: value})

    assert refused.value.field == {"size": "bytes"}.get(field, field)


async def test_rule_5_a_tag_of_another_node_conflicts(rig):
    wanted = share_of()
    await rig.as_node("n1").add_memory(**wanted)

    with pytest.raises(Conflicts) as refused:
        await rig.as_node("n2").add_memory(**{**wanted, "node": "n2"})

    assert refused.value.field == "node"


@pytest.mark.parametrize("size", [0, -1, -UNIT, 1, UNIT - 1, UNIT + 4096, MAX_SIZE + UNIT, 1 << 63, 1 << 80])
async def test_rule_5_sizes_that_are_no_multiple_of_the_unit_or_absurd_are_refused(rig, size):
    with pytest.raises(BadArgument, match="multiple of 134217728") as refused:
        await rig.as_node("n1").add_memory(**share_of(size=size))

    assert refused.value.field == "bytes"
    assert refused.value.kind is Kind.NEVER


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "x",
        "../../etc",
        "6F1F2A0E-3C3E-4A7E-9F0C-1D2F6F1C9A11",
        "6f1f2a0e3c3e4a7e9f0c1d2f6f1c9a11",
        "{6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11}",
        "0" * 10_000,
    ],
    ids=["empty", "short", "path", "upper case", "no dashes", "braces", "long"],
)
async def test_tags_are_canonical_uuids(rig, tag):
    with pytest.raises(BadArgument) as refused:
        await rig.as_node("n1").add_memory(**{**share_of(), "tag": tag})
    assert refused.value.field == "tag"
    with pytest.raises(BadArgument) as refused:
        await rig.as_node("n1").remove_memory(tag)
    assert refused.value.field == "tag"


@pytest.mark.parametrize(
    ("caller", "change", "expected"),
    [
        ("n9", {"node": "n9"}, UnknownNode),
        ("n1", {"pool": "fabric/rack-9"}, UnknownDevice),
        ("n1", {"pool": "fabric/rack-2"}, UnknownDevice),
        ("n1", {"pool": "rack-1"}, UnknownDevice),
        ("n1", {"device": "cxl9"}, UnknownDevice),
    ],
)
async def test_names_that_the_owner_does_not_have_are_unknown(rig, caller, change, expected):
    with pytest.raises(expected) as refused:
        await rig.as_node(caller).add_memory(**{**share_of(), **change})

    assert refused.value.kind is Kind.NEVER


async def test_a_node_outside_of_the_domain_of_the_pool_is_refused():
    rig = await FakeRig.open(
        devices=tuple(Device(domain=domain, name="cxl0", total=GIB, unit=UNIT) for domain in ("a", "b")),
        hosts=(Host(domain="a", name="h1", device="port0", window=GIB, max_extents=1),),
        owners=(Owner(name="c1", nodes={"n1": "h1"}, pools=frozenset({"fabric/a", "fabric/b"})),),
    )

    with pytest.raises(BadArgument) as refused:
        await rig.as_node("n1").add_memory(**share_of(pool="fabric/b", size=UNIT))

    assert refused.value.field == "node"


async def test_over_capacity_says_want_and_have(rig):
    await rig.as_node("n1").add_memory(**share_of(size=6 * GIB))

    with pytest.raises(Exhausted) as refused:
        await rig.as_node("n2").add_memory(**share_of("n2", 3 * GIB))

    error = refused.value
    assert (error.want, error.have, error.unreleased, error.held) == (3 * GIB, 2 * GIB, 0, 6 * GIB)
    assert not error.waiting
    assert str(error) == f"insufficient dynamic memory: want {3 * GIB}, have {2 * GIB} bytes"


async def test_rule_15_over_capacity_says_whether_unreleased_bytes_are_the_reason(rig):
    held = share_of(size=6 * GIB)
    await rig.as_node("n1").add_memory(**held)
    await rig.as_controller().remove_memory(held["tag"])

    with pytest.raises(Exhausted) as refused:
        await rig.as_node("n2").add_memory(**share_of("n2", 3 * GIB))
    assert (refused.value.unreleased, refused.value.waiting) == (6 * GIB, True)

    with pytest.raises(Exhausted) as refused:
        await rig.as_node("n2").add_memory(**share_of("n2", 9 * GIB))
    assert not refused.value.waiting


async def test_rule_15_bytes_of_a_removal_under_way_are_unreleased(rig):
    held = share_of(size=4 * GIB, device="cxl1")
    await rig.as_node("n1").add_memory(**held)
    rig.inject(Faults(latency={"remove": 30.0}, failures=(Failure("remove", 1),)))
    removing = asyncio.create_task(rig.as_node("n1").remove_memory(held["tag"]))
    await clock.sleep(1)

    with pytest.raises(Exhausted) as refused:
        await rig.as_node("n2").add_memory(**share_of("n2", device="cxl1"))

    assert refused.value.waiting
    with pytest.raises(BackendFailure):
        await removing
    with pytest.raises(Exhausted) as refused:
        await rig.as_node("n2").add_memory(**share_of("n2", device="cxl1"))
    assert refused.value.waiting

    await rig.as_node("n1").add_memory(**held)
    with pytest.raises(Exhausted) as refused:
        await rig.as_node("n2").add_memory(**share_of("n2", device="cxl1"))
    assert not refused.value.waiting


async def test_window_and_extents_of_the_host_are_respected(rig):
    driver = rig.as_node("n1")
    await driver.add_memory(**share_of(size=7 * GIB))

    with pytest.raises(WindowFull) as refused:
        await driver.add_memory(**share_of(size=2 * GIB, device="cxl1"))

    assert (refused.value.want, refused.value.have, refused.value.extents) == (2 * GIB, GIB, 7)


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (Faults(devices_down={"rack-1/cxl0": "lost"}), DeviceDown),
        (Faults(hosts_down={"h1": "lost"}), DeviceDown),
        (Faults(failures=(Failure("add", None, "no"),)), BackendFailure),
        (Faults(partition=True), Unreachable),
    ],
)
async def test_failures_of_the_fabric_are_told_apart_and_leave_nothing(rig, faults, expected):
    driver = rig.as_node("n1")
    rig.inject(faults)

    with pytest.raises(expected):
        await driver.add_memory(**share_of())

    rig.inject(Faults())
    assert (await driver.list_extents()).shares == ()
    assert (await capacity_of(driver)).free == 8 * GIB


# --- calls that overlap ---


async def test_rule_5_a_removal_during_an_addition_waits_for_it(rig):
    driver = rig.as_node("n1")
    rig.inject(Faults(latency={"add": 10.0}))
    wanted = share_of()
    adding = asyncio.create_task(driver.add_memory(**wanted))
    await clock.sleep(1)

    removed = await driver.remove_memory(wanted["tag"])

    assert adding.done()
    assert removed.state is RemovedState.DONE
    assert (await driver.list_extents()).shares == ()


async def test_an_addition_outlives_its_caller_and_the_next_call_finds_it(rig):
    driver = rig.as_node("n1")
    rig.inject(Faults(latency={"add": 12.0}))
    wanted = share_of()
    begin = clock.monotonic()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await driver.add_memory(**wanted)

    share = await driver.add_memory(**wanted)

    assert share.tag == wanted["tag"]
    assert clock.monotonic() - begin == pytest.approx(12.0)


async def test_devices_do_not_wait_for_each_other_but_orders_of_one_device_do(rig):
    rig.inject(Faults(latency={"add": 4.0}))
    begin = clock.monotonic()

    async def ended(**wanted):
        await rig.as_node(wanted["node"]).add_memory(**wanted)
        return round(clock.monotonic() - begin)

    times = await asyncio.gather(
        ended(**share_of("n1")), ended(**share_of("n2")), ended(**share_of("n1", device="cxl1"))
    )

    assert times == [4, 8, 4]


async def test_reading_waits_for_no_operation(rig):
    rig.inject(Faults(latency={"add": 60.0}))
    adding = asyncio.create_task(rig.as_node("n1").add_memory(**share_of()))
    await clock.sleep(1)
    begin = clock.monotonic()

    await rig.as_controller().get_capacity()
    await rig.as_controller().list_extents()

    assert clock.monotonic() == begin
    await adding


# --- rule 6: RemoveMemory ---


async def test_rule_6_I4_removal_by_the_node_gives_the_bytes_back(rig):
    driver = rig.as_node("n1")
    wanted = share_of()
    await driver.add_memory(**wanted)

    assert (await driver.remove_memory(wanted["tag"])).state is RemovedState.DONE
    assert (await capacity_of(driver)).free == 8 * GIB


async def test_rule_6_I5_removal_of_an_unknown_tag_is_a_success(rig):
    for fabric in (rig.as_node("n1"), rig.as_controller(), rig.as_operator()):
        assert (await fabric.remove_memory(str(uuid.uuid4()))).state is RemovedState.UNKNOWN


async def test_an_unknown_tag_is_not_reported_while_the_fabric_does_not_answer(rig):
    rig.inject(Faults(partition=True))

    with pytest.raises(Unreachable):
        await rig.as_node("n1").remove_memory(str(uuid.uuid4()))


async def test_rule_6_removal_by_the_controller_asks_the_node(rig):
    driver, controller = rig.as_node("n1"), rig.as_controller()
    wanted = share_of()
    await driver.add_memory(**wanted)
    watch = aiter(driver.watch())
    await anext(watch)

    for _ in range(2):
        assert (await controller.remove_memory(wanted["tag"])).state is RemovedState.REQUESTED

    seen = await anext(watch)
    assert isinstance(seen, Change)
    assert seen.share is not None
    assert (seen.share.tag, seen.share.release_requested) == (wanted["tag"], True)
    await driver.remove_memory(wanted["tag"])
    assert (await anext(watch)).removed_tag == wanted["tag"]
    await watch.aclose()


async def test_a_node_that_adds_again_takes_the_request_for_release_back(rig):
    driver = rig.as_node("n1")
    wanted = share_of()
    await driver.add_memory(**wanted)
    await rig.as_controller().remove_memory(wanted["tag"])

    assert not (await driver.add_memory(**wanted)).release_requested
    assert not (await driver.list_extents()).shares[0].release_requested


async def test_rule_6_a_host_said_to_be_off_is_believed_when_its_session_has_lapsed(rig):
    driver, controller = rig.as_node("n1"), rig.as_controller()
    wanted = share_of()
    await driver.add_memory(**wanted)
    watch = aiter(driver.watch())
    await anext(watch)
    await clock.sleep(100)

    with pytest.raises(Rejected, match="session of n1 is open") as refused:
        await controller.remove_memory(wanted["tag"], host_off=True)
    assert refused.value.kind is Kind.RETRY
    assert (await anext(watch)).share.release_requested
    await watch.aclose()
    await clock.sleep(59)
    with pytest.raises(Rejected, match="gone for 59"):
        await controller.remove_memory(wanted["tag"], host_off=True)
    await clock.sleep(1)

    assert (await controller.remove_memory(wanted["tag"], host_off=True)).state is RemovedState.DONE
    assert (await controller.list_extents()).shares == ()


async def test_rule_6_a_restarted_service_believes_nobody_to_be_off_before_the_time_is_up(rig):
    wanted = share_of()
    await rig.as_node("n1").add_memory(**wanted)
    await clock.sleep(1000)
    await rig.up()

    with pytest.raises(Rejected):
        await rig.as_controller().remove_memory(wanted["tag"], host_off=True)
    await clock.sleep(60)
    removed = await rig.as_controller().remove_memory(wanted["tag"], host_off=True)

    assert removed.state is RemovedState.DONE


async def test_rule_6_an_operator_can_force_and_nobody_else(rig):
    driver = rig.as_node("n1")
    wanted = share_of()
    await driver.add_memory(**wanted)

    for fabric in (driver, rig.as_controller()):
        with pytest.raises(Denied):
            await fabric.remove_memory(wanted["tag"], force=True)
    assert (await rig.as_operator().remove_memory(wanted["tag"])).state is RemovedState.REQUESTED
    assert (await rig.as_operator().remove_memory(wanted["tag"], force=True)).state is RemovedState.DONE


# --- I6 and rule 2: who sees and touches what ---


async def test_I6_a_node_touches_only_itself(rig):
    wanted = share_of("n2")
    await rig.as_node("n2").add_memory(**wanted)
    other = rig.as_node("n1")

    with pytest.raises(Denied):
        await other.add_memory(**share_of("n2"))
    with pytest.raises(Denied):
        await other.remove_memory(wanted["tag"])
    with pytest.raises(Denied):
        await other.get_capacity("n2")
    assert (await other.list_extents()).shares == ()
    assert [host.node for host in (await other.get_capacity()).hosts] == ["n1"]


async def test_I6_only_nodes_add_memory(rig):
    for fabric in (rig.as_controller(), rig.as_operator()):
        with pytest.raises(Denied):
            await fabric.add_memory(**share_of())


async def test_the_role_of_the_service_is_no_caller(rig):
    fabric = FakeFabric(rig, Identity.role("c1", SERVICE))

    for call in (fabric.list_extents(), fabric.get_capacity(), fabric.remove_memory(str(uuid.uuid4()))):
        with pytest.raises(Denied):
            await call


async def test_rule_2_owners_see_nothing_of_each_other(rig):
    mine, theirs = share_of(size=UNIT), share_of(size=UNIT, pool="fabric/rack-2")
    await rig.as_node("n1", "c1").add_memory(**mine)
    await rig.as_node("n1", "c2").add_memory(**theirs)
    other = rig.as_controller("c2")

    assert [share.tag for share in (await other.list_extents()).shares] == [theirs["tag"]]
    capacity = await other.get_capacity()
    assert [device.pool for device in capacity.pools] == ["fabric/rack-2"]
    assert [(host.node, host.host) for host in capacity.hosts] == [("n1", "h3")]
    assert (await other.remove_memory(mine["tag"])).state is RemovedState.UNKNOWN
    assert (await rig.as_operator("c2").remove_memory(mine["tag"], force=True)).state is RemovedState.UNKNOWN
    with pytest.raises(Conflicts) as refused:
        await rig.as_node("n1", "c2").add_memory(**{**theirs, "tag": mine["tag"]})
    assert refused.value.field == ""
    assert len((await rig.as_controller("c1").list_extents()).shares) == 1


async def test_rule_2_an_owner_that_is_not_configured_is_denied(rig):
    for fabric in (rig.as_node("n1", "c9"), rig.as_controller("c9")):
        for call in (fabric.list_extents(), fabric.get_capacity(), fabric.remove_memory(str(uuid.uuid4()))):
            with pytest.raises(Denied):
                await call


async def test_I1_what_nobody_owns_is_left_out_of_the_total():
    rig = await FakeRig.open()
    wanted = share_of("n2")
    await rig.as_node("n2").add_memory(**wanted)
    rig._owners = (Owner(name="c1", nodes={"n1": "h1"}, pools=frozenset({"fabric/rack-1"})),)
    await rig.up()

    device = await capacity_of(rig.as_controller())

    assert (device.total, device.free) == (7 * GIB, 7 * GIB)
    assert (await rig.as_controller().list_extents()).shares == ()


# --- how it goes on ---


async def test_operations_under_way_are_bounded(rig):
    rig.inject(Faults(latency={"add": 60.0}))
    rig.service._flights._limit = 2
    adding = [asyncio.create_task(rig.as_node("n1").add_memory(**share_of())) for _ in range(2)]
    await clock.sleep(1)

    with pytest.raises(Unreachable, match="too many operations"):
        await rig.as_node("n1").add_memory(**share_of())
    await asyncio.gather(*adding)


async def test_everything_simulated_says_so(rig):
    assert (await rig.as_controller().get_capacity()).simulated


async def test_a_restart_keeps_every_share(rig):
    wanted = share_of(size=3 * GIB)
    share = await rig.as_node("n1").add_memory(**wanted)
    rig.down()
    with pytest.raises(Unreachable):
        await rig.as_node("n1").list_extents()

    await rig.up()

    assert (await rig.as_node("n1").list_extents()).shares == (share,)
    assert await rig.as_node("n1").add_memory(**wanted) == share


async def test_what_a_killed_service_had_begun_does_not_happen_later(rig):
    rig.inject(Faults(latency={"add": 10.0}))
    kept = share_of()
    adding = asyncio.create_task(rig.as_node("n1").add_memory(**share_of()))
    await clock.sleep(1)
    await rig.up()
    rig.inject(Faults())
    share = await rig.as_node("n1").add_memory(**kept)
    await adding
    await rig.up()

    assert (await rig.as_node("n1").list_extents()).shares == (share,)
