# SPDX-License-Identifier: Apache-2.0
"""The admission policies of deploy/, asked by an API server: what is refused is refused with a sentence (rules 16, 17).

Almost everything is a dry run, so the cases do not meet each other.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from tests.cluster.support.api import Api, ApiError
from tests.cluster.support.kubectl import kubectl
from tests.cluster.support.processes import eventually
from tests.cluster.support.world import NAMESPACE
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

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def place(cluster, rights) -> Any:
    """A namespace where claims with adminAccess are allowed by Kubernetes, and a claim and a template of each kind."""
    name = f"policies-{next(_numbers)}"
    label = {"resource.kubernetes.io/admin-access": "true"}
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": label}})
    eventually(lambda: cluster.api.find("ServiceAccount", "default", name), 20, f"service account of {name}")
    for body, kind in ((spec(request()), "far"), (spec(request(class_=OTHER, size=None)), "other"), ({}, "empty")):
        cluster.api.create(claim(body, kind), name)
        cluster.api.create(template(body, kind), name)
    for source in ({"resourceClaimName": "far"}, {"resourceClaimTemplateName": "far"}):
        # the API server hears of a policy's parameters by watches of its own
        body = pod(source, terminationGracePeriodSeconds=0)
        eventually(lambda body=body: is_refused(cluster.api, body, name), 20, f"{source} is known")
    yield name
    cluster.api.delete("Namespace", name)


def refusal(api: Api, body: dict[str, Any], namespace: str) -> str:
    """Return what the API server says to this object."""
    with pytest.raises(ApiError) as caught:
        api.create(body, namespace, dryRun="All")
    assert caught.value.code == 422, caught.value
    assert "ValidatingAdmissionPolicy" in caught.value.message, caught.value
    return caught.value.message


# --- claims


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("make", [claim, template], ids=["claim", "template"])
def test_rule_16_a_claim_that_cannot_be_served_is_refused_with_a_sentence(cluster, place, case, make):
    body, sentence = REFUSED[case]
    assert sentence in refusal(cluster.api, make(body), place)


@pytest.mark.parametrize("case", COMPLETED)
def test_rule_16_an_accepted_claim_gets_its_window_and_nothing_else_changes(cluster, place, case):
    body = COMPLETED[case]
    made = cluster.api.create(claim(body), place, dryRun="All")["spec"]["devices"]
    name = next(r["name"] for r in body["devices"]["requests"] if r.get("exactly", {}).get("deviceClassName") == FAR)
    *before, added = made["requests"]
    assert added == request(f"{name}-window", WINDOW, allocationMode="ExactCount", count=1)
    assert made["constraints"] == [
        *body["devices"].get("constraints", []),
        {"requests": [name, f"{name}-window"], "matchAttribute": "dra.memory/fabricDomain"},
    ]
    assert before == defaulted(body["devices"]["requests"])


@pytest.mark.parametrize("case", UNTOUCHED)
def test_rule_16_complete_claims_and_those_of_others_are_left_alone(cluster, place, case):
    body = UNTOUCHED[case]
    made = cluster.api.create(claim(body), place, dryRun="All")["spec"]
    assert made.get("devices", {}).get("constraints") == body.get("devices", {}).get("constraints")
    requests = defaulted(body.get("devices", {}).get("requests", []))
    assert (made.get("devices", {}).get("requests") or []) == requests


@pytest.mark.parametrize("case", [*COMPLETED, *UNTOUCHED])
def test_rule_16_a_good_template_is_taken_as_it_is(cluster, place, case):
    body = {**COMPLETED, **UNTOUCHED}[case]
    made = cluster.api.create(template(body), place, dryRun="All")["spec"]["spec"]
    assert len(made.get("devices", {}).get("requests") or []) == len(body.get("devices", {}).get("requests", []))


def test_rule_16_a_claim_is_for_one_pod_at_a_time(cluster, place):
    """Also where somebody writes the status who is neither scheduler nor controller."""
    pods = [{"resource": "pods", "name": f"p{number}", "uid": f"uid-{number}"} for number in range(2)]

    def reserve(name: str, driver: str, count: int) -> None:
        result = {"request": "far", "driver": driver, "pool": "pool", "device": "device"}
        status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": pods[:count]}
        patch = {"status": status}
        cluster.api.patch("ResourceClaim", name, patch, place, subresource="status", dryRun="All")

    with pytest.raises(ApiError, match=r"a claim of driver dra\.memory cannot be reserved for more than one pod"):
        reserve("far", "dra.memory", 2)
    reserve("far", "dra.memory", 1)
    reserve("other", "gpu.example.com", 2)


# --- pods that share


@pytest.fixture(scope="module")
def own(cluster, place) -> str:
    """A claim and a template for the node's own memory."""
    for name, class_ in (("near", "dra.memory"), ("huge", "dra.hugepages-2m")):
        body = spec(request("x", class_, "512Mi"), request("y", class_, "512Mi"))
        cluster.api.create(claim(body, name), place)
        cluster.api.create(template(body, name), place)
    for source in SOURCES:
        eventually(
            lambda source=source: is_refused(cluster.api, users(source, "", ""), place), 10, f"{source} is known"
        )
    return place


