# SPDX-License-Identifier: Apache-2.0
"""What people wrote, made into what the types say.

The prototype's own example files do not decode into its own types: fields stand one level too high, are called
differently, or are maps instead of lists. Each repair here changes a copy of the object and says so in a sentence; the
loader shows it as a warning, or refuses if told to be strict.
"""

from __future__ import annotations

import copy
import re
from typing import Any, NamedTuple

__all__ = ["Repair", "is_counting", "repaired"]

_RENAMED_CLASS_FIELDS = {
    "deviceMaxCount": "maxDeviceCount",
    "deviceMinCount": "minDeviceCount",
    "deviceTypes": "deviceType",
    "attributeMatches": "matchAttributes",
    "contstraints": "constraints",
}
_DEFINITION = ("driver", "deviceType", "constraints", "configs", "minDeviceCount", "maxDeviceCount", "matchAttributes")
_OF_V1 = {"minDeviceCount", "maxDeviceCount", "matchAttributes", *_RENAMED_CLASS_FIELDS}
_SPELLINGS = {
    "consumesSharedResources": "sharedResourcesConsumed",
    "providesClaimResources": "claimResourcesProvided",
}


class Repair(NamedTuple):
    """One thing that was mended; `minor` if the object decodes without it."""

    path: str
    text: str
    minor: bool = False


def repaired(body: dict[str, Any], *, counting: bool) -> tuple[dict[str, Any], list[Repair]]:
    """Return an object as the types want it, and what had to be done.

    Args:
        body: the object; it is not changed.
        counting: the file it stands in is of v1, whose classes have their fields in the spec.

    """
    found: list[Repair] = []
    kind = body.get("kind")
    if kind == "DevicePool":
        # Pools can have very many devices: only what is changed is copied.
        return _pool(body, found), found
    mend = {"DeviceClass": _class, "DeviceClaim": _claim, "ConfigMap": _config_map}.get(str(kind))
    if mend is None:
        return body, found
    body = copy.deepcopy(body)
    if mend is _class:
        _class(body, found, counting=counting)
    elif mend is _claim:
        spec = body.get("spec")
        if isinstance(spec, dict):
            _claim(spec, found)
    else:
        _config_map(body, found)
    return body, found


def is_counting(body: dict[str, Any]) -> bool:
    """Tell whether an object can only be of v1, which counts devices."""
    kind, spec = body.get("kind"), body.get("spec")
    if kind in {"DevicePrivilegedClaim", "DeviceSetClaim", "DeviceClaimTemplate"}:
        return True
    if not isinstance(spec, dict):
        return False
    if kind == "DeviceClass":
        return not _OF_V1.isdisjoint(spec)
    return (kind == "DeviceClaim" and "deviceClass" in spec) or (kind == "DevicePool" and "count" in spec)


def _class(body: dict[str, Any], found: list[Repair], *, counting: bool) -> None:
    spec = body.get("spec")
    if not isinstance(spec, dict):
        return
    for wrong, right in _RENAMED_CLASS_FIELDS.items():
        if wrong in spec and right not in spec:
            spec[right] = spec.pop(wrong)
            found.append(Repair(f"spec.{wrong}", f"read as {right}"))
    types = spec.get("deviceType")
    if isinstance(types, list) and len(types) == 1:
        spec["deviceType"] = types[0]
    moved = [name for name in _DEFINITION if name in spec]
    if moved and "definition" not in spec:
        spec["definition"] = {name: spec.pop(name) for name in moved}
        if not counting:
            found.append(Repair("spec", f"{', '.join(moved)} moved to spec.definition"))
    definition = spec.get("definition")
    if isinstance(definition, dict) and not counting and "selector" not in spec:
        if "deviceType" in definition:
            found.append(Repair("spec.deviceType", "deviceType is of an older generation; only a driver counts"))
        if not definition.get("driver"):
            found.append(Repair("spec.definition.driver", "a class without driver selects by device type, if at all"))


