# SPDX-License-Identifier: Apache-2.0
"""The scheduler over an API server in memory, in virtual time."""

from __future__ import annotations

import pytest
from tests.embedded.support.scheduling import (
    ATTACHED,
    BINDING,
    FAILED,
    GI,
    bound,
    claim,
    cluster,
    device_class,
    events,
    memory_slice,
    node,
    node_of,
    pod,
    pool,
    release,
    scheduled_condition,
    scheduling,
    set_condition,
    settle,
    status_of,
    until,
)

from dynamic_memory.allocation import Allocator, Inventory
from dynamic_memory.api.kinds import DEVICE_CLASSES, NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from dynamic_memory.embedded.scheduler import SchedulerConfig
from dynamic_memory.embedded.scheduler.binding import FINALIZER
from dynamic_memory.kube.errors import Invalid, Unavailable

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def test_a_pod_goes_to_the_emptiest_node_that_fits():
    kube = cluster()
    kube.put(NODES, node("big", cpu="16"))
    kube.put(NODES, node("small", cpu="2"))
    kube.put(PODS, pod("a", cpu="4"))
    async with scheduling(kube):
        await until(lambda: node_of(kube, "a"))
        await until(lambda: events(kube, "Scheduled"))
    assert node_of(kube, "a") == "big"
    assert events(kube, "Scheduled") == ["Successfully assigned default/a to big"]


async def test_the_sentence_about_a_pod_that_fits_nowhere_counts_the_reasons():
    kube = cluster()
    kube.put(NODES, node("tainted", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]))
    kube.put(NODES, node("cordoned", unschedulable=True))
    kube.put(NODES, node("full", cpu="1", memory="1Gi"))
    kube.put(NODES, node("unlabelled", labels={"disk": "hdd"}))
    kube.put(PODS, pod("a", cpu="4", memory="4Gi", nodeSelector={"disk": "ssd"}))
    kube.put(PODS, pod("b", cpu="40", memory="40Gi"))
    async with scheduling(kube):
        await until(lambda: scheduled_condition(kube, "a") and scheduled_condition(kube, "b"))
    condition = scheduled_condition(kube, "a")
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert condition["message"] == (
        "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, "
        "2 node(s) didn't match Pod's node affinity/selector. "
        "preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
    )
    assert scheduled_condition(kube, "b")["message"] == (
        "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, "
        "2 Insufficient cpu, 2 Insufficient memory. "
        "preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
    )
    assert condition["message"] in events(kube, "FailedScheduling")


