# SPDX-License-Identifier: Apache-2.0
"""Wire types of `resource.k8s.io/v1`, Kubernetes 1.37, with the one field that only 1.36 has.

Source: the API types of Kubernetes 1.36 and 1.37. Names without a domain belong to the driver's domain; quantities are
text (see `dynamic_memory.quantity`); times are RFC 3339 strings.
"""

from typing import Any

from msgspec import field

from dynamic_memory.api.core import NodeSelector, Toleration
from dynamic_memory.api.meta import Condition, ObjectMeta
from dynamic_memory.api.wire import QuantityText, Wire

__all__ = [
    "AllocatedDeviceStatus",
    "AllocationResult",
    "CELDeviceSelector",
    "CapacityRequestPolicy",
    "CapacityRequestPolicyRange",
    "CapacityRequirements",
    "Counter",
    "CounterSet",
    "DerivedAttribute",
    "Device",
    "DeviceAllocationConfiguration",
    "DeviceAllocationResult",
    "DeviceAttribute",
    "DeviceCapacity",
    "DeviceClaim",
    "DeviceClaimConfiguration",
    "DeviceClass",
    "DeviceClassConfiguration",
    "DeviceClassSpec",
    "DeviceConstraint",
    "DeviceCounterConsumption",
    "DeviceRequest",
    "DeviceRequestAllocationResult",
    "DeviceSelector",
    "DeviceSubRequest",
    "DeviceTaint",
    "ExactDeviceRequest",
    "NodeAllocatableMapping",
    "NodeAllocatableMapping136",
    "NodeAllocatableOverhead",
    "NodeAllocatableResource",
    "OpaqueDeviceConfiguration",
    "ResourceClaim",
    "ResourceClaimConsumerReference",
    "ResourceClaimSpec",
    "ResourceClaimStatus",
    "ResourceClaimTemplate",
    "ResourceClaimTemplateSpec",
    "ResourcePool",
    "ResourceSlice",
    "ResourceSliceSpec",
]

# --- ResourceSlice


class DeviceAttribute(Wire, frozen=True, kw_only=True):
    """Exactly one field is set; lists are alpha since 1.36 (gate DRAListTypeAttributes)."""

    int_: int | None = field(default=None, name="int")
    bool_: bool | None = field(default=None, name="bool")
    string: str | None = None
    version: str | None = None
    ints: list[int] | None = None
    bools: list[bool] | None = None
    strings: list[str] | None = None
    versions: list[str] | None = None


class CapacityRequestPolicyRange(Wire, frozen=True, kw_only=True):
    """`min`, `min + step`, … up to `max`; without max, up to the capacity's value."""

    min: QuantityText
    max: QuantityText | None = None
    step: QuantityText | None = None


class CapacityRequestPolicy(Wire, frozen=True, kw_only=True):
    """How a request for a share of a capacity is rounded (KEP-5075)."""

    default: QuantityText | None = None
    valid_values: list[QuantityText] = []
    valid_range: CapacityRequestPolicyRange | None = None


class DeviceCapacity(Wire, frozen=True, kw_only=True):
    """One capacity of a device."""

    value: QuantityText
    request_policy: CapacityRequestPolicy | None = None


class Counter(Wire, frozen=True, kw_only=True):
    """One counter of a set, or what a device takes of it."""

    value: QuantityText


class CounterSet(Wire, frozen=True, kw_only=True):
    """Counters that several devices of a pool share (KEP-4815)."""

    name: str
    counters: dict[str, Counter] = {}


class DeviceCounterConsumption(Wire, frozen=True, kw_only=True):
    """What a device takes of a counter set while it is allocated."""

    counter_set: str
    counters: dict[str, Counter] = {}
    compatibility_groups: list[str] = []


class DeviceTaint(Wire, frozen=True, kw_only=True):
    """A reason not to use a device (KEP-5055); effect is None, NoSchedule or NoExecute."""

    key: str
    effect: str
    value: str = ""
    time_added: str | None = None


class NodeAllocatableMapping(Wire, frozen=True, kw_only=True):
    """1.37: how much of a node-allocatable resource the device stands for."""

    capacity_key: str | None = None
    capacity_multiplier: QuantityText | None = None
    device_multiplier: QuantityText | None = None


