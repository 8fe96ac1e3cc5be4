# SPDX-License-Identifier: Apache-2.0
"""ValidatingAdmissionPolicies: what they say about a request, in the words of Kubernetes.

Source: k8s.io/apiserver, pkg/admission/plugin/policy/validating.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamic_memory.cel.environments.admission import PolicyBindings
from dynamic_memory.embedded.apiserver.admission.expressions import Expression, Expressions, Failed

__all__ = ["Decision", "ValidatingPolicy"]

MAX_MESSAGE = 5 * 1024
MAX_ANNOTATION = 10 * 1024


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a policy does not agree.

    Attributes:
        reason: of the Status; empty means Invalid.
        number: of the validation, from 0.

    """

    message: str
    reason: str = ""
    number: int = 0


class _Validation:
    def __init__(self, source: Mapping[str, Any], expressions: Expressions) -> None:
        text = str(source.get("expression"))
        self.expression = expressions.compile(text, "bool", "bool")
        self.message = str(source.get("message") or "").strip()
        self.reason = str(source.get("reason") or "Invalid")
        said = source.get("messageExpression")
        self.message_expression = expressions.compile(str(said), "string", "string") if said else None

    def said(self, values: PolicyBindings, budget: list[int]) -> str:
        """Return why a request is refused."""
        return self._evaluated(values, budget) or self.message or f"failed expression: {self.expression.source.strip()}"

    def _evaluated(self, values: PolicyBindings, budget: list[int]) -> str:
        if self.message_expression is None:
            return ""
        try:
            text = self.message_expression.evaluate(values, budget)
        except Failed:
            return ""
        text = text.strip() if isinstance(text, str) else ""
        return "" if "\n" in text or len(text.encode()) > MAX_MESSAGE else text


class ValidatingPolicy:
    """A policy, compiled."""

    def __init__(self, obj: Mapping[str, Any]) -> None:
        spec: Mapping[str, Any] = obj.get("spec") or {}
        self.expressions = Expressions(spec)
        self._validations = [_Validation(source, self.expressions) for source in spec.get("validations") or ()]
        self._annotations: list[tuple[str, Expression]] = [
            (
                str(source.get("key")),
                self.expressions.compile(
                    str(source.get("valueExpression")), "string|null", "one of [string null_type]"
                ),
            )
            for source in spec.get("auditAnnotations") or ()
        ]

    def decide(self, values: PolicyBindings) -> list[Decision]:
        """Return what is wrong with a request that the policy is about."""
        found = []
        budget = self.expressions.budget()
        for number, validation in enumerate(self._validations):
            try:
                if validation.expression.evaluate(values, budget) is not True:
                    said = validation.said(values, budget)
                    found.append(Decision(said, validation.reason, number))
            except Failed as failed:
                if self.expressions.fails:
                    found.append(Decision(str(failed), "", number))
        return found

    def annotations(self, values: PolicyBindings) -> tuple[dict[str, str], list[Decision]]:
        """Return annotations for the audit log, and why some could not be made."""
        found: dict[str, str] = {}
        problems = []
        budget = self.expressions.budget()
        for key, expression in self._annotations:
            try:
                value = expression.evaluate(values, budget)
            except Failed as failed:
                if self.expressions.fails:
                    problems.append(Decision(str(failed)))
                continue
            if isinstance(value, str):
                if text := value.strip():
                    found[key] = text[:MAX_ANNOTATION]
            elif value is not None:
                problems.append(
                    Decision(
                        f"valueExpression '{expression.source}' resulted in unsupported return type: "
                        f"{type(value).__name__}. Return type must be either string or null."
                    )
                )
        return found, problems
