# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from tests.support.fake_fabric import MIB, FakeRig

from dynamic_memory.controller.books import Books
from dynamic_memory.controller.fabricview import FabricView
from dynamic_memory.fabric.backends.faults import Faults
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class World:
    @classmethod
    async def open(cls) -> Any:
        world = cls()
        world.rig = await FakeRig.open()
        world.books = Books("c1", grace=1.0)
        world.changes, world.freed, world.connected, world.hosts = 0, [], [], 0
        world.view = FabricView(
            world.rig.as_controller(),
            world.books,
            refresh=30.0,
            changed=world.on_change,
            hosts_changed=world.on_hosts,
            freed=lambda share: world.freed.append(share.tag),
            connected=lambda *state: world.connected.append(state[0]),
        )
        world.tasks = [asyncio.create_task(world.view.watch()), asyncio.create_task(world.view.refresh())]
        await clock.sleep(0.1)
        return world

    def on_change(self):
        self.changes += 1

    def on_hosts(self):
        self.hosts += 1

    async def add(self, node="n1"):
        tag = str(uuid.uuid4())
        await self.rig.as_node(node).add_memory(node=node, pool="fabric/rack-1", device="cxl0", size=128 * MIB, tag=tag)
        await clock.sleep(0.1)
        return tag

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_shares_come_and_go_with_the_stream():
    world = await World.open()
    assert world.view.current
    assert (world.connected, world.hosts) == ([True], 1)
    tag = await world.add()
    assert set(world.books.shares) == {tag}
    before = world.changes
    await world.rig.as_node("n1").remove_memory(tag)
    await clock.sleep(0.1)
    assert world.freed == [tag]
    assert world.changes > before
    assert world.hosts == 1
    await world.close()


async def test_while_the_service_is_away_the_view_is_not_current_and_nothing_is_lost():
    world = await World.open()
    first, second = await world.add(), await world.add("n2")
    world.rig.down()
    await clock.sleep(1)
    assert not world.view.current
    assert set(world.books.shares) == {first, second}
    await world.rig.up()
    await world.rig.as_node("n1").remove_memory(first)
    await clock.sleep(30)
    assert world.view.current
    assert world.freed == [first]
    assert set(world.books.shares) == {second}
    assert world.connected[0] is world.connected[-1] is True
    assert False in world.connected
    await world.close()


async def test_a_device_that_goes_down_is_known_at_once():
    world = await World.open()
    before = world.changes
    world.rig.inject(Faults(devices_down={"rack-1/cxl0": "link down"}))
    await clock.sleep(31)
    assert world.changes > before
    assert [device.healthy for device in world.view.capacity.pools] == [False]
    assert world.view.host("n1").domain == "rack-1"
    assert world.view.host("n9") is None
    await world.close()
