# SPDX-License-Identifier: Apache-2.0
"""Schemas as OpenAPI v3 components: named types become references, all else stands where it is used.

Builtin types are cyclic and shared between groups, so a document carries every type that its kinds reach, once. Kinds
of CRDs are written as their author wrote them (descriptions, rules and all), with the metadata that every object has.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.builtin.models import schema_of
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema
from dynamic_memory.errors import NeverError

__all__ = ["Components", "component_name", "gvk"]

Json = dict[str, Any]

PREFIX = "#/components/schemas/"
META = "io.k8s.apimachinery.pkg.apis.meta.v1"
MODULES = {
    META: "meta_v1",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1": "apiextensions_v1",
}
TYPES: dict[str, Json] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "description": "A number with a suffix: a decimal (k, M, G, m), a binary (Ki, Mi, Gi) or an exponent.",
        "oneOf": [{"type": "string"}, {"type": "number"}],
    },
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "description": "An integer, or a string such as a percentage or a name.",
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
}
"""Types that are neither an object nor a plain scalar."""

PLAIN = {
    "format": "format",
    "pattern": "pattern",
    "minimum": "minimum",
    "maximum": "maximum",
    "multiple_of": "multipleOf",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_properties": "minProperties",
    "max_properties": "maxProperties",
}
FLAGS = {
    "nullable": "nullable",
    "unique_items": "uniqueItems",
    "exclusive_minimum": "exclusiveMinimum",
    "exclusive_maximum": "exclusiveMaximum",
    "int_or_string": "x-kubernetes-int-or-string",
    "preserve_unknown": "x-kubernetes-preserve-unknown-fields",
    "embedded_resource": "x-kubernetes-embedded-resource",
}
MARKS = {
    "list_type": "x-kubernetes-list-type",
    "map_type": "x-kubernetes-map-type",
    "patch_merge_key": "x-kubernetes-patch-merge-key",
    "patch_strategy": "x-kubernetes-patch-strategy",
}


def gvk(group: str, version: str, kind: str) -> Json:
    """Return a group, version and kind as documents have it."""
    return {"group": group, "kind": kind, "version": version}


def component_name(resource: Resource) -> str:
    """Return the name of a kind's component: of custom kinds it is the group backwards, the version and the kind."""
    if resource.schema.ref:
        return resource.schema.ref
    group = ".".join(reversed(resource.group.split(".")))
    return f"{group}.{resource.version}.{resource.kind}"


def _original(ref: str, node: Schema) -> Schema:
    """Return the type behind a reference: a field that has it carries its own description instead of the type's."""
    package, _, name = ref.rpartition(".")
    module = MODULES.get(package)
    if module is None and package.startswith("io.k8s.api."):
        module = package.removeprefix("io.k8s.api.").replace(".", "_")
    if module is None:
        return node
    try:
        return schema_of(module, name)
    except (NeverError, OSError):
        return node


