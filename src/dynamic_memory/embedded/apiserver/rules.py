# SPDX-License-Identifier: Apache-2.0
"""The CEL rules of CRDs on values: which are asked, what they may cost, and how their answers read. Pure.

Source: `pkg/apiserver/schema/cel/validation.go` of apiextensions-apiserver.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Final

from dynamic_memory.cel.errors import CostExceeded, EvaluationError
from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.schema import MISSING, Rule, Schema
from dynamic_memory.embedded.apiserver.values import NO_PATH, corresponding

__all__ = ["BUDGET", "check_rules", "rule_path"]

BUDGET: Final = 10_000_000
"""Cost of all rules on one object."""
MAX_MESSAGE: Final = 5 * 1024
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\['((?:[^'\\]|\\.)*)'\]")


class _Exhausted(Exception):  # - the end of the budget, not an error of the caller
    """No further rule is asked."""


def check_rules(schema: Schema, value: Any, old: Any = MISSING) -> list[Cause]:
    """Return what the rules of a schema say against a value.

    Args:
        schema: of the value.
        value: of JSON, valid by the schema.
        old: the value before, `MISSING` if there is none.

    """
    if not schema.deep_rules:
        return []
    checker = _Checker()
    with contextlib.suppress(_Exhausted):
        checker.check(schema, value, "", old)
    return checker.causes


def _said(rule: Rule) -> str:
    return rule.rule if "\n" not in rule.rule else json.dumps(rule.rule)


class _Checker:
    """Asks the rules of one object."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []
        self.left = BUDGET

    def check(self, schema: Schema, value: Any, path: str, old: Any) -> None:
        if not schema.deep_rules or value is None:
            return
        before = None if old is MISSING else old
        unchanged = before is not None and before == value
        for rule in schema.rules:
            self._ask(schema, rule, value, path, before, unchanged=unchanged)
        if isinstance(value, dict):
            known = before if isinstance(before, dict) else {}
            for name, item in value.items():
                inner = schema.child(name)
                if inner is not None:
                    below = fields.child(path, name) if name in schema.properties else fields.key(path, name)
                    self.check(inner, item, below, known.get(name, MISSING))
        elif isinstance(value, list) and schema.items is not None:
            found = corresponding(schema, before)
            for index, item in enumerate(value):
                self.check(schema.items, item, fields.at(path, index), found(item))

    def _spend(self, cost: int, schema: Schema, path: str) -> None:
        self.left -= cost
        if self.left < 0:
            text = "validation failed due to running out of cost budget, no further validation rules will be run"
            self.causes.append(fields.invalid(path or NO_PATH, schema.type, text))
            raise _Exhausted

    def _ask(self, schema: Schema, rule: Rule, value: Any, path: str, old: Any, *, unchanged: bool) -> None:
        check = rule.check
        if check.transition and old is None and not rule.optional_old_self:
            return
        if unchanged and not check.transition:
            return
        try:
            holds, cost = check.measure(value, old)
        except CostExceeded as error:
            text = (
                f"'{error.message}': no further validation rules will be run due to call cost exceeds limit for "
                f"rule: {_said(rule)}"
            )
            self.causes.append(fields.invalid(path or NO_PATH, schema.type, text))
            raise _Exhausted from None
        except EvaluationError as error:
            self._failed(schema, rule, path, error)
            return
        self._spend(cost, schema, path)
        if holds is True:
            return
        detail = self._message(schema, rule, value, path, old) or rule.message.strip() or f"failed rule: {_said(rule)}"
        shown = fields.OMIT if schema.type in ("object", "array") else value
        where = f"{path}{rule_path(rule.field_path)}".removeprefix(".") or NO_PATH
        self.causes.append(_cause(rule.reason, where, shown, detail))

    def _failed(self, schema: Schema, rule: Rule, path: str, error: EvaluationError) -> None:
        if error.message.startswith("no such overload"):
            text = (
                f"'{error.message}': call arguments did not match a supported operator, function or macro signature "
                f"for rule: {_said(rule)}"
            )
        else:
            text = f"{error.message} evaluating rule: {_said(rule)}"
        self.causes.append(fields.invalid(path or NO_PATH, schema.type, text))

    def _message(self, schema: Schema, rule: Rule, value: Any, path: str, old: Any) -> str:
        """Return what messageExpression says; "" where it fails or says nothing usable."""
        if rule.tell is None:
            return ""
        try:
            said, cost = rule.tell.measure(value, old)
        except EvaluationError:
            return ""
        self._spend(cost, schema, path)
        text = said.strip() if isinstance(said, str) else ""
        return "" if "\n" in text or len(text) > MAX_MESSAGE else text


def rule_path(field_path: str) -> str:
    """Return a fieldPath (`.spec['a.b']`) as a path of messages (`.spec.a.b`)."""
    steps = _STEP.findall(field_path)
    return "".join("." + (name or re.sub(r"\\(.)", r"\1", quoted)) for name, quoted in steps)


def _cause(reason: str, path: str, value: Any, detail: str) -> Cause:
    if reason == "FieldValueForbidden":
        return fields.forbidden(path, detail)
    if reason == "FieldValueRequired":
        return fields.required(path, detail)
    if reason == "FieldValueDuplicate":
        return fields.duplicate(path, value)
    return fields.invalid(path, value, detail)
