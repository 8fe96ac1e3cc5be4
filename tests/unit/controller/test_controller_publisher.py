# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

import msgspec
import pytest

from dynamic_memory.api.resource import ResourcePool, ResourceSlice, ResourceSliceSpec
from dynamic_memory.controller import pools
from dynamic_memory.controller.books import Books
from dynamic_memory.controller.publisher import PoolPublisher
from dynamic_memory.fabric.model import Capacity, PoolDevice, Range, Share
from dynamic_memory.kube.errors import Unavailable
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

UNIT = 1 << 27


def capacity(*pools_, total=8 * UNIT, healthy=True):
    return Capacity(
        revision=1,
        simulated=False,
        hosts=(),
        pools=tuple(
            PoolDevice(
                pool=f"fabric/{domain}",
                device="d",
                domain=domain,
                total=total,
                free=0,
                unit=UNIT,
                healthy=healthy,
            )
            for domain in pools_
        ),
    )


def share(tag):
    return Share(tag=tag, owner="c1", node="n1", pool="fabric/a", device="d", size=UNIT, ranges=(Range(0, UNIT),))


class Writer:
    """What SlicePublisher does, without a server."""

    def __init__(self, world, pool, where) -> None:
        self.world, self.pool, self.where = world, pool, where
        self.busy = 0

    async def publish(self, devices):
        self.busy += 1
        assert self.busy == 1, "a pool is written by two at once"
        await clock.sleep(0.01)
        self.busy -= 1
        if self.pool in self.world.broken:
            raise Unavailable(503, "", "try later")
        same = self.world.published.get(self.pool) == list(devices)
        self.world.published[self.pool] = list(devices)
        self.world.writes.append((clock.monotonic(), self.pool)) if not same else None
        return Result(written=0 if same else 1)

    async def touch(self):
        self.busy += 1
        assert self.busy == 1
        await clock.sleep(0.01)
        self.busy -= 1
        self.world.touched.append(self.pool)

    async def withdraw(self):
        self.world.published.pop(self.pool, None)
        self.world.withdrawn.append(self.pool)


class Result(msgspec.Struct):
    written: int


class World:
    def __init__(self, *domains) -> None:
        self.capacity = capacity(*domains)
        self.books = Books("c1", grace=1.0)
        self.books.replace_shares([share("first")], clock.monotonic())
        self.existing: list[ResourceSlice] = []
        self.published, self.writes, self.touched, self.withdrawn = {}, [], [], []
        self.broken: set[str] = set()
        self.ready = []
        self.publisher = PoolPublisher(
            books=self.books,
            capacity=lambda: self.capacity,
            existing=lambda: self.existing,
            writer=lambda pool, where: Writer(self, pool, where),
            resync=60.0,
            ready=lambda ok, why: self.ready.append((ok, why)),
        )

    def value(self, pool="fabric/a"):
        return int(self.published[pool][0]["capacity"]["size"]["value"]) // UNIT

    async def start(self):
        self.task = asyncio.create_task(self.publisher.run())
        await clock.sleep(0.2)

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_rule_18_a_share_that_lost_its_claim_lowers_the_value_at_once():
    world = World("a")
    world.books.put_claim(("ns", "c"), "u", ["first"], clock.monotonic())
    await world.start()
    assert world.value() == 8
    if world.books.drop_claim(("ns", "c"), clock.monotonic()):
        world.publisher.changed()
    await clock.sleep(0.2)
    assert world.value() == 7
    await world.stop()


async def test_a_new_share_without_claim_lowers_the_value_when_it_has_settled():
    world = World("a")
    await world.start()
    assert world.value() == 7
    world.books.put_share(share("second"), clock.monotonic())
    world.publisher.changed()
    await clock.sleep(0.5)
    assert world.value() == 7
    await clock.sleep(1.0)
    assert world.value() == 6
    await world.stop()


async def test_many_changes_at_once_are_one_write():
    world = World("a")
    await world.start()
    before = len(world.writes)
    for total in range(9, 20):
        world.capacity = capacity("a", total=total * UNIT)
        world.publisher.changed()
    await clock.sleep(0.3)
    assert world.value() == 18
    assert len(world.writes) == before + 1
    await world.stop()


async def test_rule_15_a_device_that_went_down_is_tainted_and_freed_again():
    world = World("a")
    await world.start()
    world.capacity = capacity("a", healthy=False)
    world.publisher.changed()
    await clock.sleep(0.2)
    assert [t["key"] for t in world.published["fabric/a"][0]["taints"]] == [pools.DOWN_TAINT]
    world.capacity = capacity("a")
    world.publisher.changed()
    await clock.sleep(0.2)
    assert "taints" not in world.published["fabric/a"][0]
    await world.stop()


async def test_a_pool_that_cannot_be_written_does_not_hold_up_the_others_and_is_tried_again():
    world = World("a", "b")
    world.broken = {"fabric/a"}
    await world.start()
    assert set(world.published) == {"fabric/b"}
    assert world.ready[-1][0] is False
    assert "try later" in world.ready[-1][1]
    world.broken = set()
    await clock.sleep(5)
    assert set(world.published) == {"fabric/a", "fabric/b"}
    assert world.ready[-1] == (True, "")
    await world.stop()


async def test_pools_that_no_longer_exist_are_withdrawn_also_those_of_an_earlier_process():
    world = World("a", "b")
    await world.start()
    old = ResourcePool(name="fabric/old", generation=3, resource_slice_count=1)
    other = ResourcePool(name="n1/windows", generation=3, resource_slice_count=1)
    world.existing = [ResourceSlice(spec=ResourceSliceSpec(driver="dra.memory", pool=pool)) for pool in (old, other)]
    world.capacity = capacity("a")
    world.publisher.changed()
    await clock.sleep(0.2)
    assert sorted(world.withdrawn) == ["fabric/b", "fabric/old"]
    assert world.publisher.pools == ("fabric/a",)
    await world.stop()


async def test_nothing_is_published_nor_withdrawn_while_the_capacity_is_not_known():
    world = World("a")
    world.capacity = None
    pool = ResourcePool(name="fabric/a", generation=3, resource_slice_count=1)
    world.existing = [ResourceSlice(spec=ResourceSliceSpec(driver="dra.memory", pool=pool))]
    await world.start()
    assert (world.published, world.withdrawn) == ({}, [])
    await world.stop()


async def test_touching_and_publishing_a_pool_take_turns():
    world = World("a")
    await world.start()
    world.capacity = capacity("a", total=9 * UNIT)
    world.publisher.changed()
    await asyncio.gather(*(world.publisher.touch("fabric/a") for _ in range(5)), clock.sleep(0.2))
    assert world.touched == ["fabric/a"] * 5
    await world.publisher.touch("fabric/unknown")
    assert world.touched == ["fabric/a"] * 5
    await world.stop()
