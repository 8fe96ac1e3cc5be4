# SPDX-License-Identifier: Apache-2.0
"""Claims and drivers, over the real sockets."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from dynamic_memory.embedded.kubelet import objects
from dynamic_memory.embedded.kubelet.claims import CHECKPOINT
from dynamic_memory.embedded.kubelet.plugins import ClaimRef, DriverError
from dynamic_memory.process import durable


def calls(bench, verb):
    return [uids for name, uids in bench.driver.calls if name == verb]


def gone(bench, name="a"):
    return any(call.verb == "delete" and call.name == name for call in bench.kube.calls)


async def ready(bench):
    await bench.driver.start()
    await bench.start()
    await bench.driver.registered.wait()
    if bench.driver.told[-1][0]:
        await bench.until(lambda: bench.kubelet.plugins.names, "the kubelet has its answer")


async def test_a_claim_is_prepared_before_the_containers_and_they_see_it(bench):
    await ready(bench)
    pod = bench.pod(claim="far")
    claim = bench.claim("far", pod)
    uid = claim["metadata"]["uid"]
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    assert calls(bench, "prepare") == [[uid]]
    container = bench.runtime.get(pod["metadata"]["uid"], "main")
    assert container.spec.env["DYNAMIC_MEMORY_BYTES"] == "42"
    assert container.spec.mounts == {"/b": "/a"}
    checkpoint = json.loads((bench.folder / "kubelet" / "dra_manager_state").read_text())
    assert checkpoint["claims"][uid]["prepared"] is True
    bench.delete("a")
    await bench.until(lambda: gone(bench), "it ended")
    assert calls(bench, "unprepare") == [[uid]]
    assert json.loads((bench.folder / "kubelet" / "dra_manager_state").read_text()) == {"claims": {}}


async def test_what_cannot_be_prepared_is_told_and_tried_again(bench):
    bench.driver.errors["Prepare"] = "the memory is not there"
    await ready(bench)
    pod = bench.pod(claim="far")
    bench.claim("far", pod)
    await bench.until(lambda: len(calls(bench, "prepare")) >= 3, "it is tried again")
    assert bench.phase() == "Pending"
    assert bench.container()["state"]["waiting"]["reason"] == "ContainerCreating"
    why = "NodePrepareResources failed for ResourceClaim far: the memory is not there"
    event = ("FailedPrepareDynamicResources", f"Failed to prepare dynamic resources: {why}")
    await bench.until(lambda: event in bench.events(), "it is told")
    bench.driver.errors.clear()
    await bench.until(lambda: bench.phase() == "Running", "and works")


@pytest.mark.parametrize("state", ["unallocated", "unreserved", "missing"])
async def test_a_claim_that_is_not_the_pods_is_not_prepared(bench, state):
    await ready(bench)
    pod = bench.pod(claim="far")
    if state == "unreserved":
        bench.claim("far")
    elif state == "unallocated":
        bench.kube.put(objects.CLAIMS, {"metadata": {"name": "far", "namespace": "app"}})
    await bench.until(lambda: any(reason == "FailedPrepareDynamicResources" for reason, _ in bench.events()), "told")
    assert calls(bench, "prepare") == []
    bench.claim("far", pod)
    await bench.until(lambda: bench.phase() == "Running", "it runs when it is")


async def test_an_unprepare_that_fails_holds_the_pod_until_it_succeeds(bench):
    await ready(bench)
    pod = bench.pod(claim="far")
    bench.claim("far", pod)
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    bench.driver.errors["Unprepare"] = "memory still online"
    bench.delete("a")
    await bench.until(lambda: len(calls(bench, "unprepare")) >= 3, "the kubelet insists")
    assert not gone(bench)
    assert bench.phase() == "Running"
    assert "terminated" in bench.container()["state"]
    why = "NodeUnprepareResources failed for ResourceClaim far: memory still online"
    assert ("unprepare", calls(bench, "unprepare")[0][0], why) in bench.kubelet.claims.calls
    # a restart changes nothing
    await bench.stop()
    await bench.start()
    before = len(calls(bench, "unprepare"))
    await bench.until(lambda: len(calls(bench, "unprepare")) > before, "it goes on")
    bench.driver.errors.clear()
    await bench.until(lambda: gone(bench), "then it goes")


async def test_a_pod_that_vanished_by_force_is_unprepared_all_the_same_and_its_claims_name_waits(bench):
    await ready(bench)
    pod = bench.pod(claim="far")
    bench.claim("far", pod, uid="one")
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    bench.driver.errors["Unprepare"] = "memory still online"
    bench.kube.remove(objects.PODS, "a", "app")
    await bench.until(lambda: len(calls(bench, "unprepare")) >= 2, "the kubelet insists")
    assert bench.runtime.get(pod["metadata"]["uid"], "main").ended is not None
    second = bench.pod("b", claim="far")
    bench.kube.remove(objects.CLAIMS, "far", "app")
    bench.claim("far", second, uid="two")
    await bench.until(lambda: any("previous pod force-deleted" in message for _, message in bench.events()), "refused")
    # also when the kubelet was not there as it vanished
    await bench.stop()
    await bench.start()
    bench.driver.errors.clear()
    await bench.until(lambda: bench.phase("b") == "Running", "the next pod runs")
    assert set(bench.kubelet.claims.claims) == {"two"}


@pytest.mark.parametrize("forced", [False, True])
async def test_a_pod_that_is_deleted_while_its_driver_hangs_goes_at_once(bench, forced):
    await ready(bench)
    bench.driver.prepares.clear()
    pod = bench.pod(claim="far")
    bench.claim("far", pod, uid="c")
    await bench.until(lambda: calls(bench, "prepare"), "the driver is asked")
    if forced:
        bench.kube.remove(objects.PODS, "a", "app")
    else:
        bench.delete("a", grace=30)
    await bench.until(lambda: calls(bench, "unprepare"), "nobody waits for the answer", 1)
    await bench.until(lambda: not bench.kubelet.claims.claims, "nothing is left")
    await bench.until(lambda: not bench.runtime.pods(), "nor of its cgroup")
    bench.driver.prepares.set()


async def test_of_pods_that_share_a_claim_the_last_one_has_it_unprepared_whatever_else_they_have(bench):
    await ready(bench)
    both = [bench.pod(name, claim="shared") for name in ("a", "b")]
    bench.claim("shared", *both, uid="shared")
    body = bench.kube.body(objects.PODS, "a", "app")
    body["spec"]["resourceClaims"].append({"name": "own", "resourceClaimName": "own"})
    bench.kube.put(objects.PODS, body)
    bench.claim("own", both[0], uid="own")
    for name in ("a", "b"):
        await bench.until(lambda name=name: bench.phase(name) == "Running", "they run")
    bench.driver.answers.clear()
    bench.kube.remove(objects.PODS, "a", "app")
    await bench.until(lambda: calls(bench, "unprepare") == [["own"]], "the first one lets go of its own")
    bench.kube.remove(objects.PODS, "b", "app")
    await bench.until(lambda: len(calls(bench, "unprepare")) == 2, "the second one lets go of what they shared", 2)
    assert calls(bench, "unprepare")[1] == ["shared"]
    bench.driver.answers.set()
    await bench.until(lambda: not bench.kubelet.claims.claims, "nothing is left")


async def test_a_restarted_kubelet_does_not_prepare_again(bench):
    await ready(bench)
    pod = bench.pod(claim="far")
    bench.claim("far", pod)
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    await bench.stop()
    await bench.start()
    other = bench.pod("b", claim="other")
    bench.claim("other", other)
    await bench.until(lambda: bench.phase("b") == "Running", "the next one")
    assert len(calls(bench, "prepare")) == 2
    assert bench.phase() == "Running"


async def test_an_answer_that_leaves_a_claim_out_is_an_error(bench):
    bench.driver.leave_out = True
    await ready(bench)
    pod = bench.pod(claim="far")
    bench.claim("far", pod)
    await bench.until(
        lambda: any("NodePrepareResources skipped 1 ResourceClaims" in text for _, text in bench.events()), "told"
    )
    assert bench.phase() == "Pending"


async def test_a_plugin_that_speaks_no_known_version_is_told_so_and_asked_again(bench):
    bench.driver.versions = ["v9.DRAPlugin"]
    await ready(bench)
    assert bench.driver.told[0] == (False, "none of the DRA gRPC API versions ['v9.DRAPlugin'] are supported")
    bench.driver.versions = ["v9.DRAPlugin", "v1.DRAPlugin"]
    await bench.until(lambda: (True, "") in bench.driver.told, "it is registered")
    await bench.until(lambda: bench.kubelet.plugins.names == ["dra.memory"], "it is known, once it was told so")


async def test_slices_go_at_the_start_and_when_a_driver_is_gone_for_long_enough(bench):
    def put(name):
        spec = {"nodeName": "n1", "driver": name, "pool": {"name": name, "generation": 1, "resourceSliceCount": 1}}
        bench.kube.put(objects.SLICES, {"metadata": {"name": name}, "spec": spec})

    put("dra.memory")
    put("other")
    bench.kube.put(objects.SLICES, {"metadata": {"name": "pool"}, "spec": {"driver": "dra.memory"}})
    await ready(bench)
    assert [body["metadata"]["name"] for body in bench.kube.bodies(objects.SLICES)] == ["pool"]
    put("dra.memory")
    put("other")
    await bench.driver.stop(politely=False)
    await bench.until(lambda: len(bench.kube.bodies(objects.SLICES)) == 2, "the driver's slices are deleted")
    assert [body["metadata"]["name"] for body in bench.kube.bodies(objects.SLICES)] == ["other", "pool"]


async def test_a_driver_that_was_killed_is_called_as_soon_as_it_is_back(bench):
    await ready(bench)
    pod = bench.pod(claim="far")
    bench.claim("far", pod)
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    await bench.driver.stop(politely=False)
    bench.delete("a")
    await asyncio.sleep(1.5)  # the channel's back-off has grown meanwhile
    assert not gone(bench)
    await bench.driver.start()
    await bench.until(lambda: gone(bench), "it goes")


async def test_a_call_fails_with_the_registration_that_it_was_made_by(bench):
    """A driver that starts serves its own socket first: the old registration leads there until the new one is seen."""
    await ready(bench)
    plugins = bench.kubelet.plugins
    await bench.until(lambda: plugins.names, "the driver is registered")
    bench.driver.answers.clear()
    call = asyncio.create_task(plugins.unprepare("dra.memory", [ClaimRef("default", "far", "u1")]))
    await bench.until(lambda: calls(bench, "unprepare"), "the driver is asked")
    bench.driver.registration.unlink()
    await bench.until(lambda: not plugins.names, "the registration is gone")
    with pytest.raises(DriverError, match="NodeUnprepareResources failed: rpc error: code = Canceled"):
        await call


@pytest.mark.parametrize("first", [["far"], ["aside", "far"]], ids=["the-only-claim", "the-second-claim-of-a-call"])
async def test_a_pod_that_comes_while_its_claim_is_unprepared_has_it_prepared_again(bench, first):
    await ready(bench)
    pod = bench.pod(resourceClaims=[{"name": name, "resourceClaimName": name} for name in first])
    for name in first:
        bench.claim(name, pod, uid=f"uid-{name}")
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    bench.driver.answers.clear()
    bench.delete("a")
    await bench.until(lambda: calls(bench, "unprepare"), "the driver is asked to let go")
    second = bench.pod("b", claim="far")
    bench.kube.remove(objects.CLAIMS, "far", "app")
    bench.claim("far", second, uid="uid-far")
    await bench.until(lambda: len(bench.kubelet.claims.claims["uid-far"].pods) == 2, "the second pod has come")
    assert len(calls(bench, "prepare")) == 1
    bench.driver.answers.set()
    await bench.until(lambda: bench.phase("b") == "Running", "it runs")
    await bench.until(lambda: gone(bench), "the first one goes")
    assert calls(bench, "prepare")[1:] == [["uid-far"]]
    assert calls(bench, "unprepare") == [[f"uid-{name}" for name in first]]
    assert (bench.cdi / "dra.memory-claim-uid-far.json").exists()
    checkpoint = json.loads((bench.folder / "kubelet" / CHECKPOINT).read_text())
    assert {uid: state["pods"] for uid, state in checkpoint["claims"].items()} == {
        "uid-far": [second["metadata"]["uid"]]
    }


async def test_the_loop_does_not_wait_for_the_checkpoint_but_the_driver_does(bench, monkeypatch):
    await ready(bench)
    write, go_on, writes = durable.write, threading.Event(), []

    def slow(path, data, mode=0o600):
        if path.name == CHECKPOINT:
            writes.append(path)
            assert go_on.wait(50)
        write(path, data, mode)

    monkeypatch.setattr(durable, "write", slow)
    pods = {name: bench.pod(name, claim=f"far-{name}") for name in ("a", "b")}
    try:
        for name, pod in pods.items():
            bench.claim(f"far-{name}", pod, uid=name)
        await bench.until(lambda: set(bench.kubelet.claims.claims) == {"a", "b"} and writes, "both are noted")
        assert calls(bench, "prepare") == [], "what the disk does not know the driver is not asked for"
        assert len(writes) == 1, "one at a time"
    finally:
        go_on.set()
    await bench.until(lambda: all(bench.phase(name) == "Running" for name in pods), "they run")
    checkpoint = json.loads((bench.folder / "kubelet" / CHECKPOINT).read_text())
    assert {uid: state["prepared"] for uid, state in checkpoint["claims"].items()} == {"a": True, "b": True}
