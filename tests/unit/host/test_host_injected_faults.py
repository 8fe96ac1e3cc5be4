# SPDX-License-Identifier: Apache-2.0
"""What a simulated kernel was told to do wrong ends in the error that says so, and passes when it is lifted."""

from __future__ import annotations

import asyncio

import pytest

from dynamic_memory.errors import Kind
from dynamic_memory.host.errors import Busy, HostTimeout, NotArrived, OnlineFailed, RegionFailed
from dynamic_memory.host.simulated import faults
from dynamic_memory.host.simulated.faults import Fault
from dynamic_memory.process import clock

MIB = 1 << 20
GIB = 1 << 30
TAG = "5be13bce-ae34-4a77-b6c3-16df975fcf1a"
SIZE = 512 * MIB


@pytest.fixture
async def host(open_simulated):
    return open_simulated()


@pytest.fixture
async def hasty(open_simulated):
    """The same host with a short deadline, for what hangs: what does not may take its time."""
    return open_simulated(deadline=0.3)


async def attach(host, tag=TAG):
    await host.create_region(tag, SIZE, [(0, SIZE)])
    return await host.online(tag)


def states(region):
    return [block.state for block in region.blocks]


async def until_moving(host):
    for _ in range(3000):
        if "going-offline" in states((await host.regions())[TAG]):
            return
        await clock.sleep(0.01)
    pytest.fail("no block began to go offline")


async def test_busy_blocks_stay_and_the_others_go(host, root):
    region = await attach(host)
    faults.inject(root, Fault(operation="offline", blocks=2))
    with pytest.raises(Busy) as caught:
        await host.offline(TAG)
    low = [block.index for block in region.blocks[:2]]
    assert sorted(caught.value.blocks) == low
    assert (caught.value.kind, caught.value.why) == (Kind.RETRY, "Device or resource busy")
    seen = (await host.regions())[TAG]
    assert states(seen) == ["online", "online", "offline", "offline"]
    assert seen.any_online
    faults.clear(root)
    assert states(await host.offline(TAG)) == ["offline"] * 4


async def test_what_went_offline_can_come_back(host, root):
    await attach(host)
    faults.inject(root, Fault(operation="offline", blocks=1))
    with pytest.raises(Busy):
        await host.offline(TAG)
    assert (await host.online(TAG)).complete


async def test_a_fault_of_one_tag_spares_the_others(host, root):
    await attach(host)
    await attach(host, "other")
    faults.inject(root, Fault(operation="offline", tag=TAG))
    with pytest.raises(Busy):
        await host.offline(TAG)
    assert not (await host.offline("other")).any_online


@pytest.mark.parametrize("operation", ["create", "online", "offline", "destroy"])
async def test_an_operation_that_hangs_ends_at_its_deadline_and_resumes_later(host, hasty, root, operation, tree_of):
    fresh = tree_of(root)
    calls = {
        "create": lambda host: host.create_region(TAG, SIZE, [(0, SIZE)]),
        "online": lambda host: host.online(TAG),
        "offline": lambda host: host.offline(TAG),
        "destroy": lambda host: host.destroy_region(TAG),
    }
    for name, call in calls.items():
        if name == operation:
            faults.inject(root, Fault(operation=name, effect="hang", blocks=1))
            with pytest.raises(HostTimeout) as caught:
                await call(hasty)
            assert (caught.value.operation, caught.value.tag, caught.value.seconds) == (name, TAG, 0.3)
            assert caught.value.kind is Kind.RETRY
            faults.clear(root)
        await call(host)
    assert tree_of(root) == fresh


async def test_a_hang_that_is_lifted_ends_before_the_deadline(open_simulated, root):
    host = open_simulated()
    await attach(host)
    faults.inject(root, Fault(operation="offline", effect="hang"))
    running = asyncio.create_task(host.offline(TAG))
    await until_moving(host)
    faults.clear(root)
    async with asyncio.timeout(30):
        assert not (await running).any_online


async def test_a_hang_that_is_cancelled_leaves_the_block_online(open_simulated, root):
    host = open_simulated()
    await attach(host)
    faults.inject(root, Fault(operation="offline", effect="hang"))
    running = asyncio.create_task(host.offline(TAG))
    await until_moving(host)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await host.regions())[TAG].complete


async def test_while_one_operation_hangs_the_others_wait_for_their_deadlines(host, hasty, root):
    await attach(host)
    faults.inject(root, Fault(operation="offline", effect="hang", tag=TAG))
    results = await asyncio.gather(
        hasty.offline(TAG), hasty.create_region("other", SIZE, [(0, SIZE)]), return_exceptions=True
    )
    assert [type(result) for result in results] == [HostTimeout, HostTimeout]
    assert (await host.create_region("other", SIZE, [(0, SIZE)])).whole


async def test_onlining_that_fails_names_the_blocks_and_keeps_the_others(host, root):
    await host.create_region(TAG, SIZE, [(0, SIZE)])
    faults.inject(root, Fault(operation="online", blocks=3))
    with pytest.raises(OnlineFailed) as caught:
        await host.online(TAG)
    assert (len(caught.value.blocks), caught.value.kind) == (3, Kind.NOT_HERE)
    seen = (await host.regions())[TAG]
    assert (seen.online, seen.complete, seen.any_online) == (128 * MIB, False, True)
    faults.clear(root)
    assert (await host.online(TAG)).complete


async def test_extents_that_have_not_arrived_are_not_waited_for(host, root):
    faults.inject(root, Fault(operation="arrive", seconds=0.05))
    with pytest.raises(NotArrived) as caught:
        await host.create_region(TAG, SIZE, [(0, SIZE)])
    assert (caught.value.want, caught.value.have, caught.value.kind) == (SIZE, 0, Kind.RETRY)
    assert await host.regions() == {}
    await clock.sleep(0.06)
    assert (await host.create_region(TAG, SIZE, [(0, SIZE)])).whole


@pytest.mark.parametrize(("operation", "what"), [("create", "commit"), ("destroy", "decommit")])
async def test_a_kernel_that_refuses_a_region_says_so(host, root, operation, what):
    if operation == "destroy":
        await host.create_region(TAG, SIZE, [(0, SIZE)])
    faults.inject(root, Fault(operation=operation))
    call = host.destroy_region(TAG) if operation == "destroy" else host.create_region(TAG, SIZE, [(0, SIZE)])
    with pytest.raises(RegionFailed, match=f"{what}: ") as caught:
        await call
    assert caught.value.kind is Kind.NOT_HERE
    assert (TAG in await host.regions()) == (operation == "destroy")


async def test_without_room_elsewhere_no_block_is_touched(host, root):
    await attach(host)
    faults.inject(root, used={0: GIB - 100 * MIB, 1: 200 * MIB})
    with pytest.raises(Busy, match="no room") as caught:
        await host.offline(TAG)
    assert len(caught.value.blocks) == 4
    assert (await host.regions())[TAG].complete
    faults.inject(root, used={0: GIB - 300 * MIB, 1: 200 * MIB})
    assert not (await host.offline(TAG)).any_online


@pytest.mark.parametrize("content", [b"{", b'{"faults": [{"operation": "explode"}]}', b'{"mistake": 1}', b"\xff"])
async def test_a_file_that_is_not_one_changes_nothing_and_is_reported_once(host, root, content, caplog):
    await attach(host)
    faults.inject(root, Fault(operation="offline"))
    with pytest.raises(Busy):
        await host.offline(TAG)
    (root / faults.FILE).write_bytes(content)
    caplog.clear()
    with pytest.raises(Busy):
        await host.offline(TAG)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
