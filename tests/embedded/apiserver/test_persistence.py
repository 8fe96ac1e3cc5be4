# SPDX-License-Identifier: Apache-2.0
"""What a restart keeps: row A44, and kill -9 in the middle of ten thousand writes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.embedded.support.client import Client
from tests.embedded.support.processes import server_process
from tests.embedded.support.servers import running

from dynamic_memory.embedded.apiserver.persistence import BATCH, SqliteJournal, load
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.store import Store
from dynamic_memory.errors import InvalidInput

MAPS = "/api/v1/namespaces/default/configmaps"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KIND = StorageKey("", "configmaps")
WRITERS = 32


async def everything(client: Client) -> dict[str, Any]:
    found = {}
    for path in ("/api/v1/configmaps", "/api/v1/namespaces", "/api/v1/serviceaccounts", "/api/v1/services", CRDS):
        found[path] = (await client.get(path)).json
    return found


async def test_A44_a_data_folder_keeps_objects_and_version(tmp_path: Path) -> None:
    definition = {
        "metadata": {"name": "things.x.example.com"},
        "spec": {
            "group": "x.example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    things = "/apis/x.example.com/v1/namespaces/default/things"
    async with running(data_dir=tmp_path / "data") as first:
        assert (await first.client.create(CRDS, definition)).code == 201
        thing = {"apiVersion": "x.example.com/v1", "kind": "Thing", "metadata": {"name": "t"}}
        assert (await first.client.create(things, thing)).code == 201
        await first.client.create(MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}})
        await first.client.create(MAPS, {"metadata": {"name": "b"}})
        await first.client.delete(f"{MAPS}/b")
        await first.server.background.idle()
        before = await everything(first.client)
    async with running(data_dir=tmp_path / "data") as second:
        assert await everything(second.client) == before
        assert (await second.client.get(f"{things}/t")).code == 200, "custom kinds are served at once"
        version = (await second.client.get(MAPS)).json["metadata"]["resourceVersion"]
        async with second.client.watch(MAPS, resourceVersion=version) as seen:
            made = await second.client.create(MAPS, {"metadata": {"name": "c"}})
            assert made.version == int(version) + 1
            assert await seen.count(1) == [("ADDED", "c")]
        async with second.client.watch(MAPS, resourceVersion=str(int(version) - 1)) as seen:
            assert [kind for kind, _ in await seen.end()] == ["ERROR"], "history is not kept"


@pytest.mark.parametrize("last", ["put", "delete"])
async def test_A44_changes_that_are_written_together_are_kept_in_their_order(tmp_path: Path, last: str) -> None:
    base, records, version = load(tmp_path)
    store = Store(records, version)
    store.journal = SqliteJournal(base, store.committed, store.failed)

    def config(name: str, value: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "data": {"k": value}}

    async def change(name: str, value: str) -> None:
        await store.put(KIND, ("d", name), config(name, value), store.head(KIND, ("d", name)))

    async def remove(name: str) -> None:
        found = store.head(KIND, ("d", name))
        assert found is not None
        await store.remove(found)

    writes = [change(f"x{number}", "new") for number in range(BATCH + 10)]
    writes += [change("a", "1"), change("a", "2"), change("b", "1"), remove("b"), change("b", "2"), change("c", "1")]
    if last == "delete":
        writes += [remove("c")]
    await asyncio.gather(*writes)
    before = store.version
    await store.close()
    base, records, version = load(tmp_path)
    base.close()
    assert version == before == 1 + len(writes)
    found = {record.key[1]: record.object["data"]["k"] for record in records}
    assert (found["a"], found["b"], found.get("c")) == ("2", "2", "1" if last == "put" else None)
    assert sum(name.startswith("x") for name in found) == BATCH + 10


async def test_A44_garbage_is_still_collected_after_a_restart(tmp_path: Path) -> None:
    async with running(data_dir=tmp_path) as first:
        parent = (await first.client.create(MAPS, {"metadata": {"name": "p"}})).json["metadata"]
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "p", "uid": parent["uid"]}
        await first.client.create(MAPS, {"metadata": {"name": "c", "ownerReferences": [owner]}})
        namespace = {"metadata": {"name": "n", "finalizers": ["x.example.com/hold"]}}
        await first.client.create("/api/v1/namespaces", namespace)
        await first.client.delete("/api/v1/namespaces/n")
    async with running(data_dir=tmp_path) as second:
        await second.client.delete(f"{MAPS}/p")
        await second.client.eventually(f"{MAPS}/c", lambda answer: answer.code == 404)
        await second.client.patch("/api/v1/namespaces/n", {"metadata": {"finalizers": None}})
        await second.client.eventually("/api/v1/namespaces/n", lambda answer: answer.code == 404)


async def test_A44_without_a_folder_nothing_is_kept() -> None:
    async with running() as first:
        await first.client.create(MAPS, {"metadata": {"name": "a"}})
    async with running() as second:
        assert (await second.client.get(f"{MAPS}/a")).code == 404


async def test_a_folder_is_used_by_one_server_and_must_be_one_of_ours(tmp_path: Path) -> None:
    async with running(data_dir=tmp_path):
        with pytest.raises(InvalidInput, match="data-dir"):
            async with running(data_dir=tmp_path):
                pass
    (tmp_path / "apiserver.db").write_bytes(b"not a database" * 100)
    with pytest.raises(InvalidInput, match="data-dir"):
        async with running(data_dir=tmp_path):
            pass


async def test_a_disk_that_fails_stops_writes_and_shows_nothing_that_is_not_on_it(tmp_path: Path, monkeypatch) -> None:
    async with running(data_dir=tmp_path) as server:
        client, journal = server.client, server.server.core.store.journal
        await client.create(MAPS, {"metadata": {"name": "a"}})

        def full(_events: Any) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(journal, "_commit", full)
        for name in ("b", "c"):
            answer = await client.create(MAPS, {"metadata": {"name": name}})
            assert (answer.code, answer.json["reason"]) == (500, "InternalError")
            assert "database or disk is full" in answer.json["message"]
        assert (await client.get(f"{MAPS}/b")).code == 404
        assert (await client.get(f"{MAPS}/a")).code == 200
        for probe in ("healthz", "livez", "readyz"):
            answer = await client.get(f"/{probe}")
            assert (answer.code, "database or disk is full" in answer.text) == (500, True)


async def test_the_files_are_for_their_owner_alone_in_any_folder(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    async with running(data_dir=folder) as server:
        await server.client.create(MAPS, {"metadata": {"name": "a"}})
        modes = {file.name: file.stat().st_mode & 0o777 for file in folder.glob("apiserver.db*")}
    assert modes.pop("apiserver.db") == 0o600
    assert set(modes.values()) <= {0o600}


class Writer:
    """Writes objects of its own, and remembers what was acknowledged and what may or may not have happened."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.known: dict[str, str | None] = {}
        """Value by name, as acknowledged last; None = deleted."""
        self.open: tuple[str, str | None] | None = None
        """The write that was under way."""

    async def run(self, client: Client, left: itertools.count[int], stop: int, shuffled: random.Random) -> None:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while next(left) < stop:
                await self._write(client, shuffled)

    async def _write(self, client: Client, shuffled: random.Random) -> None:
        name = f"w{self.number}-{shuffled.randrange(40)}"
        value: str | None = str(shuffled.random())
        before = self.known.get(name)
        if before is not None and shuffled.random() < 0.2:
            value = None
        self.open = name, value
        if value is None:
            answer = await client.delete(f"{MAPS}/{name}")
        elif before is None:
            answer = await client.create(MAPS, {"metadata": {"name": name}, "data": {"v": value}})
        else:
            answer = await client.patch(f"{MAPS}/{name}", {"data": {"v": value}})
        assert answer.code in {200, 201}, answer
        self.known[name] = value
        self.open = None


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("lives", "stop"), [(5, 2000), pytest.param(50, 10_000, marks=pytest.mark.long)])
async def test_kill_9_in_the_middle_of_writes_loses_nothing_that_was_acknowledged(
    tmp_path: Path, lives: int, stop: int
) -> None:
    """Ten thousand writes on one folder; watchers see versions that only grow, across all lives of the server."""
    shuffled = random.Random(44)
    writers = [Writer(number) for number in range(WRITERS)]
    seen_last = 0
    for life in range(lives):
        async with server_process("--port", "0", "--data-dir", str(tmp_path)) as (server, client):
            listed = (await client.get(MAPS)).json
            there = {
                item["metadata"]["name"]: item["data"]["v"]
                for item in listed["items"]
                if item["metadata"]["name"].startswith("w")
            }
            for writer in writers:
                settle(writer, there)
            expected = {n: v for writer in writers for n, v in writer.known.items() if v is not None}
            assert there == expected, f"life {life}"
            version = int(listed["metadata"]["resourceVersion"])
            assert version >= seen_last, "a watcher had seen more"
            writes = itertools.count()
            async with client.watch(MAPS, resourceVersion=str(version)) as seen:
                tasks = [asyncio.create_task(writer.run(client, writes, stop, shuffled)) for writer in writers]
                await seen.count(shuffled.randrange(500, stop - 200))
                await server.kill()
                await asyncio.gather(*tasks)
                await seen.end()
                versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in seen.seen]
            assert versions == sorted(set(versions))
            assert versions[0] > version
            seen_last = versions[-1]


