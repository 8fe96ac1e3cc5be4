# SPDX-License-Identifier: Apache-2.0
"""The node's own memory as Kubernetes sees it: one device for each NUMA node and size of page.

Names follow from node and page alone (`numa0-4ki`, `numa2-2mi`), so that they are the same after every start: what the
scheduler has given away is kept by the name of the device. Ordinary memory is what the node has, less its pools of huge
pages, what is reserved by configuration, and what belongs to a fabric.

A device is never offered with less than what is taken of it: then it keeps what is taken and gets a taint, so that
nothing more is. The request policy follows the value (KEP-5075: `min + step <= value`). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec

from dynamic_memory.api import names
from dynamic_memory.driver.grants import page_text
from dynamic_memory.host.topology import LocalNode, Topology
from dynamic_memory.quantity import format_bytes, parse_bytes

__all__ = [
    "OVERCOMMITTED_TAINT",
    "LocalDevice",
    "MappingForm",
    "attributes_of",
    "device_bodies",
    "device_name",
    "local_devices",
]

OVERCOMMITTED_TAINT = f"{names.DOMAIN}/overcommitted"
ENFORCED_ATTRIBUTE = "enforced"
"""Whether containers are held to what they claim of a device, for selectors and for people."""
STANDARD = "resource.kubernetes.io"
DEFAULT_REQUEST = 1 << 20
DRAM_TIER = 4
MappingForm = Literal["1.36", "1.37"]
"""The form in which KEP-5517 maps a device to a resource of the node."""
_NAME = re.compile(r"numa(?P<numa>\d+)-(?P<page>\d+(?:k|m|g|t)i)")


class LocalDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One device.

    Attributes:
        name: `numa<node>-<page>`.
        numa: NUMA node.
        page: bytes of a huge page; 0 for ordinary memory.
        unit: bytes that every amount is a multiple of: a page.
        size: bytes that the node has for claims.
        node: what else is known of the NUMA node; None if it is not there any more.

    """

    name: str
    numa: int
    page: int
    unit: int
    size: int
    node: LocalNode | None = None


def device_name(numa: int, page: int) -> str:
    """Return the name of the device of a NUMA node and a size of page in bytes (of ordinary pages as well)."""
    return f"numa{numa}-{page_text(page).lower()}"


def local_devices(topology: Topology, reserved: Mapping[int, int]) -> dict[str, LocalDevice]:
    """Return the devices of a machine by name; what has no bytes is left out.

    Args:
        topology: the machine.
        reserved: bytes of each node that are not for claims.

    """
    found: list[LocalDevice] = []
    for node in topology.nodes:
        base = topology.base_page
        left = node.total - node.fabric - node.hugetlb - reserved.get(node.id, 0)
        size = max(left, 0) // base * base
        found.append(
            LocalDevice(name=device_name(node.id, base), numa=node.id, page=0, unit=base, size=size, node=node)
        )
        found.extend(
            LocalDevice(
                name=device_name(node.id, pool.page),
                numa=node.id,
                page=pool.page,
                unit=pool.page,
                size=pool.size,
                node=node,
            )
            for pool in node.pools
        )
    return {device.name: device for device in found if device.size}


def device_bodies(
    devices: Iterable[LocalDevice],
    taken: Mapping[str, int],
    *,
    base_page: int,
    since: Mapping[str, str],
    mapping: MappingForm | None = None,
    simulated: bool = False,
    held: Callable[[LocalDevice], bool] | None = None,
) -> list[dict[str, Any]]:
    """Return the bodies of the devices for a slice, by node and page.

    Args:
        devices: what the machine has.
        taken: bytes that claims hold, by name; also of devices that are not there any more.
        base_page: bytes of an ordinary page.
        since: RFC 3339 times of the taints, by name of the device.
        mapping: write the KEP-5517 mapping in this form.
        simulated: the machine is made of files.
        held: tells whether containers are held to claims of a device.

    """
    by_name = {device.name: device for device in devices}
    for name, size in taken.items():
        if size and name not in by_name and (gone := _gone(name, base_page)) is not None:
            by_name[name] = gone
    ordered = sorted(by_name.values(), key=lambda device: (device.numa, device.unit))
    return [
        _body(
            device,
            taken.get(device.name, 0),
            since.get(device.name, ""),
            mapping=mapping,
            attributes=attributes_of(device, simulated=simulated, held=held),
        )
        for device in ordered
    ]