def is_refused(api: Api, body: dict[str, Any], namespace: str) -> bool:
    try:
        api.create(body, namespace, dryRun="All")
    except ApiError:
        return True
    return False


def users(source: dict[str, str], *uses: str, inits: tuple[str, ...] = (), sidecar: bool = False) -> dict[str, Any]:
    """A pod whose containers use all of a claim ("") or one request of it."""

    def made(prefix: str, requests: tuple[str, ...], **more: Any) -> list[dict[str, Any]]:
        refs = [[{"name": "mem", **({"request": each} if each else {})}] for each in requests]
        return [
            {"name": f"{prefix}{n}", "image": "none", "resources": {"claims": r}, **more} for n, r in enumerate(refs)
        ]

    body = pod()
    body["spec"]["resourceClaims"] = [{"name": "mem", **source}]
    body["spec"]["containers"] = made("c", uses)
    body["spec"]["initContainers"] = made("i", inits, **({"restartPolicy": "Always"} if sidecar else {}))
    return body


SOURCES = [{kind: name} for kind in ("resourceClaimName", "resourceClaimTemplateName") for name in ("near", "huge")]


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_S1_containers_that_run_together_do_not_share_a_request(cluster, own, source):
    shared = [
        users(source, "", ""),
        users(source, "x", "x"),
        users(source, "x", ""),
        users(source, "", inits=("",), sidecar=True),
    ]
    for body in shared:
        assert "would share memory of one claim: give each a claim, or a request, of its own" in refusal(
            cluster.api, body, own
        )


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_S9_S10_what_is_not_shared_is_let_through(cluster, own, source):
    alone = [
        users(source, ""),
        users(source, "x", "y"),
        users(source, "", inits=("",)),
        users(source, "x", inits=("x",)),
    ]
    for body in alone:
        cluster.api.create(body, own, dryRun="All")


# --- pods


@pytest.mark.parametrize("sources", WITH_FABRIC_MEMORY.values(), ids=WITH_FABRIC_MEMORY)
def test_rule_17_no_pod_with_fabric_memory_ends_at_once(cluster, place, sources):
    assert GRACE in refusal(cluster.api, pod(*sources, terminationGracePeriodSeconds=0), place)
    for grace in (1, 30):
        cluster.api.create(pod(*sources, terminationGracePeriodSeconds=grace), place, dryRun="All")
    cluster.api.create(pod(*sources), place, dryRun="All")


@pytest.mark.parametrize("sources", WITHOUT_FABRIC_MEMORY.values(), ids=WITHOUT_FABRIC_MEMORY)
def test_rule_17_pods_without_fabric_memory_may_end_at_once(cluster, place, sources):
    cluster.api.create(pod(*sources, terminationGracePeriodSeconds=0), place, dryRun="All")


@pytest.mark.parametrize("source", ["resourceClaimTemplateName", "resourceClaimName"])
def test_rule_17_only_claims_of_the_same_namespace_count(cluster, place, namespace, source):
    """A claim of the same name elsewhere is another one."""
    cluster.api.create(pod({source: "far"}, terminationGracePeriodSeconds=0), namespace, dryRun="All")


