# SPDX-License-Identifier: Apache-2.0
"""K26: every example has a valid counterpart, or what has none is named; and the counterpart means the same."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests.unit.prototype.worlds import EXAMPLES, SETS, class_, decide, example, pool, world_of

from dynamic_memory.allocation.prototype.convert import Conversion
from dynamic_memory.allocation.prototype.loader import Loader
from dynamic_memory.cel import compile_selector
from dynamic_memory.cli.convert import convert

FILES = sorted(file for file in EXAMPLES.glob("*.yaml"))
IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,31}")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def converted(*files: str, text: str = "") -> tuple[list[dict[str, Any]], list[str]]:
    conversion = Conversion(world_of(*files, text=text))
    return list(conversion.objects()), conversion.notes


def values(body: Any, key: str) -> list[Any]:
    """Return all values of a key, wherever it is."""
    found = []
    for name, value in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
        if name == key:
            found.append(value)
        found += values(value, key)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_K26_counterparts_are_valid(file: Any) -> None:
    objects, notes = converted(file.stem)

    assert objects
    loader = Loader(strict=True)
    for body in objects:
        loader.read(yaml.safe_dump(body), "converted")
        assert SUBDOMAIN.fullmatch(body["metadata"]["name"])
        for expression in values(body, "expression"):
            compile_selector(expression)
        for driver in values(body, "driver"):
            assert SUBDOMAIN.fullmatch(driver)
        for devices in values(body, "devices"):
            for device in devices if isinstance(devices, list) else ():
                assert LABEL.fullmatch(device["name"]), device["name"]
                assert all(
                    IDENTIFIER.fullmatch(name) for name in (*device.get("attributes", {}), *device.get("capacity", {}))
                )
                assert len(device.get("attributes", {})) + len(device.get("capacity", {})) <= 32
            if isinstance(devices, list):
                assert len(devices) <= 128
        for sets in values(body, "sharedCounters"):
            assert all(len(entry["counters"]) <= 32 for entry in sets)
    assert all(note for note in notes)


NAMED = {
    "classes": ["a meta class selects classes by label", "it names no driver, only a device type"],
    "pod-one-container-split-allocation-gpus": ["a number of devices from 1 to 8", "memory summed over devices"],
    "pod-one-container-one-gpu": ["devices by class alone (foozer-gpu)"],
    "pod-one-container-one-gpu-one-vf": ["matchAttribute pcie-root is compared between drivers"],
    "drivers": ["the kind has no counterpart"],
}


@pytest.mark.parametrize(("file", "expected"), NAMED.items(), ids=NAMED)
def test_K26_what_has_no_counterpart_is_named(file: str, expected: list[str]) -> None:
    _, notes = converted(file)

    for text in expected:
        assert any(text in note for note in notes), notes


@pytest.mark.parametrize(
    "file", ["pools-one-node-sriov-0", "pod-one-container-two-gpus-1", "pod-one-container-gpu-priority-list"]
)
def test_K26_nothing_is_named_that_has_one(file: str) -> None:
    loader = Loader()
    loader.read(example(file).read_text(), file)
    loader.read(class_("example.com-foozer", "example.com-foozer"), "classes")
    conversion = Conversion(loader.world)

    list(conversion.objects())

    assert [] == conversion.notes


SAME = {
    "pod-one-container-two-gpus-1": "A",
    "pod-multi-net-2": "B",
    "pod-multi-net-3": "B",
    "pod-multi-net-4": "B",
    "pod-one-container-gpu-priority-list": "A",
    "pod-one-container-partial-gpu": "A",
    "pod-two-containers-two-gpus-1": "A",
}


@pytest.mark.parametrize(("file", "pools"), SAME.items(), ids=SAME)
def test_K26_counterparts_get_the_same_devices(file: str, pools: str) -> None:
    before = decide(world_of(*SETS[pools], file))
    objects, _ = converted(*SETS[pools], file)
    [template] = [body["metadata"]["name"] for body in objects if body["kind"] == "ResourceClaimTemplate"]
    user = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "user"},
        "spec": {
            "resourceClaims": [{"name": "c", "resourceClaimTemplateName": template}],
            "containers": [{"name": "c"}],
        },
    }

    after = decide(world_of(text=yaml.safe_dump_all([*objects, user]), classes=False))

    assert before.node == after.node
    names = [entry["deviceName"] for outcome in before.claims for entry in outcome.status["allocations"]]
    assert names == [
        result.device for outcome in after.claims for result in outcome.status["allocation"].devices.results
    ]


def test_amounts_become_capacities_and_are_compared_as_such() -> None:
    objects, _ = converted("pools-one-node-sriov-0")
    expressions = {
        body["metadata"]["name"]: values(body, "expression") for body in objects if body["kind"] == "DeviceClass"
    }

    place = 'device.capacity["example.com-sriov"].bandwidth'
    assert f"{place} == quantity('1G')" in expressions["example.com-sriov-nic-1g"]
    assert f"{place}.compareTo(quantity('1G')) >= 0" in expressions["example.com-sriov-nic-1g-or-faster"]


def test_large_pools_become_several_slices() -> None:
    text = pool("p", "n", "d", [f"{{name: d{number:03}}}" for number in range(300)])
    objects, _ = converted(text=text)

    slices = [body["spec"] for body in objects if body["kind"] == "ResourceSlice"]
    assert [128, 128, 44] == [len(spec["devices"]) for spec in slices]
    assert {3} == {spec["pool"]["resourceSliceCount"] for spec in slices}


def test_command_prints_objects_and_tells_the_rest_on_standard_error() -> None:
    done = CliRunner().invoke(convert, [str(example("classes"))])

    assert done.exit_code == 0
    assert {"DeviceClass"} == {body["kind"] for body in yaml.safe_load_all(done.stdout)}
    assert "no counterpart: DeviceClass example.com-gpu: a meta class" in done.stderr
    assert 1 == CliRunner().invoke(convert, [str(example("classes")), "--strict"]).exit_code
