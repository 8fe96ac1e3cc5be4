# SPDX-License-Identifier: Apache-2.0
"""In-place resize: done, deferred, infeasible, in progress; and the pure part by table."""

from __future__ import annotations

import msgspec
import pytest

from dynamic_memory.embedded.kubelet import objects
from dynamic_memory.embedded.kubelet.resize import below_usage, changed, given, judge
from dynamic_memory.embedded.kubelet.resources import pod_limit, qos, requests
from dynamic_memory.embedded.runtime.curves import parse

MI, GI = 1 << 20, 1 << 30


def resources(request, limit=None):
    return {"requests": {"memory": request}, **({"limits": {"memory": limit}} if limit else {})}


def resize(bench, request, limit=None, name="a"):
    body = bench.kube.body(objects.PODS, name, "app")
    body["spec"]["containers"][0]["resources"] = resources(request, limit)
    bench.kube.put(objects.PODS, body)


async def running(bench, name="a", request="64Mi", limit=None, **more):
    pod = bench.pod(name, container={"resources": resources(request, limit)}, **more)
    await bench.until(lambda: bench.phase(name) == "Running", "it runs")
    return pod


async def test_a_limit_is_raised_in_place(bench):
    await bench.start()
    pod = await running(bench, limit="128Mi")
    before = bench.container()["containerID"]
    resize(bench, "64Mi", "4Gi")  # limits are not compared with the node
    await bench.until(lambda: bench.container()["resources"]["limits"]["memory"] == "4Gi", "it is there")
    assert bench.container()["containerID"] == before
    assert bench.container()["restartCount"] == 0
    assert bench.runtime.get(pod["metadata"]["uid"], "main").spec.limit == 4 * GI
    await bench.until(lambda: bench.condition("PodResizeInProgress") is None, "nothing is left")
    await bench.until(lambda: {"ResizeStarted", "ResizeCompleted"} <= {reason for reason, _ in bench.events()}, "told")
    folder = next(bench.runtime.cgroups.pods.glob("burstable/pod*"))
    assert (folder / "memory.max").read_text() == f"{4 * GI}\n"


async def test_a_request_that_does_not_fit_now_waits_for_room(bench):
    await bench.start()
    await running(bench)
    await running(bench, "b", "1Gi")
    resize(bench, "1Gi")
    pending = await bench.until(lambda: bench.condition("PodResizePending"), "deferred")
    assert (pending["status"], pending["reason"], pending["observedGeneration"]) == ("True", "Deferred", 2)
    assert pending["message"] == (
        f"Node didn't have enough resource: memory, requested: {GI}, used: {GI}, capacity: {3 * GI // 2}"
    )
    assert bench.container()["allocatedResources"] == {"memory": "64Mi"}
    bench.kube.remove(objects.PODS, "b", "app")
    await bench.until(lambda: bench.container()["allocatedResources"] == {"memory": "1Gi"}, "it got room")
    await bench.until(lambda: bench.condition("PodResizePending") is None, "nothing is left")


async def test_a_request_that_never_fits_is_infeasible_until_it_changes(bench):
    await bench.start()
    await running(bench)
    resize(bench, "9Gi")
    pending = await bench.until(lambda: bench.condition("PodResizePending"), "infeasible")
    assert pending["reason"] == "Infeasible"
    assert pending["message"] == (
        f"Node didn't have enough capacity: memory, requested: {9 * GI}, capacity: {3 * GI // 2}"
    )
    resize(bench, "128Mi")
    await bench.until(lambda: bench.container()["allocatedResources"] == {"memory": "128Mi"}, "another wish is granted")
    await bench.until(lambda: bench.condition("PodResizePending") is None, "nothing is left")


