# SPDX-License-Identifier: Apache-2.0
"""MutatingAdmissionPolicies: what they make of an object, by JSON patches and by apply configurations.

Source: k8s.io/apiserver, pkg/admission/plugin/policy/mutating.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dynamic_memory.cel import EvaluationError
from dynamic_memory.cel.environments.admission import PolicyBindings, to_json
from dynamic_memory.cel.values import ObjectValue
from dynamic_memory.embedded.apiserver.admission.expressions import Expression, Expressions, Failed
from dynamic_memory.embedded.apiserver.patch import json_patch, typed
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.schema import Schema

__all__ = ["MutatingPolicy"]


class MutatingPolicy:
    """A policy, compiled.

    Attributes:
        reinvoked: whether it wants to see changes that later policies make.

    """

    def __init__(self, obj: Mapping[str, Any]) -> None:
        spec: Mapping[str, Any] = obj.get("spec") or {}
        self.expressions = Expressions(spec)
        self.reinvoked = spec.get("reinvocationPolicy") == "IfNeeded"
        self.mutations = list(self._compiled(spec))

    def _compiled(self, spec: Mapping[str, Any]) -> Iterator[Mutation]:
        for source in spec.get("mutations") or ():
            if source.get("patchType") == "JSONPatch":
                text = str((source.get("jsonPatch") or {}).get("expression"))
                yield JsonPatch(self.expressions.compile(text, "list", "list(JSONPatch)"))
            else:
                text = str((source.get("applyConfiguration") or {}).get("expression"))
                yield ApplyConfiguration(self.expressions.compile(text, "object", "Object"))


class Mutation:
    """One mutation of a policy."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def apply(self, schema: Schema, obj: Object, values: PolicyBindings, budget: list[int]) -> Object:
        """Return the object after the mutation; it is not changed itself.

        Raises:
            Failed: the expression fails, or its result cannot be applied.

        """
        raise NotImplementedError


class JsonPatch(Mutation):
    """`patchType: JSONPatch`: a list of `JSONPatch{}`."""

    def apply(self, schema: Schema, obj: Object, values: PolicyBindings, budget: list[int]) -> Object:  # noqa: ARG002
        """See `Mutation`."""
        result = self.expression.evaluate(values, budget)
        if not isinstance(result, list | tuple):
            raise Failed("type mismatch: JSONPatchType.expression should evaluate to array")
        operations = []
        for entry in result:
            if not isinstance(entry, ObjectValue) or entry.type_name != "JSONPatch":
                raise Failed(
                    "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, "
                    f"got element of {type(entry).__name__}"
                )
            if isinstance(entry.get("value"), ObjectValue):
                _check_names(entry["value"], None)
            operations.append(_json(dict(entry)))
        try:
            changed = json_patch.run(obj, operations)
        except json_patch.TestFailed:
            return obj
        except json_patch.PatchProblem as problem:
            raise Failed(f"JSON Patch: {problem}") from None
        if not isinstance(changed, dict):
            raise Failed("JSON Patch: the result is not an object")
        return changed


class ApplyConfiguration(Mutation):
    """`patchType: ApplyConfiguration`: an `Object{}`, merged as server-side apply does."""

    def apply(self, schema: Schema, obj: Object, values: PolicyBindings, budget: list[int]) -> Object:
        """See `Mutation`."""
        result = self.expression.evaluate(values, budget)
        if not isinstance(result, ObjectValue):
            raise Failed(f"unsupported return type from ApplyConfiguration expression: {type(result).__name__}")
        _check_names(result, "Object")
        config = {**_json(result), "apiVersion": obj.get("apiVersion"), "kind": obj.get("kind")}
        try:
            typed.validate(schema, config)
        except typed.TypeProblem as problem:
            raise Failed(f"error applying patch: failed to convert patch object to typed object: {problem}") from None
        atomics = list(_atomics(schema, config, ""))
        if atomics:
            raise Failed(
                "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: "
                + ", ".join(atomics)
            )
        merged = typed.merge(schema, obj, config)
        return merged if isinstance(merged, dict) else obj


def _json(value: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(to_json(value))
    except EvaluationError as error:
        raise Failed(
            f"JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error.message}"
        ) from None


def _check_names(value: Any, path: str | None) -> None:
    """Check that the type of each object is the path of the field that it stands in.

    Args:
        value: a value of an expression.
        path: expected type name; None = whatever it is.

    """
    if isinstance(value, ObjectValue):
        if path is not None and value.type_name != path:
            raise Failed(
                f'type mismatch: unexpected type name "{value.type_name}", expected "{path}", '
                "which matches field name path from root Object type"
            )
        for name, item in value.items():
            _check_names(item, f"{value.type_name}.{name}")
    elif isinstance(value, list | tuple):
        for item in value:
            _check_names(item, path)
    elif isinstance(value, Mapping):
        for item in value.values():
            _check_names(item, path)


def _atomics(schema: Schema | None, value: Any, path: str) -> Iterator[str]:
    """Return the places where a configuration sets something that is only set as a whole."""
    if schema is None:
        return
    if isinstance(value, dict):
        if schema.map_type == "atomic":
            yield path
        for name, item in value.items():
            if name in schema.properties:
                yield from _atomics(schema.properties[name], item, f"{path}.{name}")
    elif isinstance(value, list):
        if schema.list_type not in {"set", "map"}:
            yield path
        for number, item in enumerate(value):
            yield from _atomics(schema.items, item, f"{path}[{number}]")
