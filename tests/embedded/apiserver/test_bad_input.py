# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent: the right Status, nothing stored, and a server that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.embedded.support.client import APPLY, JSON_PATCH, MERGE, STRATEGIC, Client
from tests.embedded.support.servers import Running

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
PROTOBUF = "application/vnd.kubernetes.protobuf"
DEEP = 10_000


@pytest.fixture
async def client(running_server: Running) -> AsyncIterator[Client]:
    """A client; after each test its server answers as before, and has nothing new."""
    found = running_server.client
    await found.create(MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    await running_server.server.background.idle()
    before = (await found.get("/api/v1/configmaps")).json
    yield found
    assert (await found.get("/healthz")).code == 200
    assert (await found.get("/api/v1/configmaps")).json == before


BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "application/json"),
    "cut": (b'{"metadata": {"name": "x"', "application/json"),
    "text": (b"hello", "application/json"),
    "list": (b"[]", "application/json"),
    "number": (b"7", "application/json"),
    "null": (b"null", "application/json"),
    "not UTF-8": (b'{"metadata": {"name": "\xff\xfe"}}', "application/json"),
    "two documents": (b"{}{}", "application/json"),
    "NaN": (b'{"metadata": {"name": "x"}, "data": {"a": NaN}}', "application/json"),
    "metadata is a text": (b'{"metadata": "x"}', "application/json"),
    "name is a number": (b'{"metadata": {"name": 1}}', "application/json"),
    "name is an object": (b'{"metadata": {"name": {"a": 1}}}', "application/json"),
    "labels are a list": (b'{"metadata": {"name": "x", "labels": []}}', "application/json"),
    "a label is a number": (b'{"metadata": {"name": "x", "labels": {"a": 1}}}', "application/json"),
    "finalizers are an object": (b'{"metadata": {"name": "x", "finalizers": {}}}', "application/json"),
    "owners are texts": (b'{"metadata": {"name": "x", "ownerReferences": ["a"]}}', "application/json"),
    "data is a list": (b'{"metadata": {"name": "x"}, "data": []}', "application/json"),
    "10,000 arrays": (b'{"metadata": {"name": "x"}, "data": ' + b"[" * DEEP + b"]" * DEEP + b"}", "application/json"),
    "10,000 objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "application/json"),
    "10,000 arrays in YAML": (b"a: " + b"[" * DEEP + b"]" * DEEP, "application/yaml"),
    "YAML with tabs": (b"metadata:\n\tname: x\n", "application/yaml"),
    "YAML with an object of Python": (b"!!python/object/apply:os.system ['true']", "application/yaml"),
    "YAML in several documents": (b"metadata: {name: x}\n---\nmetadata: {name: y}\n", "application/yaml"),
    "YAML with a cycle": (b"&a [*a]", "application/yaml"),
    "YAML that multiplies": (
        b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)),
        "application/yaml",
    ),
    "one YAML array that does not end": (b"a: " + b"[" * 3 * DEEP, "application/yaml"),
    "YAML blocks": (b"- " * 3 * DEEP, "application/yaml"),
    "YAML merges that multiply": (
        b"a0: &a0 {k: v}\n"
        + b"".join(b"a%d: &a%d {<<: [%s]}\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)),
        "application/yaml",
    ),
    "texts that do not end": (b"[" * 201 + b'"\\' * 200_000, "application/json"),
    "protobuf that is none": (b"hello", PROTOBUF),
    "protobuf that is cut": (b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Config", PROTOBUF),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_no_object_is_a_bad_request(client: Client, name: str) -> None:
    body, media = BODIES[name]
    answer = await client.send("POST", MAPS, body, media=media)
    assert answer.json["kind"] == "Status"
    assert (answer.code, answer.json["reason"]) == (400, "BadRequest"), answer


@pytest.mark.parametrize("media", ["application/xml", "text/plain", "application/cbor", "multipart/form-data"])
async def test_a_format_that_is_not_known_is_415(client: Client, media: str) -> None:
    for method, path in (("POST", MAPS), ("PUT", f"{MAPS}/a"), ("PATCH", f"{MAPS}/a")):
        answer = await client.send(method, path, b"{}", media=media)
        assert (answer.code, answer.json["reason"]) == (415, "UnsupportedMediaType")


@pytest.mark.parametrize(
    ("media", "body"),
    [
        (MERGE, b"[]"),
        (MERGE, b"{"),
        (MERGE, b"{" * DEEP),
        (MERGE, b'{"metadata": null}'),
        (MERGE, b'{"metadata": {"name": null, "labels": 5}}'),
        (MERGE, b'{"data": {"k": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}}"),
        (JSON_PATCH, b"{}"),
        (JSON_PATCH, b"[1]"),
        (JSON_PATCH, b'[{"op": "explode", "path": "/data"}]'),
        (JSON_PATCH, b'[{"op": "remove", "path": "/nosuch/path"}]'),
        (JSON_PATCH, b'[{"op": "replace", "path": "", "value": 1}]'),
        (JSON_PATCH, b'[{"op": "remove", "path": "/metadata"}]'),
        (JSON_PATCH, b'[{"op": "test", "path": "/data/k", "value": "w"}]'),
        (STRATEGIC, b'"x"'),
        (STRATEGIC, b'{"metadata": {"$patch": "explode"}}'),
        (STRATEGIC, b'{"metadata": {"ownerReferences": [{"uid": {"a": 1}}]}}'),
        (STRATEGIC, b'{"metadata": {"ownerReferences": [{"uid": [1]}, {"uid": [1]}]}}'),
        (APPLY, b"- a"),
        (APPLY, b"{}"),
        (APPLY, b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, managedFields: [{}]}"),
        (APPLY, b"apiVersion: v1\nkind: ConfigMap\nmetadata: [a]"),
        (APPLY, b"apiVersion: v1\nkind: ConfigMap\ndata: {k: [1]}"),
    ],
)
async def test_a_patch_that_is_none_changes_nothing(client: Client, media: str, body: bytes) -> None:
    answer = await client.send("PATCH", f"{MAPS}/a", body, media=media, fieldManager="m")
    assert answer.json["kind"] == "Status"
    # the real server has 500 for some of these too, but its own faults are named
    assert 400 <= answer.code < 500 or (media in {APPLY, STRATEGIC} and answer.code == 500), answer
    assert "Traceback" not in answer.text
    assert "Internal error" not in answer.text


async def test_an_apply_needs_a_manager(client: Client) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}"
    answer = await client.send("PATCH", f"{MAPS}/a", body, media=APPLY)
    assert (answer.code, answer.json["details"]["causes"][0]["field"]) == (422, "fieldManager")


async def test_huge_bodies_are_413_before_they_are_read(client: Client) -> None:
    large = b" " * (3 << 20) + b"{}"
    answer = await client.send("POST", MAPS, large)
    assert (answer.code, answer.json["reason"]) == (413, "RequestEntityTooLarge")

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * (1 << 20)

    async def drip_in() -> int:
        async with client.session.post(MAPS, data=drip(), headers={"Content-Type": "application/json"}) as sent:
            return sent.status

    assert await drip_in() == 413
    bomb = gzip.compress(b" " * (64 << 20))
    answer = await client.send("POST", MAPS, bomb, headers={"Content-Encoding": "gzip"})
    assert answer.code == 413
    answer = await client.send("POST", MAPS, b"no gzip", headers={"Content-Encoding": "gzip"})
    assert answer.code == 400


async def test_a_compressed_body_that_is_cut_is_no_body(client: Client) -> None:
    whole = gzip.compress(json.dumps({"metadata": {"name": "cut"}}).encode())
    answer = await client.send("POST", MAPS, whole[:-8], headers={"Content-Encoding": "gzip"})
    assert (answer.code, answer.json["reason"]) == (400, "BadRequest"), answer


async def test_aliases_and_merges_of_an_ordinary_size_are_read(running_server: Running) -> None:
    body = b"base: &b {k: v, l: w}\nmetadata: {name: m}\ndata: {<<: *b, l: x}\n"
    answer = await running_server.client.send("POST", MAPS, body, media="application/yaml")
    assert (answer.code, answer.json["data"]) == (201, {"k": "v", "l": "x"}), answer


async def test_a_user_agent_that_is_no_text_is_written_as_one(running_server: Running) -> None:
    host, _, port = running_server.server.address.rpartition(":")
    for name, agent in (("l", b"caf\xe9/1"), ("u", "café/1".encode())):
        body = json.dumps({"metadata": {"name": name}, "data": {"k": "v"}}).encode()
        head = f"POST {MAPS} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nUser-Agent: ".encode()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + agent + b"\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body)
        assert (await reader.read()).startswith(b"HTTP/1.1 201")
        writer.close()
    items = {
        item["metadata"]["name"]: item["metadata"] for item in (await running_server.client.get(MAPS)).json["items"]
    }
    assert items["l"]["managedFields"][0]["manager"] == "caf\ufffd"
    assert items["u"]["managedFields"][0]["manager"] == "café"
    answer = await running_server.client.create(MAPS, {"metadata": {"name": "next"}})
    assert answer.code == 201


async def test_a_compressed_body_is_read(running_server: Running) -> None:
    body = gzip.compress(json.dumps({"metadata": {"name": "z"}}).encode())
    answer = await running_server.client.send("POST", MAPS, body, headers={"Content-Encoding": "gzip"})
    assert answer.code == 201


@pytest.mark.parametrize(
    "name", ["", ".", "..", "A", "-a", "a-", "a/b", "a b", "ä", "a" * 254, "a%00b", "a\nb", "$(reboot)", "a_b"]
)
async def test_names_that_are_none_are_invalid(client: Client, name: str) -> None:
    answer = await client.create(MAPS, {"metadata": {"name": name}})
    assert (answer.code, answer.json["reason"]) == (422, "Invalid"), answer
    assert answer.json["details"]["causes"][0]["field"] == "metadata.name"


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/v1/",
        "/api/v2/pods",
        "/apis/apps/v1/namespaces//deployments",
        "/api/v1/namespaces/default/configmaps/a/b/c/d",
        "/api/v1/namespaces/default/configmaps/%2e%2e%2f",
        "/api/v1/namespaces/default/nosuch",
        "/apis//v1/x",
        "/apis/x.example.com/v1/x",
        "/api/v1/namespaces/default/configmaps/" + "a" * 5000,
        "//",
        "/api/v1/namespaces/%00/configmaps/%ff",
    ],
)
async def test_any_path_is_answered(client: Client, path: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        async with client.session.request(method, path, data=b"{}") as answer:
            assert answer.status < 500, (method, path, await answer.text())


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "-1"},
        {"limit": "99999999999999999999999999"},
        {"timeoutSeconds": "x", "watch": "1"},
        {"resourceVersion": "-5"},
        {"resourceVersion": "9" * 400},
        {"continue": "e30"},
        {"continue": "eyJydiI6MX0"},
        {"continue": "ä"},
        {"labelSelector": "(" * 1000},
        {"labelSelector": "a" * 100_0},
        {"fieldSelector": "\\"},
        {"fieldSelector": "=,=,="},
        {"pretty": "x"},
        {"watch": "maybe", "timeoutSeconds": "1"},
    ],
)
async def test_any_query_is_answered(client: Client, query: dict[str, str]) -> None:
    answer = await client.get(MAPS, **query)
    assert answer.code < 500 or answer.code == 504, answer


