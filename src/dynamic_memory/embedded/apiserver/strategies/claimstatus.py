# SPDX-License-Identifier: Apache-2.0
"""The status of a claim: allocation, users, what drivers say of devices, binding conditions. Pure.

Source: `pkg/apis/resource/validation` of Kubernetes 1.37.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import dns_label, label_key, validate_conditions
from dynamic_memory.embedded.apiserver.strategies.checks import (
    check_driver_name,
    check_items,
    check_name,
    check_node_selector,
    check_set,
    check_uuid,
)
from dynamic_memory.embedded.apiserver.strategies.claimspec import (
    MAX_CONFIG,
    MAX_REQUESTS,
    MAX_TOLERATIONS,
    RequestNames,
    check_opaque,
    check_raw,
    check_toleration,
)
from dynamic_memory.embedded.apiserver.strategies.qualified import check_pool_name

__all__ = ["check_binding", "check_status", "share_of", "shares_of"]

MAX_RESULTS: Final = 32
MAX_RESERVED: Final = 256
MAX_BINDING: Final = 4
MAX_CONDITIONS: Final = 8
MAX_IPS: Final = 16

Share = tuple[str, str, str, str]


def share_of(device: Mapping[str, Any]) -> Share:
    """Return what a result or a device status is about."""
    return device.get("driver", ""), device.get("pool", ""), device.get("device", ""), device.get("shareID") or ""


def shares_of(status: Mapping[str, Any]) -> set[Share]:
    """Return what is allocated."""
    results = ((status.get("allocation") or {}).get("devices") or {}).get("results") or ()
    return {share_of(result) for result in results}


def check_status(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[Cause]:
    """Check the status of a changed claim."""
    status, before = new.get("status") or {}, old.get("status") or {}
    reserved, allocation = status.get("reservedFor") or [], status.get("allocation")
    names = RequestNames((new.get("spec") or {}).get("devices") or {})
    causes = check_items(reserved, MAX_RESERVED, "status.reservedFor", _consumer)
    users = [consumer.get("uid", "") for consumer in reserved]
    if len(reserved) <= MAX_RESERVED:
        causes += [
            fields.duplicate(f"status.reservedFor[{index}]", consumer)
            for index, consumer in enumerate(reserved)
            if users[index] in users[:index]
        ]
    shares = shares_of(status)
    causes += check_items(
        status.get("devices"), -1, "status.devices", lambda device, path: _device_status(device, path, shares)
    )
    seen: set[Share] = set()
    for index, device in enumerate(status.get("devices") or ()):
        if share_of(device) in seen:
            causes.append(fields.duplicate(f"status.devices[{index}]", _shown_share(share_of(device))))
        seen.add(share_of(device))
    if reserved and allocation is None:
        causes.append(fields.forbidden("status.reservedFor", "may not be specified when `allocated` is not set"))
    elif reserved and (new.get("metadata") or {}).get("deletionTimestamp"):
        added = [consumer for consumer in reserved if consumer not in (before.get("reservedFor") or [])]
        if added:
            text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
            causes.append(fields.forbidden("status.reservedFor", text))
    if allocation is not None and before.get("allocation") is not None:
        if allocation != before["allocation"]:
            causes.append(fields.invalid("status.allocation", None, "field cannot be modified once set"))
    elif allocation is not None:
        causes += _allocation(allocation, "status.allocation", names)
    return causes


def _shown_share(share: Share) -> dict[str, str]:
    return dict(zip(("Driver", "Pool", "Device", "ShareID"), share, strict=True))


def _consumer(consumer: Mapping[str, Any], path: str) -> list[Cause]:
    return [fields.required(f"{path}.{name}") for name in ("resource", "name", "uid") if not consumer.get(name)]


def _device_status(device: Mapping[str, Any], path: str, shares: Collection[Share]) -> list[Cause]:
    causes = check_driver_name(device.get("driver", ""), f"{path}.driver")
    causes += check_pool_name(device.get("pool", ""), f"{path}.pool")
    causes += check_name(dns_label)(device.get("device", ""), f"{path}.device")
    if device.get("shareID") is not None:
        causes += check_uuid(device["shareID"], f"{path}.shareID")
    if share_of(device) not in shares:
        causes.append(fields.invalid(path, _shown_share(share_of(device)), "must be an allocated device in the claim"))
    conditions = device.get("conditions") or []
    if len(conditions) > MAX_CONDITIONS:
        causes.append(fields.too_many(f"{path}.conditions", len(conditions), MAX_CONDITIONS))
    causes += validate_conditions(conditions, f"{path}.conditions")
    if device.get("data") is not None:
        causes += check_raw(device["data"], f"{path}.data")
    network = device.get("networkData") or {}
    for name, limit in (("interfaceName", 256), ("hardwareAddress", 128)):
        if len(network.get(name, "")) > limit:
            causes.append(fields.too_long(f"{path}.networkData.{name}", limit))
    return causes + check_set(network.get("ips"), MAX_IPS, f"{path}.networkData.ips", lambda *_: ())


def _allocation(allocation: Mapping[str, Any], path: str, names: RequestNames) -> list[Cause]:
    devices = allocation.get("devices") or {}
    causes = check_items(
        devices.get("results"), MAX_RESULTS, f"{path}.devices.results", lambda item, at: _result(item, at, names)
    )

    def config(item: Mapping[str, Any], here: str) -> list[Cause]:
        source = item.get("source", "")
        found = [] if source in ("FromClaim", "FromClass") else [fields.required(f"{here}.source")]
        if source and found:
            found = [fields.not_supported(f"{here}.source", source, ("FromClaim", "FromClass"))]
        found += check_set(item.get("requests"), MAX_REQUESTS, f"{here}.requests", names.reference)
        return found + check_opaque(item, here, stored=False)

    causes += check_items(devices.get("config"), 2 * MAX_CONFIG, f"{path}.devices.config", config)
    if allocation.get("nodeSelector") is not None:
        causes += check_node_selector(allocation["nodeSelector"], f"{path}.nodeSelector")
    return causes


def _result(result: Mapping[str, Any], path: str, names: RequestNames) -> list[Cause]:
    causes = names.reference(result.get("request", ""), f"{path}.request")
    causes += check_driver_name(result.get("driver", ""), f"{path}.driver")
    causes += check_pool_name(result.get("pool", ""), f"{path}.pool")
    causes += check_name(dns_label)(result.get("device", ""), f"{path}.device")
    causes += check_binding(result, path)
    causes += check_items(result.get("tolerations"), MAX_TOLERATIONS, f"{path}.tolerations", check_toleration)
    if result.get("shareID") is not None:
        causes += check_uuid(result["shareID"], f"{path}.shareID")
    return causes


def check_binding(device: Mapping[str, Any], path: str) -> list[Cause]:
    """Check the binding conditions of a device or result."""
    ready, failed = device.get("bindingConditions") or (), device.get("bindingFailureConditions") or ()
    causes: list[Cause] = []
    for name, values in (("bindingConditions", ready), ("bindingFailureConditions", failed)):
        here = f"{path}.{name}"
        causes += check_set(
            values, MAX_BINDING, here, lambda value, at: [fields.invalid(at, value, text) for text in label_key(value)]
        )
    for index, value in enumerate(failed):
        if value in ready:
            text = "bindingFailureConditions must not overlap with bindingConditions"
            causes.append(fields.invalid(f"{path}.bindingFailureConditions[{index}]", value, text))
    if failed and not ready:
        text = "bindingConditions are required to use bindingFailureConditions"
        causes.append(fields.invalid(f"{path}.bindingConditions", device.get("bindingConditions"), text))
    if ready and not failed:
        text = "bindingFailureConditions are required to use bindingConditions"
        causes.append(fields.invalid(f"{path}.bindingFailureConditions", device.get("bindingFailureConditions"), text))
    return causes
