# SPDX-License-Identifier: Apache-2.0
"""What the admission policies of deploy/ refuse, complete and leave alone: cases for any API server."""

from __future__ import annotations

import copy
from typing import Any

__all__ = [
    "ALLOW",
    "COMPLETED",
    "FAR",
    "FORCE",
    "GRACE",
    "OTHER",
    "REFUSED",
    "UNTOUCHED",
    "UPDATER_WRITES",
    "VIEW",
    "WINDOW",
    "WITHOUT_FABRIC_MEMORY",
    "WITH_FABRIC_MEMORY",
    "choice",
    "claim",
    "defaulted",
    "piece",
    "pod",
    "request",
    "spec",
    "template",
]

FAR, WINDOW, OTHER = "dra.fabric-memory", "dra.fabric-window", "gpu.example.com"
TIE = {"requests": ["far", "far-window"], "matchAttribute": "dra.memory/fabricDomain"}
TIE_ALL = {"matchAttribute": "dra.memory/fabricDomain"}
VIEW = "dynamicmemory.dev/memory"
GRACE = "a pod with fabric memory needs terminationGracePeriodSeconds of 1 or more"
FORCE = "this pod has fabric memory, which is given back while it terminates: delete it without --force, or annotate it"
ALLOW = "dynamicmemory.dev/allow-force-delete"


def request(name: str = "far", class_: str = FAR, size: str | None = "1Gi", **more: Any) -> dict[str, Any]:
    sized = {"capacity": {"requests": {"size": size}}} if size else {}
    return {"name": name, "exactly": {"deviceClassName": class_, **sized, **more}}


def choice(*classes: str) -> dict[str, Any]:
    return {"name": "far", "firstAvailable": [{"name": f"c{i}", "deviceClassName": c} for i, c in enumerate(classes)]}


def spec(*requests: dict[str, Any], constraints: Any = ()) -> dict[str, Any]:
    return {"devices": {"requests": list(requests), **({"constraints": list(constraints)} if constraints else {})}}


def claim(body: dict[str, Any], name: str = "claim") -> dict[str, Any]:
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}, "spec": body}


def template(body: dict[str, Any], name: str = "template") -> dict[str, Any]:
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate"}
    return {**kind, "metadata": {"name": name}, "spec": {"spec": body}}


def pod(*sources: dict[str, str], name: str = "pod", **more: Any) -> dict[str, Any]:
    entries = [{"name": f"claim-{number}", **source} for number, source in enumerate(sources)]
    used = {"claims": [{"name": entry["name"]} for entry in entries]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "main", "image": "none", "resources": used if entries else {}}],
            **({"resourceClaims": entries} if entries else {}),
            **more,
        },
    }


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "one of several alternatives": (spec(choice(OTHER, FAR)), "one of several alternatives (firstAvailable)"),
    "window of several alternatives": (spec(choice(WINDOW, OTHER)), "one of several alternatives (firstAvailable)"),
    "two requests": (spec(request(), request("more")), "a claim may have one request for dra.fabric-memory"),
    "no size": (spec(request(size=None)), "must say how much: exactly.capacity.requests.size, for example 512Mi"),
    "another capacity": (spec(request(size=None, capacity={"requests": {"extents": "1"}})), "must say how much"),
    "no amounts": (spec(request(size=None, capacity={})), "must say how much"),
    "two devices": (spec(request(allocationMode="ExactCount", count=2)), "ExactCount and count 1; ask for more with"),
    "all devices": (spec(request(allocationMode="All")), "allocationMode ExactCount and count 1"),
    "admin access": (spec(request(adminAccess=True)), "fabric memory cannot be claimed with adminAccess"),
    "long name": (spec(request("f" * 57)), "may have 56 characters at most"),
    "a window alone": (spec(request(class_=WINDOW)), "a request for dra.fabric-window belongs to one for"),
    "two windows": (
        spec(request(), request("a", WINDOW), request("b", WINDOW), constraints=[{**TIE, "requests": ["far", "a"]}]),
        "a request for dra.fabric-window belongs to one for",
    ),
}
REFUSED |= {
    "smaller window": (
        spec(request(), request("far-window", WINDOW, "512Mi"), constraints=[TIE]),
        "dra.fabric-memory and dra.fabric-window must be of equal size",
    ),
    "window of no size": (
        spec(request(), request("far-window", WINDOW, None), constraints=[TIE]),
        "dra.fabric-memory and dra.fabric-window must be of equal size",
    ),
    "window not tied": (spec(request(), request("far-window", WINDOW)), "must be tied by matchAttribute"),
    "window tied otherwise": (
        spec(request(), request("far-window", WINDOW), constraints=[{**TIE, "matchAttribute": "dra.memory/kind"}]),
        "must be tied by matchAttribute: dra.memory/fabricDomain",
    ),
    "something else tied": (
        spec(
            request(),
            request("far-window", WINDOW),
            request("gpu", OTHER, None),
            constraints=[{**TIE, "requests": ["far", "gpu"]}],
        ),
        "must be tied by matchAttribute: dra.memory/fabricDomain",
    ),
}
COMPLETED: dict[str, dict[str, Any]] = {
    "shortest": spec(request()),
    "all written": spec(request(allocationMode="ExactCount", count=1)),
    "longest name": spec(request("f" * 56)),
    "beside another class": spec(request("gpu", OTHER, None), request()),
    "constraints of its own": spec(
        request(),
        request("a", OTHER, None),
        request("b", OTHER, None),
        constraints=[{"requests": ["a", "b"], "matchAttribute": "example.com/numa"}],
    ),
    "beside alternatives": spec(request(), {**choice(OTHER, "nic.example.com"), "name": "nic"}),
}


