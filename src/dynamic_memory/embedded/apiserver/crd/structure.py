# SPDX-License-Identifier: Apache-2.0
"""The schema of a CRD version as a Schema: types, value validations, extensions and compiled rules. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dynamic_memory.cel.environments.validation import compile_message, compile_rule
from dynamic_memory.embedded.apiserver.builtin.models import schema_of
from dynamic_memory.embedded.apiserver.schema import Rule, Schema

__all__ = ["kind_of", "read_schema", "root_schema", "with_object_fields"]

_PLAIN: Final = {
    "type": "type",
    "description": "description",
    "nullable": "nullable",
    "format": "format",
    "pattern": "pattern",
    "minimum": "minimum",
    "maximum": "maximum",
    "exclusiveMinimum": "exclusive_minimum",
    "exclusiveMaximum": "exclusive_maximum",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_items",
    "maxItems": "max_items",
    "minProperties": "min_properties",
    "maxProperties": "max_properties",
    "x-kubernetes-preserve-unknown-fields": "preserve_unknown",
    "x-kubernetes-embedded-resource": "embedded_resource",
    "x-kubernetes-int-or-string": "int_or_string",
    "x-kubernetes-list-type": "list_type",
    "x-kubernetes-map-type": "map_type",
}
_META: Final = {"name": {"type": "string", "maxLength": 253}, "generateName": {"type": "string", "maxLength": 252}}


def kind_of(source: Mapping[str, Any]) -> str:
    """Return the type that a JSON schema names, also one that is not valid; empty if it names none."""
    kind = source.get("type")
    return kind if isinstance(kind, str) else ""


def read_schema(source: Mapping[str, Any], *, root: bool = False) -> Schema:
    """Return the Schema of a JSON schema that is known to be valid.

    Raises:
        CompileError: one of its rules is not CEL or does not fit.

    """
    made = Schema(source=dict(source))
    for name, attribute in _PLAIN.items():
        if source.get(name) is not None:
            setattr(made, attribute, source[name])
    made.required = frozenset(source.get("required") or ())
    if "default" in source and source["default"] is not None:
        made.default = source["default"]
    if source.get("enum") is not None:
        made.enum = tuple(source["enum"])
    made.list_map_keys = tuple(source.get("x-kubernetes-list-map-keys") or ())
    made.properties = {name: read_schema(inner) for name, inner in (source.get("properties") or {}).items()}
    additional = source.get("additionalProperties")
    if isinstance(additional, Mapping):
        made.additional = read_schema(additional)
    elif additional is True:
        made.additional = Schema(preserve_unknown=True)
    if isinstance(source.get("items"), Mapping):
        made.items = read_schema(source["items"])
    for name, attribute in (("allOf", "all_of"), ("anyOf", "any_of"), ("oneOf", "one_of")):
        setattr(made, attribute, tuple(read_schema(inner) for inner in source.get(name) or ()))
    if source.get("not") is not None:
        made.not_ = read_schema(source["not"])
    typed = with_object_fields(source) if root or made.embedded_resource else source
    made.rules = tuple(_rule(rule, typed) for rule in source.get("x-kubernetes-validations") or ())
    below = [*made.properties.values(), *(inner for inner in (made.additional, made.items) if inner is not None)]
    made.deep_rules = bool(made.rules) or any(inner.deep_rules for inner in below)
    return made


def with_object_fields(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema as rules of a whole object see it: with apiVersion, kind and the names in metadata."""
    text = {"type": "string"}
    properties = dict(source.get("properties") or {})
    properties |= {"apiVersion": text, "kind": text, "metadata": {"type": "object", "properties": _META}}
    return {**source, "properties": properties}


def _rule(rule: Mapping[str, Any], schema: Mapping[str, Any]) -> Rule:
    optional_old = bool(rule.get("optionalOldSelf"))
    message = rule.get("messageExpression") or ""
    return Rule(
        rule["rule"],
        rule.get("message") or "",
        message,
        rule.get("reason") or "",
        rule.get("fieldPath") or "",
        optional_old,
        check=compile_rule(rule["rule"], schema, optional_old=optional_old),
        tell=compile_message(message, schema, optional_old=optional_old) if message else None,
    )


def root_schema(source: Mapping[str, Any] | None) -> Schema:
    """Return the Schema of whole objects of a version; None: anything is kept.

    Raises:
        CompileError: one of its rules is not CEL or does not fit.

    """
    made = read_schema(source, root=True) if source is not None else Schema("object", preserve_unknown=True)
    made.type = made.type or "object"
    metadata = schema_of("meta_v1", "ObjectMeta")
    given = made.properties.get("metadata")
    made.properties = {
        "apiVersion": Schema("string", _API_VERSION),
        "kind": Schema("string", _KIND),
        "metadata": Schema(
            "object",
            given.description if given is not None and given.description else "Standard object's metadata.",
            properties={**metadata.properties},
            ref=metadata.ref,
        ),
        **{name: inner for name, inner in made.properties.items() if name not in ("apiVersion", "kind", "metadata")},
    }
    if given is not None:
        _restrict(made.properties["metadata"], given)
    return made


def _restrict(metadata: Schema, given: Schema) -> None:
    """Let a schema's metadata restrict the names, which is all that it may do."""
    for name in ("name", "generateName"):
        inner = given.properties.get(name)
        if inner is not None:
            metadata.properties[name] = inner


_API_VERSION: Final = (
    "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized "
    "schemas to the latest internal value, and may reject unrecognized values. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
)
_KIND: Final = (
    "Kind is a string value representing the REST resource this object represents. Servers may infer this from the "
    "endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)
