# SPDX-License-Identifier: Apache-2.0
"""In-place resize: done, deferred, infeasible, in progress; and the pure part by table."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest

from dynamic_memory.embedded.kubelet import objects
from dynamic_memory.embedded.kubelet.resize import Change, PodCgroup, changed, given, judge, pod_cgroup, steps, too_low
from dynamic_memory.embedded.kubelet.resources import pod_limit, qos, requests
from dynamic_memory.embedded.runtime.curves import parse
from dynamic_memory.nri import Refused, Stub
from dynamic_memory.process.backoff import Backoff

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
        f"cannot decrease memory limits: [attempting to set pod memory limit ({80 * MI}) below current usage "
        f'({100 * MI}), attempting to set container "main" memory limit ({80 * MI}) below current usage ({100 * MI})]'
    )
    await bench.until(lambda: "ResizeError" in {reason for reason, _ in bench.events()}, "it is told")
    assert bench.container()["resources"]["limits"]["memory"] == "256Mi"
    container = bench.runtime.get(pod["metadata"]["uid"], "main")
    container.spec = msgspec.structs.replace(container.spec, model=parse("10Mi"))
    await bench.until(lambda: bench.container()["resources"]["limits"]["memory"] == "80Mi", "it fits")
    await bench.until(lambda: bench.condition("PodResizeInProgress") is None, "nothing is left")


async def test_a_container_that_asks_for_it_is_restarted_with_its_grace_whatever_it_ends_with(bench):
    await bench.start()
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    container = {"resources": resources("64Mi", "128Mi"), "resizePolicy": policy}
    bench.pod(
        container={**container, "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 99"]}, restartPolicy="OnFailure"
    )
    await bench.until(lambda: bench.phase() == "Running", "it runs")
    resize(bench, "64Mi", "256Mi")
    await bench.until(lambda: bench.container()["restartCount"] == 1, "it was restarted")
    await bench.until(lambda: bench.container()["resources"]["limits"]["memory"] == "256Mi", "with its new limit")
    assert bench.container()["lastState"]["terminated"]["exitCode"] == 0
    await bench.until(lambda: bench.condition("PodResizeInProgress") is None, "nothing is left")
    folder = next(bench.runtime.cgroups.pods.glob("burstable/pod*"))
    assert (folder / "memory.max").read_text() == f"{256 * MI}\n"
    await bench.until(lambda: "ResizeCompleted" in {reason for reason, _ in bench.events()}, "it is told")
    assert ("Killing", "Container main resize requires restart") in bench.events()


async def test_a_resize_of_a_container_that_backs_off_is_done_without_it(bench):
    await bench.start()
    bench.pod(container={"command": ["false"], "resources": resources("64Mi", "128Mi")})
    await bench.until(
        lambda: bench.container()["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", "waits"
    )
    resize(bench, "64Mi", "256Mi")
    await bench.until(lambda: "ResizeCompleted" in {reason for reason, _ in bench.events()}, "it is done")
    await bench.until(lambda: bench.condition("PodResizeInProgress") is None, "nothing is left")


class Watcher:
    """A plugin that notes what it hears of resizes, beside what stands in the pod's cgroup at that moment."""

    def __init__(self, runtime) -> None:
        self.heard = []
        self.refused = ""
        self._runtime = runtime

    def limit(self):
        folder = next(self._runtime.cgroups.pods.glob("burstable/pod*"))
        return int((folder / "memory.max").read_text()) // MI

    def update_pod_sandbox(self, _pod, _overhead, wanted):
        self.heard.append((f"pod {wanted.memory.limit.value // MI} {wanted.cpu.shares.value}", self.limit()))
        if self.refused:
            raise Refused(self.refused)

    def post_update_pod_sandbox(self, _pod):
        self.heard.append(("done", self.limit()))

    def update_container(self, _pod, container, wanted):
        self.heard.append((f"{container.name} {wanted.memory.limit.value // MI}", self.limit()))
        return []


@contextlib.asynccontextmanager
async def watching(bench):
    plugin = Watcher(bench.runtime)
    socket = bench.runtime.plugins.path
    task = asyncio.create_task(Stub(plugin, name="w", index="10", socket=socket, backoff=Backoff(0.01, 0.05)).run())
    try:
        await bench.until(lambda: bench.runtime.plugins.names, "it is connected")
        yield plugin
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def two(bench):
    """Bind a pod with two containers, and wait until it runs."""
    bench.pod(containers=[{"name": name, "resources": resources("64Mi", "128Mi")} for name in ("main", "side")])
    await bench.until(lambda: bench.phase() == "Running", "it runs")


def both(bench, first, second, cpu=None):
    body = bench.kube.body(objects.PODS, "a", "app")
    for container, limit in zip(body["spec"]["containers"], (first, second), strict=True):
        container["resources"] = resources("64Mi", limit)
        if cpu:
            container["resources"]["requests"]["cpu"] = cpu
    bench.kube.put(objects.PODS, body)


