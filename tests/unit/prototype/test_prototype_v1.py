# SPDX-License-Identifier: Apache-2.0
"""Generation v1: rows S42 to S59."""

from __future__ import annotations

import pytest
from tests.unit.prototype.worlds import VERSION, decide, example, pod, world_of

from dynamic_memory.allocation.prototype.expressions import Expressions
from dynamic_memory.allocation.prototype.inventory import Kind
from dynamic_memory.allocation.prototype.outcomes import Decision
from dynamic_memory.allocation.prototype.types import Value
from dynamic_memory.quantity import Quantity


def pools(shape: str, count: int) -> str:
    """Return the pools of so many nodes of a shape."""
    layout = {
        "zero": [("foozer", "foozer-1000", 1, 2)],
        "one": [("foozer", "foozer-1000", 2, 2)],
        "two": [("foozer", "foozer-4000", 4, 4)],
        "three": [("barzer", "barzer-1000", 4, 4)],
        "foozer-barzer": [("foozer", "foozer-1000", 4, 2), ("barzer", "barzer-1000", 4, 2)],
    }[shape]
    text = ""
    for number in range(count):
        node = f"shape-{shape}-{number:02}"
        for base, model, numa_nodes, devices in layout:
            for numa in range(numa_nodes):
                text += (
                    f"apiVersion: {VERSION}\nkind: DevicePool\nmetadata: {{name: {node}-{base}-{numa:02}}}\n"
                    f"spec: {{nodeName: {node}, driver: example.com-{base}, count: {devices}, attributes: ["
                    f"{{name: vendor, stringValue: example.com}}, {{name: model, stringValue: {model}}}, "
                    f"{{name: numa, stringValue: '{numa}'}}]}}\n---\n"
                )
    return text


def counting(name: str, driver: str, extra: str = "") -> tuple[str, str]:
    """Return a class of a driver and the entry of a pod that claims it."""
    text = (
        f"apiVersion: {VERSION}\nkind: DeviceClass\nmetadata: {{name: class-{name}}}\n"
        f"spec: {{deviceType: gpu, driver: {driver}}}\n---\n"
    )
    return text, f"{{name: {name}, claim: {{deviceClass: class-{name}{extra}}}}}"


def placed(shapes: dict[str, int], *claims: tuple[str, str]) -> Decision:
    entries = ", ".join(entry for _, entry in claims)
    text = "".join(pools(shape, count) for shape, count in shapes.items()) + "".join(body for body, _ in claims)
    text += pod("p", f"deviceClaims: [{entries}]")
    return decide(world_of(text=text, classes=False), verbose=True)


def counts(decision: Decision) -> list[list[tuple[str, int]]]:
    return [
        [(entry["devicePoolName"], entry["deviceCount"]) for entry in claim.status["allocations"]]
        for claim in decision.claims
    ]


FOOZER, BARZER = "example.com-foozer", "example.com-barzer"


@pytest.mark.parametrize("expected", ["shape-zero-00-foozer-00"], ids=["S42"])
def test_driver_alone(expected: str) -> None:
    decision = placed({"zero": 2, "three": 2}, counting("a", FOOZER))

    assert [[(expected, 1)]] == counts(decision)
    scores = {node.node: node.score for node in decision.nodes}
    assert {"shape-zero-00": 100, "shape-zero-01": 100, "shape-three-00": 0, "shape-three-01": 0} == scores
    [three] = [node.counting for node in decision.nodes if node.node == "shape-three-00"]
    assert three is not None
    ignored = three["deviceClaimResults"][0]["ignoredPools"]
    assert ["claim and pool driver do not match"] * 4 == [entry["failureReason"] for entry in ignored]


@pytest.mark.parametrize(("model", "fits"), [("foozer-1000", True), ("foozer-8000", False)], ids=["S43", "S44"])
def test_constraints_of_the_claim(model: str, fits: bool) -> None:
    decision = placed({"zero": 2}, counting("a", FOOZER, f", constraints: \"device.model == '{model}'\""))

    assert fits is (decision.node == "shape-zero-00")
    if not fits:
        document = decision.nodes[0].counting
        assert document is not None
        [ignored] = document["deviceClaimResults"][0]["ignoredPools"]
        assert ignored["failureReason"] == "constraints not met"


