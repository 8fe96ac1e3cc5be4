# SPDX-License-Identifier: Apache-2.0
"""Scenario 3: what goes wrong on the way to the memory, and the state in which each of it ends."""

from __future__ import annotations

import itertools
import time

import yaml
from tests.cluster.support.history import History
from tests.cluster.support.observer import Observer
from tests.cluster.support.processes import eventually

from dynamic_memory.api import names

MI, GI = 1 << 20, 1 << 30
ADD_FAILS = {"operation": "add", "reason": "the blade is busy"}


def observed(here, total=4 * GI):
    return Observer(here.fabric_folder / "fabric.json", here.domain, total)


def reasons(here, namespace, name):
    """Return the reasons of the events about an object, with all that they say."""
    return [(reason, message) for _, reason, message in here.events(namespace, name)]


def told(here, namespace, name, reason, *words):
    """Tell whether there is an event about an object that has a reason and these words."""
    return any(has == reason and all(word in said for word in words) for has, said in reasons(here, namespace, name))


def end(here, namespace, *pods):
    """Delete pods, and wait until every byte is back."""
    for pod in pods:
        here.api.delete("Pod", pod, namespace)
    for pod in pods:
        here.wait_gone(pod, namespace)
    here.wait_all_back()


def allocated(here, namespace, pod):
    """Return the allocation of a pod's claim, if it has one."""
    return ((here.claim_of(pod, namespace) or {}).get("status") or {}).get("allocation")


def recorded(here, node):
    """Return the names of the records on a node: what its driver works on."""
    return {path.stem for path in (here.state_dir(node) / "claims").glob("*.json")}


def test_scenario_3_a_request_larger_than_every_window_waits_and_nothing_is_done(world, fake_nodes, namespace):
    """The pool would have the bytes. Nobody is asked for them, and what fits is not held up."""
    nodes = fake_nodes(2)
    here = world(nodes, start=False, window="1Gi")
    config = here.folder / "service.yaml"
    service = yaml.safe_load(config.read_text())
    service["backend"]["simulated"]["domains"][0]["hosts"][1]["window"] = "2Gi"
    config.write_text(yaml.safe_dump(service))
    here.start()
    with observed(here) as observer, History(here.api, "ResourceClaim", namespace) as claims:
        here.pod("wide", namespace, "3Gi")
        eventually(
            lambda: told(here, namespace, "wide", "FailedScheduling"), 30, "the pod is told that it does not fit"
        )
        # 2Gi fit one of the two windows
        here.pod("fits", namespace, "2Gi")
        here.wait_running("fits", namespace)
        assert here.api.get("Pod", "fits", namespace)["spec"]["nodeName"] == nodes[1].name
        assert here.api.get("Pod", "wide", namespace)["status"]["phase"] == "Pending"
        assert not allocated(here, namespace, "wide")
        assert len(claims.allocations()) == 1
        assert observer.most == 2 * GI
        end(here, namespace, "fits", "wide")


def test_scenario_3_an_attach_that_fails_once_is_made_up_for(cluster, world, fake_nodes, namespace):
    """On another node, if there is one: the node where it failed is not offered for a while, then it is again."""
    nodes = fake_nodes(2)
    here = world(nodes, driver={"timing": {"hold": cluster.pace.hold}})
    here.fabric_faults(failures=[{**ADD_FAILS, "times": 1}])
    with observed(here) as observer, History(here.api, "ResourceClaim", namespace) as claims:
        here.pod("a", namespace, "1Gi")
        here.wait_running("a", namespace)
        first, second = claims.allocations()
        assert first.failed is not None
        assert first.attached is None
        assert second.failed is None
        assert [share.tag for share in here.extents()] == [second.share]
        assert observer.most == GI
        eventually(
            lambda: told(here, namespace, "a", "AttachFailed", "FabricError", "the blade is busy", "(simulated)"),
            10,
            "people were told",
        )
        chosen = here.api.get("Pod", "a", namespace)["spec"]["nodeName"]
        (other,) = {node.name for node in nodes} - {chosen}
        eventually(lambda: not [*here.taints(names.windows_pool(other))], 20, "the other node is offered again")
        assert not [*here.taints(names.windows_pool(chosen))]
        assert not recorded(here, other)
        end(here, namespace, "a")


