# SPDX-License-Identifier: Apache-2.0
"""resource.k8s.io in three versions, with validation and immutability: row A40."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.embedded.support.client import Client
from tests.embedded.support.kinds import complaints, made, table, update_complaints

V1 = "/apis/resource.k8s.io/v1"
CLAIMS = f"{V1}/namespaces/default/resourceclaims"
SHARE = "6f3a0b7e-8f0b-4a53-9c7e-3b9f3a1d2c4e"


def claim(**exactly: Any) -> dict[str, Any]:
    request = {"name": "r", "exactly": {"deviceClassName": "c", **exactly}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "a"},
        "spec": {"devices": {"requests": [request]}},
    }


def device(name: str = "d", **fields: Any) -> dict[str, Any]:
    return {"name": name, **fields}


def resource_slice(*devices: dict[str, Any], **spec: Any) -> dict[str, Any]:
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "s"},
        "spec": {"driver": "dra.memory", "pool": pool, "nodeName": "n", "devices": list(devices), **spec},
    }


def shared(value: str, **policy: Any) -> dict[str, Any]:
    return device(allowMultipleAllocations=True, capacity={"size": {"value": value, "requestPolicy": policy}})


RANGE = {"min": "1Gi", "step": "1Gi", "max": "8Gi"}
SIZE = "spec.devices[0].capacity[size].requestPolicy"


def test_defaults_of_a_claim() -> None:
    asked = made(claim(tolerations=[{"key": "k"}]))["spec"]["devices"]["requests"][0]["exactly"]
    assert (asked["allocationMode"], asked["count"], asked["tolerations"]) == (
        "ExactCount",
        1,
        [{"key": "k", "operator": "Equal"}],
    )
    assert "count" not in made(claim(allocationMode="All"))["spec"]["devices"]["requests"][0]["exactly"]


R = "spec.devices.requests[0]"


@pytest.mark.parametrize(("changes", "expected"), table("resource_claims"))
def test_claims_that_are_refused(changes: dict[str, Any], expected: list[str]) -> None:
    assert complaints(claim(), **changes) == expected


def test_limits_of_claims() -> None:
    requests = [{"name": f"r{n}", "exactly": {"deviceClassName": "c"}} for n in range(33)]
    assert complaints(claim(), spec__devices__requests=requests[:32]) == []
    assert complaints(claim(), spec__devices__requests=requests) == [
        "spec.devices.requests: Too many: 33: must have at most 32 items"
    ]
    twice = [requests[0], requests[0]]
    assert complaints(claim(), spec__devices__requests=twice) == ['spec.devices.requests[1]: Duplicate value: "r0"']
    alternatives = [{"name": f"a{n}", "deviceClassName": "c"} for n in range(9)]
    assert complaints(claim(), spec__devices__requests=[{"name": "r", "firstAvailable": alternatives}]) == [
        f"{R}.firstAvailable: Too many: 9: must have at most 8 items"
    ]


def test_selectors_are_compiled() -> None:
    good = {"cel": {"expression": 'device.capacity["dra.memory"].size.compareTo(quantity("1Gi")) >= 0'}}
    assert complaints(claim(selectors=[good])) == []
    [said] = complaints(claim(selectors=[good, {"cel": {"expression": "device.driver = 1"}}]))
    path = f"{R}.exactly.selectors[1].cel.expression"
    costly = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(a, " * 6 + "true" + ")" * 6
    assert complaints(claim(selectors=[{"cel": {"expression": costly}}])) == [
        f"{R}.exactly.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"
    ]
    assert said.startswith(f'{path}: Invalid value: "device.driver = 1": compilation failed')


@pytest.mark.parametrize(("changes", "expected"), table("resource_slices"))
def test_slices_that_are_refused(changes: dict[str, Any], expected: list[str] | None) -> None:
    found = complaints(resource_slice(device()), **changes)
    assert found if expected is None else found == expected


def test_limits_of_slices() -> None:
    plain = [device(f"d{n}") for n in range(129)]
    assert complaints(resource_slice(*plain[:128])) == []
    assert complaints(resource_slice(*plain)) == ["spec.devices: Too many: 129: must have at most 128 items"]
    tainted = [device("t", taints=[{"key": "k", "effect": "NoSchedule"}]), *plain]
    assert complaints(resource_slice(*tainted[:64])) == []
    assert complaints(resource_slice(*tainted[:65])) == ["spec.devices: Too many: 65: must have at most 64 items"]
    assert complaints(resource_slice(device(), device())) == ['spec.devices[1]: Duplicate value: "d"']


@pytest.mark.parametrize(("one", "expected"), table("request_policies"))
def test_request_policies(one: dict[str, Any], expected: list[str]) -> None:
    assert complaints(resource_slice(one)) == expected


def test_what_may_not_change_of_a_slice() -> None:
    old = made(resource_slice(device()))
    assert update_complaints(old, spec__pool__generation=2) == []
    assert update_complaints(old, spec__driver="other.example.com", spec__nodeName="m") == [
        'spec.driver: Invalid value: "other.example.com": field is immutable',
        'spec.nodeName: Invalid value: "m": field is immutable',
    ]


RESULT = {"request": "r", "driver": "dra.memory", "pool": "p", "device": "d", "shareID": SHARE}
CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Done",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
ENTRY = {"driver": "dra.memory", "pool": "p", "device": "d", "shareID": SHARE, "conditions": [CONDITION]}
USER = {"resource": "pods", "name": "p", "uid": "1"}


def allocated(**status: Any) -> dict[str, Any]:
    old = made(claim())
    return {**old, "status": {"allocation": {"devices": {"results": [copy.deepcopy(RESULT)]}}, **status}}


@pytest.mark.parametrize(("changes", "expected"), table("claim_statuses"))
def test_A40_status_of_claims(changes: dict[str, Any], expected: list[str]) -> None:
    assert update_complaints(allocated(), "status", **changes) == expected


def test_A40_an_allocation_may_be_set_and_unset_but_not_changed() -> None:
    old = allocated()
    assert update_complaints(old, "status", status__allocation=None) == []
    assert update_complaints(old, "status", status__allocation__devices__results__0__device="e") == [
        "status.allocation: Invalid value: null: field cannot be modified once set"
    ]
    bad = {**RESULT, "request": "x", "shareID": "nope"}
    assert update_complaints(made(claim()), "status", status={"allocation": {"devices": {"results": [bad]}}}) == [
        (
            'status.allocation.devices.results[0].request: Invalid value: "x": must be the name of a request in the '
            "claim or the name of a request and a subrequest separated by '/'"
        ),
        (
            'status.allocation.devices.results[0].shareID: Invalid value: "nope": must be a lowercase UUID in '
            "8-4-4-4-12 format"
        ),
    ]


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1beta2"])
async def test_A40_a_claim_in_every_version(client: Client, version: str) -> None:
    path = f"/apis/resource.k8s.io/{version}/namespaces/default/resourceclaims"
    body = claim()
    if version == "v1beta1":
        body["spec"]["devices"]["requests"] = [{"name": "r", "deviceClassName": "c"}]
    body["apiVersion"] = f"resource.k8s.io/{version}"
    created = await client.create(path, body, fieldValidation="Strict")
    assert created.code == 201, created
    request = created.json["spec"]["devices"]["requests"][0]
    assert (request if version == "v1beta1" else request["exactly"])["count"] == 1
    stored = (await client.get(f"{CLAIMS}/a")).json
    assert stored["apiVersion"] == "resource.k8s.io/v1"
    assert stored["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] == "c"
    changed = await client.patch(f"{path}/a", {"spec": {"devices": {"requests": []}}})
    assert (changed.code, changed.json["reason"]) == (422, "Invalid")
    assert changed.json["message"].endswith(": field is immutable")
    again = await client.patch(f"{path}/a", {"metadata": {"labels": {"x": "y"}}})
    assert again.code == 200, again


async def test_A40_devices_of_a_slice_in_v1beta1_have_a_body(client: Client) -> None:
    assert (await client.create(f"{V1}/resourceslices", resource_slice(shared("8Gi", default="1Gi")))).code == 201
    old = (await client.get("/apis/resource.k8s.io/v1beta1/resourceslices/s")).json
    assert old["spec"]["devices"][0]["basic"]["capacity"]["size"]["value"] == "8Gi"
    found = (
        await client.get("/apis/resource.k8s.io/v1beta2/resourceslices", fieldSelector="spec.driver=dra.memory")
    ).json
    assert [one["metadata"]["name"] for one in found["items"]] == ["s"]


async def test_A40_the_status_of_a_claim_over_http(client: Client) -> None:
    assert (await client.create(CLAIMS, claim())).code == 201
    assert (await client.patch(f"{CLAIMS}/a/status", {"status": allocated()["status"]})).code == 200
    changed = {"status": {"allocation": {"devices": {"results": [{**RESULT, "device": "e"}]}}}}
    refused = await client.patch(f"{CLAIMS}/a/status", changed)
    assert (refused.code, refused.json["details"]["causes"][0]["field"]) == (422, "status.allocation")
    cleared = await client.patch(f"{CLAIMS}/a/status", {"status": {"allocation": None, "devices": None}})
    assert (cleared.code, "allocation" in cleared.json.get("status", {})) == (200, False)
