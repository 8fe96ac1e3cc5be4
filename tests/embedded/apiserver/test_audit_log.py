# SPDX-License-Identifier: Apache-2.0
"""A45: what the audit log says of each request, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import json
import stat
import threading

from tests.embedded.support.journals import HandJournal, until
from tests.embedded.support.secured import world
from tests.embedded.support.servers import running

from dynamic_memory.embedded.apiserver.audit import AuditLog, entry
from dynamic_memory.embedded.apiserver.clock import Clock
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.apiserver.request import Request
from dynamic_memory.embedded.apiserver.security import SecurityOptions
from dynamic_memory.embedded.kubelet.objects import PODS as PODS_KIND

PODS = "/api/v1/namespaces/default/pods"


async def test_A45_one_line_a_request_says_who_asked_for_what(tmp_path, token_file):
    log = tmp_path / "logs" / "audit.jsonl"
    async with world(rbac=True, token_file=token_file, audit_log=log) as made:
        async with made.asked_by("root-token") as client:
            config = {"metadata": {"name": "c"}, "data": {"secret": "value"}}
            await client.create("/api/v1/namespaces/default/configmaps?dryRun=All", config)
            await client.get("/api/v1/namespaces/default/pods?labelSelector=a%3Db&token=hidden")
            await client.get("/version")
        async with made.asked_by("sesame") as client:
            await client.get("/api/v1/nodes/n/status")
        async with made.asked_by("wrong") as client:
            await client.get(PODS)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    created, listed, version, refused, unknown = lines
    assert {
        "user": "root",
        "verb": "create",
        "resource": "configmaps",
        "name": "c",
        "code": 201,
    }.items() <= created.items()
    assert created["namespace"] == "default"
    assert created["dryRun"] is True
    assert created["userAgent"]
    assert created["time"] == "2026-03-01T12:00:00.000000Z"
    assert created["milliseconds"] >= 0
    assert listed["requestURI"] == "/api/v1/namespaces/default/pods?labelSelector=a%3Db&token=%E2%80%A6"
    assert (version["verb"], version["path"]) == ("get", "/version")
    assert "resource" not in version
    assert (refused["user"], refused["code"], refused["subresource"]) == ("ali", 403, "status")
    assert (unknown["user"], unknown["code"]) == ("", 401)
    text = log.read_text()
    assert "value" not in text
    assert "hidden" not in text
    assert "sesame" not in text


async def test_A45_a_write_whose_client_has_gone_is_in_the_log(tmp_path):
    log = tmp_path / "audit"
    async with running(security=SecurityOptions(audit_log=log)) as server:
        await server.server.background.idle()
        store = server.server.core.store
        journal = HandJournal(store)
        before = serving()
        _, writer = await asyncio.open_connection(*server.server.address.split(":"))
        body = b'{"metadata": {"name": "gone"}}'
        head = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: localhost\r\nUser-Agent: caf\xe9/1\r\n"
        length = f"Content-Length: {len(body)}\r\n\r\n"
        writer.write((head + length).encode("latin-1") + body)
        await until(lambda: journal.waiting)
        writer.close()
        await until(lambda: serving() == before)
        journal.commit()
        await until(lambda: not server.server.edge._writes)
        store.journal = None
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (line["verb"], line["name"], line["code"]) == ("create", "gone", 201)
    assert line["userAgent"] == "caf\ufffd/1"


def serving():
    """Return how many connections are being answered."""
    return sum("RequestHandler.start" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_A45_the_log_names_who_acts_as_whom(tmp_path, token_file):
    log = tmp_path / "audit"
    async with world(rbac=True, token_file=token_file, audit_log=log) as made:
        for token in ("root-token", "sesame"):
            async with made.asked_by(token) as client:
                await client.send("GET", PODS, headers={"Impersonate-User": "jane"})
        async with made.asked_by() as client:
            await client.send("GET", PODS, headers={"Host": "evil.example.com"})
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    seen = [(line["user"], line.get("impersonatedUser"), line["code"]) for line in lines]
    assert seen == [("root", "jane", 403), ("ali", None, 403), ("system:anonymous", None, 400)]


async def test_A45_requests_within_the_process_have_the_lines_of_those_over_http(tmp_path):
    log = tmp_path / "audit.jsonl"
    async with world(audit_log=log) as made:
        made.api.audit = made.security.audit
        kube = LocalKube(made.api)
        body = {"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        pod = await kube.create(PODS_KIND, body, namespace="default")
        name = pod.metadata.name
        await kube.patch(PODS_KIND, name, {"metadata": {"labels": {"a": "b"}}}, namespace="default", dry_run=True)
        await kube.list(PODS_KIND, namespace="default", fields="spec.nodeName=n", labels="a in (b)")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["verb"], line.get("name"), line.get("dryRun"), line["requestURI"]) for line in lines] == [
        ("create", name, None, PODS),
        ("patch", name, True, f"{PODS}/{name}?dryRun=All"),
        ("list", None, None, f"{PODS}?labelSelector=a+in+%28b%29&fieldSelector=spec.nodeName%3Dn"),
    ]


def test_a_log_that_cannot_keep_up_says_how_many_lines_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("dynamic_memory.embedded.apiserver.audit.KEPT", 2)
    log = AuditLog(tmp_path / "audit.jsonl", Clock())
    log._lines.put(None)
    log._thread.join()
    for _ in range(5):
        log(Request("GET", "/version"), 200, 0.001)
    assert log._dropped == 3
    assert log._lines.get_nowait()
    log(Request("GET", "/version"), 200, 0.001)
    log.close()
    lines = [json.loads(log._lines.get_nowait()) for _ in range(2)]
    assert lines[1]["droppedBefore"] == 3


def test_lines_without_a_route():
    line = entry(Request("PUT", "/a b", {"x": ["1", "2"]}), 404, 0.5, "T")
    assert line["verb"] == "put"
    assert line["requestURI"] == "/a%20b?x=1&x=2"
    assert (line["milliseconds"], line["time"]) == (500.0, "T")


async def test_logging_does_not_wait_for_the_disk(tmp_path):
    log, go_on = AuditLog(tmp_path / "audit.jsonl", Clock()), threading.Event()
    file = log._file

    class Hanging:
        close = file.close

        def write(self, data):
            go_on.wait()
            return file.write(data)

    log._file = Hanging()
    for _ in range(2000):
        log(Request("GET", "/version"), 200, 0.001)
    go_on.set()
    await asyncio.to_thread(log.close)
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 2000