def test_scenario_3_rule_15_an_attach_that_fails_for_ever_is_no_loop(world, fake_nodes, namespace):
    """Each failure is published before it is said, and the next attempt waits twice as long as the one before."""
    (node,) = fake_nodes()
    here = world([node], start=False)
    hold = here.cluster.pace.hold
    here.change_driver(node.name, timing={"hold": hold, "holdMost": 2 * hold})
    here.start()
    here.fabric_faults(failures=[ADD_FAILS])
    pool = names.windows_pool(node.name)
    with (
        observed(here) as observer,
        History(here.api, "ResourceClaim", namespace) as claims,
        History(here.api, "ResourceSlice") as slices,
    ):
        here.pod("a", namespace, "1Gi")
        failed = eventually(lambda: (tries := claims.allocations())[2].failed and tries, 60, "a third failure")
        tries = failed[:3]
        # the scheduler alone would come back with its next poll, after 5 s at the latest; a failure may be seen late
        pauses = [later.at - earlier.failed for earlier, later in itertools.pairwise(tries)]
        assert all(pause > wait for pause, wait in zip(pauses, (hold * 0.6, hold * 1.5), strict=True)), pauses
        windows = [entry for entry in slices.entries() if entry.object["spec"]["pool"]["name"] == pool]
        for attempt in tries:
            before = [entry for entry in windows if entry.version < attempt.failed_version]
            assert before[-1].object["spec"]["devices"][0]["taints"], "the window was still offered when it failed"
        assert observer.most == 0
        assert here.api.get("Pod", "a", namespace)["status"]["phase"] == "Pending"
        assert told(here, namespace, "a", "AttachFailed", "the blade is busy")
        # when the fabric is well again, so is the pod, without anybody's help
        here.fabric_faults()
        here.wait_running("a", namespace)
        eventually(lambda: not [*here.taints(pool)], 20, "the window is offered again")
        end(here, namespace, "a")


def test_scenario_3_fabric_down_for_a_while(world, fake_nodes, namespace):
    """What runs goes on; what begins waits and says why; what ends is held. Then all goes on without anybody's help."""
    (node,) = fake_nodes()
    here = world([node])
    for name in ("stays", "ends"):
        here.pod(name, namespace, "1Gi")
    for name in ("stays", "ends"):
        here.wait_running(name, namespace)
    before = {share.tag: share.ranges for share in here.extents()}
    with observed(here), History(here.api, "ResourceClaim", namespace) as claims:
        here.fabric_faults(partition=True)
        down = time.monotonic()
        here.pod("begins", namespace, "1Gi")
        here.api.delete("Pod", "ends", namespace)
        held = allocated(here, namespace, "ends")
        eventually(
            lambda: here.condition(here.claim_of("begins", namespace))["reason"] == "FabricUnreachable",
            15,
            "the claim says what it waits for",
        )
        for name, reason in (("begins", "AttachWaiting"), ("ends", "ReleaseHeld")):
            eventually(
                lambda name=name, reason=reason: told(here, namespace, name, reason, "FabricUnreachable"),
                15,
                f"{name} is told what it waits for",
            )
        time.sleep(max(0.0, down + here.cluster.pace.outage - time.monotonic()))
        assert here.running("stays", namespace)
        assert here.condition(here.claim_of("stays", namespace))["status"] == "True"
        assert here.api.get("Pod", "ends", namespace)["metadata"]["deletionTimestamp"]
        assert allocated(here, namespace, "ends") == held
        assert not here.running("begins", namespace)
        here.fabric_faults()
        here.wait_running("begins", namespace, 30)
        here.wait_gone("ends", namespace, 30)
        (new,) = claims.allocations()[-1:]
        assert new.failed is None
        assert [share.claim for share in claims.allocations()].count(new.claim) == 1
        after = {share.tag: share.ranges for share in here.extents()}
        assert len(after) == 2
        (stays,) = before.keys() & after.keys()
        assert after[stays] == before[stays]
        eventually(lambda: not [*here.taints()], 20, "the pool is offered as before")
        end(here, namespace, "stays", "begins")


