# SPDX-License-Identifier: Apache-2.0
"""The policies of deploy/ as they are, in the embedded API server: the cases that real clusters are asked, too."""

from __future__ import annotations

from typing import Any

import pytest
from tests.embedded.support.asking import Asking, Refused
from tests.support.policy_cases import (
    ALLOW,
    COMPLETED,
    FAR,
    FORCE,
    GRACE,
    OTHER,
    REFUSED,
    UNTOUCHED,
    UPDATER_WRITES,
    VIEW,
    WINDOW,
    WITH_FABRIC_MEMORY,
    WITHOUT_FABRIC_MEMORY,
    claim,
    defaulted,
    piece,
    pod,
    request,
    spec,
    template,
)

from dynamic_memory.embedded.apiserver.admission.policies import Policies
from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.builtin import builtin_registry
from dynamic_memory.embedded.apiserver.clock import Clock
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.store import Store

PLACE = "place"
NODE = "node-a"
ACCOUNT = "system:serviceaccount:dynamic-memory:"


@pytest.fixture
async def api() -> Asking:
    core = Core(Store(), builtin_registry(), Clock())
    core.admission = Policies(core.store, core.registry)
    asking = Asking(Api(core))
    for name in (PLACE, "elsewhere", "dynamic-memory"):
        label = {"resource.kubernetes.io/admin-access": "true"}
        await asking.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": label}})
    await asking.load("deploy/3*-policies-*.yaml")
    for body, kind in ((spec(request()), "far"), (spec(request(class_=OTHER, size=None)), "other"), ({}, "empty")):
        await asking.create(claim(body, kind), PLACE)
        await asking.create(template(body, kind), PLACE)
    return asking


async def refusal(api: Asking, body: dict[str, Any], namespace: str) -> str:
    with pytest.raises(Refused) as caught:
        await api.create(body, namespace, dryRun="All")
    assert caught.value.code == 422, caught.value
    assert "ValidatingAdmissionPolicy" in caught.value.message, caught.value
    return caught.value.message


# --- claims


@pytest.mark.parametrize("make", [claim, template], ids=["claim", "template"])
async def test_a_claim_that_cannot_be_served_is_refused_with_a_sentence(api, make):
    for case, (body, sentence) in REFUSED.items():
        said = await refusal(api, make(body), PLACE)
        assert sentence in said, case


async def test_a_refusal_is_what_kubernetes_says(api):
    body, _ = REFUSED["no size"]
    assert await refusal(api, claim(body), PLACE) == (
        "resourceclaims.resource.k8s.io \"claim\" is forbidden: ValidatingAdmissionPolicy 'dynamic-memory-claims' with "
        "binding 'dynamic-memory-claims' denied request: a request for dra.fabric-memory must say how much: "
        "exactly.capacity.requests.size, for example 512Mi"
    )


@pytest.mark.parametrize("case", COMPLETED)
async def test_an_accepted_claim_gets_its_window_and_nothing_else_changes(api, case):
    body = COMPLETED[case]
    made = (await api.create(claim(body), PLACE, dryRun="All"))["spec"]["devices"]
    name = next(r["name"] for r in body["devices"]["requests"] if r.get("exactly", {}).get("deviceClassName") == FAR)
    *before, added = made["requests"]
    assert added == request(f"{name}-window", WINDOW, allocationMode="ExactCount", count=1)
    assert made["constraints"] == [
        *body["devices"].get("constraints", []),
        {"requests": [name, f"{name}-window"], "matchAttribute": "dra.memory/fabricDomain"},
    ]
    assert before == defaulted(body["devices"]["requests"])


@pytest.mark.parametrize("case", UNTOUCHED)
async def test_complete_claims_and_those_of_others_are_left_alone(api, case):
    body = UNTOUCHED[case]
    made = (await api.create(claim(body), PLACE, dryRun="All"))["spec"]
    assert made.get("devices", {}).get("constraints") == body.get("devices", {}).get("constraints")
    requests = defaulted(body.get("devices", {}).get("requests", []))
    assert (made.get("devices", {}).get("requests") or []) == requests


