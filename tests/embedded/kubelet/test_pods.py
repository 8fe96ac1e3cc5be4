# SPDX-License-Identifier: Apache-2.0
"""The life of a pod on a simulated node."""

from __future__ import annotations

import msgspec
import pytest
from tests.embedded.kubelet.conftest import QUICK

from dynamic_memory.embedded.kubelet import objects
from dynamic_memory.kube.events import EVENTS
from dynamic_memory.process.config import Seconds

MI = 1 << 20


def gone(bench, name="a"):
    """The kubelet's own delete is there: the fake only sets a finalizer aside."""
    return any(
        call.verb == "delete" and call.name == name and call.body == {"gracePeriodSeconds": 0}
        for call in bench.kube.calls
    )


async def test_a_pod_runs_with_the_conditions_and_statuses_of_the_real_kubelet(bench):
    await bench.start()
    bench.pod(container={"resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}})
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    status = bench.status()
    assert {each["type"]: each["status"] for each in status["conditions"]} == dict.fromkeys(
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"], "True"
    )
    (container,) = status["containerStatuses"]
    assert container["ready"] is container["started"] is True
    assert container["restartCount"] == 0
    assert container["containerID"].startswith("simulated://")
    assert "startedAt" in container["state"]["running"]
    assert container["allocatedResources"] == {"cpu": "100m", "memory": "64Mi"}
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
    assert status["podIP"].startswith("10.64.0.")
    folder = next(bench.runtime.cgroups.pods.glob("burstable/pod*"))
    assert (folder / "memory.max").read_text() == f"{128 * MI}\n"


@pytest.mark.parametrize(
    ("command", "phase", "reason"), [(["true"], "Succeeded", "Completed"), (["false"], "Failed", "Error")]
)
async def test_a_pod_that_ends_by_itself_has_its_last_phase(bench, command, phase, reason):
    await bench.start()
    bench.pod(container={"command": command}, restartPolicy="Never")
    await bench.until(lambda: bench.phase() == phase, "it ended")
    assert bench.container()["state"]["terminated"]["reason"] == reason
    assert bench.condition("Ready")["reason"] == ("PodCompleted" if phase == "Succeeded" else "PodFailed")
    assert not gone(bench)
    bench.delete("a")
    await bench.until(lambda: gone(bench), "it is deleted")


async def test_a_container_that_fails_is_started_again_at_once_and_then_backs_off(bench):
    await bench.start(msgspec.structs.replace(QUICK, back_off=Seconds(1)))
    bench.pod(container={"command": ["false"]})

    def waits(status):
        (container,) = status["containerStatuses"]
        return "waiting" in container["state"] and container["restartCount"] == 1

    status = await bench.ever(waits, "it waits")
    (container,) = status["containerStatuses"]
    waiting = container["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    uid = bench.kube.body(objects.PODS, "a", "app")["metadata"]["uid"]
    assert waiting["message"] == f"back-off 1s restarting failed container=main pod=a_app({uid})"
    assert container["lastState"]["terminated"]["exitCode"] == 1
    assert status["phase"] == "Running"
    await bench.until(lambda: bench.container()["restartCount"] >= 3, "again, and again")
    assert ("BackOff", f"Back-off restarting failed container main in pod a_app({uid})") in bench.events()


async def test_events_of_a_container_say_which_one_it_is_as_the_kubelet_does(bench):
    await bench.start()
    bench.pod(containers=[{"name": "a"}, {"name": "b"}], initContainers=[{"name": "i", "command": ["true"]}])
    await bench.until(lambda: bench.phase() == "Running", "it runs")

    def started():
        said = [body for body in bench.kube.bodies(EVENTS) if body["reason"] == "Started"]
        return {(body["involvedObject"]["fieldPath"], body["message"]) for body in said}

    places = ("spec.initContainers{i}", "spec.containers{a}", "spec.containers{b}")
    await bench.until(lambda: started() == {(place, "Container started") for place in places}, "each for itself")


async def test_memory_above_the_limit_is_an_oom_kill(bench):
    await bench.start()
    bench.pod(
        container={"resources": {"limits": {"memory": "64Mi"}}},
        annotations={"simulation.dynamicmemory.dev/memory": "steps 10Mi 0.1s, 100Mi"},
        restartPolicy="Never",
    )
    await bench.until(lambda: bench.phase() == "Failed", "it failed")
    assert bench.container()["state"]["terminated"] | {"startedAt": 0, "finishedAt": 0, "containerID": 0} == {
        "exitCode": 137, "reason": "OOMKilled", "startedAt": 0, "finishedAt": 0, "containerID": 0,
    }  # fmt: skip


async def test_init_containers_run_one_after_the_other_and_a_sidecar_beside_the_others(bench):
    await bench.start()
    bench.pod(
        container={"command": ["sh", "-c", "sleep 1"]},
        initContainers=[
            {"name": "first", "command": ["sh", "-c", "sleep 1"]},
            {"name": "side", "restartPolicy": "Always"},
        ],
        restartPolicy="Never",
    )

    def initialized(status):
        return bench.condition("Initialized", status=status)

    status = await bench.ever(lambda status: initialized(status)["reason"] == "ContainersNotInitialized", "not yet")
    assert initialized(status)["message"] == "containers with incomplete status: [first]"
    status = await bench.ever(lambda status: status["phase"] == "Running", "it runs")
    assert [("running" in each["state"]) for each in status["initContainerStatuses"]] == [False, True]
    await bench.until(lambda: bench.phase() == "Succeeded", "it ended, and took the sidecar with it")


async def test_containers_back_off_each_for_itself(bench):
    await bench.start(msgspec.structs.replace(QUICK, back_off_most=Seconds(60)))
    slow = {"name": "slow", "command": ["sh", "-c", "sleep 0.5; exit 1"]}
    bench.pod(containers=[slow, {"name": "fast", "command": ["false"]}])

    def fast():
        return bench.status()["containerStatuses"][1]["restartCount"]

    # fast waits 0.2, 0.4, 0.8, 1.6 and 3.2 s; slow must not wait for it
    await bench.until(lambda: fast() == 5, "fast has a long wait before it")
    count = bench.container()["restartCount"]
    await bench.until(lambda: bench.container()["restartCount"] > count, "slow was started again")
    assert fast() == 5


async def test_sidecars_end_after_the_others_the_last_one_first(bench):
    await bench.start()
    deaf = ["sh", "-c", "trap 'exit 3' TERM; sleep 99"]
    sides = [{"name": name, "restartPolicy": "Always", "command": deaf} for name in ("s1", "s2")]
    bench.pod(container={"command": ["sleep", "99"]}, initContainers=sides)
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    uid = bench.kube.body(objects.PODS, "a", "app")["metadata"]["uid"]
    order = []
    containers = bench.runtime.of(uid)
    for name, container in containers.items():
        container._told = lambda name=name, told=container._told: (order.append(name), told())
    bench.delete("a", grace=1)
    await bench.until(lambda: gone(bench), "it is gone")
    assert order == ["main", "s2", "s1"]
    assert [containers[name].ended.code for name in order] == [137, 3, 3]
    stopped = {message for reason, message in bench.events() if reason == "Killing"}
    assert stopped == {f"Stopping container {name}" for name in order}


async def test_what_a_pod_has_printed_goes_with_it(bench):
    await bench.start()
    bench.pod("a", container={"command": ["sh", "-c", "echo hi; sleep 99"]}, terminationGracePeriodSeconds=0)
    bench.pod("done", container={"command": ["echo", "hi"]}, restartPolicy="Never")
    await bench.until(lambda: bench.phase() == "Running" and bench.phase("done") == "Succeeded", "both have printed")

    def files():
        return list((bench.folder / "kubelet" / "pods").glob("*"))

    assert len(files()) == 2
    for name in ("a", "done"):
        bench.kube.remove(objects.PODS, name, "app")
    await bench.until(lambda: not files(), "nothing is left")


async def test_a_pod_is_ended_at_its_deadline(bench):
    await bench.start()
    bench.pod(activeDeadlineSeconds=2, restartPolicy="Never", terminationGracePeriodSeconds=1)
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    await bench.until(lambda: bench.phase() == "Failed", "it is ended")
    assert bench.status()["reason"] == "DeadlineExceeded"
    assert bench.status()["message"] == "Pod was active on the node longer than the specified deadline"
    assert bench.container()["state"]["terminated"]["exitCode"] == 0


async def test_a_restarted_kubelet_ends_what_runs_of_pods_that_are_gone(bench):
    await bench.start()
    pod = bench.pod()
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    await bench.stop()
    bench.kube.remove(objects.PODS, "a", "app")
    container = bench.runtime.get(pod["metadata"]["uid"], "main")
    await bench.start()
    await bench.until(lambda: container.ended is not None, "it is killed")
    await bench.until(lambda: bench.runtime.pods() == [], "nothing is left")


async def test_a_deleted_pod_ends_within_its_grace_and_then_goes(bench):
    await bench.start()
    bench.pod("polite")
    bench.pod("deaf", container={"command": ["sleep", "99"]})
    await bench.until(lambda: bench.phase("polite") == bench.phase("deaf") == "Running", "both run")
    bench.delete("polite", grace=60)
    bench.delete("deaf", grace=60)
    await bench.until(lambda: gone(bench, "polite"), "the one that heeds SIGTERM went")
    assert not gone(bench, "deaf")
    bench.delete("deaf", grace=1)
    await bench.until(lambda: gone(bench, "deaf"), "the other one was killed")
    assert bench.container("deaf")["state"]["terminated"]["exitCode"] == 137
    assert bench.phase("deaf") == "Failed"
    assert not list(bench.runtime.cgroups.pods.glob("*/pod*"))


async def test_a_pod_that_is_deleted_before_it_ran_has_failed(bench):
    """Nobody would count it otherwise: a pod of a job stays until it is counted."""
    await bench.start()
    annotations = {"simulation.dynamicmemory.dev/memory": "rubbish"}
    bench.pod("never", annotations=annotations)
    bench.pod("looping", container={"command": ["false"]})

    def reason(name):
        return bench.container(name)["state"]["waiting"]["reason"]

    await bench.until(lambda: reason("never") == "CreateContainerConfigError", "it cannot run")
    await bench.until(lambda: reason("looping") == "CrashLoopBackOff", "it backs off")
    for name, code in (("never", 137), ("looping", 1)):
        bench.delete(name)
        await bench.until(lambda name=name: gone(bench, name), "it goes")
        assert bench.phase(name) == "Failed"
        assert bench.container(name)["state"]["terminated"]["exitCode"] == code
    assert bench.container("never")["state"]["terminated"]["reason"] == "ContainerStatusUnknown"


async def test_after_an_init_container_that_failed_the_others_are_what_they_were(bench):
    await bench.start()
    bench.pod(initContainers=[{"name": "i", "command": ["false"]}, {"name": "j"}], restartPolicy="Never")
    await bench.until(lambda: bench.phase() == "Failed", "it failed")
    assert bench.container()["state"] == {"waiting": {"reason": "PodInitializing"}}
    states = [next(iter(each["state"])) for each in bench.status()["initContainerStatuses"]]
    assert states == ["terminated", "waiting"]


async def test_a_pod_that_was_marked_not_ready_is_ready_again_when_its_node_is_back(bench):
    await bench.start()
    bench.pod()
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    body = bench.kube.body(objects.PODS, "a", "app")
    for each in body["status"]["conditions"]:
        each["status"] = "False" if each["type"] == "Ready" else each["status"]
    bench.kube.put(objects.PODS, body)
    await bench.until(lambda: bench.condition("Ready")["status"] == "True", "the kubelet knows better")


async def test_a_pod_that_does_not_fit_is_refused_in_the_words_of_the_kubelet(bench):
    await bench.start()
    gib = {"resources": {"requests": {"memory": "1Gi"}}}
    bench.pod("a", container=gib)
    await bench.until(lambda: bench.phase() == "Running", "the first one runs")
    bench.pod("b", container=gib)
    await bench.until(lambda: bench.phase("b") == "Failed", "the second one is refused")
    assert bench.status("b")["reason"] == "OutOfmemory"
    assert bench.status("b")["message"] == (
        "Pod was rejected: Node didn't have enough resource: memory, "
        f"requested: {1 << 30}, used: {1 << 30}, capacity: {3 << 29}"
    )
    for number in range(5):
        bench.pod(f"n{number}")
    await bench.until(lambda: bench.status("n4").get("reason") == "OutOfpods", "no more pods than the node takes")


async def test_a_restarted_kubelet_finds_its_pods_running(bench):
    await bench.start()
    bench.pod("a")
    bench.pod("done", container={"command": ["true"]}, restartPolicy="Never")
    await bench.until(lambda: bench.phase() == "Running" and bench.phase("done") == "Succeeded", "as it should")
    before = bench.container()
    await bench.stop()
    await bench.start()
    bench.pod("b")
    await bench.until(lambda: bench.phase("b") == "Running", "it works")
    assert bench.container() == before
    assert bench.phase("done") == "Succeeded"
    bench.delete("a")
    await bench.until(lambda: gone(bench), "and ends them")


async def test_a_kubelet_whose_runtime_is_new_as_well_takes_over_what_the_status_says(bench):
    """A cluster that was stopped and started again: simulated containers are where their time would be."""
    from dynamic_memory.embedded.runtime.runtime import Runtime

    await bench.start()
    bench.pod("a", container={"command": ["sleep", "3600"]})
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    before = bench.container()
    await bench.stop()
    await bench.runtime.plugins.close()
    bench.runtime = Runtime(bench.folder)
    await bench.start()
    bench.pod("b")
    await bench.until(lambda: bench.phase("b") == "Running", "it works")
    assert bench.container() == before
    bench.runtime.stop()


async def test_an_annotation_that_cannot_be_read_is_told_and_does_no_harm(bench):
    await bench.start()
    bench.pod(annotations={"simulation.dynamicmemory.dev/memory": "lots"})
    await bench.until(lambda: bench.container()["state"]["waiting"]["reason"] == "CreateContainerConfigError", "told")
    assert "simulation.dynamicmemory.dev/memory" in bench.container()["state"]["waiting"]["message"]
    assert bench.phase() == "Pending"
