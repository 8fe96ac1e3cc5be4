# SPDX-License-Identifier: Apache-2.0
"""Answers rest on what is on disk: refusals too, and whatever is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.embedded.support.asking import Asking, Refused
from tests.embedded.support.journals import HandJournal, until

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.builtin import builtin_registry
from dynamic_memory.embedded.apiserver.clock import Clock
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.apiserver.store import Store
from dynamic_memory.embedded.kubelet.objects import PODS
from dynamic_memory.kube.errors import NotFound

SPEC = {"containers": [{"name": "c", "image": "i"}]}
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": SPEC}
SET = {
    "apiVersion": "apps/v1",
    "kind": "ReplicaSet",
    "metadata": {"name": "a"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": SPEC},
    },
}
DEFAULT = "/api/v1/namespaces/d"
SCALE = "/apis/apps/v1/namespaces/d/replicasets/a/scale"
EVICTION = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
BINDING = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}}


async def begun() -> tuple[Asking, HandJournal]:
    """A namespace with a pod and a replica set in it; from now on nothing gets to the disk by itself."""
    store = Store()
    admin = Asking(Api(Core(store, builtin_registry(), Clock())))
    await admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "d"}})
    for obj in (POD, SET):
        await admin.create(obj, "d")
    return admin, HandJournal(store)


async def waits(journal: HandJournal, call: Awaitable[Any]) -> Any:
    """Return the answer to a call that must not come before the commit."""
    task = asyncio.ensure_future(call)
    for _ in range(30):
        await asyncio.sleep(0)
    assert not task.done(), "it was answered before that was on disk"
    journal.commit()
    async with asyncio.timeout(30):
        return await task


async def goes(journal: HandJournal, admin: Asking, obj: dict[str, Any]) -> asyncio.Task[Any]:
    """Begin to delete an object; the deletion is on its way to the disk."""
    task = asyncio.ensure_future(admin.delete(obj, "d"))
    await until(lambda: journal.waiting)
    return task


@pytest.mark.parametrize(
    "ask",
    [
        lambda admin: admin.delete(POD, "d"),
        lambda admin: admin.patch(POD, {"metadata": {"labels": {"a": "b"}}}, "d"),
        lambda admin: admin.patch(POD, {"status": {"phase": "Running"}}, "d", sub="status"),
        lambda admin: admin.patch(POD, POD, "d", style="apply", sub="status", fieldManager="m"),
        lambda admin: admin.call("PUT", f"{DEFAULT}/pods/a", POD),
        lambda admin: admin.call("POST", f"{DEFAULT}/pods/a/eviction", EVICTION),
        lambda admin: admin.call("POST", f"{DEFAULT}/pods/a/binding", BINDING),
    ],
    ids=["delete", "patch", "status", "apply", "update", "eviction", "binding"],
)
async def test_a_404_by_a_deletion_comes_when_that_is_on_disk(ask: Callable[[Asking], Awaitable[Any]]) -> None:
    admin, journal = await begun()
    deleted = await goes(journal, admin, POD)
    with pytest.raises(Refused) as caught:
        await waits(journal, ask(admin))
    assert caught.value.code == 404
    await deleted


async def test_clients_within_the_process_wait_as_well() -> None:
    admin, journal = await begun()
    deleted = await goes(journal, admin, POD)
    with pytest.raises(NotFound):
        await waits(journal, LocalKube(admin.api).delete(PODS, "a", "d"))
    await deleted


async def test_a_409_by_a_creation_or_a_change_comes_when_that_is_on_disk() -> None:
    admin, journal = await begun()
    other = {**POD, "metadata": {"name": "b"}}
    for first, second in (
        (lambda: admin.create(other, "d"), lambda: admin.create(other, "d")),
        (
            lambda: admin.patch(POD, {"metadata": {"labels": {"a": "b"}}}, "d"),
            lambda: admin.patch(POD, {"metadata": {"resourceVersion": "2", "labels": {"a": "c"}}}, "d"),
        ),
    ):
        begun_first = asyncio.ensure_future(first())
        await until(lambda: journal.waiting)
        with pytest.raises(Refused) as caught:
            await waits(journal, second())
        assert caught.value.code == 409
        await begun_first


async def test_dry_runs_tell_of_nothing_that_could_be_lost() -> None:
    admin, journal = await begun()
    deleted = await goes(journal, admin, POD)
    await waits(journal, admin.create(POD, "d", dryRun="All"))
    await deleted
    changed = asyncio.ensure_future(admin.patch(SET, {"metadata": {"labels": {"x": "y"}}}, "d"))
    await until(lambda: journal.waiting)
    found = await waits(journal, admin.patch(SET, {"metadata": {"labels": {"z": "y"}}}, "d", dryRun="All"))
    assert found["metadata"]["labels"] == {"x": "y", "z": "y"}
    await changed


async def test_what_is_read_is_on_disk_and_is_read_at_once() -> None:
    admin, journal = await begun()
    changed = asyncio.ensure_future(admin.patch(SET, {"spec": {"replicas": 5}}, "d"))
    deleted = asyncio.ensure_future(admin.delete(POD, "d"))
    await until(lambda: len(journal.waiting) == 2)
    async with asyncio.timeout(30):
        assert (await admin.call("GET", SCALE))["spec"]["replicas"] == 1
        assert (await admin.call("GET", SCALE.removesuffix("/scale")))["spec"]["replicas"] == 1
        assert (await admin.call("GET", f"{DEFAULT}/pods/a"))["metadata"]["name"] == "a"
        assert len((await admin.call("GET", f"{DEFAULT}/pods"))["items"]) == 1
    journal.commit()
    await asyncio.gather(changed, deleted)
    assert (await admin.call("GET", SCALE))["spec"]["replicas"] == 5
    with pytest.raises(Refused):
        await admin.call("GET", f"{DEFAULT}/pods/a")


async def test_a_refusal_with_nothing_on_its_way_does_not_wait() -> None:
    admin, journal = await begun()
    async with asyncio.timeout(30):
        with pytest.raises(Refused) as caught:
            await admin.delete({**POD, "metadata": {"name": "none"}}, "d")
    assert caught.value.code == 404
    assert not journal.waiting


async def test_what_a_refusal_rests_on_and_cannot_be_written_is_no_404() -> None:
    admin, journal = await begun()
    deleted = await goes(journal, admin, POD)
    asked = asyncio.ensure_future(admin.delete(POD, "d"))
    for _ in range(30):
        await asyncio.sleep(0)
    journal.store.failed("the disk is full")
    for task in (deleted, asked):
        with pytest.raises(Refused) as caught:
            await task
        assert caught.value.code == 500