@pytest.mark.parametrize("amounts", ["requests", "limits"])
@pytest.mark.parametrize("containers", ["containers", "initContainers"])
def test_rule_17_the_extended_resource_is_a_view_and_not_for_sale(cluster, place, containers, amounts):
    sold = {VIEW: "1", "memory": "1Mi"}
    resources = {amounts: sold, "limits": sold}  # an extended resource needs a limit as large as its request
    body = pod()
    body["spec"].setdefault(containers, []).append({"name": "buyer", "image": "none", "resources": resources})
    said = refusal(cluster.api, body, place)
    assert f"{VIEW} only shows what is attached to a node; ask for memory with a ResourceClaim of class {FAR}" in said
    for section in resources.values():
        section.pop(VIEW, None)
    cluster.api.create(body, place, dryRun="All")


# --- deleting by force


@pytest.fixture(scope="module")
def bound(cluster, place) -> Any:
    """Pods on a node that nobody runs: (namespace, node), pods `template`, `own`, `other` and `empty`."""
    node = f"idle-{next(_numbers)}"
    cluster.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    sources = {
        "template": {"resourceClaimTemplateName": "far"},
        "own": {"resourceClaimName": "far"},
        "other": {"resourceClaimTemplateName": "other"},
        "empty": {"resourceClaimName": "empty"},
    }
    for name, source in sources.items():
        cluster.api.create(pod(source, name=name, nodeName=node), place)
    for name in ("template", "other"):
        eventually(
            lambda name=name: cluster.api.get("Pod", name, place)["status"]["resourceClaimStatuses"], 20, "claims exist"
        )
    yield place, node
    for name in sources:
        with contextlib.suppress(ApiError):  # Kubernetes may have taken it from a node that is silent
            cluster.api.patch("Pod", name, {"metadata": {"annotations": {ALLOW: "true"}}}, place)
            cluster.api.delete("Pod", name, place, grace=0)
    cluster.api.delete("Node", node)


def force(api: Api, namespace: str, name: str, grace: int | None = 0) -> None:
    """Delete a pod in a dry run."""
    # with options in the body, those in the query do not count
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]}
    options |= {} if grace is None else {"gracePeriodSeconds": grace}
    api.call("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}".rstrip("/"), options)


def guarded(api: Api, namespace: str, name: str) -> str:
    """Return why a pod may not be deleted by force; empty if it may."""
    try:
        force(api, namespace, name)
    except ApiError as error:
        return error.message
    return ""


@pytest.mark.parametrize("name", ["template", "own"])
def test_rule_17_deleting_by_force_is_refused(cluster, bound, name):
    namespace, _ = bound

    # a claim made from a template has to reach the policy's own cache
    eventually(lambda: FORCE in guarded(cluster.api, namespace, name), 10, "the guard knows the claim of the pod")
    for grace in (None, 1, 30):
        force(cluster.api, namespace, name, grace)


@pytest.mark.parametrize("name", ["other", "empty"])
def test_rule_17_pods_without_fabric_memory_may_be_deleted_by_force(cluster, bound, name):
    force(cluster.api, bound[0], name)


def test_rule_17_deleting_all_pods_by_force_is_refused(cluster, bound):
    namespace, _ = bound
    eventually(
        lambda: "this pod has fabric memory" in guarded(cluster.api, namespace, ""), 10, "the guard knows their claims"
    )


def test_rule_17_the_guard_is_for_people_not_for_kubernetes_itself(cluster, bound):
    """The kubelet ends every pod with 0 seconds; without the two controllers dead nodes would never be cleaned up."""
    namespace, node = bound
    plane = cluster.plane
    kubelet = Api(
        plane.server, plane.authority.context(plane.authority.client(node, f"system:node:{node}", "system:nodes"))
    )
    accounts = {
        name: Api(plane.server, plane.authority.context(), cluster.api.token(name, "kube-system"))
        for name in ("pod-garbage-collector", "namespace-controller", "job-controller")
    }
    try:
        for caller in (kubelet, accounts["pod-garbage-collector"], accounts["namespace-controller"]):
            force(caller, namespace, "own")
        # another controller of Kubernetes has the right to delete pods, but no reason to do so by force
        with pytest.raises(ApiError, match="this pod has fabric memory"):
            force(accounts["job-controller"], namespace, "own")
    finally:
        for caller in (kubelet, *accounts.values()):
            caller.close()


