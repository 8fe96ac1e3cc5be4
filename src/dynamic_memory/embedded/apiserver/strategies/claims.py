# SPDX-License-Identifier: Apache-2.0
"""ResourceClaims, ResourceClaimTemplates and DeviceClasses, with the validation of the real server.

Objects are in v1: `Versioned` converts what comes in another version. Source: `pkg/apis/resource/validation` and
`pkg/registry/resource` of Kubernetes 1.37.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from dynamic_memory.cel.environments.device import DeviceFeatures, compile_selector
from dynamic_memory.cel.errors import CompileError
from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import (
    dns_label,
    dns_subdomain,
    label_key,
    label_value,
    validate_annotations,
    validate_conditions,
    validate_labels,
)
from dynamic_memory.embedded.apiserver.resource import Context, Resource, Strategy
from dynamic_memory.embedded.apiserver.strategies.checks import (
    check_driver_name,
    check_items,
    check_name,
    check_node_selector,
    check_set,
    check_uuid,
    immutable,
    is_extended_resource,
)
from dynamic_memory.embedded.apiserver.strategies.qualified import check_full_name, check_pool_name

__all__ = ["ClaimStrategy", "ClassStrategy", "TemplateStrategy", "Versioned", "check_binding", "check_toleration"]

MAX_REQUESTS: Final = 32
MAX_ALTERNATIVES: Final = 8
MAX_RESULTS: Final = 32
MAX_CONFIG: Final = 32
MAX_SELECTORS: Final = 32
MAX_TOLERATIONS: Final = 16
MAX_RESERVED: Final = 256
MAX_BINDING: Final = 4
MAX_CONDITIONS: Final = 8
MAX_IPS: Final = 16
MAX_EXPRESSION: Final = 10 * 1024
MAX_RAW: Final = 10 * 1024
MAX_COST: Final = 1_000_000
EFFECTS: Final = ("NoExecute", "NoSchedule", "None")
_REFERENCE: Final = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)
_FEATURES: Final = DeviceFeatures()


class Versioned(Strategy):
    """Applies a strategy for the stored version to objects of another one."""

    asks_for_required = True

    def __init__(self, resource: Resource, inner: Strategy) -> None:
        self._up, self._down, self._inner = resource.to_storage, resource.from_storage, inner

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Fill in defaults."""
        return self._down(self._inner.default(self._up(obj)))

    def prepare_create(self, obj: dict[str, Any], ctx: Context) -> dict[str, Any]:
        """Reset what clients may not set."""
        return self._down(self._inner.prepare_create(self._up(obj), ctx))

    def prepare_update(
        self, new: dict[str, Any], old: dict[str, Any], ctx: Context, subresource: str | None
    ) -> dict[str, Any]:
        """Keep what may not change."""
        return self._down(self._inner.prepare_update(self._up(new), self._up(old), ctx, subresource))

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check a new object; paths are those of the stored version."""
        return self._inner.validate_create(self._up(obj))

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check a changed object; paths are those of the stored version."""
        return self._inner.validate_update(self._up(new), self._up(old), subresource)

    def warnings(self, obj: dict[str, Any]) -> list[str]:
        """Return warnings."""
        return self._inner.warnings(self._up(obj))


class ClaimStrategy(Strategy):
    """ResourceClaim: the spec is immutable, an allocation may only be set and unset."""

    asks_for_required = True

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Fill in counts and times."""
        default_requests((obj.get("spec") or {}).get("devices"))
        return obj

    def prepare_create(self, obj: dict[str, Any], ctx: Context) -> dict[str, Any]:  # noqa: ARG002 - a hook
        """Forget a status that the client sent."""
        obj["status"] = {}
        return obj

    def prepare_update(
        self, new: dict[str, Any], old: dict[str, Any], ctx: Context, subresource: str | None
    ) -> dict[str, Any]:
        """Drop the status of devices that are no longer allocated."""
        del ctx
        status = new.get("status")
        if subresource == "status" and status and status.get("devices"):
            allocated, before = _shares(status), _shares(old.get("status") or {})
            gone = before - allocated
            kept = [device for device in status["devices"] if _share(device) not in gone]
            new["status"] = {**status, "devices": kept}
            if not kept:
                del new["status"]["devices"]
        return new

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check the spec."""
        return check_claim_spec(obj.get("spec") or {}, "spec")

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check that the spec is as it was, or the status."""
        if subresource == "status":
            return _check_status(new, old)
        if (new.get("spec") or {}) == (old.get("spec") or {}):
            return []
        return [fields.invalid("spec", None, "field is immutable")]


class TemplateStrategy(Strategy):
    """ResourceClaimTemplate: immutable."""

    asks_for_required = True

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Fill in counts and times."""
        default_requests(((obj.get("spec") or {}).get("spec") or {}).get("devices"))
        return obj

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check metadata and spec of the claims to be made."""
        spec = obj.get("spec") or {}
        metadata = spec.get("metadata") or {}
        causes = validate_labels(metadata.get("labels"), "spec.metadata.labels")
        causes += validate_annotations(metadata.get("annotations"), "spec.metadata.annotations")
        return causes + check_claim_spec(spec.get("spec") or {}, "spec.spec")

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check that nothing changed."""
        del subresource
        return immutable(new.get("spec") or {}, old.get("spec") or {}, "spec")


