# SPDX-License-Identifier: Apache-2.0
"""Defaults and validation of whole objects: what the pipeline calls, in the order of the real server. Pure.

`complete` fills in defaults after decoding; `check_create` and `check_update` say what is wrong with the result. The
schema says most of it for kinds of CRDs, the Strategy for builtin ones.
"""

from __future__ import annotations

from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.builtin.prototype import GROUP as PROTOTYPE
from dynamic_memory.embedded.apiserver.defaults import apply_defaults
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import (
    NameRule,
    dns_label,
    dns_subdomain,
    path_segment,
    validate_finalizers,
    validate_metadata,
    validate_metadata_update,
)
from dynamic_memory.embedded.apiserver.pruning import drop_nulls
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema

__all__ = ["check_create", "check_update", "complete", "name_rule"]

_NAME_RULES: Final[dict[tuple[str, str], NameRule]] = {
    ("", "Namespace"): dns_label,
    ("", "Service"): dns_label,
    ("rbac.authorization.k8s.io", "Role"): path_segment,
    ("rbac.authorization.k8s.io", "RoleBinding"): path_segment,
    ("rbac.authorization.k8s.io", "ClusterRole"): path_segment,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): path_segment,
}
_BLOCKING: Final = frozenset(
    {
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)
"""Errors with which rules are not asked."""
_ZERO_IS_NOTHING: Final = frozenset({"integer", "number", "boolean"})
_UNCHECKED_BELOW: Final = frozenset({"status", "metadata"})
_MAY_BE_ABSENT: Final = frozenset(
    {
        "io.k8s.api.core.v1.Event",
        "io.k8s.api.events.v1.Event",
        "io.k8s.api.core.v1.Binding",
        "io.k8s.api.authentication.v1.TokenRequestSpec",
        "io.k8s.api.discovery.v1.EndpointSlice",
        "io.k8s.api.rbac.v1.RoleRef",
    }
)
"""Types whose required fields the real server does not ask for."""


def name_rule(resource: Resource) -> NameRule:
    """Return the rule of a kind's names: a DNS subdomain unless the kind has another.

    Names of the prototype may have capitals: its files have (`template-foozer-shared-8Gi`).
    """
    if resource.group == PROTOTYPE:
        return path_segment
    return _NAME_RULES.get((resource.group, resource.kind), dns_subdomain)


def complete(resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
    """Fill in defaults; the object is changed and returned."""
    schema = resource.schema
    if not resource.builtin:
        drop_nulls(schema, obj)
    apply_defaults(schema, obj)
    return resource.strategy.default(obj)


def check_create(resource: Resource, obj: dict[str, Any]) -> list[Cause]:
    """Return what is wrong with a new object that has been given its name."""
    causes = validate_metadata(obj.get("metadata") or {}, name_rule(resource))
    causes += _finalizers(resource, obj) + _content(resource, obj, MISSING)
    return causes + resource.strategy.validate_create(obj)


def check_update(
    resource: Resource, new: dict[str, Any], old: dict[str, Any], subresource: str | None = None
) -> list[Cause]:
    """Return what is wrong with a changed object, beside what is immutable in its metadata.

    Args:
        resource: of the request's version; both objects are in it.
        new: the object as it would become.
        old: as it is.
        subresource: the one that is written, None for the object itself.

    """
    causes = validate_metadata_update(new.get("metadata") or {})
    causes += _finalizers(resource, new) + _content(resource, new, old)
    return causes + resource.strategy.validate_update(new, old, subresource)


def _finalizers(resource: Resource, obj: dict[str, Any]) -> list[Cause]:
    if not resource.builtin or resource.group in {PROTOTYPE, "apiextensions.k8s.io"}:
        return []
    return validate_finalizers(obj.get("metadata") or {})


def _content(resource: Resource, obj: dict[str, Any], old: Any) -> list[Cause]:
    schema = resource.schema
    if resource.builtin:
        skipped = schema.ref in _MAY_BE_ABSENT or resource.strategy.asks_for_required
        return [] if skipped else _absent(schema, obj, "", old)
    body = _without_metadata(obj)
    before = old if old is MISSING else _without_metadata(old)
    plain = _plain_root(schema)
    from dynamic_memory.embedded.apiserver.values import validate_lists, validate_value  # noqa: PLC0415 - needs CEL too

    causes = validate_value(plain, body, "", before)
    causes += validate_lists(plain, body, "", before)
    if not schema.deep_rules:
        return causes
    if any(cause.reason in _BLOCKING for cause in causes):
        text = (
            "some validation rules were not checked because the object was invalid; correct the existing errors to "
            "complete validation"
        )
        return [*causes, fields.invalid("<nil>", None, text)]
    from dynamic_memory.embedded.apiserver.rules import check_rules  # noqa: PLC0415 - CEL takes a while to import

    return causes + check_rules(schema, obj, old)


_PLAIN: dict[int, tuple[Schema, Schema]] = {}


def _plain_root(schema: Schema) -> Schema:
    """Return the schema without metadata, which has its own rules."""
    if "metadata" not in schema.properties:
        return schema
    known = _PLAIN.get(id(schema))
    if known is None or known[0] is not schema:
        properties = {name: inner for name, inner in schema.properties.items() if name != "metadata"}
        plain = Schema(
            schema.type,
            properties=properties,
            required=schema.required - {"metadata"},
            preserve_unknown=schema.preserve_unknown,
            all_of=schema.all_of,
            any_of=schema.any_of,
            one_of=schema.one_of,
            not_=schema.not_,
        )
        known = _PLAIN[id(schema)] = (schema, plain)
    return known[1]


def _without_metadata(obj: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in obj.items() if name != "metadata"}


def _absent(schema: Schema, value: Any, path: str, old: Any) -> list[Cause]:  # noqa: C901 - one walk
    """Return the required fields of a builtin type that are absent.

    Numbers and booleans have a zero that is as good as any value; status is not asked about.
    """
    if old is not MISSING and value == old:
        return []
    causes: list[Cause] = []
    if isinstance(value, list) and schema.items is not None:
        if schema.items.type in ("object", ""):
            for index, item in enumerate(value):
                causes += _absent(schema.items, item, f"{path}[{index}]", MISSING)
        return causes
    if not isinstance(value, dict) or schema.ref in _MAY_BE_ABSENT:
        return causes
    for name in sorted(schema.required - value.keys()):
        inner = schema.properties[name]
        if inner.type not in _ZERO_IS_NOTHING and not inner.int_or_string:
            causes.append(fields.required(fields.child(path, name)))
    before = old if isinstance(old, dict) else {}
    for name, item in value.items():
        if isinstance(item, dict | list):
            inner_schema = schema.child(name)
            if inner_schema is None or (not path and name in _UNCHECKED_BELOW):
                continue
            below = fields.child(path, name) if name in schema.properties else fields.key(path, name)
            causes += _absent(inner_schema, item, below, before.get(name, MISSING))
    return causes
