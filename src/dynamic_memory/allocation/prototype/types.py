# SPDX-License-Identifier: Apache-2.0
"""Wire types of the prototype's generations v1, v2 and v2.1 (`devmgmtproto.k8s.io/v1alpha1`).

They are strict: what the lenient loader repairs is gone before these types see it. Where generations share a kind, one
type has the fields of both; `DeviceClaim` and `DevicePool` tell which one they are.
"""

from typing import Any

from msgspec import Struct, field

from dynamic_memory.api.meta import LabelSelector, ObjectMeta
from dynamic_memory.quantity import Quantity

__all__ = [
    "GROUP",
    "Allocation",
    "AmountAllocation",
    "Attribute",
    "ClaimStatus",
    "ConfigRef",
    "DeviceClaim",
    "DeviceClaimDetail",
    "DeviceClaimInstance",
    "DeviceClaimSpec",
    "DeviceClaimTemplate",
    "DeviceClass",
    "DeviceClassDefinition",
    "DeviceClassSpec",
    "DeviceDriver",
    "DevicePool",
    "DevicePoolSpec",
    "DevicePrivilegedClaim",
    "DeviceSetClaim",
    "PoolDevice",
    "PoolResource",
    "Value",
]

GROUP = "devmgmtproto.k8s.io"

Value = tuple[str, object]
"""An attribute's type and value; two values are equal only if both are."""