class ClassStrategy(Strategy):
    """DeviceClass: expressions that did not change are not compiled again."""

    asks_for_required = True

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check the spec."""
        return _check_class(obj.get("spec") or {}, {})

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check the spec again."""
        del subresource
        return _check_class(new.get("spec") or {}, old.get("spec") or {})


def default_requests(devices: Any) -> None:
    """Fill in the mode of allocation and the count of each request."""
    for request in (devices or {}).get("requests") or ():
        for asked in (request.get("exactly"), *(request.get("firstAvailable") or ())):
            if not isinstance(asked, dict):
                continue
            if not asked.get("allocationMode"):
                asked["allocationMode"] = "ExactCount"
            if asked["allocationMode"] == "ExactCount" and not asked.get("count"):
                asked["count"] = 1
            for toleration in asked.get("tolerations") or ():
                if not toleration.get("operator"):
                    toleration["operator"] = "Equal"


def _check_class(spec: Mapping[str, Any], old: Mapping[str, Any]) -> list[Cause]:
    stored = bool(old) and spec.get("selectors") == old.get("selectors")
    causes = _selectors(spec.get("selectors"), "spec.selectors", stored=stored)
    same = bool(old) and spec.get("config") == old.get("config")
    causes += check_items(
        spec.get("config"), MAX_CONFIG, "spec.config", lambda item, path: _opaque(item, path, stored=same)
    )
    name = spec.get("extendedResourceName")
    if name is not None and not is_extended_resource(name):
        text = "a name must be a domain-prefixed path, such as 'example.com/my-prop'"
        causes.append(fields.invalid("spec.extendedResourceName", name, text))
    return causes


class _Names:
    """The names of a claim's requests, and what constraints ask of them."""

    def __init__(self, devices: Mapping[str, Any]) -> None:
        self.requests: dict[str, set[str]] = {}
        for request in devices.get("requests") or ():
            parts = {part.get("name", "") for part in request.get("firstAvailable") or ()}
            self.requests[request.get("name", "")] = parts
        self.attributes: dict[str, set[str]] = {}
        for constraint in devices.get("constraints") or ():
            name = constraint.get("matchAttribute") or constraint.get("distinctAttribute")
            for target in constraint.get("requests") or ("",):
                self.attributes.setdefault(target, set()).add(name)

    def has(self, reference: str) -> bool:
        """Say whether there is such a request, or subrequest."""
        name, slash, part = reference.partition("/")
        return name in self.requests and (not slash or part in self.requests[name])

    def constrained(self, attribute: str, request: str) -> bool:
        """Say whether a constraint asks for an attribute of a request."""
        targets = ("", request, request.partition("/")[0])
        return any(attribute in self.attributes.get(target, ()) for target in targets)

    def reference(self, name: str, path: str) -> list[Cause]:
        """Check a reference to a request."""
        segments = name.split("/")
        if len(segments) > 2:  # noqa: PLR2004 - request and subrequest
            return [fields.invalid(path, name, _REFERENCE)]
        causes = [cause for segment in segments for cause in check_name(dns_label)(segment, path)]
        if not self.has(name):
            causes.append(fields.invalid(path, name, _REFERENCE))
        return causes


def check_claim_spec(spec: Mapping[str, Any], path: str) -> list[Cause]:
    """Check the spec of a claim."""
    devices, here = spec.get("devices") or {}, f"{path}.devices"
    names = _Names(devices)
    causes = check_set(
        devices.get("requests"),
        MAX_REQUESTS,
        f"{here}.requests",
        lambda request, at: _request(request, at, names),
        lambda request: request.get("name", ""),
    )
    causes += check_items(
        devices.get("constraints"), MAX_REQUESTS, f"{here}.constraints", lambda item, at: _constraint(item, at, names)
    )
    causes += check_items(
        devices.get("config"), MAX_CONFIG, f"{here}.config", lambda item, at: _claim_config(item, at, names)
    )
    return causes


