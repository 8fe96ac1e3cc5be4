# SPDX-License-Identifier: Apache-2.0
"""A cache that equals the server's objects, whatever is lost on the way."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.support.fake_kube import FakeKube

from dynamic_memory.api.kinds import NODES, partial
from dynamic_memory.kube.errors import Gone, Unavailable
from dynamic_memory.kube.informer import SILENCE_SECONDS, WATCH_SECONDS, Informer, report
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def node(name, **labels):
    return {"metadata": {"name": name, "labels": labels}}


@contextlib.asynccontextmanager
async def following(kube, **how):
    informer = Informer(kube, NODES, **how)
    changes = []
    informer.subscribe(lambda change: changes.append((change.type, change.object.metadata.name)))
    task = asyncio.create_task(informer.run())
    try:
        yield informer, changes
    finally:
        assert not task.done(), "an informer runs for ever"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def synced(informer, kube):
    async with asyncio.timeout(300):
        await informer.wait_synced()
        await informer.wait_for_version(str(kube.version))


async def test_lists_then_follows():
    kube = FakeKube()
    kube.put(NODES, node("a"))
    async with following(kube) as (informer, changes):
        assert not informer.synced
        assert informer.age() == float("inf")
        await synced(informer, kube)
        assert changes == [("added", "a")]
        kube.put(NODES, node("b"))
        kube.put(NODES, node("a", x="1"))
        kube.remove(NODES, "b")
        await synced(informer, kube)
        assert changes[1:] == [("added", "b"), ("modified", "a"), ("deleted", "b")]
        assert [item.metadata.name for item in informer.all()] == ["a"]
        assert informer.get("a").metadata.labels == {"x": "1"}
        assert informer.get("b") is None
        assert informer.age() < 1
        assert kube.count("list") == 1


async def test_a_change_tells_what_was_there_before():
    kube = FakeKube()
    seen = []
    informer = Informer(kube, NODES)
    informer.subscribe(seen.append)
    task = asyncio.create_task(informer.run())
    for body in (node("a", v="1"), node("a", v="2")):
        kube.put(NODES, body)
        await synced(informer, kube)
    kube.remove(NODES, "a")
    await synced(informer, kube)
    task.cancel()
    assert [(c.type, c.old and c.old.metadata.labels["v"], c.object.metadata.labels["v"]) for c in seen] == [
        ("added", None, "1"),
        ("modified", "1", "2"),
        ("deleted", "2", "2"),
    ]


async def test_an_expired_version_is_mended_by_a_list_and_the_deletions_are_told():
    kube = FakeKube()
    for name in "abcd":
        kube.put(NODES, node(name))
    async with following(kube) as (informer, changes):
        await synced(informer, kube)
        changes.clear()
        kube.down = True
        kube.disconnect()
        await clock.sleep(5)
        kube.remove(NODES, "a")
        kube.put(NODES, node("b", x="1"))
        kube.put(NODES, node("e"))
        kube.expire()
        kube.down = False
        await synced(informer, kube)
        assert sorted(changes) == [("added", "e"), ("deleted", "a"), ("modified", "b")]
        assert sorted(item.metadata.name for item in informer.all()) == list("bcde")


async def test_an_object_made_anew_under_its_name_is_a_deletion_and_an_addition():
    kube = FakeKube()
    kube.put(NODES, node("a"))
    async with following(kube) as (informer, changes):
        await synced(informer, kube)
        kube.remove(NODES, "a")
        kube.put(NODES, node("a"))
        kube.expire()
        await synced(informer, kube)
        assert changes == [("added", "a"), ("deleted", "a"), ("added", "a")]


async def test_a_lost_connection_goes_on_where_it_was():
    kube = FakeKube()
    kube.put(NODES, node("a"))
    async with following(kube) as (informer, changes):
        await synced(informer, kube)
        kube.fail(Unavailable(503, "", "busy"), verb="watch", times=6)
        kube.disconnect()
        kube.put(NODES, node("b"))
        await clock.sleep(0.1)
        assert str(informer.failure) == "the connection was lost"
        await synced(informer, kube)
        assert changes == [("added", "a"), ("added", "b")]
        assert informer.failure is None
        assert kube.count("list") == 1


async def test_an_api_server_that_is_not_there_at_the_start_is_waited_for():
    kube = FakeKube()
    kube.down = True
    async with following(kube) as (informer, _):
        await clock.sleep(100)
        assert not informer.synced
        assert isinstance(informer.failure, Unavailable)
        tries = kube.count("list")
        assert 5 <= tries <= 25, "with back-off"
        kube.down = False
        async with asyncio.timeout(40):
            await informer.wait_synced()


async def test_the_wait_that_the_server_asks_for_is_kept():
    kube = FakeKube()
    busy = Unavailable(429, "TooManyRequests", "busy")
    busy.retry_after = 25.0
    kube.fail(busy, verb="list")
    async with following(kube) as (informer, _):
        await clock.sleep(24)
        assert kube.count("list") == 1
        await clock.sleep(2)
        assert informer.synced


async def test_versions_that_expire_again_and_again_are_not_listed_in_a_hot_loop():
    kube = FakeKube()
    kube.fail(Gone(410, "Expired", "too old"), verb="watch", times=1000)
    async with following(kube):
        await clock.sleep(300)
        assert kube.count("list") < 30


async def test_a_watch_that_ends_at_once_is_not_started_in_a_hot_loop():
    class Hasty(FakeKube):
        async def watch(self, kind, **how):
            async for event in super().watch(kind, **(how | {"timeout": 0})):
                yield event

    kube = Hasty()
    async with following(kube):
        await clock.sleep(300)
        assert 5 < kube.count("watch") < 40


async def test_a_watch_is_renewed_when_it_ends_by_itself():
    kube = FakeKube()
    async with following(kube) as (informer, changes):
        await clock.sleep(3 * WATCH_SECONDS + 10)
        assert kube.count("watch") == 4
        assert kube.count("list") == 1
        assert informer.age() < 70
        kube.put(NODES, node("a"))
        await synced(informer, kube)
        assert changes == [("added", "a")]


async def test_a_silent_watch_is_given_up_and_the_objects_listed_again():
    class Silent(FakeKube):
        silent = True

        async def watch(self, kind, **how):
            if self.silent:
                await clock.sleep(10_000)
            async for event in super().watch(kind, **how):
                yield event

    kube = Silent()
    async with following(kube) as (informer, changes):
        await informer.wait_synced()
        kube.put(NODES, node("a"))
        await clock.sleep(SILENCE_SECONDS - 5)
        assert changes == []
        assert informer.age() > 100
        kube.silent = False
        await clock.sleep(10)
        assert changes == [("added", "a")]


async def test_only_what_is_kept_is_held_and_what_is_no_longer_kept_is_deleted():
    kube = FakeKube()
    kube.put(NODES, node("mine", owner="me"))
    kube.put(NODES, node("theirs", owner="you"))
    async with following(kube, keep=lambda item: item.metadata.labels.get("owner") == "me") as (informer, changes):
        await synced(informer, kube)
        kube.put(NODES, node("theirs", owner="me"))
        kube.put(NODES, node("mine", owner="you"))
        kube.remove(NODES, "mine")
        await synced(informer, kube)
        assert changes == [("added", "mine"), ("added", "theirs"), ("deleted", "mine")]
        assert len(informer) == 1


async def test_indexes_follow_the_objects():
    kube = FakeKube()
    indexes = {"label": lambda item: [f"{k}={v}" for k, v in item.metadata.labels.items()]}
    async with following(kube, indexes=indexes) as (informer, _):

        async def found(value):
            await synced(informer, kube)
            return sorted(item.metadata.name for item in informer.by_index("label", value))

        kube.put(NODES, node("a", x="1", y="2"))
        kube.put(NODES, node("b", x="1"))
        assert await found("x=1") == ["a", "b"]
        kube.put(NODES, node("a", y="2"))
        assert await found("x=1") == ["b"]
        assert await found("y=2") == ["a"]
        kube.remove(NODES, "a")
        kube.expire()
        assert await found("y=2") == []
        with pytest.raises(KeyError):
            informer.by_index("unknown", "")


async def test_resync_tells_every_object_again():
    kube = FakeKube()
    kube.put(NODES, node("a"))
    async with following(kube, resync=100) as (_, changes):
        await clock.sleep(250)
        assert changes == [("added", "a"), ("resync", "a"), ("resync", "a")]


async def test_a_decision_can_wait_for_what_it_wrote():
    kube = FakeKube()
    async with following(kube) as (informer, _):
        made = await kube.create(NODES, node("a"))
        assert informer.get("a") is None
        await informer.wait_for_version(made.metadata.resource_version)
        assert informer.get("a") is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50):
                await informer.wait_for_version(str(kube.version + 100))


async def test_selectors_and_types_are_passed_on():
    kube = FakeKube()
    kube.put(NODES, node("a", x="1"))
    kube.put(NODES, node("b"))
    informer = Informer(kube, partial(NODES), labels="x=1")
    task = asyncio.create_task(informer.run())
    await synced(informer, kube)
    task.cancel()
    assert [item.kind for item in informer.all()] == ["Node"]


@pytest.mark.parametrize("seed", range(40))
async def test_after_any_history_the_cache_equals_the_server_and_so_do_the_changes(seed):
    import random

    rng = random.Random(seed)
    kube = FakeKube(history=rng.choice([3, 50]))
    informer = Informer(
        kube,
        NODES,
        keep=lambda item: item.metadata.labels.get("k") != "no",
        indexes={"k": lambda item: item.metadata.labels.values()},
    )
    model = {}

    def note(change):
        name = change.object.metadata.name
        if change.type == "deleted":
            assert name in model
            del model[name]
            return
        assert (name in model) == (change.type == "modified")
        model[name] = change.object

    informer.subscribe(note)
    task = asyncio.create_task(informer.run())
    for _ in range(120):
        name = rng.choice("abcde")
        match rng.randrange(10):
            case 0 | 1 | 2 | 3 | 4:
                kube.put(NODES, node(name, k=rng.choice(["no", "1", "2"]), n=str(kube.version)))
            case 5 | 6:
                if kube.body(NODES, name):
                    kube.remove(NODES, name)
            case 7:
                kube.disconnect()
            case 8:
                kube.expire()
            case 9:
                kube.fail(Unavailable(500, "", "x"), verb=rng.choice(["list", "watch"]))
        if rng.random() < 0.3:
            await clock.sleep(rng.choice([0.01, 1, 400]))
    await synced(informer, kube)
    truth = {
        body["metadata"]["name"]: body["metadata"]["resourceVersion"]
        for body in kube.bodies(NODES)
        if body["metadata"]["labels"]["k"] != "no"
    }
    assert {name: item.metadata.resource_version for name, item in model.items()} == truth
    assert {item.metadata.name: item.metadata.resource_version for item in informer.all()} == truth
    for value in ("1", "2"):
        wanted = {b["metadata"]["name"] for b in kube.bodies(NODES) if b["metadata"]["labels"]["k"] == value}
        assert {item.metadata.name for item in informer.by_index("k", value)} == wanted
    task.cancel()


async def test_lost_connection_is_reported_until_the_watch_speaks_again():
    kube = FakeKube()
    kube.put(NODES, node("a"))
    said = []
    async with following(kube) as (informer, _):
        await synced(informer, kube)
        task = asyncio.create_task(report([informer], lambda ok, why: said.append((ok, why))))
        await clock.sleep(0.1)
        assert said[-1] == (True, "")
        kube.fail(Unavailable(0, "Unreachable", "the API server does not answer"), verb="watch", times=1)
        await clock.sleep(WATCH_SECONDS + 1)
        assert (False, "the API server does not answer") in said
        kube.put(NODES, node("b"))
        await clock.sleep(5)
        assert said[-1] == (True, "")
        task.cancel()
