# SPDX-License-Identifier: Apache-2.0
"""A cluster that will not do is told so at start, all at once."""

from __future__ import annotations

import pytest
from tests.support.fake_kube import FakeKube

from dynamic_memory.api.kinds import RESOURCE_SLICES
from dynamic_memory.errors import Kind
from dynamic_memory.kube.errors import ApiError, Forbidden, Invalid, Unavailable
from dynamic_memory.kube.probe import UnsupportedCluster, check_server


@pytest.mark.parametrize("server", [(1, 36), (1, 37), (2, 0)])
async def test_a_good_cluster(server):
    kube = FakeKube(server=server)
    facts = await check_server(kube)
    assert facts.version == server
    assert facts.features == {"DRAConsumableCapacity", "DRADeviceBindingConditions", "DRADeviceTaints"}
    assert kube.bodies(RESOURCE_SLICES) == [], "a dry run"


@pytest.mark.parametrize(
    ("drop", "gate"),
    [
        ({"allowMultipleAllocations", "capacity"}, "DRAConsumableCapacity"),
        ({"allowMultipleAllocations"}, "DRAConsumableCapacity"),
        ({"bindingConditions", "bindingFailureConditions", "bindsToNode"}, "DRADeviceBindingConditions"),
        ({"bindsToNode"}, "DRADeviceBindingConditions"),
        ({"taints"}, "DRADeviceTaints"),
        ({"taints", "bindingConditions"}, "DRADeviceBindingConditions, DRADeviceTaints"),
    ],
)
async def test_gates_that_are_off_are_named(drop, gate):
    kube = FakeKube()
    kube.drop = drop
    with pytest.raises(UnsupportedCluster) as caught:
        await check_server(kube)
    assert f"does not store the fields of {gate}: turn these feature gates on" in str(caught.value)
    assert caught.value.kind is Kind.NEVER


@pytest.mark.parametrize(
    ("minor", "gone", "expected"),
    [
        ("35", False, ["v1.35.9", "1.36 or newer is needed"]),
        ("35+", True, ["1.36 or newer is needed", "does not serve resource.k8s.io/v1"]),
        ("36+", True, ["does not serve resource.k8s.io/v1"]),
    ],
)
async def test_too_old_a_cluster_and_a_missing_api_are_told_together(minor, gone, expected):
    kube = FakeKube()
    kube.raw["/version"] = {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.9"}
    if gone:
        del kube.raw["/apis/resource.k8s.io/v1"]
    with pytest.raises(UnsupportedCluster) as caught:
        await check_server(kube)
    assert len(caught.value.problems) == len([text for text in expected if text != "v1.35.9"])
    assert all(text in str(caught.value) for text in expected)


async def test_a_resource_that_is_not_served():
    kube = FakeKube()
    kube.raw["/apis/resource.k8s.io/v1"] = {"resources": [{"name": "resourceclaims"}]}
    with pytest.raises(UnsupportedCluster, match="does not serve deviceclasses, resourceslices in"):
        await check_server(kube)


@pytest.mark.parametrize(
    ("error", "raised", "text"),
    [
        (
            Invalid(422, "Invalid", "spec.devices[0]: no"),
            UnsupportedCluster,
            r"refuses a slice .*: spec.devices\[0\]: no",
        ),
        (Forbidden(403, "Forbidden", "not allowed"), ApiError, "ResourceSlices may not be written: not allowed"),
        (Unavailable(0, "", "no answer"), Unavailable, "no answer"),
    ],
)
async def test_what_stands_in_the_way_of_the_probe(error, raised, text):
    kube = FakeKube()
    kube.fail(error, verb="create")
    with pytest.raises(raised, match=text):
        await check_server(kube)


async def test_a_node_asks_only_about_its_own_slices():
    kube = FakeKube()
    await check_server(kube, node="n1")
    (call,) = [call for call in kube.calls if call.verb == "create"]
    assert call.body["spec"]["nodeName"] == "n1"
    assert "allNodes" not in call.body["spec"]
