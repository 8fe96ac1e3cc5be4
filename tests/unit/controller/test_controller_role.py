# SPDX-License-Identifier: Apache-2.0
"""The controller as a whole: the real caches, slices and loops, the real service on a simulated fabric."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from tests.support.fake_fabric import GIB, MIB, FakeRig
from tests.unit.controller.server import Server

from dynamic_memory.api import names
from dynamic_memory.controller.config import AuthorityConfig, ControllerConfig, FabricConfig
from dynamic_memory.controller.role import Controller
from dynamic_memory.process import clock
from dynamic_memory.process.run import Process

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

UNIT = 128 * MIB
CONFIG = ControllerConfig(
    owner="c1",
    fabric=FabricConfig(address="x:1", tls=None),
    election=None,
    authority=AuthorityConfig(enabled=False),
)


class World:
    @classmethod
    async def open(cls) -> World:
        world = cls()
        world.rig = await FakeRig.open()
        world.server = Server()
        for node in ("n1", "n2", "n3"):
            world.server.have("nodes", {"metadata": {"name": node}})
        await world.start()
        return world

    async def start(self) -> None:
        self.process = Process("controller")

        async def connect():
            return self.rig.as_controller()

        self.task = asyncio.create_task(Controller(self.process, CONFIG, self.server, connect).run())
        await clock.sleep(2)

    async def kill(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    @property
    def slice(self):
        (found,) = self.server.all("resourceslices")
        return found

    @property
    def device(self):
        return self.slice["spec"]["devices"][0]

    @property
    def value(self) -> int:
        return int(self.device["capacity"]["size"]["value"])

    @property
    def touched(self) -> str:
        return self.slice["metadata"].get("annotations", {}).get(names.TOUCHED_ANNOTATION, "")

    def reasons(self):
        return [(e["involvedObject"]["kind"], e["reason"]) for e in self.server.all("events")]

    def claim(self, name: str, tag: str, node: str = "n1") -> None:
        selector = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        result = {"request": "f", "driver": names.DRIVER, "pool": "fabric/rack-1", "device": "cxl0", "shareID": tag}
        self.server.have(
            "resourceclaims",
            {
                "metadata": {"name": name, "namespace": "app"},
                "spec": {"devices": {"requests": [{"name": "f", "exactly": {"deviceClassName": names.CLASS_FABRIC}}]}},
                "status": {
                    "allocation": {
                        "devices": {"results": [result]},
                        "nodeSelector": {"nodeSelectorTerms": [selector]},
                    },
                    "reservedFor": [{"resource": "pods", "name": f"pod-{name}", "uid": "p"}],
                },
            },
        )

    async def attach(self, tag: str, node: str = "n1") -> None:
        await self.rig.as_node(node).add_memory(node=node, pool="fabric/rack-1", device="cxl0", size=UNIT, tag=tag)
        await clock.sleep(0.5)


async def test_pools_are_published_nodes_labelled_and_the_process_is_ready():
    world = await World.open()
    assert world.value == 8 * GIB
    assert world.slice["spec"]["pool"] == {"name": "fabric/rack-1", "generation": 1, "resourceSliceCount": 1}
    labels = {n["metadata"]["name"]: n["metadata"].get("labels") for n in world.server.all("nodes")}
    assert labels == {
        "n1": {names.FABRIC_DOMAIN_LABEL: "rack-1"},
        "n2": {names.FABRIC_DOMAIN_LABEL: "rack-1"},
        "n3": None,
    }
    assert world.process.ready
    await world.kill()


async def test_rule_18_attached_memory_does_not_lower_the_value_orphaned_memory_does_until_it_is_back():
    world = await World.open()
    tag = str(uuid.uuid4())
    world.claim("far", tag)
    await world.attach(tag)
    await clock.sleep(5)
    assert world.value == 8 * GIB
    world.server.lose("resourceclaims", "far", "app")
    await clock.sleep(0.5)
    assert world.value == 8 * GIB - UNIT
    await clock.sleep(30)
    # No driver is there: it was asked for, is still held, and still counted.
    assert world.value == 8 * GIB - UNIT
    assert ("Node", "OrphanedMemory") in world.reasons()
    await world.rig.as_node("n1").remove_memory(tag)
    await clock.sleep(0.5)
    assert world.value == 8 * GIB
    await world.kill()


async def test_a_slice_that_was_deleted_or_changed_is_written_again_and_a_right_one_is_not():
    world = await World.open()
    name = world.slice["metadata"]["name"]
    world.server.lose("resourceslices", name)
    await clock.sleep(1)
    assert world.value == 8 * GIB
    changed = world.slice
    changed = {**changed, "spec": {**changed["spec"], "devices": []}}
    world.server.have("resourceslices", changed)
    await clock.sleep(1)
    assert world.value == 8 * GIB
    version = world.slice["metadata"]["resourceVersion"]
    await clock.sleep(300)
    assert world.slice["metadata"]["resourceVersion"] == version
    await world.kill()


async def test_rule_20_bytes_that_came_back_touch_the_slice_twice():
    world = await World.open()
    tag = str(uuid.uuid4())
    world.claim("far", tag)
    await world.attach(tag)
    assert world.touched == ""
    await world.rig.as_node("n1").remove_memory(tag)
    await clock.sleep(0.5)
    first, version = world.touched, world.slice["metadata"]["resourceVersion"]
    assert first
    await clock.sleep(7)
    assert world.touched > first
    assert world.slice["metadata"]["resourceVersion"] != version
    await world.kill()


async def test_rule_22_a_pod_without_driver_is_told():
    world = await World.open()
    world.claim("far", str(uuid.uuid4()))
    await clock.sleep(28)
    assert world.reasons() == []
    await clock.sleep(5)
    assert sorted(world.reasons()) == [("Pod", "DriverNotRunning"), ("ResourceClaim", "DriverNotRunning")]
    await world.kill()


async def test_a_restart_finds_everything_as_it_was_and_what_happened_meanwhile():
    world = await World.open()
    tag = str(uuid.uuid4())
    world.claim("far", tag)
    await world.attach(tag)
    await world.kill()
    assert world.process.ready
    version = world.slice["metadata"]["resourceVersion"]
    await world.start()
    assert world.slice["metadata"]["resourceVersion"] == version
    await world.kill()
    world.server.lose("resourceclaims", "far", "app")
    await world.start()
    assert world.value == 8 * GIB - UNIT
    await world.kill()


async def test_while_the_api_server_is_away_nothing_is_released():
    world = await World.open()
    tag = str(uuid.uuid4())
    world.claim("far", tag)
    await world.attach(tag)
    world.server.down = True
    world.server.lose("resourceclaims", "far", "app")
    await clock.sleep(60)
    assert "remove_memory" not in [method for method, _ in world.rig.calls]
    world.server.down = False
    await clock.sleep(60)
    assert [a["tag"] for m, a in world.rig.calls if m == "remove_memory"] == [tag]
    await world.kill()


async def test_while_the_service_is_away_the_process_is_not_ready_and_pools_stay():
    world = await World.open()
    world.rig.down()
    await clock.sleep(5)
    assert not world.process.ready
    assert world.value == 8 * GIB
    await world.rig.up()
    await clock.sleep(20)
    assert world.process.ready
    await world.kill()
