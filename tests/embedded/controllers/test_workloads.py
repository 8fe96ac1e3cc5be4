# SPDX-License-Identifier: Apache-2.0
"""Deployments, ReplicaSets, StatefulSets, DaemonSets and Jobs, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from tests.embedded.support.controlling import LABELS, controlling, kubelet, pods, set_pod, template, workload
from tests.embedded.support.scheduling import cluster, events, node, running, settle, until

from dynamic_memory.api.kinds import NODES, PODS
from dynamic_memory.embedded.controllers import rollout
from dynamic_memory.embedded.controllers.jobs import TRACKING
from dynamic_memory.embedded.controllers.objects import DAEMON_SETS, DEPLOYMENTS, JOBS, REPLICA_SETS, STATEFUL_SETS
from dynamic_memory.kube.errors import Invalid

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def status(kube, kind, name="web"):
    return (kube.body(kind, name, "default") or {}).get("status") or {}


def change(kube, kind, name="web", **spec):
    body = kube.body(kind, name, "default")
    body["spec"].update(spec)
    kube.put(kind, body)


# --- ReplicaSets


async def test_a_replica_set_has_as_many_pods_as_asked_for():
    kube = cluster()
    kube.put(REPLICA_SETS, workload(replicas=3))
    async with controlling(kube), running(kubelet(kube)):
        await until(lambda: status(kube, REPLICA_SETS).get("availableReplicas") == 3)
        change(kube, REPLICA_SETS, replicas=1)
        await until(lambda: status(kube, REPLICA_SETS).get("availableReplicas") == 1)
        assert len(pods(kube)) == 1
        kube.remove(PODS, pods(kube)[0]["metadata"]["name"], "default")
        await until(lambda: len(pods(kube)) == 1)
        change(kube, REPLICA_SETS, replicas=0)
        await until(lambda: not pods(kube))
    assert len(events(kube, "SuccessfulCreate")) == 4


async def test_no_pod_too_many_is_made_however_slow_the_watch_is():
    kube = cluster()
    kube.put(REPLICA_SETS, workload(replicas=20))
    async with controlling(kube):
        await until(lambda: len(pods(kube)) == 20)
        kube.put(
            REPLICA_SETS,
            {
                **kube.body(REPLICA_SETS, "web", "default"),
                "metadata": {"name": "web", "namespace": "default", "annotations": {"touched": "yes"}},
            },
        )
        await settle(5)
    assert kube.count("create", PODS) == 20


async def test_a_refused_pod_is_said_and_not_tried_twenty_times_at_once():
    kube = cluster()
    kube.put(REPLICA_SETS, workload(replicas=20))
    kube.fail(Invalid(422, "Invalid", "no good"), verb="create", kind=PODS, times=1)
    async with controlling(kube):
        await until(lambda: events(kube, "FailedCreate"))
        assert kube.count("create", PODS) == 1
        await until(lambda: len(pods(kube)) == 20)


async def test_min_ready_seconds_delay_availability():
    kube = cluster()
    kube.put(REPLICA_SETS, workload(replicas=1, minReadySeconds=30))
    async with controlling(kube), running(kubelet(kube)):
        await until(lambda: status(kube, REPLICA_SETS).get("readyReplicas") == 1)
        waited = await until(lambda: status(kube, REPLICA_SETS).get("availableReplicas") == 1, 60)
    assert 28 < waited < 32


# --- Deployments


@pytest.mark.parametrize(
    ("desired", "new", "old", "surge", "unavailable", "expected"),
    [
        (4, (0, 0, 0), [(4, 4, 4)], 1, 1, (1, [3])),
        (4, (1, 1, 0), [(3, 3, 3)], 1, 1, (2, [3])),
        (4, (2, 2, 2), [(3, 3, 3)], 1, 1, (2, [1])),
        (4, (2, 2, 0), [(3, 3, 0)], 1, 0, (2, [3])),
        (4, (4, 4, 4), [(1, 1, 1)], 1, 1, (4, [0])),
        (2, (4, 4, 4), [], 1, 1, (2, [])),
        (1, (0, 0, 0), [(1, 1, 1)], 1, 0, (1, [1])),
        (3, (0, 0, 0), [(2, 2, 0), (2, 2, 2)], 1, 1, (0, [0, 2])),
    ],
)
async def test_one_step_of_a_rolling_update(desired, new, old, surge, unavailable, expected):
    step = rollout.plan(
        desired,
        rollout.Replicas(*new),
        [rollout.Replicas(*item) for item in old],
        surge=surge,
        unavailable=unavailable,
    )
    assert (step.new, step.old) == expected


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [
        ("25%", "25%", 4, (1, 1)),
        ("25%", "25%", 3, (1, 0)),
        (0, 0, 5, (0, 1)),
        ("0%", "10%", 5, (0, 1)),
        (2, 1, 9, (2, 1)),
    ],
)
async def test_limits_of_a_rolling_update(surge, unavailable, replicas, expected):
    assert rollout.limits(surge, unavailable, replicas) == expected


async def test_a_deployment_rolls_from_one_version_to_the_next_and_back():
    kube = cluster()
    kube.put(DEPLOYMENTS, workload(replicas=4))
    low = 4
    async with controlling(kube), running(kubelet(kube)):
        await until(lambda: status(kube, DEPLOYMENTS).get("availableReplicas") == 4)
        assert kube.body(DEPLOYMENTS, "web", "default")["metadata"]["annotations"] == {
            "deployment.kubernetes.io/revision": "1"
        }
        change(kube, DEPLOYMENTS, template=template("v2"))

        def rolled():
            nonlocal low
            low = min(low, sum(bool(body["status"].get("phase")) for body in pods(kube) if body.get("status")))
            return len(pods(kube, "v2")) == 4 and not pods(kube, "v1")

        await until(rolled)
        await until(lambda: status(kube, DEPLOYMENTS).get("updatedReplicas") == 4)
        change(kube, DEPLOYMENTS, template=template("v1"))
        await until(lambda: len(pods(kube, "v1")) == 4 and not pods(kube, "v2"))
        await until(lambda: status(kube, DEPLOYMENTS).get("availableReplicas") == 4)
        await settle(1)
    assert low >= 3
    sets = kube.bodies(REPLICA_SETS)
    assert len(sets) == 2
    revisions = {
        item["spec"]["template"]["spec"]["containers"][0]["image"]: item["metadata"]["annotations"][
            "deployment.kubernetes.io/revision"
        ]
        for item in sets
    }
    assert revisions == {"v1": "3", "v2": "2"}
    conditions = {item["type"]: (item["status"], item["reason"]) for item in status(kube, DEPLOYMENTS)["conditions"]}
    assert conditions == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }


async def test_recreate_never_runs_two_versions_at_once():
    kube = cluster()
    kube.put(DEPLOYMENTS, workload(replicas=3, strategy={"type": "Recreate"}))
    async with controlling(kube), running(kubelet(kube)):
        await until(lambda: status(kube, DEPLOYMENTS).get("availableReplicas") == 3)
        change(kube, DEPLOYMENTS, template=template("v2"))

        def done():
            both = {body["spec"]["containers"][0]["image"] for body in kube.bodies(PODS)}
            assert len(both) <= 1
            return len(pods(kube, "v2")) == 3

        await until(done)


async def test_a_rollout_that_gets_nowhere_is_said_after_its_deadline():
    kube = cluster()
    kube.put(DEPLOYMENTS, workload(replicas=1, progressDeadlineSeconds=60))
    async with controlling(kube):

        def reason():
            found = [item for item in status(kube, DEPLOYMENTS).get("conditions", []) if item["type"] == "Progressing"]
            return found[0]["reason"] if found else ""

        await until(lambda: reason() == "ReplicaSetUpdated")
        assert 55 < await until(lambda: reason() == "ProgressDeadlineExceeded", 70) < 65


async def test_a_paused_deployment_scales_but_does_not_roll():
    kube = cluster()
    kube.put(DEPLOYMENTS, workload(replicas=2))
    async with controlling(kube), running(kubelet(kube)):
        await until(lambda: status(kube, DEPLOYMENTS).get("availableReplicas") == 2)
        change(kube, DEPLOYMENTS, paused=True, template=template("v2"), replicas=3)
        await until(lambda: len(pods(kube, "v1")) == 3)
        await settle(3)
        assert not pods(kube, "v2")
        change(kube, DEPLOYMENTS, paused=False)
        await until(lambda: len(pods(kube, "v2")) == 3 and not pods(kube, "v1"))


async def test_the_deadline_of_a_rollout_does_not_run_while_it_is_paused():
    kube = cluster()
    kube.put(DEPLOYMENTS, workload("web", replicas=1, progressDeadlineSeconds=100))

    def progress():
        found = {item["type"]: item for item in status(kube, DEPLOYMENTS).get("conditions", ())}.get("Progressing", {})
        return found.get("status"), found.get("reason")

    async with controlling(kube):
        await until(lambda: progress() == ("True", "ReplicaSetUpdated"))
        change(kube, DEPLOYMENTS, paused=True)
        await until(lambda: progress() == ("Unknown", "DeploymentPaused"))
        await asyncio.sleep(1000)
        assert progress() == ("Unknown", "DeploymentPaused")
        change(kube, DEPLOYMENTS, paused=False)
        await until(lambda: progress() != ("Unknown", "DeploymentPaused"))
        assert progress()[1] in {"DeploymentResumed", "ReplicaSetUpdated"}
        assert 90 < await until(lambda: progress() == ("False", "ProgressDeadlineExceeded"), 200) < 110


async def test_old_replica_sets_are_kept_up_to_the_limit():
    kube = cluster()
    kube.put(DEPLOYMENTS, workload(replicas=1, revisionHistoryLimit=2))
    async with controlling(kube), running(kubelet(kube)):
        for version in range(1, 7):
            change(kube, DEPLOYMENTS, template=template(f"v{version}"))
            await until(lambda version=version: len(pods(kube)) == len(pods(kube, f"v{version}")) == 1)
        await until(lambda: len(kube.bodies(REPLICA_SETS)) == 3)


# --- StatefulSets


async def test_a_stateful_set_goes_up_and_down_in_order():
    kube = cluster()
    kube.put(STATEFUL_SETS, workload(replicas=3, serviceName="web"))
    async with controlling(kube):
        await until(lambda: len(pods(kube)) == 1)
        await settle(2)
        assert [body["metadata"]["name"] for body in pods(kube)] == ["web-0"]
        async with running(kubelet(kube)):
            await until(lambda: status(kube, STATEFUL_SETS).get("readyReplicas") == 3)
            change(kube, STATEFUL_SETS, template=template("v2"))
            await until(lambda: len(pods(kube, "v2")) == 3)
            deleted = [call.name for call in kube.calls if call.verb == "delete" and call.kind == "pods"]
            assert deleted == ["web-2", "web-1", "web-0"]
            await until(lambda: status(kube, STATEFUL_SETS).get("readyReplicas") == 3)
            change(kube, STATEFUL_SETS, replicas=1)
            await until(lambda: [body["metadata"]["name"] for body in pods(kube)] == ["web-0"])
    labels = pods(kube)[0]["metadata"]["labels"]
    assert labels["statefulset.kubernetes.io/pod-name"] == "web-0"


# --- DaemonSets


async def test_a_daemon_set_has_one_pod_on_every_node_that_it_is_for():
    kube = cluster()
    for name in ("n1", "n2"):
        kube.put(NODES, node(name))
    kube.put(NODES, node("tainted", taints=[{"key": "k", "effect": "NoSchedule"}]))
    kube.put(NODES, node("cordoned", unschedulable=True))
    kube.put(DAEMON_SETS, workload("agent"))

    def places():
        found = []
        for body in pods(kube):
            required = body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            found.append(required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])
        return sorted(found)

    async with controlling(kube), running(kubelet(kube)):
        await until(lambda: places() == ["cordoned", "n1", "n2"])
        kube.put(NODES, node("n3"))
        await until(lambda: places() == ["cordoned", "n1", "n2", "n3"])
        kube.remove(NODES, "n1")
        await until(lambda: places() == ["cordoned", "n2", "n3"])
        await until(lambda: status(kube, DAEMON_SETS, "agent").get("numberReady") == 3)
        change(kube, DAEMON_SETS, "agent", template=template("v2"))
        await until(lambda: len(pods(kube, "v2")) == 3)
        await until(lambda: status(kube, DAEMON_SETS, "agent").get("updatedNumberScheduled") == 3)
    assert status(kube, DAEMON_SETS, "agent")["desiredNumberScheduled"] == 3


async def test_a_surging_daemon_set_is_never_without_a_ready_pod():
    kube = cluster()
    for name in ("n1", "n2", "n3"):
        kube.put(NODES, node(name))
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    kube.put(DAEMON_SETS, workload("agent", updateStrategy=strategy))
    async with controlling(kube), running(kubelet(kube)):
        await until(lambda: status(kube, DAEMON_SETS, "agent").get("numberReady") == 3)
        change(kube, DAEMON_SETS, "agent", template=template("v2"))

        def rolled():
            alive = [body for body in pods(kube) if body.get("status", {}).get("phase") == "Running"]
            assert 3 <= len(alive) <= len(pods(kube)) <= 4
            return len(pods(kube, "v2")) == 3 and not pods(kube, "v1")

        await until(rolled)
        await until(lambda: status(kube, DAEMON_SETS, "agent").get("updatedNumberScheduled") == 3)
    required = [
        body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        for body in pods(kube)
    ]
    places = [item["nodeSelectorTerms"][0]["matchFields"][0]["values"][0] for item in required]
    assert sorted(places) == ["n1", "n2", "n3"]


# --- Jobs


def job(**spec):
    body = workload("job", **spec)
    del body["spec"]["selector"]
    body["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    return body


def end_pods(kube, phase, most=100):
    for body in pods(kube)[:most]:
        if body.get("status", {}).get("phase") not in {"Succeeded", "Failed"}:
            set_pod(kube, body, phase=phase)


async def test_a_job_runs_its_pods_side_by_side_until_enough_succeeded():
    kube = cluster()
    kube.put(JOBS, job(completions=5, parallelism=2))
    most = 0
    async with controlling(kube):

        def step():
            nonlocal most
            alive = [body for body in pods(kube) if body.get("status", {}).get("phase") != "Succeeded"]
            most = max(most, len(alive))
            end_pods(kube, "Succeeded", 100)
            return status(kube, JOBS, "job").get("succeeded") == 5

        await until(step)
        await until(lambda: status(kube, JOBS, "job").get("completionTime"))
    assert most == 2
    assert len(kube.bodies(PODS)) == 5
    assert not any(body["metadata"].get("finalizers") for body in kube.bodies(PODS))
    assert {item["type"] for item in status(kube, JOBS, "job")["conditions"]} == {"SuccessCriteriaMet", "Complete"}


async def test_a_job_waits_longer_after_each_failure_and_gives_up():
    kube = cluster()
    kube.put(JOBS, job(completions=1, parallelism=1, backoffLimit=2))
    async with controlling(kube):
        waits = []
        for number in (1, 2, 3):
            waits.append(await until(lambda number=number: len(kube.bodies(PODS)) == number, 60))
            end_pods(kube, "Failed")
        await until(lambda: status(kube, JOBS, "job").get("conditions"))
    assert status(kube, JOBS, "job")["failed"] == 3
    assert status(kube, JOBS, "job")["conditions"][-1]["reason"] == "BackoffLimitExceeded"
    assert waits[1] == pytest.approx(10, abs=1)
    assert waits[2] == pytest.approx(20, abs=1)


async def test_restarts_count_for_the_limit_of_a_job_whose_containers_are_restarted_in_place():
    kube = cluster()
    made = job(completions=2, parallelism=2, backoffLimit=3)
    made["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    kube.put(JOBS, made)
    async with controlling(kube):
        await until(lambda: len(pods(kube)) == 2)
        first, second = pods(kube)
        restarted = [{"name": "c", "restartCount": 1}]
        for body in (first, second):
            body["status"] = {"containerStatuses": restarted}
            set_pod(kube, body)
        await settle()
        assert not status(kube, JOBS, "job").get("conditions")
        second["status"]["initContainerStatuses"] = restarted
        set_pod(kube, second)
        await until(lambda: status(kube, JOBS, "job").get("conditions"))
    assert status(kube, JOBS, "job")["conditions"][-1]["reason"] == "BackoffLimitExceeded"


async def test_a_finished_pod_is_counted_once_even_if_it_is_deleted_and_the_controller_restarted():
    kube = cluster()
    kube.put(JOBS, job(completions=3, parallelism=1))
    async with controlling(kube):
        await until(lambda: pods(kube))
    (body,) = pods(kube)
    assert body["metadata"]["finalizers"] == [TRACKING]
    set_pod(kube, body, phase="Succeeded")
    await kube.delete(PODS, body["metadata"]["name"], "default")
    for _ in range(2):
        async with controlling(kube):
            await until(lambda: status(kube, JOBS, "job").get("succeeded") == 1)
            await settle(2)
    assert status(kube, JOBS, "job")["succeeded"] == 1
    assert kube.body(PODS, body["metadata"]["name"], "default") is None


async def test_a_job_that_is_done_goes_after_its_time():
    kube = cluster()
    kube.put(JOBS, job(completions=1, parallelism=1, ttlSecondsAfterFinished=30))
    async with controlling(kube):
        await until(lambda: pods(kube))
        end_pods(kube, "Succeeded")
        await until(lambda: status(kube, JOBS, "job").get("completionTime"))
        assert 25 < await until(lambda: kube.body(JOBS, "job", "default") is None, 60) < 35


async def test_a_job_can_be_suspended_and_has_a_deadline():
    kube = cluster()
    kube.put(JOBS, job(completions=1, parallelism=1, suspend=True, activeDeadlineSeconds=20))
    async with controlling(kube):
        await settle(3)
        assert not pods(kube)
        change(kube, JOBS, "job", suspend=False)
        await until(lambda: len(pods(kube)) == 1)

        def over():
            return [item for item in status(kube, JOBS, "job").get("conditions", []) if item["type"] == "Failed"]

        assert 15 < await until(over, 60) < 25
        assert over()[0]["reason"] == "DeadlineExceeded"
        await until(lambda: not pods(kube))
    assert LABELS.items() <= kube.body(JOBS, "job", "default")["spec"]["template"]["metadata"]["labels"].items()
