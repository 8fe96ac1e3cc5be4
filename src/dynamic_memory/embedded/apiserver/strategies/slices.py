# SPDX-License-Identifier: Apache-2.0
"""ResourceSlices and DeviceTaintRules, with the validation of the real server. Objects are in v1.

Source: `pkg/apis/resource/validation` of Kubernetes 1.37.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import (
    dns_label,
    dns_subdomain,
    label_key,
    label_value,
    validate_conditions,
)
from dynamic_memory.embedded.apiserver.resource import Context, Strategy
from dynamic_memory.embedded.apiserver.strategies.checks import (
    check_driver_name,
    check_items,
    check_map,
    check_name,
    check_node_selector,
    check_set,
    immutable,
)
from dynamic_memory.embedded.apiserver.strategies.claimspec import EFFECTS
from dynamic_memory.embedded.apiserver.strategies.claimstatus import check_binding
from dynamic_memory.embedded.apiserver.strategies.policies import check_policy
from dynamic_memory.embedded.apiserver.strategies.qualified import check_pool_name, check_qualified_name
from dynamic_memory.quantity import Quantity

__all__ = ["SliceStrategy", "TaintRuleStrategy"]

MAX_DEVICES: Final = 128
MAX_DEVICES_ADVANCED: Final = 64
MAX_COUNTER_SETS: Final = 8
MAX_COUNTERS: Final = 32
MAX_CONSUMPTIONS: Final = 2
MAX_PROPERTIES: Final = 32
MAX_VALUES: Final = 48
MAX_VALUE: Final = 64
MAX_TAINTS: Final = 16
MAX_CONDITIONS: Final = 8
_LISTS: Final = ("bools", "ints", "strings", "versions")
_KINDS: Final = ("int", "bool", "string", "version", "ints", "bools", "strings", "versions")
_NUMBER: Final = r"(0|[1-9]\d*)"
_LABEL: Final = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMVER: Final = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_LABEL}(\.{_LABEL})*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?", re.ASCII
)
_ALLOCATABLE: Final = ("cpu", "memory", "ephemeral-storage")
_ONE_PLACE: Final = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_ONE_DEVICE_PLACE: Final = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true "
    "in the ResourceSlice spec"
)


class SliceStrategy(Strategy):
    """ResourceSlice: driver, pool and node are immutable."""

    asks_for_required = True

    def prepare_create(self, obj: dict[str, Any], ctx: Context) -> dict[str, Any]:
        """Date the taints of devices."""
        return _date_taints(obj, ctx)

    def prepare_update(
        self, new: dict[str, Any], old: dict[str, Any], ctx: Context, subresource: str | None
    ) -> dict[str, Any]:
        """Date new taints of devices."""
        del old, subresource
        return _date_taints(new, ctx)

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check the spec."""
        return _check_slice(obj.get("spec") or {}, {})

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check the spec again, and what may not change."""
        del subresource
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        if spec == before:
            return []
        causes = immutable(
            (spec.get("pool") or {}).get("name"), (before.get("pool") or {}).get("name"), "spec.pool.name"
        )
        causes += immutable(spec.get("driver"), before.get("driver"), "spec.driver")
        causes += immutable(spec.get("nodeName"), before.get("nodeName"), "spec.nodeName")
        return _check_slice(spec, before) + causes


class TaintRuleStrategy(Strategy):
    """DeviceTaintRule."""

    asks_for_required = True

    def prepare_create(self, obj: dict[str, Any], ctx: Context) -> dict[str, Any]:
        """Date the taint."""
        taint = (obj.get("spec") or {}).get("taint")
        if isinstance(taint, dict):
            taint.setdefault("timeAdded", ctx.now)
        return obj

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check selector and taint."""
        spec = obj.get("spec") or {}
        selector, causes = spec.get("deviceSelector") or {}, []
        if selector.get("driver") is not None:
            causes += check_driver_name(selector["driver"], "spec.deviceSelector.driver")
        if selector.get("pool") is not None:
            causes += check_pool_name(selector["pool"], "spec.deviceSelector.pool")
        if selector.get("device") is not None:
            causes += check_name(dns_label)(selector["device"], "spec.deviceSelector.device")
        return causes + _taint(spec.get("taint") or {}, "spec.taint")

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check the spec again, or the conditions."""
        del old
        if subresource != "status":
            return self.validate_create(new)
        conditions = (new.get("status") or {}).get("conditions") or []
        causes = validate_conditions(conditions, "status.conditions")
        if len(conditions) > MAX_CONDITIONS:
            causes.append(fields.too_many("status.conditions", len(conditions), MAX_CONDITIONS))
        return causes


def _date_taints(obj: dict[str, Any], ctx: Context) -> dict[str, Any]:
    for device in (obj.get("spec") or {}).get("devices") or ():
        for taint in device.get("taints") or ():
            taint.setdefault("timeAdded", ctx.now)
    return obj


def _check_slice(spec: Mapping[str, Any], old: Mapping[str, Any]) -> list[Cause]:
    causes = check_driver_name(spec.get("driver", ""), "spec.driver")
    causes += _pool(spec.get("pool") or {}, "spec.pool")
    causes += _place(spec)
    if spec.get("sharedCounters") is not None and spec.get("devices") is not None:
        causes.append(fields.invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    devices = spec.get("devices") or []
    known = {device.get("name"): device for device in old.get("devices") or ()}
    limit = MAX_DEVICES_ADVANCED if any(map(_is_advanced, devices)) else MAX_DEVICES
    per_device = bool(spec.get("perDeviceNodeSelection"))
    causes += check_set(
        devices,
        limit,
        "spec.devices",
        lambda device, path: _device(device, known.get(device.get("name")) or {}, path, per_device=per_device),
        lambda device: device.get("name", ""),
    )
    causes += check_set(
        spec.get("sharedCounters"),
        MAX_COUNTER_SETS,
        "spec.sharedCounters",
        _counter_set,
        lambda item: item.get("name", ""),
    )
    return causes


def _is_advanced(device: Mapping[str, Any]) -> bool:
    if device.get("taints") or device.get("consumesCounters"):
        return True
    return any(name in attribute for attribute in (device.get("attributes") or {}).values() for name in _LISTS)


def _pool(pool: Mapping[str, Any], path: str) -> list[Cause]:
    causes = check_pool_name(pool.get("name", ""), f"{path}.name")
    count, generation = pool.get("resourceSliceCount", 0), pool.get("generation", 0)
    if count <= 0:
        causes.append(fields.invalid(f"{path}.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        causes.append(fields.invalid(f"{path}.generation", generation, "must be greater than or equal to zero"))
    return causes


def _places(
    owner: Mapping[str, Any], path: str, *, empty: str, names: tuple[str, ...]
) -> tuple[list[Cause], list[str]]:
    """Check the ways to name nodes, and return which are used."""
    causes: list[Cause] = []
    used = []
    node = owner.get("nodeName")
    if node is not None:
        if node:
            used.append("`nodeName`")
            causes += [fields.invalid(f"{path}.nodeName", node, text) for text in dns_subdomain(node)]
        else:
            causes.append(fields.invalid(f"{path}.nodeName", node, empty))
    selector = owner.get("nodeSelector")
    if selector is not None:
        used.append("`nodeSelector`")
        causes += check_node_selector(selector, f"{path}.nodeSelector")
    for name in names:
        if owner.get(name) is not None:
            if owner[name]:
                used.append(f"`{name}`")
            else:
                causes.append(fields.invalid(f"{path}.{name}", owner[name], "must be either unset or set to true"))
    return causes, used


def _place(spec: Mapping[str, Any]) -> list[Cause]:
    empty = "must be either unset or set to a non-empty string"
    causes, used = _places(spec, "spec", empty=empty, names=("allNodes", "perDeviceNodeSelection"))
    terms = (spec.get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    if spec.get("nodeSelector") is not None and len(terms) != 1:
        text = "must have exactly one node selector term"
        causes.append(fields.invalid("spec.nodeSelector.nodeSelectorTerms", terms, text))
    if not used:
        causes.append(fields.required("spec", _ONE_PLACE))
    elif len(used) > 1:
        causes.append(fields.invalid("spec", f"{{{', '.join(used)}}}", f"{_ONE_PLACE}, but multiple fields are set"))
    return causes


def _device(device: Mapping[str, Any], old: Mapping[str, Any], path: str, *, per_device: bool) -> list[Cause]:
    causes = list(check_name(dns_label)(device.get("name", ""), f"{path}.name"))
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    count = len(attributes) + len(capacity)
    if count > MAX_PROPERTIES:
        text = f"the total number of attributes and capacities must not exceed {MAX_PROPERTIES}"
        causes.append(fields.invalid(path, count, text))
    values = sum(sum(len(attribute.get(name) or ()) for name in _LISTS) or 1 for attribute in attributes.values())
    if values > MAX_VALUES:
        text = f"the total number of attribute values must not exceed {MAX_VALUES}"
        causes.append(fields.invalid(path, values, text))
    causes += check_map(attributes, -1, f"{path}.attributes", check_qualified_name, _attribute)
    if not old or old.get("capacity") != device.get("capacity"):
        multiple = bool(device.get("allowMultipleAllocations"))
        causes += check_map(
            capacity,
            -1,
            f"{path}.capacity",
            check_qualified_name,
            lambda item, at: _capacity(item, at, multiple=multiple),
        )
    if not old or old.get("taints") != device.get("taints"):
        causes += check_items(device.get("taints"), MAX_TAINTS, f"{path}.taints", _taint)
    causes += check_set(
        device.get("consumesCounters"),
        MAX_CONSUMPTIONS,
        f"{path}.consumesCounters",
        _consumption,
        lambda item: item.get("counterSet", ""),
    )
    causes += _device_place(device, path, per_device=per_device)
    causes += check_binding(device, path)
    return causes + _allocatable(
        device.get("nodeAllocatableResources") or {}, capacity, f"{path}.nodeAllocatableResources"
    )


def _device_place(device: Mapping[str, Any], path: str, *, per_device: bool) -> list[Cause]:
    if not per_device:
        if any(device.get(name) is not None for name in ("nodeName", "nodeSelector", "allNodes")):
            text = (
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true "
                "in the ResourceSlice spec"
            )
            return [fields.invalid(path, None, text)]
        return []
    causes, used = _places(device, path, empty="must not be empty", names=("allNodes",))
    if not used:
        causes.append(fields.required(path, _ONE_DEVICE_PLACE))
    elif len(used) > 1:
        causes.append(fields.invalid(path, f"{{{', '.join(used)}}}", _ONE_DEVICE_PLACE))
    return causes


def _attribute(attribute: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    used = [name for name in _KINDS if attribute.get(name) is not None]
    for name in used:
        value, here = attribute[name], f"{path}.{name}"
        if name in _LISTS and not value:
            causes.append(fields.invalid(here, value, "must not be empty if specified"))
        if name == "string":
            causes += _short(value, here)
        elif name == "version":
            causes += _version(value, here)
        elif name in ("strings", "versions"):
            causes += check_items(value, -1, here, _short if name == "strings" else _version)
    if not used:
        names = ", ".join(f"`{name}`" for name in _KINDS)
        causes.append(fields.invalid(path, "", f"must specify one of: {names}"))
    elif len(used) > 1:
        shown = ", ".join(name for name in _KINDS if name in used)
        names = ", ".join(f"`{name}`" for name in _KINDS)
        causes.append(fields.invalid(path, f"{{{shown}}}", f"must specify exactly one of: {names}"))
    return causes


def _short(value: str, path: str) -> list[Cause]:
    return [fields.too_long(path, MAX_VALUE)] if len(value) > MAX_VALUE else []


def _version(value: str, path: str) -> list[Cause]:
    if _SEMVER.fullmatch(value):
        return _short(value, path)
    return [fields.invalid(path, value, "must be a string compatible with semver.org spec 2.0.0"), *_short(value, path)]


def _capacity(capacity: Mapping[str, Any], path: str, *, multiple: bool) -> list[Cause]:
    policy = capacity.get("requestPolicy")
    if policy is None:
        return []
    if not multiple:
        return [fields.forbidden(f"{path}.requestPolicy", "allowMultipleAllocations must be true")]
    return check_policy(Quantity.parse(capacity.get("value", "0")), policy, f"{path}.requestPolicy")


def _taint(taint: Mapping[str, Any], path: str) -> list[Cause]:
    name, value, effect = (taint.get(part, "") for part in ("key", "value", "effect"))
    causes = [fields.invalid(f"{path}.key", name, text) for text in label_key(name)]
    if value:
        causes += [fields.invalid(f"{path}.value", value, text) for text in label_value(value)]
    if not effect:
        causes.append(fields.required(f"{path}.effect"))
    elif effect not in EFFECTS:
        causes.append(fields.not_supported(f"{path}.effect", effect, EFFECTS))
    return causes


def _counter_set(item: Mapping[str, Any], path: str) -> list[Cause]:
    causes = list(check_name(dns_label)(item.get("name", ""), f"{path}.name"))
    return causes + _counters(item.get("counters"), f"{path}.counters")


def _consumption(item: Mapping[str, Any], path: str) -> list[Cause]:
    causes = list(check_name(dns_label)(item.get("counterSet", ""), f"{path}.counterSet"))
    return causes + _counters(item.get("counters"), f"{path}.counters")


def _counters(counters: Any, path: str) -> list[Cause]:
    if not counters:
        return [fields.required(path)]
    return check_map(counters, MAX_COUNTERS, path, check_name(dns_label), lambda *_: ())


def _allocatable(mappings: Mapping[str, Any], capacity: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for name, item in mappings.items():
        here = fields.key(path, name)
        if name not in _ALLOCATABLE and not name.startswith("hugepages-"):
            causes.append(fields.invalid(here, name, "must be a node allocatable resource name"))
        mapping, overhead = item.get("mapping"), item.get("overhead")
        if mapping is None and overhead is None:
            causes.append(fields.required(here, "at least one of mapping or overhead must be set"))
        if mapping is not None:
            causes += _mapping(mapping, capacity, f"{here}.mapping")
        if overhead is not None:
            if not overhead:
                text = "at least one of perPod or perContainer must be set"
                causes.append(fields.invalid(f"{here}.overhead", "", text))
            causes += [
                fields.invalid(f"{here}.overhead.{part}", amount, "must be non-negative")
                for part, amount in overhead.items()
                if Quantity.parse(amount) < Quantity(0)
            ]
    return causes


def _mapping(mapping: Mapping[str, Any], capacity: Mapping[str, Any], path: str) -> list[Cause]:
    causes = []
    name, multiplier = mapping.get("capacityKey"), mapping.get("capacityMultiplier")
    if name is not None:
        if not name:
            text = "capacityKey must not be an empty string"
            causes.append(fields.invalid(f"{path}.capacityKey", "", text))
        elif name not in capacity:
            causes.append(fields.not_found(f"{path}.capacityKey", name))
        if multiplier is None:
            text = "capacityMultiplier is required when capacityKey is set"
            causes.append(fields.required(f"{path}.capacityMultiplier", text))
    elif multiplier is not None:
        text = "capacityKey is required when capacityMultiplier is set"
        causes.append(fields.required(f"{path}.capacityKey", text))
    return causes + [
        fields.invalid(f"{path}.{part}", mapping[part], "must be positive")
        for part in ("capacityMultiplier", "deviceMultiplier")
        if mapping.get(part) is not None and Quantity.parse(mapping[part]) <= Quantity(0)
    ]