async def test_a_good_template_is_taken_as_it_is(api):
    for body in (*COMPLETED.values(), *UNTOUCHED.values()):
        made = (await api.create(template(body), PLACE, dryRun="All"))["spec"]["spec"]
        assert len(made.get("devices", {}).get("requests") or []) == len(body.get("devices", {}).get("requests", []))


@pytest.mark.parametrize("version", ["v1", "v1beta2"])
async def test_a_claim_is_for_one_pod_at_a_time(api, version):
    pods = [{"resource": "pods", "name": f"p{number}", "uid": f"uid-{number}"} for number in range(2)]

    async def reserve(name: str, driver: str, count: int) -> None:
        result = {"request": "far", "driver": driver, "pool": "pool", "device": "device"}
        status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": pods[:count]}
        obj = {**claim({}, name), "apiVersion": f"resource.k8s.io/{version}"}
        await api.patch(obj, {"status": status}, PLACE, sub="status", dryRun="All")

    with pytest.raises(Refused, match=r"a claim of driver dra\.memory cannot be reserved for more than one pod"):
        await reserve("far", "dra.memory", 2)
    await reserve("far", "dra.memory", 1)


# --- pods


@pytest.mark.parametrize("sources", WITH_FABRIC_MEMORY.values(), ids=WITH_FABRIC_MEMORY)
async def test_no_pod_with_fabric_memory_ends_at_once(api, sources):
    assert GRACE in await refusal(api, pod(*sources, terminationGracePeriodSeconds=0), PLACE)
    for grace in (1, 30):
        await api.create(pod(*sources, terminationGracePeriodSeconds=grace), PLACE, dryRun="All")
    await api.create(pod(*sources), PLACE, dryRun="All")
    # a claim of the same name elsewhere is another one
    await api.create(pod(*sources, terminationGracePeriodSeconds=0), "elsewhere", dryRun="All")


@pytest.mark.parametrize("sources", WITHOUT_FABRIC_MEMORY.values(), ids=WITHOUT_FABRIC_MEMORY)
async def test_pods_without_fabric_memory_may_end_at_once(api, sources):
    await api.create(pod(*sources, terminationGracePeriodSeconds=0), PLACE, dryRun="All")


@pytest.mark.parametrize("amounts", ["requests", "limits"])
@pytest.mark.parametrize("containers", ["containers", "initContainers"])
async def test_the_extended_resource_is_a_view_and_not_for_sale(api, containers, amounts):
    sold = {VIEW: "1", "memory": "1Mi"}
    resources = {amounts: sold, "limits": sold}
    body = pod()
    body["spec"].setdefault(containers, []).append({"name": "buyer", "image": "none", "resources": resources})
    said = await refusal(api, body, PLACE)
    assert f"{VIEW} only shows what is attached to a node; ask for memory with a ResourceClaim of class {FAR}" in said


# --- deleting by force

NOW = {"gracePeriodSeconds": 0, "dryRun": ["All"], "kind": "DeleteOptions", "apiVersion": "v1"}
SOURCES = {
    "template": {"resourceClaimTemplateName": "far"},
    "own": {"resourceClaimName": "far"},
    "other": {"resourceClaimTemplateName": "other"},
    "empty": {"resourceClaimName": "empty"},
}


@pytest.fixture
async def bound(api) -> Asking:
    """Pods on a node, with the claims that a controller made from their templates."""
    await api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    for name, source in SOURCES.items():
        obj = pod(source, name=name, nodeName=NODE)
        await api.create(obj, PLACE)
        if "resourceClaimTemplateName" in source:
            kind = source["resourceClaimTemplateName"]
            await api.create(claim(spec(request()) if kind == "far" else {}, f"{name}-made"), PLACE)
            status = {"resourceClaimStatuses": [{"name": "claim-0", "resourceClaimName": f"{name}-made"}]}
            await api.patch(obj, {"status": status}, PLACE, sub="status")
    return api


