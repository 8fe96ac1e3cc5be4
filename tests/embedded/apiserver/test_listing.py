# SPDX-License-Identifier: Apache-2.0
"""Lists over HTTP: selectors, pages, versions: rows A13 to A15."""

from __future__ import annotations

from typing import Any

import pytest
from tests.embedded.support.client import Client
from tests.embedded.support.servers import Running

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


def names(answer: Any) -> list[str]:
    assert answer.code == 200, answer
    return [item["metadata"]["name"] for item in answer.json["items"] if item["metadata"]["name"] != "kube-root-ca.crt"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("a=x", "1 2"),
        ("a==x", "1 2"),
        ("a!=x", "3 4 5"),
        ("a in (x,y),!z", "1 3"),
        ("a in (x, y)", "1 2 3"),
        ("a notin (x)", "3 4 5"),
        ("a", "1 2 3 4"),
        ("!a", "5"),
        ("a=", "4"),
        ("a in (,y)", "3 4"),
        ("a=x,z", "2"),
        ("n>1", "3"),
        ("n<2", "1"),
        ("x.example.com/a=1", "5"),
        ("", "1 2 3 4 5"),
    ],
)
async def test_A13_label_selectors_select_exactly(client: Client, selector: str, expected: str) -> None:
    labels: dict[str, dict[str, str]] = {
        "1": {"a": "x", "n": "1"},
        "2": {"a": "x", "z": "1"},
        "3": {"a": "y", "n": "2"},
        "4": {"a": ""},
        "5": {"x.example.com/a": "1"},
    }
    for name, value in labels.items():
        await client.create(MAPS, {"metadata": {"name": name, "labels": value}})
    assert names(await client.get(MAPS, labelSelector=selector)) == expected.split()


@pytest.mark.parametrize("selector", ["a in x", "a=(", "=x", "a b", "a in (x", "a,,b", "a in (x))", "-a", "a=!", "n>x"])
async def test_A13_what_is_no_selector_is_refused(client: Client, selector: str) -> None:
    answer = await client.get(MAPS, labelSelector=selector)
    assert (answer.code, answer.json["reason"]) == (400, "BadRequest")


async def test_A14_field_selectors_select_by_name_node_and_phase(client: Client) -> None:
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "")):
        spec = {"containers": [{"name": "c", "image": "i"}]} | ({"nodeName": node} if node else {})
        assert (await client.create(PODS, {"metadata": {"name": name}, "spec": spec})).code == 201
    await client.patch(f"{PODS}/b/status", {"status": {"phase": "Running"}})
    for selector, expected in {
        "metadata.name=b": "b",
        "metadata.name!=b": "a c",
        "spec.nodeName=n1": "a",
        "spec.nodeName=": "c",
        "spec.nodeName!=": "a b",
        "spec.nodeName==n2,status.phase=Running": "b",
        "status.phase!=Running,metadata.namespace=default": "a c",
    }.items():
        assert names(await client.get(PODS, fieldSelector=selector)) == expected.split(), selector
    everywhere = await client.get("/api/v1/pods", fieldSelector="spec.nodeName=n1")
    assert names(everywhere) == ["a"]
    unknown = await client.get(PODS, fieldSelector="spec.colour=red")
    assert (unknown.code, unknown.json["reason"]) == (400, "BadRequest")
    assert unknown.json["message"] == "field label not supported: spec.colour"
    assert (await client.get(PODS, fieldSelector="metadata.name")).code == 400
    assert names(await client.get(PODS, fieldSelector=r"metadata.name=a\,b")) == []


async def test_A14_events_of_both_groups_are_one_store(client: Client) -> None:
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Tested",
        "message": "m",
        "type": "Normal",
    }
    assert (await client.create("/api/v1/namespaces/default/events", event)).code == 201
    core = await client.get("/api/v1/namespaces/default/events", fieldSelector="involvedObject.name=p,reason=Tested")
    assert names(core) == ["e"]
    group = "/apis/events.k8s.io/v1/namespaces/default/events"
    other = await client.get(group, fieldSelector="regarding.kind=Pod")
    assert names(other) == ["e"]
    assert other.json["items"][0]["apiVersion"] == "events.k8s.io/v1"
    assert other.json["items"][0]["note"] == "m"
    assert names(await client.get(group, fieldSelector="regarding.kind=Node")) == []


