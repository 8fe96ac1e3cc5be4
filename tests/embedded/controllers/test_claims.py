# SPDX-License-Identifier: Apache-2.0
"""The claim controller, alone and together with the scheduler."""

from __future__ import annotations

import pytest
from tests.embedded.support.controlling import controlling, set_pod
from tests.embedded.support.scheduling import (
    ATTACHED,
    BINDING,
    GI,
    bound,
    claim,
    claim_spec,
    cluster,
    events,
    node_of,
    pod,
    pool,
    scheduling,
    set_condition,
    settle,
    status_of,
    until,
)

from dynamic_memory.api.kinds import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from dynamic_memory.embedded.controllers.claims import FINALIZER, POD_CLAIM_NAME
from dynamic_memory.kube.errors import Conflict, Unavailable

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def put_template(kube, size=GI):
    inner = {"metadata": {"labels": {"l": "v"}}, "spec": claim_spec(size)}
    kube.put(RESOURCE_CLAIM_TEMPLATES, {"metadata": {"name": "t", "namespace": "default"}, "spec": inner})


def claims(kube):
    return kube.bodies(RESOURCE_CLAIMS)


async def test_a_pod_gets_a_claim_of_its_own_and_is_told_its_name():
    kube = cluster()
    put_template(kube)
    body = kube.put(PODS, pod("a", templates={"m": "t"}))
    async with controlling(kube):
        await until(lambda: status_of(kube, "a", PODS).get("resourceClaimStatuses"))
    (made,) = claims(kube)
    meta = made["metadata"]
    assert meta["name"].startswith("a-m-")
    assert meta["annotations"] == {POD_CLAIM_NAME: "m"}
    assert meta["labels"] == {"l": "v"}
    (owner,) = meta["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Pod", body["metadata"]["uid"], True)
    assert made["spec"] == claim_spec(GI)
    expected = [{"name": "m", "resourceClaimName": meta["name"]}]
    assert status_of(kube, "a", PODS)["resourceClaimStatuses"] == expected


async def test_a_restart_between_claim_and_status_makes_no_second_claim():
    kube = cluster()
    put_template(kube)
    kube.put(PODS, pod("a", templates={"m": "t"}))
    kube.fail(Unavailable(0, "Unreachable", "gone"), verb="patch", kind=PODS, times=100)
    async with controlling(kube):
        await until(lambda: claims(kube))
        await settle(3)
    kube._failures.clear()
    async with controlling(kube):
        await until(lambda: status_of(kube, "a", PODS).get("resourceClaimStatuses"))
        await settle(3)
    assert len(claims(kube)) == 1


async def test_a_missing_template_is_said_and_helps_as_soon_as_it_is_there():
    kube = cluster()
    kube.put(PODS, pod("a", templates={"m": "t"}))
    async with controlling(kube):
        await until(lambda: events(kube, "FailedResourceClaimCreation"))
        put_template(kube)
        assert await until(lambda: claims(kube)) < 0.1
    assert events(kube, "FailedResourceClaimCreation") == [
        'PodResourceClaim m: resource claim template "t": resourceclaimtemplate.resource.k8s.io "t" not found'
    ]


async def test_a_claim_that_was_deleted_under_its_pod_is_made_again():
    kube = cluster()
    put_template(kube)
    kube.put(PODS, pod("a", templates={"m": "t"}))
    async with controlling(kube):
        await until(lambda: status_of(kube, "a", PODS).get("resourceClaimStatuses"))
        (first,) = claims(kube)
        kube.remove(RESOURCE_CLAIMS, first["metadata"]["name"], "default")
        await until(lambda: claims(kube) and claims(kube)[0]["metadata"]["uid"] != first["metadata"]["uid"])
        name = claims(kube)[0]["metadata"]["name"]
        await until(lambda: status_of(kube, "a", PODS)["resourceClaimStatuses"][0]["resourceClaimName"] == name)


@pytest.mark.parametrize("end", ["deleted", "Succeeded", "Failed", "deleted before it had a node"])
async def test_a_template_claim_goes_with_its_pod(end):
    kube = cluster()
    pool(kube, 4 * GI, "n1", **(BINDING if "before" in end else {}))
    put_template(kube)
    kube.put(PODS, pod("a", templates={"m": "t"}))
    async with controlling(kube), scheduling(kube):
        await until(lambda: claims(kube) and claims(kube)[0].get("status", {}).get("reservedFor"))
        if "before" not in end:
            await until(lambda: node_of(kube, "a"))
        body = kube.body(PODS, "a", "default")
        match end:
            case "deleted":
                kube.remove(PODS, "a", "default")
            case "Succeeded" | "Failed":
                set_pod(kube, body, phase=end)
            case _:
                body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
                body["metadata"]["finalizers"] = ["x"]
                kube.put(PODS, body)
        assert await until(lambda: not claims(kube)) < 0.2


