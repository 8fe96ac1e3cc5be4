# SPDX-License-Identifier: Apache-2.0
"""Generation v0: rows S01 to S41, through the command line where the row is about a file."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.prototype.worlds import EXAMPLES, run

from dynamic_memory.allocation.prototype.amounts_v0 import (
    CapacityResult,
    Place,
    UnknownCapacity,
    reduce_capacity,
    reduce_pool,
    reduce_resource,
    take,
)
from dynamic_memory.allocation.prototype.loader import convert, encode
from dynamic_memory.allocation.prototype.types_v0 import (
    Capacity,
    CapacityRequest,
    NodeResources,
    PodCapacityClaim,
    Resource,
    ResourcePool,
)
from dynamic_memory.allocation.prototype.v0 import Evaluator
from dynamic_memory.quantity import Quantity

V0 = EXAMPLES / "v0"
CLAIMS = {
    "C1": "pod-besteffort-1x0",
    "C2": "pod-1x100mx100Mi",
    "C3": "pod-three-containers",
    "C4": "pod-four-containers",
    "C5": "pod-container-small-foozer-1-8",
    "C6": "pod-container-small-foozer-16-32",
    "C7": "pod-small-1x2-exclusive-foozer",
}
MATRIX = {
    "S01": ("tiny-1x1", "YYnnnnn"),
    "S02": ("tiny-1x2", "YYnnnnn"),
    "S03": ("tiny-1x2x1-foozer1000", "YYnnYnn"),
    "S04": ("small-2x8", "YYnnnnn"),
    "S05": ("small-4x32", "YYnnnnn"),
    "S06": ("small-4x32-numa", "YYnnnnn"),
    "S07": ("medium-8x64-numa", "YYYnnnn"),
    "S08": ("medium-8x64x4-foozer1000-numa", "YYYnYnY"),
    "S09": ("large-16x128-numa", "YYYYnnn"),
    "S10": ("large-16x128x8-foozer4000-numa", "YYYYYYY"),
}
GI, MI, KI = 1 << 30, 1 << 20, 1 << 10


@pytest.mark.parametrize(("node", "expected"), MATRIX.values(), ids=MATRIX)
def test_every_claim_on_every_node(node: str, expected: str) -> None:
    for answer, file in zip(expected, CLAIMS.values(), strict=True):
        done = run("-nodes", V0 / f"node-{node}.yaml", "-claim", V0 / f"{file}.yaml", "pod")

        satisfied = answer == "Y"
        assert (
            done.stdout.splitlines()[0]
            == f"{'succeeded in satisfying' if satisfied else 'failed to satisfy'} the claim"
        )
        assert done.exit_code == (0 if satisfied else 2), file


@pytest.mark.parametrize("claim", ["C1", "C5"], ids=["S01", "S01-unsatisfied"])
def test_legacy_exit_is_always_0(claim: str) -> None:
    file = V0 / f"{CLAIMS[claim]}.yaml"

    assert run("-nodes", V0 / "node-tiny-1x1.yaml", "-claim", file, "--legacy-exit", "pod").exit_code == 0


SUMMARY = """\
succeeded in satisfying the claim
-------------------------------
node "node-tiny-1x2x1-foozer1000-0" (100): succeeded
- capacity claim "pod" (100): succeeded
  - resource claim "pod" (100): succeeded
    - pool "primary" (100): best
      - resource "primary" (100): best
    - pool "foozer-1000" (0): no resources in pool with sufficient capacity
      - resource "dev-foo-0" (0): no capacity "pods" present in resource "dev-foo-0"
  - resource claim "foozer" (100): succeeded
    - pool "primary" (0): pool driver "kubelet" mismatch claim driver "example.com/foozer"
    - pool "foozer-1000" (100): best
      - resource "dev-foo-0" (100): best