async def test_a_missing_class_is_told_and_helps_once_it_is_there():
    kube = cluster()
    kube.put(NODES, node("n1"))
    kube.put(RESOURCE_SLICES, memory_slice("n1", GI, node_name="n1"))
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with scheduling(kube):
        await until(lambda: scheduled_condition(kube, "a"))
        assert scheduled_condition(kube, "a")["message"] == (
            "0/1 nodes are available: request m: device class memory does not exist. "
            "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        )
        await settle(30)
        kube.put(DEVICE_CLASSES, device_class())
        assert await until(lambda: node_of(kube, "a")) < 0.1


async def test_a_cluster_without_nodes_says_so_and_the_first_node_helps_at_once():
    kube = cluster()
    kube.put(PODS, pod("a"))
    async with scheduling(kube):
        await until(lambda: scheduled_condition(kube, "a"))
        assert scheduled_condition(kube, "a")["message"] == "no nodes available to schedule pods"
        await settle(30)
        kube.put(NODES, node("n"))
        assert await until(lambda: node_of(kube, "a")) < 0.1


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({}, False),
        ({"tolerations": [{"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}]}, True),
        ({"tolerations": [{"key": "k", "operator": "Equal", "value": "w", "effect": "NoSchedule"}]}, False),
        ({"tolerations": [{"operator": "Exists"}]}, True),
    ],
)
async def test_taints_keep_pods_off_that_do_not_tolerate_them(spec, fits):
    kube = cluster()
    kube.put(NODES, node("n", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]))
    kube.put(PODS, pod("a", **spec))
    async with scheduling(kube):
        await settle()
    assert bool(node_of(kube, "a")) == fits


async def test_affinity_and_gates_and_the_scheduler_name_are_respected():
    kube = cluster()
    for name in ("n1", "n2"):
        kube.put(NODES, node(name))
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    kube.put(PODS, pod("affine", affinity={"nodeAffinity": required}))
    kube.put(PODS, pod("gated", schedulingGates=[{"name": "g"}]))
    kube.put(PODS, pod("other", schedulerName="other"))
    async with scheduling(kube):
        await settle()
        assert node_of(kube, "affine") == "n2"
        assert bound(kube) == ["affine"]
        free = kube.body(PODS, "gated", "default")
        free["spec"]["schedulingGates"] = []
        kube.put(PODS, free)
        await until(lambda: node_of(kube, "gated"))
    assert node_of(kube, "other") == ""


async def test_priority_goes_first_and_the_number_of_pods_is_limited():
    kube = cluster()
    kube.put(PODS, pod("low"))
    kube.put(PODS, pod("high", priority=100))
    async with scheduling(kube):
        await settle()
        kube.put(NODES, node("n", pods="1"))
        await settle()
        assert bound(kube) == ["high"]
        assert scheduled_condition(kube, "low")["message"] == (
            "0/1 nodes are available: 1 Too many pods. "
            "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        )
        kube.remove(PODS, "high", "default")
        assert await until(lambda: node_of(kube, "low")) < 0.1


async def test_a_claim_is_allocated_reserved_protected_and_its_pod_bound():
    kube = cluster()
    pool(kube, 4 * GI, "n1", "n2")
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with scheduling(kube):
        await until(lambda: node_of(kube, "a"))
    body = kube.body(RESOURCE_CLAIMS, "c", "default")
    assert body["metadata"]["finalizers"] == [FINALIZER]
    result = body["status"]["allocation"]["devices"]["results"][0]
    assert result["consumedCapacity"] == {"size": "1Gi"}
    assert result["shareID"]
    assert body["status"]["allocation"]["allocationTimestamp"]
    uid = kube.body(PODS, "a", "default")["metadata"]["uid"]
    assert body["status"]["reservedFor"] == [{"resource": "pods", "name": "a", "uid": uid}]


async def test_full_pool_four_of_ten_run_and_each_deletion_lets_one_in_at_once():
    kube = cluster()
    pool(kube, 4 * GI, "n1", "n2", "n3")
    for number in range(10):
        kube.put(RESOURCE_CLAIMS, claim(f"c{number}"))
        kube.put(PODS, pod(f"p{number}", claims={"m": f"c{number}"}))
    async with scheduling(kube):
        await until(lambda: len(bound(kube)) == 4)
        await settle(1)
        assert len(bound(kube)) == 4
        waiting = next(f"p{number}" for number in range(10) if not node_of(kube, f"p{number}"))
        assert scheduled_condition(kube, waiting)["message"] == (
            "0/3 nodes are available: 3 cannot allocate all claims. "
            "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        )
        left = 10
        while left > 4:
            victim = bound(kube)[0]
            release(kube, victim, f"c{victim[1:]}")
            left -= 1
            assert await until(lambda: len(bound(kube)) == 4) < 0.1
        used = sum(bool(status_of(kube, f"c{number}").get("allocation")) for number in range(10))
        assert used == 4


async def test_a_herd_of_waiting_pods_is_looked_at_once(monkeypatch):
    kube = cluster()
    pool(kube, 4 * GI, "n1", "n2")
    for number in range(200):
        kube.put(RESOURCE_CLAIMS, claim(f"c{number}"))
        kube.put(PODS, pod(f"p{number}", claims={"m": f"c{number}"}))
    searches = 0
    plan = Allocator.plan

    def counted(self, claims):
        nonlocal searches
        searches += 1
        return plan(self, claims)

    async with scheduling(kube) as scheduler:
        await until(lambda: scheduler.queue.count("parked") == 196)
        await settle(20)
        monkeypatch.setattr(Allocator, "plan", counted)
        release(kube, bound(kube)[0], "c0")
        assert await until(lambda: len(bound(kube)) == 4) < 0.1
        await until(lambda: scheduler.queue.count("parked") == 195)
        assert searches < 20


async def test_a_pod_is_bound_only_after_every_binding_condition_is_true():
    kube = cluster()
    pool(kube, 4 * GI, "n1", **BINDING)
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with scheduling(kube):
        await until(lambda: status_of(kube, "c").get("allocation"))
        await settle(60)
        assert node_of(kube, "a") == ""
        assert kube.body(PODS, "a", "default")["status"]["nominatedNodeName"] == "n1"
        set_condition(kube, "c", ATTACHED)
        assert await until(lambda: node_of(kube, "a")) < 0.1
    assert node_of(kube, "a") == "n1"
    assert len(events(kube, "BindingConditionsPending")) == 1


async def test_a_failed_attachment_is_given_back_and_tried_elsewhere():
    kube = cluster()
    kube.put(DEVICE_CLASSES, device_class())
    for name in ("n1", "n2"):
        kube.put(NODES, node(name))
        kube.put(RESOURCE_SLICES, memory_slice(f"{name}-pool", GI, node_name=name, **BINDING))
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with scheduling(kube):
        await until(lambda: status_of(kube, "c").get("allocation"))
        first = status_of(kube, "c")["allocation"]["devices"]["results"][0]
        assert first["pool"] == "n1-pool"
        broken = memory_slice("n1-pool", GI, node_name="n1", **BINDING)
        broken["spec"]["devices"][0]["taints"] = [{"key": "broken", "effect": "NoSchedule"}]
        kube.put(RESOURCE_SLICES, broken)
        set_condition(kube, "c", FAILED, "LinkDown", "no link")

        def elsewhere():
            results = status_of(kube, "c").get("allocation", {}).get("devices", {}).get("results", [])
            return results and results[0]["pool"] == "n2-pool"

        assert 0.5 < await until(elsewhere) < 3
        set_condition(kube, "c", ATTACHED)
        await until(lambda: node_of(kube, "a") == "n2")
    text = "device binding failed: claim=c, reason=LinkDown, message=no link"
    assert any(message.endswith(text) for message in events(kube, "FailedScheduling"))


async def test_a_failed_attachment_with_nowhere_else_to_go_leaves_neither_claim_nor_nomination():
    kube = cluster()
    pool(kube, GI, "n1", **BINDING)
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with scheduling(kube) as scheduler:
        await until(lambda: status_of(kube, "a", PODS).get("nominatedNodeName") == "n1")
        taints = [{"key": "broken", "effect": "NoSchedule"}]
        kube.put(RESOURCE_SLICES, memory_slice("pool", GI, selector={"fabric": "a"}, **BINDING, taints=taints))
        set_condition(kube, "c", FAILED, "LinkDown", "no link")
        await until(lambda: not status_of(kube, "c").get("allocation"))
        uid = kube.body(PODS, "a", "default")["metadata"]["uid"]
        await until(lambda: scheduler.queue.state(uid) == "parked")
        await settle()
        assert not status_of(kube, "a", PODS).get("nominatedNodeName")
        assert not status_of(kube, "c").get("reservedFor")
        assert scheduler.table.snapshot()["n1"][0] == 0
        kube.put(RESOURCE_SLICES, memory_slice("pool", GI, selector={"fabric": "a"}, **BINDING))
        assert await until(lambda: status_of(kube, "c").get("allocation")) < 0.1


async def test_devices_that_are_late_are_given_back():
    kube = cluster()
    pool(kube, GI, "n1", **BINDING)
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with scheduling(kube, SchedulerConfig(binding_timeout=20.0)):
        await until(lambda: status_of(kube, "c").get("allocation"))
        first = status_of(kube, "c")["allocation"]["devices"]["results"][0]["shareID"]

        def again():
            results = status_of(kube, "c").get("allocation", {}).get("devices", {}).get("results", [])
            return results and results[0]["shareID"] != first

        assert 20 < await until(again, 30) < 24
        set_condition(kube, "c", ATTACHED)
        await until(lambda: node_of(kube, "a"))


async def test_a_pod_deleted_while_its_devices_attach_leaves_nothing_behind():
    kube = cluster()
    pool(kube, GI, "n1", **BINDING)
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with scheduling(kube) as scheduler:
        await until(lambda: status_of(kube, "c").get("allocation"))
        await settle()
        kube.remove(PODS, "a", "default")
        await until(lambda: not scheduler.flying)
        assert scheduler.table.snapshot()["n1"][0] == 0
        # the claim controller's part, and its alone: reservation and allocation go together
        await settle()
        assert status_of(kube, "c")["reservedFor"]
        kube.put(RESOURCE_CLAIMS, claim("c"))
        kube.put(PODS, pod("b", claims={"m": "c"}))
        await until(lambda: status_of(kube, "c").get("reservedFor"))
        set_condition(kube, "c", ATTACHED)
        await until(lambda: node_of(kube, "b"))


async def test_a_shared_claim_keeps_its_second_pod_on_the_same_node():
    kube = cluster()
    kube.put(DEVICE_CLASSES, device_class())
    for name in ("n1", "n2"):
        kube.put(NODES, node(name))
        kube.put(RESOURCE_SLICES, memory_slice(name, GI, node_name=name))
    kube.put(RESOURCE_CLAIMS, claim("c"))
    for name in ("a", "b"):
        kube.put(PODS, pod(name, claims={"m": "c"}))
    async with scheduling(kube):
        await until(lambda: len(bound(kube)) == 2)
    assert node_of(kube, "a") == node_of(kube, "b")
    assert len(status_of(kube, "c")["reservedFor"]) == 2


async def test_an_allocation_of_nobody_that_is_in_the_way_is_cleared():
    kube = cluster()
    kube.put(DEVICE_CLASSES, device_class())
    for name in ("n1", "n2"):
        kube.put(NODES, node(name))
        kube.put(RESOURCE_SLICES, memory_slice(name, GI, node_name=name))
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}, nodeSelector={"kubernetes.io/hostname": "n1"}))
    async with scheduling(kube):
        await until(lambda: node_of(kube, "a"))
        kube.remove(PODS, "a", "default")
        body = kube.body(RESOURCE_CLAIMS, "c", "default")
        body["status"].pop("reservedFor")
        kube.put(RESOURCE_CLAIMS, body)
        kube.put(PODS, pod("b", claims={"m": "c"}, nodeSelector={"kubernetes.io/hostname": "n2"}))
        await until(lambda: node_of(kube, "b") == "n2")
    assert any("deallocation of ResourceClaim completed" in text for text in events(kube, "FailedScheduling"))


async def test_a_node_with_an_early_alternative_of_a_list_is_preferred():
    kube = cluster()
    for name, driver in (("n1", "second"), ("n2", "first"), ("n3", "second")):
        kube.put(NODES, node(name))
        piece = memory_slice(name, GI, node_name=name)
        piece["spec"]["driver"] = driver
        kube.put(RESOURCE_SLICES, piece)
    for name in ("first", "second"):
        selectors = [{"cel": {"expression": f'device.driver == "{name}"'}}]
        kube.put(DEVICE_CLASSES, {"metadata": {"name": name}, "spec": {"selectors": selectors}})
    for number in range(3):
        body = claim(f"c{number}")
        options = [
            {
                "name": name,
                "deviceClassName": name,
                "allocationMode": "ExactCount",
                "count": 1,
                "capacity": {"requests": {"size": "1Gi"}},
            }
            for name in ("first", "second")
        ]
        body["spec"]["devices"]["requests"] = [{"name": "m", "firstAvailable": options}]
        kube.put(RESOURCE_CLAIMS, body)
    async with scheduling(kube):
        for number, expected in enumerate(("n2", "n1", "n3")):
            kube.put(PODS, pod(f"p{number}", claims={"m": f"c{number}"}))
            await until(lambda number=number: node_of(kube, f"p{number}"))
            assert node_of(kube, f"p{number}") == expected
    assert status_of(kube, "c0")["allocation"]["devices"]["results"][0]["request"] == "m/first"


async def test_a_pod_waits_for_the_claim_of_its_template_and_goes_on_at_once():
    kube = cluster()
    pool(kube, 4 * GI, "n1")
    kube.put(PODS, pod("a", templates={"m": "t"}))
    async with scheduling(kube):
        await settle(5)
        assert node_of(kube, "a") == ""
        body = kube.body(PODS, "a", "default")
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": body["metadata"]["uid"], "controller": True}
        body["status"]["resourceClaimStatuses"] = [{"name": "m", "resourceClaimName": "a-m-1"}]
        kube.put(PODS, body)
        await settle(5)
        kube.put(RESOURCE_CLAIMS, claim("a-m-1", ownerReferences=[owner]))
        assert await until(lambda: node_of(kube, "a")) < 0.1


async def test_a_restarted_scheduler_goes_on_with_what_was_half_done():
    kube = cluster()
    pool(kube, 4 * GI, "n1", **BINDING)
    for name in ("a", "b"):
        kube.put(RESOURCE_CLAIMS, claim(f"c-{name}"))
        kube.put(PODS, pod(name, claims={"m": f"c-{name}"}))
    async with scheduling(kube):
        await until(lambda: all(status_of(kube, f"c-{name}").get("allocation") for name in "ab"))
    shares = {name: status_of(kube, f"c-{name}")["allocation"]["devices"]["results"] for name in "ab"}
    set_condition(kube, "c-a", ATTACHED)
    async with scheduling(kube):
        await until(lambda: node_of(kube, "a"))
        set_condition(kube, "c-b", ATTACHED)
        await until(lambda: node_of(kube, "b"))
    for name in "ab":
        assert status_of(kube, f"c-{name}")["allocation"]["devices"]["results"] == shares[name]


@pytest.mark.parametrize("verb", ["patch", "create_raw"])
async def test_writes_that_fail_are_taken_back_and_tried_again(verb):
    kube = cluster()
    pool(kube, GI, "n1")
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    kind = RESOURCE_CLAIMS if verb == "patch" else None
    kube.fail(Unavailable(0, "Unreachable", "gone"), verb=verb, kind=kind)
    async with scheduling(kube) as scheduler:
        assert 0.9 < await until(lambda: node_of(kube, "a")) < 3
        await settle()
        assert_equal_to_rebuilt(kube, scheduler)


async def test_a_reservation_that_a_policy_refuses_is_tried_again_when_the_claim_changes():
    kube = cluster()
    pool(kube, GI, "n1")
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    async with scheduling(kube):
        await until(lambda: node_of(kube, "a"))

        def refuse(call):
            status = (
                call.body.get("status", {}) if call.verb == "patch" and call.kind.startswith("resourceclaims") else {}
            )
            if len(status.get("reservedFor") or ()) > 1:
                raise Invalid(422, "Invalid", "one pod at a time")

        kube.before = refuse
        kube.put(PODS, pod("b", claims={"m": "c"}))
        await until(lambda: scheduled_condition(kube, "b"))
        assert "one pod at a time" in scheduled_condition(kube, "b")["message"]
        await settle(40)
        release(kube, "a", "c")
        assert await until(lambda: node_of(kube, "b")) < 0.1


async def test_a_lost_answer_to_a_bind_is_no_lost_bind():
    kube = cluster()
    kube.put(NODES, node("n1"))
    kube.put(PODS, pod("a"))
    whole = kube.raw["/api/v1/namespaces/default/pods/a/binding"]

    def bind(body):
        whole(body)
        raise Unavailable(0, "Unreachable", "the answer was lost")

    kube.raw["/api/v1/namespaces/default/pods/a/binding"] = bind
    async with scheduling(kube) as scheduler:
        await until(lambda: node_of(kube, "a"))
        await settle()
        assert scheduler.table.snapshot()["n1"][0] == 1
    assert not events(kube, "FailedScheduling")


def assert_equal_to_rebuilt(kube, scheduler):
    """What events have made of the inventory is what it would be if made of the objects as they are now."""
    fresh = Inventory()
    for kind, put in (
        (NODES, fresh.put_node),
        (DEVICE_CLASSES, fresh.put_class),
        (RESOURCE_SLICES, fresh.put_slice),
        (RESOURCE_CLAIMS, fresh.put_claim),
    ):
        for item in scheduler_objects(kube, kind):
            put(item)
    mine, theirs = scheduler.inventory.snapshot(), fresh.snapshot()
    assert mine == theirs


def scheduler_objects(kube, kind):
    import msgspec

    return [msgspec.convert(body, kind.type) for body in kube.bodies(kind)]


async def test_the_incremental_inventory_equals_one_made_anew_after_churn():
    import random

    rng = random.Random(7)
    kube = cluster()
    pool(kube, 8 * GI, "n0", "n1", "n2")
    for name in ("n0", "n1", "n2"):
        kube.put(RESOURCE_SLICES, memory_slice(f"{name}-local", 2 * GI, node_name=name))
    async with scheduling(kube) as scheduler:
        number = 0
        for step in range(120):
            running = bound(kube)
            if running and rng.random() < 0.4:
                victim = rng.choice(running)
                release(kube, victim, f"c{victim[1:]}")
            elif rng.random() < 0.1:
                name = f"n{rng.randrange(3)}"
                kube.put(RESOURCE_SLICES, memory_slice(f"{name}-local", rng.choice([1, 2, 3]) * GI, node_name=name))
            else:
                number += 1
                kube.put(RESOURCE_CLAIMS, claim(f"c{number}", rng.choice([1, 2]) * GI))
                kube.put(PODS, pod(f"p{number}", claims={"m": f"c{number}"}))
            if step % 10 == 9:
                await settle(2)
                await until(lambda: not scheduler.flying and not scheduler.book.assumed)
                assert_equal_to_rebuilt(kube, scheduler)
        assert len(bound(kube)) > 3
