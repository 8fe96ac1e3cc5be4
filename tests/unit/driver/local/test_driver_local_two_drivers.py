# SPDX-License-Identifier: Apache-2.0
"""Two drivers of a node, as in a rolling update: both prepare and unprepare its own memory, and give no byte twice."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import pytest
from tests.support.machine import GIB, MIB, set_pages
from tests.unit.driver.local_rig import local_claim, pod_body, result

from dynamic_memory.api.kinds import PODS
from dynamic_memory.driver.calls import ClaimRef, NotReady
from dynamic_memory.process import clock

pytestmark = pytest.mark.looptime


async def test_R14_R20_a_claim_that_nobody_knows_is_unprepared_by_either_driver(rig):
    """Without a fabric there is nothing that another process could hold of it."""
    async with second_driver(rig) as second:
        until = clock.monotonic() + 5
        await second._plugin._unpreparer.unprepare(ClaimRef("app", "never", str(uuid.uuid4())), until)


async def test_R20_another_driver_prepares_and_unprepares_meanwhile(rig):
    """In a rolling update two drivers run: the new one has no lock, and serves the node's own memory all the same."""
    ref = rig.add(local_claim())
    first = await rig.prepare(ref)
    second = rig.make()
    running = asyncio.ensure_future(second.run())
    try:
        await rig.until(lambda: second.node.claims.informer.synced and second.node.local.devices)
        assert not second.node.active
        preparer, unpreparer = second._plugin._preparer, second._plugin._unpreparer
        until = asyncio.get_running_loop().time() + 5
        assert await preparer.prepare(ref, until) == first
        other = rig.add(local_claim(name="b", pods=("p2",)))
        assert len(await preparer.prepare(other, until)) == 1
        await unpreparer.unprepare(ref, until)
        assert second.node.records.taken("n1/mem", "numa0-4ki") == 512 * MIB
    finally:
        running.cancel()
        await asyncio.wait({running})


@contextlib.asynccontextmanager
async def second_driver(rig):
    """The one of a rolling update that does not lead."""
    second = rig.make()
    running = asyncio.ensure_future(second.run())
    try:
        await rig.until(lambda: second.node.claims.informer.synced and second.node.local.devices)
        assert not second.node.active
        yield second
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_R13_R20_what_one_driver_has_given_the_other_one_does_not_give(rig):
    refs = [
        rig.add(local_claim(result(device="numa2-4ki", size="1536Mi"), name=f"c{n}", pods=(f"p{n}",))) for n in range(3)
    ]
    async with second_driver(rig) as second:
        first, until = rig.driver, clock.monotonic() + 50
        prepare, unprepare = second._plugin._preparer.prepare, second._plugin._unpreparer.unprepare
        await prepare(refs[0], until)
        with pytest.raises(NotReady, match="1610612736 are prepared for others"):
            await rig.prepare(refs[1])
        await unprepare(refs[0], until)
        # what was given back is there for the other one at once
        assert len(await rig.prepare(refs[1])) == 1
        with pytest.raises(NotReady, match="1610612736 are prepared for others"):
            await prepare(refs[2], until)
        assert rig.driver is first


async def test_R13_R20_a_driver_that_does_not_lead_looks_at_the_machine_as_it_is_now(rig):
    """It may wait for long, and nobody publishes for it what changes."""
    ref = rig.add(local_claim(result(device="numa0-2mi", size="64Mi")))
    async with second_driver(rig) as second:
        set_pages(rig.root, 0, 2 * MIB, 16)
        with pytest.raises(NotReady, match="device numa0-2mi has 33554432 bytes"):
            await second._plugin._preparer.prepare(ref, clock.monotonic() + 5)
        set_pages(rig.root, 0, 2 * MIB, 64)
        assert len(await second._plugin._preparer.prepare(ref, clock.monotonic() + 5)) == 1


async def test_R13_R20_two_drivers_at_the_same_time_do_not_both_give_the_last_bytes(rig):
    refs = [
        rig.add(local_claim(result(device="numa2-4ki", size="1Gi"), name=f"c{n}", pods=(f"p{n}",))) for n in range(8)
    ]
    async with second_driver(rig) as second:
        until = clock.monotonic() + 50
        preparers = rig.driver._plugin._preparer, second._plugin._preparer
        calls = [preparers[n % 2].prepare(ref, until) for n, ref in enumerate(refs)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(answer, list) for answer in answers) == 2
        assert all(isinstance(answer, (list, NotReady)) for answer in answers)
        await second.node.records.load()
        assert second.node.records.taken("n1/mem", "numa2-4ki") == 2 * GIB


async def test_R15_R20_an_unprepare_in_hand_takes_no_file_of_the_pod_that_follows(rig):
    """The driver that ends has freed the claim; the next one prepares it for another pod before the first goes on."""
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    rig.api.put(PODS, pod_body("p2", claims={"mem": "near"}))
    rig.api.reserve("p2", name="near")
    async with second_driver(rig) as second:
        records = rig.driver.node.records
        update, given = records.update, []

        async def and_the_other_driver_prepares(key, *how):
            record = await update(key, *how)
            if record is None and not given:
                given.append(await second._plugin._preparer.prepare(ref, clock.monotonic() + 5))
            return record

        records.update = and_the_other_driver_prepares
        await rig.unprepare(ref)
        assert given
        assert rig.specs() == [f"dra.memory-claim-{ref.uid}.json"]
        assert [path.name for path in (rig.folder / "metadata").iterdir()] == [ref.uid]


async def test_R20_what_a_driver_that_ends_still_prepares_keeps_its_file(rig):
    """It answers calls in hand after it has given up the node's lock; the next one looks for stale files then."""
    ref = rig.add(local_claim())
    first, second = rig.driver, rig.make()
    await rig.stop()
    load, loads = second.node.records.load, []

    async def load_and_let_the_first_one_end():
        await load()
        loads.append(1)
        if len(loads) == 2:  # at the start, and with the lock
            await rig.prepare(ref)
            assert rig.specs()

    second.node.records.load = load_and_let_the_first_one_end
    assert rig.driver is first
    running = asyncio.ensure_future(second.run())
    try:
        await rig.until(lambda: second.node.active)
        assert rig.specs() == [f"dra.memory-claim-{ref.uid}.json"]
        assert second.node.records.taken("n1/mem", "numa0-4ki") == 512 * MIB
        # and what it prepares after that comes to be known
        await rig.prepare(rig.add(local_claim(name="late", pods=("p2",))))
        await rig.until(lambda: second.node.records.taken("n1/mem", "numa0-4ki") == 1024 * MIB, 100)
    finally:
        running.cancel()
        await asyncio.wait({running})