@pytest.mark.parametrize("fewest", [2], ids=["S45"])
def test_two_devices_of_one_pool(fewest: int) -> None:
    decision = placed({"zero": 2}, counting("a", FOOZER, f", minDeviceCount: {fewest}"))

    assert [[("shape-zero-00-foozer-00", 2)]] == counts(decision)


@pytest.mark.parametrize("fewest", [4], ids=["S46"])
def test_devices_of_several_pools(fewest: int) -> None:
    decision = placed({"one": 2}, counting("a", FOOZER, f", minDeviceCount: {fewest}"))

    assert [[("shape-one-00-foozer-00", 2), ("shape-one-00-foozer-01", 2)]] == counts(decision)
    document = decision.nodes[0].counting
    assert document is not None
    [result] = document["deviceClaimResults"]
    reasons = [entry["failureReason"] for entry in result["poolSetResults"]]
    assert ["unable to satisfy 2 of 4 device requests"] * 2 + [""] == reasons
    assert result["best"] == 2


@pytest.mark.parametrize("shapes", [{"zero": 2, "three": 2}], ids=["S47"])
def test_no_node_has_both(shapes: dict[str, int]) -> None:
    decision = placed(
        shapes, counting("a", FOOZER, ", minDeviceCount: 2"), counting("b", BARZER, ", minDeviceCount: 2")
    )

    assert decision.node is None
    failed = {node.node: node.failed for node in decision.nodes}
    assert failed["shape-zero-00"] == ("p-b",)
    assert "p-a" in failed["shape-three-00"]


@pytest.mark.parametrize("shapes", [{"foozer-barzer": 2}], ids=["S48"])
def test_one_node_has_both(shapes: dict[str, int]) -> None:
    decision = placed(
        shapes, counting("a", FOOZER, ", minDeviceCount: 2"), counting("b", BARZER, ", minDeviceCount: 2")
    )

    base = "shape-foozer-barzer-00"
    assert [[(f"{base}-foozer-00", 2)], [(f"{base}-barzer-00", 2)]] == counts(decision)


@pytest.mark.parametrize("attribute", ["numa"], ids=["S49"])
def test_pools_have_to_agree(attribute: str) -> None:
    decision = placed({"one": 2}, counting("a", FOOZER, f", minDeviceCount: 4, matchAttributes: [{attribute}]"))

    assert decision.node is None
    document = decision.nodes[0].counting
    assert document is not None
    last = document["deviceClaimResults"][0]["poolSetResults"][-1]["poolResults"]
    assert ["", "claim MatchAttributes constraint failed"] == [entry["failureReason"] for entry in last]


@pytest.mark.parametrize("driver", [FOOZER], ids=["S50"])
def test_what_one_claim_takes_is_gone_for_the_next(driver: str) -> None:
    claims = [counting(name, driver, ", minDeviceCount: 2") for name in ("a", "b")]

    decision = placed({"zero": 1}, *claims)

    assert decision.node is None
    assert ("p-b",) == decision.nodes[0].failed


@pytest.mark.parametrize("runs", [100], ids=["S51"])
def test_equal_scores_give_the_lowest_name_every_time(runs: int) -> None:
    answers = {placed({"zero": 5}, counting("a", FOOZER)).node for _ in range(runs)}

    assert {"shape-zero-00"} == answers


@pytest.mark.parametrize("shapes", [{"zero": 1, "three": 1}], ids=["S52"])
def test_summary_of_a_node(shapes: dict[str, int]) -> None:
    decision = placed(shapes, counting("a", FOOZER), counting("b", FOOZER))

    assert [
        "shape-three-00: could not satisfy these claims: p-a, p-b",
        "shape-zero-00: satisfied all claims with score 100",
    ] == [node.summary for node in decision.nodes]


# --- constraints

BOTH = "device.vendor == 'example.com' && device.model == 'foozer-1000'"
CONSTRAINTS = [
    ("S53", None, "example.com", True),
    ("S54", "", "example.com", True),
    ("S55", "device.vendor == 'example.com'", "example.com", True),
    ("S56", "device.vendor == 'example.com'", "example.org", False),
    ("S57", BOTH, "example.com", True),
    ("S58", BOTH, "example.org", False),
]


def answer(expression: str | None, **attributes: Value) -> bool | str:
    return Expressions().matches(expression, Kind(0, attributes), "class x")


