# SPDX-License-Identifier: Apache-2.0
"""The admission policies of deploy/, asked by an API server: what is refused is refused with a sentence (rules 16, 17).

Almost everything is a dry run, so the cases do not meet each other.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from tests.cluster.support.api import Api, ApiError
from tests.cluster.support.kubectl import kubectl
from tests.cluster.support.processes import eventually
from tests.cluster.support.world import NAMESPACE

FAR, WINDOW, OTHER = "dra.fabric-memory", "dra.fabric-window", "gpu.example.com"
TIE = {"requests": ["far", "far-window"], "matchAttribute": "dra.memory/fabricDomain"}
TIE_ALL = {"matchAttribute": "dra.memory/fabricDomain"}
VIEW = "dynamicmemory.dev/memory"
GRACE = "a pod with fabric memory needs terminationGracePeriodSeconds of 1 or more"
FORCE = "this pod has fabric memory, which is given back while it terminates: delete it without --force, or annotate it"
ALLOW = "dynamicmemory.dev/allow-force-delete"
_numbers = itertools.count(1)


def request(name: str = "far", class_: str = FAR, size: str | None = "1Gi", **more: Any) -> dict[str, Any]:
    sized = {"capacity": {"requests": {"size": size}}} if size else {}
    return {"name": name, "exactly": {"deviceClassName": class_, **sized, **more}}


def choice(*classes: str) -> dict[str, Any]:
    return {"name": "far", "firstAvailable": [{"name": f"c{i}", "deviceClassName": c} for i, c in enumerate(classes)]}


def spec(*requests: dict[str, Any], constraints: Any = ()) -> dict[str, Any]:
    return {"devices": {"requests": list(requests), **({"constraints": list(constraints)} if constraints else {})}}


def claim(body: dict[str, Any], name: str = "claim") -> dict[str, Any]:
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}, "spec": body}


def template(body: dict[str, Any], name: str = "template") -> dict[str, Any]:
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate"}
    return {**kind, "metadata": {"name": name}, "spec": {"spec": body}}


def pod(*sources: dict[str, str], name: str = "pod", **more: Any) -> dict[str, Any]:
    entries = [{"name": f"claim-{number}", **source} for number, source in enumerate(sources)]
    used = {"claims": [{"name": entry["name"]} for entry in entries]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "main", "image": "none", "resources": used if entries else {}}],
            **({"resourceClaims": entries} if entries else {}),
            **more,
        },
    }


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

REFUSED = {
    "one of several alternatives": (spec(choice(OTHER, FAR)), "one of several alternatives (firstAvailable)"),
    "window of several alternatives": (spec(choice(WINDOW, OTHER)), "one of several alternatives (firstAvailable)"),
    "two requests": (spec(request(), request("more")), "a claim may have one request for dra.fabric-memory"),
    "no size": (spec(request(size=None)), "must say how much: exactly.capacity.requests.size, for example 512Mi"),
    "another capacity": (spec(request(size=None, capacity={"requests": {"extents": "1"}})), "must say how much"),
    "no amounts": (spec(request(size=None, capacity={})), "must say how much"),
    "two devices": (spec(request(allocationMode="ExactCount", count=2)), "ExactCount and count 1; ask for more with"),
    "all devices": (spec(request(allocationMode="All")), "allocationMode ExactCount and count 1"),
    "admin access": (spec(request(adminAccess=True)), "fabric memory cannot be claimed with adminAccess"),
    "long name": (spec(request("f" * 57)), "may have 56 characters at most"),
    "a window alone": (spec(request(class_=WINDOW)), "a request for dra.fabric-window belongs to one for"),
    "two windows": (
        spec(request(), request("a", WINDOW), request("b", WINDOW), constraints=[{**TIE, "requests": ["far", "a"]}]),
        "a request for dra.fabric-window belongs to one for",
    ),
}
REFUSED_WINDOWS = {
    "smaller window": (
        spec(request(), request("far-window", WINDOW, "512Mi"), constraints=[TIE]),
        "dra.fabric-memory and dra.fabric-window must be of equal size",
    ),
    "window of no size": (
        spec(request(), request("far-window", WINDOW, None), constraints=[TIE]),
        "dra.fabric-memory and dra.fabric-window must be of equal size",
    ),
    "window not tied": (spec(request(), request("far-window", WINDOW)), "must be tied by matchAttribute"),
    "window tied otherwise": (
        spec(request(), request("far-window", WINDOW), constraints=[{**TIE, "matchAttribute": "dra.memory/kind"}]),
        "must be tied by matchAttribute: dra.memory/fabricDomain",
    ),
    "something else tied": (
        spec(
            request(),
            request("far-window", WINDOW),
            request("gpu", OTHER, None),
            constraints=[{**TIE, "requests": ["far", "gpu"]}],
        ),
        "must be tied by matchAttribute: dra.memory/fabricDomain",
    ),
}


@pytest.mark.parametrize("case", [*REFUSED, *REFUSED_WINDOWS])
@pytest.mark.parametrize("make", [claim, template], ids=["claim", "template"])
def test_rule_16_a_claim_that_cannot_be_served_is_refused_with_a_sentence(cluster, place, case, make):
    body, sentence = {**REFUSED, **REFUSED_WINDOWS}[case]
    assert sentence in refusal(cluster.api, make(body), place)


COMPLETED = {
    "shortest": spec(request()),
    "all written": spec(request(allocationMode="ExactCount", count=1)),
    "longest name": spec(request("f" * 56)),
    "beside another class": spec(request("gpu", OTHER, None), request()),
    "constraints of its own": spec(
        request(),
        request("a", OTHER, None),
        request("b", OTHER, None),
        constraints=[{"requests": ["a", "b"], "matchAttribute": "example.com/numa"}],
    ),
    "beside alternatives": spec(request(), {**choice(OTHER, "nic.example.com"), "name": "nic"}),
}


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


def defaulted(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests with what the API server itself fills in."""
    filled = copy.deepcopy(requests)
    for entry in filled:
        for each in (*([entry["exactly"]] if "exactly" in entry else ()), *entry.get("firstAvailable", ())):
            if each.setdefault("allocationMode", "ExactCount") == "ExactCount":
                each.setdefault("count", 1)
    return filled


