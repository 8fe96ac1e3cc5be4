# SPDX-License-Identifier: Apache-2.0
"""The policies that keep claims for memory from being shared, evaluated with this package's CEL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.driver.local_rig import pod_body

from dynamic_memory.cel.environments.admission import Policy, PolicyBindings

DEPLOY = Path(__file__).parents[3] / "deploy"
POLICIES = {
    body["metadata"]["name"]: body["spec"]
    for path in sorted(DEPLOY.glob("3*.yaml"))
    for body in yaml.safe_load_all(path.read_text())
    if body["kind"] == "ValidatingAdmissionPolicy"
}


def ask(name: str, **bindings: Any) -> list[str]:
    """Return the messages of a policy's refusals; an empty list lets the request pass."""
    spec = POLICIES[name]
    policy = Policy({item["name"]: item["expression"] for item in spec.get("variables", [])})
    values = PolicyBindings(policy, **bindings)
    if not all(policy.compile(item["expression"]).evaluate(values) for item in spec.get("matchConditions", [])):
        return []
    found = []
    for item in spec["validations"]:
        if not policy.compile(item["expression"]).evaluate(values):
            text = policy.compile(item["messageExpression"]).evaluate(values) if "messageExpression" in item else ""
            found.append(text or item["message"])
    return found


def claim(*classes: str) -> dict[str, Any]:
    requests = [{"name": f"r{n}", "exactly": {"deviceClassName": each}} for n, each in enumerate(classes)]
    return {"metadata": {"name": "near"}, "spec": {"devices": {"requests": requests}}}


MEMORY = claim("dra.memory")
WHOLE = [("mem", "")]
SHARED = {
    "two-containers": {"containers": {"a": WHOLE, "b": WHOLE}},
    "same-request": {"containers": {"a": [("mem", "x")], "b": [("mem", "x")]}},
    "request-and-all": {"containers": {"a": [("mem", "x")], "b": WHOLE}},
    "sidecar-and-app": {"containers": {"a": WHOLE}, "inits": {"s": WHOLE}, "sidecars": ("s",)},
}
ALONE = {
    "one": {"containers": {"a": WHOLE, "b": []}},
    "S9-init-then-app": {"containers": {"a": WHOLE}, "inits": {"i": WHOLE}},
    "S10-two-requests": {"containers": {"a": [("mem", "x")], "b": [("mem", "y")]}},
    "both-requests-in-one": {"containers": {"a": [("mem", "x"), ("mem", "y")]}},
    "nobody": {"containers": {"a": []}},
    "another-claim": {"containers": {"a": WHOLE, "b": [("other", "")]}, "claims": {"mem": "near", "other": "far"}},
}


@pytest.mark.parametrize("case", SHARED)
@pytest.mark.parametrize("params", [MEMORY, claim("dra.hugepages-2m"), claim("gpu.example", "dra.memory")])
def test_S1_containers_that_would_share_a_claim_are_refused_with_a_sentence(case: str, params: dict[str, Any]) -> None:
    (message,) = ask("dynamic-memory-pods-sharing-claim", object=pod_body(**SHARED[case]), params=params)
    assert "would share memory of one claim" in message
    assert "containers a and" in message or "and a" in message


@pytest.mark.parametrize("case", ALONE)
def test_S9_S10_what_is_not_shared_passes(case: str) -> None:
    assert ask("dynamic-memory-pods-sharing-claim", object=pod_body(**ALONE[case]), params=MEMORY) == []


def test_two_names_of_one_claim_are_one_claim() -> None:
    pod = pod_body(containers={"a": WHOLE, "b": [("two", "")]}, claims={"mem": "near", "two": "near"})
    assert ask("dynamic-memory-pods-sharing-claim", object=pod, params=MEMORY)


@pytest.mark.parametrize(
    "params", [claim("gpu.example"), {"metadata": {"name": "other"}, "spec": MEMORY["spec"]}, None]
)
def test_claims_of_others_may_be_shared(params: dict[str, Any] | None) -> None:
    pod = pod_body(**SHARED["two-containers"])
    assert ask("dynamic-memory-pods-sharing-claim", object=pod, params=params) == []