@pytest.mark.parametrize(
    ("expression", "vendor", "expected"), [c[1:] for c in CONSTRAINTS], ids=[c[0] for c in CONSTRAINTS]
)
def test_constraints(expression: str | None, vendor: str, expected: bool) -> None:
    assert expected is answer(expression, vendor=("string", vendor), model=("string", "foozer-1000"))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("device.memory >= '10Gi'", True),
        ("device.memory >= '11Gi'", False),
        ("device.memory >= quantity('10Gi')", True),
        ("device.memory == '10Gi'", True),
        ("device.memory == '10240Mi'", True),
        ("device.memory != '10Gi'", False),
        ("'10Gi' == device['memory']", True),
        ("device.memory in ['1Gi', '10Gi']", True),
    ],
    ids=lambda value: f"S59-{value}",
)
def test_quantities_compare_as_amounts(expression: str, expected: bool) -> None:
    assert expected is answer(expression, memory=("quantity", Quantity.parse("10Gi")))


@pytest.mark.parametrize("text", ["much", ""], ids=["S59-much", "S59-empty"])
def test_what_is_no_quantity_is_an_error_and_not_false(text: str) -> None:
    told = answer(f"device.memory == '{text}'", memory=("quantity", Quantity.parse("10Gi")))

    assert isinstance(told, str)
    assert "quantit" in told


def test_missing_attribute_is_an_error_of_that_device_alone() -> None:
    assert answer("device.other == 'x'", vendor=("string", "v")) == "no such key: other"
    assert answer("device['mig-profile'] == 'a'", **{"mig-profile": ("string", "a")}) is True


# --- files of v1


@pytest.mark.parametrize(
    "file", ["v1/pod-embedded-foozer-single", "v1/pod-ref-foozer-single", "v1/pod-template-foozer-single"]
)
def test_example_pods_get_one_device(file: str) -> None:
    world = world_of(example("v1/classes"), example("drivers"), example(file), text=pools("zero", 1), classes=False)

    decision = decide(world)

    assert [[("shape-zero-00-foozer-00", 1)]] == counts(decision)
    configs = decision.claims[0].status["claimConfigs"]
    assert ([] if "embedded" in file else ["superfast-mode"]) == [config["metadata"]["name"] for config in configs]


def test_class_without_driver_takes_the_drivers_of_its_device_type() -> None:
    text = pools("three", 1) + (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
        "spec: {deviceClaims: [{name: a, claim: {deviceClass: example.com-gpu-single}}], containers: [{name: c}]}\n"
    )

    decision = decide(world_of(example("v1/classes"), example("drivers"), text=text, classes=False))

    assert [[("shape-three-00-barzer-00", 1)]] == counts(decision)


def test_claims_of_a_set_have_to_agree() -> None:
    body, _ = counting("a", FOOZER)
    text = pools("one", 1) + body
    text += (
        f"apiVersion: {VERSION}\nkind: DeviceSetClaim\nmetadata: {{name: s}}\nspec: {{matchAttributes: [numa], "
        "claimSpec: [{deviceClass: class-a}, {deviceClass: class-a}]}\n---\n"
        + pod("p", "deviceClaims: [{name: x, claimName: s}]")
    )

    assert [[("shape-one-00-foozer-00", 1), ("shape-one-00-foozer-00", 1)]] == counts(
        decide(world_of(text=text, classes=False))
    )
    both = text.replace("{deviceClass: class-a}, {", "{deviceClass: class-a, minDeviceCount: 2}, {")
    assert decide(world_of(text=both, classes=False)).node is None


def test_privileged_claim_takes_nothing_and_needs_permission() -> None:
    text = pools("zero", 1) + (
        f"apiVersion: {VERSION}\nkind: DevicePrivilegedClaim\n"
        f"metadata: {{name: admin}}\nspec: {{driver: {FOOZER}}}\n---\n"
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
        "spec: {deviceClaims: [{name: x, claimName: admin}], containers: [{name: c}]}\n---\n"
    )
    label = "resource.kubernetes.io/admin-access"
    allowed = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: default, labels: {{{label}: 'true'}}}}\n"

    with pytest.raises(Exception, match="admin-access"):
        decide(world_of(text=text, classes=False))
    assert [[("shape-zero-00-foozer-00", 2)]] == counts(decide(world_of(text=text + allowed, classes=False)))
