# SPDX-License-Identifier: Apache-2.0
"""Scenario 4: memory that does not come back is not given to anybody else, and people are told why; what would break
this (rules 16 and 17) is refused with a sentence."""

from __future__ import annotations

import time

import pytest
from tests.cluster.support.api import ApiError
from tests.cluster.support.fake_node import Patience
from tests.cluster.support.history import History
from tests.cluster.support.observer import Observer
from tests.cluster.support.processes import eventually

from dynamic_memory.api import names

GI = 1 << 30
BUSY = {"operation": "offline", "blocks": 2}
STUCK = {"operation": "remove", "reason": "the port is stuck"}


def told(here, namespace, name, reason, *words):
    """Tell whether there is an event about an object that has a reason and these words."""
    return any(has == reason and all(word in said for word in words) for _, has, said in here.events(namespace, name))


def status(here, namespace, pod):
    return (here.claim_of(pod, namespace) or {}).get("status") or {}


@pytest.mark.parametrize(
    ("operation", "words"),
    [("offline", ("MemoryBusy", "memory block")), ("remove", ("Releasing", "the port is stuck"))],
    ids=["offline refused", "fabric fails"],
)
def test_scenario_4_I4_what_cannot_be_given_back_stays_with_its_pod(
    cluster, world, fake_nodes, namespace, operation, words
):
    """The pod stays Terminating and the claim allocated; the reason is in events; then it ends by itself."""
    # the driver answers 5 s before the call's deadline, which is 45 s with the real kubelet
    (node,) = fake_nodes(patience=Patience(call=cluster.pace.call, **cluster.pace.kubelet))
    here = world([node], size="2Gi", window="2Gi")
    here.pod("a", namespace, "2Gi")
    here.wait_running("a", namespace)
    before, claim = status(here, namespace, "a"), here.claim_of("a", namespace)["metadata"]["name"]
    (share,) = here.extents()
    processes = {name: child.pid for name, child in here.children.items()}
    with Observer(here.fabric_folder / "fabric.json", here.domain, 2 * GI):
        if operation == "offline":
            here.host_faults(node.name, BUSY)
        else:
            here.fabric_faults(failures=[STUCK])
        here.api.delete("Pod", "a", namespace)
        for name in ("a", claim):
            eventually(lambda name=name: told(here, namespace, name, "ReleaseHeld", *words), 30, f"{name} is told why")
        # whoever wants these bytes meanwhile does not get them
        here.pod("b", namespace, "2Gi")
        eventually(lambda: told(here, namespace, "b", "FailedScheduling"), 30, "the next pod is refused")
        eventually(lambda: len([call for call in node.calls if call[0] == "unprepare"]) >= 2, 60, "the kubelet insists")
        assert all(error for kind, _, error in node.calls if kind == "unprepare")
        assert here.api.get("Pod", "a", namespace)["metadata"]["deletionTimestamp"]
        assert status(here, namespace, "a")["allocation"] == before["allocation"]
        assert status(here, namespace, "a")["reservedFor"] == before["reservedFor"]
        assert [held.tag for held in here.extents()] == [share.tag]
        if operation == "offline":
            # I3: with the first block that is gone, the claim does not say Attached any more
            assert 0 < here.regions(node.name)[share.tag] < 2 * GI
        assert here.condition(here.claim_of("a", namespace))["status"] == "False"
        here.wait_values({"pool0": 2 * GI})
        assert "allocation" not in status(here, namespace, "b")

        here.host_faults(node.name)
        here.fabric_faults()
        here.wait_gone("a", namespace)
        assert not {held.tag for held in here.extents()} & {share.tag}
        eventually(lambda: status(here, namespace, "b").get("allocation"), 10, "the next pod is let in")
        here.wait_running("b", namespace)
        assert {name: child.pid for name, child in here.children.items()} == processes
        assert all(child.code is None for child in here.children.values())
        here.api.delete("Pod", "b", namespace)
        here.wait_gone("b", namespace)
        here.wait_all_back()


def test_scenario_4_rule_18_I7_bytes_of_a_pod_deleted_by_force_wait_for_their_release(world, fake_nodes, namespace):
    """Refused at first. With the annotation the claim is free at once: pool and window are smaller until it is true."""
    first, second = fake_nodes(2)
    here = world([first, second])
    window = names.windows_pool(first.name)
    here.pod("a", namespace, "3Gi", node=first.name)
    here.wait_running("a", namespace)
    (share,) = here.extents()
    operator = here.cluster.operator
    code, said = operator.delete_by_force("a", namespace)
    assert code != 0
    assert "delete it without --force, or annotate it" in said, said
    assert here.running("a", namespace)
    with Observer(here.fabric_folder / "fabric.json", here.domain, 4 * GI) as observer:
        here.host_faults(first.name, {"operation": "offline"})
        claim = here.claim_of("a", namespace)["metadata"]["name"]
        code, said = operator.annotate("a", namespace, "dynamicmemory.dev/allow-force-delete", "true")
        assert code == 0, said
        code, said = operator.delete_by_force("a", namespace)
        assert code == 0, said
        eventually(lambda: here.api.find("ResourceClaim", claim, namespace) is None, 20, "the claim is gone")
        here.pod("b", namespace, "2Gi", node=second.name)
        eventually(lambda: here.values() == {"pool0": GI}, 15, "the pool is as small as it is")
        eventually(lambda: here.values(window) == {"port0": GI}, 15, "the window is as small as it is")
        eventually(lambda: told(here, namespace, claim, "ReleaseHeld", "MemoryBusy"), 20, "the release is held")
        # the next pod was refused, or, if it was quicker than the slice, waits for the bytes
        eventually(
            lambda: (
                told(here, namespace, "b", "FailedScheduling")
                or here.condition(here.claim_of("b", namespace)).get("reason") == "WaitingForRelease"
            ),
            20,
            "the next pod waits",
        )
        time.sleep(here.cluster.pace.held)
        assert not here.running("b", namespace)
        assert [held.tag for held in here.extents()] == [share.tag]
        here.wait_values({"pool0": GI})
        here.host_faults(first.name)
        eventually(lambda: share.tag not in {held.tag for held in here.extents()}, 20, "the bytes are back")
        eventually(lambda: here.values() == {"pool0": 4 * GI}, 10, "the pool is whole again")
        eventually(lambda: here.values(window) == {"port0": 4 * GI}, 10, "the window is whole again")
        here.wait_running("b", namespace, 30)
        assert observer.most == 3 * GI
        here.api.delete("Pod", "b", namespace)
        here.wait_gone("b", namespace)
        here.wait_all_back()


