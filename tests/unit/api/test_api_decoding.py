# SPDX-License-Identifier: Apache-2.0
"""Objects as real API servers send them decode to what this project reads of them, and nothing else."""

from __future__ import annotations

import inspect
import json

import msgspec
import pytest

from dynamic_memory.api import certificates, coordination, core, kinds, meta, names, resource
from dynamic_memory.api.wire import Kind, Wire, to_builtins

KINDS = [value for value in vars(kinds).values() if isinstance(value, Kind)]

CLAIM = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "metadata": {
        "name": "db-0-far-x7k2p",
        "namespace": "app",
        "uid": "u1",
        "resourceVersion": "77",
        "creationTimestamp": "2026-11-20T10:00:00Z",
        "finalizers": ["resource.kubernetes.io/delete-protection"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "p1", "controller": True}],
        "managedFields": [{"manager": "kube-scheduler", "fieldsV1": {"f:status": {}}}],
    },
    "spec": {
        "devices": {
            "requests": [
                {
                    "name": "far",
                    "exactly": {
                        "deviceClassName": "dra.fabric-memory",
                        "allocationMode": "ExactCount",
                        "count": 1,
                        "capacity": {"requests": {"size": "64Gi"}},
                    },
                },
                {"name": "any", "firstAvailable": [{"name": "one", "deviceClassName": "c"}]},
            ],
            "constraints": [{"requests": ["far"], "matchAttribute": "dra.memory/fabricDomain"}],
            "config": [{"requests": ["far"], "opaque": {"driver": "dra.memory", "parameters": {"mode": "devdax"}}}],
        }
    },
    "status": {
        "allocation": {
            "allocationTimestamp": "2026-11-20T10:00:00Z",
            "nodeSelector": {
                "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]
            },
            "devices": {
                "results": [
                    {
                        "request": "far",
                        "driver": "dra.memory",
                        "pool": "fabric/rack-a",
                        "device": "d0",
                        "shareID": "6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11",
                        "consumedCapacity": {"size": "64Gi"},
                        "bindingConditions": ["dynamicmemory.dev/Attached"],
                        "bindingFailureConditions": ["dynamicmemory.dev/AttachFailed"],
                        "aFieldOfALaterRelease": {"x": 1},
                    }
                ]
            },
        },
        "reservedFor": [{"resource": "pods", "name": "db-0", "uid": "p1"}],
        "devices": [
            {
                "driver": "dra.memory",
                "pool": "fabric/rack-a",
                "device": "d0",
                "shareID": "6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11",
                "conditions": [
                    {
                        "type": "dynamicmemory.dev/Attached",
                        "status": "True",
                        "reason": "Online",
                        "message": "64Gi",
                        "lastTransitionTime": "2026-11-20T10:00:21Z",
                    }
                ],
            }
        ],
    },
}


def decoded(body, type_):
    return msgspec.json.decode(json.dumps(body), type=type_)


def test_a_claim():
    claim = decoded(CLAIM, resource.ResourceClaim)
    assert claim.metadata.owner_references[0].controller
    far, alternatives = claim.spec.devices.requests
    assert far.exactly.capacity.requests == {"size": "64Gi"}
    assert alternatives.first_available[0].device_class_name == "c"
    assert claim.spec.devices.config[0].opaque.parameters == {"mode": "devdax"}
    (result,) = claim.status.allocation.devices.results
    (device,) = claim.status.devices
    assert (result.driver, result.pool, result.device, result.share_id) == (
        device.driver,
        device.pool,
        device.device,
        device.share_id,
    )
    assert result.binding_conditions == [device.conditions[0].type] == [names.ATTACHED]
    assert claim.status.allocation.node_selector.node_selector_terms[0].match_fields[0].values == ["n1"]


def test_a_slice_with_every_kind_of_attribute_and_policy():
    attributes = {"a": {"int": 5}, "b": {"bool": False}, "c": {"string": "x"}, "d": {"version": "1.2.3"}}
    lists = {"e": {"ints": [1]}, "f": {"strings": []}}
    ranged = {"default": "1Gi", "validRange": {"min": "1Gi", "max": "1Ti", "step": "1Gi"}}
    capacity = {
        "size": {"value": "8Gi", "requestPolicy": ranged},
        "extents": {"value": 64, "requestPolicy": {"default": "1", "validValues": ["1"]}},
    }
    taint = {"key": "k", "value": "v", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}
    device = {"name": "d", "attributes": attributes | lists, "capacity": capacity, "taints": [taint]}
    spec = {
        "driver": "dra.memory",
        "pool": {"name": "n1/windows", "generation": 2, "resourceSliceCount": 1},
        "nodeName": "n1",
        "devices": [device],
    }
    found = decoded({"metadata": {"name": "s"}, "spec": spec}, resource.ResourceSlice)
    (one,) = found.spec.devices
    assert (one.attributes["a"].int_, one.attributes["b"].bool_, one.attributes["c"].string) == (5, False, "x")
    assert one.attributes["f"].strings == []
    assert one.capacity["size"].request_policy.valid_range.step == "1Gi"
    assert one.capacity["extents"].value == 64
    assert one.allow_multiple_allocations is None
    assert to_builtins(found.spec) == spec, "what was read can be compared with what was written"


def test_what_the_server_leaves_out_has_its_default():
    for kind in KINDS:
        if kind is not kinds.RESOURCE_SLICES:
            assert decoded({}, kind.type).metadata == meta.ObjectMeta()
    claim = decoded({"metadata": {"name": "c"}, "spec": {"devices": {}}}, resource.ResourceClaim)
    assert (claim.status.allocation, claim.status.devices, claim.spec.devices.requests) == (None, [], [])


@pytest.mark.parametrize("body", [{"metadata": {"name": 5}}, {"status": {"devices": [{}]}}, []])
def test_what_is_no_claim_is_refused(body):
    with pytest.raises(msgspec.ValidationError):
        decoded(body, resource.ResourceClaim)


def test_a_bookmark_of_any_kind_is_a_partial_object():
    body = {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "spec": {"containers": None}}
    assert decoded(body, kinds.partial(kinds.PODS).type).metadata.resource_version == "9"


def test_kinds_have_the_names_of_the_api_server():
    assert kinds.PODS.api_version == "v1"
    assert kinds.RESOURCE_CLAIMS.api_version == "resource.k8s.io/v1"
    assert (str(kinds.PODS), str(kinds.LEASES)) == ("pods", "leases.coordination.k8s.io")
    assert len({str(kind) for kind in KINDS}) == len(KINDS)
    assert {kind.plural for kind in KINDS if not kind.namespaced} == {
        "nodes",
        "namespaces",
        "certificatesigningrequests",
        "resourceslices",
        "deviceclasses",
    }


def test_every_wire_type_is_frozen_and_listed():
    for module in (certificates, coordination, core, meta, resource):
        types = {
            name: value
            for name, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, Wire) and value.__module__ == module.__name__
        }
        assert types.keys() == set(module.__all__)
        for type_ in types.values():
            assert type_.__struct_config__.frozen, type_
            assert not type_.__struct_config__.forbid_unknown_fields, type_


def test_reasons_can_be_condition_reasons():
    import re

    for reason in names.Reason:
        assert re.fullmatch(r"[A-Z][A-Za-z]*", reason.value), reason


def test_pools_are_named_for_their_domain_or_node():
    assert names.fabric_pool("rack-a") == "fabric/rack-a"
    assert names.windows_pool("n1") == "n1/windows"
    assert names.fabric_domain_of("fabric/rack-a") == "rack-a"
    assert names.fabric_domain_of("n1/windows") is None