class Components:
    """The components of one document."""

    def __init__(self) -> None:
        self.schemas: dict[str, Json] = {}
        self._kinds: dict[str, list[Json]] = {}
        self._waiting: list[tuple[str, Schema]] = []

    def add_kind(self, resource: Resource) -> str:
        """Add a kind, its list and all that they reach; return the name of the kind's component."""
        name = component_name(resource)
        source = resource.schema.source
        identity = gvk(resource.group, resource.version, resource.kind)
        self._kinds.setdefault(name, []).append(identity)
        if source is not None and not resource.schema.ref:
            self.schemas[name] = self._custom(source)
        elif name not in self.schemas:
            self._add(name, resource.schema)
        if "list" in resource.verbs:
            self._add_list(resource, name)
        self._drain()
        return name

    def add_type(self, schema: Schema, group: str, version: str, kind: str) -> str:
        """Add the type of a subresource's body; return the name of its component."""
        name = schema.ref or f"{group}.{version}.{kind}"
        identity = gvk(group, version, kind)
        if identity not in self._kinds.setdefault(name, []):
            self._kinds[name].append(identity)
        if name not in self.schemas:
            self._add(name, schema)
        self._drain()
        return name

    def add_meta(self, name: str) -> str:
        """Add a type of meta.v1, such as DeleteOptions; return the name of its component."""
        ref = f"{META}.{name}"
        if ref not in self.schemas:
            self._add(ref, schema_of("meta_v1", name))
            self._drain()
            if name != "Patch":
                self._kinds[ref] = [gvk("", "v1", name)]
        return ref

    def finish(self) -> dict[str, Json]:
        """Return all components, kinds with their identity, sorted by name."""
        for name, identities in self._kinds.items():
            self.schemas[name]["x-kubernetes-group-version-kind"] = identities
        return dict(sorted(self.schemas.items()))

    def _add_list(self, resource: Resource, name: str) -> None:
        list_name = f"{name.rpartition('.')[0]}.{resource.list_kind}"
        self._kinds.setdefault(list_name, []).append(gvk(resource.group, resource.version, resource.list_kind))
        base = schema_of("core_v1", "ConfigMapList")
        properties = {field: self.node(base.properties[field]) for field in ("apiVersion", "kind", "metadata")}
        items = {
            "type": "array",
            "description": f"List of {resource.plural}.",
            "items": {"allOf": [{"$ref": PREFIX + name}], "default": {}},
        }
        self.schemas[list_name] = {
            "type": "object",
            "description": f"{resource.list_kind} is a list of {resource.kind}",
            "required": ["items"],
            "properties": {"apiVersion": properties["apiVersion"], "items": items, **properties},
        }

    def _add(self, name: str, schema: Schema) -> None:
        self.schemas[name] = {}  # known from now on, filled when its turn comes
        self._waiting.append((name, schema))

    def _drain(self) -> None:
        while self._waiting:
            name, schema = self._waiting.pop()
            self.schemas[name] = TYPES.get(name) or self._body(_original(schema.ref, schema))

    def node(self, schema: Schema) -> Json:
        """Return a Schema where it is used: a reference when it has a name, with what the field adds to it."""
        if not schema.ref:
            return self._body(schema)
        if schema.ref not in self.schemas:
            self._add(schema.ref, schema)
        marks = _marks(schema)
        marks.pop("x-kubernetes-map-type", None)  # belongs to the type
        # an element of a list has no description but its type's
        own = schema.description if schema.description != _original(schema.ref, schema).description else ""
        if own or marks or schema.default is not MISSING:
            found: Json = {"allOf": [{"$ref": PREFIX + schema.ref}], **marks}
            if own:
                found["description"] = own
            if schema.default is not MISSING:
                found["default"] = schema.default
            return found
        return {"$ref": PREFIX + schema.ref}

    def _body(self, schema: Schema) -> Json:
        found = _scalars(schema) | _marks(schema) | self._children(schema)
        if schema.rules:
            found["x-kubernetes-validations"] = [_rule(rule) for rule in schema.rules]
        return found

    def _children(self, schema: Schema) -> Json:
        found: Json = {}
        if schema.properties:
            found["properties"] = {name: self.node(child) for name, child in sorted(schema.properties.items())}
        one = {"additionalProperties": schema.additional, "items": schema.items, "not": schema.not_}
        found |= {name: self.node(child) for name, child in one.items() if child is not None}
        many = {"allOf": schema.all_of, "anyOf": schema.any_of, "oneOf": schema.one_of}
        return found | {name: [self.node(child) for child in children] for name, children in many.items() if children}

    def _custom(self, source: Json) -> Json:
        base = schema_of("core_v1", "ConfigMap").properties
        properties = dict(source.get("properties") or {})
        for field in ("apiVersion", "kind", "metadata"):
            properties[field] = self.node(base[field])
        return {**source, "type": "object", "properties": properties}


def _scalars(schema: Schema) -> Json:
    """Return what a Schema says by itself, without what is below it."""
    found: Json = {"type": schema.type} if schema.type else {}
    if schema.description:
        found["description"] = schema.description
    values = ((name, getattr(schema, attribute)) for attribute, name in PLAIN.items())
    found |= {name: value for name, value in values if value is not None and value != ""}
    found |= {name: True for attribute, name in FLAGS.items() if getattr(schema, attribute)}
    if schema.enum is not None:
        found["enum"] = list(schema.enum)
    if schema.default is not MISSING:
        found["default"] = schema.default
    if schema.required:
        found["required"] = sorted(schema.required)
    return found


def _marks(schema: Schema) -> Json:
    found: Json = {name: value for attribute, name in MARKS.items() if (value := getattr(schema, attribute))}
    if schema.list_map_keys:
        found["x-kubernetes-list-map-keys"] = list(schema.list_map_keys)
    return found


def _rule(rule: Any) -> Json:
    names = {
        "rule": rule.rule,
        "message": rule.message,
        "messageExpression": rule.message_expression,
        "reason": rule.reason,
        "fieldPath": rule.field_path,
        "optionalOldSelf": rule.optional_old_self,
    }
    return {name: value for name, value in names.items() if value}