def test_scenario_3_service_restarted_while_it_adds_memory(world, fake_nodes, namespace):
    """Killed in the middle of it, and ended in peace: what was there stays, what was begun is brought to its end."""
    (node,) = fake_nodes()
    here = world([node])
    here.pod("stays", namespace, "1Gi")
    here.wait_running("stays", namespace)
    (before,) = here.extents()
    with observed(here), History(here.api, "ResourceClaim", namespace) as claims:
        for name, stop in (("killed", here.kill), ("ended", here.end)):
            here.fabric_faults(latency={"add": here.cluster.pace.adding})
            known = recorded(here, node.name)
            here.pod(name, namespace, "1Gi")
            eventually(lambda known=known: recorded(here, node.name) - known, 20, "the driver adds memory")
            time.sleep(here.cluster.pace.adding / 3)  # the service is in the middle of it
            stop("service")
            here.start_service()
            here.wait_running(name, namespace)
        assert [share.failed for share in claims.allocations()] == [None, None]
        assert len(here.extents()) == 3
        assert next(share for share in here.extents() if share.tag == before.tag) == before
        assert here.running("stays", namespace)
        here.fabric_faults()
        # the release is asked of a service that is not there
        here.kill("service")
        here.api.delete("Pod", "stays", namespace)
        eventually(lambda: told(here, namespace, "stays", "ReleaseHeld"), 20, "the release waits")
        here.start_service()
        here.wait_gone("stays", namespace)
        end(here, namespace, "killed", "ended")


def test_scenario_3_slow_fabric_is_waited_for(world, fake_nodes, namespace):
    """It takes longer than one poll of the scheduler's PreBind, which holds the node, and the claim its share."""
    (node,) = fake_nodes()
    here = world([node])
    here.fabric_faults(latency={"add": here.cluster.pace.slow})
    with observed(here) as observer, History(here.api, "ResourceClaim", namespace) as claims:
        here.pod("a", namespace, "2Gi")
        here.wait_running("a", namespace)
        runs = time.monotonic()
        (share,) = claims.allocations()
        assert share.failed is None
        assert share.attached - share.at >= here.cluster.pace.slow
        # the scheduler polls each 5 s; the rest is for a busy machine
        assert runs - share.attached < 20
        assert observer.most == 2 * GI
        here.fabric_faults()
        end(here, namespace, "a")


def test_scenario_3_pod_deleted_while_its_memory_is_attached(world, fake_nodes, namespace):
    """Nobody calls Unprepare for it: the driver sees that the claim is gone, and gives back what has just arrived."""
    (node,) = fake_nodes()
    here = world([node])
    with observed(here) as observer:
        for number, latency in enumerate((here.cluster.pace.adding, 0.0)):
            # once while the fabric composes, once while the host waits for the extents
            here.fabric_faults(latency={"add": latency})
            here.host_faults(node.name, *([] if latency else [{"operation": "arrive"}]))
            known = recorded(here, node.name)
            name = f"p{number}"
            here.pod(name, namespace, "1Gi")
            eventually(lambda known=known: recorded(here, node.name) - known, 20, "the driver attaches")
            if not latency:
                eventually(here.extents, 20, "the extents are composed")
            claim = here.claim_of(name, namespace)
            here.api.delete("Pod", name, namespace)
            eventually(
                lambda claim=claim: here.api.find("ResourceClaim", claim["metadata"]["name"], namespace) is None,
                20,
                "the claim is gone",
            )
            here.host_faults(node.name)
            here.wait_all_back()
        assert observer.most == GI
    eventually(lambda: not [*here.taints(names.windows_pool(node.name))], 20, "the window is offered as before")
    here.wait_values({"pool0": 4 * GI})


