# SPDX-License-Identifier: Apache-2.0
"""Does a node selector select a node?

A selector is compiled once and asked for many nodes. Two selectors with the same content are the same object, so that
the answer for a node can be kept by selector. Semantics as in `k8s.io/component-helpers` (nodeaffinity): terms are
ORed, an empty term selects nothing, and one bad requirement makes the whole selector an error.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping

import msgspec

from dynamic_memory.allocation.errors import InvalidNodeSelector
from dynamic_memory.api.core import NodeSelector, NodeSelectorRequirement

__all__ = ["CompiledSelector", "compile_selector"]

_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64 = 2**63
_NAME_LIMIT = 63
_PREFIX_LIMIT = 253

Test = Callable[[str, Mapping[str, str]], bool]


class CompiledSelector:
    """A node selector, ready to be asked."""

    __slots__ = ("_terms",)

    def __init__(self, terms: tuple[tuple[Test, ...], ...]) -> None:
        self._terms = terms

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Tell whether the node of that name with these labels is selected."""
        return any(all(test(name, labels) for test in term) for term in self._terms)


def compile_selector(selector: NodeSelector, where: str) -> CompiledSelector:
    """Compile a selector; equal ones give the same object.

    Raises:
        InvalidNodeSelector: an operator, key or value is invalid; `where` is who carries the selector.

    """
    compiled = _compile(msgspec.json.encode(selector, order="deterministic"))
    if isinstance(compiled, str):
        raise InvalidNodeSelector(where, compiled)
    return compiled


@functools.lru_cache(maxsize=65536)
def _compile(encoded: bytes) -> CompiledSelector | str:
    selector = msgspec.json.decode(encoded, type=NodeSelector)
    terms = []
    for term in selector.node_selector_terms:
        tests: list[Test] = []
        for requirements, build in ((term.match_expressions, _label_test), (term.match_fields, _field_test)):
            for requirement in requirements:
                test = build(requirement)
                if isinstance(test, str):
                    return test
                tests.append(test)
        if tests:
            terms.append(tuple(tests))
    return CompiledSelector(tuple(terms))


def _label_test(requirement: NodeSelectorRequirement) -> Test | str:  # noqa: C901, PLR0911 - a table of operators
    key, operator, values = requirement.key, requirement.operator, requirement.values
    if not _valid_key(key):
        return f"invalid label key {key!r}"
    for value in values:
        if value and not (_NAME.fullmatch(value) and len(value) <= _NAME_LIMIT):
            return f"invalid label value {value!r}"
    match operator:
        case "In" | "NotIn":
            if not values:
                return f"{operator} needs values"
            wanted = frozenset(values)
            if operator == "In":
                return lambda _, labels: labels.get(key) in wanted
            return lambda _, labels: labels.get(key) not in wanted
        case "Exists" | "DoesNotExist":
            if values:
                return f"{operator} takes no values"
            return (lambda _, labels: key in labels) if operator == "Exists" else (lambda _, labels: key not in labels)
        case "Gt" | "Lt":
            limit = _integer(values[0]) if len(values) == 1 else None
            if limit is None:
                return f"{operator} needs exactly one integer"
            return _comparison(key, limit, greater=operator == "Gt")
    return f"unknown operator {operator!r}"


def _comparison(key: str, limit: int, *, greater: bool) -> Test:
    def test(_: str, labels: Mapping[str, str]) -> bool:
        number = _integer(labels.get(key, ""))
        return number is not None and (number > limit if greater else number < limit)

    return test


def _field_test(requirement: NodeSelectorRequirement) -> Test | str:
    key, operator = requirement.key, requirement.operator
    if operator not in {"In", "NotIn"}:
        return f"unknown operator {operator!r} for a field"
    if len(requirement.values) != 1:
        return f"{operator} on a field needs exactly one value"
    value, equal = requirement.values[0], operator == "In"
    if key == "metadata.name":
        # A node without a name has no fields at all, and then fields are not looked at.
        return lambda name, _: not name or (name == value) == equal
    return lambda name, _: not name or (value == "") == equal


def _valid_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= _PREFIX_LIMIT and _SUBDOMAIN.fullmatch(prefix)):
        return False
    return len(name) <= _NAME_LIMIT and bool(_NAME.fullmatch(name))


def _integer(text: str) -> int | None:
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text) if len(text) <= _NAME_LIMIT else _INT64
    return number if -_INT64 <= number < _INT64 else None