async def test_an_own_claim_is_emptied_and_stays():
    kube = cluster()
    pool(kube, 4 * GI, "n1")
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with controlling(kube), scheduling(kube):
        await until(lambda: node_of(kube, "a"))
        kube.remove(PODS, "a", "default")
        await until(lambda: not status_of(kube, "c").get("allocation"))
        await until(lambda: not kube.body(RESOURCE_CLAIMS, "c", "default")["metadata"].get("finalizers"))
        kube.put(PODS, pod("b", claims={"m": "c"}))
        await until(lambda: node_of(kube, "b"))
    assert FINALIZER in kube.body(RESOURCE_CLAIMS, "c", "default")["metadata"]["finalizers"]


async def test_an_own_claim_is_emptied_when_its_pod_goes_while_devices_attach():
    kube = cluster()
    pool(kube, GI, "n1", **BINDING)
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with controlling(kube), scheduling(kube) as scheduler:
        await until(lambda: status_of(kube, "c").get("allocation"))
        await settle()
        kube.remove(PODS, "a", "default")
        assert await until(lambda: not status_of(kube, "c").get("allocation")) < 0.2
        await until(lambda: not scheduler.flying)
        kube.put(RESOURCE_CLAIMS, claim("other"))
        kube.put(PODS, pod("b", claims={"m": "other"}))
        await until(lambda: status_of(kube, "other").get("allocation"))


async def test_a_shared_claim_is_kept_until_its_last_pod_has_gone():
    kube = cluster()
    pool(kube, 4 * GI, "n1")
    kube.put(RESOURCE_CLAIMS, claim("c"))
    for name in ("a", "b"):
        kube.put(PODS, pod(name, claims={"m": "c"}))
    async with controlling(kube), scheduling(kube):
        await until(lambda: len(bound(kube)) == 2)
        kube.remove(PODS, "a", "default")
        await until(lambda: len(status_of(kube, "c")["reservedFor"]) == 1)
        assert status_of(kube, "c")["allocation"]
        kube.remove(PODS, "b", "default")
        await until(lambda: not status_of(kube, "c").get("allocation"))


async def test_a_reference_to_something_else_keeps_the_allocation():
    kube = cluster()
    pool(kube, 4 * GI, "n1")
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with controlling(kube), scheduling(kube):
        await until(lambda: node_of(kube, "a"))
        body = kube.body(RESOURCE_CLAIMS, "c", "default")
        hold = {"apiGroup": "dynamicmemory.dev", "resource": "memoryattachments", "name": "x", "uid": "u"}
        body["status"]["reservedFor"].append(hold)
        kube.put(RESOURCE_CLAIMS, body)
        kube.remove(PODS, "a", "default")
        await until(lambda: status_of(kube, "c")["reservedFor"] == [hold])
        await settle(3)
        assert status_of(kube, "c")["allocation"]


async def test_a_deleted_claim_is_protected_while_it_is_used_and_goes_then():
    kube = cluster()
    pool(kube, 4 * GI, "n1")
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with controlling(kube), scheduling(kube):
        await until(lambda: node_of(kube, "a"))
        await kube.delete(RESOURCE_CLAIMS, "c", "default")
        await settle(3)
        assert status_of(kube, "c")["allocation"]
        kube.remove(PODS, "a", "default")
        await until(lambda: kube.body(RESOURCE_CLAIMS, "c", "default") is None)


async def test_a_conflict_is_tried_again():
    kube = cluster()
    pool(kube, 4 * GI, "n1")
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with controlling(kube), scheduling(kube):
        await until(lambda: node_of(kube, "a"))
        kube.fail(Conflict(409, "Conflict", "changed"), verb="patch", kind=RESOURCE_CLAIMS, times=2)
        kube.remove(PODS, "a", "default")
        await until(lambda: not status_of(kube, "c").get("allocation"))


async def test_ten_pods_of_a_template_on_a_pool_for_four_take_turns():
    kube = cluster()
    pool(kube, 4 * GI, "n1", "n2", "n3", **BINDING)
    put_template(kube)
    for number in range(10):
        kube.put(PODS, pod(f"p{number}", templates={"m": "t"}))

    def attach():
        for item in claims(kube):
            status = item.get("status") or {}
            if status.get("allocation") and not status.get("devices"):
                set_condition(kube, item["metadata"]["name"], ATTACHED)
        return True

    async with controlling(kube), scheduling(kube):
        await until(lambda: attach() and len(bound(kube)) == 4)
        for left in range(9, -1, -1):
            kube.remove(PODS, bound(kube)[0], "default")
            assert await until(lambda left=left: attach() and len(bound(kube)) == min(4, left)) < 0.3
        await until(lambda: not claims(kube))