def _request(request: Mapping[str, Any], path: str, names: _Names) -> list[Cause]:
    name = request.get("name", "")
    causes = list(check_name(dns_label)(name, f"{path}.name"))
    alternatives, exact = request.get("firstAvailable"), request.get("exactly")
    text = "exactly one of `exactly` or `firstAvailable` is required"
    if alternatives and exact is not None:
        causes.append(fields.invalid(path, None, f"{text}, but multiple fields are set"))
    elif alternatives:
        causes += check_set(
            alternatives,
            MAX_ALTERNATIVES,
            f"{path}.firstAvailable",
            lambda part, at: [
                *check_name(dns_label)(part.get("name", ""), f"{at}.name"),
                *_asked(part, at, names, f"{name}/{part.get('name', '')}"),
            ],
            lambda part: part.get("name", ""),
        )
    elif exact is not None:
        causes += _asked(exact, f"{path}.exactly", names, name)
    else:
        causes.append(fields.required(path, text))
    return causes


def _asked(asked: Mapping[str, Any], path: str, names: _Names, request: str) -> list[Cause]:
    causes = list(check_name(dns_subdomain)(asked.get("deviceClassName", ""), f"{path}.deviceClassName"))
    causes += _selectors(asked.get("selectors"), f"{path}.selectors", stored=False)
    causes += check_set(
        asked.get("derivedAttributes"),
        MAX_REQUESTS,
        f"{path}.derivedAttributes",
        lambda item, at: _derived(item, at, names, request),
        lambda item: item.get("name", ""),
    )
    mode, count = asked.get("allocationMode", ""), asked.get("count", 0)
    if mode == "All":
        if count:
            text = "must not be specified when allocationMode is 'All'"
            causes.append(fields.invalid(f"{path}.count", count, text))
    elif mode == "ExactCount":
        if count <= 0:
            causes.append(fields.invalid(f"{path}.count", count, "must be greater than zero"))
    else:
        causes.append(fields.not_supported(f"{path}.allocationMode", mode, ("All", "ExactCount")))
    causes += check_items(asked.get("tolerations"), MAX_TOLERATIONS, f"{path}.tolerations", check_toleration)
    return causes


def _selectors(selectors: Any, path: str, *, stored: bool) -> list[Cause]:
    def check(selector: Mapping[str, Any], here: str) -> Iterable[Cause]:
        cel = selector.get("cel")
        if cel is None:
            return [fields.required(f"{here}.cel")]
        return [] if stored else _expression(cel.get("expression", ""), f"{here}.cel.expression", derived=False)

    return check_items(selectors, MAX_SELECTORS, path, check)


def _expression(source: str, path: str, *, derived: bool) -> list[Cause]:
    if len(source.encode()) > MAX_EXPRESSION:
        return [fields.too_long(path, MAX_EXPRESSION)]
    if not source and not derived:
        return [fields.required(path)]
    wrong = _compiled(source, derived)
    if wrong:
        return [fields.invalid(path, source, wrong)]
    if wrong is None:
        return [fields.forbidden(path, "too complex, exceeds cost limit")]
    return []


@functools.lru_cache(maxsize=1024)
def _compiled(source: str, derived: bool) -> str | None:
    """Return what is wrong with an expression, "" if nothing is, None if it costs too much."""
    try:
        compiled = compile_selector(source, _FEATURES, env="new", derived=derived)
    except CompileError as error:
        return f"compilation failed: {error}"
    return None if compiled.program.max_cost > MAX_COST else ""


def _derived(item: Mapping[str, Any], path: str, names: _Names, request: str) -> list[Cause]:
    causes = []
    name, source = item.get("name", ""), item.get("expression", "")
    if not name:
        causes.append(fields.required(f"{path}.name"))
    else:
        causes += check_full_name(name, f"{path}.name")
        if not names.constrained(name, request):
            text = (
                "must be referenced by at least one matchAttribute or distinctAttribute constraint targeting this "
                "request"
            )
            causes.append(fields.invalid(f"{path}.name", name, text))
    causes += (
        _expression(source, f"{path}.expression", derived=True) if source else [fields.required(f"{path}.expression")]
    )
    return causes


