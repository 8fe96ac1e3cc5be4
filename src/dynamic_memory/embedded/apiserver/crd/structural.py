# SPDX-License-Identifier: Apache-2.0
"""Whether the schema of a CRD is one: structural, with known types, list maps that can be keyed, defaults that fit.

Source: `ValidateStructural` and `ValidateCustomResourceDefinitionOpenAPISchema` of apiextensions-apiserver. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dynamic_memory.cel.cost import UNBOUNDED
from dynamic_memory.cel.environments.validation import compile_message, compile_rule
from dynamic_memory.cel.errors import CompileError, Fault
from dynamic_memory.cel.regex import compile_regex
from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.crd.structure import read_schema, with_object_fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.pruning import pruned
from dynamic_memory.embedded.apiserver.values import validate_lists, validate_value
from dynamic_memory.errors import DynamicMemoryError

__all__ = ["check_schema", "field_schema"]

COST_LIMIT: Final = 10_000_000
"""Estimated cost of one rule."""
MAX_DEPTH: Final = 100
_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_REASONS: Final = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_NAMES: Final = ("apiVersion", "kind", "metadata")
_FORBIDDEN: Final = {
    "$ref": "$ref is not supported",
    "additionalItems": "additionalItems is not supported",
    "definitions": "definitions is not supported",
    "dependencies": "dependencies is not supported",
    "id": "id is not supported",
    "patternProperties": "patternProperties is not supported",
}
_NESTED: Final = (
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
)
_EITHER: Final = [{"type": "integer"}, {"type": "string"}]
_PATH: Final = re.compile(r"(?:\.[^.\[\]'\s]+|\['(?:[^'\\]|\\.)*'\])+")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\['((?:[^'\\]|\\.)*)'\]")

Source = Mapping[str, Any]


def check_schema(source: Any, path: str) -> list[Cause]:
    """Return what is wrong with the openAPIV3Schema of a version.

    Args:
        source: the JSON schema.
        path: of it in the CRD.

    """
    if not isinstance(source, dict):
        return [fields.invalid(path, source, "must be an object")]
    if source.get("nullable"):
        return [fields.forbidden(f"{path}.nullable", "nullable cannot be true at the root")]
    causes = list(_node(source, path, "root"))
    if not causes:
        causes += _completeness(source, source, path)
    if not causes:
        causes += _defaults(source, path, root=True)
    if not causes:
        causes += _rules(source, path, root=True, uncorrelatable="")
    return causes


def _kind_of(source: Source) -> str:
    kind = source.get("type")
    return kind if isinstance(kind, str) else ""


def _node(  # noqa: C901 - one walk
    source: Any, path: str, level: str, depth: int = 0
) -> Iterator[Cause]:
    """Check one node and what is below it; level is root, item or field."""
    if not isinstance(source, dict):
        yield fields.invalid(path, source, "must be an object")
        return
    if depth > MAX_DEPTH:
        yield fields.invalid(path, fields.OMIT, f"is nested deeper than {MAX_DEPTH} levels")
        return
    yield from _keywords(source, path)
    yield from _type(source, path, level)
    yield from _lists(source, path)
    yield from _rule_texts(source, path)
    for name, inner in (source.get("properties") or {}).items():
        yield from _node(inner, fields.key(f"{path}.properties", name), "field", depth + 1)
        if name == "metadata" and (level == "root" or source.get("x-kubernetes-embedded-resource")):
            yield from _metadata(inner, fields.key(f"{path}.properties", name), level)
        elif name in ("kind", "apiVersion") and level == "root" and inner.get("type") != "string":
            yield fields.invalid(
                f"{fields.key(f'{path}.properties', name)}.type", inner.get("type", ""), "must be string"
            )
    additional = source.get("additionalProperties")
    if additional is not None:
        if level == "root":
            yield fields.forbidden(f"{path}.additionalProperties", "must not be used at the root")
        if source.get("properties") and additional is not False:
            text = "additionalProperties and properties are mutual exclusive"
            yield fields.forbidden(f"{path}.additionalProperties", text)
        if isinstance(additional, dict):
            yield from _node(additional, f"{path}.additionalProperties", "field", depth + 1)
        elif additional is False:
            text = "additionalProperties cannot be set to false"
            yield fields.forbidden(f"{path}.additionalProperties", text)
    items = source.get("items")
    if isinstance(items, list):
        yield fields.forbidden(f"{path}.items", "items must be a schema object and not an array")
    elif items is not None:
        yield from _node(items, f"{path}.items", "item", depth + 1)
    yield from _junctors(source, path, int_or_string=bool(source.get("x-kubernetes-int-or-string")))


def _keywords(source: Source, path: str) -> Iterator[Cause]:
    for name, text in _FORBIDDEN.items():
        if source.get(name):
            yield fields.forbidden(f"{path}.{name}", text)
    if source.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield fields.forbidden(f"{path}.uniqueItems", text)
    pattern = source.get("pattern")
    if pattern:
        try:
            compile_regex(pattern)
        except (CompileError, Fault, DynamicMemoryError) as error:
            text = f"must be a valid regular expression, but isn't: {error}"
            yield fields.invalid(f"{path}.pattern", pattern, text)
    if source.get("x-kubernetes-preserve-unknown-fields") is False:
        yield fields.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")


def _type(source: Source, path: str, level: str) -> Iterator[Cause]:  # noqa: C901 - a table of rules
    kind = _kind_of(source)
    if kind == "null":
        yield fields.forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    preserve = bool(source.get("x-kubernetes-preserve-unknown-fields"))
    either = bool(source.get("x-kubernetes-int-or-string"))
    embedded = bool(source.get("x-kubernetes-embedded-resource"))
    if kind and kind not in _TYPES:
        yield fields.not_supported(f"{path}.type", kind, _TYPES)
    if embedded and kind != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        yield fields.invalid(f"{path}.type", kind, text) if kind else fields.required(f"{path}.type", text)
    elif not kind and not either and not preserve:
        where = {"root": "at the root", "item": "for specified array items", "field": "for specified object fields"}
        yield fields.required(f"{path}.type", f"must not be empty {where[level]}")
    if level == "root" and kind and kind != "object":
        yield fields.invalid(f"{path}.type", kind, "must be object at the root")
    if either and preserve:
        text = "must be false if x-kubernetes-int-or-string is true"
        yield fields.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", preserve, text)
    if either and embedded:
        text = "must be false if x-kubernetes-int-or-string is true"
        yield fields.invalid(f"{path}.x-kubernetes-embedded-resource", embedded, text)
    if embedded and not preserve and not source.get("properties"):
        text = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        yield fields.required(f"{path}.properties", text)
    map_type = source.get("x-kubernetes-map-type")
    if map_type is not None:
        text = "must be object if x-kubernetes-map-type is specified"
        if kind != "object":
            yield fields.invalid(f"{path}.type", kind, text) if kind else fields.required(f"{path}.type", text)
        if map_type not in ("atomic", "granular"):
            yield fields.not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular"))


def _lists(source: Source, path: str) -> Iterator[Cause]:  # noqa: C901 - a table of rules
    kind, list_type = _kind_of(source), source.get("x-kubernetes-list-type")
    keys, items = source.get("x-kubernetes-list-map-keys") or [], source.get("items")
    here = f"{path}.x-kubernetes-list-type"
    if kind == "array" and items is None:
        yield fields.required(f"{path}.items", "must be specified")
    if list_type is not None:
        text = "must be array if x-kubernetes-list-type is specified"
        if kind != "array":
            yield fields.invalid(f"{path}.type", kind, text) if kind else fields.required(f"{path}.type", text)
        if list_type not in ("atomic", "set", "map"):
            yield fields.not_supported(here, list_type, ("atomic", "set", "map"))
    if keys and list_type != "map":
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        yield fields.invalid(here, list_type, text) if list_type else fields.required(here, text)
    if list_type == "set" and isinstance(items, dict):
        yield from _set_items(items, f"{path}.items")
    if list_type == "map":
        if not keys:
            text = "must not be empty if x-kubernetes-list-type is map"
            yield fields.required(f"{path}.x-kubernetes-list-map-keys", text)
        if isinstance(items, dict):
            yield from _map_items(items, keys, path)
    if list_type in ("set", "map") and isinstance(items, dict) and items.get("nullable"):
        yield fields.forbidden(
            f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is " + list_type
        )


def _set_items(items: Source, path: str) -> Iterator[Cause]:
    text = "must be atomic as item of a list with x-kubernetes-list-type=set"
    if items.get("type") == "array" and items.get("x-kubernetes-list-type") not in (None, "atomic"):
        yield fields.invalid(f"{path}.x-kubernetes-list-type", items["x-kubernetes-list-type"], text)
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        yield fields.invalid(f"{path}.x-kubernetes-map-type", items.get("x-kubernetes-map-type"), text)


def _map_items(items: Source, keys: list[str], path: str) -> Iterator[Cause]:
    if items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        yield fields.invalid(f"{path}.items.type", items.get("type", ""), text)
        return
    where, properties = f"{path}.x-kubernetes-list-map-keys", items.get("properties") or {}
    for at, name in enumerate(keys):
        inner = properties.get(name)
        below = fields.key(f"{path}.items.properties", name)
        if inner is None:
            yield fields.invalid(where, keys, "entries must all be names of item properties")
        elif inner.get("type") in ("array", "object"):
            text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            yield fields.invalid(f"{below}.type", inner["type"], text)
        else:
            if inner.get("default") is None and name not in (items.get("required") or ()):
                text = "this property is in x-kubernetes-list-map-keys, "
                text += "so it must have a default or be a required property"
                yield fields.required(f"{below}.default", text)
            if inner.get("nullable"):
                text = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
                yield fields.forbidden(f"{below}.nullable", text)
        if name in keys[:at]:
            yield fields.invalid(where, keys, "must not contain duplicate entries")


def _metadata(source: Any, path: str, level: str) -> Iterator[Cause]:
    if not isinstance(source, dict):
        return
    if source.get("type") != "object":
        yield fields.invalid(f"{path}.type", source.get("type", ""), "must be object")
    rest = {name for name, value in source.items() if value and name not in ("type", "properties", "description")}
    other = set(source.get("properties") or ()) - {"name", "generateName"}
    if level == "root" and (rest or other):
        text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        yield fields.forbidden(path, text)


def _junctors(source: Source, path: str, *, int_or_string: bool) -> Iterator[Cause]:
    for word in ("allOf", "anyOf", "oneOf"):
        for index, inner in enumerate(source.get(word) or ()):
            here = fields.at(f"{path}.{word}", index)
            if word == "anyOf" and int_or_string and source["anyOf"] == _EITHER:
                continue
            if word == "allOf" and index == 0 and int_or_string and inner == {"anyOf": _EITHER}:
                continue
            yield from _nested(inner, here)
    if source.get("not") is not None:
        yield from _nested(source["not"], f"{path}.not")


def _nested(source: Any, path: str) -> Iterator[Cause]:
    if not isinstance(source, dict):
        yield fields.invalid(path, source, "must be an object")
        return
    for name, text in _NESTED:
        if source.get(name) not in (None, False, "", [], {}):
            yield fields.forbidden(f"{path}.{name}", text)
    yield from _keywords(source, path)
    for name, inner in (source.get("properties") or {}).items():
        if name == "metadata":
            text = "must not be specified in a nested context"
            yield fields.forbidden(fields.key(f"{path}.properties", name), text)
        yield from _nested(inner, fields.key(f"{path}.properties", name))
    if isinstance(source.get("items"), dict):
        yield from _nested(source["items"], f"{path}.items")
    yield from _junctors(source, path, int_or_string=False)


def _completeness(source: Source, main: Any, path: str) -> Iterator[Cause]:
    """Find properties in the root's allOf, anyOf, oneOf and not that the schema itself does not specify."""
    for word in ("allOf", "anyOf", "oneOf", "not"):
        parts = source.get(word) or ()
        for inner in [parts] if isinstance(parts, dict) else parts:
            if isinstance(inner, dict):
                yield from _specified(inner, main, path)
                yield from _completeness(inner, main, path)


