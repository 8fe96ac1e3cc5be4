# SPDX-License-Identifier: Apache-2.0
"""Nodes that are lost, taints that drive pods away, and pods that nobody can end; in virtual time."""

from __future__ import annotations

import pytest
from tests.embedded.support.controlling import controlling, set_pod
from tests.embedded.support.scheduling import (
    GI,
    claim,
    cluster,
    memory_slice,
    node,
    node_of,
    pod,
    pool,
    scheduling,
    settle,
    until,
)

from dynamic_memory.api.kinds import LEASES, NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from dynamic_memory.embedded.controllers.objects import TAINT_RULES
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DRIVEN = {"key": "k", "effect": "NoExecute"}


def ready_node(name, **more):
    body = node(name, **more)
    body["status"]["conditions"] = [
        {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    ]
    return body


def renew(kube, name, number):
    spec = {"holderIdentity": name, "renewTime": f"2026-01-01T00:00:{number:02}.000000Z"}
    kube.put(LEASES, {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec})


def taints(kube, name="n1"):
    return {(taint["key"], taint["effect"]) for taint in kube.body(NODES, name)["spec"].get("taints") or ()}


def running_pod(kube, name, where="n1", **spec):
    set_pod(kube, pod(name, **spec), node=where)


def alive(kube, name):
    body = kube.body(PODS, name, "default")
    return body is not None and not body["metadata"].get("deletionTimestamp")


async def test_a_node_that_falls_silent_is_tainted_and_its_pods_go_after_their_patience():
    kube = cluster()
    kube.put(NODES, ready_node("n1"))
    renew(kube, "n1", 0)
    patient = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    running_pod(kube, "patient", tolerations=[{**patient, "tolerationSeconds": 300}])
    running_pod(kube, "forever", tolerations=[patient])
    running_pod(kube, "plain")
    async with controlling(kube, node_life=True, node_grace=50.0):
        for number in range(1, 5):
            await settle(30)
            renew(kube, "n1", number)
        assert taints(kube) == set()
        waited = await until(lambda: taints(kube), 100)
        assert 48 < waited < 52
        assert taints(kube) == {
            ("node.kubernetes.io/unreachable", "NoSchedule"),
            ("node.kubernetes.io/unreachable", "NoExecute"),
        }
        conditions = {item["type"]: item for item in kube.body(NODES, "n1")["status"]["conditions"]}
        assert conditions["Ready"]["status"] == "Unknown"
        assert conditions["Ready"]["message"] == "Kubelet stopped posting node status."
        await until(lambda: not alive(kube, "plain"))
        body = kube.body(PODS, "patient", "default")
        await until(lambda: kube.body(PODS, "patient", "default")["status"]["conditions"][0]["status"] == "False")
        assert body is not None
        assert 290 < await until(lambda: not alive(kube, "patient"), 310)
        assert alive(kube, "forever")
        # The kubelet is back: it writes its conditions and renews.
        back = kube.body(NODES, "n1")
        back["status"]["conditions"] = ready_node("n1")["status"]["conditions"]
        back["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-01-01T01:00:00Z"
        kube.put(NODES, back)
        renew(kube, "n1", 9)
        await until(lambda: taints(kube) == set())


async def test_conditions_and_cordons_become_taints_and_others_stay():
    kube = cluster()
    own = {"key": "mine", "effect": "NoSchedule"}
    kube.put(NODES, ready_node("n1", unschedulable=True, taints=[own]))
    async with controlling(kube, node_life=True):
        await until(
            lambda: taints(kube) == {("mine", "NoSchedule"), ("node.kubernetes.io/unschedulable", "NoSchedule")}
        )
        body = kube.body(NODES, "n1")
        body["spec"]["unschedulable"] = False
        body["status"]["conditions"].append({"type": "MemoryPressure", "status": "True"})
        kube.put(NODES, body)
        await until(
            lambda: taints(kube) == {("mine", "NoSchedule"), ("node.kubernetes.io/memory-pressure", "NoSchedule")}
        )


@pytest.mark.parametrize(
    ("tolerations", "after"),
    [
        ([], 0),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": 20}], 20),
        ([{"operator": "Exists"}, {"key": "k", "operator": "Exists", "tolerationSeconds": 5}], 5),
        ([{"key": "k", "operator": "Exists"}], None),
    ],
)
async def test_a_taint_drives_pods_away_when_their_patience_ends(tolerations, after):
    kube = cluster()
    kube.put(NODES, node("n1"))
    running_pod(kube, "a", tolerations=tolerations)
    async with controlling(kube):
        await settle(5)
        assert alive(kube, "a")
        kube.put(NODES, node("n1", taints=[{**DRIVEN, "timeAdded": clock.rfc3339(clock.now())}]))
        if after is None:
            await settle(100)
            assert alive(kube, "a")
        else:
            assert await until(lambda: not alive(kube, "a"), 30) == pytest.approx(after, abs=1.2)


async def test_a_taint_that_goes_in_time_drives_nobody_away():
    kube = cluster()
    kube.put(NODES, node("n1"))
    running_pod(kube, "a", tolerations=[{"key": "k", "operator": "Exists", "tolerationSeconds": 20}])
    async with controlling(kube):
        kube.put(NODES, node("n1", taints=[DRIVEN]))
        await settle(10)
        kube.put(NODES, node("n1"))
        await settle(60)
        assert alive(kube, "a")


async def bound_with_claim(kube):
    pool(kube, 4 * GI, "n1")
    kube.put(RESOURCE_CLAIMS, claim("c"))
    kube.put(PODS, pod("a", claims={"m": "c"}))
    await until(lambda: node_of(kube, "a"))


async def test_a_tainted_device_drives_the_pod_of_its_claim_away():
    kube = cluster()
    async with controlling(kube), scheduling(kube):
        await bound_with_claim(kube)
        kube.put(RESOURCE_SLICES, memory_slice("pool", 4 * GI, selector={"fabric": "a"}, taints=[DRIVEN]))
        assert await until(lambda: not alive(kube, "a")) < 0.2
    writes = [call for call in kube.calls if call.verb == "patch" and call.kind == "pods" and call.subresource]
    reasons = [item.get("reason") for call in writes for item in call.body["status"].get("conditions", ())]
    assert "DeletionByDeviceTaintManager" in reasons


async def test_a_rule_taints_devices_and_a_tolerating_claim_stays():
    kube = cluster()
    kube.raw["/apis/resource.k8s.io/v1"]["resources"].append({"name": "devicetaintrules"})
    async with controlling(kube), scheduling(kube):
        await bound_with_claim(kube)
        tolerant = claim("t")
        tolerant["spec"]["devices"]["requests"][0]["exactly"]["tolerations"] = [{"key": "k", "operator": "Exists"}]
        kube.put(RESOURCE_CLAIMS, tolerant)
        kube.put(PODS, pod("b", claims={"m": "t"}))
        await until(lambda: node_of(kube, "b"))
        selector = {"driver": "d", "pool": "other"}
        kube.put(TAINT_RULES, {"metadata": {"name": "r"}, "spec": {"deviceSelector": selector, "taint": DRIVEN}})
        await settle(3)
        assert alive(kube, "a")
        selector = {"driver": "d", "pool": "pool"}
        kube.put(TAINT_RULES, {"metadata": {"name": "r"}, "spec": {"deviceSelector": selector, "taint": DRIVEN}})
        await until(lambda: not alive(kube, "a"))
        await settle(3)
        assert alive(kube, "b")


async def test_pods_of_a_node_that_is_gone_are_ended_after_the_quarantine():
    kube = cluster()
    kube.put(NODES, node("n1"))
    running_pod(kube, "a")
    async with controlling(kube, pod_quarantine=40.0):
        kube.remove(NODES, "n1")
        assert 38 < await until(lambda: kube.body(PODS, "a", "default") is None, 60) < 42
    marks = [call.body["status"] for call in kube.calls if call.verb == "patch" and call.kind == "pods"]
    assert marks[0]["phase"] == "Failed"
    assert marks[0]["conditions"][-1]["message"] == "PodGC: node no longer exists"


async def test_a_node_that_comes_back_within_the_quarantine_keeps_its_pods():
    kube = cluster()
    kube.put(NODES, node("n1"))
    running_pod(kube, "a")
    async with controlling(kube, pod_quarantine=40.0):
        kube.remove(NODES, "n1")
        await settle(20)
        kube.put(NODES, node("n1"))
        await settle(60)
    assert alive(kube, "a")


async def test_terminating_pods_of_a_node_out_of_service_are_ended_by_force():
    kube = cluster()
    out = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
    kube.put(NODES, node("n1"))
    running_pod(kube, "a")
    body = kube.body(PODS, "a", "default")
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    body["metadata"]["finalizers"] = ["kubelet"]
    kube.put(PODS, body)
    async with controlling(kube):
        await settle(30)
        assert kube.count("delete", PODS) == 0
        kube.put(NODES, node("n1", taints=[out]))
        await until(lambda: kube.count("delete", PODS))
    call = next(call for call in kube.calls if call.verb == "delete" and call.kind == "pods")
    assert call.body == {"gracePeriodSeconds": 0}


async def test_a_pod_deleted_before_it_had_a_node_is_ended_by_force():
    kube = cluster()
    body = pod("a")
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    body["metadata"]["finalizers"] = ["x"]
    kube.put(PODS, body)
    async with controlling(kube):
        await until(lambda: kube.count("delete", PODS))
