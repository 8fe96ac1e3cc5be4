# SPDX-License-Identifier: Apache-2.0
"""Events are help for people: never a flood, never a failure."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.fake_kube import FakeKube

from dynamic_memory.api.core import ObjectReference
from dynamic_memory.api.kinds import NODES, PODS
from dynamic_memory.kube import events
from dynamic_memory.kube.errors import Forbidden, Unavailable
from dynamic_memory.kube.events import EVENTS, EventRecorder, reference
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

POD = ObjectReference(api_version="v1", kind="Pod", namespace="app", name="db-0", uid="u1")


@pytest.fixture
def kube():
    return FakeKube()


@pytest.fixture
def recorder(kube):
    return EventRecorder(kube, "dynamic-memory-driver", "n1")


def busy(recorder, about=POD, message="the memory is in use"):
    return recorder.event(about, type="Warning", reason="Busy", message=message, action="Detach")


async def test_an_event_has_what_kubectl_shows(kube, recorder):
    kube.put(PODS, {"metadata": {"name": "db-0", "namespace": "app", "uid": "u1"}})
    assert reference(PODS, await kube.get(PODS, "db-0", "app")) == POD
    await busy(recorder)
    (body,) = kube.bodies(EVENTS)
    assert body["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "app",
        "name": "db-0",
        "uid": "u1",
    }
    assert (body["type"], body["reason"], body["message"]) == ("Warning", "Busy", "the memory is in use")
    assert (body["source"], body["count"]) == ({"component": "dynamic-memory-driver", "host": "n1"}, 1)
    assert body["firstTimestamp"] == body["lastTimestamp"]
    assert body["metadata"]["namespace"] == "app"


async def test_a_repeated_event_is_one_with_a_count_written_once_a_minute(kube, recorder):
    for _ in range(300):
        await busy(recorder)
        await clock.sleep(1)
    (body,) = kube.bodies(EVENTS)
    assert 240 <= body["count"] <= 300
    assert kube.count("create", EVENTS) == 1
    assert kube.count("patch", EVENTS) == 4


async def test_another_object_reason_or_message_is_another_event(kube, recorder):
    await busy(recorder)
    await busy(recorder, ObjectReference(kind="Pod", namespace="app", name="db-0", uid="u2"))
    await busy(recorder, message="5 of 8 blocks are free")
    await recorder.event(POD, type="Normal", reason="Detached", message="done")
    assert len(kube.bodies(EVENTS)) == 4


async def test_two_at_once_are_one(kube, recorder):
    await asyncio.gather(busy(recorder), busy(recorder), busy(recorder))
    assert kube.count("create", EVENTS) == 1


async def test_an_event_that_expired_is_said_anew(kube, recorder):
    await busy(recorder)
    (body,) = kube.bodies(EVENTS)
    kube.remove(EVENTS, body["metadata"]["name"], "app")
    await clock.sleep(100)
    await busy(recorder)
    (again,) = kube.bodies(EVENTS)
    assert again["metadata"]["name"] != body["metadata"]["name"]


@pytest.mark.parametrize("error", [Unavailable(503, "", "busy"), Forbidden(403, "", "the namespace is being ended")])
@pytest.mark.parametrize("verb", ["create", "patch"])
async def test_failing_to_write_is_logged_and_the_next_one_tries_again(kube, recorder, caplog, error, verb):
    if verb == "patch":
        await busy(recorder)
        await clock.sleep(100)
    kube.fail(error, verb=verb)
    await busy(recorder)
    assert "an event could not be written" in caplog.text
    await clock.sleep(100)
    await busy(recorder)
    assert len(kube.bodies(EVENTS)) == 1


async def test_what_is_about_a_cluster_scoped_object_is_in_the_namespace_default(kube, recorder):
    kube.put(NODES, {"metadata": {"name": "n1"}})
    await busy(recorder, reference(NODES, await kube.get(NODES, "n1")))
    (body,) = kube.bodies(EVENTS)
    assert body["metadata"]["namespace"] == "default"
    assert "namespace" not in body["involvedObject"]


async def test_long_names_and_messages_are_cut_to_what_the_server_takes(kube, recorder):
    await busy(recorder, ObjectReference(kind="Pod", namespace="app", name="a" * 199 + "-" + "b" * 50), "x" * 5000)
    (body,) = kube.bodies(EVENTS)
    assert len(body["message"]) == 1024
    name = body["metadata"]["name"]
    assert len(name) <= 253
    assert all(label.strip("-") == label for label in name.split("."))


async def test_the_memory_of_events_is_bounded(kube, recorder, monkeypatch):
    monkeypatch.setattr(events, "REMEMBERED", 3)
    for number in range(10):
        await busy(recorder, message=str(number))
    assert len(recorder._said) == 3
