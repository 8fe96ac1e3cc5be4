# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest

from dynamic_memory.api.core import Taint, Toleration
from dynamic_memory.embedded.scheduler.requests import nonzero, pod_requests
from dynamic_memory.embedded.scheduler.taints import tolerates, untolerated
from dynamic_memory.embedded.scheduler.types import Pod

GI = 1 << 30


def container(memory=None, cpu=None, name="c", **more):
    requests = {key: value for key, value in (("memory", memory), ("cpu", cpu)) if value is not None}
    return {"name": name, "resources": {"requests": requests}, **more}


def requests_of(spec, status=None):
    return pod_requests(msgspec.convert({"spec": spec, "status": status or {}}, Pod))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [container("1Gi", "500m"), container("2Gi")]}, {"memory": 3 * GI, "cpu": 500}),
        # an init container runs alone: only the larger counts
        ({"containers": [container("1Gi")], "initContainers": [container("4Gi")]}, {"memory": 4 * GI}),
        ({"containers": [container("4Gi")], "initContainers": [container("1Gi")]}, {"memory": 4 * GI}),
        # a sidecar runs beside the rest, and beside init containers after it
        (
            {
                "containers": [container("1Gi")],
                "initContainers": [container("2Gi", name="s", restartPolicy="Always"), container("3Gi")],
            },
            {"memory": 5 * GI},
        ),
        (
            {
                "containers": [container("1Gi")],
                "initContainers": [container("3Gi"), container("2Gi", name="s", restartPolicy="Always")],
            },
            {"memory": 3 * GI},
        ),
        ({"containers": [container("1Gi")], "overhead": {"memory": "128Mi"}}, {"memory": GI + (128 << 20)}),
        # requests of the pod stand in for the sum, overhead comes on top
        (
            {
                "containers": [container("1Gi", "1")],
                "resources": {"requests": {"memory": "8Gi", "ephemeral-storage": "1Gi"}},
                "overhead": {"memory": "1Gi"},
            },
            {"memory": 9 * GI, "cpu": 1000},
        ),
        (
            {"containers": [{"name": "c", "resources": {"requests": {"dynamicmemory.dev/x": "3"}}}]},
            {"dynamicmemory.dev/x": 3},
        ),
    ],
)
def test_what_a_pod_takes_of_its_node(spec, expected):
    assert requests_of(spec) == expected


@pytest.mark.parametrize(
    ("allocated", "actual", "conditions", "expected"),
    [
        ("1Gi", "1Gi", [], 2 * GI),
        ("4Gi", "3Gi", [], 4 * GI),
        ("1Gi", "3Gi", [], 3 * GI),
        ("1Gi", "1Gi", [{"type": "PodResizePending", "status": "True", "reason": "Deferred"}], 2 * GI),
        ("1Gi", "1Gi", [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}], 1 * GI),
    ],
)
def test_a_resize_counts_with_the_largest_of_asked_admitted_and_actual(allocated, actual, conditions, expected):
    status = {
        "conditions": conditions,
        "containerStatuses": [
            {
                "name": "c",
                "allocatedResources": {"memory": allocated},
                "resources": {"requests": {"memory": actual}},
            }
        ],
    }
    assert requests_of({"containers": [container("2Gi")]}, status) == {"memory": expected}


def test_containers_without_requests_count_a_little_when_nodes_are_scored():
    pod = msgspec.convert({"spec": {"containers": [container(), container("1Gi")]}}, Pod)
    assert nonzero(pod) == (200, (200 << 20) + GI)
    assert pod_requests(pod) == {"memory": GI}


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "k", "operator": "Lt", "value": "v"}, False),
    ],
)
def test_tolerations(toleration, expected):
    taint = Taint(key="k", value="v", effect="NoExecute")
    assert tolerates(msgspec.convert(toleration, Toleration), taint) == expected


def test_only_taints_of_the_asked_effects_count():
    taints = [Taint(key="a", effect="PreferNoSchedule"), Taint(key="b", effect="NoSchedule")]
    assert untolerated(taints, [], frozenset({"NoExecute"})) is None
    assert untolerated(taints, [], frozenset({"NoSchedule"})) == taints[1]
