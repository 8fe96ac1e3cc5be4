# SPDX-License-Identifier: Apache-2.0
"""Whether the schema of a CRD is one: structural, with known types, list maps that can be keyed, defaults that fit.

What a schema says of lists is looked at by `lists`, its rules by `validations`. Source: `ValidateStructural` and
`ValidateCustomResourceDefinitionOpenAPISchema` of apiextensions-apiserver. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dynamic_memory.cel.errors import CompileError, Fault
from dynamic_memory.cel.regex import compile_regex
from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.crd.lists import check_list
from dynamic_memory.embedded.apiserver.crd.structure import kind_of, read_schema
from dynamic_memory.embedded.apiserver.crd.validations import check_rule_texts, check_rules
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.pruning import pruned
from dynamic_memory.embedded.apiserver.values import validate_lists, validate_value
from dynamic_memory.errors import DynamicMemoryError

__all__ = ["check_schema"]

MAX_DEPTH: Final = 100
_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
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
        causes += check_rules(source, path, root=True, uncorrelatable="")
    return causes


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
    yield from check_list(source, path)
    yield from check_rule_texts(source, path)
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
    kind = kind_of(source)
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