async def test_plugins_hear_of_a_pod_once_before_its_cgroup_is_written_and_that_before_the_containers_grow(bench):
    await bench.start()
    await two(bench)
    async with watching(bench) as plugin:
        both(bench, "256Mi", "256Mi")
        await bench.until(lambda: "ResizeCompleted" in {reason for reason, _ in bench.events()}, "it is done")
        assert plugin.heard == [("pod 512 2", 256), ("done", 256), ("main 256", 512), ("side 256", 512)]
        plugin.heard.clear()
        both(bench, "64Mi", "128Mi")
        await bench.until(lambda: bench.container()["resources"]["limits"]["memory"] == "64Mi", "it is done")
        assert plugin.heard == [("side 128", 512), ("main 64", 512), ("pod 192 2", 512), ("done", 512)]
        assert plugin.limit() == 192
        plugin.heard.clear()
        both(bench, "128Mi", "64Mi", cpu="250m")
        await bench.until(lambda: bench.container()["resources"]["requests"].get("cpu") == "250m", "it is done")
        # the sum of the limits stays, so the pod is told of its cpu alone
        assert plugin.heard == [
            ("side 64", 192), ("main 128", 192),
            ("pod 192 512", 192), ("done", 192), ("main 128", 192), ("side 64", 192)
        ]  # fmt: skip


async def test_what_a_plugin_refuses_a_pod_is_not_written_and_tried_again(bench):
    await bench.start()
    await two(bench)
    async with watching(bench) as plugin:
        plugin.refused = "not now"
        both(bench, "256Mi", "256Mi")
        message = await bench.until(lambda: bench.condition("PodResizeInProgress")["message"], "it fails")
        assert set(plugin.heard) == {("pod 512 2", 256)}
        start = "failed to notify runtime for UpdatePodSandboxResources (resource=memory); resize rejected: "
        assert message.startswith(f"{start}updatePodSandboxResources failed for sanboxID ")
        assert message.endswith("NRI sandbox update failed: NRI plugin 10-w refused: not now")
        assert plugin.limit() == 256
        assert bench.container()["resources"]["limits"]["memory"] == "128Mi"
        plugin.refused = ""
        await bench.until(lambda: bench.container()["resources"]["limits"]["memory"] == "256Mi", "it is tried again")
        assert plugin.limit() == 512


def test_verdicts():
    node = {"memory": 100, "cpu": 1000}
    assert judge({"memory": 50}, {"memory": 50}, node).kind == "accept"
    assert judge({"memory": 51}, {"memory": 50}, node).kind == "Deferred"
    assert judge({"memory": 101}, {}, node).kind == "Infeasible"
    assert judge({"memory": 1, "pods": 1}, {"pods": 9}, node).kind == "accept"


def test_the_same_amount_in_other_words_is_no_change():
    assert not changed(given({"requests": {"memory": "1Gi"}}), given({"requests": {"memory": "1024Mi"}}))
    assert changed(given({"requests": {"memory": "1Gi"}}), given({"limits": {"memory": "1Gi"}}))


def change(name, old, new, **cpu):
    return Change(name=name, had=given({"limits": {"memory": old} if old else {}}),
                  wanted=given({"limits": ({"memory": new} if new else {}) | cpu}))  # fmt: skip


@pytest.mark.parametrize(
    ("pod", "changes", "expected"),
    [
        ((2, 3), [("c", "1Mi", "2Mi")], ""),
        ((2, 2), [("c", "2Mi", "1Mi")], ""),
        ((4, 3), [("c", "2Mi", "1Mi")], 'attempting to set container "c" memory limit (1048576) below current usage'),
        ((None, 2), [], "attempting to set pod memory limit (2097152) below current usage"),
    ],
)
def test_only_a_lower_limit_can_be_too_low(pod, changes, expected):
    had, wants = (PodCgroup(memory=None if size is None else size * MI) for size in pod)
    found = too_low(had, wants, [change(*each) for each in changes], {"c": MI if pod == (2, 2) else 2 * MI})
    if pod == (2, 2):
        expected = f'attempting to set container "c" memory limit ({MI}) below current usage ({MI})'
        assert found == f"cannot decrease memory limits: {expected}"
    assert found.startswith(f"cannot decrease memory limits: {expected}") if expected or found else not expected


@pytest.mark.parametrize(
    ("had", "wants", "changes", "expected"),
    [
        (4, 8, [change("a", "2Mi", "4Mi"), change("b", "2Mi", "4Mi")], "memory:pod memory:a memory:b"),
        (8, 4, [change("a", "4Mi", "2Mi")], "memory:a memory:pod"),
        (8, 8, [change("a", "2Mi", "4Mi"), change("b", "6Mi", "4Mi")], "memory:b memory:a"),
        (None, None, [change("a", "", "4Mi")], "memory:a"),
        (4, None, [change("a", "4Mi", "")], "memory:a"),
        (4, 4, [change("a", "4Mi", "4Mi", cpu="1")], "cpu:a"),
    ],
)
def test_the_order_of_a_resize(had, wants, changes, expected):
    pods = [PodCgroup(memory=None if size is None else size * MI) for size in (had, wants)]
    assert " ".join(f"{step.resource}:{step.container or 'pod'}" for step in steps(*pods, changes)) == expected


def test_cpu_of_a_pod_grows_limit_first_and_shrinks_request_first():
    small, large = PodCgroup(shares=2, quota=1000), PodCgroup(shares=512, quota=50000)
    assert [step.pod for step in steps(small, large, [])] == [PodCgroup(shares=2, quota=50000), large]
    assert [step.pod for step in steps(large, small, [])] == [PodCgroup(shares=2, quota=50000), small]


def test_the_cgroup_of_a_pod_follows_from_what_its_containers_were_given():
    spec = {"containers": [{"name": "a"}, {"name": "b"}]}
    one = given({"limits": {"memory": "1Mi", "cpu": "500m"}, "requests": {"cpu": "250m"}})
    assert pod_cgroup(spec, {"a": one, "b": one}) == PodCgroup(memory=2 * MI, quota=100000, shares=512)
    assert pod_cgroup(spec, {"a": one, "b": given(None)}) == PodCgroup(memory=None, quota=None, shares=256)


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
