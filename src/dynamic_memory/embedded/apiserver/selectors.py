# SPDX-License-Identifier: Apache-2.0
r"""Label and field selectors: parsed once per request, then one call per object.

Grammar of labels: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, `a>1`, `a<1`, joined by commas,
which all must hold. Grammar of fields: `path=value`, `path==value`, `path!=value`, joined by commas; `\` escapes `,`,
`=` and itself. Source: k8s.io/apimachinery, `pkg/labels/selector.go` and `pkg/fields/selector.go`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dynamic_memory.embedded.apiserver.errors import bad_request

__all__ = ["FieldTerm", "labels_match", "parse_fields", "parse_labels"]

Labels = Mapping[str, str]
Matcher = Callable[[Labels], bool]

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_TOKEN = re.compile(r"\s*(?:(==|!=|[=!<>(),])|([^\s=!<>(),]+))\s*")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_MAX_PREFIX = 253


class FieldTerm(NamedTuple):
    """One condition on a field."""

    path: str
    value: str
    equal: bool


def parse_labels(text: str) -> Matcher | None:
    """Return the test that a selector is, or None if it takes everything.

    Raises:
        StatusError: 400, the text is no selector.

    """
    if not text.strip():
        return None
    tests = _Parser(text).requirements()
    if len(tests) == 1:
        return tests[0]
    return lambda labels: all(test(labels) for test in tests)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [match.group(1) or match.group(2) for match in _TOKEN.finditer(text)]
        self._at = 0

    def requirements(self) -> list[Matcher]:
        tests = [self._requirement()]
        while (token := self._take()) == ",":
            tests.append(self._requirement())
        if token:
            raise self._error(token, "',' or 'end of string'")
        return tests

    def _take(self) -> str:
        token = self._tokens[self._at] if self._at < len(self._tokens) else ""
        self._at += 1
        return token

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _error(self, found: str, expected: str) -> Exception:
        # what stands between requirements is not within one
        prefix = "" if expected.endswith("'end of string'") else "unable to parse requirement: "
        return bad_request(f"{prefix}found '{found}', expected: {expected}")

    def _requirement(self) -> Matcher:  # noqa: PLR0911 - one per form
        if self._peek() == "!":
            self._take()
            absent = self._key(self._take())
            return lambda labels: absent not in labels
        key = self._key(self._take())
        operator = self._peek()
        if operator in {"", ","}:
            return lambda labels: key in labels
        self._take()
        if operator in {"=", "==", "!="}:
            value = self._value(self._scalar())
            if operator == "!=":
                return lambda labels: labels.get(key) != value
            return lambda labels: labels.get(key) == value
        if operator in {"in", "notin"}:
            values = self._set()
            if operator == "in":
                return lambda labels: labels.get(key) in values
            return lambda labels: key not in labels or labels[key] not in values
        if operator in {"<", ">"}:
            return _compared(key, operator, self._scalar())
        raise self._error(operator, "in, notin, =, ==, !=, gt, lt")

    def _scalar(self) -> str:
        """Take a value; nothing before a comma or the end is the empty one."""
        token = self._peek()
        if token in {"", ","}:
            return ""
        if token in {"(", ")", "=", "==", "!=", "!", "<", ">"}:
            raise self._error(token, "identifier")
        return self._take()

    def _set(self) -> frozenset[str]:
        found = self._take()
        if found != "(":
            raise self._error(found, "'('")
        values = {self._value(self._item())}
        while (found := self._take()) == ",":
            values.add(self._value(self._item()))
        if found != ")":
            raise self._error(found, "',' or ')'")
        return frozenset(values)

    def _item(self) -> str:
        return "" if self._peek() in {",", ")"} else self._scalar()

    def _key(self, token: str) -> str:
        prefix, slash, name = token.rpartition("/")
        fine = _NAME.fullmatch(name) and (not slash or (_PREFIX.fullmatch(prefix) and len(prefix) <= _MAX_PREFIX))
        if not fine:
            if token in {"", ",", "(", ")", "=", "==", "!=", "<", ">", "!"}:
                raise self._error(token, "!, identifier, or 'end of string'")
            raise bad_request(f'unable to parse requirement: <nil>: Invalid value: "{token}": {_KEY_RULE}')
        return token

    def _value(self, token: str) -> str:
        if token and not _NAME.fullmatch(token):
            raise bad_request(f'unable to parse requirement: values[0][key]: Invalid value: "{token}": {_VALUE_RULE}')
        return token


_KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


_INTEGER_RULE = "for 'Gt', 'Lt' operators, the value must be an integer"


def _compared(key: str, operator: str, text: str) -> Matcher:
    if not _INTEGER.fullmatch(text):
        raise bad_request(f'unable to parse requirement: values[0]: Invalid value: "{text}": {_INTEGER_RULE}')
    limit = int(text)

    def test(labels: Labels) -> bool:
        found = labels.get(key, "")
        if not _INTEGER.fullmatch(found):
            return False
        return int(found) > limit if operator == ">" else int(found) < limit

    return test


def labels_match(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Say whether a LabelSelector object (`matchLabels`, `matchExpressions`) takes these labels; None takes nothing."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(term, labels) for term in selector.get("matchExpressions") or ())


def _expression(term: Mapping[str, Any], labels: Labels) -> bool:
    key, operator, values = term.get("key", ""), term.get("operator"), term.get("values") or ()
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    return (key in labels) == (operator == "Exists")


def parse_fields(text: str) -> list[FieldTerm]:
    """Return the conditions of a field selector.

    Raises:
        StatusError: 400, the text is no selector.

    """
    terms = []
    for part in _split(text):
        if not part:
            continue
        match = re.match(r"((?:[^\\=!]|\\.)*?)(==|!=|=)(.*)\Z", part, re.DOTALL)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        path, operator, value = match.groups()
        terms.append(FieldTerm(path, _unescaped(value, text), operator != "!="))
    return terms


def _split(text: str) -> list[str]:
    return [part.strip() for part in re.findall(r"(?:[^\\,]|\\.|\\\Z)+", text, re.DOTALL)]


def _unescaped(value: str, text: str) -> str:
    if re.search(r"(?<!\\)(?:\\\\)*[,=]", value) or re.search(r"(?<!\\)(?:\\\\)*\\(?:[^\\,=]|\Z)", value):
        raise bad_request(f"invalid field selector: invalid escape or unescaped character in '{value}' of '{text}'")
    return re.sub(r"\\(.)", r"\1", value)
