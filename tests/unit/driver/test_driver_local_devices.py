# SPDX-License-Identifier: Apache-2.0
"""The node's own memory as devices: names, attributes, capacity and policy."""

from __future__ import annotations

import re

import pytest
from tests.support.machine import ARM64_4K, ARM64_64K, GIB, KIB, MIB, Node, build

from dynamic_memory.api import names
from dynamic_memory.driver.local_devices import OVERCOMMITTED_TAINT, device_bodies, local_devices
from dynamic_memory.host.topology import TopologyReader
from dynamic_memory.quantity import parse_bytes


def bodies(root, *, reserved=None, taken=None, **more):
    topology = TopologyReader(root).read()
    devices = local_devices(topology, reserved or {})
    found = device_bodies(
        devices.values(), taken or {}, base_page=topology.base_page, since=more.pop("since", {}), **more
    )
    return {body["name"]: body for body in found}


def value(body):
    return parse_bytes(body["capacity"]["size"]["value"])


def test_D3_one_device_for_each_node_and_page_that_has_bytes(tmp_path):
    build(tmp_path, [Node(0, 4 * GIB, pools={2 * MIB: 8}), Node(1, 2 * GIB, pools={GIB: 1})])
    assert list(bodies(tmp_path)) == ["numa0-4ki", "numa0-2mi", "numa1-4ki", "numa1-1gi"]


def test_D4_names_and_attributes_have_the_number_of_the_node(tmp_path):
    build(tmp_path, [Node(0, GIB), Node(2, GIB)])
    found = bodies(tmp_path)
    assert list(found) == ["numa0-4ki", "numa2-4ki"]
    assert found["numa2-4ki"]["attributes"]["resource.kubernetes.io/numaNode"] == {"int": 2}


def test_D5_a_node_without_processors_is_published_with_distance_and_tier(tmp_path):
    nodes = [Node(0, GIB), Node(1, 8 * GIB, cpus="", tier=20, latency=350), Node(3, GIB, cpus="", tier=2)]
    build(tmp_path, nodes, distances={(0, 1): 28})
    found = {name: body["attributes"] for name, body in bodies(tmp_path).items()}
    far = found["numa1-4ki"]
    assert (far["tier"], far["distance"], far["cpus"]) == ({"string": "cxl"}, {"int": 28}, {"bool": False})
    assert (far["memoryTier"], far["latencyNs"]) == ({"int": 20}, {"int": 350})
    assert found["numa3-4ki"]["tier"] == {"string": "hbm"}
    assert (found["numa0-4ki"]["tier"], found["numa0-4ki"]["distance"]) == ({"string": "dram"}, {"int": 10})


def test_D6_memory_is_what_is_left_of_huge_pages_and_reservations(tmp_path):
    build(tmp_path, [Node(0, 16 * GIB, pools={GIB: 8, 2 * MIB: 512})])
    assert value(bodies(tmp_path)["numa0-4ki"]) == 7 * GIB
    assert value(bodies(tmp_path, reserved={0: 2 * GIB, 1: GIB})["numa0-4ki"]) == 5 * GIB
    assert "numa0-4ki" not in bodies(tmp_path, reserved={0: 7 * GIB})


def test_D7_D8_D9_capacity_policy_and_sharing(tmp_path):
    build(tmp_path, [Node(0, 16 * GIB, pools={2 * MIB: 512, GIB: 4})])
    found = bodies(tmp_path)
    assert {name: body["capacity"] for name, body in found.items()} == {
        "numa0-4ki": {
            "size": {
                "value": "11Gi",
                "requestPolicy": {"default": "1Mi", "validRange": {"min": "4Ki", "max": "11Gi", "step": "4Ki"}},
            }
        },
        "numa0-2mi": {
            "size": {
                "value": "1Gi",
                "requestPolicy": {"default": "2Mi", "validRange": {"min": "2Mi", "max": "1Gi", "step": "2Mi"}},
            }
        },
        "numa0-1gi": {
            "size": {
                "value": "4Gi",
                "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi", "max": "4Gi", "step": "1Gi"}},
            }
        },
    }
    assert all(body["allowMultipleAllocations"] is True for body in found.values())


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_D8_a_policy_is_one_that_the_api_server_takes(tmp_path, count):
    """KEP-5075: default >= min, min + step <= value, max <= value, and all in steps from min."""
    build(tmp_path, [Node(0, 64 * GIB, pools={GIB: count})])
    size = bodies(tmp_path)["numa0-1gi"]["capacity"]["size"]
    policy, total = size["requestPolicy"], parse_bytes(size["value"])
    default = parse_bytes(policy["default"])
    if "validValues" in policy:
        assert count == 1
        assert policy["default"] in policy["validValues"]
        return
    low, high, step = (parse_bytes(policy["validRange"][key]) for key in ("min", "max", "step"))
    assert low <= default <= high <= total
    assert low + step <= total
    assert (high - low) % step == (default - low) % step == 0


