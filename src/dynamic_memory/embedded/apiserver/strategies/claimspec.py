# SPDX-License-Identifier: Apache-2.0
"""The spec of a claim, in a ResourceClaim or a template: requests, selectors, constraints, configuration. Pure.

Source: `pkg/apis/resource/validation` of Kubernetes 1.37.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamic_memory.cel.environments.device import DeviceFeatures, compile_selector
from dynamic_memory.cel.errors import CompileError
from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import dns_label, dns_subdomain, label_key, label_value
from dynamic_memory.embedded.apiserver.strategies.checks import (
    check_driver_name,
    check_items,
    check_name,
    check_set,
)
from dynamic_memory.embedded.apiserver.strategies.qualified import check_full_name

__all__ = [
    "EFFECTS",
    "MAX_CONFIG",
    "MAX_REQUESTS",
    "MAX_TOLERATIONS",
    "RequestNames",
    "check_claim_spec",
    "check_opaque",
    "check_raw",
    "check_selectors",
    "check_toleration",
    "default_requests",
]

MAX_REQUESTS: Final = 32
MAX_ALTERNATIVES: Final = 8
MAX_CONFIG: Final = 32
MAX_SELECTORS: Final = 32
MAX_TOLERATIONS: Final = 16
MAX_EXPRESSION: Final = 10 * 1024
MAX_RAW: Final = 10 * 1024
MAX_COST: Final = 1_000_000
EFFECTS: Final = ("NoExecute", "NoSchedule", "None")
_REFERENCE: Final = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)
_FEATURES: Final = DeviceFeatures()


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


class RequestNames:
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
    names = RequestNames(devices)
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


def _request(request: Mapping[str, Any], path: str, names: RequestNames) -> list[Cause]:
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


def _asked(asked: Mapping[str, Any], path: str, names: RequestNames, request: str) -> list[Cause]:
    causes = list(check_name(dns_subdomain)(asked.get("deviceClassName", ""), f"{path}.deviceClassName"))
    causes += check_selectors(asked.get("selectors"), f"{path}.selectors", stored=False)
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


def check_selectors(selectors: Any, path: str, *, stored: bool) -> list[Cause]:
    """Check selectors; those that are stored compiled once."""

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


def _derived(item: Mapping[str, Any], path: str, names: RequestNames, request: str) -> list[Cause]:
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


def _constraint(constraint: Mapping[str, Any], path: str, names: RequestNames) -> list[Cause]:
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


def _claim_config(config: Mapping[str, Any], path: str, names: RequestNames) -> list[Cause]:
    causes = check_set(config.get("requests"), MAX_REQUESTS, f"{path}.requests", names.reference)
    return causes + check_opaque(config, path, stored=False)


def check_opaque(config: Mapping[str, Any], path: str, *, stored: bool) -> list[Cause]:
    """Check a configuration for a driver."""
    opaque = config.get("opaque")
    if opaque is None:
        return [fields.required(f"{path}.opaque")]
    causes = check_driver_name(opaque.get("driver", ""), f"{path}.opaque.driver")
    return causes + check_raw(opaque.get("parameters"), f"{path}.opaque.parameters", stored=stored)


def check_raw(value: Any, path: str, *, stored: bool = False) -> list[Cause]:
    """Check a value that only a driver understands: an object of limited size."""
    if value is None:
        return [fields.required(path)]
    if not stored and len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) > MAX_RAW:
        return [fields.too_long(path, MAX_RAW)]
    if not isinstance(value, dict):
        return [fields.invalid(path, "<value omitted>", "must be a valid JSON object")]
    return []