- capacity claim "container-1" (100): succeeded
  - resource claim "container" (100): succeeded
    - pool "primary" (100): best
      - resource "primary" (100): best
    - pool "foozer-1000" (0): no resources in pool with sufficient capacity
      - resource "dev-foo-0" (0): no capacity "containers" present in resource "dev-foo-0"
"""


def test_summary_in_the_words_of_the_original() -> None:
    file = V0 / "pod-container-small-foozer-1-8.yaml"

    done = run("-nodes", V0 / "node-tiny-1x2x1-foozer1000.yaml", "-claim", file, "pod")

    assert SUMMARY == done.stdout


@pytest.mark.parametrize("claim", ["C1", "C2", "C3", "C4"], ids=lambda claim: f"S11-{claim}")
def test_first_of_equals_in_file_order(claim: str) -> None:
    done = run("-nodes", V0, "-claim", V0 / f"{CLAIMS[claim]}.yaml", "pod")

    assert 'node "node-large-16x128-numa-0" (100): succeeded' in done.stdout.splitlines()


@pytest.mark.parametrize("claim", ["C5", "C6", "C7"], ids=lambda claim: f"S12-{claim}")
def test_first_node_that_has_the_device(claim: str) -> None:
    done = run("-nodes", V0, "-claim", V0 / f"{CLAIMS[claim]}.yaml", "pod")

    assert 'node "node-large-16x128x8-foozer4000-numa-0" (100): succeeded' in done.stdout.splitlines()


@pytest.mark.parametrize("claim", ["C4"], ids=["S13"])
def test_verbose_prints_the_result_document(claim: str) -> None:
    done = run("-nodes", V0 / "node-large-16x128-numa.yaml", "-claim", V0 / f"{CLAIMS[claim]}.yaml", "-v", "pod")

    document = yaml.safe_load(done.stdout.split("-" * 31, 1)[1])
    assert "node-large-16x128-numa-0" == document["nodeName"]
    results = {}
    for entry in document["capacityClaimResults"]:
        part = entry["resourceClaimResults"][0]
        chosen = part["poolResults"][part["best"]]
        results[entry["claimName"]] = chosen["resourceResults"][chosen["best"]]["capacityResults"]
    numa = [[{"type": "numa", "name": f"numa-{number}"}] for number in (0, 1)]
    assert {"capacity": "cpu", "quantity": {"request": "7130m"}, "topologies": numa[0]} in results["container-1"]
    assert results["container-4"][-2:] == [
        {"capacity": "memory", "quantity": {"request": "40Gi"}, "topologies": numa[0]},
        {"capacity": "memory", "quantity": {"request": "8Gi"}, "topologies": numa[1]},
    ]


# --- one capacity


def memory(sizes: str, block: str = "1Mi") -> Resource:
    parts = sizes.split("+")
    body = {
        "name": "r",
        "capacities": [
            {
                "name": "memory",
                "block": {"size": block, "capacity": size},
                "topologies": [{"name": f"numa-{index}", "type": "numa"}] if len(parts) > 1 else [],
            }
            for index, size in enumerate(parts)
        ],
    }
    return convert(body, Resource)


def node_of(*resources: Resource) -> NodeResources:
    return NodeResources(name="n", pools=[ResourcePool(name="p", driver="d", resources=list(resources))])


def asking(*amounts: str | int) -> PodCapacityClaim:
    claims = [
        {
            "name": f"c{index}",
            "claims": [{"name": "r", "capacities": [{"capacity": "memory", "quantity": {"request": amount}}]}],
        }
        for index, amount in enumerate(amounts)
    ]
    return convert({"podClaim": {"name": "pod"}, "containerClaims": claims}, PodCapacityClaim)


def allocated(resource: Resource, *amounts: str | int) -> str:
    """Return what each container gets: amounts by topology, or `unsatisfied`."""
    result = Evaluator(asking(*amounts)).on_node(node_of(resource))
    if not result.score:
        return "unsatisfied"
    found = []
    for claim in result.capacity_claim_results[1:]:
        parts = claim.resource_claim_results[0].pool_results[0].resource_results[0].capacity_results
        found.append(
            " + ".join(
                " ".join([part["quantity"]["request"], *(t["name"] for t in part.get("topologies", ()))])
                for part in encode(parts)
            )
        )
    return "; ".join(found)


CASES = [
    ("S14", "32Gi", "1Mi", ["32Gi"], "32Gi"),
    ("S15", "1Gi", "1Mi", [1073741825], "unsatisfied"),
    ("S16", "64Gi", "256Mi", ["300Mi"], "512Mi"),
    ("S17", "512Mi", "256Mi", ["129Mi"], "256Mi"),
    ("S18", "32Gi+32Gi", "1Mi", ["40Gi"], "32Gi numa-0 + 8Gi numa-1"),
    ("S19-all", "32Gi+32Gi", "1Mi", ["64Gi"], "32Gi numa-0 + 32Gi numa-1"),
    ("S19-more", "32Gi+32Gi", "1Mi", ["65Gi"], "unsatisfied"),
    ("S20-fits", "4Gi", "1Mi", ["2Gi", "2Gi"], "2Gi; 2Gi"),
    ("S20-not", "4Gi", "1Mi", ["2Gi", "3Gi"], "unsatisfied"),
    ("S21-fits", "2560Mi", "1Gi", ["2Gi"], "2Gi"),
    ("S21-not", "2560Mi", "1Gi", ["2560Mi"], "unsatisfied"),
    ("S22", "1Gi", "1Mi", ["0"], "0"),
    ("S23", "1Mi+1Mi", "1Mi", ["2Mi"], "1Mi numa-0 + 1Mi numa-1"),
    ("S24-up", "1Gi", "1Mi", ["100500Ki"], "99Mi"),
    ("S24-down", "1000Ki", "1Mi", ["900Ki"], "unsatisfied"),
]


@pytest.mark.parametrize(
    ("sizes", "block", "amounts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_amounts_of_one_capacity(sizes: str, block: str, amounts: list[str | int], expected: str) -> None:
    assert expected == allocated(memory(sizes, block), *amounts)


@given(
    asked=st.integers(0, 10**13),
    capacity=st.integers(0, 10**13),
    block=st.sampled_from([1, 1000, 1024, 10**6, MI, 256 * MI, GI]),
)
def test_S24_allocated_is_the_next_block_and_never_more_than_there_is(asked: int, capacity: int, block: int) -> None:
    entry = convert({"name": "m", "block": {"size": str(block), "capacity": str(capacity)}}, Capacity)
    request = convert({"capacity": "m", "quantity": {"request": str(asked)}}, CapacityRequest)

    found = take(request, "r", [entry])

    wanted = -(-asked // block) * block
    if wanted > capacity // block * block:
        assert 'insufficient capacity "m" present in resource "r"' == found
    else:
        assert not isinstance(found, str)
        assert [wanted] == [part.quantity.request.value() for part in found if part.quantity is not None]


# --- reducing


def taken(capacity: str, amount: str | int, place: str = "") -> CapacityResult:
    kind = {"counter": {"request": amount}} if isinstance(amount, int) else {"quantity": {"request": amount}}
    if amount in {"ReadOnlyShared", "ReadWriteShared"}:
        kind = {"accessMode": {"request": amount}}
    places = [Place(type="numa", name=place)] if place else []
    return convert({"capacity": capacity, **kind, "topologies": encode(places)}, CapacityResult)


REDUCED = [
    ("S25", {"counter": {"capacity": 10}}, 4, {"counter": {"capacity": 6}}),
    ("S26", {"quantity": {"capacity": "10M"}}, "1M", {"quantity": {"capacity": "9M"}}),
    ("S27", {"block": {"size": "1M", "capacity": "10M"}}, "1M", {"block": {"size": "1M", "capacity": "9M"}}),
    ("S28", {"accessMode": {"readOnlyShared": 3}}, "ReadOnlyShared", {"accessMode": {"readOnlyShared": 4}}),
    ("S29", {"accessMode": {"readWriteShared": 3}}, "ReadWriteShared", {"accessMode": {"readWriteShared": 4}}),
]


@pytest.mark.parametrize(
    ("before", "amount", "after"), [case[1:] for case in REDUCED], ids=[case[0] for case in REDUCED]
)
def test_reducing_one_capacity(before: dict, amount: str | int, after: dict) -> None:
    capacity = convert({"name": "c", **before}, Capacity)

    assert {"name": "c", **after} == encode(reduce_capacity(capacity, taken("c", amount)))


@pytest.mark.parametrize(
    ("part", "key"),
    [
        (taken("invalid-counter-test", 1), "invalid-counter-test"),
        (taken("counter-test", 1, "numa-0"), "counter-test;numa=numa-0"),
    ],
    ids=["S30", "S31"],
)
def test_reducing_what_is_not_there(part: CapacityResult, key: str) -> None:
    resource = convert({"name": "r", "capacities": [{"name": "counter-test", "counter": {"capacity": 10}}]}, Resource)

    with pytest.raises(UnknownCapacity, match=f'allocated capacity "{key}" not found in resource capacities'):
        reduce_resource(resource, [part])


def counters(*names: str) -> Resource:
    entries = []
    for name in names:
        plain, _, place = name.partition("@")
        topologies = [{"type": "numa", "name": place}] if place else []
        entries.append({"name": plain, "counter": {"capacity": 10}, "topologies": topologies})
    return convert({"name": "r", "capacities": entries}, Resource)


RESOURCES = [
    ("S33-one", counters("a", "b"), [taken("a", 4)], [6, 10]),
    ("S33-two", counters("a", "b"), [taken("a", 4), taken("b", 1)], [6, 9]),
    ("S34", counters("a@numa-0"), [taken("a", 4, "numa-0")], [6]),
    ("S35", counters("a@numa-0", "a@numa-1"), [taken("a", 4, "numa-1")], [10, 6]),
]


@pytest.mark.parametrize(
    ("resource", "parts", "left"), [case[1:] for case in RESOURCES], ids=[case[0] for case in RESOURCES]
)
def test_reducing_counters_of_a_resource(resource: Resource, parts: list[CapacityResult], left: list[int]) -> None:
    reduced = reduce_resource(resource, parts)

    assert left == [entry.counter.capacity for entry in reduced.capacities if entry.counter is not None]
    assert all(entry.counter == counters("x").capacities[0].counter for entry in resource.capacities), "input changed"


@pytest.mark.parametrize(
    ("before", "amount", "after"), [case[1:] for case in REDUCED[:3]], ids=["S32-6", "S32-9M", "S32-9M-block"]
)
def test_reducing_a_resource_of_one_capacity(before: dict, amount: str | int, after: dict) -> None:
    resource = convert({"name": "r", "capacities": [{"name": "c", **before}]}, Resource)

    assert [{"name": "c", **after}] == encode(reduce_resource(resource, [taken("c", amount)]))["capacities"]


@pytest.mark.parametrize("left", [96], ids=["S36"])
def test_reducing_a_pool(left: int) -> None:
    body = {
        "name": "p",
        "resources": [{"name": "primary", "capacities": [{"name": "pods", "counter": {"capacity": 100}}]}],
    }
    pool = convert(body, ResourcePool)

    reduced = reduce_pool(pool, "primary", [taken("pods", 4)])

    assert [left] == [entry.counter.capacity for entry in reduced.resources[0].capacities if entry.counter is not None]


# --- shapes of the original's generator


def shape(number: int, count: int = 2) -> list[NodeResources]:
    """Nodes of a shape: primary pool of two NUMA nodes, and devices without access modes."""
    files = {
        0: "node-large-16x128-numa",
        1: "node-medium-8x64x4-foozer1000-numa",
        2: "node-large-16x128x8-foozer4000-numa",
    }
    [body] = yaml.safe_load((V0 / f"{files[number]}.yaml").read_text())
    if number == 2:
        [medium] = yaml.safe_load((V0 / "node-medium-8x64-numa.yaml").read_text())
        body["pools"][0] = medium["pools"][0]
    for entry in body["pools"][1:]:
        for resource in entry["resources"]:
            resource["capacities"] = [item for item in resource["capacities"] if item["name"] != "access"]
    return [convert({**body, "name": f"shape-{number}-{index:03}"}, NodeResources) for index in range(count)]


def pod_asking(*containers: tuple[str, str], foozer: dict[str, str | int] | None = None) -> PodCapacityClaim:
    claims = [{"name": "pod", "capacities": [{"capacity": "pods", "counter": {"request": 1}}]}]
    if foozer:
        requests = [
            {
                "capacity": f"example.com/foozer/{name}",
                **({"counter": {"request": amount}} if isinstance(amount, int) else {"quantity": {"request": amount}}),
            }
            for name, amount in foozer.items()
        ]
        claims.append({"name": "foozer", "driver": "example.com/foozer", "capacities": requests})
    parts = []
    for index, (cpu, size) in enumerate(containers):
        requests = [{"capacity": "containers", "counter": {"request": 1}}]
        if cpu:
            requests += [
                {"capacity": "cpu", "quantity": {"request": cpu}},
                {"capacity": "memory", "quantity": {"request": size}},
            ]
        parts.append({"name": f"c{index}", "claims": [{"name": "container", "capacities": requests}]})
    return convert({"podClaim": {"name": "pod", "claims": claims}, "containerClaims": parts}, PodCapacityClaim)


SHAPES = [
    ("S37-empty", 0, pod_asking(("", "")), True),
    ("S37-one", 0, pod_asking(("7127m", "8Gi")), True),
    ("S37-three", 0, pod_asking(("7127m", "8Gi"), ("200m", "8Gi"), ("200m", "8Gi")), True),
    ("S38-cpu", 0, pod_asking(("64", "8Gi")), False),
    ("S38-memory", 0, pod_asking(("4", "256Gi")), False),
    ("S38-sum", 0, pod_asking(("7127m", "8Gi"), ("8", "8Gi"), ("4", "8Gi")), False),
    ("S39", 0, pod_asking(("1", "4Gi"), foozer={"cores": "1m", "memory": "2Gi", "interfaces": 1}), False),
    ("S40-small", 1, pod_asking(("1", "4Gi"), foozer={"cores": "1", "memory": "2Gi"}), True),
    ("S40-big", 1, pod_asking(("1", "4Gi"), foozer={"cores": "16", "memory": "32Gi"}), False),
    ("S41-small", 2, pod_asking(("1", "4Gi"), foozer={"cores": "1", "memory": "2Gi"}), True),
    ("S41-big", 2, pod_asking(("1", "4Gi"), foozer={"cores": "16", "memory": "32Gi"}), True),
]


@pytest.mark.parametrize(
    ("number", "claim", "expected"), [case[1:] for case in SHAPES], ids=[case[0] for case in SHAPES]
)
def test_generated_shapes(number: int, claim: PodCapacityClaim, expected: bool) -> None:
    _, best = Evaluator(claim).evaluate(shape(number))

    assert expected is (best is not None)


# --- what the original left to do

NUMA = {"type": "numa"}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("require", "unsatisfied"), ("prefer", "32Gi numa-0 + 8Gi numa-1")],
)
def test_topology_policy_of_one_claim(policy: str, expected: str) -> None:
    claim = encode(asking("40Gi"))
    claim["containerClaims"][0]["claims"][0]["topologies"] = [{**NUMA, "policy": policy}]

    result = Evaluator(convert(claim, PodCapacityClaim)).on_node(node_of(memory("32Gi+32Gi")))

    assert bool(result.score) is (expected != "unsatisfied")


def test_topology_policy_of_the_pod_keeps_its_containers_together() -> None:
    claim = {**encode(asking("20Gi", "20Gi")), "topologies": [{**NUMA, "policy": "require"}]}

    together = Evaluator(convert(claim, PodCapacityClaim))

    assert not together.on_node(node_of(memory("32Gi+32Gi"))).score
    result = together.on_node(node_of(memory("32Gi+48Gi")))
    places = [
        place.name
        for container in result.capacity_claim_results[1:]
        for part in container.resource_claim_results[0].pool_results[0].resource_results[0].capacity_results
        for place in part.topologies
    ]
    assert ["numa-1", "numa-1"] == places


def test_parts_that_are_no_group_are_not_split() -> None:
    body = encode(memory("32Gi+48Gi"))
    for entry in body["capacities"]:
        entry["topologies"][0]["groupInResource"] = False
    resource = convert(body, Resource)

    assert "40Gi numa-1" == allocated(resource, "40Gi")
    assert "unsatisfied" == allocated(resource, "50Gi")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("device.model == 'x'", ""),
        ("device.model == 'y'", "does not meet constraints"),
        ("device.missing == 'y'", "error evaluating against constraints: no such key: missing"),
    ],
)
def test_constraints_look_at_pool_and_resource(expression: str, reason: str) -> None:
    body = {**encode(memory("1Gi")), "attributes": [{"name": "model", "stringValue": "x"}]}
    claim = encode(asking("1Gi"))
    claim["containerClaims"][0]["claims"][0]["constraints"] = expression

    result = Evaluator(convert(claim, PodCapacityClaim)).on_node(node_of(convert(body, Resource)))

    resource = result.capacity_claim_results[1].resource_claim_results[0].pool_results[0].resource_results[0]
    assert reason == resource.failure_reason


MODES = ("ReadOnlyShared", "ReadWriteShared", "WriteExclusive", "ReadWriteExclusive")
HELD = ("readOnlyShared", "readWriteShared", "writeExclusive", "readWriteExclusive")
REFUSED_BY = {0: {3}, 1: {2, 3}, 2: {1, 2, 3}, 3: {0, 1, 2, 3}}


@pytest.mark.parametrize("asked", range(4), ids=MODES)
@pytest.mark.parametrize("held", range(4), ids=HELD)
def test_access_modes_that_exclude_each_other(asked: int, held: int) -> None:
    every = {"allowReadOnlyShared": True, "allowReadWriteShared": True, "allowWriteExclusive": True}
    entry = convert({"name": "a", "accessMode": {**every, HELD[held]: 1}}, Capacity)
    request = convert({"capacity": "a", "accessMode": {"request": MODES[asked]}}, CapacityRequest)

    assert isinstance(take(request, "r", [entry]), str) is (held in REFUSED_BY[asked])


def test_access_mode_that_is_not_allowed_becomes_the_next_stronger() -> None:
    entry = convert({"name": "a", "accessMode": {"allowWriteExclusive": True}}, Capacity)
    request = convert({"capacity": "a", "accessMode": {"request": "ReadOnlyShared"}}, CapacityRequest)

    [found] = take(request, "r", [entry])

    assert found.access_mode.request == "WriteExclusive"
    assert 'invalid request access mode "Foo"' == take(
        convert({"capacity": "a", "accessMode": {"request": "Foo"}}, CapacityRequest), "r", [entry]
    )


def test_amounts_print_in_the_family_of_the_request() -> None:
    assert "1G" == allocated(memory("2Gi", "1M"), "999999k").replace("1000M", "1G")
    assert str(Quantity.parse("1000M")) == "1G"
