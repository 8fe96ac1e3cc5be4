# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from tests.support.fake_fabric import FakeRig

from dynamic_memory.controller.books import Books
from dynamic_memory.controller.claims import ClaimView, key_of
from dynamic_memory.controller.fabricview import FabricView
from dynamic_memory.controller.waiting import Waits
from dynamic_memory.controller.watcher import WaitWatcher
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def claim(node="n1", attached="False"):
    selector = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    result = {"driver": "dra.memory", "pool": "fabric/rack-1", "device": "cxl0", "shareID": "t"}
    return msgspec.convert(
        {
            "metadata": {"name": "far", "namespace": "app", "uid": "u"},
            "status": {
                "allocation": {
                    "devices": {"results": [result]},
                    "nodeSelector": {"nodeSelectorTerms": [selector]},
                },
                "reservedFor": [{"resource": "pods", "name": "db-0", "uid": "p"}],
                "devices": [
                    result | {"conditions": [{"type": "dynamicmemory.dev/Attached", "status": attached}]},
                ],
            },
        },
        ClaimView,
    )


class World:
    @classmethod
    async def open(cls) -> Any:
        world = cls()
        world.rig = await FakeRig.open()
        world.events = []
        nothing = dict.fromkeys(("changed", "hosts_changed"), lambda: None)
        view = FabricView(
            world.rig.as_controller(),
            Books("c1", grace=1.0),
            refresh=30.0,
            freed=lambda _: None,
            connected=lambda *_: None,
            **nothing,
        )
        world.watcher = WaitWatcher(Waits(30.0), view, world, binding_timeout=600.0)
        world.task = asyncio.create_task(world.watcher.run())
        await clock.sleep(0)
        return world

    async def event(self, regarding, *, reason, message, **_):
        self.events.append((round(clock.monotonic()), regarding.kind, regarding.name, reason, message))

    async def close(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_rule_22_pod_and_claim_are_told_after_thirty_seconds_once():
    world = await World.open()
    world.watcher.claim_changed(claim())
    await clock.sleep(29.5)
    assert world.events == []
    await clock.sleep(100)
    assert [(at, kind, name, reason) for at, kind, name, reason, _ in world.events] == [
        (30, "ResourceClaim", "far", "DriverNotRunning"),
        (30, "Pod", "db-0", "DriverNotRunning"),
    ]
    assert all("n1" in message and "600 s" in message for *_, message in world.events)
    await world.close()


async def test_rule_22_a_driver_that_is_there_is_trusted_until_it_goes():
    world = await World.open()
    stream = world.rig.as_node("n1").watch()
    await anext(stream)
    world.watcher.claim_changed(claim())
    await clock.sleep(100)
    assert world.events == []
    await stream.aclose()
    await clock.sleep(10)
    assert len(world.events) == 2
    await world.close()


async def test_rule_22_a_claim_that_is_attached_or_gone_in_time_is_not_spoken_of():
    world = await World.open()
    world.watcher.claim_changed(claim())
    await clock.sleep(20)
    world.watcher.claim_changed(claim(attached="True"))
    await clock.sleep(50)
    world.watcher.claim_changed(claim())
    await clock.sleep(20)
    world.watcher.claim_gone(key_of(claim()))
    await clock.sleep(50)
    assert world.events == []
    await world.close()


async def test_rule_22_while_the_service_is_away_only_silence_counts():
    world = await World.open()
    world.rig.down()
    world.watcher.claim_changed(claim())
    await clock.sleep(60)
    assert world.events == []
    await world.close()
