# SPDX-License-Identifier: Apache-2.0
"""Admission policies and their bindings as objects: what makes one refused before it is ever asked.

Source: `pkg/apis/admissionregistration/validation` of Kubernetes 1.37.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamic_memory.cel.environments.admission import Policy
from dynamic_memory.cel.errors import CompileError
from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import validate_selector
from dynamic_memory.embedded.apiserver.resource import Strategy

__all__ = ["MutatingStrategy", "PolicyBindingStrategy", "ValidatingStrategy"]

MAX_CONDITIONS: Final = 64
_ACTIONS: Final = ("Audit", "Deny", "Warn")
_REASONS: Final = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")

Object = dict[str, Any]


class _Expressions:
    """Compiles the expressions of one policy."""

    def __init__(self, variables: Iterable[Mapping[str, Any]], *, params: bool) -> None:
        self.causes: list[Cause] = []
        known: dict[str, str] = {}
        self._policy = Policy(params=params)
        for index, variable in enumerate(variables):
            path, name, source = f"spec.variables[{index}]", variable.get("name", ""), variable.get("expression", "")
            if not name.strip():
                self.causes.append(fields.required(f"{path}.name", "name is not specified"))
            elif not name.isidentifier():
                self.causes.append(fields.invalid(f"{path}.name", name, "must be a valid CEL identifier"))
            if not source.strip():
                self.causes.append(fields.required(f"{path}.expression", "expression is not specified"))
                continue
            try:
                self._policy = Policy({**known, name: source}, params=params)
                known[name] = source
            except CompileError as error:
                self.causes.append(_failed(f"{path}.expression", source, error))

    def compile(self, source: Any, path: str, result: str) -> None:
        """Compile an expression; `result` is the kind of its value, "" for any."""
        if not isinstance(source, str) or not source.strip():
            self.causes.append(fields.required(path, "expression is not specified"))
            return
        try:
            found = self._policy.compile(source).result_type
        except CompileError as error:
            self.causes.append(_failed(path, source, error))
            return
        if result and found.kind not in (result.partition("(")[0].lower(), "dyn"):
            self.causes.append(fields.invalid(path, source, f"must evaluate to {result} but got {found}"))


def _failed(path: str, source: str, error: CompileError) -> Cause:
    return fields.invalid(path, source, f"compilation failed: {error.report(source)}")


class _PolicyStrategy(Strategy):
    """What both kinds of policies have in common."""

    asks_for_required = True

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check the spec."""
        spec = obj.get("spec") or {}
        causes: list[Cause] = []
        policy = spec.get("failurePolicy")
        if policy not in ("Fail", "Ignore"):
            causes.append(fields.not_supported("spec.failurePolicy", policy or "", ("Fail", "Ignore")))
        causes += _constraints(spec.get("matchConstraints"))
        conditions = spec.get("matchConditions") or []
        if len(conditions) > MAX_CONDITIONS:
            causes.append(fields.too_many("spec.matchConditions", len(conditions), MAX_CONDITIONS))
        expressions = _Expressions(spec.get("variables") or (), params=bool(spec.get("paramKind")))
        for index, condition in enumerate(conditions):
            path = f"spec.matchConditions[{index}]"
            if not condition.get("name"):
                expressions.causes.append(fields.required(f"{path}.name"))
            expressions.compile(condition.get("expression"), f"{path}.expression", "bool")
        causes += self.check(spec, expressions)
        return causes + expressions.causes

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check the spec again, if it changed."""
        return [] if subresource is not None or new.get("spec") == old.get("spec") else self.validate_create(new)

    def check(self, spec: Object, expressions: _Expressions) -> list[Cause]:
        """Check what is the kind's own."""
        raise NotImplementedError