def _specified(nested: Source, main: Any, path: str) -> Iterator[Cause]:
    known = main if isinstance(main, dict) else {}
    for name, inner in (nested.get("properties") or {}).items():
        here = fields.key(f"{path}.properties", name)
        below = (known.get("properties") or {}).get(name)
        if below is None and not isinstance(known.get("additionalProperties"), dict):
            text = "because it is defined in a nested value validation and must be specified outside of it, too"
            yield fields.required(here, text)
        elif isinstance(inner, dict):
            yield from _specified(inner, below or known.get("additionalProperties"), here)
    if isinstance(nested.get("items"), dict):
        if known.get("items") is None:
            yield fields.required(f"{path}.items")
        else:
            yield from _specified(nested["items"], known["items"], f"{path}.items")


def _defaults(source: Source, path: str, *, root: bool = False) -> Iterator[Cause]:
    if "default" in source and source["default"] is not None:
        here = f"{path}.default"
        if root:
            yield fields.forbidden(here, "must not be set at the root")
        else:
            schema = read_schema({name: value for name, value in source.items() if name != "x-kubernetes-validations"})
            if pruned(schema, source["default"]) != source["default"]:
                yield fields.invalid(here, source["default"], "must not have unknown fields")
            for cause in (*validate_value(schema, source["default"]), *validate_lists(schema, source["default"])):
                yield Cause(cause.reason, cause.message, f"{here}.{cause.field}" if cause.field else here)
    for name, inner in (source.get("properties") or {}).items():
        below = fields.key(f"{path}.properties", name)
        if root and name in _NAMES:
            if "default" in inner:
                yield fields.forbidden(f"{below}.default", f"must not be set in top-level {name}")
            continue
        yield from _defaults(inner, below)
    for name in ("additionalProperties", "items"):
        if isinstance(source.get(name), dict):
            yield from _defaults(source[name], f"{path}.{name}")