@pytest.mark.parametrize(
    ("device", "page", "huge"),
    [("numa0-4ki", "4Ki", False), ("numa0-2mi", "2Mi", True), ("numa0-1gi", "1Gi", True)],
)
@pytest.mark.parametrize("node", [0, 3])
def test_D10_attributes(tmp_path, node, device, page, huge):
    build(tmp_path, [Node(node, 4 * GIB, pools={2 * MIB: 8, GIB: 1})])
    attributes = bodies(tmp_path)[device.replace("0", str(node), 1)]["attributes"]
    expected = {
        "kind": {"string": "local"},
        "pageSize": {"string": page},
        "resource.kubernetes.io/numaNode": {"int": node},
        "resource.kubernetes.io/pageSize": {"string": page},
        "resource.kubernetes.io/hugeTLB": {"bool": huge},
        "dra.cpu/numaNodeID": {"int": node},
        "dra.net/numaNode": {"int": node},
    }
    assert {name: attributes[name] for name in expected} == expected
    assert len(attributes) + 1 <= 32


@pytest.mark.parametrize(
    ("base", "sizes", "expected"),
    [
        (4 * KIB, ARM64_4K, ["numa0-4ki", "numa0-64ki", "numa0-2mi", "numa0-32mi", "numa0-1gi"]),
        (64 * KIB, ARM64_64K, ["numa0-64ki", "numa0-2mi", "numa0-512mi", "numa0-16gi"]),
    ],
)
def test_D11_names_follow_from_the_machine_alone(tmp_path, base, sizes, expected):
    nodes = [Node(0, 64 * GIB, pools=dict.fromkeys(sizes, 1))]
    build(tmp_path, nodes, sizes=sizes, base_page=base)
    first, second = bodies(tmp_path), bodies(tmp_path)
    assert first == second
    assert list(first) == expected
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) for name in first)


@pytest.mark.parametrize(
    ("form", "memory", "huge"),
    [
        (
            "1.36",
            {"nodeAllocatableResourceMappings": {"memory": {"capacityKey": "size"}}},
            {"nodeAllocatableResourceMappings": {"hugepages-2Mi": {"capacityKey": "size"}}},
        ),
        (
            "1.37",
            {"nodeAllocatableResources": {"memory": {"mapping": {"capacityKey": "size", "capacityMultiplier": "1"}}}},
            {
                "nodeAllocatableResources": {
                    "hugepages-2Mi": {"mapping": {"capacityKey": "size", "capacityMultiplier": "1"}}
                }
            },
        ),
        (None, {}, {}),
    ],
)
def test_D15_devices_are_mapped_to_resources_of_the_node(tmp_path, form, memory, huge):
    build(tmp_path, [Node(0, 4 * GIB, pools={2 * MIB: 8})])
    found = bodies(tmp_path, mapping=form)
    mapped = [{k: v for k, v in body.items() if k.startswith("nodeAlloc")} for body in found.values()]
    assert mapped == [memory, huge]


def test_D19_what_is_held_is_not_taken_away_and_nothing_more_is_given(tmp_path):
    build(tmp_path, [Node(0, 4 * GIB, pools={2 * MIB: 8})])
    body = bodies(tmp_path, taken={"numa0-2mi": 32 * MIB}, since={"numa0-2mi": "2026-01-01T00:00:00Z"})["numa0-2mi"]
    assert value(body) == 32 * MIB
    assert body["taints"] == [{"key": OVERCOMMITTED_TAINT, "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}]
    assert "taints" not in bodies(tmp_path, taken={"numa0-2mi": 16 * MIB})["numa0-2mi"]


def test_D19_a_device_that_is_gone_stays_as_long_as_something_of_it_is_held(tmp_path):
    build(tmp_path, [Node(0, 4 * GIB)])
    found = bodies(tmp_path, taken={"numa5-1gi": 2 * GIB, "numa4-4ki": GIB, "numa3-4ki": 0, "other": 5})
    assert list(found) == ["numa0-4ki", "numa4-4ki", "numa5-1gi"]
    assert found["numa5-1gi"]["attributes"]["resource.kubernetes.io/hugeTLB"] == {"bool": True}
    assert found["numa4-4ki"]["attributes"]["resource.kubernetes.io/hugeTLB"] == {"bool": False}
    assert [value(found[name]) for name in ("numa4-4ki", "numa5-1gi")] == [GIB, 2 * GIB]
    assert all(found[name]["taints"] for name in ("numa4-4ki", "numa5-1gi"))


def test_the_pool_has_a_name_that_no_other_driver_uses():
    assert names.memory_pool("n1") == "n1/mem"


def test_a_machine_of_files_says_so(tmp_path):
    build(tmp_path, [Node(0, GIB)])
    assert bodies(tmp_path, simulated=True)["numa0-4ki"]["attributes"]["simulated"] == {"bool": True}