async def test_a_limit_below_use_is_in_progress_with_an_error_until_it_fits(bench):
    await bench.start()
    pod = await running(bench, limit="256Mi", annotations={"simulation.dynamicmemory.dev/memory": "100Mi"})
    resize(bench, "64Mi", "80Mi")
    found = await bench.until(lambda: bench.condition("PodResizeInProgress"), "in progress")
    assert found["reason"] == "Error"
    assert found["message"] == (
        f"attempting to set container main memory limit ({80 * MI}) below current usage ({100 * MI})"
    )
    assert bench.container()["resources"]["limits"]["memory"] == "256Mi"
    container = bench.runtime.get(pod["metadata"]["uid"], "main")
    container.spec = msgspec.structs.replace(container.spec, model=parse("10Mi"))
    await bench.until(lambda: bench.container()["resources"]["limits"]["memory"] == "80Mi", "it fits")
    await bench.until(lambda: bench.condition("PodResizeInProgress") is None, "nothing is left")


async def test_a_container_that_asks_for_it_is_restarted(bench):
    await bench.start()
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    bench.pod(container={"resources": resources("64Mi", "128Mi"), "resizePolicy": policy})
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    body = bench.kube.body(objects.PODS, "a", "app")
    body["spec"]["containers"][0]["resources"] = resources("64Mi", "256Mi")
    bench.kube.put(objects.PODS, body)
    await bench.until(lambda: bench.container()["restartCount"] == 1, "it was restarted")
    await bench.until(lambda: bench.container()["resources"]["limits"]["memory"] == "256Mi", "with its new limit")


def test_verdicts():
    node = {"memory": 100, "cpu": 1000}
    assert judge({"memory": 50}, {"memory": 50}, node).kind == "accept"
    assert judge({"memory": 51}, {"memory": 50}, node).kind == "Deferred"
    assert judge({"memory": 101}, {}, node).kind == "Infeasible"
    assert judge({"memory": 1, "pods": 1}, {"pods": 9}, node).kind == "accept"


def test_the_same_amount_in_other_words_is_no_change():
    assert not changed(given({"requests": {"memory": "1Gi"}}), given({"requests": {"memory": "1024Mi"}}))
    assert changed(given({"requests": {"memory": "1Gi"}}), given({"limits": {"memory": "1Gi"}}))


def test_only_a_lower_limit_can_be_too_low():
    low, high = {"limits": {"memory": "1Mi"}}, {"limits": {"memory": "2Mi"}}
    assert below_usage("c", high, low, 9 * MI) == ""
    assert below_usage("c", low, high, MI) == ""
    assert below_usage("c", low, high, MI + 1) != ""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [{"name": "a", "resources": {"requests": {"memory": "1Mi", "cpu": "1"}}}, {"name": "b"}]},
         {"memory": MI, "cpu": 1000}),
        ({"containers": [{"name": "a", "resources": {"limits": {"memory": "2Mi"}}}]}, {"memory": 2 * MI}),
        ({"containers": [{"name": "a", "resources": resources("1Mi")}],
          "initContainers": [{"name": "i", "resources": resources("5Mi")}]}, {"memory": 5 * MI}),
        ({"containers": [{"name": "a", "resources": resources("1Mi")}],
          "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": resources("2Mi")},
                             {"name": "i", "resources": resources("5Mi")}]}, {"memory": 7 * MI}),
        ({"containers": [{"name": "a", "resources": resources("1Mi")}], "overhead": {"memory": "1Mi"},
          "resources": resources("8Mi")}, {"memory": 9 * MI}),
    ],
)  # fmt: skip
def test_what_a_pod_requests(spec, expected):
    assert requests(spec) == expected | {"pods": 1}


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"memory": "1Mi"}}, "Burstable"),
        ({"limits": {"memory": "1Mi"}}, "Burstable"),
        ({"limits": {"memory": "1Mi", "cpu": "1"}}, "Guaranteed"),
        ({"limits": {"memory": "1Mi", "cpu": "1"}, "requests": {"memory": "1Mi", "cpu": "500m"}}, "Burstable"),
    ],
)
def test_the_class_of_a_pod(container, expected):
    assert qos({"containers": [{"name": "a", "resources": container}]}) == expected


def test_a_pod_has_a_limit_if_all_its_containers_do():
    limited = {"name": "a", "resources": {"limits": {"memory": "1Mi"}}}
    assert pod_limit({"containers": [limited, limited]}) == 2 * MI
    assert pod_limit({"containers": [limited, {"name": "b"}]}) is None