async def test_lists_are_sorted_by_namespace_and_name(client: Client) -> None:
    await client.create("/api/v1/namespaces", {"metadata": {"name": "aaa"}})
    for namespace, name in (("default", "b"), ("aaa", "z"), ("default", "a"), ("default", "a-b")):
        await client.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": name}})
    assert names(await client.get("/api/v1/configmaps")) == ["z", "a", "a-b", "b"]
    assert names(await client.get(MAPS)) == ["a", "a-b", "b"]
    assert names(await client.get("/api/v1/namespaces/nosuch/configmaps")) == []


async def test_A15_pages_show_one_snapshot(client: Client, running_server: Running) -> None:
    store = running_server.server.core.store
    for number in range(1000):
        await client.create(MAPS, {"metadata": {"name": f"m{number:04}", "labels": {"all": "1"}}})
    first = (await client.get(MAPS, limit="400", labelSelector="all=1")).json
    version = first["metadata"]["resourceVersion"]
    assert len(first["items"]) == 400
    assert "remainingItemCount" not in first["metadata"], "nobody counts what a selector has not seen"
    await client.delete(f"{MAPS}/m0500")
    await client.create(MAPS, {"metadata": {"name": "m0400a", "labels": {"all": "1"}}})
    await client.patch(f"{MAPS}/m0999", {"metadata": {"labels": {"all": None}}})
    found = list(first["items"])
    token = first["metadata"]["continue"]
    while token:
        page = (await client.get(MAPS, **{"limit": "400", "labelSelector": "all=1", "continue": token})).json
        assert page["metadata"]["resourceVersion"] == version
        found += page["items"]
        token = page["metadata"].get("continue")
    assert [item["metadata"]["name"] for item in found] == [f"m{number:04}" for number in range(1000)]
    counted = (await client.get(MAPS, limit="10")).json["metadata"]
    assert counted["remainingItemCount"] == 1001 - 10
    # an expired token: 410, with one to go on without the snapshot
    running_server.server.core.snapshots.expire()
    query = {"limit": "900", "labelSelector": "all=1", "continue": first["metadata"]["continue"]}
    expired = (await client.get(MAPS, **query)).json
    assert (expired["code"], expired["reason"]) == (410, "Expired")
    assert "The provided continue parameter is too old to display a consistent list result." in expired["message"]
    rest = (await client.get(MAPS, **{**query, "continue": expired["metadata"]["continue"]})).json
    assert rest["metadata"]["resourceVersion"] == str(store.version)
    assert names_of(rest)[:2] == ["m0400", "m0400a"]
    assert len(rest["items"]) == 599
    bad = await client.get(MAPS, **{"continue": "nonsense"})
    assert (bad.code, bad.json["reason"]) == (400, "BadRequest")


def names_of(found: Any) -> list[str]:
    return [item["metadata"]["name"] for item in found["items"]]


async def test_A15_a_list_can_be_had_as_of_a_version(client: Client, running_server: Running) -> None:
    first = await client.create(MAPS, {"metadata": {"name": "a"}})
    await client.create(MAPS, {"metadata": {"name": "b"}})
    await client.delete(f"{MAPS}/a")
    exact = {"resourceVersion": str(first.version), "resourceVersionMatch": "Exact"}
    then = await client.get(MAPS, **exact)
    assert names(then) == ["a"]
    assert then.version == first.version
    assert names(await client.get(MAPS, resourceVersion="0", limit="1")) == ["b"], "no pages from a cache"
    running_server.server.core.store.compact()
    gone = await client.get(MAPS, **exact)
    assert (gone.code, gone.json["reason"]) == (410, "Expired")
    future = (await client.get(MAPS, resourceVersion="1000000", resourceVersionMatch="NotOlderThan")).json
    assert (future["code"], future["reason"]) == (504, "Timeout")
    assert future["details"]["causes"] == [
        {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    ]
    for query in (
        {"resourceVersionMatch": "Exact"},
        {"resourceVersion": "0", "resourceVersionMatch": "Exact"},
        {"resourceVersion": "1", "resourceVersionMatch": "Nearly"},
    ):
        answer = await client.get(MAPS, **query)
        assert (answer.code, answer.json["reason"]) == (422, "Invalid"), query
    wrong = await client.get(MAPS, resourceVersion="x")
    why = 'resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax'
    assert (wrong.code, wrong.json["message"]) == (400, f"invalid resource version: {why}")
    wrong = await client.get(MAPS, sendInitialEvents="true", resourceVersionMatch="NotOlderThan")
    assert (wrong.code, "sendInitialEvents is forbidden for list" in wrong.json["message"]) == (422, True)
    assert (await client.get(MAPS, timeoutSeconds="x")).code == 400
    assert (await client.get(MAPS, limit="x")).code == 400
