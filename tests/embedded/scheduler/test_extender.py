# SPDX-License-Identifier: Apache-2.0
"""HTTP extenders by the protocol of kube-scheduler, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiohttp import web
from tests.embedded.support.scheduling import (
    GI,
    claim,
    cluster,
    events,
    node,
    node_of,
    pod,
    pool,
    scheduled_condition,
    scheduling,
    until,
)

from dynamic_memory.api.kinds import NODES, PODS, RESOURCE_CLAIMS
from dynamic_memory.embedded.scheduler import ExtenderConfig, SchedulerConfig


class Server:
    """An extender that notes what it is asked and answers what it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict]] = []
        self.answers: dict[str, object] = {}
        self.url = ""

    async def handle(self, request):
        body = await request.json()
        self.asked.append((request.path, body))
        answer = self.answers.get(request.path)
        if callable(answer):
            answer = answer(body)
        if isinstance(answer, int):
            return web.Response(status=answer)
        return web.json_response(answer)


@contextlib.asynccontextmanager
async def extender():
    server = Server()
    runner = web.ServerRunner(web.Server(server.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/x"
    try:
        yield server
    finally:
        await runner.cleanup()


def config(server, **more):
    settings = {"url_prefix": server.url, "filter_verb": "filter", "node_cache_capable": True, **more}
    return SchedulerConfig(initial_backoff=0.05, extenders=(ExtenderConfig(**settings),))


def three_nodes():
    kube = cluster()
    for name in ("n1", "n2", "n3"):
        kube.put(NODES, node(name))
    kube.put(PODS, pod("a"))
    return kube


async def test_filter_and_scores_decide_among_the_nodes_that_fit():
    kube = three_nodes()
    kube.put(NODES, node("cordoned", unschedulable=True))
    async with extender() as server:
        server.answers["/x/filter"] = {"NodeNames": ["n3", "n2"], "FailedNodes": {"n1": "no path"}, "Error": ""}
        server.answers["/x/rate"] = [{"Host": "n2", "Score": 1}, {"Host": "n3", "Score": 10}]
        async with scheduling(kube, config(server, prioritize_verb="rate")):
            await until(lambda: node_of(kube, "a"))
    assert node_of(kube, "a") == "n3"
    (_, asked), (_, rated) = server.asked
    assert set(asked) == {"Pod", "Nodes", "NodeNames"}
    assert asked["Nodes"] is None
    assert sorted(asked["NodeNames"]) == ["n1", "n2", "n3"]
    assert asked["Pod"]["spec"]["containers"][0]["image"] == "i"
    assert sorted(rated["NodeNames"]) == ["n2", "n3"]


async def test_an_extender_that_caches_no_nodes_gets_and_returns_them_whole():
    kube = three_nodes()
    async with extender() as server:
        server.answers["/x/filter"] = lambda body: {"nodes": {"items": body["Nodes"]["items"][-1:]}}
        async with scheduling(kube, config(server, node_cache_capable=False)):
            await until(lambda: node_of(kube, "a"))
    assert node_of(kube, "a") == "n3"
    assert server.asked[0][1]["NodeNames"] is None
    assert server.asked[0][1]["Nodes"]["items"][0]["status"]["capacity"]


async def test_the_reasons_of_an_extender_are_told_and_any_event_may_change_its_mind():
    kube = three_nodes()
    async with extender() as server:
        failed = {"n1": "fabric path down", "n2": "fabric path down"}
        server.answers["/x/filter"] = {
            "NodeNames": [],
            "FailedNodes": failed,
            "FailedAndUnresolvableNodes": {"n3": "no window"},
        }
        async with scheduling(kube, config(server)):
            await until(lambda: scheduled_condition(kube, "a"))
            told = scheduled_condition(kube, "a")["message"]
            assert told.startswith("0/3 nodes are available: 1 no window, 2 fabric path down. preemption: ")
            server.answers["/x/filter"] = {"NodeNames": ["n2"]}
            kube.put(RESOURCE_CLAIMS, claim("any"))
            await until(lambda: node_of(kube, "a") == "n2")


@pytest.mark.parametrize("answer", [500, {"Error": "broken"}, [], "text", {"NodeNames": None}])
async def test_a_broken_extender_fails_the_decision_with_its_words(answer):
    kube = three_nodes()
    async with extender() as server:
        server.answers["/x/filter"] = answer
        async with scheduling(kube, config(server)):
            await until(lambda: scheduled_condition(kube, "a"))
            condition = scheduled_condition(kube, "a")
            assert condition["status"] == "False"
            await until(lambda: events(kube, "FailedScheduling"))
            server.answers["/x/filter"] = {"NodeNames": ["n1"]}
            kube.put(RESOURCE_CLAIMS, claim("any"))
            await until(lambda: node_of(kube, "a") == "n1")


async def test_an_ignorable_extender_is_passed_over_when_it_does_not_answer():
    kube = three_nodes()
    async with extender() as server:
        server.answers["/x/filter"] = 500
        async with scheduling(kube, config(server, ignorable=True)):
            await until(lambda: node_of(kube, "a"))


async def test_only_pods_that_request_a_managed_resource_are_sent():
    kube = three_nodes()
    for name in ("n1", "n2"):
        kube.put(NODES, node(name, extra={"x.dev/r": "2"}))
    managed = pod("managed")
    managed["spec"]["containers"][0]["resources"]["requests"]["x.dev/r"] = "1"
    kube.put(PODS, managed)
    async with extender() as server:
        server.answers["/x/filter"] = {"NodeNames": ["n2"]}
        async with scheduling(kube, config(server, managed_resources=("x.dev/r",))):
            await until(lambda: node_of(kube, "a") and node_of(kube, "managed"))
    assert node_of(kube, "managed") == "n2"
    assert [body["Pod"]["metadata"]["name"] for _, body in server.asked] == ["managed"]


async def test_an_extender_may_bind_and_sees_only_nodes_where_the_claims_fit():
    kube = cluster()
    pool(kube, GI, "n1", "n2")
    kube.put(NODES, node("n3"))
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))

    def bind(body):
        found = kube.body(PODS, body["PodName"], body["PodNamespace"])
        assert found["metadata"]["uid"] == body["PodUID"]
        found["spec"]["nodeName"] = body["Node"]
        kube.put(PODS, found)
        return {"Error": ""}

    async with extender() as server:
        server.answers["/x/filter"] = lambda body: {"NodeNames": body["NodeNames"]}
        server.answers["/x/bind"] = bind
        async with scheduling(kube, config(server, bind_verb="bind")):
            await until(lambda: node_of(kube, "a"))
            await asyncio.sleep(0.05)
    assert sorted(server.asked[0][1]["NodeNames"]) == ["n1", "n2"]
    assert [path for path, _ in server.asked] == ["/x/filter", "/x/bind"]
