# SPDX-License-Identifier: Apache-2.0
"""Checks that the strategies of several kinds share: lists, sets and maps with limits, names, node selectors. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import (
    NameRule,
    dns_subdomain,
    label_key,
    label_value,
)

__all__ = [
    "Check",
    "check_driver_name",
    "check_items",
    "check_map",
    "check_name",
    "check_node_selector",
    "check_set",
    "check_uuid",
    "immutable",
    "is_extended_resource",
    "is_qualified_resource",
]

Check = Callable[[Any, str], Iterable[Cause]]
"""Takes a value and its path."""

MAX_DRIVER: Final = 63
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def check_items(values: Any, limit: int, path: str, check: Check) -> list[Cause]:
    """Check each element of a list; one that is too long is only that. A negative limit is none."""
    values = values or ()
    if 0 <= limit < len(values):
        return [fields.too_many(path, len(values), limit)]
    return [cause for index, value in enumerate(values) for cause in check(value, fields.at(path, index))]


def check_set(
    values: Any, limit: int, path: str, check: Check, key: Callable[[Any], Any] = lambda value: value
) -> list[Cause]:
    """Check a list without duplicates."""
    causes = check_items(values, limit, path, check)
    if 0 <= limit < len(values or ()):
        return causes
    seen: list[Any] = []
    for index, value in enumerate(values or ()):
        identity = key(value)
        if identity in seen:
            causes.append(fields.duplicate(fields.at(path, index), identity))
        seen.append(identity)
    return causes


def check_map(values: Any, limit: int, path: str, check_key: Check, check: Check) -> list[Cause]:
    """Check names and values of a map."""
    values = values or {}
    if 0 <= limit < len(values):
        return [fields.too_many(path, len(values), limit)]
    causes: list[Cause] = []
    for name, value in values.items():
        causes += check_key(name, path)
        causes += check(value, fields.key(path, name))
    return causes


def check_name(rule: NameRule) -> Check:
    """Return a check of a name that must be there."""

    def check(name: Any, path: str) -> Iterable[Cause]:
        if not name:
            return [fields.required(path)]
        return [fields.invalid(path, name, text) for text in rule(name)]

    return check


def check_driver_name(name: Any, path: str) -> list[Cause]:
    """Check the name of a driver: a DNS subdomain of at most 63 characters."""
    if not name:
        return [fields.required(path)]
    causes = [fields.too_long(path, MAX_DRIVER)] if len(name) > MAX_DRIVER else []
    return causes + [fields.invalid(path, name, text) for text in dns_subdomain(name.lower())]


def check_uuid(value: str, path: str) -> list[Cause]:
    """Check a UUID in its normal form."""
    if _UUID.fullmatch(value):
        return []
    return [fields.invalid(path, value, "must be a lowercase UUID in 8-4-4-4-12 format")]


def immutable(new: Any, old: Any, path: str) -> list[Cause]:
    """Return a complaint if a value changed that may not."""
    return [] if new == old else [fields.invalid(path, new, "field is immutable")]


def check_node_selector(selector: Mapping[str, Any], path: str) -> list[Cause]:
    """Check a NodeSelector."""
    terms, here = selector.get("nodeSelectorTerms") or [], f"{path}.nodeSelectorTerms"
    if not terms:
        return [fields.required(here, "must have at least one node selector term")]
    causes: list[Cause] = []
    for index, term in enumerate(terms):
        causes += check_node_term(term, fields.at(here, index))
    return causes


def check_node_term(term: Mapping[str, Any], path: str) -> list[Cause]:
    """Check one term of a NodeSelector."""
    causes = check_items(term.get("matchExpressions"), -1, f"{path}.matchExpressions", _expression)
    return causes + check_items(term.get("matchFields"), -1, f"{path}.matchFields", _field)


def _expression(term: Mapping[str, Any], path: str) -> list[Cause]:
    operator, values, name = term.get("operator", ""), term.get("values") or [], term.get("key", "")
    causes = []
    if operator in ("In", "NotIn"):
        if not values:
            causes.append(fields.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(fields.forbidden(f"{path}.values", text))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            causes.append(fields.required(f"{path}.values", text))
    else:
        causes.append(fields.invalid(f"{path}.operator", operator, "not a valid selector operator"))
    causes += [fields.invalid(f"{path}.key", name, text) for text in label_key(name)]
    for index, value in enumerate(values):
        causes += [fields.invalid(f"{path}.values[{index}]", value, text) for text in label_value(value)]
    return causes


def _field(term: Mapping[str, Any], path: str) -> list[Cause]:
    operator, values, name = term.get("operator", ""), term.get("values") or [], term.get("key", "")
    causes = []
    if operator not in ("In", "NotIn"):
        causes.append(fields.invalid(f"{path}.operator", operator, "not a valid selector operator"))
    elif len(values) != 1:
        text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        causes.append(fields.required(f"{path}.values", text))
    if name != "metadata.name":
        causes.append(fields.invalid(f"{path}.key", name, "not a valid field selector key"))
    else:
        for index, value in enumerate(values):
            causes += [fields.invalid(f"{path}.values[{index}]", value, text) for text in dns_subdomain(value)]
    return causes


def is_qualified_resource(name: str) -> bool:
    """Say whether a resource is named by a domain."""
    return "/" in name


def is_extended_resource(name: str) -> bool:
    """Say whether a resource is an extended one: of a domain that is not Kubernetes' own."""
    domain, slash, _ = name.partition("/")
    if not slash or domain == "kubernetes.io" or domain.endswith(".kubernetes.io") or name.startswith("requests."):
        return False
    return not label_key(f"requests.{name}")
