# SPDX-License-Identifier: Apache-2.0
"""The rules of a schema (`x-kubernetes-validations`): whether they are written well, and compile at a bearable cost.

Texts are looked at while the schema is; a rule is compiled only against a schema that is valid otherwise. Source: see
`structural`. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dynamic_memory.cel.cost import UNBOUNDED
from dynamic_memory.cel.environments.validation import compile_message, compile_rule
from dynamic_memory.cel.errors import CompileError
from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.crd.structure import with_object_fields
from dynamic_memory.embedded.apiserver.errors import Cause

__all__ = ["check_rule_texts", "check_rules", "field_schema"]

COST_LIMIT: Final = 10_000_000
"""Estimated cost of one rule."""
_REASONS: Final = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_PATH: Final = re.compile(r"(?:\.[^.\[\]'\s]+|\['(?:[^'\\]|\\.)*'\])+")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\['((?:[^'\\]|\\.)*)'\]")

Source = Mapping[str, Any]


def check_rule_texts(source: Source, path: str) -> Iterator[Cause]:
    """Yield what is wrong with the rules of one node of a schema, as texts."""
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


def check_rules(source: Source, path: str, *, root: bool = False, uncorrelatable: str) -> Iterator[Cause]:
    """Compile the rules of a schema that is valid otherwise."""
    typed = with_object_fields(source) if root or source.get("x-kubernetes-embedded-resource") else source
    for index, rule in enumerate(source.get("x-kubernetes-validations") or ()):
        here = fields.at(f"{path}.x-kubernetes-validations", index)
        yield from _rule(rule, typed, here, uncorrelatable)
    inside = path if source.get("x-kubernetes-map-type") == "atomic" else uncorrelatable
    for name, inner in (source.get("properties") or {}).items():
        if not (root and name == "metadata"):
            yield from check_rules(inner, fields.key(f"{path}.properties", name), uncorrelatable=inside)
    if isinstance(source.get("additionalProperties"), dict):
        yield from check_rules(
            source["additionalProperties"], f"{path}.additionalProperties", uncorrelatable=uncorrelatable
        )
    if isinstance(source.get("items"), dict):
        inside = uncorrelatable if source.get("x-kubernetes-list-type") == "map" else path
        yield from check_rules(source["items"], f"{path}.items", uncorrelatable=inside)


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