def settle(writer: Writer, there: dict[str, str]) -> None:
    """Decide from what is there whether the write under way happened; either is right."""
    if writer.open is not None:
        name, value = writer.open
        if there.get(name) == value:
            writer.known[name] = value
        writer.open = None


async def test_A01_the_log_says_where_it_listens_and_that_is_loopback(tmp_path: Path) -> None:
    from dynamic_memory.embedded.apiserver.server import PORT, Options

    assert (Options().bind, Options().port, PORT) == ("127.0.0.1", 55441, 55441)
    arguments = ["--port", "0", "--test-clock", "2022-01-01T00:00:00Z", "--kubeconfig", str(tmp_path / "kubeconfig")]
    async with server_process(*arguments) as (server, client):
        assert any(line.rstrip().endswith(f"addr = {server.address}") for line in server.lines)
        assert server.address.startswith("127.0.0.1:")
        assert f"server: http://{server.address}" in (tmp_path / "kubeconfig").read_text()
        namespace = (await client.get("/api/v1/namespaces/default")).json
        assert namespace["metadata"]["creationTimestamp"].startswith("2022-01-01T00:0")
        one = (await client.create(MAPS, {"metadata": {"name": "a"}})).json["metadata"]["creationTimestamp"]
        two = (await client.create(MAPS, {"metadata": {"name": "b"}})).json["metadata"]["creationTimestamp"]
        assert int(two[17:19]) == int(one[17:19]) + 1
        assert json.loads((await client.get("/version")).text)["major"] == "1"


async def test_A01_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    async with running() as server:
        port = server.server.address.rpartition(":")[2]
        with pytest.raises(InvalidInput, match="--port"):
            async with running(port=int(port)):
                pass
