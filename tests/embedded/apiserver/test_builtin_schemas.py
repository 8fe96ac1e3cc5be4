# SPDX-License-Identifier: Apache-2.0
"""The builtin schemas are whole: every field has a type, merge keys exist, our own manifests fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.embedded.support.kinds import registry, resource

from dynamic_memory.embedded.apiserver.builtin.defaults import DEFAULTS
from dynamic_memory.embedded.apiserver.builtin.markers import MARKERS
from dynamic_memory.embedded.apiserver.builtin.models import schema_of
from dynamic_memory.embedded.apiserver.decoding import decode
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema, clone, node_at
from dynamic_memory.embedded.apiserver.validation import check_create, complete

ROOT = Path(__file__).parents[3]
RESOURCES = [pytest.param(one, id=f"{one.api_version}/{one.plural}") for one in registry().resources()]


def nodes(schema: Schema, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Schema]]:
    """Yield every node of a schema once, with a path to it."""
    seen = set() if seen is None else seen
    if id(schema.properties) in seen and schema.properties:
        return
    seen.add(id(schema.properties))
    yield path, schema
    for name, inner in schema.properties.items():
        yield from nodes(inner, f"{path}.{name}", seen)
    for below in (schema.additional, schema.items):
        if below is not None:
            yield from nodes(below, f"{path}[]", seen)


@pytest.mark.parametrize("one", RESOURCES)
def test_every_field_of_every_kind_has_a_type_and_a_description(one: Any) -> None:
    for path, node in nodes(one.schema):
        either = node.items is not None and (node.additional is not None or node.properties)
        assert node.type or node.int_or_string or node.open or either, f"{path} has no type"
        if node.type == "array":
            assert node.items is not None, f"{path} has no items"
    assert {"apiVersion", "kind"} <= one.schema.properties.keys()
    described = [name for name, inner in one.schema.properties.items() if not inner.description and name != "status"]
    assert described == []


@pytest.mark.parametrize("one", RESOURCES)
def test_merge_keys_and_list_keys_are_fields_of_the_elements(one: Any) -> None:
    for path, node in nodes(one.schema):
        if node.list_type == "map":
            assert node.items is not None
            assert set(node.list_map_keys) <= node.items.properties.keys(), path
        if node.patch_merge_key and node.type == "array" and node.items is not None:
            assert node.patch_merge_key in node.items.properties, path


def test_markers_and_defaults_name_fields_that_exist() -> None:
    for name, marks in MARKERS.items():
        module, _, kind = name.partition(".")
        schema = schema_of(module, kind)
        for entry in marks.split("; "):
            assert entry == "atomic" or entry.split()[0] in schema.properties, (name, entry)
    for name in DEFAULTS:
        module, kind, field = name.split(".")
        assert schema_of(module, kind).properties[field].default is not MISSING


def test_lists_merge_as_kubernetes_says() -> None:
    pod = resource("v1", "Pod").schema
    containers = node_at(pod, ("spec", "containers"))
    assert containers is not None
    assert containers.list_map_keys == ("name",)
    assert containers.patch_merge_key == "name"
    ports = node_at(pod, ("spec", "containers", "ports"))
    assert ports is not None
    assert ports.list_map_keys == ("containerPort", "protocol")
    assert ports.items is not None
    assert ports.items.properties["protocol"].default == "TCP"
    selector = node_at(pod, ("spec", "nodeSelector"))
    assert selector is not None
    assert selector.map_type == "atomic"
    assert node_at(resource("v1", "Node").schema, ("status", "capacity", "memory")).quantity  # type: ignore[union-attr]


def test_a_schema_may_contain_itself() -> None:
    schema = schema_of("apiextensions_v1", "JSONSchemaProps")
    inner = node_at(schema, ("properties", "any", "not", "properties", "other"))
    assert inner is not None
    assert inner.properties is schema.properties


def test_A07_names_by_which_kubectl_finds_the_prototypes_kinds() -> None:
    driver = resource("devmgmtproto.k8s.io/v1alpha1", "DeviceDriver")
    assert (driver.plural, driver.singular, driver.list_kind) == ("devicedrivers", "devicedriver", "DeviceDriverList")
    kinds = [one for one in registry().resources() if one.group == "devmgmtproto.k8s.io"]
    assert {one.kind: one.namespaced for one in kinds} == {
        "DeviceDriver": False,
        "DeviceClass": False,
        "DeviceClaim": True,
        "DevicePrivilegedClaim": True,
        "DevicePool": False,
    }
    assert all(one.categories == ("srm",) for one in kinds)
    owners: dict[str, set[Any]] = {}
    for one in registry().resources():
        for name in (one.plural, one.singular, *one.short_names):
            if one.group in ("", "devmgmtproto.k8s.io"):
                owners.setdefault(name, set()).add(one.kind)
    assert owners["ddrv"] == {"DeviceDriver"}
    assert all(len(kinds) == 1 for kinds in owners.values()), "no name stands for two kinds"


def test_versions_of_a_kind_share_a_store_and_convert_both_ways() -> None:
    request = {"name": "r", "deviceClassName": "c", "allocationMode": "ExactCount", "count": 2}
    old = {
        "apiVersion": "resource.k8s.io/v1beta1",
        "kind": "ResourceClaim",
        "metadata": {"name": "a"},
        "spec": {"devices": {"requests": [request]}},
    }
    before = clone(old)
    beta = resource("resource.k8s.io/v1beta1", "ResourceClaim")
    stored = beta.to_storage(old)
    assert old == before
    assert stored["apiVersion"] == "resource.k8s.io/v1"
    exactly = {name: value for name, value in request.items() if name != "name"}
    assert stored["spec"]["devices"]["requests"] == [{"name": "r", "exactly": exactly}]
    assert beta.from_storage(stored) == old
    assert beta.storage == resource("resource.k8s.io/v1", "ResourceClaim").storage
    assert beta.storage == resource("resource.k8s.io/v1beta2", "ResourceClaim").storage


def test_events_of_both_groups_are_the_same_events() -> None:
    new = resource("events.k8s.io/v1", "Event")
    event = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "p"}, "note": "n", "reason": "R"}
    stored = new.to_storage(event)
    assert stored == {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": {"name": "p"},
        "message": "n",
        "reason": "R",
    }
    assert new.from_storage(stored) == event


def test_an_autoscaler_of_v1_is_one_of_v2() -> None:
    old = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
        "status": {"currentReplicas": 1, "desiredReplicas": 1, "currentCPUUtilizationPercentage": 20},
    }
    first = resource("autoscaling/v1", "HorizontalPodAutoscaler")
    stored = first.to_storage(old)
    target = {"type": "Utilization", "averageUtilization": 50}
    assert stored["spec"] == {
        "maxReplicas": 3,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    assert first.from_storage(stored) == old
    assert first.storage == resource("autoscaling/v2", "HorizontalPodAutoscaler").storage


def manifests() -> Iterator[Any]:
    for folder in ("deploy", "examples"):
        for file in sorted((ROOT / folder).rglob("*.yaml")):
            if "v0" in file.parts:
                continue
            for index, document in enumerate(yaml.safe_load_all(file.read_text(encoding="utf-8"))):
                if document and "apiVersion" in document:  # a HugePageProvision is no object of an API server
                    yield pytest.param(document, id=f"{file.relative_to(ROOT)}#{index}")


@pytest.mark.parametrize("document", list(manifests()))
def test_our_own_manifests_pass_strict_validation(document: dict[str, Any]) -> None:
    one = resource(document["apiVersion"], document["kind"])
    obj, problems = decode(one, document)
    assert problems == []
    assert check_create(one, complete(one, obj)) == []
