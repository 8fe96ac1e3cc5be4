# SPDX-License-Identifier: Apache-2.0
"""The tests' API server does what real ones do; what only it can do is tried here as well."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.fake_kube import FakeKube
from tests.support.kube_conformance import CHECKS

from dynamic_memory.api.kinds import CONFIG_MAPS, NODES, RESOURCE_SLICES
from dynamic_memory.kube.errors import Gone, Invalid, NotFound, Unavailable
from dynamic_memory.process import clock


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_it_conforms(check):
    await check(FakeKube(), "ns")


async def test_owners_are_those_of_the_fields():
    kube = FakeKube()
    kube.put(NODES, {"metadata": {"name": "n", "labels": {"zone": "z"}}})
    await kube.apply(NODES, {"metadata": {"name": "n", "labels": {"mine": "1"}}}, manager="m")
    assert kube.owners(NODES, "n")["m"] == {("metadata", "labels", "mine")}
    node = await kube.apply(NODES, {"metadata": {"name": "n"}}, manager="m")
    assert node.metadata.labels == {"zone": "z"}


async def test_what_the_tests_side_puts_may_be_made_anew():
    kube = FakeKube()
    uids = [kube.put(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "ns"}})["metadata"]["uid"] for _ in range(2)]
    assert uids[0] == uids[1]
    again = kube.put(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "ns", "uid": "another"}})
    assert again["metadata"]["uid"] == "another"


@pytest.mark.looptime
async def test_a_watch_sees_changes_bookmarks_and_its_end():
    kube = FakeKube()
    kube.put(NODES, {"metadata": {"name": "before"}})
    version = (await kube.list(NODES)).resource_version
    seen = []

    async def follow():
        async for event in kube.watch(NODES, resource_version=version, labels="mine=1", timeout=100):
            seen.append((event.type, event.object.metadata.name if event.object else None))  # noqa: PERF401 - one by one
        seen.append("end")

    task = asyncio.create_task(follow())
    await clock.sleep(1)
    kube.put(NODES, {"metadata": {"name": "n", "labels": {"mine": "1"}}})
    kube.put(NODES, {"metadata": {"name": "other"}})
    await kube.patch(NODES, "n", {"metadata": {"labels": {"more": "1"}}})
    await kube.patch(NODES, "n", {"metadata": {"labels": {"mine": None}}})
    await clock.sleep(70)
    assert seen == [("ADDED", "n"), ("MODIFIED", "n"), ("DELETED", "n"), ("BOOKMARK", None)]
    await task
    assert seen[-1] == "end"


@pytest.mark.looptime
async def test_a_watch_that_is_read_slowly_loses_nothing():
    kube = FakeKube()
    version = (await kube.list(NODES)).resource_version
    seen = []

    async def follow():
        async for event in kube.watch(NODES, resource_version=version, timeout=100):
            seen.append(event.object.metadata.name)
            await clock.sleep(2)

    task = asyncio.create_task(follow())
    for name in "abcd":
        await clock.sleep(1)
        kube.put(NODES, {"metadata": {"name": name}})
    await clock.sleep(20)
    assert seen == ["a", "b", "c", "d"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.looptime
async def test_a_watch_breaks_and_expires():
    kube = FakeKube()
    version = (await kube.list(NODES)).resource_version

    async def first(error):
        with pytest.raises(error):
            async for _ in kube.watch(NODES, resource_version=version, timeout=100):
                pass

    async with asyncio.TaskGroup() as group:
        group.create_task(first(Unavailable))
        await clock.sleep(1)
        kube.disconnect()
    async with asyncio.TaskGroup() as group:
        group.create_task(first(Gone))
        await clock.sleep(1)
        kube.expire()
    await first(Gone)


async def test_failures_and_gates_are_injected():
    kube = FakeKube()
    kube.fail(Unavailable(503, "", "busy"), verb="get", kind=NODES, times=2)
    for error in (Unavailable, Unavailable, NotFound):
        with pytest.raises(error):
            await kube.get(NODES, "n")
    kube.drop = {"bindingConditions"}
    devices = [{"name": "d", "bindingConditions": ["x/y"]}]
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    body = {"metadata": {"name": "s"}, "spec": {"driver": "d", "pool": pool, "devices": devices}}
    assert (await kube.create(RESOURCE_SLICES, body, dry_run=True)).spec.devices[0].binding_conditions == []
    assert kube.body(RESOURCE_SLICES, "s") is None
    spec = {**body["spec"], "devices": [{"name": f"d{n}"} for n in range(129)]}
    with pytest.raises(Invalid):
        await kube.create(RESOURCE_SLICES, {**body, "spec": spec})