def check_toleration(toleration: Mapping[str, Any], path: str) -> list[Cause]:
    """Check a DeviceToleration."""
    causes = []
    name, value, effect = (toleration.get(part, "") for part in ("key", "value", "effect"))
    if name:
        causes += [fields.invalid(f"{path}.key", name, text) for text in label_key(name)]
    operator = toleration.get("operator", "")
    if operator == "Exists":
        if value:
            causes.append(fields.invalid(f"{path}.value", value, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        causes += [fields.invalid(f"{path}.value", value, text) for text in label_value(value)]
    elif not operator:
        causes.append(fields.required(f"{path}.operator"))
    else:
        causes.append(fields.not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in EFFECTS:
        causes.append(fields.not_supported(f"{path}.effect", effect, EFFECTS))
    return causes


def _constraint(constraint: Mapping[str, Any], path: str, names: _Names) -> list[Cause]:
    causes = check_set(constraint.get("requests"), MAX_REQUESTS, f"{path}.requests", names.reference)
    match, distinct = constraint.get("matchAttribute"), constraint.get("distinctAttribute")
    text = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    if match is not None and distinct is not None:
        causes.append(fields.invalid(path, fields.OMIT, text))
    elif match is not None:
        causes += check_full_name(match, f"{path}.matchAttribute")
    elif distinct is not None:
        causes += check_full_name(distinct, f"{path}.distinctAttribute")
    else:
        causes.append(fields.required(path, text))
    return causes


def _claim_config(config: Mapping[str, Any], path: str, names: _Names) -> list[Cause]:
    causes = check_set(config.get("requests"), MAX_REQUESTS, f"{path}.requests", names.reference)
    return causes + _opaque(config, path, stored=False)


def _opaque(config: Mapping[str, Any], path: str, *, stored: bool) -> list[Cause]:
    opaque = config.get("opaque")
    if opaque is None:
        return [fields.required(f"{path}.opaque")]
    causes = check_driver_name(opaque.get("driver", ""), f"{path}.opaque.driver")
    return causes + _raw(opaque.get("parameters"), f"{path}.opaque.parameters", stored=stored)


def _raw(value: Any, path: str, *, stored: bool = False) -> list[Cause]:
    if value is None:
        return [fields.required(path)]
    if not stored and len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) > MAX_RAW:
        return [fields.too_long(path, MAX_RAW)]
    if not isinstance(value, dict):
        return [fields.invalid(path, "<value omitted>", "must be a valid JSON object")]
    return []


Share = tuple[str, str, str, str]


def _share(device: Mapping[str, Any]) -> Share:
    return device.get("driver", ""), device.get("pool", ""), device.get("device", ""), device.get("shareID") or ""


def _shares(status: Mapping[str, Any]) -> set[Share]:
    results = ((status.get("allocation") or {}).get("devices") or {}).get("results") or ()
    return {_share(result) for result in results}


def _check_status(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[Cause]:
    status, before = new.get("status") or {}, old.get("status") or {}
    reserved, allocation = status.get("reservedFor") or [], status.get("allocation")
    names = _Names((new.get("spec") or {}).get("devices") or {})
    causes = check_items(reserved, MAX_RESERVED, "status.reservedFor", _consumer)
    users = [consumer.get("uid", "") for consumer in reserved]
    if len(reserved) <= MAX_RESERVED:
        causes += [
            fields.duplicate(f"status.reservedFor[{index}]", consumer)
            for index, consumer in enumerate(reserved)
            if users[index] in users[:index]
        ]
    shares = _shares(status)
    causes += check_items(
        status.get("devices"), -1, "status.devices", lambda device, path: _device_status(device, path, shares)
    )
    seen: set[Share] = set()
    for index, device in enumerate(status.get("devices") or ()):
        if _share(device) in seen:
            causes.append(fields.duplicate(f"status.devices[{index}]", _shown_share(_share(device))))
        seen.add(_share(device))
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
    if _share(device) not in shares:
        causes.append(fields.invalid(path, _shown_share(_share(device)), "must be an allocated device in the claim"))
    conditions = device.get("conditions") or []
    if len(conditions) > MAX_CONDITIONS:
        causes.append(fields.too_many(f"{path}.conditions", len(conditions), MAX_CONDITIONS))
    causes += validate_conditions(conditions, f"{path}.conditions")
    if device.get("data") is not None:
        causes += _raw(device["data"], f"{path}.data")
    network = device.get("networkData") or {}
    for name, limit in (("interfaceName", 256), ("hardwareAddress", 128)):
        if len(network.get(name, "")) > limit:
            causes.append(fields.too_long(f"{path}.networkData.{name}", limit))
    return causes + check_set(network.get("ips"), MAX_IPS, f"{path}.networkData.ips", lambda *_: ())


def _allocation(allocation: Mapping[str, Any], path: str, names: _Names) -> list[Cause]:
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
        return found + _opaque(item, here, stored=False)

    causes += check_items(devices.get("config"), 2 * MAX_CONFIG, f"{path}.devices.config", config)
    if allocation.get("nodeSelector") is not None:
        causes += check_node_selector(allocation["nodeSelector"], f"{path}.nodeSelector")
    return causes


def _result(result: Mapping[str, Any], path: str, names: _Names) -> list[Cause]:
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
