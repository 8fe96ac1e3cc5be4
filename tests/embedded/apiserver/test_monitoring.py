# SPDX-License-Identifier: Apache-2.0
"""`/metrics`: the numbers that dashboards of API servers read."""

from __future__ import annotations

import asyncio
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from tests.embedded.support.asking import Asking
from tests.embedded.support.secured import world
from tests.embedded.support.servers import running

from dynamic_memory.api.wire import Kind
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.apiserver.monitoring import Labels, Monitoring, labels_of
from dynamic_memory.embedded.apiserver.request import Request
from dynamic_memory.embedded.kubelet.objects import NODES, PODS, Object

MAPS = "/api/v1/namespaces/default/configmaps"
MAPS_KIND = Kind(group="", version="v1", kind="ConfigMap", plural="configmaps", namespaced=True, type=Object)
CONFIG = {"group": "", "version": "v1", "resource": "configmaps", "subresource": "", "component": "apiserver"}


async def samples(client) -> dict[str, list[tuple[dict[str, str], float]]]:
    answer = await client.get("/metrics")
    assert answer.code == 200
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parse(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(found, name, **labels):
    """The one sample of a name that has these labels."""
    (number,) = [number for known, number in found.get(name, []) if labels.items() <= known.items()] or [0]
    return number


async def test_requests_are_counted_by_what_they_are_and_how_they_end() -> None:
    async with running() as server:
        client = server.client
        await client.create(MAPS, {"metadata": {"name": "a"}})
        await client.create(MAPS, {"metadata": {"name": "a"}})
        await client.get(f"{MAPS}/a")
        await client.get(MAPS)
        await client.get("/api/v1/configmaps")
        await client.patch(f"{MAPS}/a", {"data": {"a": "b"}}, dryRun="All")
        await client.delete(f"{MAPS}/a")
        await client.delete(MAPS, labelSelector="none=here")
        await client.get("/api/v1/namespaces/default/pods/a/log")
        await client.get("/nonsense/of/a/client")
        await client.get("/readyz")
        found = await samples(client)
        for verb, scope, code, dry_run in (
            ("POST", "resource", "201", ""),
            ("POST", "resource", "409", ""),
            ("GET", "resource", "200", ""),
            ("LIST", "namespace", "200", ""),
            ("LIST", "cluster", "200", ""),
            ("PATCH", "resource", "200", "All"),
            ("DELETE", "resource", "200", ""),
            ("DELETE", "namespace", "200", ""),
        ):
            labels = {**CONFIG, "verb": verb, "scope": scope, "dry_run": dry_run}
            assert value(found, "apiserver_request_total", **labels, code=code) == 1, labels
            count = value(found, "apiserver_request_duration_seconds_count", **labels)
            assert count == (2 if verb == "POST" else 1)
            assert value(found, "apiserver_request_duration_seconds_bucket", **labels, le="60") == count
            assert 0 < value(found, "apiserver_request_duration_seconds_sum", **labels) < 60
        assert value(found, "apiserver_request_total", verb="CONNECT", resource="pods", subresource="log") == 1
        assert value(found, "apiserver_request_total", verb="GET", resource="", subresource="", code="404") == 1
        assert value(found, "apiserver_request_total", verb="GET", subresource="/readyz", code="200") == 1
        assert value(found, "apiserver_current_inflight_requests", request_kind="readOnly") >= 1
        assert value(found, "apiserver_storage_objects", resource="configmaps") == len(
            (await client.get("/api/v1/configmaps")).json["items"]
        )
        assert value(found, "apiserver_storage_objects", resource="deployments.apps") == 0
        assert value(found, "apiserver_resource_objects", group="", resource="namespaces") == 4
        assert value(found, "process_resident_memory_bytes") > 1 << 20
        assert value(found, "process_cpu_seconds_total") > 0
        assert value(found, "process_open_fds") > 0


async def test_watches_are_counted_while_they_are_open_and_when_they_end() -> None:
    labels = {**CONFIG, "verb": "WATCH", "scope": "namespace"}
    async with running() as server:
        client = server.client
        async with client.watch(MAPS) as seen:
            await client.create(MAPS, {"metadata": {"name": "a"}})
            await seen.count(1)
            found = await samples(client)
            assert value(found, "apiserver_longrunning_requests", **labels) == 1
            assert value(found, "apiserver_request_total", **labels) == 0
        async with asyncio.timeout(30):
            while value(found, "apiserver_longrunning_requests", **labels):
                found = await samples(client)
        assert value(found, "apiserver_request_total", **labels, code="200") == 1


async def test_requests_within_the_process_are_counted_as_well() -> None:
    async with running() as server:
        kube = LocalKube(server.server.api)
        await kube.list(PODS)
        watch = kube.watch(NODES, resource_version="1", timeout=0.01)
        assert [event.type async for event in watch if event.type != "BOOKMARK"] == []
        found = await samples(server.client)
        for verb, resource in (("LIST", "pods"), ("WATCH", "nodes")):
            assert value(found, "apiserver_request_total", verb=verb, resource=resource, scope="cluster") == 1
        assert value(found, "apiserver_longrunning_requests", verb="WATCH", resource="nodes") == 0


async def test_requests_within_the_process_have_the_labels_of_those_over_http() -> None:
    async with running() as server:
        kube, client = LocalKube(server.server.api), server.client
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}
        for dry_run, query in ((False, {}), (True, {"dryRun": "All"})):
            await kube.apply(MAPS_KIND, body, manager="m", dry_run=dry_run)
            await kube.patch(MAPS_KIND, "a", {"data": {"a": "b"}}, namespace="default", dry_run=dry_run)
            await kube.create(MAPS_KIND, {"metadata": {"generateName": "b"}}, namespace="default", dry_run=dry_run)
            await client.apply(f"{MAPS}/a", body, "m", **query)
            await client.patch(f"{MAPS}/a", {"data": {"a": "b"}}, **query)
            await client.create(MAPS, {"metadata": {"generateName": "b"}}, **query)
        found = await samples(client)
        for verb in ("APPLY", "PATCH", "POST"):
            for dry_run_label in ("", "All"):
                labels = {**CONFIG, "verb": verb, "dry_run": dry_run_label, "scope": "resource"}
                number = value(found, "apiserver_request_duration_seconds_count", **labels)
                assert number == 2, (labels, number)


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/plain;version=0.0.4;q=0.1", "application/openmetrics-text;version=abc", "a/b;version=1.x;,;="],
)
async def test_metrics_are_answered_whatever_form_is_asked_for(accept: str) -> None:
    async with running() as server:
        answer = await server.client.send("GET", "/metrics", headers={"accept": accept})
        assert (answer.code, "apiserver_storage_objects" in answer.text) == (200, True)