class NodeAllocatableOverhead(Wire, frozen=True, kw_only=True):
    """1.37: what each pod or container pays on top."""

    per_pod: QuantityText | None = None
    per_container: QuantityText | None = None


class NodeAllocatableResource(Wire, frozen=True, kw_only=True):
    """1.37 form of KEP-5517, keyed by the name of a node resource."""

    mapping: NodeAllocatableMapping | None = None
    overhead: NodeAllocatableOverhead | None = None


class NodeAllocatableMapping136(Wire, frozen=True, kw_only=True):
    """1.36 form of KEP-5517, keyed by the name of a node resource."""

    capacity_key: str | None = None
    allocation_multiplier: QuantityText | None = None


class Device(Wire, frozen=True, kw_only=True):
    """One device of a slice."""

    name: str
    attributes: dict[str, DeviceAttribute] = {}
    capacity: dict[str, DeviceCapacity] = {}
    consumes_counters: list[DeviceCounterConsumption] = []
    node_name: str | None = None
    node_selector: NodeSelector | None = None
    all_nodes: bool | None = None
    taints: list[DeviceTaint] = []
    binds_to_node: bool | None = None
    binding_conditions: list[str] = []
    binding_failure_conditions: list[str] = []
    allow_multiple_allocations: bool | None = None
    node_allocatable_resource_mappings: dict[str, NodeAllocatableMapping136] = {}
    node_allocatable_resources: dict[str, NodeAllocatableResource] = {}


class ResourcePool(Wire, frozen=True, kw_only=True):
    """The pool that a slice is part of; only the newest complete generation counts."""

    name: str
    generation: int = 0
    resource_slice_count: int


class ResourceSliceSpec(Wire, frozen=True, kw_only=True):
    """Devices, or shared counters, of one pool that one set of nodes can reach."""

    driver: str
    pool: ResourcePool
    node_name: str | None = None
    node_selector: NodeSelector | None = None
    all_nodes: bool | None = None
    per_device_node_selection: bool | None = None
    devices: list[Device] = []
    shared_counters: list[CounterSet] = []
    partition_type_attribute: str | None = None
    skip_node_operations: list[str] = []


class ResourceSlice(Wire, frozen=True, kw_only=True):
    """A part of a pool; cluster-scoped."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ResourceSliceSpec


# --- DeviceClass


class CELDeviceSelector(Wire, frozen=True, kw_only=True):
    """A CEL expression over `device` that must be true."""

    expression: str


class DeviceSelector(Wire, frozen=True, kw_only=True):
    """One condition on a device; CEL is the only form."""

    cel: CELDeviceSelector | None = None


class OpaqueDeviceConfiguration(Wire, frozen=True, kw_only=True):
    """Parameters that only the named driver understands (at most 10 KiB)."""

    driver: str
    parameters: Any = None


class DeviceClassConfiguration(Wire, frozen=True, kw_only=True):
    """Configuration that a class adds to every claim that uses it."""

    opaque: OpaqueDeviceConfiguration | None = None


class DeviceClassSpec(Wire, frozen=True, kw_only=True):
    """What devices of the class are like."""

    selectors: list[DeviceSelector] = []
    config: list[DeviceClassConfiguration] = []
    extended_resource_name: str | None = None


class DeviceClass(Wire, frozen=True, kw_only=True):
    """A kind of device that users ask for by name; cluster-scoped."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: DeviceClassSpec = field(default_factory=DeviceClassSpec)


# --- ResourceClaim


class CapacityRequirements(Wire, frozen=True, kw_only=True):
    """How much of each capacity is wanted; keys must equal those of the slice, to the letter."""

    requests: dict[str, QuantityText] = {}


class DerivedAttribute(Wire, frozen=True, kw_only=True):
    """A virtual attribute for constraints (alpha in 1.37, KEP-6080)."""

    name: str
    expression: str


class ExactDeviceRequest(Wire, frozen=True, kw_only=True):
    """A request for devices of one class."""

    device_class_name: str
    selectors: list[DeviceSelector] = []
    allocation_mode: str = ""
    count: int = 0
    admin_access: bool | None = None
    tolerations: list[Toleration] = []
    capacity: CapacityRequirements | None = None
    derived_attributes: list[DerivedAttribute] = []


