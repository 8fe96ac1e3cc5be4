# SPDX-License-Identifier: Apache-2.0
"""The names by which this project is known in a cluster, in one place.

Driver and attribute names belong to the driver's domain `dra.memory`; labels, conditions, annotations and the extended
resource belong to `dynamicmemory.dev`. Attributes and capacity keys stand unqualified in slices; a claim's constraint
has to write the domain (`dra.memory/fabricDomain`).
"""

from __future__ import annotations

import enum

__all__ = [
    "ATTACHED",
    "ATTACH_FAILED",
    "CAPACITY_EXTENTS",
    "CAPACITY_SIZE",
    "CLASS_FABRIC",
    "CLASS_MEMORY",
    "CLASS_WINDOW",
    "DOMAIN",
    "DRIVER",
    "EXTENDED_RESOURCE",
    "FABRIC_DOMAIN_ATTRIBUTE",
    "FABRIC_DOMAIN_LABEL",
    "KIND_ATTRIBUTE",
    "MANAGER_CONTROLLER",
    "MANAGER_DRIVER",
    "MANAGER_UPDATER",
    "NODE_CONDITION",
    "SIGNER",
    "TOUCHED_ANNOTATION",
    "DeviceKind",
    "Reason",
    "class_of_page",
    "fabric_domain_of",
    "fabric_pool",
    "memory_pool",
    "windows_pool",
]

DRIVER = "dra.memory"
DOMAIN = "dynamicmemory.dev"

ATTACHED = f"{DOMAIN}/Attached"
ATTACH_FAILED = f"{DOMAIN}/AttachFailed"
NODE_CONDITION = f"{DOMAIN}/DynamicMemoryReady"
FABRIC_DOMAIN_LABEL = f"{DOMAIN}/fabric-domain"
TOUCHED_ANNOTATION = f"{DOMAIN}/touched"
EXTENDED_RESOURCE = f"{DOMAIN}/memory"
SIGNER = f"{DOMAIN}/fabric-client"

CLASS_FABRIC = "dra.fabric-memory"
CLASS_WINDOW = "dra.fabric-window"
CLASS_MEMORY = "dra.memory"
CAPACITY_SIZE = "size"
CAPACITY_EXTENTS = "extents"
KIND_ATTRIBUTE = "kind"
FABRIC_DOMAIN_ATTRIBUTE = "fabricDomain"

MANAGER_DRIVER = "dynamic-memory-driver"
MANAGER_CONTROLLER = "dynamic-memory-controller"
MANAGER_UPDATER = "dynamic-memory-updater"


class DeviceKind(enum.StrEnum):
    """Value of the attribute `kind` of every device of ours."""

    LOCAL = "local"
    FABRIC = "fabric"
    WINDOW = "window"


class Reason(enum.StrEnum):
    """Reasons of the conditions Attached and AttachFailed; a closed list, so that people can look each of them up."""

    WAITING_FOR_FABRIC = "WaitingForFabric"
    """The share is allocated and the service has been, or is being, asked."""
    WAITING_FOR_RELEASE = "WaitingForRelease"
    """The bytes are still held by a share that is being released."""
    FABRIC_UNREACHABLE = "FabricUnreachable"
    """The Dynamic Memory Service does not answer; it is tried again."""
    WAITING_FOR_MEMORY = "WaitingForMemory"
    """The fabric has composed the extents; the host does not see all of them yet."""
    ONLINING = "Onlining"
    """The host makes its new memory blocks available."""
    EXTENT_ONLINE = "ExtentOnline"
    """All bytes are online on the node."""
    RELEASING = "Releasing"
    """The share is on its way back to the pool."""
    MEMORY_BUSY = "MemoryBusy"
    """Memory blocks cannot be taken offline yet; it is tried again."""
    REBOOTED = "NodeRebooted"
    """The node restarted: its memory is attached again."""
    REFUSED = "Refused"
    """The service or the driver refuses this claim for good; the message says why."""
    NO_CAPACITY = "NoCapacity"
    """The pool device has fewer bytes than it published."""
    WINDOW_EXHAUSTED = "WindowExhausted"
    """The host can map no more bytes or extents."""
    ATTACH_FAILED = "FabricError"
    """The fabric could not attach the memory."""
    ONLINE_FAILED = "OnlineFailed"
    """The host could not make the memory available."""
    INVALID_CLAIM = "InvalidClaim"
    """The claim is not one that this driver accepts."""


def fabric_pool(domain: str) -> str:
    """Name of the pool of a fabric domain."""
    return f"fabric/{domain}"


def fabric_domain_of(pool: str) -> str | None:
    """Fabric domain of a pool name, or None if the pool is not a fabric's."""
    prefix, _, domain = pool.partition("/")
    return domain if prefix == "fabric" and domain else None


def windows_pool(node: str) -> str:
    """Name of the pool of a node's windows."""
    return f"{node}/windows"


def memory_pool(node: str) -> str:
    """Name of the pool of a node's own memory."""
    return f"{node}/mem"


def class_of_page(page: str) -> str:
    """Name of the device class for huge pages of a size (`2Mi`): `dra.hugepages-2m`."""
    return f"dra.hugepages-{page.lower().removesuffix('i')}"
