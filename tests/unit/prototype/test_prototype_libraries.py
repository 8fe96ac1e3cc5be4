# SPDX-License-Identifier: Apache-2.0
"""Rows S92 to S95: versions in expressions, ranges of integers, sample capacity, lenient and strict loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.support import machine
from tests.unit.prototype.worlds import EXAMPLES, SETS, decide, devices, example, world_of

from dynamic_memory.allocation.prototype.errors import DocumentError
from dynamic_memory.allocation.prototype.loader import Loader
from dynamic_memory.allocation.prototype.memory import MemoryShape, generate_memory
from dynamic_memory.allocation.prototype.ranges import IntRanges
from dynamic_memory.allocation.prototype.shapes import SHAPES, generate
from dynamic_memory.api import names, resource
from dynamic_memory.cel.environments.prototype import prototype_environment
from dynamic_memory.cel.errors import CompileError, EvaluationError
from dynamic_memory.cli.gen import gen
from dynamic_memory.cli.gen_fabric import SampleFabric
from dynamic_memory.driver.local_classes import device_classes
from dynamic_memory.driver.local_devices import device_bodies, local_devices
from dynamic_memory.host.topology import TopologyReader

# --- S92

VERSIONS: list[tuple[str, Any]] = [
    ('string(semver("1.2.3").major()) + "." + string(semver("1.2.3").minor())', "1.2"),
    ('isSemver("1.2.3-beta.1+build.1")', True),
    ('isSemver("v1.0")', False),
    ('semver("1.2.3") == semver("1.2.3")', True),
    ('semver("1.2.3") == semver("1.0.0")', False),
    ('semver("1.0.0").isLessThan(semver("1.2.3"))', True),
    ('semver("1.0.0").isLessThan(semver("1.0.0"))', False),
    ('semver("1.2.3").isGreaterThan(semver("1.0.0"))', True),
    ('semver("1.0.0").isGreaterThan(semver("1.0.0"))', False),
    ('semver("1.2.3").compareTo(semver("1.2.3"))', 0),
    ('semver("1.0.0").compareTo(semver("1.2.3"))', -1),
    ('semver("1.2.3").compareTo(semver("1.0.0"))', 1),
    ('semver("1.2.3").major()', 1),
    ('semver("1.2.3").minor()', 2),
    ('semver("1.2.3").patch()', 3),
]


@pytest.mark.parametrize(("expression", "expected"), VERSIONS, ids=lambda value: f"S92-{value}")
def test_versions_in_expressions(expression: str, expected: Any) -> None:
    assert expected == prototype_environment().compile(expression).evaluate({"device": {}})


@pytest.mark.parametrize("text", ["v1.0"], ids=["S92-error"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises((EvaluationError, CompileError), match=r"No Major\.Minor\.Patch elements found"):
        prototype_environment().compile(f'semver("{text}")').evaluate({"device": {}})


@pytest.mark.parametrize("expression", ["isSemver([1, 2, 3])"], ids=["S92-overload"])
def test_list_is_no_version(expression: str) -> None:
    with pytest.raises(CompileError, match="no matching overload"):
        prototype_environment().compile(expression)


# --- S93

DIFFERENCES = [
    ([(0, 0)], [(0, 0)], ""),
    ([(0, 100)], [(0, 100)], ""),
    ([(25, 75)], [(0, 100)], ""),
    ([(0, 100)], [(25, 75)], "0-24,76-100"),
    ([(0, 100)], [(10, 20), (30, 40)], "0-9,21-29,41-100"),
    ([(50, 60)], [(0, 10)], "50-60"),
]
UNIONS = [
    ([(0, 0)], [(0, 0)], "0"),
    ([(0, 24), (76, 100)], [(25, 75)], "0-100"),
    ([(0, 24), (76, 100)], [(20, 80)], "0-100"),
    ([(76, 100)], [(50, 80)], "50-100"),
]
Segments = list[tuple[int, int]]


@pytest.mark.parametrize(("one", "other", "expected"), DIFFERENCES, ids=lambda value: f"S93-{value}")
def test_difference_of_ranges(one: Segments, other: Segments, expected: str) -> None:
    assert expected == str(IntRanges(one) - IntRanges(other))


@pytest.mark.parametrize(("one", "other", "expected"), UNIONS, ids=lambda value: f"S93-{value}")
def test_union_of_ranges(one: Segments, other: Segments, expected: str) -> None:
    assert expected == str(IntRanges(one) | IntRanges(other))


SEGMENTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5)


@given(one=SEGMENTS, other=SEGMENTS)
def test_S93_ranges_are_sets(one: Segments, other: Segments) -> None:
    a, b = IntRanges(one), IntRanges(other)

    assert set(a) - set(b) == set(a - b)
    assert set(a) | set(b) == set(a | b)
    assert len(set(a - b)) == len(a - b)
    assert (a | b) - b == a - b


# --- S94

COUNTS = {"tiny": 2, "small": 4, "medium": 8, "large": 16}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"S94-{shape}")
def test_generated_pools_can_be_loaded(shape: str) -> None:
    done = CliRunner().invoke(gen, [shape])

    assert done.exit_code == 0
    documents = list(yaml.safe_load_all(done.stdout))
    assert generate(shape) == documents
    loader = Loader(strict=True)
    loader.read(done.stdout, shape)
    pools = list(loader.world.inventory.pools.values())
    assert 2 == len(pools) == len({pool.node for pool in pools})
    size = shape.rpartition("-")[2]
    assert [COUNTS.get(size, 26)] * 2 == [len(pool.devices) for pool in pools]
    assert all(pool.node in pool.name for pool in pools)
    if shape == "dgxa100":
        assert ["nvidia-00", "nvidia-01"] == [pool.node for pool in pools]
        return
    assert [f"{shape}-00", f"{shape}-01"] == [pool.node for pool in pools]
    numa = [device.kind.attributes["numa"] for device in pools[0].devices]
    nodes = {"tiny": 1, "small": 1, "medium": 2, "large": 4}[size]
    assert sorted(set(numa)) == [("string", str(number)) for number in range(nodes)]
    assert [f"dev-{number:02}" for number in range(COUNTS[size])] == [device.name for device in pools[0].devices]


def test_S94_generated_pools_are_those_of_set_D() -> None:
    shape = Loader()
    for body in generate("dgxa100"):
        shape.read(json.dumps(body), "gen")

    def contents(inventory: Any) -> list[Any]:
        return [
            (
                str(device),
                device.kind.attributes,
                device.shape.consumes,
                {name: part.capacity for name, part in device.shape.provides.items()},
            )
            for device in inventory.all_devices()
        ]

    assert contents(shape.world.inventory) == contents(world_of(*SETS["D"]).inventory)


def test_S94_unknown_shape_names_the_known_ones() -> None:
    done = CliRunner().invoke(gen, ["nope"])

    assert done.exit_code == 1
    assert all(shape in done.stderr for shape in SHAPES)
    assert 9 == len(SHAPES)


def test_generated_memory_is_what_the_driver_publishes() -> None:
    shape = MemoryShape(
        nodes=3, numa=2, size=64 << 30, huge_2m=1 << 30, fabric=1 << 40, window=512 << 30, nodes_per_domain=2
    )

    bodies = list(generate_memory(shape, SampleFabric(), classes=True))

    loader = Loader(strict=True)
    for body in bodies:
        loader.read(json.dumps(body), "gen")
    slices = loader.world.slices
    assert 5 == len(loader.world.stable_classes)
    assert {"fabric/domain-0", "fabric/domain-1"} == {
        p.spec.pool.name for p in slices.values() if p.spec.pool.name.startswith("fabric")
    }
    local = slices["node-00-mem-0"].spec
    assert ["numa0-4ki", "numa0-2mi", "numa1-4ki", "numa1-2mi"] == [device.name for device in local.devices]
    assert all(isinstance(entry, resource.ResourceSlice) for entry in slices.values())


def test_generated_memory_of_a_fabric_is_what_controller_and_driver_publish() -> None:
    done = CliRunner().invoke(
        gen,
        ["memory", "--nodes", "1", "--fabric", "1Gi", "--window", "512Mi", "--extents", "8", "-o", "json"],
    )
    assert done.exit_code == 0, done.output
    pool, _, window = (json.loads(line)["spec"]["devices"] for line in done.stdout.splitlines())
    unit = str(64 << 20)
    policy = {"default": unit, "validRange": {"min": unit, "step": unit}}
    assert pool == [
        {
            "name": "memory-0",
            "allowMultipleAllocations": True,
            "bindsToNode": True,
            "bindingConditions": ["dynamicmemory.dev/Attached"],
            "bindingFailureConditions": ["dynamicmemory.dev/AttachFailed"],
            "attributes": {
                "tier": {"string": "cxl"},
                "kind": {"string": "fabric"},
                "fabricDomain": {"string": "domain-0"},
                "simulated": {"bool": True},
            },
            "capacity": {"size": {"value": str(1 << 30), "requestPolicy": policy}},
        }
    ]
    assert window == [
        {
            "name": "port0",
            "allowMultipleAllocations": True,
            "attributes": {
                "kind": {"string": "window"},
                "fabricDomain": {"string": "domain-0"},
                "simulated": {"bool": True},
            },
            "capacity": {
                "size": {"value": str(512 << 20), "requestPolicy": policy},
                "extents": {"value": "8", "requestPolicy": {"default": "1", "validValues": ["1"]}},
            },
        }
    ]


@pytest.mark.parametrize("size", [4 << 30, 4 << 10, 64 << 10])
def test_generated_memory_of_a_node_is_what_its_driver_publishes(tmp_path: Path, size: int) -> None:
    """Pool, devices and classes, from a machine of that shape."""
    shape = MemoryShape(nodes=1, numa=2, size=size, huge_2m=64 << 20, huge_1g=1 << 30, unit=4096)
    pools = {2 << 20: 32, 1 << 30: 1}
    nodes = [machine.Node(n, size + (64 << 20) + (1 << 30), f"{4 * n}-{4 * n + 3}", pools, tier=None) for n in (0, 1)]
    topology = TopologyReader(machine.build(tmp_path, nodes)).read()
    devices = local_devices(topology, {}).values()
    published = device_bodies(devices, {}, base_page=4096, since={}, held=lambda _device: True)

    *classes, made = generate_memory(shape, classes=True)

    assert (names.memory_pool("node-00"), published) == (made["spec"]["pool"]["name"], made["spec"]["devices"])
    assert device_classes(topology) == classes[:3]


def test_generated_memory_is_made_piece_by_piece() -> None:
    """A million nodes cost nothing until they are asked for."""
    stream = generate_memory(MemoryShape(nodes=1_000_000))

    assert "node-000000-mem-0" == next(stream)["metadata"]["name"]


@pytest.mark.parametrize("arguments", [["--nodes", "0"], ["--nodes", "1", "--size", "1000"], ["--nodes", "x"], []])
def test_impossible_memory_is_refused(arguments: list[str]) -> None:
    done = CliRunner().invoke(gen, ["memory", *arguments])

    assert done.exit_code == 1
    assert "Traceback" not in done.output


def test_pod_gets_generated_memory() -> None:
    text = CliRunner().invoke(gen, ["memory", "--nodes", "2", "--numa", "2", "--size", "4Gi", "--classes"]).stdout
    text += """---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: c}
