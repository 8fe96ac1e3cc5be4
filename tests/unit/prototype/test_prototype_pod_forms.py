# SPDX-License-Identifier: Apache-2.0
"""K02, K03: all forms in which a pod may refer to claims; twins get the same devices."""

from __future__ import annotations

import json

import pytest
from tests.unit.prototype.worlds import SETS, VERSION, claim, decide, devices, pod, world_of

from dynamic_memory.allocation.prototype.errors import DocumentError, UnknownName
from dynamic_memory.allocation.prototype.schedule import Scheduler
from dynamic_memory.allocation.prototype.world import World

F0 = "node-00-foozer"
CLASS = "example.com-foozer"
SPEC = f"{{devices: [{{name: gpu, allOf: [{{class: {CLASS}}}]}}]}}"
GPU = claim("c", SPEC)
GENERATOR = f"""apiVersion: gen.example.com/v1
kind: Generator
metadata: {{name: g}}
status: {{claimSpec: {SPEC}}}
---
"""
USES = "[{name: x, devices: [{name: %s}]}]"
CLAIMS = "[{name: x, resources: {claims: [{name: e%s}]}}]"

FORMS = {
    "P1": ("resourceClaims: [{name: e, source: {resourceClaimName: c}}]", CLAIMS % ""),
    "P2": ("resourceClaims: [{name: e, source: {resourceClaimTemplateName: c}}]", CLAIMS % ""),
    "P3": (f"deviceClaims: {{devices: [{{name: gpu, class: {CLASS}}}]}}", USES % "gpu"),
    "P4": ("deviceClaims: {claimName: c}", USES % "gpu"),
    "P5": ("deviceClaims: {template: {metadata: {name: mine}, claimName: c}}", USES % "gpu"),
    "P6-claim": ("deviceClaims: [{name: e, source: {deviceClaimName: c}}]", USES % "e"),
    "P6-class": (f"deviceClaims: [{{name: e, source: {{templateClass: {{className: {CLASS}}}}}}}]", USES % "e"),
    "P6-template": ("deviceClaims: [{name: e, source: {templateClaim: {claimName: c}}}]", USES % "e"),
    "P6-generator": (
        (
            "deviceClaims: [{name: e, source: {generator: "
            "{generatorRef: {apiVersion: gen.example.com/v1, kind: Generator, name: g}}}}]"
        ),
        USES % "e",
    ),
    "P7-embedded": (f"deviceClaims: [{{name: e, claim: {SPEC}}}]", USES % "e"),
    "P7-name": ("deviceClaims: [{name: e, claimName: c}]", USES % "e"),
    "P7-template": ("deviceClaims: [{name: e, claimTemplateName: c}]", USES % "e"),
    "P8": ("resourceClaims: [{name: e, resourceClaimName: c}]", CLAIMS % ", requestName: gpu"),
    "P9": ("resourceClaims: [{name: e, resourceClaimTemplateName: c}]", CLAIMS % ", request: gpu"),
}
EXISTING = {"P1", "P4", "P6-claim", "P7-name", "P8"}


def world(form: str) -> World:
    spec, containers = FORMS[form]
    return world_of(*SETS["A"], text=GPU + GENERATOR + pod("p", spec, containers=containers))


@pytest.mark.parametrize("form", FORMS)
def test_K03_every_form_gets_the_device_that_its_twins_get(form: str) -> None:
    decision = decide(world(form))

    assert [f"{F0}/dev-00"] == devices(decision)
    [outcome] = decision.claims
    assert (outcome.name == "c") is (form in EXISTING) is (not outcome.use.made)


@pytest.mark.parametrize("form", FORMS)
def test_K03_second_run_finds_what_the_first_made(form: str) -> None:
    found = world(form)
    scheduler = Scheduler(found, lambda: "")
    first = scheduler.place(found.sources["default", "p"])
    scheduler.commit(first)

    second = scheduler.place(found.sources["default", "p"])

    assert devices(first) == devices(second)
    assert [(first.claims[0].name, False, False)] == [(o.name, o.use.made, o.changed) for o in second.claims]


@pytest.mark.parametrize(
    "both",
    [
        f"deviceClaims: {{claimName: c, devices: [{{name: gpu, class: {CLASS}}}]}}",
        "deviceClaims: {claimName: c, template: {claimName: c}}",
        "deviceClaims: {}",
        "deviceClaims: [{name: e, claimName: c, claimTemplateName: c}]",
        "deviceClaims: [{name: e, source: {}}]",
        "resourceClaims: [{name: e, resourceClaimName: c, resourceClaimTemplateName: c}]",
        "resourceClaims: [{name: e}]",
    ],
)
def test_K02_exactly_one_source(both: str) -> None:
    with pytest.raises(DocumentError, match=r"document \d+: spec\.\w+.*: expected exactly one of"):
        decide(world_of(*SETS["A"], text=GPU + pod("p", both)))


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("deviceClaims: {claimName: none}", "a DeviceClaim in namespace default"),
        ("deviceClaims: {template: {claimName: none}}", "a DeviceClaim in namespace default"),
        ("deviceClaims: {devices: [{name: gpu, class: none}]}", "a DeviceClass"),
        ("resourceClaims: [{name: e, resourceClaimTemplateName: none}]", "a DeviceClaim"),
        ("schedulingGroup: {podGroupName: none}, resourceClaims: [{name: e, resourceClaimName: c}]", "a PodGroup"),
    ],
)
def test_names_that_nothing_has(spec: str, what: str) -> None:
    with pytest.raises(UnknownName, match=f"the name of {what}"):
        decide(world_of(*SETS["A"], text=GPU + pod("p", spec)))