class _Strict(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Base: immutable, camelCase on the wire, unknown fields refused."""


class _Object(_Strict, frozen=True, kw_only=True):
    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = field(default_factory=ObjectMeta)


class Attribute(_Strict, frozen=True, kw_only=True):
    """A named value of exactly one type."""

    name: str
    string_value: str | None = None
    int_value: int | None = None
    quantity_value: Quantity | None = None
    sem_ver_value: str | None = None

    def __post_init__(self) -> None:
        """Refuse none or several values."""
        values = (self.string_value, self.int_value, self.quantity_value, self.sem_ver_value)
        if sum(value is not None for value in values) != 1:
            raise ValueError("an attribute needs one of stringValue, intValue, quantityValue, semVerValue")

    @property
    def value(self) -> Value:
        """The type and the value."""
        if self.string_value is not None:
            return "string", self.string_value
        if self.int_value is not None:
            return "int", self.int_value
        if self.quantity_value is not None:
            return "quantity", self.quantity_value
        return "semver", self.sem_ver_value


class ConfigRef(_Strict, frozen=True, kw_only=True):
    """An object with configuration of a vendor."""

    api_version: str = ""
    kind: str
    name: str
    namespace: str = ""


# --- v2 claims


class DeviceClassDefinition(_Strict, frozen=True, kw_only=True):
    """A leaf class: what the devices of one driver have in common. `device_type` is of v1."""

    driver: str = ""
    device_type: str = ""
    constraints: str | None = None
    configs: list[ConfigRef] = []
    min_device_count: int | None = None
    max_device_count: int | None = None
    match_attributes: list[str] = []


class DeviceClassSpec(_Strict, frozen=True, kw_only=True):
    """Either a selector of other classes, or a definition."""

    selector: LabelSelector | None = None
    definition: DeviceClassDefinition | None = None

    def __post_init__(self) -> None:
        """Refuse none or both."""
        if (self.selector is None) == (self.definition is None):
            raise ValueError("a class needs either a selector or a definition")


class DeviceClass(_Object, frozen=True, kw_only=True):
    """A preset for claims; cluster-scoped."""

    spec: DeviceClassSpec
    status: dict[str, Any] = {}


class DeviceClaimDetail(_Strict, frozen=True, kw_only=True):
    """What is asked of one class of devices."""

    class_: str = field(name="class")
    admin_access: bool = False
    constraints: str | None = None
    requests: dict[str, Quantity] = {}
    max_devices: int | None = None
    match_attributes: list[str] = []
    distinct_attributes: list[str] = []
    allow_shared: bool = False
    configs: list[ConfigRef] = []


class DeviceClaimInstance(_Strict, frozen=True, kw_only=True):
    """What a container refers to by name: all of `all_of`, and the first possible of `one_of`."""

    name: str
    all_of: list[DeviceClaimDetail] = []
    one_of: list[DeviceClaimDetail] = []

    def __post_init__(self) -> None:
        """Refuse an instance that asks for nothing."""
        if not self.all_of and not self.one_of:
            raise ValueError("an instance needs allOf or oneOf")


class DeviceClaimSpec(_Strict, frozen=True, kw_only=True):
    """v2: `devices`, `match_attributes`. v1: all the others, `match_attributes` too."""

    match_attributes: list[str] = []
    devices: list[DeviceClaimInstance] = []
    device_class: str = ""
    driver: str = ""
    constraints: str | None = None
    min_device_count: int | None = None
    max_device_count: int | None = None
    configs: list[ConfigRef] = []

    @property
    def counts_devices(self) -> bool:
        """Of v1: it names a class and a count, not devices."""
        return not self.devices and bool(self.device_class)

    def __post_init__(self) -> None:
        """Refuse what belongs to neither generation, or to both."""
        if bool(self.devices) == bool(self.device_class):
            raise ValueError("a claim needs either devices or deviceClass")
        names = [instance.name for instance in self.devices]
        if len(set(names)) != len(names):
            raise ValueError("the names of devices must differ")


class AmountAllocation(_Strict, frozen=True, kw_only=True):
    """How much of a resource a claim has of a device."""

    name: str
    allocation: Quantity


class Allocation(_Strict, frozen=True, kw_only=True):
    """One device of a claim (v2), or a number of devices of a pool (v1)."""

    device_pool_name: str
    device_name: str = ""
    device_count: int = 0
    allocations: list[AmountAllocation] = []


class ClaimStatus(_Strict, frozen=True, kw_only=True):
    """What the scheduler (and, for `device_statuses`, the driver) wrote."""

    class_configs: list[dict[str, Any]] = []
    claim_configs: list[dict[str, Any]] = []
    allocations: list[Allocation] = []
    device_statuses: list[dict[str, Any]] = []
    pod_names: list[str] = []


class DeviceClaim(_Object, frozen=True, kw_only=True):
    """A claim for devices, or a template of one."""

    spec: DeviceClaimSpec
    status: ClaimStatus = field(default_factory=ClaimStatus)


# --- pools


class PoolResource(_Strict, frozen=True, kw_only=True):
    """An amount of something, given out in multiples of `block_size`."""

    name: str
    capacity: Quantity
    block_size: Quantity | None = None


class PoolDevice(_Strict, frozen=True, kw_only=True):
    """One device; what it draws from the pool, and what it offers to claims."""

    name: str
    attributes: list[Attribute] = []
    shared_resources_consumed: dict[str, Quantity] = {}
    claim_resources_provided: list[PoolResource] = []


class DevicePoolSpec(_Strict, frozen=True, kw_only=True):
    """v2: `devices`; v1: `count`."""

    node_name: str = ""
    driver: str
    attributes: list[Attribute] = []
    shared_resources: list[PoolResource] = []
    devices: list[PoolDevice] = []
    count: int | None = None


class DevicePool(_Object, frozen=True, kw_only=True):
    """Devices that one driver publishes; cluster-scoped."""

    spec: DevicePoolSpec
    status: dict[str, Any] = {}


# --- v1 only


class DeviceDriver(_Object, frozen=True, kw_only=True):
    """Which types of device a driver serves; its fields stand at the top."""

    device_types: list[str] = []
    status: dict[str, Any] = {}


class _PrivilegedSpec(_Strict, frozen=True, kw_only=True):
    driver: str
    constraints: str | None = None
    configs: list[ConfigRef] = []


class DevicePrivilegedClaim(_Object, frozen=True, kw_only=True):
    """Administrative access to all devices of a driver."""

    spec: _PrivilegedSpec
    status: ClaimStatus = field(default_factory=ClaimStatus)


class _SetSpec(_Strict, frozen=True, kw_only=True):
    match_attributes: list[str] = []
    claim_spec: list[DeviceClaimSpec] = []


class DeviceSetClaim(_Object, frozen=True, kw_only=True):
    """Several claims whose devices have to agree."""

    spec: _SetSpec
    status: ClaimStatus = field(default_factory=ClaimStatus)


class _TemplateSpec(_Strict, frozen=True, kw_only=True):
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    claim_spec: DeviceClaimSpec | None = None
    privileged_claim_spec: _PrivilegedSpec | None = None
    set_claim_spec: _SetSpec | None = None

    def __post_init__(self) -> None:
        """Refuse none or several."""
        if sum(spec is not None for spec in (self.claim_spec, self.privileged_claim_spec, self.set_claim_spec)) != 1:
            raise ValueError("a template needs one of claimSpec, privilegedClaimSpec, setClaimSpec")


class DeviceClaimTemplate(_Object, frozen=True, kw_only=True):
    """Claims are made of it, one a pod."""

    spec: _TemplateSpec