async def test_garbage_instead_of_http_ends_only_its_own_connection(client: Client, running_server: Running) -> None:
    host, _, port = running_server.server.address.rpartition(":")

    async def send(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        answer = b""
        with contextlib.suppress(ConnectionError):  # it need not have read all of it when it hangs up
            writer.write_eof()
            answer = await reader.read()
        writer.close()
        return answer

    for data in (b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"A" * 100_000):
        answer = await send(data)
        assert not answer or b"400" in answer.split(b"\r\n")[0]
    cut = b"POST " + MAPS.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    assert b"201" not in await send(cut)


async def test_objects_with_hostile_values_are_refused_by_their_kind(client: Client) -> None:
    huge = "9" * 5000
    bodies: list[Any] = [
        {"spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"memory": huge + "Ei!"}}}]}},
        {"spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"memory": {}}}}]}},
        {"spec": {"containers": {}}},
        {"spec": []},
        {"spec": {"containers": [None, 5]}},
        {"spec": {"containers": [], "terminationGracePeriodSeconds": 1e300}},
        {"status": [], "spec": None},
    ]
    for body in bodies:
        answer = await client.create(PODS, {"metadata": {"name": "p"}, **body})
        assert answer.code in {400, 422}, answer
    for options in ({"gracePeriodSeconds": "x"}, {"preconditions": 5, "dryRun": ["All"]}, {"dryRun": "All"}, [], 5):
        answer = await client.send("DELETE", f"{MAPS}/a", options, dryRun="All")
        assert answer.code in {200, 400, 422}, answer


@pytest.mark.parametrize("name", ["a\x7fb", "a\nb", "a\r\nX: y", "\x00", "é", "\x91", "\U0001f600", '"\\'], ids=repr)
async def test_an_unknown_field_of_any_name_is_warned_of(client: Client, name: str) -> None:
    body = {"metadata": {"name": "w"}, name: "x"}
    answer = await client.create(MAPS, body, dryRun="All", fieldValidation="Warn")
    assert answer.code == 201
    (warning,) = answer.headers.getall("Warning")
    assert warning.startswith('299 - "unknown field')
    assert "X" not in answer.headers


WRONG: list[Any] = [{}, {"a": 1}, ["a"], 1, True]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
async def test_what_is_said_of_an_action_has_types_too(running_server: Running, wrong: Any) -> None:
    client = running_server.client
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": template["spec"]})
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await client.create(deployments, {"metadata": {"name": "d"}, "spec": spec})
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    accounts = "/api/v1/namespaces/default/serviceaccounts/default/token"
    options = ("kind", "apiVersion", "propagationPolicy", "gracePeriodSeconds", "orphanDependents", "preconditions")
    sent: list[tuple[str, str, Any]] = [("DELETE", f"{PODS}/p?dryRun=All", {field: wrong}) for field in options]
    sent += [
        ("DELETE", f"{PODS}/p?dryRun=All", {"preconditions": {field: wrong}}) for field in ("uid", "resourceVersion")
    ]
    named = {"metadata": {"name": "p"}}
    bodies = [{**named, field: wrong} for field in ("kind", "apiVersion", "spec", "status", "target", "deleteOptions")]
    bodies += [{"metadata": wrong}, {"metadata": {"name": wrong}}, {"metadata": {"name": "p", "labels": wrong}}]
    bodies += [{**named, "target": {"kind": wrong, "name": "n"}}, {**named, "target": {"name": wrong}}]
    bodies += [{**named, "spec": {"replicas": wrong, "audiences": wrong}}]
    bodies += [{**named, "deleteOptions": {field: wrong}} for field in options]
    for method, path in (
        ("PUT", f"{deployments}/d/scale"),
        ("PATCH", f"{deployments}/d/scale"),
        ("POST", f"{PODS}/p/binding"),
        ("POST", accounts),
        ("POST", reviews),
        ("PUT", f"{deployments}/d"),
        ("PUT", f"{PODS}/p/status"),
        ("PUT", f"{PODS}/p/resize"),
        ("POST", f"{PODS}/p/eviction"),
    ):
        sent += [(method, path, body) for body in bodies]
    for method, path, body in sent:
        media = MERGE if method == "PATCH" else "application/json"
        data = json.dumps(body)
        async with client.session.request(method, path, data=data, headers={"Content-Type": media}) as answer:
            text = await answer.text()
        assert answer.status < 500, (method, path, body, text)


async def test_a_client_that_waits_for_100_continue_gets_it(running_server: Running) -> None:
    host, _, port = running_server.server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({"metadata": {"name": "e"}}).encode()
    head = f"POST {MAPS} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201")
    writer.close()


@pytest.mark.parametrize(
    ("action", "body", "why"),
    [
        ("eviction", {"metadata": 5}, "number into Go struct field Eviction.metadata of type v1.ObjectMeta"),
        (
            "eviction",
            {"deleteOptions": []},
            "array into Go struct field Eviction.deleteOptions of type v1.DeleteOptions",
        ),
        ("binding", {"target": "x"}, "string into Go struct field Binding.target of type v1.ObjectReference"),
        ("binding", {"metadata": "x"}, "string into Go struct field Binding.metadata of type v1.ObjectMeta"),
    ],
)
async def test_actions_of_the_wrong_type_are_refused_in_the_words_of_go(
    running_server: Running, action: str, body: Any, why: str
) -> None:
    client = running_server.client
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    answer = await client.create(f"{PODS}/p/{action}", body)
    kind = action.title()
    text = f'{kind} in version "v1" cannot be handled as a {kind}: json: cannot unmarshal {why}'
    assert (answer.code, answer.json["message"]) == (400, text)
