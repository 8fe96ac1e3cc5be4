# SPDX-License-Identifier: Apache-2.0
"""The store by itself, on a journal that commits when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.embedded.support.asking import Asking, Refused
from tests.embedded.support.journals import HandJournal, until

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.builtin import builtin_registry
from dynamic_memory.embedded.apiserver.clock import Clock
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.store import Store

MAPS = StorageKey("", "configmaps")
PODS = StorageKey("", "pods")
BUDGETS = StorageKey("policy", "poddisruptionbudgets")


def config(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "d"}, **more}


async def test_what_cannot_be_encoded_is_refused_and_takes_no_version() -> None:
    store = Store()
    journal = HandJournal(store)
    with pytest.raises(Refused) as caught:
        await store.put(MAPS, ("d", "a"), config(data={"k": "\udce4"}), None)
    assert caught.value.code == 400
    assert not journal.waiting
    written = asyncio.create_task(store.put(MAPS, ("d", "a"), config(), None))
    await until(lambda: journal.waiting)
    journal.commit()
    assert (await written).version == 2


async def test_a_write_after_the_end_is_refused_and_does_not_wait() -> None:
    store = Store()
    HandJournal(store)
    await store.close()
    async with asyncio.timeout(30):
        with pytest.raises(Refused, match="the server is stopping"):
            await store.put(MAPS, ("d", "a"), config(), None)


async def test_the_history_is_bounded_by_bytes_too() -> None:
    store = Store(history_bytes=10_000)
    record = None
    for number in range(20):
        record = await store.put(MAPS, ("d", "a"), config(data={"k": f"{number:04}" * 300}), record)
    collection = store._of(MAPS)
    assert 1 <= len(collection.events) < 20
    assert sum(len(event.record.data) for event in collection.events) == collection.size <= 10_000
    with pytest.raises(Refused, match="too old resource version"):
        store.watch(MAPS, _all(), 1)
    store.unwatch(MAPS, store.watch(MAPS, _all(), collection.oldest))


def _all() -> Any:
    from dynamic_memory.embedded.apiserver.watch import Selection

    return Selection("")


class Taker:
    """A watch whose client takes what comes while it reads."""

    def __init__(self, store: Store) -> None:
        self.watcher = store.watch(MAPS, _all(), None)
        self.watcher.forward = self.forward
        self.watcher.too_slow = lambda: self.ends.append("too slow")
        self.sent: list[list[int]] = []
        self.ends: list[str] = []
        self.reads = True

    def forward(self, seen: list[Any]) -> bool:
        if self.reads:
            self.sent.append([record.version for _, record in seen])
        return self.reads


async def changes(store: Store, names: str) -> None:
    for name in names:
        await store.put(MAPS, ("d", name), config(name), None)


async def test_who_waits_is_handed_what_happened_at_once_and_all_together() -> None:
    store = Store()
    taker = Taker(store)
    await changes(store, "ab")  # nobody waits yet: it may have something older to send
    await asyncio.sleep(0)
    assert taker.sent == []
    assert [record.version for _, record in await taker.watcher.take(60)] == [2, 3]
    waiting = asyncio.create_task(taker.watcher.take(60))
    await asyncio.sleep(0)
    await changes(store, "cde")
    await asyncio.sleep(0)
    await changes(store, "f")
    await asyncio.sleep(0)
    assert taker.sent == [[4, 5, 6], [7]]
    taker.reads = False
    await changes(store, "gh")
    assert [record.version for _, record in await waiting] == [8, 9]
    store.unwatch(MAPS, taker.watcher)


async def test_a_watch_that_fails_ends_alone() -> None:
    store = Store()
    takers = [Taker(store) for _ in range(3)]

    def fail(_seen: object) -> bool:
        raise ValueError("no line")

    takers[1].watcher.forward = fail
    waiting = [asyncio.create_task(taker.watcher.take(60)) for taker in takers]
    await asyncio.sleep(0)
    await changes(store, "a")
    await waiting[1]
    assert [taker.sent for taker in takers] == [[[2]], [], [[2]]]
    assert [taker.ends for taker in takers] == [[], ["too slow"], []]
    await store.close()
    assert await asyncio.gather(*waiting) == [[], [], []]


def asking(store: Store) -> Asking:
    return Asking(Api(Core(store, builtin_registry(), Clock())))


async def namespace(admin: Asking, store: Store) -> None:
    await admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "d"}})


async def test_a_write_that_changes_nothing_waits_for_the_disk_that_has_what_it_found() -> None:
    store = Store()
    admin = asking(store)
    await namespace(admin, store)
    held = config(metadata={"name": "a", "finalizers": ["x.example.com/f"]})
    await admin.create(held, "d")
    journal = HandJournal(store)
    changes: tuple[Callable[[], Any], ...] = (
        lambda: admin.patch(held, {"data": {"k": "v"}}, "d"),
        lambda: admin.delete(held, "d"),
    )
    for change in changes:
        first = asyncio.create_task(change())
        await until(lambda: journal.waiting)
        second = asyncio.create_task(change())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not second.done(), "what it says is not on disk"
        assert len(journal.waiting) == 1
        journal.commit()
        one, two = await asyncio.gather(first, second)
        assert one["metadata"]["resourceVersion"] == two["metadata"]["resourceVersion"]


async def test_evictions_that_come_at_once_end_and_share_no_permission() -> None:
    store = Store()
    admin = asking(store)
    await namespace(admin, store)
    for name in ("a", "b", "c"):
        spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "a"}}, "spec": spec}
        await admin.create(pod, "d")
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await admin.patch(pod, {"status": ready}, "d", sub="status")
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}
    await admin.create(
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "x"}, "spec": budget}, "d"
    )
    journal = HandJournal(store)

    async def evict(name: str) -> int:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        try:
            await admin.call("POST", f"/api/v1/namespaces/d/pods/{name}/eviction", body)
        except Refused as error:
            return error.code
        return 201

    tasks = [asyncio.create_task(evict(name)) for name in ("a", "b", "c")]

    async def commit() -> None:
        while not all(task.done() for task in tasks):
            journal.commit()
            for _ in range(10):
                await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await commit()
    assert sorted([await task for task in tasks]) == [201, 201, 429]
