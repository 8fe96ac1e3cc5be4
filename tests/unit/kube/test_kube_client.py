# SPDX-License-Identifier: Apache-2.0
"""What goes over the wire, and what comes of each answer."""

from __future__ import annotations

import json

import httpx2
import msgspec
import pytest

from dynamic_memory.api.kinds import CONFIG_MAPS, LEASES, NODES, PODS, RESOURCE_CLAIMS, partial
from dynamic_memory.errors import Kind
from dynamic_memory.kube import errors
from dynamic_memory.kube.client import PAGE, Client
from dynamic_memory.kube.interface import Kube


def status(code, reason="", message="m", **details):
    body = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    return httpx2.Response(code, json=body)


class Server:
    """Answers requests from a list, and keeps them."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.client = Client(httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer), base_url="https://api"))

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)

    @property
    def lines(self) -> list[str]:
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]

    @property
    def body(self):
        return json.loads(self.requests[-1].content)


CLAIMS = "/apis/resource.k8s.io/v1"
NODE = {"metadata": {"name": "n", "resourceVersion": "5"}}


def test_the_client_is_a_kube():
    kube: Kube = Server().client
    assert all(callable(getattr(kube, name)) for name in vars(Kube) if not name.startswith("_"))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda c: c.get(NODES, "n"), "GET /api/v1/nodes/n"),
        (lambda c: c.get(PODS, "p", "ns"), "GET /api/v1/namespaces/ns/pods/p"),
        (lambda c: c.get(LEASES, "l", "ns"), "GET /apis/coordination.k8s.io/v1/namespaces/ns/leases/l"),
        (lambda c: c.create(NODES, NODE), "POST /api/v1/nodes?fieldValidation=Strict"),
        (
            lambda c: c.create(CONFIG_MAPS, NODE, namespace="ns", dry_run=True),
            "POST /api/v1/namespaces/ns/configmaps?fieldValidation=Strict&dryRun=All",
        ),
        (
            lambda c: c.apply(NODES, NODE, manager="m"),
            "PATCH /api/v1/nodes/n?fieldManager=m&fieldValidation=Strict&force=true",
        ),
        (
            lambda c: c.apply(
                RESOURCE_CLAIMS,
                {"metadata": {"name": "c", "namespace": "ns"}},
                manager="m",
                subresource="status",
                force=False,
            ),
            f"PATCH {CLAIMS}/namespaces/ns/resourceclaims/c/status?fieldManager=m&fieldValidation=Strict",
        ),
        (
            lambda c: c.patch(NODES, "n", {}, subresource="status", manager="m"),
            "PATCH /api/v1/nodes/n/status?fieldValidation=Strict&fieldManager=m",
        ),
        (lambda c: c.replace(NODES, "n", NODE, subresource="x"), "PUT /api/v1/nodes/n/x?fieldValidation=Strict"),
        (lambda c: c.delete(PODS, "p", "ns"), "DELETE /api/v1/namespaces/ns/pods/p"),
    ],
)
async def test_requests(call, line):
    server = Server(NODE)
    await call(server.client)
    assert server.lines == [line]


@pytest.mark.parametrize(
    ("style", "body", "type_"),
    [
        ("merge", {"a": None}, "application/merge-patch+json"),
        ("json", [{"op": "remove", "path": "/a"}], "application/json-patch+json"),
        ("strategic", {"a": 1}, "application/strategic-merge-patch+json"),
    ],
)
async def test_patch_styles(style, body, type_):
    server = Server(NODE)
    await server.client.patch(NODES, "n", body, style=style)
    assert server.requests[0].headers["Content-Type"] == type_
    assert server.body == body


async def test_bodies_name_their_kind_and_preconditions():
    server = Server(NODE, NODE, {}, {})
    await server.client.create(NODES, NODE)
    assert server.body == {"apiVersion": "v1", "kind": "Node", **NODE}
    await server.client.apply(NODES, NODE, manager="m")
    assert server.requests[-1].headers["Content-Type"] == "application/apply-patch+yaml"
    assert server.body["kind"] == "Node"
    await server.client.delete(NODES, "n", uid="u", resource_version="7", grace_period=0)
    options = {"apiVersion": "v1", "kind": "DeleteOptions"}
    assert server.body == {
        **options,
        "preconditions": {"uid": "u", "resourceVersion": "7"},
        "gracePeriodSeconds": 0,
    }
    await server.client.delete(NODES, "n")
    assert server.body == options


async def test_a_list_is_put_together_from_its_pages():
    pages = [
        {"metadata": {"resourceVersion": "9", "continue": "tok"}, "items": [NODE]},
        {"metadata": {"resourceVersion": "9"}, "items": [NODE, NODE]},
    ]
    server = Server(*pages, {"metadata": {"resourceVersion": "1"}, "items": None})
    found = await server.client.list(NODES, labels="a=b", fields="spec.x=y")
    assert (len(found.items), found.resource_version) == (3, "9")
    first = f"GET /api/v1/nodes?labelSelector=a%3Db&fieldSelector=spec.x%3Dy&limit={PAGE}"
    assert server.lines == [first, f"{first}&continue=tok"]
    found = await server.client.list(NODES, consistent=False)
    assert found.items == []
    assert server.lines[-1] == "GET /api/v1/nodes?resourceVersion=0"


@pytest.mark.parametrize(
    ("answer", "error", "kind"),
    [
        (status(404, "NotFound"), errors.NotFound, Kind.NEVER),
        (status(409, "AlreadyExists"), errors.AlreadyExists, Kind.NEVER),
        (status(409, "Conflict"), errors.Conflict, Kind.RETRY),
        (status(410, "Expired"), errors.Gone, Kind.RETRY),
        (status(422, "Invalid"), errors.Invalid, Kind.NEVER),
        (status(403, "Forbidden"), errors.Forbidden, Kind.NEVER),
        (status(401, "Unauthorized"), errors.Unauthorized, Kind.RETRY),
        (status(400, "BadRequest"), errors.ApiError, Kind.NEVER),
        (status(429, "TooManyRequests"), errors.Unavailable, Kind.RETRY),
        (status(500, "InternalError"), errors.Unavailable, Kind.RETRY),
        (status(504, "Timeout", causes=[{"reason": "ResourceVersionTooLarge"}]), errors.Gone, Kind.RETRY),
        (status(504, "Timeout", causes=[{"reason": "Other"}, None]), errors.Unavailable, Kind.RETRY),
        (httpx2.Response(503, text="<html>bad gateway"), errors.Unavailable, Kind.RETRY),
        (httpx2.Response(200, text="<html>log in"), errors.Unavailable, Kind.RETRY),
        (httpx2.Response(200, json={"metadata": "no"}), errors.Unavailable, Kind.RETRY),
        (httpx2.ConnectError("refused"), errors.Unavailable, Kind.RETRY),
        (httpx2.ReadTimeout(""), errors.Unavailable, Kind.RETRY),
        (TimeoutError(), errors.Unavailable, Kind.RETRY),
    ],
)
async def test_each_failure_is_an_error_of_its_kind(answer, error, kind):
    with pytest.raises(error) as caught:
        await Server(answer).client.get(NODES, "n")
    assert type(caught.value) is error
    assert caught.value.kind is kind
    assert str(caught.value)
    with pytest.raises(error):
        await Server(answer).client.list(NODES)


async def test_an_error_has_the_servers_words_and_the_wait_it_asks_for():
    answer = status(429, "TooManyRequests", "slow down", retryAfterSeconds=3)
    answer.headers["Retry-After"] = "3"
    with pytest.raises(errors.Unavailable) as caught:
        await Server(answer).client.get(NODES, "n")
    assert caught.value.retry_after == 3
    assert (caught.value.reason, str(caught.value)) == ("TooManyRequests", "slow down (429)")
    assert caught.value.details == {"retryAfterSeconds": 3}


def events(*items, cut=None):
    """The body of a watch, in pieces that have nothing to do with its lines."""
    data = b"".join(json.dumps(item).encode() + b"\n" for item in items)

    async def pieces():
        for start in range(0, len(data), 7):
            yield data[start : start + 7]
        if cut is not None:
            raise cut

    return httpx2.Response(200, content=pieces())


def change(type_, name, version, **more):
    return {"type": type_, "object": {"metadata": {"name": name, "resourceVersion": version}, **more}}


async def watched(server, **how):
    found = []
    stream = server.client.watch(NODES, resource_version="4", timeout=30.0, **how)
    async for event in stream:
        found.append((event.type, event.object and event.object.metadata.name, event.resource_version))  # noqa: PERF401
    return found


async def test_a_watch_is_decoded_event_by_event():
    # the server sends a bookmark with an object that is not a valid one
    bookmark = change("BOOKMARK", "", "8", spec=None, status={"conditions": None})
    server = Server(events(change("ADDED", "a", "6"), change("DELETED", "b", "7"), bookmark))
    assert await watched(server, labels="x=y") == [("ADDED", "a", "6"), ("DELETED", "b", "7"), ("BOOKMARK", None, "8")]
    assert server.lines == [
        "GET /api/v1/nodes?labelSelector=x%3Dy&watch=true&allowWatchBookmarks=true&resourceVersion=4&timeoutSeconds=30"
    ]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            events(change("ADDED", "a", "6"), {"type": "ERROR", "object": {"code": 410, "reason": "Expired"}}),
            errors.Gone,
        ),
        (status(410, "Expired"), errors.Gone),
        (status(403, "Forbidden"), errors.Forbidden),
        (events(change("ADDED", "a", "6"), cut=httpx2.RemoteProtocolError("cut")), errors.Unavailable),
        (events(change("ADDED", "a", "6"), cut=httpx2.ReadTimeout("silent")), errors.Unavailable),
        (httpx2.ConnectError("refused"), errors.Unavailable),
        (httpx2.Response(200, text="<html>\n"), errors.Unavailable),
        (events({"type": "ADDED", "object": {"metadata": {"name": 5}}}), errors.Unavailable),
    ],
)
async def test_a_watch_ends_with_its_failure(answer, error):
    with pytest.raises(error):
        await watched(Server(answer))


async def test_an_event_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("dynamic_memory.kube.client.MAX_EVENT", 100)
    with pytest.raises(errors.Unavailable, match="larger than"):
        await watched(Server(httpx2.Response(200, content=b"x" * 200)))


async def test_a_watch_that_is_left_closes_its_connection():
    server = Server(events(change("ADDED", "a", "6"), change("ADDED", "b", "7")))
    stream = server.client.watch(partial(NODES), resource_version="4", timeout=30.0)
    assert isinstance((await anext(stream)).object, msgspec.Struct)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_raw_paths():
    server = Server({"minor": "36"}, {"status": {"allowed": True}})
    assert json.loads(await server.client.get_raw("/version")) == {"minor": "36"}
    await server.client.create_raw("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {}})
    assert server.lines == ["GET /version", "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"]
