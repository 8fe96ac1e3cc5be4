# SPDX-License-Identifier: Apache-2.0
"""The tests' API server keeps what it promises; what it says here was compared with Kubernetes 1.36 and 1.37."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.fake_kube import FakeKube

from dynamic_memory.api.kinds import CONFIG_MAPS, NODES, RESOURCE_CLAIMS, RESOURCE_SLICES
from dynamic_memory.kube.errors import AlreadyExists, Conflict, Gone, Invalid, NotFound, Unavailable
from dynamic_memory.process import clock

SHARE = {"driver": "dra.memory", "pool": "fabric/a", "device": "d0", "shareID": "s1"}
OTHER = {"driver": "other", "pool": "p", "device": "e"}


def claim(*results, name="c"):
    spec = {"devices": {"requests": []}}
    return {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": spec,
        "status": {"allocation": {"devices": {"results": [{"request": "r", **result} for result in results]}}},
    }


def stated(share, status="True", **more):
    condition = {"type": "t/A", "status": status, "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {**share, "conditions": [condition], **more}


def status_of(name="c", *devices, **meta):
    return {"metadata": {"name": name, "namespace": "ns", **meta}, "status": {"devices": list(devices)}}


async def test_create_get_list_delete():
    kube = FakeKube()
    made = await kube.create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, namespace="ns")
    assert made.metadata.uid
    assert made.metadata.namespace == "ns"
    with pytest.raises(AlreadyExists):
        await kube.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, namespace="ns")
    listed = await kube.list(CONFIG_MAPS, namespace="ns")
    assert [item.data for item in listed.items] == [{"k": "v"}]
    assert int(listed.resource_version) >= int(made.metadata.resource_version)
    with pytest.raises(Conflict):
        await kube.delete(CONFIG_MAPS, "a", "ns", uid="another")
    await kube.delete(CONFIG_MAPS, "a", "ns", uid=made.metadata.uid)
    with pytest.raises(NotFound):
        await kube.get(CONFIG_MAPS, "a", "ns")


async def test_an_apply_takes_away_what_its_manager_no_longer_says_and_nothing_else():
    kube = FakeKube()
    for manager, data in (("one", {"a": "1", "b": "1"}), ("two", {"c": "2"}), ("one", {"b": "1"})):
        await kube.apply(CONFIG_MAPS, {"metadata": {"name": "x", "namespace": "ns"}, "data": data}, manager=manager)
    assert kube.body(CONFIG_MAPS, "x", "ns")["data"] == {"b": "1", "c": "2"}
    body = {"metadata": {"name": "x", "namespace": "ns"}, "data": {"c": "9"}}
    with pytest.raises(Conflict):
        await kube.apply(CONFIG_MAPS, body, manager="one", force=False)
    await kube.apply(CONFIG_MAPS, body, manager="one")
    assert kube.owners(CONFIG_MAPS, "x", "ns") == {"one": {("data", "c")}, "two": set()}


async def test_a_label_applied_beside_labels_of_others_leaves_them():
    kube = FakeKube()
    kube.put(NODES, {"metadata": {"name": "n", "labels": {"zone": "z"}}})
    await kube.apply(NODES, {"metadata": {"name": "n", "labels": {"mine": "1"}}}, manager="m")
    node = await kube.apply(NODES, {"metadata": {"name": "n"}}, manager="m")
    assert node.metadata.labels == {"zone": "z"}


async def test_status_devices_are_a_map_by_share():
    kube = FakeKube()
    kube.put(RESOURCE_CLAIMS, claim(SHARE, OTHER))
    await kube.apply(RESOURCE_CLAIMS, status_of("c", stated(OTHER)), manager="theirs", subresource="status")
    await kube.apply(RESOURCE_CLAIMS, status_of("c", stated(SHARE)), manager="ours", subresource="status")
    found = await kube.apply(
        RESOURCE_CLAIMS, status_of("c", stated(SHARE, "False")), manager="ours", subresource="status"
    )
    assert [(d.device, d.conditions[0].status) for d in found.status.devices] == [("e", "True"), ("d0", "False")]
    found = await kube.apply(RESOURCE_CLAIMS, status_of("c"), manager="ours", subresource="status")
    assert [d.device for d in found.status.devices] == ["e"]
    assert found.status.allocation is not None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (status_of("c", stated({**SHARE, "shareID": "s2"})), Invalid),
        (status_of("c", stated({**SHARE, "device": "d1"})), Invalid),
        (status_of("c", {**SHARE, "conditions": [{"type": "t/A", "status": "True"}]}), Invalid),
        (status_of("c", stated(SHARE), uid="another"), Invalid),
        (status_of("c", stated(SHARE), resourceVersion="1"), Conflict),
        (status_of("gone", stated(SHARE)), NotFound),
    ],
)
async def test_claims_refuse_a_status(body, error):
    kube = FakeKube()
    kube.put(RESOURCE_CLAIMS, claim(SHARE))
    with pytest.raises(error):
        await kube.apply(RESOURCE_CLAIMS, body, manager="ours", subresource="status")


async def test_a_deallocated_claim_loses_the_status_of_its_devices():
    kube = FakeKube()
    kube.put(RESOURCE_CLAIMS, claim(SHARE))
    await kube.apply(RESOURCE_CLAIMS, status_of("c", stated(SHARE)), manager="ours", subresource="status")
    body = {"status": {"allocation": None}}
    found = await kube.patch(RESOURCE_CLAIMS, "c", body, namespace="ns", subresource="status")
    assert (found.status.allocation, found.status.devices) == (None, [])


async def test_status_is_written_by_its_subresource_only():
    kube = FakeKube()
    kube.put(NODES, {"metadata": {"name": "n"}, "status": {"capacity": {"a": "1"}}})
    await kube.patch(NODES, "n", {"status": {"capacity": {"a": "2"}}, "spec": {"unschedulable": True}})
    assert kube.body(NODES, "n")["status"] == {"capacity": {"a": "1"}}
    assert kube.body(NODES, "n")["spec"] == {"unschedulable": True}
    await kube.patch(NODES, "n", {"status": {"capacity": {"a": "3"}}, "spec": None}, subresource="status")
    assert kube.body(NODES, "n")["status"] == {"capacity": {"a": "3"}}
    assert kube.body(NODES, "n")["spec"] == {"unschedulable": True}


async def test_a_json_patch_tests_and_changes():
    kube = FakeKube()
    kube.put(NODES, {"metadata": {"name": "n", "labels": {"a/b": "1"}}})
    patch = [{"op": "test", "path": "/metadata/labels/a~1b", "value": "2"}]
    with pytest.raises(Invalid):
        await kube.patch(NODES, "n", patch, style="json")
    patch = [{"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"}]
    assert (await kube.patch(NODES, "n", patch, style="json")).metadata.labels == {"a/b": "2"}


async def test_a_finalizer_holds_an_object_until_it_is_taken_away():
    kube = FakeKube()
    kube.put(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "ns", "finalizers": ["f"]}})
    await kube.delete(CONFIG_MAPS, "a", "ns")
    assert kube.body(CONFIG_MAPS, "a", "ns")["metadata"]["deletionTimestamp"]
    await kube.patch(CONFIG_MAPS, "a", {"metadata": {"finalizers": None}}, namespace="ns")
    assert kube.body(CONFIG_MAPS, "a", "ns") is None


@pytest.mark.looptime
async def test_a_watch_sees_changes_bookmarks_and_its_end():
    kube = FakeKube()
    kube.put(NODES, {"metadata": {"name": "before"}})
    version = (await kube.list(NODES)).resource_version
    seen = []

    async def follow():
        async for event in kube.watch(NODES, resource_version=version, labels="mine=1", timeout=100):
            seen.append((event.type, event.object.metadata.name if event.object else None))  # noqa: PERF401 - one by one
        seen.append("end")

    task = asyncio.create_task(follow())
    await clock.sleep(1)
    kube.put(NODES, {"metadata": {"name": "n", "labels": {"mine": "1"}}})
    kube.put(NODES, {"metadata": {"name": "other"}})
    await kube.patch(NODES, "n", {"metadata": {"labels": {"more": "1"}}})
    await kube.patch(NODES, "n", {"metadata": {"labels": {"mine": None}}})
    await clock.sleep(70)
    assert seen == [("ADDED", "n"), ("MODIFIED", "n"), ("DELETED", "n"), ("BOOKMARK", None)]
    await task
    assert seen[-1] == "end"


@pytest.mark.looptime
async def test_a_watch_breaks_and_expires():
    kube = FakeKube()
    version = (await kube.list(NODES)).resource_version

    async def first(error):
        with pytest.raises(error):
            async for _ in kube.watch(NODES, resource_version=version, timeout=100):
                pass

    async with asyncio.TaskGroup() as group:
        group.create_task(first(Unavailable))
        await clock.sleep(1)
        kube.disconnect()
    async with asyncio.TaskGroup() as group:
        group.create_task(first(Gone))
        await clock.sleep(1)
        kube.expire()
    await first(Gone)


async def test_failures_and_gates_are_injected():
    kube = FakeKube()
    kube.fail(Unavailable(503, "", "busy"), verb="get", kind=NODES, times=2)
    for error in (Unavailable, Unavailable, NotFound):
        with pytest.raises(error):
            await kube.get(NODES, "n")
    kube.drop = {"bindingConditions"}
    devices = [{"name": "d", "bindingConditions": ["x/y"]}]
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    body = {"metadata": {"name": "s"}, "spec": {"driver": "d", "pool": pool, "devices": devices}}
    assert (await kube.create(RESOURCE_SLICES, body, dry_run=True)).spec.devices[0].binding_conditions == []
    assert kube.body(RESOURCE_SLICES, "s") is None
    spec = {**body["spec"], "devices": [{"name": f"d{n}"} for n in range(129)]}
    with pytest.raises(Invalid):
        await kube.create(RESOURCE_SLICES, {**body, "spec": spec})