def defaulted(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests with what the API server itself fills in."""
    filled = copy.deepcopy(requests)
    for entry in filled:
        for each in (*([entry["exactly"]] if "exactly" in entry else ()), *entry.get("firstAvailable", ())):
            if each.setdefault("allocationMode", "ExactCount") == "ExactCount":
                each.setdefault("count", 1)
    return filled


UNTOUCHED: dict[str, dict[str, Any]] = {
    "window written": spec(request(), request("w", WINDOW), constraints=[{**TIE, "requests": ["far", "w"]}]),
    "other spelling": spec(request(), request("far-window", WINDOW, "1073741824"), constraints=[TIE]),
    "tie for all": spec(request(), request("far-window", WINDOW), constraints=[TIE_ALL]),
    "another class": spec(request(class_=OTHER, size=None, allocationMode="ExactCount", count=4)),
    "all of another class": spec({"name": "all", "exactly": {"deviceClassName": OTHER, "allocationMode": "All"}}),
    "alternatives of another class": spec(choice(OTHER, "nic.example.com")),
    "nothing": {},
}


def piece(node: str | None, driver: str = "dra.memory") -> dict[str, Any]:
    pool = {"name": "pool", "generation": 1, "resourceSliceCount": 1}
    where = {"nodeName": node} if node else {"allNodes": True}
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "piece"}}
    return {**body, "spec": {"driver": driver, "pool": pool, **where, "devices": [{"name": "device"}]}}


WITH_FABRIC_MEMORY: dict[str, list[dict[str, str]]] = {
    "template": [{"resourceClaimTemplateName": "far"}],
    "own claim": [{"resourceClaimName": "far"}],
    "claim among others": [{"resourceClaimTemplateName": "other"}, {"resourceClaimName": "far"}],
    "template among others": [{"resourceClaimName": "other"}, {"resourceClaimTemplateName": "far"}],
}
"""The claims of a pod, by claim or template of the names `far`, `other` and `empty`."""
WITHOUT_FABRIC_MEMORY: dict[str, list[dict[str, str]]] = {
    "no claim": [],
    "template": [{"resourceClaimTemplateName": "other"}],
    "own claim": [{"resourceClaimName": "other"}],
    "empty template": [{"resourceClaimTemplateName": "empty"}],
    "empty claim": [{"resourceClaimName": "empty"}],
    "unknown template": [{"resourceClaimTemplateName": "not-there"}],
    "unknown claim": [{"resourceClaimName": "not-there"}],
}
UPDATER_WRITES: dict[str, tuple[dict[str, Any], str]] = {
    "ours": ({"capacity": {VIEW: "1Gi"}}, ""),
    "memory": ({"capacity": {"memory": "1Ti"}}, "the updater writes capacity keys of dynamicmemory.dev/ only"),
    "cpu gone": ({"capacity": {"cpu": None}}, "the updater writes capacity keys of dynamicmemory.dev/ only"),
    "allocatable": ({"allocatable": {"memory": "1Ti"}}, "allocatable is the kubelet's"),
    "our condition": ({"conditions": [{"type": "dynamicmemory.dev/DynamicMemoryReady", "status": "True"}]}, ""),
    "Ready": ({"conditions": [{"type": "Ready", "status": "True"}]}, "writes conditions of dynamicmemory.dev/ only"),
    "address": ({"addresses": [{"type": "InternalIP", "address": "10.1.2.3"}]}, "its own condition only"),
}
"""What an updater writes to the status of its node, and the sentence that refuses it; empty: it may."""
