# SPDX-License-Identifier: Apache-2.0
"""A pool is always one consistent generation, written as seldom as possible."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.support.fake_kube import FakeKube

from dynamic_memory.api.kinds import RESOURCE_SLICES
from dynamic_memory.api.names import TOUCHED_ANNOTATION
from dynamic_memory.kube.errors import Unavailable
from dynamic_memory.kube.informer import Informer
from dynamic_memory.kube.slices import DEVICES_PER_SLICE, DroppedFields, SlicePublisher
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

WHERE = {"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}}


def device(number=0, value="8Gi", **more):
    policy = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}
    return {
        "name": f"d{number}",
        "allowMultipleAllocations": True,
        "attributes": {"kind": {"string": "fabric"}, "latencyNs": {"int": 350}},
        "capacity": {"size": {"value": value, "requestPolicy": policy}},
        **more,
    }


class World:
    def __init__(self) -> None:
        self.kube = FakeKube()
        self.cache = Informer(self.kube, RESOURCE_SLICES)
        self.task = asyncio.create_task(self.cache.run())
        self.publisher = self.make()

    def make(self, **changed) -> SlicePublisher:
        how = {"driver": "dra.memory", "pool": "fabric/a", "manager": "m", "where": WHERE, "owner": None}
        return SlicePublisher(self.kube, **({"existing": self.cache.all} | how | changed))

    async def publish(self, devices, publisher=None):
        result = await (publisher or self.publisher).publish(devices)
        await self.settle()
        return result.written, result.deleted, result.generation

    async def settle(self):
        async with asyncio.timeout(400):
            await self.cache.wait_synced()
            await self.cache.wait_for_version(str(self.kube.version))

    def slices(self):
        """Generation, count and number of devices of each slice."""
        pools = [(body["spec"]["pool"], body["spec"].get("devices", [])) for body in self.kube.bodies(RESOURCE_SLICES)]
        return [(pool["generation"], pool["resourceSliceCount"], len(devices)) for pool, devices in pools]

    def writes(self):
        return sum(call.verb in {"apply", "patch", "delete"} for call in self.kube.calls)


@pytest.fixture
async def world():
    made = World()
    await made.settle()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_a_new_pool_has_generation_one(world):
    assert await world.publish([device(0), device(1)]) == (1, 0, 1)
    (body,) = world.kube.bodies(RESOURCE_SLICES)
    assert body["spec"] == {
        "driver": "dra.memory",
        "pool": {"name": "fabric/a", "generation": 1, "resourceSliceCount": 1},
        **WHERE,
        "devices": [device(0), device(1)],
    }
    assert body["metadata"]["name"].startswith("fabric-a-")


async def test_what_is_the_same_is_not_written(world):
    await world.publish([device()])
    before = len(world.kube.calls)
    assert await world.publish([device()]) == (0, 0, 1)
    assert await world.publish([device(value="8192Mi")]) == (0, 0, 1), "another spelling"
    assert len(world.kube.calls) == before, "not even read"
    again = world.make()
    assert await world.publish([device()], again) == (0, 0, 1), "a new process"


async def test_a_change_of_one_slice_keeps_the_generation(world):
    await world.publish([device(n) for n in range(100)])
    assert world.slices() == [(1, 2, 64), (1, 2, 36)]
    assert await world.publish([device(n, "4Gi" if n == 99 else "8Gi") for n in range(100)]) == (1, 0, 1)
    assert world.slices() == [(1, 2, 64), (1, 2, 36)]


async def test_any_other_change_is_a_new_generation_of_all_slices(world):
    await world.publish([device(n) for n in range(100)])
    assert await world.publish([device(n, "4Gi") for n in range(100)]) == (2, 0, 2)
    assert await world.publish([device(n, "4Gi") for n in range(200)]) == (4, 0, 3)
    assert world.slices() == [(3, 4, 64)] * 3 + [(3, 4, 8)]


async def test_a_smaller_pool_deletes_before_it_writes(world):
    await world.publish([device(n) for n in range(100)])
    world.kube.calls.clear()
    assert await world.publish([device(0)]) == (1, 1, 2)
    assert [call.verb for call in world.kube.calls if call.verb in {"delete", "apply"}] == ["delete", "apply"]
    assert world.slices() == [(2, 1, 1)]


async def test_a_pool_without_devices_is_an_empty_slice(world):
    await world.publish([device()])
    assert await world.publish([]) == (1, 0, 1)
    assert world.slices() == [(1, 1, 0)]


async def test_a_slice_that_somebody_deleted_or_changed_comes_back(world):
    await world.publish([device(n) for n in range(100)])
    first, second = world.kube.bodies(RESOURCE_SLICES)
    world.kube.remove(RESOURCE_SLICES, second["metadata"]["name"])
    await world.settle()
    assert await world.publish([device(n) for n in range(100)]) == (2, 0, 2)
    first["spec"]["pool"]["generation"] = 7
    world.kube.put(RESOURCE_SLICES, first)
    await world.settle()
    assert await world.publish([device(n) for n in range(100)]) == (2, 0, 8)
    assert world.slices() == [(8, 2, 64), (8, 2, 36)]


async def test_a_fresh_process_raises_the_generation_that_it_finds_and_removes_foreign_slices_of_its_pool(world):
    pool = {"name": "fabric/a", "generation": 5, "resourceSliceCount": 1}
    old = {"metadata": {"name": "old-name"}, "spec": {"driver": "dra.memory", "pool": pool, **WHERE, "devices": []}}
    world.kube.put(RESOURCE_SLICES, old)
    others = [("other.driver", "fabric/a"), ("dra.memory", "fabric/b")]
    for number, (driver, name) in enumerate(others):
        spec = {"driver": driver, "pool": {**pool, "name": name}, "allNodes": True}
        world.kube.put(RESOURCE_SLICES, {"metadata": {"name": f"other-{number}"}, "spec": spec})
    await world.settle()
    assert await world.publish([device()]) == (1, 1, 6)
    names = [body["metadata"]["name"] for body in world.kube.bodies(RESOURCE_SLICES)]
    assert "old-name" not in names
    assert {"other-0", "other-1"} < set(names)


async def test_an_old_cache_does_not_undo_what_was_just_written(world):
    await world.publish([device()])
    stale = world.cache.all()
    publisher = world.make(existing=lambda: stale)
    assert (await publisher.publish([device(value="4Gi")])).written == 1
    assert (await publisher.publish([device(value="8Gi")])).written == 1
    assert (await publisher.publish([device(value="8Gi")])).written == 0


async def test_publishing_that_was_interrupted_is_mended_by_the_next(world):
    devices = [device(n) for n in range(3 * DEVICES_PER_SLICE)]
    await world.publish(devices[:100])
    applies = iter([None, Unavailable(503, "", "busy")])

    def second_fails(call):
        if call.verb == "apply" and (error := next(applies, None)):
            raise error

    world.kube.before = second_fails
    with pytest.raises(Unavailable):
        await world.publish(devices)
    assert world.slices() == [(2, 3, 64), (1, 2, 36)]
    await world.settle()
    assert await world.publish(devices) == (3, 0, 3)
    assert world.slices() == [(3, 3, 64)] * 3


@pytest.mark.parametrize(
    ("drop", "fields"),
    [
        ({"bindsToNode"}, {"devices[0].bindsToNode"}),
        ({"allowMultipleAllocations", "taints"}, {"devices[0].allowMultipleAllocations", "devices[0].taints"}),
        ({"capacity"}, {"devices[0].capacity"}),
    ],
)
async def test_what_the_server_drops_is_told(world, drop, fields):
    world.kube.drop = drop
    taint = {"key": "k", "value": "1", "effect": "NoSchedule"}
    with pytest.raises(DroppedFields) as caught:
        await world.publisher.publish([device(bindsToNode=True, taints=[taint])])
    assert set(caught.value.fields) == fields
    assert "feature gate" in str(caught.value)


async def test_times_that_the_server_adds_to_taints_are_no_difference(world):
    taint = {"key": "k", "value": "1", "effect": "NoSchedule"}
    await world.publish([device(taints=[taint])])
    (body,) = world.kube.bodies(RESOURCE_SLICES)
    body["spec"]["devices"][0]["taints"][0]["timeAdded"] = "2026-01-01T00:00:00Z"
    world.kube.put(RESOURCE_SLICES, body)
    await world.settle()
    assert await world.publish([device(taints=[taint])]) == (0, 0, 1)
    assert await world.publish([device(taints=[taint | {"value": "2"}])]) == (1, 0, 1)
    assert await world.publish([device()]) == (1, 0, 1)


async def test_touching_changes_one_annotation_and_publishing_leaves_it(world):
    await world.publisher.touch()
    assert world.writes() == 0, "there is nothing to touch"
    await world.publish([device(n) for n in range(100)])
    stamps = set()
    for _ in range(2):
        await clock.sleep(1)
        await world.publisher.touch()
        annotations = [body["metadata"].get("annotations", {}) for body in world.kube.bodies(RESOURCE_SLICES)]
        assert [set(item) for item in annotations] == [{TOUCHED_ANNOTATION}, set()]
        stamps.add(annotations[0][TOUCHED_ANNOTATION])
    assert len(stamps) == 2
    await world.settle()
    assert await world.publish([device(n) for n in range(100)]) == (0, 0, 1)
    assert (await world.publish([device(n, "4Gi") for n in range(100)]))[2] == 2
    assert TOUCHED_ANNOTATION in world.kube.bodies(RESOURCE_SLICES)[0]["metadata"]["annotations"]


async def test_touching_goes_on_to_the_next_slice_if_one_is_gone(world):
    await world.publish([device(n) for n in range(100)])
    world.kube.remove(RESOURCE_SLICES, world.kube.bodies(RESOURCE_SLICES)[0]["metadata"]["name"])
    await world.publisher.touch()
    assert TOUCHED_ANNOTATION in world.kube.bodies(RESOURCE_SLICES)[0]["metadata"]["annotations"]


async def test_withdrawing_deletes_the_pool_and_nothing_else(world):
    await world.publish([device(n) for n in range(100)])
    other = world.make(pool="n1/windows", where={"nodeName": "n1"}, owner={"kind": "Node", "name": "n1", "uid": "u"})
    await world.publish([device()], other)
    assert world.kube.bodies(RESOURCE_SLICES)[-1]["metadata"]["ownerReferences"] == [
        {"kind": "Node", "name": "n1", "uid": "u"}
    ]
    await world.publisher.withdraw()
    await world.publisher.withdraw()
    assert [body["spec"]["pool"]["name"] for body in world.kube.bodies(RESOURCE_SLICES)] == ["n1/windows"]
    await world.settle()
    assert await world.publish([device()]) == (1, 0, 1)


async def test_names_of_pools_that_look_alike_differ(world):
    for pool in ("fabric/a-b", "fabric-a/b"):
        await world.publish([device()], world.make(pool=pool))
    assert len(world.kube.bodies(RESOURCE_SLICES)) == 2


@pytest.mark.parametrize("seed", range(25))
async def test_after_any_history_the_scheduler_sees_the_last_pool_that_was_published(seed, monkeypatch):
    monkeypatch.setattr("dynamic_memory.kube.slices.DEVICES_PER_SLICE", 3)
    rng = random.Random(seed)
    world = World()
    await world.settle()
    for _ in range(25):
        devices = [device(n, rng.choice(["8Gi", "4Gi"])) for n in range(rng.choice([0, 1, 3, 4, 7]))]
        match rng.randrange(6):
            case 0:
                world.kube.fail(Unavailable(503, "", "x"), verb=rng.choice(["apply", "delete", "get"]))
            case 1:
                world.publisher = world.make()
            case 2 if bodies := world.kube.bodies(RESOURCE_SLICES):
                world.kube.remove(RESOURCE_SLICES, rng.choice(bodies)["metadata"]["name"])
            case 3:
                world.kube.disconnect()
        for _ in range(3):
            try:
                await world.publisher.publish(devices)
                break
            except Unavailable:
                continue
        if rng.random() < 0.5:
            await clock.sleep(rng.choice([0.001, 40]))
    await world.settle()
    world.kube._failures.clear()
    await world.publish(devices)
    bodies = world.kube.bodies(RESOURCE_SLICES)
    assert len({(generation, count) for generation, count, _ in world.slices()}) == 1
    assert world.slices()[0][1] == len(bodies)
    assert [item for body in bodies for item in body["spec"].get("devices", [])] == devices
    assert await world.publish(devices) == (0, 0, world.slices()[0][0])
    world.task.cancel()
    await asyncio.gather(world.task, return_exceptions=True)