spec:
  devices:
    requests:
    - name: r
      exactly: {deviceClassName: dra.memory, allocationMode: ExactCount, count: 1, capacity: {requests: {size: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  resourceClaims: [{name: m, resourceClaimName: c}]
  containers: [{name: c, resources: {claims: [{name: m, request: r}]}}]
"""
    decision = decide(world_of(text=text, classes=False))

    assert "node-00" == decision.node
    [result] = decision.claims[0].status["allocation"].devices.results
    assert ("dra.memory", "node-00/mem", "numa0-4ki") == (result.driver, result.pool, result.device)


# --- S95

STRICT = {
    "classes": False,
    "pools-two-nodes-two-simple-gpus": True,
    "pools-one-node-sriov-0": False,
    "pools-one-node-sriov-1": False,
    "pools-two-nodes-one-dgxa100": True,
    **{f"pod-multi-net-{number}": number in {0, 1, 2, 3, 5} for number in range(9)},
    "pod-one-container-one-gpu": True,
    **{f"pod-one-container-two-gpus-{number}": True for number in range(3)},
    "pod-one-container-gpu-priority-list": True,
    "pod-one-container-gpu-priority-list-one-vf": True,
    "pod-one-container-one-gpu-one-vf": True,
    "pod-one-container-partial-gpu": False,
    "pod-one-container-split-allocation-gpus": True,
    "pod-one-container-shared-split-allocation-gpus": False,
    "pod-two-containers-one-gpu": True,
    **{f"pod-two-containers-two-gpus-{number}": True for number in range(3)},
    "two-pods-one-gpu-0": False,
    "two-pods-one-gpu-1": False,
    "drivers": True,
    "v1/classes": False,
    "v1/pod-embedded-foozer-single": True,
    "v1/pod-ref-foozer-single": True,
    "v1/pod-template-foozer-single": True,
}


def test_S95_every_example_is_in_the_table() -> None:
    files = {
        str(file.relative_to(EXAMPLES).with_suffix("")) for file in EXAMPLES.rglob("*.yaml") if file.parent.name != "v0"
    }

    assert set(STRICT) == files
    assert 17 == len(list((EXAMPLES / "v0").glob("*.yaml")))


@pytest.mark.parametrize("file", STRICT, ids=lambda file: f"S95-{file}")
def test_examples_load_leniently_and_some_strictly(file: str) -> None:
    warnings: list[str] = []
    text = example(file).read_text()

    Loader(warn=warnings.append).read(text, file)

    minor = file == "pools-two-nodes-one-dgxa100"
    assert bool(warnings) is (not STRICT[file] or minor)
    assert all(line.startswith(f"{file}: document ") and "\n" not in line for line in warnings)
    if STRICT[file]:
        Loader(strict=True).read(text, file)
    else:
        with pytest.raises(DocumentError):
            Loader(strict=True).read(text, file)


def test_S95_warnings_name_what_was_mended() -> None:
    warnings: list[str] = []
    Loader(warn=warnings.append).read(example("pod-multi-net-8").read_text(), "f")

    place = "f: document 1: DeviceClaim template-sriov-four-same-vendor-diff-cards: spec.devices[0].allOf[0]"
    assert [
        f"{place}.devices: read as requests.devices",
        (
            f"{place}.distinctAttributes: distinctAttributes is not in the types of the prototype; "
            "understood as documented"
        ),
    ] == warnings


@pytest.mark.parametrize("wrap", ["list", "List"])
def test_S95_lists_of_objects_are_documents_too(wrap: str) -> None:
    bodies = list(yaml.safe_load_all(example("pools-two-nodes-two-simple-gpus").read_text()))
    text = json.dumps(bodies if wrap == "list" else {"apiVersion": "v1", "kind": "List", "items": bodies})
    loader = Loader()

    loader.read(text, "f")

    assert ["node-00-foozer", "node-01-foozer"] == list(loader.world.inventory.pools)


def test_S95_both_spellings_of_renamed_fields() -> None:
    text = example("pools-one-node-sriov-1").read_text()
    renamed = text.replace("consumesSharedResources", "sharedResourcesConsumed").replace(
        "providesClaimResources", "claimResourcesProvided"
    )
    assert text != renamed
    answers = []
    for body in (text, renamed):
        loader = Loader()
        loader.read(example("classes").read_text(), "c")
        loader.read(body, "p")
        loader.read(example("pod-multi-net-5").read_text(), "pod")
        answers.append(devices(decide(loader.world)))

    assert answers[0] == answers[1] == ["node-001-nic-001/pf-0-vf-0"]
