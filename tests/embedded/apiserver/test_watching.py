# SPDX-License-Identifier: Apache-2.0
"""Watches over HTTP: rows A16 to A18, and clients that do not keep up."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.embedded.support.client import TABLE, Client
from tests.embedded.support.servers import Running, running

from dynamic_memory.embedded.apiserver import watch

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MARK = "k8s.io/initial-events-end"
LIST = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


async def test_A16_a_watch_after_a_list_has_each_change_once(client: Client) -> None:
    await client.create(MAPS, {"metadata": {"name": "a"}})
    version = str((await client.get(MAPS)).version)
    async with client.watch(MAPS, resourceVersion=version) as seen:
        await client.create(MAPS, {"metadata": {"name": "b"}})
        await client.patch(f"{MAPS}/a", {"data": {"k": "v"}})
        await client.delete(f"{MAPS}/b")
        assert await seen.count(3) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
        versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in seen.seen]
        assert versions == sorted(versions)
        assert seen.seen[1][1]["data"] == {"k": "v"}


async def test_A16_what_leaves_a_selector_is_deleted_and_what_enters_is_added(client: Client) -> None:
    await client.create(MAPS, {"metadata": {"name": "a", "labels": {"l": "1"}}})
    version = str((await client.get(MAPS)).version)
    async with client.watch(MAPS, resourceVersion=version, labelSelector="l=1") as seen:
        await client.create(MAPS, {"metadata": {"name": "other"}})
        await client.patch(f"{MAPS}/a", {"metadata": {"labels": {"l": "2"}}})
        await client.patch(f"{MAPS}/a", {"data": {"unseen": "1"}})
        back = await client.patch(f"{MAPS}/a", {"metadata": {"labels": {"l": "1"}}})
        await client.delete(f"{MAPS}/a")
        assert await seen.count(3) == [("DELETED", "a"), ("ADDED", "a"), ("DELETED", "a")]
        gone = seen.seen[0][1]
        assert gone["metadata"]["labels"] == {"l": "1"}, "as it was before, with the version of the change"
        assert int(version) < int(gone["metadata"]["resourceVersion"]) < back.version


async def test_A16_field_selectors_follow_an_object(client: Client) -> None:
    pod = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
    async with (
        client.watch(PODS, fieldSelector="spec.nodeName=n") as node,
        client.watch(PODS, fieldSelector="spec.nodeName=") as unbound,
        client.watch("/api/v1/watch/namespaces/default/pods/a") as one,
    ):
        for name in ("a", "b"):
            await client.create(PODS, {"metadata": {"name": name}, **pod})
        await client.create(f"{PODS}/a/binding", {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}})
        assert await node.count(1) == [("ADDED", "a")]
        assert await unbound.count(3) == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]
        assert await one.count(2) == [("ADDED", "a"), ("MODIFIED", "a")]


async def test_A16_without_a_version_a_watch_begins_with_what_there_is(client: Client) -> None:
    for name in ("a", "b"):
        await client.create(MAPS, {"metadata": {"name": name}})
    for query in ({}, {"resourceVersion": "0"}):
        async with client.watch(MAPS, fieldSelector="metadata.name!=kube-root-ca.crt", **query) as seen:
            assert await seen.count(2) == [("ADDED", "a"), ("ADDED", "b")]


async def test_A16_a_watch_can_carry_tables(client: Client) -> None:
    await client.create(MAPS, {"metadata": {"name": "a"}, "data": {"x": "1"}})
    version = str((await client.get(MAPS)).version)
    async with client.watch(MAPS, resourceVersion=version, accept=TABLE) as seen:
        await client.patch(f"{MAPS}/a", {"data": {"y": "1"}})
        await client.delete(f"{MAPS}/a")
        await seen.until(lambda events: len(events) == 2)
        assert [kind for kind, _ in seen.seen] == ["MODIFIED", "DELETED"]
        first, second = (table for _, table in seen.seen)
        assert first["kind"] == second["kind"] == "Table"
        assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Data", "Age"]
        assert first["rows"][0]["cells"][:2] == ["a", 2]
        assert first["rows"][0]["object"]["metadata"]["name"] == "a"


async def test_A17_an_old_version_is_replayed_and_a_compacted_one_is_gone(
    client: Client, running_server: Running
) -> None:
    start = (await client.create(MAPS, {"metadata": {"name": "a"}})).version
    for number in range(3):
        await client.patch(f"{MAPS}/a", {"data": {"k": str(number)}})
    async with client.watch(MAPS, resourceVersion=str(start)) as seen:
        await seen.count(3)
        assert [obj["data"]["k"] for _, obj in seen.seen] == ["0", "1", "2"]
        await client.patch(f"{MAPS}/a", {"data": {"k": "3"}})
        await seen.count(4)
    running_server.server.core.store.compact()
    async with client.watch(MAPS, resourceVersion=str(start)) as seen:
        events = await seen.end()
        assert [kind for kind, _ in events] == ["ERROR"]
        assert (events[0][1]["code"], events[0][1]["reason"]) == (410, "Expired")
        assert events[0][1]["message"].startswith(f"too old resource version: {start} (")
    now = str((await client.get(MAPS)).version)
    async with client.watch(MAPS, resourceVersion=now) as seen:
        await client.patch(f"{MAPS}/a", {"data": {"k": "4"}})
        assert await seen.count(1) == [("MODIFIED", "a")]


async def test_A17_a_ring_forgets_its_oldest_changes(client: Client, running_server: Running, monkeypatch) -> None:
    store = running_server.server.core.store
    made = await client.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    monkeypatch.setattr(store._of(("", "pods")), "history", 2)
    for number in range(3):
        changed = await client.patch(f"{PODS}/p", {"metadata": {"labels": {"n": str(number)}}})
    async with client.watch(PODS, resourceVersion=str(made.version)) as seen:
        assert [kind for kind, _ in await seen.end()] == ["ERROR"]
    async with client.watch(PODS, resourceVersion=str(changed.version - 1)) as seen:
        assert await seen.count(1) == [("MODIFIED", "p")]


async def test_A18_bookmarks_tell_how_far_a_watch_is() -> None:
    async with running(bookmark_seconds=0.05) as server:
        client = server.client
        version = str((await client.get(MAPS)).version)
        async with (
            client.watch(MAPS, resourceVersion=version, allowWatchBookmarks="true") as marked,
            client.watch(MAPS, resourceVersion=version) as plain,
        ):
            other = await client.create("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
            await marked.until(
                lambda seen: any(int(obj["metadata"]["resourceVersion"]) >= other.version for _, obj in seen)
            )
            kind, mark = marked.seen[-1]
            assert kind == "BOOKMARK"
            assert (mark["kind"], mark["apiVersion"]) == ("ConfigMap", "v1")
            assert plain.seen == []


def test_A18_bookmarks_come_within_a_minute() -> None:
    from dynamic_memory.embedded.apiserver.server import Options

    assert Options().bookmark_seconds <= 60


async def test_A18_a_list_can_come_as_a_watch(client: Client) -> None:
    for name in ("a", "b"):
        await client.create(MAPS, {"metadata": {"name": name}})
    version = (await client.get(MAPS)).version
    async with client.watch(MAPS, fieldSelector="metadata.name!=kube-root-ca.crt", **LIST) as seen:
        await seen.until(lambda events: any(kind == "BOOKMARK" for kind, _ in events))
        assert seen.names == [("ADDED", "a"), ("ADDED", "b"), ("BOOKMARK", "")]
        mark = seen.seen[-1][1]["metadata"]
        assert mark["annotations"] == {MARK: "true"}
        assert int(mark["resourceVersion"]) == version
        await client.delete(f"{MAPS}/a")
        assert (await seen.count(4))[-1] == ("DELETED", "a")


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}], ids=["no version", "version 0"])
async def test_A18_without_a_list_and_a_version_a_watch_begins_now(client: Client, query: dict[str, str]) -> None:
    await client.create(MAPS, {"metadata": {"name": "a"}})
    from_now = {"sendInitialEvents": "false", "resourceVersionMatch": "NotOlderThan"}
    async with client.watch(MAPS, **from_now, **query) as seen:
        await client.create(MAPS, {"metadata": {"name": "b"}})
        assert await seen.count(1) == [("ADDED", "b")]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            {"sendInitialEvents": "true"},
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            {"sendInitialEvents": "true", "resourceVersionMatch": "Exact"},
            'Unsupported value: "Exact": supported values: "NotOlderThan"',
        ),
        (
            {"resourceVersionMatch": "NotOlderThan", "resourceVersion": "1"},
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
    ],
)
async def test_A18_a_bad_match_is_invalid(client: Client, query: dict[str, str], text: str) -> None:
    answer = await client.get(MAPS, watch="true", **query)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    assert text in answer.json["message"]


async def test_one_object_is_watched_by_the_older_path_alone(client: Client) -> None:
    await client.create(MAPS, {"metadata": {"name": "a"}})
    answer = await client.get(f"{MAPS}/a", watch="true")
    assert (answer.json["kind"], answer.json["metadata"]["name"]) == ("ConfigMap", "a")
    async with client.watch("/api/v1/watch/namespaces/default/configmaps/a") as seen:
        assert await seen.count(1) == [("ADDED", "a")]


async def test_a_watch_ends_after_its_timeout(client: Client) -> None:
    async with client.watch(MAPS, timeoutSeconds="1", resourceVersion=str((await client.get(MAPS)).version)) as seen:
        assert await seen.end() == []


async def test_a_slow_watcher_is_cut_off_and_holds_up_nobody(
    client: Client, running_server: Running, monkeypatch
) -> None:
    monkeypatch.setattr(watch, "QUEUE", 20)
    host, _, port = running_server.server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 10)
    writer.write(f"GET {MAPS}?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    big = {"data": {"k": "v" * 900_000}}
    async with client.watch(MAPS, fieldSelector="metadata.name=m", resourceVersion="0") as quick:
        for number in range(60):
            await client.put(f"{MAPS}/m", {"metadata": {"name": "m"}, **big}) if number else await client.create(
                MAPS, {"metadata": {"name": "m"}, **big}
            )
            big["data"]["n"] = str(number)
            await quick.count(number + 1)  # who reads keeps up, however busy the machine is
    collection = running_server.server.core.store._of(("", "configmaps"))
    async with asyncio.timeout(30):
        while collection.watchers._any:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.005)
    writer.close()


async def test_events_are_lines_of_json(client: Client) -> None:
    async with client.session.get(f"{MAPS}?watch=true") as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.headers["Content-Type"] == "application/json"
        line = await response.content.readline()
        assert json.loads(line)["type"] == "ADDED"


async def test_a_watch_ends_with_its_client(client: Client, running_server: Running) -> None:
    collection = running_server.server.core.store._of(("", "configmaps"))
    async with client.watch(MAPS, fieldSelector="metadata.name=never"):
        assert collection.watchers._buckets
    async with asyncio.timeout(30):
        while collection.watchers._buckets:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.005)


async def test_a_write_is_done_even_if_its_client_goes(running_server: Running, monkeypatch) -> None:
    core = running_server.server.core
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(_request: object) -> None:
        asked.set()
        await go.wait()

    monkeypatch.setattr(core.admission, "validate", slow)
    host, _, port = running_server.server.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    body = b'{"metadata":{"name":"w"}}'
    head = f"POST {MAPS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await asyncio.wait_for(asked.wait(), 30)
    writer.close()
    await writer.wait_closed()
    go.set()
    await running_server.client.eventually(f"{MAPS}/w", lambda answer: answer.code == 200)