def _constraints(constraints: Any) -> list[Cause]:
    path = "spec.matchConstraints"
    if constraints is None:
        return [fields.required(path)]
    causes = validate_selector(constraints.get("namespaceSelector"), f"{path}.namespaceSelector")
    causes += validate_selector(constraints.get("objectSelector"), f"{path}.objectSelector")
    rules = constraints.get("resourceRules") or []
    if not rules:
        causes.append(fields.required(f"{path}.resourceRules"))
    for index, rule in enumerate(rules):
        causes += [
            fields.required(f"{path}.resourceRules[{index}].{name}")
            for name in ("apiGroups", "apiVersions", "resources", "operations")
            if not rule.get(name)
        ]
    return causes


class ValidatingStrategy(_PolicyStrategy):
    """ValidatingAdmissionPolicy."""

    def check(self, spec: Object, expressions: _Expressions) -> list[Cause]:
        """Check validations and audit annotations."""
        validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
        if not validations and not annotations:
            text = "validations or auditAnnotations must contain at least one item"
            return [fields.required("spec.validations", text), fields.required("spec.auditAnnotations", text)]
        causes = []
        for index, validation in enumerate(validations):
            path, message = f"spec.validations[{index}]", validation.get("message") or ""
            expressions.compile(validation.get("expression"), f"{path}.expression", "bool")
            if validation.get("messageExpression"):
                expressions.compile(validation["messageExpression"], f"{path}.messageExpression", "string")
            if message and not message.strip():
                causes.append(fields.invalid(f"{path}.message", message, "must be non-empty if specified"))
            elif "\n" in message.strip():
                causes.append(fields.invalid(f"{path}.message", message, "must not contain line breaks"))
            reason = validation.get("reason")
            if reason is not None and reason not in _REASONS:
                causes.append(fields.not_supported(f"{path}.reason", reason, _REASONS))
        for index, annotation in enumerate(annotations):
            path = f"spec.auditAnnotations[{index}]"
            if not annotation.get("key"):
                causes.append(fields.required(f"{path}.key"))
            expressions.compile(annotation.get("valueExpression"), f"{path}.valueExpression", "")
        return causes


class MutatingStrategy(_PolicyStrategy):
    """MutatingAdmissionPolicy."""

    def check(self, spec: Object, expressions: _Expressions) -> list[Cause]:
        """Check the mutations."""
        mutations = spec.get("mutations") or []
        causes = [] if mutations else [fields.required("spec.mutations", "mutations must contain at least one item")]
        for index, mutation in enumerate(mutations):
            path, kind = f"spec.mutations[{index}]", mutation.get("patchType", "")
            part = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}.get(kind)
            if part is None:
                values = ("ApplyConfiguration", "JSONPatch")
                causes.append(fields.not_supported(f"{path}.patchType", kind, values))
            elif mutation.get(part) is None:
                causes.append(fields.required(f"{path}.{part}", f"must be specified when patchType is {kind}"))
            else:
                result = "Object" if part == "applyConfiguration" else "list(JSONPatch)"
                expressions.compile(mutation[part].get("expression"), f"{path}.{part}.expression", result)
        if spec.get("reinvocationPolicy") not in ("Never", "IfNeeded"):
            value = spec.get("reinvocationPolicy") or ""
            causes.append(fields.not_supported("spec.reinvocationPolicy", value, ("IfNeeded", "Never")))
        return causes


class PolicyBindingStrategy(Strategy):
    """ValidatingAdmissionPolicyBinding."""

    asks_for_required = True

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check the spec."""
        spec = obj.get("spec") or {}
        causes = [] if spec.get("policyName") else [fields.required("spec.policyName")]
        actions = spec.get("validationActions") or []
        if not actions:
            causes.append(fields.required("spec.validationActions"))
        for index, action in enumerate(actions):
            if action not in _ACTIONS:
                causes.append(fields.not_supported(f"spec.validationActions[{index}]", action, _ACTIONS))
        if "Deny" in actions and "Warn" in actions:
            text = "must not contain both Deny and Warn (repeating the same validation failure information in the API "
            text += "response and headers serves no purpose)"
            causes.append(fields.invalid("spec.validationActions", actions, text))
        return causes

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check the spec again."""
        del old, subresource
        return self.validate_create(new)
