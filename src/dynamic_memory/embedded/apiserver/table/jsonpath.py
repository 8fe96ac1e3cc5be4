# SPDX-License-Identifier: Apache-2.0
r"""The subset of JSONPath that printer columns of CRDs may use.

Fields (`.spec.a`, `['a.b/c']`, `.a\.b`), indices (`[0]`, `[-1]`), slices (`[1:3]`), unions (`[0,1]`), wildcards
(`[*]`, `.*`) and filters (`[?(@.type=="Ready")]`, `[?(@.size>3)]`, `[?(@.name)]`). What is missing has no result; it is
no error. Source: k8s.io/client-go, `util/jsonpath`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

from dynamic_memory.errors import InvalidInput

__all__ = ["parse_path"]

Step = Callable[[Iterable[Any]], Iterable[Any]]
LONGEST = 1024

_FIELD = re.compile(r"((?:[^.\[\]\\]|\\.)+)")
_FILTER = re.compile(r"\?\(\s*@((?:[^=!<>\s]|\\.)*)\s*(?:(==|!=|<=|>=|<|>)\s*(.+?))?\s*\)$")
_QUOTED = re.compile(r"""^(['"])(.*)\1$""")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def parse_path(text: str) -> Callable[[Any], list[Any]]:
    """Return a function from an object to the list of what the path finds there.

    Raises:
        InvalidInput: the path is not within the subset.

    """
    steps = _steps(text)

    def find(value: Any) -> list[Any]:
        found: Iterable[Any] = [value]
        for step in steps:
            found = list(step(found))
        return list(found)

    return find


def _steps(text: str) -> list[Step]:
    path = text.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    if len(path) > LONGEST:
        raise InvalidInput("jsonPath", f"at most {LONGEST} characters", f"{len(path)}")
    steps: list[Step] = []
    while path:
        if path[0] == "[":
            end = _closing(path, text)
            steps.append(_bracket(path[1:end].strip(), text))
            path = path[end + 1 :]
            continue
        path = path.removeprefix(".")
        if not path or path[0] == "[":
            if path:
                continue
            break
        match = _FIELD.match(path)
        if match is None:
            raise InvalidInput("jsonPath", "fields, indices, wildcards or filters", text)
        name = re.sub(r"\\(.)", r"\1", match[1])
        steps.append(_wildcard if name == "*" else _field(name))
        path = path[match.end() :]
    return steps


def _closing(path: str, text: str) -> int:
    """Return where the bracket that opens the path is closed; brackets within quotes do not count."""
    quote = ""
    depth = 0
    for index, char in enumerate(path):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if not depth:
                return index
    raise InvalidInput("jsonPath", "a closing bracket", text)


def _bracket(inner: str, text: str) -> Step:
    if inner == "*":
        return _wildcard
    if inner.startswith("?"):
        return _filter(inner, text)
    if quoted := _QUOTED.match(inner):
        return _field(quoted[2])
    try:
        if ":" in inner:
            return _slice(slice(*(int(part) if part.strip() else None for part in inner.split(":"))))
        indices = [int(part) for part in inner.split(",")]
    except (ValueError, TypeError) as error:
        raise InvalidInput("jsonPath", "an index, a slice, *, a quoted name or a filter in brackets", text) from error
    return _indices(indices)


def _field(name: str) -> Step:
    return lambda values: (value[name] for value in values if isinstance(value, dict) and name in value)


def _indices(indices: list[int]) -> Step:
    def step(values: Iterable[Any]) -> Iterable[Any]:
        for value in values:
            if isinstance(value, list):
                yield from (value[index] for index in indices if -len(value) <= index < len(value))

    return step


def _slice(part: slice) -> Step:
    return lambda values: (item for value in values if isinstance(value, list) for item in value[part])


def _wildcard(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, list):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()


def _literal(text: str) -> Any:
    if quoted := _QUOTED.match(text):
        return quoted[2]
    if text in {"true", "false"}:
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise InvalidInput("jsonPath", "a quoted text, a number, true or false to compare with", text) from None


def _filter(inner: str, text: str) -> Step:
    match = _FILTER.match(inner)
    if match is None:
        raise InvalidInput("jsonPath", "a filter such as [?(@.type=='Ready')]", text)
    find = parse_path(match[1])
    compare = _COMPARE[match[2]] if match[2] else None
    wanted = _literal(match[3]) if match[2] else None

    def holds(item: Any) -> bool:
        found = find(item)
        if compare is None:
            return bool(found)
        try:
            return len(found) == 1 and bool(compare(found[0], wanted))
        except TypeError:
            return False

    return lambda values: (item for value in values if isinstance(value, list) for item in value if holds(item))
