# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest

from dynamic_memory.controller.claims import ClaimView, PodView
from dynamic_memory.controller.toucher import Toucher
from dynamic_memory.kube.errors import Forbidden, Unavailable
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def claim(pool=None, *, device_class="dra.fabric-memory"):
    results = [{"driver": "dra.memory", "pool": pool, "device": "d", "shareID": "t"}] if pool else []
    body = {
        "metadata": {"name": "far", "namespace": "app"},
        "spec": {"devices": {"requests": [{"exactly": {"deviceClassName": device_class}}]}},
        "status": {"allocation": {"devices": {"results": results}}} if pool else {},
    }
    return msgspec.convert(body, ClaimView)


def pod(node="", *, uid="p"):
    body = {
        "metadata": {"name": "db", "namespace": "app", "uid": uid},
        "spec": {"nodeName": node, "resourceClaims": [{"name": "far", "resourceClaimName": "far"}]},
    }
    return msgspec.convert(body, PodView)


class World:
    def __init__(self) -> None:
        self.claims = {("far", "app"): claim("fabric/a")}
        self.touches = []
        self.failures = []
        self.toucher = Toucher(
            claim=lambda name, namespace: self.claims.get((name, namespace)),
            pools=lambda: ["fabric/a", "fabric/b"],
            touch=self.touch,
        )
        self.task = asyncio.create_task(self.toucher.run())

    async def touch(self, pool):
        if self.failures:
            raise self.failures.pop()
        self.touches.append((round(clock.monotonic(), 3), pool))

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def run(world, seconds=20.0):
    began = clock.monotonic()
    await clock.sleep(seconds)
    await world.stop()
    return [(round(at - began, 1), pool) for at, pool in world.touches]


async def test_rule_20_bytes_that_came_back_touch_the_pool_twice():
    world = World()
    world.toucher.event("bytes-back", ["fabric/a"])
    assert await run(world) == [(0.0, "fabric/a"), (6.0, "fabric/a")]


async def test_rule_20_a_pod_that_is_bound_touches_its_pool_once_bound():
    world = World()
    world.toucher.pod_changed(pod())
    world.toucher.pod_changed(pod("n1"))
    world.toucher.pod_changed(pod("n1"))
    assert await run(world) == [(0.0, "fabric/a"), (6.0, "fabric/a")]


async def test_rule_20_a_pod_whose_claim_is_known_later_than_the_pod_is_seen_being_bound():
    """Pods and claims come by two watches, and neither waits for the other."""
    for late in (pod(), pod("n1")):  # the claim is known when the pod is bound, or when it changes after that
        world = World()
        known, world.claims = world.claims, {}
        world.toucher.pod_changed(pod())
        world.toucher.pod_changed(late)
        world.claims = known
        world.toucher.pod_changed(pod("n1"))
        assert await run(world) == [(0.0, "fabric/a"), (6.0, "fabric/a")]


async def test_rule_20_a_pod_with_other_claims_is_no_event():
    world = World()
    world.claims = {("far", "app"): claim(device_class="gpu")}
    world.toucher.pod_changed(pod())
    world.toucher.pod_changed(pod("n1"))
    world.toucher.pod_changed(pod(uid="q"))
    world.toucher.pod_gone(pod(uid="q"))
    assert await run(world) == []


async def test_rule_20_a_waiting_pod_that_goes_touches_its_pool_although_its_claim_is_gone_already():
    world = World()
    world.toucher.pod_changed(pod())
    world.claims.clear()
    world.toucher.pod_gone(pod())
    assert await run(world) == [(0.0, "fabric/a"), (6.0, "fabric/a")]


async def test_rule_20_a_pod_whose_claim_was_never_allocated_touches_all_pools():
    world = World()
    world.claims = {("far", "app"): claim()}
    world.toucher.pod_changed(pod())
    world.toucher.pod_gone(pod())
    assert sorted(await run(world)) == sorted(
        [(0.0, "fabric/a"), (0.0, "fabric/b"), (6.0, "fabric/a"), (6.0, "fabric/b")]
    )


async def test_pods_that_were_bound_at_the_start_are_no_event():
    world = World()
    world.toucher.pod_changed(pod("n1"))
    world.toucher.pod_gone(pod("n1"))
    assert await run(world) == []


async def test_pods_with_other_claims_are_no_event():
    world = World()
    world.claims = {("far", "app"): claim(device_class="gpu.example.com")}
    world.toucher.pod_changed(pod())
    world.toucher.pod_changed(pod("n1"))
    world.toucher.pod_gone(pod())
    assert await run(world) == []


async def test_rule_20_a_storm_of_events_is_one_touch_a_second():
    world = World()
    for number in range(200):
        world.toucher.pod_changed(pod(uid=str(number)))
        world.toucher.pod_changed(pod("n1", uid=str(number)))
        await clock.sleep(0.02)
    touches = await run(world)
    times = [at for at, _ in touches]
    assert len(times) <= 4 + 4 + 3
    assert all(later - earlier >= 0.9 for earlier, later in itertools.pairwise(times))


async def test_a_touch_that_failed_is_tried_again_unless_it_never_can_work():
    world = World()
    world.failures = [Unavailable(503, "", "later"), Unavailable(503, "", "later")]
    world.toucher.event("bytes-back", ["fabric/a"])
    assert await run(world) == [(2.0, "fabric/a"), (6.0, "fabric/a")]
    world = World()
    world.failures = [Forbidden(403, "", "never")]
    world.toucher.event("bytes-back", ["fabric/a"])
    assert await run(world) == [(6.0, "fabric/a")]
