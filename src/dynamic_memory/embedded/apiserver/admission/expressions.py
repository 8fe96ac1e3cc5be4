# SPDX-License-Identifier: Apache-2.0
"""The expressions of one policy, compiled, and what they see of a request.

An expression that does not compile makes no trouble until it is asked: then it fails, and the policy's failurePolicy
says what that means. Source: k8s.io/apiserver, pkg/admission/plugin/cel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dynamic_memory.cel import CompileError, EvaluationError, Program
from dynamic_memory.cel.environments.admission import Policy, PolicyBindings
from dynamic_memory.embedded.apiserver.core import NAMESPACES, AdmissionRequest
from dynamic_memory.embedded.apiserver.resource import Resource

__all__ = ["Expression", "Expressions", "Failed", "bindings", "request_value"]

_BUDGET = 10_000_000
"""Cost of all validations of a policy together; match conditions have a quarter of it."""
_OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


class Failed(Exception):
    """An expression could not be evaluated; the text is what Kubernetes says."""


class Expression:
    """One expression.

    Args:
        source: its text.
        policy: whose variables it sees.
        result: kind of its result (`bool`, `string`, `list`, `object`); `dyn` fits always.
        shown: the result type as messages name it.

    """

    def __init__(self, source: str, policy: Policy | str, result: str, shown: str) -> None:
        self.source = source
        self.problem = ""
        self._program: Program | None = None
        if isinstance(policy, str):
            self.problem = policy
            return
        try:
            program = policy.compile(source)
        except CompileError as error:
            self.problem = f"compilation failed: {error.report(source)}"
            return
        kinds = result.split("|")
        if program.result_type.kind not in {*kinds, "dyn"}:
            self.problem = f"must evaluate to {shown} but got {program.result_type}"
            return
        self._program = program

    @property
    def uses_params(self) -> bool:
        """Whether the text speaks of `params`, directly or by a variable."""
        return bool(re.search(r"\b(params|variables)\b", self.source))

    def evaluate(self, values: PolicyBindings, spent: list[int]) -> Any:
        """Return the value.

        Args:
            values: of the variables.
            spent: its one element is the cost that is left; it is reduced.

        Raises:
            Failed: it does not compile, or fails, or costs too much.

        """
        if self._program is None:
            raise Failed(f"compilation error: {self.problem}")
        try:
            value, cost = self._program.measure(values)
        except EvaluationError as error:
            raise Failed(f"expression '{self.source}' resulted in error: {error.message}") from None
        spent[0] -= cost
        if spent[0] < 0:
            raise Failed(_OUT_OF_BUDGET)
        return value


class Expressions:
    """Variables and match conditions, which validating and mutating policies share."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        params = bool(spec.get("paramKind"))
        self.policy = Policy(params=params)
        self._broken = ""
        known: dict[str, str] = {}
        for variable in spec.get("variables") or ():
            name, source = str(variable.get("name")), str(variable.get("expression"))
            try:
                self.policy = Policy({**known, name: source}, params=params)
                known[name] = source
            except CompileError as error:
                self._broken = f"compilation failed: {error.report(source)}"
        self.fails = (spec.get("failurePolicy") or "Fail") != "Ignore"
        self.conditions = [
            self.compile(str(condition.get("expression")), "bool", "bool")
            for condition in spec.get("matchConditions") or ()
        ]
        self.conditions_use_params = any(condition.uses_params for condition in self.conditions)

    def compile(self, source: str, result: str, shown: str) -> Expression:
        """Compile an expression of the policy."""
        return Expression(source, self._broken or self.policy, result, shown)

    def matches(self, values: PolicyBindings) -> bool:
        """Say whether all match conditions hold; one that is false decides, whatever else fails.

        Raises:
            Failed: none is false, and one cannot be evaluated (and the policy fails for it).

        """
        budget = [_BUDGET // 4]
        problems: list[str] = []
        for condition in self.conditions:
            try:
                if condition.evaluate(values, budget) is False:
                    return False
            except Failed as failed:
                problems.append(str(failed))
        if not problems:
            return True
        if not self.fails:
            return False
        raise Failed(problems[0] if len(problems) == 1 else f"[{', '.join(dict.fromkeys(problems))}]")

    def budget(self) -> list[int]:
        """Return what validations may cost."""
        return [_BUDGET]


def bindings(
    expressions: Expressions,
    *,
    obj: Any,
    old: Any,
    request: Mapping[str, Any],
    params: Any,
    namespace: Any,
) -> PolicyBindings:
    """Return what expressions see."""
    return PolicyBindings(
        expressions.policy, object=obj, old_object=old, request=request, params=params, namespace_object=namespace
    )


_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


def _kind(resource: Resource, subresource: str) -> dict[str, str]:
    found = resource.subresources.get(subresource) if subresource else None
    if found is None:
        return {"group": resource.group, "version": resource.version, "kind": resource.kind}
    return {"group": found.group, "version": found.version, "kind": found.kind}


def _plural(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


def request_value(request: AdmissionRequest, matched: Resource) -> dict[str, Any]:
    """Return the variable `request`; fields that are empty are not there, as in Kubernetes."""
    user = request.user
    info: dict[str, Any] = {"username": user.name}
    optional: Sequence[tuple[str, Any]] = (
        ("uid", user.uid),
        ("groups", list(user.groups)),
        ("extra", {name: list(values) for name, values in user.extra.items()}),
    )
    info.update({name: value for name, value in optional if value})
    options = dict(request.options)
    if request.operation in _OPTIONS:
        options.setdefault("kind", _OPTIONS[request.operation])
        options.setdefault("apiVersion", "meta.k8s.io/v1")
    value: dict[str, Any] = {
        "kind": _kind(matched, request.subresource),
        "resource": _plural(matched),
        "requestKind": _kind(request.resource, request.subresource),
        "requestResource": _plural(request.resource),
        "operation": request.operation,
        "userInfo": info,
        "dryRun": request.dry_run,
        "options": options,
    }
    named: Sequence[tuple[str, str]] = (
        ("name", request.name),
        ("namespace", request.name if request.resource.storage == NAMESPACES else request.namespace),
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
    )
    value.update({name: text for name, text in named if text})
    return value