# --- resource.k8s.io/v1


def stable(extended: str = "") -> str:
    devices = [{"name": f"d{number}", "attributes": {"model": {"string": "m"}}} for number in range(2)]
    pool = {"name": "n1", "generation": 1, "resourceSliceCount": 1}
    bodies = [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": "k"},
            "spec": {
                "selectors": [{"cel": {"expression": 'device.driver == "d.example.com"'}}],
                **({"extendedResourceName": extended} if extended else {}),
            },
        },
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": "s"},
            "spec": {"driver": "d.example.com", "nodeName": "n1", "pool": pool, "devices": devices},
        },
    ]
    return "".join(f"{json.dumps(body)}\n---\n" for body in bodies)


REQUESTS = "{devices: {requests: [{name: r, exactly: {deviceClassName: k, allocationMode: ExactCount, count: 1}}]}}"
CLAIM = f"apiVersion: resource.k8s.io/v1\nkind: ResourceClaim\nmetadata: {{name: c}}\nspec: {REQUESTS}\n---\n"
TEMPLATE = (
    "apiVersion: resource.k8s.io/v1\nkind: ResourceClaimTemplate\n"
    f"metadata: {{name: t}}\nspec: {{spec: {REQUESTS}}}\n---\n"
)
GROUP = """apiVersion: scheduling.k8s.io/v1beta1
kind: PodGroup
metadata: {name: g}
spec: {resourceClaims: [{name: e, resourceClaimTemplateName: t}]}
---
"""
EXTENDED = "[{name: x, resources: {requests: {example.com/x: 1}}}]"
IMPLICIT = "[{name: x, resources: {requests: {deviceclass.resource.kubernetes.io/k: 1}}}]"

STABLE = {
    "P9-name": ("resourceClaims: [{name: e, resourceClaimName: c}]", CLAIMS % ", request: r", "c"),
    "P9-template": ("resourceClaims: [{name: e, resourceClaimTemplateName: t}]", CLAIMS % "", "p-e"),
    "P10": ("volumes: []", EXTENDED, "p-extended-resources"),
    "P10-class": ("volumes: []", IMPLICIT, "p-extended-resources"),
    "P11": (
        "schedulingGroup: {podGroupName: g}, resourceClaims: [{name: e, resourceClaimTemplateName: t}]",
        CLAIMS % "",
        "g-e",
    ),
}


@pytest.mark.parametrize(("spec", "containers", "name"), STABLE.values(), ids=STABLE)
def test_K03_claims_of_the_stable_group(spec: str, containers: str, name: str) -> None:
    text = stable("example.com/x") + CLAIM + TEMPLATE + GROUP + pod("p", spec, containers=containers)

    decision = decide(world_of(text=text, classes=False))

    assert "n1" == decision.node
    [outcome] = decision.claims
    assert name == outcome.name
    assert ["d0"] == [result.device for result in outcome.status["allocation"].devices.results]


def test_K03_pods_of_a_group_share_its_claim() -> None:
    spec, containers, _ = STABLE["P11"]
    text = stable() + TEMPLATE + GROUP + "".join(pod(name, spec, containers=containers) for name in ("p", "q"))
    found = world_of(text=text, classes=False)
    scheduler = Scheduler(found, lambda: "")

    decisions = []
    for name in ("p", "q"):
        decisions.append(scheduler.place(found.sources["default", name]))
        scheduler.commit(decisions[-1])

    assert [["g-e"], ["g-e"]] == [[outcome.name for outcome in decision.claims] for decision in decisions]
    assert [("podgroups", "g")] == [
        (entry["resource"], entry["name"]) for entry in decisions[1].claims[0].status["reservedFor"]
    ]
    assert not decisions[1].claims[0].changed


def test_claims_of_both_worlds_go_to_one_node() -> None:
    """The stable claim fits on n1 alone, the class of the prototype on n0 and n1."""
    pools = "".join(
        f"apiVersion: {VERSION}\nkind: DevicePool\nmetadata: {{name: {node}-p}}\n"
        f"spec: {{nodeName: {node}, driver: {CLASS}, devices: [{{name: d}}]}}\n---\n"
        for node in ("n0", "n1")
    )
    spec = f"deviceClaims: {{devices: [{{name: gpu, class: {CLASS}}}]}}"
    spec += ", resourceClaims: [{name: e, resourceClaimName: c}]"

    decision = decide(world_of(text=pools + stable() + CLAIM + pod("p", spec)))

    assert "n1" == decision.node
    assert [("n0", 0), ("n1", 100)] == [(node.node, node.score) for node in decision.nodes]


@pytest.mark.parametrize(
    ("node", "extra", "reason"),
    [
        ("spec: {unschedulable: true}", "", "unschedulable"),
        ("spec: {taints: [{key: a, value: b, effect: NoSchedule}]}", "", "the taint a=b:NoSchedule"),
        ("spec: {taints: [{key: a, effect: NoSchedule}]}", ", tolerations: [{key: a, operator: Exists}]", ""),
        ("spec: {}", ", nodeSelector: {zone: z}", "no label zone=z"),
    ],
)
def test_nodes_have_a_say_too(node: str, extra: str, reason: str) -> None:
    text = f"apiVersion: v1\nkind: Node\nmetadata: {{name: node-00}}\n{node}\n---\n"
    text += pod("p", f"deviceClaims: {{devices: [{{name: gpu, class: {CLASS}}}]}}", extra=extra)

    decision = decide(world_of(*SETS["A"], text=text))

    assert reason in decision.nodes[0].reason
    assert decision.nodes[0].score == (0 if reason else 100)