def test_scenario_3_claim_deallocated_and_allocated_anew_during_attach(cluster, world, fake_nodes, namespace):
    """The share of before is undone, the one of now attached; conditions are never those of the other share."""
    (node,) = fake_nodes()
    here = world([node])
    here.fabric_faults(latency={"add": here.cluster.pace.slower})
    claim = here.claim("own", namespace, "1Gi")
    with observed(here) as observer, History(here.api, "ResourceClaim", namespace) as claims:
        here.pod("first", namespace, "1Gi", claim="own")
        eventually(lambda: claim["metadata"]["uid"] in recorded(here, node.name), 20, "the driver attaches")
        here.api.delete("Pod", "first", namespace)
        eventually(
            lambda: not here.api.get("ResourceClaim", "own", namespace)["status"].get("allocation"),
            20,
            "the claim is deallocated",
        )
        if cluster.version == "1.37":
            # 1.37.0 keeps a deleted pod's own claim for itself until its bindingTimeout (documented), or its restart
            cluster.plane.restart_scheduler(60)
        here.pod("second", namespace, "1Gi", claim="own")
        eventually(lambda: len(claims.allocations()) == 2, 6, "the claim is allocated anew")
        assert claims.allocations()[0].share not in {share.tag for share in here.extents()}, "the attach has ended"
        here.fabric_faults()  # what was begun takes as long as it was to take
        here.wait_running("second", namespace)
        first, second = claims.allocations()
        assert first.share != second.share
        assert first.attached is None
        assert second.attached is not None
        eventually(lambda: [share.tag for share in here.extents()] == [second.share], 20, "the first share is gone")
        assert here.regions(node.name) == {second.share: GI}
        assert observer.most <= 2 * GI
        # and once more, now that it was attached
        here.api.delete("Pod", "second", namespace)
        here.wait_gone("second", namespace)
        here.pod("third", namespace, "1Gi", claim="own")
        here.wait_running("third", namespace)
        assert [share.tag for share in here.extents()] == [claims.allocations()[-1].share]
        assert len(claims.allocations()) == 3
        end(here, namespace, "third")


def test_scenario_3_rule_22_a_pod_that_waits_for_a_driver_that_is_not_there_is_told(
    cluster, world, fake_nodes, namespace
):
    (node,) = fake_nodes()
    waiting = {"waiting": {"after": cluster.pace.waiting, "binding_timeout": "600s"}}
    here = world([node], controller=waiting)
    here.kill(f"driver-{node.name}")
    here.pod("a", namespace, "1Gi")
    words = f"node {node.name}", "bindingTimeout of 600 s"
    eventually(lambda: told(here, namespace, "a", "DriverNotRunning", *words), 30, "the pod is told")
    claim = here.claim_of("a", namespace)["metadata"]["name"]
    eventually(lambda: told(here, namespace, claim, "DriverNotRunning", *words), 10, "so is whoever looks at the claim")
    assert not here.extents()
    here.start_driver(node.name)
    here.wait_running("a", namespace)
    end(here, namespace, "a")


def test_scenario_3_rule_20_whoever_was_refused_is_woken(world, fake_nodes, namespace):
    """By a pod that waited and went away, by one that was bound, and by bytes that came back: within moments, while the
    scheduler by itself looks again after 5 min.
    """
    (node,) = fake_nodes()
    here = world([node])
    arriving = {"operation": "arrive"}
    with observed(here):
        # a waiting pod goes away
        here.host_faults(node.name, arriving)
        here.pod("waits", namespace, "3Gi")
        eventually(lambda: allocated(here, namespace, "waits"), 20, "the first has a share")
        here.pod("refused", namespace, "2Gi")
        eventually(lambda: told(here, namespace, "refused", "FailedScheduling"), 20, "the second is refused")
        here.api.delete("Pod", "waits", namespace)
        eventually(lambda: allocated(here, namespace, "refused"), 10, "the second is let in")
        # a waiting pod is bound: until then, 1.37.0 counts its claim twice, and so refuses the third
        here.pod("third", namespace, "2Gi")
        time.sleep(here.cluster.pace.moment)
        here.host_faults(node.name)
        here.wait_running("refused", namespace)
        eventually(lambda: allocated(here, namespace, "third"), 10, "the third is let in")
        here.wait_running("third", namespace)
        # bytes come back
        here.pod("fourth", namespace, "2Gi")
        eventually(lambda: told(here, namespace, "fourth", "FailedScheduling"), 20, "the fourth is refused")
        here.api.delete("Pod", "third", namespace)
        here.wait_gone("third", namespace)
        eventually(lambda: allocated(here, namespace, "fourth"), 10, "the fourth is let in")
        here.wait_running("fourth", namespace)
        end(here, namespace, "refused", "fourth")
