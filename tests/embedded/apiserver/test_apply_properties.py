# SPDX-License-Identifier: Apache-2.0
"""What holds for every sequence of applies (A21): found by search, on a kind with one field of each sort."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.embedded.support.schemas import CUSTOM

from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.patch import field_sets, managed_fields, typed
from dynamic_memory.embedded.apiserver.patch.apply import apply

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.sampled_from("ab")


def specs(words: st.SearchStrategy[str] = WORDS, values: st.SearchStrategy[str] = WORDS) -> st.SearchStrategy[Any]:
    items = st.lists(
        st.fixed_dictionaries({"a": words}, optional={"v": st.integers(1, 2)}),
        max_size=3,
        unique_by=lambda item: item["a"],
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "text": values,
            "atomic": st.lists(values, max_size=2),
            "names": st.lists(words, max_size=3, unique=True),
            "items": items,
            "table": st.dictionaries(words, st.fixed_dictionaries({}, optional={"x": values, "y": values}), max_size=2),
            "free": st.dictionaries(words, st.dictionaries(words, values, max_size=2), max_size=2),
        },
    )


SPECS = specs()


def write(live: Any, manager: str, spec: Any, *, time: str = "t", force: bool = True) -> Any:
    config = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec}
    return apply(CUSTOM, live, config, manager=manager, force=force, api_version="example.com/v1", time=time)


def update(live: Any, spec: Any) -> Any:
    new = {**live, "spec": spec}
    return managed_fields.update(
        CUSTOM, live, new, manager="hand", subresource=None, api_version="example.com/v1", time="t"
    )


def owned(obj: Any) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", [])}


def sets(obj: Any) -> list[field_sets.Path]:
    fields = typed.field_set(CUSTOM, managed_fields.stripped(obj))
    return list(field_sets.members(managed_fields.strip(fields)))


@QUIET
@given(st.lists(st.tuples(st.sampled_from("mn"), SPECS), max_size=3), SPECS)
def test_A21_applying_twice_is_applying_once(before, spec):
    live = write(None, "o", {"number": 1})  # an object that nobody owns anything of is taken for one without records
    for manager, other in before:
        live = write(live, manager, other)
    # an empty list that takes away what was said is itself there only the next time, as in Kubernetes
    spec = {name: value for name, value in spec.items() if value != []}
    once = write(live, "m", spec, time="t1")
    assert write(once, "m", spec, time="t2", force=False) == once


@QUIET
@given(specs(st.sampled_from("ab"), st.just("x")), specs(st.sampled_from("cd"), st.just("x")))
def test_A21_managers_of_different_fields_commute(one, other):
    ours = {name: spec for name, spec in one.items() if name != "atomic" and spec}
    theirs = {name: spec for name, spec in other.items() if name != "atomic" and spec}
    first = write(write(None, "m", ours, force=False), "n", theirs, force=False)
    second = write(write(None, "n", theirs, force=False), "m", ours, force=False)
    assert sets(first) == sets(second)
    assert owned(first) == owned(second)


@QUIET
@given(st.lists(st.tuples(st.sampled_from("mno"), SPECS), min_size=1, max_size=4))
def test_A21_every_field_of_an_object_made_by_applies_has_an_owner(steps):
    live = None
    for manager, spec in steps:
        live = write(live, manager, spec)
    everything: field_sets.Fields = {}
    for fields in owned(live).values():
        everything = field_sets.union(everything, fields)
    unowned = [path for path in sets(live) if not field_sets.has(everything, path)]
    # containers are held by what is in them; one that was emptied by others may be left, as an empty one
    assert all(any(other[: len(path)] == path for other in field_sets.members(everything)) or _empty(live, path)
               for path in unowned)  # fmt: skip


def _empty(obj: Any, path: field_sets.Path) -> bool:
    value = obj
    for element in path:
        value = value.get(element[2:]) if isinstance(value, dict) else None
    return value in ({}, [], None)


@QUIET
@given(SPECS, SPECS)
def test_A21_taking_everything_back_leaves_what_the_others_say(one, other):
    alone = write(None, "n", other)
    live = write(alone, "m", one)
    live = write(live, "n", other)
    after = write(live, "m", {})
    kept = {name: value for name, value in after.get("spec", {}).items() if value not in ({}, [])}
    said = {name: value for name, value in other.items() if value not in ({}, [])}
    assert sorted(sets({"spec": kept})) == sorted(sets({"spec": said}))
    assert owned(after).get("m") in (None, {"f:spec": {}})


@QUIET
@given(SPECS, SPECS, SPECS)
def test_A21_without_force_nobody_loses_a_value(one, other, third):
    live = update(write(None, "m", one), third)
    try:
        after = write(live, "n", other, force=False)
    except StatusError as error:
        assert error.code == 409  # noqa: PT017 - it may as well succeed
        fields = {cause.field for cause in error.causes}
        everything = {
            field_sets.path_text(path) for fields in owned(live).values() for path in field_sets.members(fields)
        }
        assert fields <= everything
        return
    found = typed.compare(CUSTOM, managed_fields.stripped(live), managed_fields.stripped(after))
    for manager, fields in owned(live).items():
        if manager != "n":
            assert not field_sets.intersection(fields, field_sets.union(found.modified, found.removed))
    for manager in owned(live):
        assert owned(after).get(manager) == owned(live)[manager]


@QUIET
@given(SPECS, SPECS)
def test_A21_an_update_owns_exactly_what_it_changed(one, other):
    live = write(None, "m", one)
    after = update(live, other)
    found = typed.compare(CUSTOM, managed_fields.stripped(live), managed_fields.stripped(after))
    changed = field_sets.union(found.added, found.modified)
    assert owned(after).get("hand", {}) == field_sets.ordered(changed)
    left = field_sets.difference(field_sets.difference(owned(live).get("m", {}), changed), found.removed)
    assert owned(after).get("m", {}) == left


@QUIET
@given(SPECS, SPECS)
def test_A21_sets_of_fields_behave_as_sets(one, other):
    a, b = typed.field_set(CUSTOM, {"spec": one}), typed.field_set(CUSTOM, {"spec": other})

    def paths(fields: field_sets.Fields) -> set[field_sets.Path]:
        return set(field_sets.members(fields))

    assert paths(field_sets.union(a, b)) == paths(a) | paths(b)
    assert paths(field_sets.intersection(a, b)) == paths(a) & paths(b)
    assert paths(field_sets.difference(a, b)) == paths(a) - paths(b)
    assert paths(field_sets.without(a, b)) == {
        path for path in paths(a) if not any(field_sets.has(b, path[: n + 1]) for n in range(len(path)))
    }
    assert field_sets.canonical(field_sets.ordered(a)) == a
