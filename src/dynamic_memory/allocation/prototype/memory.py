# SPDX-License-Identifier: Apache-2.0
"""Sample memory of any size, as the objects of `resource.k8s.io/v1` that the driver and the controller publish.

For simulations: how does a scheduler fare with ten thousand nodes? Objects are made one after the other, so that the
size of the cluster does not matter to whoever writes them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from msgspec import Struct

from dynamic_memory.api import names
from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import format_bytes

__all__ = ["Fabric", "MemoryShape", "generate_memory"]

VERSION = "resource.k8s.io/v1"
DEVICES_PER_SLICE = 128
"""The most that one ResourceSlice may have."""
BASE_PAGE = 4 << 10
HUGE_PAGES = ("2Mi", "1Gi")
DEFAULT_REQUEST = 1 << 20
"""Bytes of ordinary memory that a request without a size gets."""


class MemoryShape(Struct, frozen=True, kw_only=True):
    """How much memory a made-up cluster has; sizes in bytes.

    Attributes:
        nodes: how many.
        numa: NUMA nodes of each.
        size: plain memory of each NUMA node.
        huge_2m: reserved 2 MiB pages of each NUMA node.
        huge_1g: reserved 1 GiB pages of each NUMA node.
        unit: every size is a multiple of this.
        fabric: memory of the pool of each fabric domain; 0 for no fabric.
        window: what one node can map of it; 0 for all.
        extents: how many pieces of it a node can map.
        nodes_per_domain: how many nodes share a fabric domain.
        prefix: names of nodes begin with it.

    """

    nodes: int
    numa: int = 1
    size: int = 64 << 30
    huge_2m: int = 0
    huge_1g: int = 0
    unit: int = 64 << 20
    fabric: int = 0
    window: int = 0
    extents: int = 64
    nodes_per_domain: int = 16
    prefix: str = "node"

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            InvalidInput: a number is out of range, or a size no multiple of its unit.

        """
        for name, least in (("nodes", 1), ("numa", 1), ("unit", 4096), ("nodes_per_domain", 1), ("extents", 1)):
            if getattr(self, name) < least:
                raise InvalidInput(f"--{name.replace('_', '-')}", f"at least {least}", getattr(self, name))
        steps = (
            ("size", self.unit),
            ("huge_2m", 2 << 20),
            ("huge_1g", 1 << 30),
            ("fabric", self.unit),
            ("window", self.unit),
        )
        for name, step in steps:
            if getattr(self, name) < 0 or getattr(self, name) % step:
                expected = f"a multiple of {format_bytes(step)}, at least 0"
                raise InvalidInput(f"--{name.replace('_', '-')}", expected, format_bytes(getattr(self, name)))


class Fabric(Protocol):
    """Makes the bodies of devices of the fabric, as those publish them who know a real one."""

    def pool(self, shape: MemoryShape, domain: str) -> list[dict[str, Any]]:
        """Return the devices of a domain's pool."""

    def windows(self, shape: MemoryShape, node: str, domain: str) -> list[dict[str, Any]]:
        """Return the windows of a node."""


