# SPDX-License-Identifier: Apache-2.0
"""What the API server supports, found out at start: served versions, and feature gates by what it stores.

A feature gate that is off is not announced: the server takes an object and leaves the gate's fields out. So a slice
with all the fields that are needed is created as a dry run and read back. If anything is missing, one message says all
of it at once, with what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from dynamic_memory.api.kinds import RESOURCE_SLICES
from dynamic_memory.api.names import ATTACH_FAILED, ATTACHED, DRIVER
from dynamic_memory.api.resource import Device
from dynamic_memory.errors import NeverError
from dynamic_memory.kube.errors import ApiError, Forbidden, Invalid, NotFound
from dynamic_memory.kube.interface import Kube

__all__ = ["MINIMUM", "ServerFacts", "UnsupportedCluster", "check_server", "node_allocatable_form"]

MINIMUM = (1, 36)
NEW_MAPPING = (1, 37)


class ServerFacts(msgspec.Struct, frozen=True):
    """The server's version, (major, minor) and as text, and the features that were seen to work."""

    version: tuple[int, int]
    text: str
    features: frozenset[str]


class UnsupportedCluster(NeverError):
    """The cluster lacks something that this project cannot do without.

    Args:
        problems: sentences, each with what is missing and what to do.

    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(*problems)

    def __str__(self) -> str:
        return "this cluster cannot be used: " + "; ".join(self.problems)


class _Version(msgspec.Struct, rename="camel"):
    major: str = "0"
    minor: str = "0"
    git_version: str = ""


class _Resource(msgspec.Struct):
    name: str


class _ResourceList(msgspec.Struct):
    resources: list[_Resource] = []


_NEEDED: dict[str, Callable[[Device], bool]] = {
    "DRAConsumableCapacity": lambda device: (
        device.allow_multiple_allocations is True and device.capacity["size"].request_policy is not None
    ),
    "DRADeviceBindingConditions": lambda device: (
        device.binding_conditions == [ATTACHED] and device.binds_to_node is True
    ),
    "DRADeviceTaints": lambda device: len(device.taints) == 1,
}


async def check_server(kube: Kube, *, node: str | None = None) -> ServerFacts:
    """Find out what the server supports.

    Args:
        kube: the API server.
        node: the caller's node, if it may write slices of that node only.

    Raises:
        UnsupportedCluster: it is too old, or a feature gate is off.
        ApiError: it does not answer.

    """
    version = msgspec.json.decode(await kube.get_raw("/version"), type=_Version)
    number = int(_digits(version.major)), int(_digits(version.minor))
    problems = []
    if number < MINIMUM:
        problems.append(
            f"it is Kubernetes {version.git_version}, and {MINIMUM[0]}.{MINIMUM[1]} or newer is needed: upgrade it"
        )
    problems += await _served(kube)
    features: frozenset[str] = frozenset()
    if not problems:
        features = await _features(kube, node)
        off = sorted(_NEEDED.keys() - features)
        if off:
            problems.append(
                f"it does not store the fields of {', '.join(off)}: turn these feature gates on, "
                "on kube-apiserver, kube-scheduler and kube-controller-manager"
            )
    if problems:
        raise UnsupportedCluster(problems)
    return ServerFacts(number, version.git_version, features)


async def node_allocatable_form(kube: Kube, node: str) -> Literal["1.36", "1.37"] | None:
    """Find out in which form the server stores the mapping of devices to resources of the node (KEP-5517).

    Args:
        kube: the API server.
        node: the caller's node.

    Returns:
        None if the gate DRANodeAllocatableResources is off, or the server knows neither form.

    Raises:
        ApiError: it does not answer.

    """
    version = msgspec.json.decode(await kube.get_raw("/version"), type=_Version)
    new = (int(_digits(version.major)), int(_digits(version.minor))) >= NEW_MAPPING
    field: dict[str, Any] = (
        {"nodeAllocatableResources": {"memory": {"mapping": {"capacityKey": "size", "capacityMultiplier": "1"}}}}
        if new
        else {"nodeAllocatableResourceMappings": {"memory": {"capacityKey": "size"}}}
    )
    body = _specimen(node)
    device = body["spec"]["devices"][0]
    for name in ("bindsToNode", "bindingConditions", "bindingFailureConditions", "taints"):
        del device[name]
    device |= field
    try:
        stored = (await kube.create(RESOURCE_SLICES, body, dry_run=True)).spec.devices[0]
    except Invalid:
        return None
    if new:
        return "1.37" if stored.node_allocatable_resources else None
    return "1.36" if stored.node_allocatable_resource_mappings else None


async def _served(kube: Kube) -> list[str]:
    try:
        answer = await kube.get_raw("/apis/resource.k8s.io/v1")
    except NotFound:
        return ["it does not serve resource.k8s.io/v1: turn DynamicResourceAllocation on (--runtime-config, gates)"]
    served = {item.name for item in msgspec.json.decode(answer, type=_ResourceList).resources}
    missing = sorted({"resourceclaims", "resourceslices", "deviceclasses"} - served)
    return [f"it does not serve {', '.join(missing)} in resource.k8s.io/v1"] if missing else []


async def _features(kube: Kube, node: str | None) -> frozenset[str]:
    try:
        stored = await kube.create(RESOURCE_SLICES, _specimen(node), dry_run=True)
    except Invalid as error:
        raise UnsupportedCluster([f"it refuses a slice with the fields that are needed: {error.message}"]) from error
    except Forbidden as error:
        raise ApiError(error.code, error.reason, f"ResourceSlices may not be written: {error.message}") from error
    device = stored.spec.devices[0]
    return frozenset(name for name, works in _NEEDED.items() if works(device))


def _specimen(node: str | None) -> dict[str, Any]:
    where = {"nodeName": node} if node is not None else {"allNodes": True}
    policy = {"default": "1", "validRange": {"min": "1", "step": "1"}}
    device = {
        "name": "probe",
        "allowMultipleAllocations": True,
        "bindsToNode": True,
        "bindingConditions": [ATTACHED],
        "bindingFailureConditions": [ATTACH_FAILED],
        "capacity": {"size": {"value": "2", "requestPolicy": policy}},
        "taints": [{"key": "dynamicmemory.dev/probe", "effect": "NoSchedule"}],
    }
    pool = {"name": "probe", "generation": 1, "resourceSliceCount": 1}
    return {
        "metadata": {"generateName": "dynamic-memory-probe-"},
        "spec": {"driver": DRIVER, "pool": pool, **where, "devices": [device]},
    }


def _digits(text: str) -> str:
    found = re.match(r"\d+", text)
    return found.group() if found else "0"