def _claim(spec: dict[str, Any], found: list[Repair]) -> None:
    instances = spec.get("devices")
    if not isinstance(instances, list):
        return
    for index, instance in enumerate(instances):
        if not isinstance(instance, dict):
            continue
        place = f"spec.devices[{index}]"
        if "class" in instance:
            detail = {name: instance.pop(name) for name in list(instance) if name not in {"name", "allOf", "oneOf"}}
            instance["allOf"] = [detail, *(instance.get("allOf") or [])]
            found.append(Repair(place, "class directly in the entry read as one entry of allOf"))
        for list_name in ("allOf", "oneOf"):
            details = instance.get(list_name)
            if isinstance(details, list):
                for number, detail in enumerate(details):
                    if isinstance(detail, dict):
                        _detail(detail, f"{place}.{list_name}[{number}]", found)


def _detail(detail: dict[str, Any], place: str, found: list[Repair]) -> None:
    if "devices" in detail:
        requests = detail.setdefault("requests", {})
        if isinstance(requests, dict):
            requests.setdefault("devices", detail.pop("devices"))
            found.append(Repair(f"{place}.devices", "read as requests.devices"))
    if "config" in detail and "configs" not in detail:
        detail["configs"] = detail.pop("config")
        found.append(Repair(f"{place}.config", "read as configs"))
    found.extend(
        Repair(f"{place}.{name}", f"{name} is not in the types of the prototype; understood as documented")
        for name in ("allowShared", "distinctAttributes")
        if name in detail
    )


def _pool(body: dict[str, Any], found: list[Repair]) -> dict[str, Any]:
    spec = body.get("spec")
    if not isinstance(spec, dict):
        return body
    spec = dict(spec)
    if isinstance(spec.get("sharedResources"), dict):
        spec["sharedResources"] = _listed(spec["sharedResources"])
        found.append(Repair("spec.sharedResources", "map of name to capacity read as a list"))
    names = _names(spec.get("sharedResources"))
    devices = spec.get("devices")
    if isinstance(devices, list):
        maps = renamed = 0
        mended: list[Any] = []
        for device in devices:
            if isinstance(device, dict) and len(device) > 1:
                device = _device(device)  # noqa: PLW2901 - the mended copy takes its place
                if isinstance(device.get("claimResourcesProvided"), dict):
                    device["claimResourcesProvided"] = _listed(device["claimResourcesProvided"])
                    maps += 1
                consumed = device.get("sharedResourcesConsumed")
                if isinstance(consumed, dict) and not names.issuperset(consumed):
                    device["sharedResourcesConsumed"], changed = _normal(consumed, names)
                    renamed += changed
            mended.append(device)
        spec["devices"] = mended
        if maps:
            found.append(
                Repair("spec.devices", f"claim resources as map of name to capacity read as a list ({maps} x)")
            )
        if renamed:
            text = f"names of shared resources with leading zeros read without ({renamed} x)"
            found.append(Repair("spec.devices", text, minor=True))
    return body | {"spec": spec}


def _device(device: dict[str, Any]) -> dict[str, Any]:
    """Return a copy with the newer of two spellings; both are valid."""
    return {_SPELLINGS.get(name, name): value for name, value in device.items()}


def _listed(amounts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "capacity": amount} for name, amount in amounts.items()]


def _names(resources: object) -> set[str]:
    if not isinstance(resources, list):
        return set()
    return {str(entry["name"]) for entry in resources if isinstance(entry, dict) and "name" in entry}


_LEADING_ZEROS = re.compile(r"-0+(\d+)$")


def _normal(consumed: dict[str, Any], names: set[str]) -> tuple[dict[str, Any], int]:
    """Call shared resources as the pool does: `memory-slices-00` is its `memory-slices-0`."""
    mended: dict[str, Any] = {}
    changed = 0
    for name, amount in consumed.items():
        normal = _LEADING_ZEROS.sub(r"-\1", str(name))
        if name not in names and normal in names:
            mended[normal] = amount
            changed += 1
        else:
            mended[name] = amount
    return mended, changed


def _config_map(body: dict[str, Any], found: list[Repair]) -> None:
    data = body.get("data")
    if isinstance(data, dict):
        for name, value in data.items():
            if isinstance(value, int | float):
                data[name] = str(value).lower() if isinstance(value, bool) else str(value)
                found.append(Repair(f"data.{name}", "number read as string"))