def test_rule_17_an_annotation_is_the_way_out_for_who_has_to(cluster, bound):
    """What people see and type."""
    namespace, node = bound
    cluster.api.create(claim(spec(request()), "doomed"), namespace)
    cluster.api.create(pod({"resourceClaimName": "doomed"}, name="doomed", nodeName=node), namespace)
    eventually(lambda: guarded(cluster.api, namespace, "doomed"), 10, "the guard knows the claim of the pod")
    delete = ("delete", "pod", "doomed", "-n", namespace, "--force", "--wait=false")
    code, said = kubectl(cluster, *delete)
    assert code != 0
    assert FORCE in said, said
    assert cluster.api.find("Pod", "doomed", namespace)
    code, said = kubectl(cluster, "annotate", "pod", "doomed", "-n", namespace, f"{ALLOW}=true")
    assert code == 0, said
    code, said = kubectl(cluster, *delete)
    assert code == 0, said
    assert cluster.api.find("Pod", "doomed", namespace) is None


# --- what the roles may write


@pytest.fixture(scope="module")
def roles(cluster, bound) -> Any:
    """The roles on the node as callers: by name, with tokens as their pods have; `unbound` has no pod."""
    _, node = bound
    callers = {}
    for role in ("driver", "updater"):
        body = pod(name=f"{role}-{node}", nodeName=node, serviceAccountName=role, terminationGracePeriodSeconds=0)
        made = cluster.api.create(body, NAMESPACE)
        token = cluster.api.token(role, NAMESPACE, made)
        callers[role] = Api(cluster.plane.server, cluster.plane.authority.context(), token)
    token = cluster.api.token("driver", NAMESPACE)
    callers["unbound"] = Api(cluster.plane.server, cluster.plane.authority.context(), token)
    yield node, callers
    for caller in callers.values():
        caller.close()
    for role in ("driver", "updater"):
        cluster.api.delete("Pod", f"{role}-{node}", NAMESPACE, grace=0)


def test_I6_a_driver_writes_slices_of_its_own_node_only(cluster, roles):
    node, callers = roles
    callers["driver"].create(piece(node), dryRun="All")
    assert f"the driver of node {node} may not write a slice of node other" in refusal(
        callers["driver"], piece("other"), ""
    )
    assert "may not write a slice of a pool that is not a node's" in refusal(callers["driver"], piece(None), "")
    assert "writes slices of dra.memory only" in refusal(callers["driver"], piece(node, "gpu.example.com"), "")
    assert "token is not bound to a node" in refusal(callers["unbound"], piece(node), "")


def test_I6_a_driver_deletes_slices_of_its_own_node_only(cluster, roles):
    node, callers = roles
    for name, where in (("mine", node), ("theirs", "other")):
        body = piece(where)
        body["metadata"]["name"] = name
        body["spec"]["pool"]["name"] = name
        cluster.api.create(body)
    with pytest.raises(ApiError, match="may not write a slice of node other"):
        callers["driver"].delete("ResourceSlice", "theirs")
    callers["driver"].delete("ResourceSlice", "mine")
    cluster.api.delete("ResourceSlice", "theirs")


@pytest.mark.parametrize("case", UPDATER_WRITES)
def test_rule_21_the_updater_writes_its_own_keys_of_its_own_node_only(cluster, roles, case):
    status, sentence = UPDATER_WRITES[case]
    node, callers = roles
    updater = callers["updater"]
    cluster.api.patch("Node", node, {"status": {"capacity": {"cpu": "1", "memory": "1Gi"}}}, subresource="status")
    patch = {"status": status}

    def write(name: str) -> None:
        updater.patch("Node", name, patch, style="strategic", subresource="status", dryRun="All")

    if not sentence:
        write(node)
    else:
        with pytest.raises(ApiError, match="ValidatingAdmissionPolicy") as caught:
            write(node)
        assert sentence in caught.value.message
    with pytest.raises(ApiError, match=f'the updater of node "{node}" may not write node {cluster.node.name}'):
        write(cluster.node.name)