UNTOUCHED = {
    "window written": spec(request(), request("w", WINDOW), constraints=[{**TIE, "requests": ["far", "w"]}]),
    "other spelling": spec(request(), request("far-window", WINDOW, "1073741824"), constraints=[TIE]),
    "tie for all": spec(request(), request("far-window", WINDOW), constraints=[TIE_ALL]),
    "another class": spec(request(class_=OTHER, size=None, allocationMode="ExactCount", count=4)),
    "all of another class": spec({"name": "all", "exactly": {"deviceClassName": OTHER, "allocationMode": "All"}}),
    "alternatives of another class": spec(choice(OTHER, "nic.example.com")),
    "nothing": {},
}


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
    for source in SOURCES:  # the API server hears of a policy's parameters by watches of its own
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


@pytest.mark.parametrize(
    "sources",
    [
        [{"resourceClaimTemplateName": "far"}],
        [{"resourceClaimName": "far"}],
        [{"resourceClaimTemplateName": "other"}, {"resourceClaimName": "far"}],
        [{"resourceClaimName": "other"}, {"resourceClaimTemplateName": "far"}],
    ],
    ids=["template", "own claim", "claim among others", "template among others"],
)
def test_rule_17_no_pod_with_fabric_memory_ends_at_once(cluster, place, sources):
    assert GRACE in refusal(cluster.api, pod(*sources, terminationGracePeriodSeconds=0), place)
    for grace in (1, 30):
        cluster.api.create(pod(*sources, terminationGracePeriodSeconds=grace), place, dryRun="All")
    cluster.api.create(pod(*sources), place, dryRun="All")


@pytest.mark.parametrize(
    "sources",
    [
        [],
        [{"resourceClaimTemplateName": "other"}],
        [{"resourceClaimName": "other"}],
        [{"resourceClaimTemplateName": "empty"}],
        [{"resourceClaimName": "empty"}],
        [{"resourceClaimTemplateName": "not-there"}],
        [{"resourceClaimName": "not-there"}],
    ],
    ids=["no claim", "template", "own claim", "empty template", "empty claim", "unknown template", "unknown claim"],
)
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
        cluster.api.patch("Pod", name, {"metadata": {"annotations": {ALLOW: "true"}}}, place)
        cluster.api.delete("Pod", name, place, grace=0)
    cluster.api.delete("Node", node)


def force(api: Api, namespace: str, name: str, grace: int | None = 0) -> None:
    """Delete a pod in a dry run."""
    # with options in the body, those in the query do not count
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]}
    options |= {} if grace is None else {"gracePeriodSeconds": grace}
    api.call("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}".rstrip("/"), options)


@pytest.mark.parametrize("name", ["template", "own"])
def test_rule_17_deleting_by_force_is_refused(cluster, bound, name):
    namespace, _ = bound

    def refused() -> bool:
        with pytest.raises(ApiError) as caught:
            force(cluster.api, namespace, name)
        return FORCE in caught.value.message

    # a claim made from a template has to reach the policy's own cache
    eventually(refused, 10, "the guard knows the claim of the pod")
    for grace in (None, 1, 30):
        force(cluster.api, namespace, name, grace)


@pytest.mark.parametrize("name", ["other", "empty"])
def test_rule_17_pods_without_fabric_memory_may_be_deleted_by_force(cluster, bound, name):
    force(cluster.api, bound[0], name)


def test_rule_17_deleting_all_pods_by_force_is_refused(cluster, bound):
    namespace, _ = bound
    with pytest.raises(ApiError, match="this pod has fabric memory"):
        force(cluster.api, namespace, "")


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


def piece(node: str | None, driver: str = "dra.memory") -> dict[str, Any]:
    pool = {"name": "pool", "generation": 1, "resourceSliceCount": 1}
    where = {"nodeName": node} if node else {"allNodes": True}
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "piece"}}
    return {**body, "spec": {"driver": driver, "pool": pool, **where, "devices": [{"name": "device"}]}}


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


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ({"capacity": {VIEW: "1Gi"}}, ""),
        ({"capacity": {"memory": "1Ti"}}, "the updater writes capacity keys of dynamicmemory.dev/ only"),
        ({"capacity": {"cpu": None}}, "the updater writes capacity keys of dynamicmemory.dev/ only"),
        ({"allocatable": {"memory": "1Ti"}}, "allocatable is the kubelet's"),
        ({"conditions": [{"type": "dynamicmemory.dev/DynamicMemoryReady", "status": "True"}]}, ""),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, "writes conditions of dynamicmemory.dev/ only"),
        ({"addresses": [{"type": "InternalIP", "address": "10.1.2.3"}]}, "its own condition only"),
    ],
    ids=["ours", "memory", "cpu gone", "allocatable", "our condition", "Ready", "address"],
)
def test_rule_21_the_updater_writes_its_own_keys_of_its_own_node_only(cluster, roles, status, sentence):
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
