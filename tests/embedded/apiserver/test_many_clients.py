# SPDX-License-Identifier: Apache-2.0
"""A hundred clients and ten thousand objects: row A43. What is counted is work, which is the same on every machine.

Times and memory are measured by `make bench`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.embedded.support.client import Client
from tests.embedded.support.servers import Running, running

from dynamic_memory.embedded.apiserver import records
from dynamic_memory.embedded.apiserver.records import Record
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.watch import Selection

CLIENTS = 100
EACH = 100
MAPS = "/api/v1/configmaps"
SYSTEM = ("default", "kube-node-lease", "kube-public", "kube-system")
"""Namespaces with an object of their own, which come first."""
STORAGE = StorageKey("", "configmaps")


class Work:
    """How often objects were encoded, and how often one was compared with what somebody asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        encode, form, takes, counts = records.encode, Record.form, Selection.takes, self.counts

        def stored(obj):
            counts["encoded"] += 1
            return encode(obj)

        def counted(record, name, make):
            def made(obj):
                counts["encoded"] += 1
                return make(obj)

            return form(record, name, made)

        def compared(selection, record):
            counts["compared"] += 1
            return takes(selection, record)

        monkeypatch.setattr(records, "encode", stored)
        monkeypatch.setattr(Record, "form", counted)
        monkeypatch.setattr(Selection, "takes", compared)

    def done(self) -> tuple[int, int]:
        """Return how often objects were encoded and compared since the last time."""
        found = self.counts["encoded"], self.counts["compared"]
        self.counts.clear()
        return found


@pytest.fixture
async def large() -> AsyncIterator[tuple[Running, list[Client]]]:
    """A server with a hundred namespaces of a hundred objects, and a hundred clients with a connection each."""
    async with running() as server, contextlib.AsyncExitStack() as stack:
        store = server.server.core.store
        for number in range(CLIENTS * EACH):
            namespace, name = f"ns-{number % CLIENTS}", f"m-{number // CLIENTS}"
            metadata = {"namespace": namespace, "name": name, "uid": str(number), "labels": {"n": name}}
            obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": "v"}}
            await store.put(STORAGE, (namespace, name), obj, None)
        sessions = [aiohttp.ClientSession(server.server.url) for _ in range(CLIENTS)]
        clients = [Client(await stack.enter_async_context(session)) for session in sessions]
        yield server, clients


def maps(number: int) -> str:
    return f"/api/v1/namespaces/ns-{number}/configmaps"


async def test_A43_objects_were_encoded_when_they_were_written_however_many_read_them(large, monkeypatch) -> None:
    _, clients = large
    work = Work(monkeypatch)

    async def read(number: int) -> None:
        client = clients[number]
        listed = (await client.get(maps(number))).json["items"]
        assert len(listed) == EACH
        for name in range(5):
            assert (await client.get(f"{maps(number)}/m-{name}")).json == {
                "kind": "ConfigMap",
                "apiVersion": "v1",
                **listed[[item["metadata"]["name"] for item in listed].index(f"m-{name}")],
            }

    await asyncio.gather(*map(read, range(CLIENTS)))
    assert work.done() == (0, 0), "nobody encodes what was written, or looks at what is of others"
    selected = await asyncio.gather(*(client.get(maps(n), labelSelector="n=m-7") for n, client in enumerate(clients)))
    assert [len(answer.json["items"]) for answer in selected] == [1] * CLIENTS
    assert work.done() == (0, CLIENTS * EACH), "a selector looks at one namespace"
    pages = await asyncio.gather(*(client.get(MAPS, limit="10") for client in clients))
    assert {len(answer.json["items"]) for answer in pages} == {10}
    assert work.done() == (0, 0), "a page is its own objects"


async def test_A43_a_change_is_encoded_once_however_many_watch_it(large, monkeypatch) -> None:
    server, clients = large
    version = str(server.server.core.store.version)
    changes = 20
    async with contextlib.AsyncExitStack() as stack:
        everything = [await stack.enter_async_context(c.watch(MAPS, resourceVersion=version)) for c in clients]
        own = [
            await stack.enter_async_context(server.client.watch(maps(n), resourceVersion=version)) for n in range(50)
        ]
        work = Work(monkeypatch)
        async with aiohttp.ClientSession(server.server.url) as session:
            for number in range(changes):
                await Client(session).patch(f"{maps(number)}/m-1", {"data": {"k": str(number)}})
        for watch in everything:
            await watch.count(changes)
        for number, watch in enumerate(own):
            assert await watch.count(number < changes) == [("MODIFIED", "m-1")] * (number < changes)
        assert work.done() == (2 * changes, 0), "the object and its event, for all; namespaces need no comparison"
    assert [obj["data"]["k"] for _, obj in everything[0].seen] == [str(number) for number in range(changes)]