def generate_memory(
    shape: MemoryShape, fabric: Fabric | None = None, *, classes: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the slices of a cluster, and before them the classes if asked for.

    Args:
        shape: how much there is.
        fabric: makes the devices of the fabric; None: there are none, whatever the shape says.
        classes: whether to begin with the device classes.

    Raises:
        InvalidInput: the shape cannot be.

    """
    shape.check()
    if classes:
        yield from _classes()
    width = max(2, len(str(shape.nodes - 1)))
    for number in range(shape.nodes):
        node = f"{shape.prefix}-{number:0{width}}"
        domain = f"domain-{number // shape.nodes_per_domain}"
        if fabric is not None and shape.fabric and number % shape.nodes_per_domain == 0:
            devices = fabric.pool(shape, domain)
            yield _slice(names.fabric_pool(domain), f"fabric-{domain}", 0, 1, devices, domain=domain)
        devices = list(_local(shape))
        chunks = [devices[start : start + DEVICES_PER_SLICE] for start in range(0, len(devices), DEVICES_PER_SLICE)]
        for index, chunk in enumerate(chunks):
            yield _slice(names.memory_pool(node), f"{node}-mem", index, len(chunks), chunk, node=node)
        if fabric is not None and shape.fabric:
            devices = fabric.windows(shape, node, domain)
            yield _slice(names.windows_pool(node), f"{node}-windows", 0, 1, devices, node=node)


def _slice(
    pool: str, name: str, index: int, count: int, devices: list[dict[str, Any]], *, node: str = "", domain: str = ""
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "driver": names.DRIVER,
        "pool": {"name": pool, "generation": 1, "resourceSliceCount": count},
    }
    if node:
        spec["nodeName"] = node
    else:
        term = {"key": names.FABRIC_DOMAIN_LABEL, "operator": "In", "values": [domain]}
        spec["nodeSelector"] = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    body = {"apiVersion": VERSION, "kind": "ResourceSlice", "metadata": {"name": f"{name}-{index}"}, "spec": spec}
    spec["devices"] = devices
    return body


def _local(shape: MemoryShape) -> Iterator[dict[str, Any]]:
    """Yield the devices of a node, as the driver publishes those of NUMA nodes with processors."""
    for numa in range(shape.numa):
        for page, size in ((BASE_PAGE, shape.size), (2 << 20, shape.huge_2m), (1 << 30, shape.huge_1g)):
            if not size:
                continue
            name = format_bytes(page)
            yield {
                "name": f"numa{numa}-{name.lower()}",
                "allowMultipleAllocations": True,
                "attributes": {
                    names.KIND_ATTRIBUTE: {"string": names.DeviceKind.LOCAL.value},
                    "pageSize": {"string": name},
                    "resource.kubernetes.io/numaNode": {"int": numa},
                    "resource.kubernetes.io/pageSize": {"string": name},
                    "resource.kubernetes.io/hugeTLB": {"bool": page != BASE_PAGE},
                    "dra.cpu/numaNodeID": {"int": numa},
                    "dra.net/numaNode": {"int": numa},
                    "tier": {"string": "dram"},
                    "distance": {"int": 10},
                    "cpus": {"bool": True},
                    "enforced": {"bool": True},
                },
                "capacity": {names.CAPACITY_SIZE: _local_capacity(size, page)},
            }


def _local_capacity(size: int, page: int) -> dict[str, Any]:
    unit = format_bytes(page)
    default = format_bytes(DEFAULT_REQUEST) if page < DEFAULT_REQUEST <= size else unit
    policy: dict[str, Any] = {"default": default, "validRange": {"min": unit, "max": format_bytes(size), "step": unit}}
    if size == page:  # a range needs room for a step
        policy = {"default": unit, "validValues": [unit]}
    return {"value": format_bytes(size), "requestPolicy": policy}


def _classes() -> Iterator[dict[str, Any]]:
    mine = f'device.driver == "{names.DRIVER}" && device.attributes["{names.DRIVER}"]'
    local = f'{mine}.kind == "{names.DeviceKind.LOCAL}" && device.attributes["resource.kubernetes.io"].hugeTLB'
    many = "device.allowMultipleAllocations == true"
    yield _class(names.CLASS_MEMORY, f"{local} == false && {many}")
    for page in HUGE_PAGES:
        size = f'device.attributes["{names.DRIVER}"].pageSize == "{page}"'
        yield _class(names.class_of_page(page), f"{local} == true && {size} && {many}")
    yield _class(names.CLASS_FABRIC, f'{mine}.kind == "{names.DeviceKind.FABRIC.value}"')
    yield _class(names.CLASS_WINDOW, f'{mine}.kind == "{names.DeviceKind.WINDOW.value}"')


def _class(name: str, expression: str) -> dict[str, Any]:
    selectors = [{"cel": {"expression": expression}}]
    return {"apiVersion": VERSION, "kind": "DeviceClass", "metadata": {"name": name}, "spec": {"selectors": selectors}}
