# SPDX-License-Identifier: Apache-2.0
"""Scheduler and claim controller killed at any moment, over and over: nothing is lost, nothing counted twice."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.embedded.support.controlling import controlling
from tests.embedded.support.scheduling import (
    ATTACHED,
    BINDING,
    GI,
    bound,
    claim_spec,
    cluster,
    pod,
    pool,
    scheduling,
    set_condition,
    settle,
    until,
)

from dynamic_memory.api.kinds import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from dynamic_memory.kube.errors import Unavailable
from dynamic_memory.quantity import parse_bytes

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

TOTAL = 5 * GI


def attach(kube, rng):
    """Have some of the waiting devices ready."""
    for item in kube.bodies(RESOURCE_CLAIMS):
        status = item.get("status") or {}
        if status.get("allocation") and not status.get("devices") and rng.random() < 0.5:
            set_condition(kube, item["metadata"]["name"], ATTACHED)


def check(kube):
    """Bound pods have what they were promised, and the pool has given no more than it has."""
    claims = {item["metadata"]["name"]: item for item in kube.bodies(RESOURCE_CLAIMS)}
    used = sum(
        parse_bytes(result["consumedCapacity"]["size"])
        for item in claims.values()
        for result in ((item.get("status") or {}).get("allocation") or {}).get("devices", {}).get("results", ())
    )
    assert used <= TOTAL
    for body in kube.bodies(PODS):
        if not body["spec"].get("nodeName"):
            continue
        (made,) = body["status"]["resourceClaimStatuses"]
        status = claims[made["resourceClaimName"]]["status"]
        assert status["allocation"]
        assert [user["uid"] for user in status["reservedFor"]] == [body["metadata"]["uid"]]
        assert status["devices"][0]["conditions"][0]["status"] == "True"


async def life(kube, rng, calls):
    """Run scheduler and controllers until a number of calls is done, and end them without a warning."""
    killed = asyncio.Event()
    left = calls

    def count(call):
        nonlocal left
        left -= 1
        if left == 0:
            killed.set()
        if left <= 0 and call.verb in {"patch", "create", "create_raw", "delete"}:
            raise Unavailable(0, "Unreachable", "the process is dead")

    async with controlling(kube, workloads=False), scheduling(kube):
        kube.before = count
        for _ in range(80):
            attach(kube, rng)
            check(kube)
            if killed.is_set():
                break
            await asyncio.sleep(0.1)
    kube.before = lambda _: None


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 40))])
async def test_killed_at_any_moment_pods_come_and_go_and_nothing_is_left_behind(seed):
    rng = random.Random(seed)
    kube = cluster()
    pool(kube, TOTAL, "n1", "n2", **BINDING)
    inner = {"spec": claim_spec(GI)}
    kube.put(RESOURCE_CLAIM_TEMPLATES, {"metadata": {"name": "t", "namespace": "default"}, "spec": inner})
    for number in range(12):
        kube.put(PODS, pod(f"p{number}", templates={"m": "t"}))
    left = 12
    for _ in range(8):
        await life(kube, rng, rng.randrange(3, 40))
        check(kube)
        for name in rng.sample(bound(kube), min(2, len(bound(kube)))):
            kube.remove(PODS, name, "default")
            left -= 1
    async with controlling(kube, workloads=False), scheduling(kube) as scheduler:
        while left:
            wanted = min(5, left)
            await until(lambda wanted=wanted: attach(kube, rng) or len(bound(kube)) == wanted, 40)
            check(kube)
            kube.remove(PODS, rng.choice(bound(kube)), "default")
            left -= 1
        await until(lambda: not kube.bodies(RESOURCE_CLAIMS))
        await settle()
        assert not scheduler.flying
        assert not scheduler.book.assumed
        assert scheduler.inventory.snapshot()["usages"] == {}
        assert all(item[0] == 0 for item in scheduler.table.snapshot().values())


@pytest.mark.parametrize("forgets", [False, True], ids=["watches go on", "history is gone"])
async def test_an_api_server_that_was_away_finds_everybody_at_work_again(forgets):
    rng = random.Random(1)
    kube = cluster()
    pool(kube, TOTAL, "n1", "n2", **BINDING)
    inner = {"spec": claim_spec(GI)}
    kube.put(RESOURCE_CLAIM_TEMPLATES, {"metadata": {"name": "t", "namespace": "default"}, "spec": inner})
    for number in range(8):
        kube.put(PODS, pod(f"p{number}", templates={"m": "t"}))
    async with controlling(kube, workloads=False), scheduling(kube):
        await until(lambda: attach(kube, rng) or len(bound(kube)) == 3)
        kube.down = True
        kube.disconnect()
        await settle(90)
        for name in bound(kube)[:2]:
            kube.remove(PODS, name, "default")
        kube.put(PODS, pod("late", templates={"m": "t"}))
        if forgets:
            kube.expire()
        kube.down = False
        await until(lambda: attach(kube, rng) or len(bound(kube)) == 5, 60)
        check(kube)
        while kube.bodies(PODS):
            await until(lambda: attach(kube, rng) or bound(kube), 60)
            check(kube)
            kube.remove(PODS, rng.choice(bound(kube)), "default")
        await until(lambda: not kube.bodies(RESOURCE_CLAIMS))
