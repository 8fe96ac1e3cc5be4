# SPDX-License-Identifier: Apache-2.0
"""Lists, sets and optionals: Kubernetes' lists library, cel-go's lists (version 3), sets and optional types."""

from __future__ import annotations

import functools
import itertools
from typing import Any

from dynamic_memory.cel.errors import Fault
from dynamic_memory.cel.functions.signature import declare
from dynamic_memory.cel.functions.standard import add, index
from dynamic_memory.cel.values import NONE, Duration, Optional, Uint, equal, kind_of, less, order

__all__ = ["INCLUDES", "OVERLOADS", "optional_index"]

MAX_RANGE = 100_000


def _is_sorted(values: Any) -> bool:
    return not any(less(after, before) for before, after in itertools.pairwise(values))


def _best(values: Any, sign: int) -> Any:
    if not values:
        raise Fault(f"{'max' if sign > 0 else 'min'} called on empty list")
    best = values[0]
    for value in values[1:]:
        if order(value, best) == sign:
            best = value
    return best


def _index_of(values: Any, wanted: Any) -> int:
    return next((at for at, value in enumerate(values) if equal(value, wanted)), -1)


def _last_index_of(values: Any, wanted: Any) -> int:
    found = _index_of(values[::-1], wanted)
    return len(values) - 1 - found if found >= 0 else -1


def _includes(target: Any, wanted: Any) -> bool:
    return any(equal(value, wanted) for value in target) if kind_of(target) == "list" else equal(target, wanted)


def _contains(values: Any, wanted: Any) -> bool:
    return all(any(equal(value, want) for value in values) for want in wanted)


def _distinct(values: Any) -> list[Any]:
    result: list[Any] = []
    for value in values:
        if not any(equal(value, kept) for kept in result):
            result.append(value)
    return result


def _flatten(values: Any, depth: int = 1) -> list[Any]:
    if depth < 0:
        raise Fault("level must be non-negative")
    result: list[Any] = []
    for value in values:
        if kind_of(value) == "list" and depth > 0:
            result += _flatten(value, depth - 1)
        else:
            result.append(value)
    return result


def _slice(values: Any, start: int, end: int) -> Any:
    if start < 0 or end < 0 or start > end or end > len(values):
        raise Fault(f"cannot slice({start}, {end}), list is length {len(values)}")
    return values[start:end]


def _range(count: int) -> list[int]:
    if count > MAX_RANGE:
        raise Fault(f"range longer than {MAX_RANGE}")
    return list(range(max(count, 0)))


def optional_index(container: Any, key: Any) -> Optional:
    """Return the element as an optional; of an optional container, the optional of its element."""
    if type(container) is Optional:
        return optional_index(container.value, key) if container.present else NONE
    if kind_of(container) == "list":
        return Optional(container[key]) if type(key) in (int, Uint) and 0 <= key < len(container) else NONE
    try:
        return Optional(index(container, key))
    except Fault as fault:
        if str(fault).startswith("no such key"):
            return NONE
        raise


def _value(optional: Optional) -> Any:
    if optional.present:
        return optional.value
    raise Fault("optional.none() dereference")


def _of_non_zero(value: Any) -> Optional:
    zero = value is None or (
        kind_of(value) in ("bool", "int", "uint", "double", "string", "bytes", "list", "map", "object") and not value
    )
    return NONE if zero or (type(value) is Duration and not value.nanos) else Optional(value)


def _sum(zero: Any) -> Any:
    return lambda values: functools.reduce(add, values, zero)


_ZEROS = {"int": 0, "uint": Uint(0), "double": 0.0, "duration": Duration(0)}
_COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
INCLUDES = declare([("list_includes_dyn_dyn", "dyn.includes(dyn) -> bool", _includes)])
OVERLOADS = declare(
    [
        *((f"list_{n}_is_sorted_bool", f"list({n}).isSorted() -> bool", _is_sorted) for n in _COMPARABLE),
        *((f"list_{n}_sum_{n}", f"list({n}).sum() -> {n}", _sum(zero)) for n, zero in _ZEROS.items()),
        *((f"list_{n}_max_{n}", f"list({n}).max() -> {n}", functools.partial(_best, sign=1)) for n in _COMPARABLE),
        *((f"list_{n}_min_{n}", f"list({n}).min() -> {n}", functools.partial(_best, sign=-1)) for n in _COMPARABLE),
        ("list_a_index_of_int", "list(A).indexOf(A) -> int", _index_of),
        ("list_a_last_index_of_int", "list(A).lastIndexOf(A) -> int", _last_index_of),
        ("list_distinct", "list(A).distinct() -> list(A)", _distinct),
        ("list_flatten", "list(list(A)).flatten() -> list(A)", _flatten),
        ("list_flatten_int", "list(dyn).flatten(int) -> list(dyn)", _flatten),
        ("list_slice", "list(A).slice(int, int) -> list(A)", _slice),
        ("list_reverse", "list(A).reverse() -> list(A)", lambda values: values[::-1]),
        ("lists_range", "lists.range(int) -> list(int)", _range),
        *(
            (
                f"list_{n}_sort",
                f"list({n}).sort() -> list({n})",
                lambda values: sorted(values, key=functools.cmp_to_key(order)),
            )
            for n in _COMPARABLE
        ),
        ("list_sets_contains_list", "sets.contains(list(A), list(A)) -> bool", _contains),
        (
            "list_sets_equivalent_list",
            "sets.equivalent(list(A), list(A)) -> bool",
            lambda a, b: _contains(a, b) and _contains(b, a),
        ),
        (
            "list_sets_intersects_list",
            "sets.intersects(list(A), list(A)) -> bool",
            lambda a, b: any(_contains(a, [x]) for x in b),
        ),
        ("optional_of", "optional.of(A) -> optional(A)", Optional),
        ("optional_ofNonZeroValue", "optional.ofNonZeroValue(A) -> optional(A)", _of_non_zero),
        ("optional_none", "optional.none() -> optional(dyn)", lambda: NONE),
        ("optional_value", "optional(A).value() -> A", _value),
        ("optional_hasValue", "optional(A).hasValue() -> bool", lambda o: o.present),
        ("optional_map_optindex_optional_value", "_[?_](optional(map(A, B)), A) -> optional(B)", optional_index),
        ("optional_list_optindex_optional_int", "_[?_](optional(list(A)), int) -> optional(A)", optional_index),
        ("map_optindex_optional_value", "_[?_](map(A, B), A) -> optional(B)", optional_index),
        ("list_optindex_optional_int", "_[?_](list(A), int) -> optional(A)", optional_index),
        ("optional_map_index_value", "_[_](optional(map(A, B)), A) -> optional(B)", optional_index),
        ("optional_list_index_int", "_[_](optional(list(A)), int) -> optional(A)", optional_index),
        ("optional_or_optional", "optional(A).or(optional(A)) -> optional(A)", lambda a, b: a if a.present else b),
        ("optional_orValue_value", "optional(A).orValue(A) -> A", lambda a, b: a.value if a.present else b),
    ],
    static=["sets", "optional", "lists"],
)