def _rule_texts(source: Source, path: str) -> Iterator[Cause]:
    for index, rule in enumerate(source.get("x-kubernetes-validations") or ()):
        here = fields.at(f"{path}.x-kubernetes-validations", index)
        text, message = rule.get("rule") or "", rule.get("message") or ""
        if not text.strip():
            yield fields.required(f"{here}.rule", "rule is not specified")
        elif message and not message.strip():
            yield fields.invalid(f"{here}.message", message, "must be non-empty if specified")
        elif "\n" in message.strip():
            yield fields.invalid(f"{here}.message", message, "must not contain line breaks")
        elif "\n" in text.strip() and not message.strip():
            yield fields.required(f"{here}.message", "message must be specified if rule contains line breaks")
        expression = rule.get("messageExpression")
        if expression and not expression.strip():
            text = "messageExpression must be non-empty if specified"
            yield fields.required(f"{here}.messageExpression", text)
        reason = rule.get("reason")
        if reason is not None and reason not in _REASONS:
            yield fields.not_supported(f"{here}.reason", reason, _REASONS)
        place = rule.get("fieldPath")
        if place and field_schema(source, place) is None:
            yield fields.invalid(f"{here}.fieldPath", place, "must be a valid path")


def field_schema(source: Source, path: str) -> Source | None:
    """Return the schema at a path of fields (`.spec.size`, `.spec['a.b']`); None if there is none."""
    if not _PATH.fullmatch(path):
        return None
    node: Any = source
    for plain, quoted in _STEP.findall(path):
        name = plain or re.sub(r"\\(.)", r"\1", quoted)
        properties, additional = node.get("properties"), node.get("additionalProperties")
        node = properties.get(name) if properties else additional
        if not isinstance(node, dict):
            return None
    return node  # type: ignore[no-any-return] # a dict by the loop


