# SPDX-License-Identifier: Apache-2.0
"""The kinds of the prototype, and those of its examples, as builtin Resources.

One schema knows both generations of a kind, and the spellings of the example files, which do not agree with each
other: what the lenient loader of `schedule` repairs must be storable first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from dynamic_memory.embedded.apiserver.builtin.models import schema_of
from dynamic_memory.embedded.apiserver.resource import ALL_VERBS, Resource, Subresource
from dynamic_memory.embedded.apiserver.schema import Schema

__all__ = ["GROUP", "prototype_resources"]

GROUP: Final = "devmgmtproto.k8s.io"
CATEGORY: Final = "srm"
_STATUS_VERBS: Final = ("get", "patch", "update")


def _text(description: str) -> Schema:
    return Schema("string", description)


def _count(description: str) -> Schema:
    return Schema("integer", description, format="int32", minimum=0)


def _flag(description: str) -> Schema:
    return Schema("boolean", description)


def _quantity(description: str = "") -> Schema:
    return Schema("string", description, quantity=True, ref="io.k8s.apimachinery.pkg.api.resource.Quantity")


def _object(description: str, *required: str, **properties: Schema) -> Schema:
    named = {name.rstrip("_"): schema for name, schema in properties.items()}
    return Schema("object", description, properties=named, required=frozenset(required))


def _list(items: Schema, description: str, *, key: str = "") -> Schema:
    keys = (key,) if key else ()
    return Schema("array", description, items=items, list_type="map" if key else "atomic", list_map_keys=keys)


def _texts(description: str) -> Schema:
    return _list(Schema("string"), description)


def _quantities(description: str) -> Schema:
    return Schema("object", description, additional=_quantity())


def _either(listed: Schema, mapped: Schema) -> Schema:
    """A list of named amounts, or a map by name: both occur in the example files."""
    return Schema(description=listed.description, items=listed.items, additional=mapped.additional)


def _configs(description: str) -> Schema:
    reference = _object(
        "Names a vendor's configuration object.",
        apiVersion=_text("Its group and version."),
        kind=_text("Its kind."),
        namespace=_text("Its namespace; claims refer to their own."),
        name=_text("Its name."),
    )
    return _list(reference, description)


def _attributes(description: str) -> Schema:
    attribute = _object(
        "A named value; exactly one value is set.",
        "name",
        name=_text("What constraints call it."),
        stringValue=_text("A text."),
        intValue=Schema("integer", "A whole number.", format="int64"),
        quantityValue=_quantity("A quantity, compared by its amount."),
        semVerValue=_text("A version, compared as a text."),
    )
    return _list(attribute, description, key="name")


def _amounts(description: str) -> Schema:
    amount = _object(
        "A named amount.",
        "name",
        name=_text("What requests call it."),
        capacity=_quantity("How much there is."),
        blockSize=_quantity("The increment of allocation; 1 if unset."),
    )
    return _either(_list(amount, description), _quantities(description))


def _conditions() -> Schema:
    return Schema("array", "What was last observed.", items=schema_of("meta_v1", "Condition"), list_type="atomic")


def _class() -> Schema:
    leaf = {
        "driver": _text("Only devices that this driver publishes."),
        "deviceType": _text("The type of device (first generation)."),
        "deviceTypes": _text("A spelling of deviceType in the examples."),
        "constraints": _text("A CEL expression over `device` that devices of the class fulfil."),
        "contstraints": _text("A spelling of constraints in the examples."),
        "configs": _configs("Configuration objects of the vendor, in any namespace."),
        "minDeviceCount": _count("The least number of devices (first generation)."),
        "maxDeviceCount": _count("The greatest number of devices (first generation)."),
        "deviceMaxCount": _count("A spelling of maxDeviceCount in the examples."),
        "matchAttributes": _texts("Attributes in which all devices agree (first generation)."),
        "attributeMatches": _texts("A spelling of matchAttributes in the examples."),
    }
    definition = Schema("object", "A leaf class: the devices of one driver.", properties=dict(leaf))
    selector = _copy(schema_of("meta_v1", "LabelSelector"), "A meta class: selects other classes by their labels.")
    return Schema(
        "object",
        "What the class stands for: either a selector or a definition.",
        properties={"selector": selector, "definition": definition, **leaf},
    )


def _copy(schema: Schema, description: str) -> Schema:
    return Schema(
        schema.type,
        description,
        properties=schema.properties,
        required=schema.required,
        map_type=schema.map_type,
        ref=schema.ref,
    )


def _detail() -> dict[str, Schema]:
    return {
        "class": _text("The class to take devices of."),
        "adminAccess": _flag("A management claim: it ignores ordinary allocations."),
        "constraints": _text("A CEL expression over `device`, beside that of the class."),
        "requests": _quantities("Least amounts, summed over the devices chosen; `devices` is their number."),
        "devices": Schema("integer", "The same as requests.devices.", format="int32"),
        "maxDevices": _count("The greatest number of devices."),
        "matchAttributes": _texts("Attributes in which all devices of this detail agree."),
        "distinctAttributes": _texts("Attributes in which all devices of this detail differ."),
        "allowShared": _flag("Whether part of a device will do."),
        "configs": _configs("Configuration objects in the namespace of the claim."),
        "config": _configs("A spelling of configs in the examples."),
    }


def _claim_spec() -> Schema:
    detail = Schema("object", "What is asked of one class of devices.", properties=_detail())
    instance = Schema(
        "object",
        "What a container refers to by name.",
        properties={
            "name": _text("The name that containers use."),
            "allOf": _list(detail, "All of these must be satisfied."),
            "oneOf": _list(detail, "One of these, in order of priority."),
            **{name: schema for name, schema in _detail().items() if name != "devices"},
        },
        required=frozenset({"name"}),
    )
    return _object(
        "What is asked for.",
        matchAttributes=_texts("Attributes in which all devices of the claim agree."),
        devices=_list(instance, "Every entry must be satisfied.", key="name"),
        deviceClass=_text("The class to take devices of (first generation)."),
        driver=_text("Only devices of this driver (first generation)."),
        constraints=_text("A CEL expression over `device` (first generation)."),
        minDeviceCount=_count("The least number of devices; 1 if unset (first generation)."),
        maxDeviceCount=_count("The greatest number of devices (first generation)."),
        configs=_configs("Configuration objects in the namespace of the claim (first generation)."),
    )


def _claim_status() -> Schema:
    any_object = Schema("object", preserve_unknown=True)
    amount = _object("A part of a device.", name=_text("The resource."), allocation=_quantity("The amount taken."))
    allocation = _object(
        "What is taken of one device or pool.",
        devicePoolName=_text("The pool."),
        deviceName=_text("The device."),
        deviceCount=_count("The number of devices (first generation)."),
        allocations=_list(amount, "The amounts taken."),
    )
    status = _object(
        "What the driver says of one device.",
        "devicePoolName",
        "deviceName",
        devicePoolName=_text("The pool."),
        deviceName=_text("The device."),
        conditions=_conditions(),
        deviceIPs=_list(_object("An address.", ip=_text("The address.")), "Addresses of the device."),
        deviceInfo=_list(any_object, "Anything else."),
    )
    statuses = Schema(
        "array",
        "What drivers say of the devices.",
        items=status,
        list_type="map",
        list_map_keys=("devicePoolName", "deviceName"),
    )
    return _object(
        "What the scheduler and drivers say.",
        classConfigs=_list(any_object, "Configuration objects of classes, as they were at the allocation."),
        claimConfigs=_list(any_object, "Configuration objects of the claim, as they were at the allocation."),
        allocations=_list(allocation, "What is taken."),
        deviceStatuses=statuses,
        podNames=Schema("array", "The pods that use the claim.", items=Schema("string"), list_type="set"),
    )


def _pool_spec() -> Schema:
    device = _object(
        "One device.",
        "name",
        name=_text("Its name in the pool."),
        attributes=_attributes("Attributes; they win over those of the pool."),
        sharedResourcesConsumed=_quantities("What is drawn from the pool when the device is allocated."),
        consumesSharedResources=_quantities("The same as sharedResourcesConsumed."),
        claimResourcesProvided=_amounts("What requests sum up."),
        providesClaimResources=_amounts("The same as claimResourcesProvided."),
    )
    return _object(
        "The devices of one driver in one place.",
        "driver",
        nodeName=_text("The node; none for devices of the network."),
        driver=_text("The driver that publishes the pool."),
        attributes=_attributes("Attributes of all devices."),
        sharedResources=_amounts("Counters that devices draw on."),
        devices=_list(device, "The devices.", key="name"),
        count=_count("The number of devices (first generation)."),
    )


def _pool_status() -> Schema:
    status = _object(
        "The last report on one device.",
        name=_text("The device."),
        Name=_text("The same as name."),
        conditions=_conditions(),
        claimUIDs=_texts("The claims that use it."),
        ClaimUIDs=_texts("The same as claimUIDs."),
    )
    return _object(
        "The last report of the driver.",
        deviceStatuses=_list(status, "One entry a device."),
        availableDevices=_count("The number of devices that are free (first generation)."),
    )


def _class_status() -> Schema:
    return _object("Who serves the class.", conditions=_conditions(), drivers=_texts("The drivers that do."))


def _privileged_spec() -> Schema:
    return _object(
        "Access to all devices of a driver.",
        "driver",
        driver=_text("The driver."),
        constraints=_text("A CEL expression over `device`."),
        configs=_configs("Configuration objects."),
    )


def _whole(kind: str, description: str, parts: Callable[[], dict[str, Schema]]) -> Schema:
    """Return the schema of whole objects: type and object metadata, and what the kind adds."""
    metadata = schema_of("meta_v1", "ObjectMeta")
    return Schema(
        "object",
        description,
        properties={
            "apiVersion": _text("The group and version of this representation."),
            "kind": _text(f"Always {kind}."),
            "metadata": _copy(metadata, "Standard metadata of objects."),
            **parts(),
        },
    )


_CLAIM: Final = "Asks for devices; also a template that pods copy."
_KINDS: Final[tuple[tuple[str, str, bool, tuple[str, ...], str, Callable[[], dict[str, Schema]]], ...]] = (
    (
        "DeviceDriver",
        "devicedrivers",
        False,
        ("ddrv",),
        "Says which types of devices a driver serves.",
        lambda: {
            "deviceTypes": _texts("The types of devices that the driver serves."),
            "status": Schema("object", preserve_unknown=True),
        },
    ),
    (
        "DeviceClass",
        "deviceclasses",
        False,
        ("dcls",),
        "A reusable preset of an administrator or vendor.",
        lambda: {"spec": _class(), "status": _class_status()},
    ),
    (
        "DeviceClaim",
        "deviceclaims",
        True,
        ("dclaim",),
        _CLAIM,
        lambda: {"spec": _claim_spec(), "status": _claim_status()},
    ),
    (
        "DevicePrivilegedClaim",
        "deviceprivilegedclaims",
        True,
        ("dpclaim",),
        "Asks for access to all devices of a driver.",
        lambda: {"spec": _privileged_spec(), "status": _claim_status()},
    ),
    (
        "DevicePool",
        "devicepools",
        False,
        ("dpool",),
        "The devices that a driver publishes.",
        lambda: {"spec": _pool_spec(), "status": _pool_status()},
    ),
)


def _free_spec(description: str, **known: Schema) -> dict[str, Schema]:
    return {"spec": Schema("object", description, properties=known, preserve_unknown=True)}


_VENDOR_KINDS: Final = (
    (
        "foozer.example.com",
        "FoozerConfig",
        "foozerconfigs",
        lambda: _free_spec("How the device is set up.", superfast=_flag("Whether it runs superfast.")),
    ),
    (
        "fabric.example.com",
        "IPNetwork",
        "ipnetworks",
        lambda: _free_spec("The network.", cidr=_text("Its addresses.")),
    ),
    (
        "gpu.example.com",
        "GPUSharingConfig",
        "gpusharingconfigs",
        lambda: _free_spec("How the device is shared.", enableSharing=_flag("Whether it is.")),
    ),
)


def prototype_resources() -> list[Resource]:
    """Return the Resources of the prototype's group and of the three groups of its examples."""
    made = [
        Resource(
            GROUP,
            "v1alpha1",
            kind,
            plural,
            namespaced,
            short_names=short_names,
            categories=(CATEGORY,),
            verbs=ALL_VERBS,
            subresources={"status": Subresource(kind, GROUP, "v1alpha1", _STATUS_VERBS)},
            make_schema=functools.partial(_whole, kind, description, parts),
        )
        for kind, plural, namespaced, short_names, description, parts in _KINDS
    ]
    made += [
        Resource(
            group,
            "v1alpha1",
            kind,
            plural,
            namespaced=True,
            make_schema=functools.partial(_whole, kind, "A configuration object of a vendor's driver.", parts),
        )
        for group, kind, plural, parts in _VENDOR_KINDS
    ]
    for resource in made:
        resource.builtin = False
    return made
