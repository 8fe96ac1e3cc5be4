# SPDX-License-Identifier: Apache-2.0
"""Wire types of generation v0: nodes as pools of capacities, and what a pod asks of them.

They have neither apiVersion nor kind. A nodes file is a list of `NodeResources`, a claim file one `PodCapacityClaim`.
"""

from msgspec import Struct, field

from dynamic_memory.allocation.prototype.types import Attribute
from dynamic_memory.quantity import Quantity

__all__ = [
    "AccessModes",
    "AccessRequest",
    "Block",
    "Capacity",
    "CapacityClaim",
    "CapacityRequest",
    "Counter",
    "CounterRequest",
    "NodeResources",
    "PodCapacityClaim",
    "QuantityCapacity",
    "QuantityRequest",
    "Resource",
    "ResourceClaim",
    "ResourcePool",
    "Topology",
    "TopologyConstraint",
]


class _Strict(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Base: immutable, camelCase on the wire, unknown fields refused."""


class Topology(_Strict, frozen=True, kw_only=True):
    """A place that capacity belongs to: the NUMA node numa-0, a PCI root, a network.

    Parts of one capacity at different places are one amount that may be split, unless `group_in_resource` is false.
    """

    name: str
    type: str
    group_in_resource: bool | None = None


class Counter(_Strict, frozen=True, kw_only=True):
    """A number of things."""

    capacity: int


class QuantityCapacity(_Strict, frozen=True, kw_only=True):
    """An amount of which any part can be had."""

    capacity: Quantity


class Block(_Strict, frozen=True, kw_only=True):
    """An amount of which whole blocks can be had."""

    size: Quantity
    capacity: Quantity


class AccessModes(_Strict, frozen=True, kw_only=True):
    """How something may be accessed, and how many do so in each way."""

    allow_read_only_shared: bool = False
    allow_read_write_shared: bool = False
    allow_write_exclusive: bool = False
    read_only_shared: int = 0
    read_write_shared: int = 0
    write_exclusive: int = 0
    read_write_exclusive: int = 0


class Capacity(_Strict, frozen=True, kw_only=True):
    """One capacity of a resource, or its part at some place."""

    name: str
    topologies: list[Topology] = []
    counter: Counter | None = None
    quantity: QuantityCapacity | None = None
    block: Block | None = None
    access_mode: AccessModes | None = None

    def __post_init__(self) -> None:
        """Refuse none or several kinds, and blocks of nothing."""
        if sum(kind is not None for kind in (self.counter, self.quantity, self.block, self.access_mode)) != 1:
            raise ValueError("a capacity needs one of counter, quantity, block, accessMode")
        if self.block is not None and self.block.size.sign <= 0:
            raise ValueError("a block needs a size of more than 0")


class Resource(_Strict, frozen=True, kw_only=True):
    """Capacities that belong together: a device, or what the kubelet has."""

    name: str
    attributes: list[Attribute] = []
    capacities: list[Capacity] = []


class ResourcePool(_Strict, frozen=True, kw_only=True):
    """Resources of one driver."""

    name: str
    driver: str = ""
    attributes: list[Attribute] = []
    resources: list[Resource] = []


class NodeResources(_Strict, frozen=True, kw_only=True):
    """All that a node has."""

    name: str
    pools: list[ResourcePool] = []


class TopologyConstraint(_Strict, frozen=True, kw_only=True):
    """All that is asked for should (`prefer`) or has to (`require`) come from one place of a type."""

    type: str
    policy: str = "prefer"

    def __post_init__(self) -> None:
        """Refuse other policies."""
        if self.policy not in {"prefer", "require"}:
            raise ValueError("policy has to be prefer or require")


class CounterRequest(_Strict, frozen=True, kw_only=True):
    """So many."""

    request: int


class QuantityRequest(_Strict, frozen=True, kw_only=True):
    """So much; from a quantity or from blocks."""

    request: Quantity


class AccessRequest(_Strict, frozen=True, kw_only=True):
    """Access in a mode (ReadOnlyShared, ReadWriteShared, WriteExclusive, ReadWriteExclusive), or a stronger one."""

    request: str


class CapacityRequest(_Strict, frozen=True, kw_only=True):
    """What is asked of the capacity of a name."""

    capacity: str
    counter: CounterRequest | None = None
    quantity: QuantityRequest | None = None
    access_mode: AccessRequest | None = None

    def __post_init__(self) -> None:
        """Refuse none or several kinds, and less than nothing."""
        if sum(kind is not None for kind in (self.counter, self.quantity, self.access_mode)) != 1:
            raise ValueError("a request needs one of counter, quantity, accessMode")
        if (self.counter is not None and self.counter.request < 0) or (
            self.quantity is not None and self.quantity.request.sign < 0
        ):
            raise ValueError("a request is at least 0")


class ResourceClaim(_Strict, frozen=True, kw_only=True):
    """What one resource of one pool has to give."""

    name: str
    driver: str = ""
    constraints: str | None = None
    topologies: list[TopologyConstraint] = []
    capacities: list[CapacityRequest] = []


class CapacityClaim(_Strict, frozen=True, kw_only=True):
    """The claims of the pod itself, or of one container."""

    name: str = ""
    claims: list[ResourceClaim] = []
    topologies: list[TopologyConstraint] = []


class PodCapacityClaim(_Strict, frozen=True, kw_only=True):
    """All that a pod asks for."""

    pod_claim: CapacityClaim = field(default_factory=CapacityClaim)
    container_claims: list[CapacityClaim] = []
    topologies: list[TopologyConstraint] = []