@pytest.mark.parametrize("name", ["template", "own"])
async def test_deleting_by_force_is_refused(bound, name):
    with pytest.raises(Refused) as caught:
        await bound.delete(pod(name=name), PLACE, NOW)
    assert FORCE in caught.value.message
    for grace in ({}, {"gracePeriodSeconds": 1}, {"gracePeriodSeconds": 30}):
        await bound.delete(pod(name=name), PLACE, {"dryRun": ["All"], **grace})


@pytest.mark.parametrize("name", ["other", "empty"])
async def test_pods_without_fabric_memory_may_be_deleted_by_force(bound, name):
    await bound.delete(pod(name=name), PLACE, NOW)


async def test_deleting_all_pods_by_force_is_refused(bound):
    with pytest.raises(Refused, match="this pod has fabric memory"):
        await bound.call("DELETE", f"/api/v1/namespaces/{PLACE}/pods", NOW)


async def test_the_guard_is_for_people_not_for_kubernetes_itself(bound):
    for caller in (
        bound.as_(f"system:node:{NODE}", "system:nodes"),
        bound.as_("system:serviceaccount:kube-system:pod-garbage-collector"),
        bound.as_("system:serviceaccount:kube-system:namespace-controller"),
    ):
        await caller.delete(pod(name="own"), PLACE, NOW)
    with pytest.raises(Refused, match="this pod has fabric memory"):
        await bound.as_("system:serviceaccount:kube-system:job-controller").delete(pod(name="own"), PLACE, NOW)


async def test_an_annotation_is_the_way_out_for_who_has_to(bound):
    await bound.patch(pod(name="own"), {"metadata": {"annotations": {ALLOW: "true"}}}, PLACE)
    await bound.delete(pod(name="own"), PLACE, NOW)


# --- what the roles may write


async def test_I6_a_driver_writes_and_deletes_slices_of_its_own_node_only(api):
    driver = api.as_(f"{ACCOUNT}driver", node=NODE)
    await driver.create(piece(NODE), dryRun="All")
    assert f"the driver of node {NODE} may not write a slice of node other" in await refusal(driver, piece("other"), "")
    assert "may not write a slice of a pool that is not a node's" in await refusal(driver, piece(None), "")
    assert "writes slices of dra.memory only" in await refusal(driver, piece(NODE, "gpu.example.com"), "")
    assert "token is not bound to a node" in await refusal(api.as_(f"{ACCOUNT}driver", node=None), piece(NODE), "")
    for name, where in (("mine", NODE), ("theirs", "other")):
        body = piece(where)
        body["metadata"]["name"] = name
        body["spec"]["pool"]["name"] = name
        await api.create(body)
    theirs, mine = ({**piece(NODE), "metadata": {"name": name}} for name in ("theirs", "mine"))
    with pytest.raises(Refused, match="may not write a slice of node other"):
        await driver.delete(theirs)
    await driver.delete(mine)


@pytest.mark.parametrize("case", UPDATER_WRITES)
async def test_the_updater_writes_its_own_keys_of_its_own_node_only(api, case):
    status, sentence = UPDATER_WRITES[case]
    nodes = {name: {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in (NODE, "other")}
    for node in nodes.values():
        await api.create(node)
    await api.patch(nodes[NODE], {"status": {"capacity": {"cpu": "1", "memory": "1Gi"}}}, sub="status")
    updater = api.as_(f"{ACCOUNT}updater", node=NODE)

    async def write(name: str) -> None:
        await updater.patch(nodes[name], {"status": status}, style="strategic", sub="status", dryRun="All")

    if sentence:
        with pytest.raises(Refused, match="ValidatingAdmissionPolicy") as caught:
            await write(NODE)
        assert sentence in caught.value.message
    else:
        await write(NODE)
    with pytest.raises(Refused, match=f'the updater of node "{NODE}" may not write node other'):
        await write("other")
