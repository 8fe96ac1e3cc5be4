# SPDX-License-Identifier: Apache-2.0
"""Whole commands of kubectl 1.37 as the requests that it sends, recorded: rows A02, A03, A19 and A38.

What it prints for the answers is in tests/cluster/test_kubectl_embedded.py, with kubectl itself.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
import yaml
from tests.embedded.support.asking import ROOT
from tests.embedded.support.client import TABLE, Answer, Client
from tests.embedded.support.servers import running

from dynamic_memory.embedded.apiserver.clock import SteppingClock
from dynamic_memory.process.clock import parse_rfc3339

PROTO = "devmgmtproto.k8s.io"
DRIVERS = f"/apis/{PROTO}/v1alpha1/devicedrivers"
PODS = "/api/v1/namespaces/default/pods"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
EVENTS = "/api/v1/namespaces/default/events"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
NAMES = ["example.com-foozer", "example.com-barzer", "sriov-nic", "vlan"]
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
CLAIM = {
    "metadata": {"name": "c"},
    "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "memory"}}]}},
}


def drivers() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "examples/prototype/drivers.yaml").read_text()))


async def apply(client: Client, obj: dict[str, Any]) -> Answer:
    """What `kubectl apply` sends for an object of a kind that it does not know, after discovery."""
    path = f"{DRIVERS}/{obj['metadata']['name']}"
    found = await client.get(path, accept="application/json")
    if found.code == 404:
        assert found.json["details"] == {"name": obj["metadata"]["name"], "group": PROTO, "kind": "devicedrivers"}
        note = {LAST_APPLIED: json.dumps(obj) + "\n"}
        body = {**obj, "metadata": {**obj["metadata"], "annotations": note}}
        return await client.create(DRIVERS, body, fieldManager="kubectl-client-side-apply", fieldValidation="Strict")
    return found


async def test_A02_apply_of_the_drivers(client: Client) -> None:
    index = (await client.get("/openapi/v3", accept="application/json, */*", timeout="32s")).json["paths"]
    document = await client.get(index[f"apis/{PROTO}/v1alpha1"]["serverRelativeURL"], accept="application/json")
    post = document.json["paths"][DRIVERS]["post"]
    assert "fieldValidation" in {parameter["name"] for parameter in post["parameters"]}, (
        "else kubectl says so on stderr"
    )
    assert (await client.get("/api", accept=DISCOVERY, timeout="32s")).json["kind"] == "APIGroupDiscoveryList"
    groups = (await client.get("/apis", accept=DISCOVERY, timeout="32s")).json["items"]
    assert "" not in {group["metadata"]["name"] for group in groups}, "the core group is no group: no noise"
    made = [await apply(client, obj) for obj in drivers()]
    assert [answer.code for answer in made] == [201] * 4
    assert [answer.json["metadata"]["name"] for answer in made] == NAMES
    assert [answer.warnings for answer in made] == [[]] * 4
    for answer, obj in zip(made, drivers(), strict=True):
        assert answer.json["deviceTypes"] == obj["deviceTypes"]
        assert json.loads(answer.json["metadata"]["annotations"][LAST_APPLIED]) == obj
    again = [await apply(client, obj) for obj in drivers()]
    assert [(answer.code, answer.json) for answer in again] == [(200, answer.json) for answer in made]


async def test_A03_a_table_of_drivers_by_name_with_ages_of_the_test_clock() -> None:
    start = dt.datetime(2022, 1, 1, tzinfo=dt.UTC)
    async with running(clock=SteppingClock("2022-01-01T00:00:00Z")) as server:
        client = server.client
        made = {obj["metadata"]["name"]: parse_rfc3339(await created(client, obj)) for obj in drivers()}
        oldest = (await client.get("/api/v1/namespaces/default")).json["metadata"]["creationTimestamp"]
        assert start <= parse_rfc3339(oldest) < made[NAMES[0]]
        assert [made[name] - made[NAMES[0]] for name in NAMES] == [dt.timedelta(seconds=n) for n in range(4)]
        assert made["vlan"] < start + dt.timedelta(minutes=5), "the clock counts objects, not time"
        table = (await client.get(DRIVERS, accept=TABLE, limit="500")).json
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Age"]
        ages = {"example.com-barzer": "2s", "example.com-foozer": "3s", "sriov-nic": "1s", "vlan": "0s"}
        assert [tuple(row["cells"]) for row in table["rows"]] == sorted(ages.items())


async def created(client: Client, obj: dict[str, Any]) -> str:
    found: str = (await apply(client, obj)).json["metadata"]["creationTimestamp"]
    return found


@pytest.mark.parametrize("watch_list", [True, False])
async def test_A19_wait_returns_with_WatchList_and_without(client: Client, watch_list: bool) -> None:
    await client.create(PODS, POD)
    await client.create(PODS, {**POD, "metadata": {"name": "other"}})
    assert (await client.get(f"{PODS}/p")).code == 200
    one = {"fieldSelector": "metadata.name=p", "allowWatchBookmarks": "true", "timeoutSeconds": "590"}
    if watch_list:
        query = {**one, "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    else:
        listed = await client.get(PODS, fieldSelector="metadata.name=p", resourceVersion="0", limit="500")
        assert [item["metadata"]["name"] for item in listed.json["items"]] == ["p"]
        query = {**one, "resourceVersion": str(listed.version)}
    async with client.watch(PODS, **query) as seen:
        if watch_list:
            kinds = [kind for kind, _ in await seen.until(lambda events: len(events) == 2)]
            assert kinds == ["ADDED", "BOOKMARK"]
            mark = seen.seen[1][1]["metadata"]
            assert mark["annotations"] == {"k8s.io/initial-events-end": "true"}, "without it `wait` hangs"
        begun = len(seen.seen)
        for name in ("other", "p"):
            ready = {"type": "Ready", "status": "True"}
            answer = await client.patch(f"{PODS}/{name}/status", {"status": {"conditions": [ready]}})
            assert answer.code == 200
        await seen.until(lambda events: len(events) > begun)
        kind, pod = seen.seen[begun]
        assert (kind, pod["metadata"]["name"]) == ("MODIFIED", "p")
        assert [(c["type"], c["status"]) for c in pod["status"]["conditions"]] == [("Ready", "True")]


async def test_A38_events_are_shown_for_a_pod_and_a_claim(client: Client) -> None:
    pod = (await client.create(PODS, POD)).json
    claim = (await client.create(CLAIMS, CLAIM)).json
    await record(client, pod, "core", "Scheduled", "assigned to n1")
    await record(client, claim, "core", "Bound", "two devices")
    await record(client, claim, "events.k8s.io", "Attached", "from the fabric")
    for obj, reasons in ((pod, ["Scheduled"]), (claim, ["Attached", "Bound"])):
        meta, kind, version = obj["metadata"], obj["kind"], obj["apiVersion"]
        of = f"involvedObject.kind={kind},involvedObject.apiVersion={version},involvedObject.name={meta['name']}"
        shown = await client.get(EVENTS, accept="application/json", fieldSelector=of, limit="500")
        assert sorted(event["reason"] for event in shown.json["items"]) == reasons, "kubectl events --for"
        described = await client.get(EVENTS, fieldSelector=describing(obj), limit="500")
        assert described.json["items"] == shown.json["items"], "kubectl describe"
        assert {event["involvedObject"]["uid"] for event in described.json["items"]} == {meta["uid"]}
        table = await client.get(EVENTS, accept=TABLE, fieldSelector=of, limit="500")
        columns = [column["name"] for column in table.json["columnDefinitions"] if column["priority"] == 0]
        assert columns == ["Last Seen", "Type", "Reason", "Object", "Message"], "kubectl get events"
        assert {row["cells"][3] for row in table.json["rows"]} == {f"{kind.lower()}/{meta['name']}"}
        async with client.watch(EVENTS, fieldSelector=of, limit="500") as seen:
            await seen.count(len(reasons))
            await record(client, obj, "core", "Later", "while it is watched")
            await seen.until(lambda events: events[-1][1]["reason"] == "Later")
    everything = (await client.get(EVENTS, limit="500")).json["items"]
    assert len(everything) == 5
    other = (await client.get(EVENTS, fieldSelector="involvedObject.kind=Node", limit="500")).json
    assert other["items"] == []


def describing(obj: dict[str, Any]) -> str:
    meta = obj["metadata"]
    kind = "" if obj["kind"] == "Pod" else f",involvedObject.kind={obj['kind']}"
    return f"involvedObject.namespace=default{kind},involvedObject.uid={meta['uid']},involvedObject.name={meta['name']}"


async def record(client: Client, obj: dict[str, Any], group: str, reason: str, text: str) -> None:
    """Write an event as an old or as a new recorder does."""
    meta = obj["metadata"]
    about = {
        "kind": obj["kind"],
        "apiVersion": obj["apiVersion"],
        "namespace": "default",
        "name": meta["name"],
        "uid": meta["uid"],
    }
    name = {"metadata": {"name": f"{meta['name']}.{reason.lower()}", "namespace": "default"}}
    now = "2026-01-01T00:00:00Z"
    if group == "core":
        times = {"firstTimestamp": now, "lastTimestamp": now, "count": 1}
        body = {**name, "involvedObject": about, "reason": reason, "message": text, "type": "Normal", **times}
        answer = await client.create(EVENTS, {**body, "source": {"component": "test"}})
    else:
        new = {"reportingController": "example.com/test", "reportingInstance": "t", "action": "Attaching"}
        body = {**name, "regarding": about, "reason": reason, "note": text, "type": "Normal", **new}
        path = "/apis/events.k8s.io/v1/namespaces/default/events"
        answer = await client.create(path, {**body, "eventTime": "2026-01-01T00:00:00.000000Z"})
    assert answer.code == 201, answer