def test_scenario_4_rule_16_a_claim_serves_one_pod_after_the_other(world, fake_nodes, namespace):
    """A second pod with the claim is not bound while the first has it; then it gets memory of its own."""
    (node,) = fake_nodes()
    here = world([node])
    here.claim("own", namespace, "1Gi")
    here.pod("first", namespace, "1Gi", claim="own")
    here.wait_running("first", namespace)
    (share,) = here.extents()
    here.pod("second", namespace, "1Gi", claim="own")
    eventually(
        lambda: told(here, namespace, "second", "FailedScheduling", "cannot be reserved for more than one pod"),
        30,
        "the second is told why it waits",
    )
    assert [entry["name"] for entry in here.api.get("ResourceClaim", "own", namespace)["status"]["reservedFor"]] == [
        "first"
    ]
    assert here.running("first", namespace)
    here.api.delete("Pod", "first", namespace)
    here.wait_gone("first", namespace)
    here.wait_running("second", namespace, 90)
    assert share.tag not in {held.tag for held in here.extents()}
    here.api.delete("Pod", "second", namespace)
    here.wait_gone("second", namespace)
    here.wait_all_back()


def test_scenario_4_rule_16_what_slips_through_the_policies_is_refused_by_the_driver(world, fake_nodes, namespace):
    """By a class of another name no policy can know what a claim is for: it gets memory, but no window for it."""
    (node,) = fake_nodes()
    here = world([node])
    name = f"backdoor-{here.domain}"
    selector = {
        "cel": {"expression": 'device.driver == "dra.memory" && device.attributes["dra.memory"].kind == "fabric"'}
    }
    class_ = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": name}}
    here.api.create({**class_, "spec": {"selectors": [selector]}})
    try:
        body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "bare"}}
        exactly = {"deviceClassName": name, "capacity": {"requests": {"size": "1Gi"}}}
        here.api.create({**body, "spec": {"devices": {"requests": [{"name": "far", "exactly": exactly}]}}}, namespace)
        with History(here.api, "ResourceClaim", namespace) as claims:
            here.pod("a", namespace, "1Gi", claim="bare")
            words = "1 shares of fabric memory and 0 of the node's windows"
            for about in ("a", "bare"):
                eventually(
                    lambda about=about: told(here, namespace, about, "InvalidClaim", words), 30, f"{about} is told why"
                )
            began = time.monotonic()
            time.sleep(here.cluster.pace.quiet)
            again = [share for share in claims.allocations() if share.at > began]
            print(f"{len(again)} more attempts in {here.cluster.pace.quiet:g} s")
            assert len(again) <= 2
            assert not here.extents()
        # nobody else is held up by it
        assert not [*here.taints(names.windows_pool(node.name))]
        here.pod("good", namespace, "1Gi")
        here.wait_running("good", namespace)
        for pod in ("a", "good"):
            here.api.delete("Pod", pod, namespace)
            here.wait_gone(pod, namespace)
        here.wait_all_back()
    finally:
        here.api.delete("DeviceClass", name)


def test_scenario_4_rules_16_and_17_people_get_a_sentence(cluster, rights, namespace):
    """What people are told; each shape that is refused is in test_policies.py."""
    far = {"deviceClassName": names.CLASS_FABRIC, "capacity": {"requests": {"size": "1Gi"}}}
    template = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "far", "namespace": namespace},
        "spec": {"spec": {"devices": {"requests": [{"name": name, "exactly": far} for name in ("one", "two")]}}},
    }
    code, said = cluster.operator.apply(template)
    assert code != 0
    assert "a claim may have one request for dra.fabric-memory; for a second fabric or size, use a second claim" in said
    template["spec"]["spec"]["devices"]["requests"].pop()
    code, said = cluster.operator.apply(template)
    assert code == 0, said
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hasty", "namespace": namespace},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "none", "resources": {"claims": [{"name": "far"}]}}],
            "resourceClaims": [{"name": "far", "resourceClaimTemplateName": "far"}],
        },
    }
    code, said = cluster.operator.apply(pod)
    assert code != 0
    assert "a pod with fabric memory needs terminationGracePeriodSeconds of 1 or more" in said
    with pytest.raises(ApiError, match="404"):
        cluster.api.get("Pod", "hasty", namespace)
