# SPDX-License-Identifier: Apache-2.0
"""Deletion over HTTP: finalizers, owners, namespaces, collections, grace: rows A27 to A30."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.embedded.support.client import JSON_PATCH, Answer, Client
from tests.embedded.support.servers import Running, running

from dynamic_memory.embedded.apiserver import background
from dynamic_memory.embedded.apiserver.errors import StatusError

NAMESPACE = "/api/v1/namespaces/default"
MAPS = f"{NAMESPACE}/configmaps"
PODS = f"{NAMESPACE}/pods"


def missing(answer: Answer) -> bool:
    return answer.code == 404


async def create(client: Client, name: str, *, path: str = MAPS, **metadata: Any) -> dict[str, Any]:
    answer = await client.create(path, {"metadata": {"name": name, **metadata}})
    assert answer.code == 201, answer
    return answer.json["metadata"]


def owner(metadata: dict[str, Any], *, block: bool = False) -> dict[str, Any]:
    found = {"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"]}
    return found | ({"blockOwnerDeletion": True} if block else {})


async def test_a_deletion_is_answered_with_a_status_and_the_watch_with_the_last_state(client: Client) -> None:
    made = await create(client, "a")
    async with client.watch(MAPS, resourceVersion=made["resourceVersion"]) as seen:
        answer = (await client.delete(f"{MAPS}/a")).json
        assert answer == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {"name": "a", "kind": "configmaps", "uid": made["uid"]},
        }
        assert await seen.count(1) == [("DELETED", "a")]
        gone = seen.seen[0][1]["metadata"]
        assert gone["uid"] == made["uid"]
        assert int(gone["resourceVersion"]) > int(made["resourceVersion"])
    assert (await client.delete(f"{MAPS}/a")).json["reason"] == "NotFound"


@pytest.mark.parametrize("seconds", [10**12, (1 << 63) - 1])
async def test_a_grace_without_end_is_a_long_one(client: Client, seconds: int) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": spec})
    answer = await client.delete(f"{PODS}/p", {"gracePeriodSeconds": seconds})
    assert answer.code == 200, answer
    assert answer.json["metadata"]["deletionGracePeriodSeconds"] > 100_000_000


@pytest.mark.parametrize(
    ("preconditions", "text"),
    [
        (
            {"uid": "00000000-0000-0000-0000-000000000000"},
            "the UID in the precondition (00000000-",
        ),
        (
            {"resourceVersion": "1"},
            'on ConfigMap "a": the ResourceVersion in the precondition (1) does not match the ResourceVersion in',
        ),
    ],
)
async def test_preconditions_protect_another_object(client: Client, preconditions: dict[str, str], text: str) -> None:
    made = await create(client, "a")
    answer = await client.delete(f"{MAPS}/a", {"preconditions": preconditions})
    assert (answer.code, answer.json["reason"]) == (409, "Conflict")
    assert text in answer.json["message"]
    right = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    assert (await client.delete(f"{MAPS}/a", {"preconditions": right})).code == 200


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"preconditions": {"uid": 5}},
            "cannot unmarshal number into Go struct field Preconditions.preconditions.",
        ),
        ({"preconditions": "x"}, "field DeleteOptions.preconditions of type v1.Preconditions"),
        ({"gracePeriodSeconds": "x"}, "field DeleteOptions.gracePeriodSeconds of type int64"),
        ({"orphanDependents": "x"}, "field DeleteOptions.orphanDependents of type bool"),
        ({"dryRun": "All"}, "field DeleteOptions.dryRun of type []string"),
        ({"kind": "Foo", "apiVersion": "v1"}, 'no kind "Foo" is registered for version "v1" in scheme'),
    ],
)
async def test_options_that_cannot_be_read_delete_nothing(client: Client, options: Any, text: str) -> None:
    await create(client, "a")
    answer = await client.delete(f"{MAPS}/a", options)
    assert (answer.code, text in answer.json["message"]) == (400, True), answer
    assert (await client.get(f"{MAPS}/a")).code == 200


async def test_a_collection_is_deleted_page_by_page(client: Client) -> None:
    for name in ("a", "b", "c"):
        await create(client, name, labels={"x": "y"})
    first = await client.delete(MAPS, labelSelector="x=y", limit="2", dryRun="All")
    assert [item["metadata"]["name"] for item in first.json["items"]] == ["a", "b"]
    first = await client.delete(MAPS, labelSelector="x=y", limit="2")
    assert [item["metadata"]["name"] for item in first.json["items"]] == ["a", "b"]
    left = (await client.get(MAPS, labelSelector="x=y")).json["items"]
    assert [item["metadata"]["name"] for item in left] == ["c"]
    rest = await client.delete(MAPS, **{"labelSelector": "x=y", "continue": first.json["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in rest.json["items"]] == ["c"]
    assert (await client.get(MAPS, labelSelector="x=y")).json["items"] == []


async def test_a_pod_that_is_deleted_at_once_is_shown_as_one_that_ends(client: Client) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": spec})
    for query in ({"dryRun": "All"}, {}):
        shown = (await client.delete(f"{PODS}/p", **query)).json["metadata"]
        assert (shown["generation"], shown["deletionGracePeriodSeconds"]) == (2, 0)
        assert shown["deletionTimestamp"]
    assert missing(await client.get(f"{PODS}/p"))


@pytest.mark.parametrize(
    ("finalizers", "text"),
    [
        (
            ["x"],
            'metadata.finalizers[0]: Invalid value: "x": name is neither a standard finalizer name nor is it fully',
        ),
        (["orphan", "foregroundDeletion"], "finalizer orphan and foregroundDeletion cannot be both set"),
    ],
)
async def test_a_finalizer_is_somebodys(client: Client, finalizers: list[str], text: str) -> None:
    answer = await client.create(MAPS, {"metadata": {"name": "a", "finalizers": finalizers}})
    assert (answer.code, text in answer.json["message"]) == (422, True), answer
    await create(client, "a")
    answer = await client.patch(f"{MAPS}/a", {"metadata": {"finalizers": finalizers}})
    assert (answer.code, text in answer.json["message"]) == (422, True), answer


async def test_a_name_is_taken_until_its_object_is_gone(client: Client) -> None:
    await create(client, "a", finalizers=["x.example.com/one"])
    await client.delete(f"{MAPS}/a")
    answer = await client.create(MAPS, {"metadata": {"name": "a"}})
    assert (answer.code, answer.json["message"]) == (409, 'object is being deleted: configmaps "a" already exists')


async def test_A27_a_finalizer_keeps_an_object_until_it_is_taken_away(client: Client) -> None:
    await create(client, "a", finalizers=["x.example.com/one", "x.example.com/two"])
    marked = (await client.delete(f"{MAPS}/a")).json
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    again = (await client.delete(f"{MAPS}/a")).json
    assert again["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
    more = await client.patch(f"{MAPS}/a", {"metadata": {"finalizers": ["x.example.com/one", "x.example.com/three"]}})
    assert more.code == 422
    assert "no new finalizers can be added if the object is being deleted" in more.json["message"]
    revived = (await client.patch(f"{MAPS}/a", {"metadata": {"deletionTimestamp": None}})).json
    assert revived["metadata"]["deletionTimestamp"] == marked["metadata"]["deletionTimestamp"]
    remove = [{"op": "remove", "path": "/metadata/finalizers/0"}]
    assert (await client.patch(f"{MAPS}/a", remove, JSON_PATCH)).json["metadata"]["finalizers"] == ["x.example.com/two"]
    version = str((await client.get(MAPS)).version)
    async with client.watch(MAPS, resourceVersion=version) as seen:
        last = await client.patch(f"{MAPS}/a", remove, JSON_PATCH)
        assert last.code == 200
        assert await seen.count(1) == [("DELETED", "a")]
    assert missing(await client.get(f"{MAPS}/a"))


async def test_A28_background_removes_what_belonged_to_the_object(client: Client) -> None:
    parent = await create(client, "parent")
    child = await create(client, "child", ownerReferences=[owner(parent)])
    await create(client, "grandchild", ownerReferences=[owner(child)])
    other = await create(client, "other")
    await create(client, "shared", ownerReferences=[owner(parent), owner(other)])
    await client.delete(f"{MAPS}/parent", {"propagationPolicy": "Background"})
    await client.eventually(f"{MAPS}/grandchild", missing)
    assert missing(await client.get(f"{MAPS}/child"))
    shared = await client.eventually(f"{MAPS}/shared", lambda a: len(a.json["metadata"]["ownerReferences"]) == 1)
    assert shared.json["metadata"]["ownerReferences"][0]["name"] == "other"


async def test_A28_foreground_removes_dependents_first(client: Client) -> None:
    parent = await create(client, "parent")
    child = await create(
        client, "child", ownerReferences=[owner(parent, block=True)], finalizers=["x.example.com/hold"]
    )
    await create(client, "free", ownerReferences=[owner(parent)])
    async with client.watch(MAPS, resourceVersion=child["resourceVersion"]) as seen:
        marked = (await client.delete(f"{MAPS}/parent", {"propagationPolicy": "Foreground"})).json["metadata"]
        assert marked["finalizers"] == ["foregroundDeletion"]
        await client.eventually(f"{MAPS}/child", lambda a: a.json["metadata"].get("deletionTimestamp"))
        await client.eventually(f"{MAPS}/free", missing)
        assert (await client.get(f"{MAPS}/parent")).json["metadata"]["deletionTimestamp"]
        await client.patch(f"{MAPS}/child", {"metadata": {"finalizers": None}})
        await client.eventually(f"{MAPS}/parent", missing)
        await seen.until(lambda _: ("DELETED", "parent") in seen.names)
        gone = [name for kind, name in seen.names if kind == "DELETED"]
        assert gone.index("child") < gone.index("parent")


async def test_A28_orphans_are_kept_without_their_owner(client: Client) -> None:
    parent = await create(client, "parent")
    await create(client, "child", ownerReferences=[owner(parent)])
    await client.delete(f"{MAPS}/parent", {"propagationPolicy": "Orphan"})
    await client.eventually(f"{MAPS}/parent", missing)
    assert "ownerReferences" not in (await client.get(f"{MAPS}/child")).json["metadata"]


async def test_A28_what_names_an_owner_that_never_was_goes_too(client: Client, running_server: Running) -> None:
    ghost = {"name": "ghost", "uid": "00000000-0000-0000-0000-000000000001"}
    await create(client, "child", ownerReferences=[owner(ghost)])
    await client.eventually(f"{MAPS}/child", missing)
    unknown = {"apiVersion": "nobody.example.com/v1", "kind": "Ghost", **ghost}
    await create(client, "kept", ownerReferences=[unknown])
    await running_server.server.background.idle()
    assert (await client.get(f"{MAPS}/kept")).code == 200, "a kind that is not served may have such an object"


async def test_A28_a_policy_must_be_one(client: Client) -> None:
    await create(client, "a")
    answer = await client.delete(f"{MAPS}/a", {"propagationPolicy": "Never"})
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    both = await client.delete(f"{MAPS}/a", {"propagationPolicy": "Orphan", "orphanDependents": True})
    assert both.code == 422
    assert (await client.delete(f"{MAPS}/a", {"kind": "Pod"})).code == 400


async def test_A29_a_namespace_takes_its_contents_with_it(client: Client) -> None:
    made = (await client.create("/api/v1/namespaces", {"metadata": {"name": "n"}})).json
    assert made["spec"]["finalizers"] == ["kubernetes"]
    assert made["status"]["phase"] == "Active"
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    inside = "/api/v1/namespaces/n/configmaps"
    await client.eventually(f"{inside}/kube-root-ca.crt", lambda a: a.code == 200)
    await client.eventually("/api/v1/namespaces/n/serviceaccounts/default", lambda a: a.code == 200)
    await create(client, "plain", path=inside)
    await create(client, "held", path=inside, finalizers=["x.example.com/hold"])
    marked = (await client.delete("/api/v1/namespaces/n")).json
    assert marked["status"]["phase"] == "Terminating"
    await client.eventually(f"{inside}/plain", missing)
    refused = await client.create(inside, {"metadata": {"name": "late"}})
    assert (refused.code, refused.json["reason"]) == (403, "Forbidden")
    assert refused.json["message"] == (
        'configmaps "late" is forbidden: unable to create new content in namespace n because it is being terminated'
    )
    assert refused.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    assert (await client.get("/api/v1/namespaces/n")).code == 200
    await client.patch(f"{inside}/held", {"metadata": {"finalizers": None}})
    await client.eventually("/api/v1/namespaces/n", missing)
    nowhere = await client.create(inside, {"metadata": {"name": "late"}})
    assert (nowhere.code, nowhere.json["message"]) == (404, 'namespaces "n" not found')


async def test_A29_namespaces_that_are_always_there_stay(client: Client) -> None:
    found = {item["metadata"]["name"] for item in (await client.get("/api/v1/namespaces")).json["items"]}
    assert found == {"default", "kube-system", "kube-public", "kube-node-lease"}
    answer = await client.delete("/api/v1/namespaces/default")
    assert (answer.code, answer.json["message"]) == (
        403,
        'namespaces "default" is forbidden: this namespace may not be deleted',
    )
    assert (await client.get("/api/v1/namespaces/default/services/kubernetes")).code == 200
    await client.delete(f"{MAPS}/kube-root-ca.crt")
    await client.eventually(f"{MAPS}/kube-root-ca.crt", lambda a: a.code == 200)


async def test_A30_a_collection_is_deleted_by_selector(client: Client) -> None:
    for name in ("a", "b", "c"):
        await create(client, name, labels={"l": name})
    some = (await client.delete(MAPS, labelSelector="l in (a,b)")).json
    assert some["kind"] == "ConfigMapList"
    assert [item["metadata"]["name"] for item in some["items"]] == ["a", "b"]
    assert (await client.get(f"{MAPS}/c")).code == 200
    await client.delete(MAPS, {"propagationPolicy": "Background"})
    assert missing(await client.get(f"{MAPS}/c"))


async def test_a_pod_on_a_node_waits_for_its_kubelet(client: Client) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 20}
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": spec})
    await client.create(f"{PODS}/p/binding", {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}})
    marked = (await client.delete(f"{PODS}/p")).json
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 20
    assert marked["metadata"]["deletionTimestamp"] > marked["metadata"]["creationTimestamp"]
    shorter = (await client.delete(f"{PODS}/p", {"gracePeriodSeconds": 5})).json
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    longer = (await client.delete(f"{PODS}/p", {"gracePeriodSeconds": 60})).json
    assert longer["metadata"]["resourceVersion"] == shorter["metadata"]["resourceVersion"]
    assert (await client.delete(f"{PODS}/p", gracePeriodSeconds="0")).json["kind"] == "Pod"
    assert missing(await client.get(f"{PODS}/p"))


async def test_a_pod_without_a_node_or_that_has_ended_goes_at_once(client: Client) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": spec})
    await client.delete(f"{PODS}/p")
    assert missing(await client.get(f"{PODS}/p"))
    await client.create(PODS, {"metadata": {"name": "q"}, "spec": spec | {"nodeName": "n"}})
    await client.patch(f"{PODS}/q/status", {"status": {"phase": "Succeeded"}})
    await client.delete(f"{PODS}/q")
    assert missing(await client.get(f"{PODS}/q"))


async def test_a_definition_takes_its_objects_with_it(client: Client) -> None:
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"openAPIV3Schema": {"type": "object"}}
    spec = {
        "group": "x.example.com",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    await client.create(crds, {"metadata": {"name": "things.x.example.com"}, "spec": spec})
    things = "/apis/x.example.com/v1/namespaces/default/things"
    thing = {"apiVersion": "x.example.com/v1", "kind": "Thing"}
    for name, finalizers in (("free", []), ("held", ["x.example.com/hold"])):
        made = await client.create(things, {**thing, "metadata": {"name": name, "finalizers": finalizers}})
        assert made.code == 201, made
    async with client.watch(things) as seen:
        await seen.count(2)
        marked = (await client.delete(f"{crds}/things.x.example.com")).json
        assert marked["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
        await client.eventually(f"{things}/free", missing)
        late = await client.create(things, {**thing, "metadata": {"name": "late"}})
        assert (late.code, late.json["message"]) == (
            405,
            "create not allowed while custom resource definition is terminating",
        )
        assert (await client.get(f"{things}/held")).code == 200
        await client.patch(f"{things}/held", {"metadata": {"finalizers": None}})
        await client.eventually(f"{crds}/things.x.example.com", missing)
        assert [kind for kind, _ in (await seen.end())[-2:]] == ["MODIFIED", "DELETED"]
    assert (await client.get(things)).code == 404


async def test_events_are_forgotten_after_an_hour(client: Client, running_server: Running, monkeypatch) -> None:
    monkeypatch.setattr(background, "EVENT_SWEEP_SECONDS", 0.01)
    events = f"{NAMESPACE}/events"
    body = {"metadata": {"name": "e", "namespace": "default"}, "involvedObject": {"kind": "Pod", "name": "p"}}
    await client.create(events, {**body, "reason": "r", "message": "m", "type": "Normal"})
    task = background.Background(running_server.server.api)
    now = running_server.server.core.clock.now
    task._now = lambda: now() + background.EVENT_LIFE * 2
    sweep = asyncio.create_task(task._expire())
    await client.eventually(f"{events}/e", missing)
    sweep.cancel()


async def test_an_event_that_cannot_be_forgotten_does_not_end_the_others(
    client: Client, running_server: Running, monkeypatch
) -> None:
    monkeypatch.setattr(background, "EVENT_SWEEP_SECONDS", 0.01)
    events = f"{NAMESPACE}/events"
    for name in ("e", "f"):
        body = {"metadata": {"name": name, "namespace": "default"}, "involvedObject": {"kind": "Pod", "name": "p"}}
        await client.create(events, {**body, "reason": "r", "message": "m", "type": "Normal"})
    store = running_server.server.core.store
    remove = store.remove

    async def fail_for_one(record: Any, last: Any = None) -> Any:
        if record.key[1] == "e":
            raise StatusError(500, "InternalError", "the disk is full")
        return await remove(record, last)

    monkeypatch.setattr(store, "remove", fail_for_one)
    task = background.Background(running_server.server.api)
    now = running_server.server.core.clock.now
    task._now = lambda: now() + background.EVENT_LIFE * 2
    sweep = asyncio.create_task(task._expire())
    await client.eventually(f"{events}/f", missing)
    assert not sweep.done()
    sweep.cancel()


async def test_background_work_that_ends_on_its_own_is_said(monkeypatch, caplog) -> None:
    async def fail(_self: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(background.Background, "run", fail)
    async with running() as server:
        await server.client.get("/version")
    assert "background work has ended" in caplog.text