async def test_methods_are_named_as_the_real_server_names_them() -> None:
    async with running() as server:
        await server.client.send("HEAD", "/readyz")
        await server.client.send("OPTIONS", "/readyz")
        found = await samples(server.client)
        assert value(found, "apiserver_request_total", subresource="/readyz", verb="GET") == 1
        assert value(found, "apiserver_request_total", subresource="/readyz", verb="other") == 1


def test_requests_that_were_worked_on_until_a_moment_ago_are_seen() -> None:
    monitoring = Monitoring()
    monitoring.enter("GET", 10.0)
    monitoring.leave("GET", 15.0)
    assert monitoring.inflight(15.1) == {"readOnly": 1, "mutating": 0}
    assert monitoring.inflight(18.0) == {"readOnly": 0, "mutating": 0}


async def test_only_those_who_may_read_metrics_do() -> None:
    async with world(rbac=True) as made:
        jane = made.admin.as_("jane")
        assert await _code(jane) == 403
        assert await _code(made.admin.as_("prometheus", "system:monitoring")) == 200


async def _code(who: Asking) -> int:
    return (await who.api.handle(Request("GET", "/metrics", user=who.user))).code


async def test_what_a_client_makes_up_makes_no_series() -> None:
    async with running() as server:
        for number in range(3):
            await server.client.get(f"/api/v1/namespaces/default/x{number}")
            await server.client.send(f"X{number}", MAPS)
            await server.client.get(f"{MAPS}/a", dryRun=f"x{number}")
        found = await samples(server.client)
        assert {labels["verb"] for labels, _ in found["apiserver_request_total"]} <= {"GET", "other", "POST", "PUT"}
        assert {labels["dry_run"] for labels, _ in found["apiserver_request_total"]} == {"", "invalid"}
        assert not [labels for labels, _ in found["apiserver_request_total"] if labels["resource"].startswith("x")]


def test_counting_a_request_takes_less_than_10_microseconds() -> None:
    monitoring = Monitoring()
    request = Request("GET", "/api/v1/namespaces/default/pods/a")
    request.audit.update(
        verb="get", group="", version="v1", resource="pods", subresource="", namespace="default", name="a"
    )

    def once(rounds: int) -> float:
        begin = time.process_time()
        for _ in range(rounds):
            monitoring.enter("GET", begin)
            monitoring.done(labels_of(request), 200, 0.001)
            monitoring.leave("GET", begin)
        return (time.process_time() - begin) / rounds

    assert min(once(2000) for _ in range(20)) < 10e-6
    assert monitoring.requests.keys() == {(Labels("GET", "", "", "v1", "pods", "", "resource"), 200)}