def _gone(name: str, base_page: int) -> LocalDevice | None:
    """Return a device of which only the name is left."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    unit = parse_bytes(match["page"][:-2] + match["page"][-2:].capitalize())
    return LocalDevice(name=name, numa=int(match["numa"]), page=0 if unit == base_page else unit, unit=unit, size=0)


def _body(
    device: LocalDevice, taken: int, since: str, *, mapping: MappingForm | None, attributes: dict[str, Any]
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": device.name,
        "allowMultipleAllocations": True,
        "attributes": attributes,
        "capacity": {names.CAPACITY_SIZE: _capacity(max(device.size, taken), device)},
    }
    if mapping is not None:
        resource = f"hugepages-{page_text(device.page)}" if device.page else "memory"
        body |= _mapping(resource, mapping)
    if taken > device.size:
        body["taints"] = [{"key": OVERCOMMITTED_TAINT, "effect": "NoSchedule", "timeAdded": since}]
    return body


def attributes_of(
    device: LocalDevice, *, simulated: bool = False, held: Callable[[LocalDevice], bool] | None = None
) -> dict[str, Any]:
    """Return the attributes of a device, as they are published."""
    page = page_text(device.unit)
    found: dict[str, Any] = {
        names.KIND_ATTRIBUTE: {"string": names.DeviceKind.LOCAL.value},
        "pageSize": {"string": page},
        f"{STANDARD}/numaNode": {"int": device.numa},
        f"{STANDARD}/pageSize": {"string": page},
        f"{STANDARD}/hugeTLB": {"bool": bool(device.page)},
        "dra.cpu/numaNodeID": {"int": device.numa},
        "dra.net/numaNode": {"int": device.numa},
    }
    node = device.node
    if node is not None:
        found |= {"tier": {"string": _tier(node)}, "distance": {"int": node.distance}, "cpus": {"bool": node.cpus}}
        optional = {"memoryTier": node.tier, "latencyNs": node.latency, "bandwidthMBs": node.bandwidth}
        found |= {name: {"int": value} for name, value in optional.items() if value is not None}
    if held is not None:
        found[ENFORCED_ATTRIBUTE] = {"bool": held(device)}
    if simulated:
        found["simulated"] = {"bool": True}
    return found


def _tier(node: LocalNode) -> str:
    """Return `dram` for memory of processors; of a node without them, `hbm` if the kernel ranks it above, else `cxl`.

    The kernel puts ordinary memory into tier 4 (its abstract distance 576 in chunks of 128): lower is faster.
    """
    if node.cpus:
        return "dram"
    return "hbm" if node.tier is not None and node.tier < DRAM_TIER else "cxl"


def _capacity(size: int, device: LocalDevice) -> dict[str, Any]:
    unit = device.unit
    if size >= 2 * unit:
        default = DEFAULT_REQUEST if not device.page and size >= DEFAULT_REQUEST >= unit else unit
        low, high = format_bytes(unit), format_bytes(size)
        policy = {"default": format_bytes(default), "validRange": {"min": low, "max": high, "step": low}}
    else:  # one page: a range needs room for a step
        policy = {"default": format_bytes(unit), "validValues": [format_bytes(unit)]}
    return {"value": format_bytes(size), "requestPolicy": policy}


def _mapping(resource: str, form: MappingForm) -> dict[str, Any]:
    key = names.CAPACITY_SIZE
    if form == "1.36":
        return {"nodeAllocatableResourceMappings": {resource: {"capacityKey": key}}}
    return {"nodeAllocatableResources": {resource: {"mapping": {"capacityKey": key, "capacityMultiplier": "1"}}}}
