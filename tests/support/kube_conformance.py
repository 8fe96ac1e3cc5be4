# SPDX-License-Identifier: Apache-2.0
"""How an API server treats what this project does to it, as checks that run against the fake and against real ones.

Unit tests trust `FakeKube` for these things; tests/cluster runs the same checks on each Kubernetes version, so the fake
cannot drift from it. A check takes a `Kube` and a namespace of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dynamic_memory.api.kinds import CONFIG_MAPS, RESOURCE_CLAIMS
from dynamic_memory.kube.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound
from dynamic_memory.kube.interface import Kube

__all__ = ["CHECKS"]

Check = Callable[[Kube, str], Awaitable[None]]
CHECKS: list[Check] = []

SHARE = {
    "driver": "dra.memory",
    "pool": "fabric/a",
    "device": "d0",
    "shareID": "6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11",
}
OTHER = {"driver": "other.example", "pool": "p", "device": "e"}
ANOTHER_UID = "00000000-3c3e-4a7e-9f0c-1d2f6f1c9a11"


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


async def allocated(kube: Kube, namespace: str, *results: dict[str, str]) -> Any:
    """Make a claim and do what the scheduler does."""
    request = {"name": "r", "exactly": {"deviceClassName": "c"}}
    await kube.create(
        RESOURCE_CLAIMS,
        {"metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}}},
        namespace=namespace,
    )
    status = {"allocation": {"devices": {"results": [{"request": "r", **result} for result in results]}}}
    return await kube.patch(RESOURCE_CLAIMS, "c", {"status": status}, namespace=namespace, subresource="status")


def stated(share: dict[str, str], status: str = "True", **more: str) -> dict[str, Any]:
    condition = {"type": "t.example/A", "status": status, "reason": "R", "message": ""}
    return {**share, "conditions": [{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z", **more}]}


async def state(kube: Kube, namespace: str, *devices: dict[str, Any], manager: str = "ours", **meta: str) -> Any:
    """Say something about devices of the claim."""
    body = {"metadata": {"name": "c", "namespace": namespace, **meta}, "status": {"devices": list(devices)}}
    return await kube.apply(RESOURCE_CLAIMS, body, manager=manager, subresource="status")


async def refused(error: type[ApiError], coroutine: Awaitable[Any]) -> None:
    with pytest.raises(ApiError) as caught:
        await coroutine
    assert type(caught.value) is error, f"{type(caught.value).__name__}: {caught.value}"


@check
async def objects_come_and_go(kube: Kube, namespace: str) -> None:
    made = await kube.create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, namespace=namespace)
    assert (made.metadata.namespace, made.data) == (namespace, {"k": "v"})
    assert made.metadata.uid
    await refused(AlreadyExists, kube.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, namespace=namespace))
    listed = await kube.list(CONFIG_MAPS, namespace=namespace, fields="metadata.name=a")
    assert [item.metadata.uid for item in listed.items] == [made.metadata.uid]
    assert int(listed.resource_version) >= int(made.metadata.resource_version)
    await refused(Conflict, kube.delete(CONFIG_MAPS, "a", namespace, uid=ANOTHER_UID))
    await refused(Conflict, kube.delete(CONFIG_MAPS, "a", namespace, resource_version="1"))
    await kube.delete(CONFIG_MAPS, "a", namespace, uid=made.metadata.uid)
    await refused(NotFound, kube.delete(CONFIG_MAPS, "a", namespace))
    await refused(NotFound, kube.get(CONFIG_MAPS, "a", namespace))
    await refused(NotFound, kube.patch(CONFIG_MAPS, "a", {}, namespace=namespace))


@check
async def a_generated_name_and_a_dry_run(kube: Kube, namespace: str) -> None:
    made = await kube.create(CONFIG_MAPS, {"metadata": {"generateName": "a-"}}, namespace=namespace, dry_run=True)
    assert made.metadata.name.startswith("a-")
    await refused(NotFound, kube.get(CONFIG_MAPS, made.metadata.name, namespace))


@check
async def a_write_names_the_version_and_the_uid_that_it_means(kube: Kube, namespace: str) -> None:
    made = await kube.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, namespace=namespace)
    for version, error in (("1", Conflict), (made.metadata.resource_version, None)):
        patch = {"metadata": {"resourceVersion": version}, "data": {"x": "1"}}
        call = kube.patch(CONFIG_MAPS, "a", patch, namespace=namespace)
        await (refused(error, call) if error else call)
    patch = {"metadata": {"uid": ANOTHER_UID}}
    await refused(Invalid, kube.patch(CONFIG_MAPS, "a", patch, namespace=namespace))
    body = {"metadata": {"name": "a", "namespace": namespace, "uid": ANOTHER_UID}}
    await refused(Invalid, kube.apply(CONFIG_MAPS, body, manager="m"))
    body["metadata"]["name"] = "b"
    await refused(Conflict, kube.apply(CONFIG_MAPS, body, manager="m"))


@check
async def an_apply_takes_away_what_its_manager_no_longer_says(kube: Kube, namespace: str) -> None:
    async def say(manager: str, *, force: bool = True, **data: str) -> Any:
        body = {"metadata": {"name": "x", "namespace": namespace, "labels": {manager: "1"}}, "data": data}
        return await kube.apply(CONFIG_MAPS, body, manager=manager, force=force)

    await say("one", a="1", b="1")
    await say("two", b="1", c="2")
    found = await say("one")
    assert found.data == {"b": "1", "c": "2"}, "b is said by both"
    assert found.metadata.labels == {"one": "1", "two": "1"}
    await refused(Conflict, say("one", force=False, c="9"))
    assert (await say("one", c="9")).data == {"b": "1", "c": "9"}
    assert (await say("two", b="1")).data == {"b": "1", "c": "9"}, "c has gone over to the other"
    assert (await say("one")).data == {"b": "1"}


@check
async def status_devices_are_a_map_by_share(kube: Kube, namespace: str) -> None:
    await allocated(kube, namespace, SHARE, OTHER)
    await state(kube, namespace, stated(OTHER), manager="theirs")
    await state(kube, namespace, stated(SHARE))
    found = await state(kube, namespace, stated(SHARE, "False"))
    assert {d.device: d.conditions[0].status for d in found.status.devices} == {"e": "True", "d0": "False"}
    found = await state(kube, namespace)
    assert [d.device for d in found.status.devices] == ["e"], "an empty list takes away what was said"
    assert found.status.allocation is not None
    found = await state(kube, namespace, manager="theirs")
    assert found.status.devices == []


@check
async def claims_refuse_a_status_that_is_not_theirs(kube: Kube, namespace: str) -> None:
    claim = await allocated(kube, namespace, SHARE)
    await state(kube, namespace, stated(SHARE), uid=claim.metadata.uid)
    for device in (
        stated({**SHARE, "shareID": ANOTHER_UID}),
        stated({**SHARE, "device": "d1"}),
        stated({**SHARE, "pool": "p"}),
        stated({key: SHARE[key] for key in ("driver", "pool", "device")}),
        stated(SHARE, reason=""),
        {**SHARE, "conditions": [{"type": "t.example/A", "status": "True", "reason": "R"}]},
    ):
        await refused(Invalid, state(kube, namespace, device))
    await refused(Invalid, state(kube, namespace, stated(SHARE), uid=ANOTHER_UID))
    await refused(Conflict, state(kube, namespace, stated(SHARE), resourceVersion="1"))
    body = {"metadata": {"name": "gone", "namespace": namespace}, "status": {"devices": [stated(SHARE)]}}
    await refused(NotFound, kube.apply(RESOURCE_CLAIMS, body, manager="ours", subresource="status"))


@check
async def a_deallocated_claim_loses_the_status_of_its_devices(kube: Kube, namespace: str) -> None:
    await allocated(kube, namespace, SHARE)
    await state(kube, namespace, stated(SHARE))
    body = {"status": {"allocation": None}}
    found = await kube.patch(RESOURCE_CLAIMS, "c", body, namespace=namespace, subresource="status")
    assert (found.status.allocation, found.status.devices) == (None, [])
    await refused(Invalid, state(kube, namespace, stated(SHARE)))


@check
async def status_is_written_by_its_subresource_only(kube: Kube, namespace: str) -> None:
    await allocated(kube, namespace, SHARE)
    patch = {"metadata": {"labels": {"l": "1"}}, "status": {"allocation": None}}
    found = await kube.patch(RESOURCE_CLAIMS, "c", patch, namespace=namespace)
    assert found.status.allocation is not None
    assert found.metadata.labels == {"l": "1"}
    body = {"metadata": {"name": "c", "namespace": namespace}, "status": {"devices": [stated(SHARE)]}}
    found = await kube.apply(RESOURCE_CLAIMS, body, manager="ours")
    assert found.status.devices == []
    assert found.status.allocation is not None


@check
async def a_json_patch_tests_and_changes(kube: Kube, namespace: str) -> None:
    await kube.create(CONFIG_MAPS, {"metadata": {"name": "a", "labels": {"x/y": "1"}}}, namespace=namespace)
    patch = [{"op": "test", "path": "/metadata/labels/x~1y", "value": "2"}]
    await refused(Invalid, kube.patch(CONFIG_MAPS, "a", patch, namespace=namespace, style="json"))
    patch = [
        {"op": "test", "path": "/metadata/labels/x~1y", "value": "1"},
        {"op": "replace", "path": "/metadata/labels/x~1y", "value": "2"},
        {"op": "add", "path": "/data", "value": {"k": "v"}},
    ]
    found = await kube.patch(CONFIG_MAPS, "a", patch, namespace=namespace, style="json")
    assert (found.metadata.labels, found.data) == ({"x/y": "2"}, {"k": "v"})


@check
async def a_finalizer_holds_an_object(kube: Kube, namespace: str) -> None:
    body = {"metadata": {"name": "a", "finalizers": ["t.example/f"]}}
    await kube.create(CONFIG_MAPS, body, namespace=namespace)
    await kube.delete(CONFIG_MAPS, "a", namespace)
    assert (await kube.get(CONFIG_MAPS, "a", namespace)).metadata.deletion_timestamp
    await kube.patch(CONFIG_MAPS, "a", {"metadata": {"finalizers": None}}, namespace=namespace)
    await refused(NotFound, kube.get(CONFIG_MAPS, "a", namespace))


@check
async def a_write_that_changes_nothing_is_no_new_version(kube: Kube, namespace: str) -> None:
    made = await kube.create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, namespace=namespace)
    same = await kube.patch(CONFIG_MAPS, "a", {"data": {"k": "v"}}, namespace=namespace)
    assert same.metadata.resource_version == made.metadata.resource_version
    other = await kube.patch(CONFIG_MAPS, "a", {"data": {"k": "w"}}, namespace=namespace)
    assert int(other.metadata.resource_version) > int(made.metadata.resource_version)


@check
async def a_watch_with_a_selector_sees_what_enters_and_leaves_it(kube: Kube, namespace: str) -> None:
    async def label(name: str, **labels: str | None) -> None:
        await kube.patch(CONFIG_MAPS, name, {"metadata": {"labels": labels}}, namespace=namespace)

    for name in ("a", "b"):
        await kube.create(CONFIG_MAPS, {"metadata": {"name": name}}, namespace=namespace)
    version = (await kube.list(CONFIG_MAPS, namespace=namespace)).resource_version
    seen: list[tuple[str, str]] = []
    enough = asyncio.Event()

    async def follow() -> None:
        stream = kube.watch(
            CONFIG_MAPS, resource_version=version, namespace=namespace, labels="mine=1,!not", timeout=60.0
        )
        async for event in stream:
            if event.object is not None:
                seen.append((event.type, event.object.metadata.name))
            if len(seen) == 5:
                enough.set()

    task = asyncio.create_task(follow())
    await label("a", mine="1")
    await label("b", mine="2")
    await label("a", more="1")
    await label("a", **{"not": "1"})
    await label("a", **{"not": None})
    await kube.delete(CONFIG_MAPS, "a", namespace)
    async with asyncio.timeout(30):
        await enough.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "a"), ("DELETED", "a")]