def _rules(source: Source, path: str, *, root: bool = False, uncorrelatable: str) -> Iterator[Cause]:
    """Compile the rules of a schema that is valid otherwise."""
    typed = with_object_fields(source) if root or source.get("x-kubernetes-embedded-resource") else source
    for index, rule in enumerate(source.get("x-kubernetes-validations") or ()):
        here = fields.at(f"{path}.x-kubernetes-validations", index)
        yield from _rule(rule, typed, here, uncorrelatable)
    inside = path if source.get("x-kubernetes-map-type") == "atomic" else uncorrelatable
    for name, inner in (source.get("properties") or {}).items():
        if not (root and name == "metadata"):
            yield from _rules(inner, fields.key(f"{path}.properties", name), uncorrelatable=inside)
    if isinstance(source.get("additionalProperties"), dict):
        yield from _rules(source["additionalProperties"], f"{path}.additionalProperties", uncorrelatable=uncorrelatable)
    if isinstance(source.get("items"), dict):
        inside = uncorrelatable if source.get("x-kubernetes-list-type") == "map" else path
        yield from _rules(source["items"], f"{path}.items", uncorrelatable=inside)


def _rule(rule: Mapping[str, Any], schema: Source, path: str, uncorrelatable: str) -> Iterator[Cause]:
    optional_old = bool(rule.get("optionalOldSelf"))
    try:
        made = compile_rule(rule["rule"], schema, optional_old=optional_old)
    except CompileError as error:
        yield fields.invalid(f"{path}.rule", rule, f"compilation failed: {error}")
        return
    if made.program.max_cost != UNBOUNDED and made.program.max_cost > COST_LIMIT:
        factor = made.program.max_cost / COST_LIMIT
        text = (
            f"estimated rule cost exceeds budget by factor of {factor:.1f}x (try simplifying the rule, or adding "
            "maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
        )
        yield fields.forbidden(f"{path}.rule", text)
    if made.transition and uncorrelatable:
        text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelatable}"
        yield fields.invalid(f"{path}.rule", rule["rule"], text)
    if not made.transition and "optionalOldSelf" in rule:
        text = "may not be set if oldSelf is not used in rule"
        yield fields.invalid(f"{path}.optionalOldSelf", rule["optionalOldSelf"], text)
    if rule.get("messageExpression"):
        try:
            compile_message(rule["messageExpression"], schema, optional_old=optional_old)
        except CompileError as error:
            text = f"messageExpression compilation failed: {error}"
            yield fields.invalid(f"{path}.messageExpression", rule, text)