def template(*classes: str) -> dict[str, Any]:
    return {"metadata": {"name": "t"}, "spec": {"spec": claim(*classes)["spec"]}}


def test_S1_claims_of_templates_are_refused_as_well_but_two_claims_of_one_template_are_two() -> None:
    pod = pod_body(**SHARED["two-containers"])
    pod["spec"]["resourceClaims"] = [{"name": "mem", "resourceClaimTemplateName": "t"}]
    assert ask("dynamic-memory-pods-sharing-template", object=pod, params=template("dra.memory"))
    pod = pod_body(containers={"a": WHOLE, "b": [("two", "")]})
    pod["spec"]["resourceClaims"] = [{"name": n, "resourceClaimTemplateName": "t"} for n in ("mem", "two")]
    assert ask("dynamic-memory-pods-sharing-template", object=pod, params=template("dra.memory")) == []


def test_alternatives_count_too() -> None:
    params = {
        "metadata": {"name": "near"},
        "spec": {"devices": {"requests": [{"name": "x", "firstAvailable": [{"deviceClassName": "dra.memory"}]}]}},
    }
    assert ask("dynamic-memory-pods-sharing-claim", object=pod_body(**SHARED["two-containers"]), params=params)


@pytest.mark.parametrize(
    ("reserved", "driver", "refused"),
    [
        (["pods"], "dra.memory", False),
        (["pods", "pods"], "dra.memory", True),
        (["pods", "things"], "dra.memory", False),
        (["pods", "pods"], "gpu.example", False),
        ([], "dra.memory", False),
    ],
)
def test_S2_a_claim_of_ours_is_reserved_for_one_pod(reserved: list[str], driver: str, refused: bool) -> None:
    body = {
        "status": {
            "reservedFor": [{"resource": each, "name": f"n{n}", "uid": f"u{n}"} for n, each in enumerate(reserved)],
            "allocation": {"devices": {"results": [{"request": "m", "driver": driver, "pool": "n1/mem"}]}},
        }
    }
    assert bool(ask("dynamic-memory-claim-sharing", object=body)) is refused


RIGHTS = {
    (body["kind"], body["metadata"]["name"]): body["rules"]
    for body in yaml.safe_load_all((DEPLOY / "10-rbac.yaml").read_text())
    if body["kind"] in {"ClusterRole", "Role"}
}


def test_O13_a_driver_has_the_rights_that_it_needs() -> None:
    rights = {
        (group, resource): sorted(rule["verbs"])
        for rule in RIGHTS["ClusterRole", "dynamic-memory-driver"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert rights == {
        ("resource.k8s.io", "resourceclaims"): ["get", "list", "watch"],
        ("resource.k8s.io", "resourceclaims/status"): ["patch"],
        ("resource.k8s.io", "resourceclaims/driver"): ["associated-node:patch"],
        ("resource.k8s.io", "resourceslices"): ["create", "delete", "get", "list", "patch", "watch"],
        ("", "nodes"): ["get"],
        ("", "pods"): ["get"],
        ("", "events"): ["create", "patch"],
        ("certificates.k8s.io", "certificatesigningrequests"): ["create", "get"],
    }


@pytest.mark.parametrize(
    ("token", "node", "driver", "refused"),
    [
        ("n1", "n1", "dra.memory", False),
        ("n1", "n2", "dra.memory", True),
        ("n1", None, "dra.memory", True),
        (None, "n1", "dra.memory", True),
        ("n1", "n1", "gpu.example", True),
    ],
)
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_O13_a_driver_writes_slices_of_its_own_node_only(
    token: str | None, node: str | None, driver: str, refused: bool, operation: str
) -> None:
    key = "authentication.kubernetes.io/node-name"
    user = {
        "username": "system:serviceaccount:dynamic-memory:driver",
        "extra": {key: [token]} if token else {},
    }
    body = {"spec": {"driver": driver, "pool": {"name": f"{node}/mem"}, **({"nodeName": node} if node else {})}}
    request = {"userInfo": user, "operation": operation}
    assert bool(ask("dynamic-memory-driver-slices", object=body, old_object=body, request=request)) is refused