class DeviceSubRequest(Wire, frozen=True, kw_only=True):
    """One alternative of a prioritized list (KEP-4816)."""

    name: str
    device_class_name: str
    selectors: list[DeviceSelector] = []
    allocation_mode: str = ""
    count: int = 0
    tolerations: list[Toleration] = []
    capacity: CapacityRequirements | None = None
    derived_attributes: list[DerivedAttribute] = []


class DeviceRequest(Wire, frozen=True, kw_only=True):
    """Exactly one of `exactly` and `first_available` is set."""

    name: str
    exactly: ExactDeviceRequest | None = None
    first_available: list[DeviceSubRequest] = []


class DeviceConstraint(Wire, frozen=True, kw_only=True):
    """A condition over all devices of the named requests (of all requests, if none is named)."""

    requests: list[str] = []
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class DeviceClaimConfiguration(Wire, frozen=True, kw_only=True):
    """Configuration for the named requests (for all, if none is named)."""

    requests: list[str] = []
    opaque: OpaqueDeviceConfiguration | None = None


class DeviceClaim(Wire, frozen=True, kw_only=True):
    """What is asked for."""

    requests: list[DeviceRequest] = []
    constraints: list[DeviceConstraint] = []
    config: list[DeviceClaimConfiguration] = []


class ResourceClaimSpec(Wire, frozen=True, kw_only=True):
    """Immutable once created."""

    devices: DeviceClaim = field(default_factory=DeviceClaim)


class DeviceRequestAllocationResult(Wire, frozen=True, kw_only=True):
    """One allocated device, or a share of one; (driver, pool, device, shareID) is its identity."""

    request: str
    driver: str
    pool: str
    device: str
    admin_access: bool | None = None
    tolerations: list[Toleration] = []
    binding_conditions: list[str] = []
    binding_failure_conditions: list[str] = []
    share_id: str | None = field(default=None, name="shareID")
    consumed_capacity: dict[str, QuantityText] = {}
    skip_node_operations: list[str] = []


class DeviceAllocationConfiguration(Wire, frozen=True, kw_only=True):
    """Configuration as it was when the claim was allocated; source is FromClass or FromClaim."""

    source: str = ""
    requests: list[str] = []
    opaque: OpaqueDeviceConfiguration | None = None


class DeviceAllocationResult(Wire, frozen=True, kw_only=True):
    """At most 32 results."""

    results: list[DeviceRequestAllocationResult] = []
    config: list[DeviceAllocationConfiguration] = []


class AllocationResult(Wire, frozen=True, kw_only=True):
    """Where the claim can be used and with what; set or unset, never modified while set."""

    devices: DeviceAllocationResult = field(default_factory=DeviceAllocationResult)
    node_selector: NodeSelector | None = None
    allocation_timestamp: str | None = None


class ResourceClaimConsumerReference(Wire, frozen=True, kw_only=True):
    """Who may use the claim."""

    api_group: str = ""
    resource: str
    name: str
    uid: str


class AllocatedDeviceStatus(Wire, frozen=True, kw_only=True):
    """What a driver says about one allocated device; the key is (driver, device, pool, shareID)."""

    driver: str
    pool: str
    device: str
    share_id: str | None = field(default=None, name="shareID")
    conditions: list[Condition] = []
    data: Any = None


class ResourceClaimStatus(Wire, frozen=True, kw_only=True):
    """Allocation, users, and the state of the devices."""

    allocation: AllocationResult | None = None
    reserved_for: list[ResourceClaimConsumerReference] = []
    devices: list[AllocatedDeviceStatus] = []


class ResourceClaim(Wire, frozen=True, kw_only=True):
    """A claim; namespaced."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ResourceClaimSpec = field(default_factory=ResourceClaimSpec)
    status: ResourceClaimStatus = field(default_factory=ResourceClaimStatus)


class ResourceClaimTemplateSpec(Wire, frozen=True, kw_only=True):
    """What the claims made from the template are like."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ResourceClaimSpec = field(default_factory=ResourceClaimSpec)


class ResourceClaimTemplate(Wire, frozen=True, kw_only=True):
    """A template from which each pod gets a claim of its own; namespaced."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ResourceClaimTemplateSpec = field(default_factory=ResourceClaimTemplateSpec)
