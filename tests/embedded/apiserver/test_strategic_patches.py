# SPDX-License-Identifier: Apache-2.0
"""Strategic merge patches (A20)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.embedded.support.schemas import DEPLOYMENT

from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.patch import strategic


def pod(*containers: Any, **more: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": list(containers), **more}}}}


def container(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


A, B, C = container("a", image="1"), container("b", image="2"), container("c", image="3")
DELETE_A = {"name": "a", "$patch": "delete"}
TEMPLATE = pod()["spec"]["template"]


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": fields}}}


APPLIES = {
    "items are merged by their key": (pod(A, B), pod(container("b", image="9")), pod(A, {**B, "image": "9"})),
    "a new item comes first": (pod(A, B), pod(C), pod(C, A, B)),
    "an item is deleted": (pod(A, B), pod(DELETE_A), pod(B)),
    "an item that is not there is deleted": (pod(B), pod(DELETE_A), pod(B)),
    "all items are replaced": (pod(A, B), pod(C, {"$patch": "replace"}), pod(C)),
    "an order": (
        pod(A, B, C),
        spec(**{"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}),
        pod(C, A, B),
    ),
    "an order with changes": (
        pod(A, B),
        spec(
            **{
                "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
                "containers": [C, {"name": "b", "image": "9"}, DELETE_A],
            }
        ),
        pod(C, {**B, "image": "9"}),
    ),
    "an order leaves others where they were": (
        pod(A, B, C),
        spec(**{"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}]}),
        pod(A, C, B),
    ),
    "an order of a list that is not there": (
        spec(),
        spec(**{"$setElementOrder/containers": [{"name": "a"}], "containers": [A, {"name": "b", "$patch": "delete"}]}),
        pod(A),
    ),
    "a field is removed": (pod(A), pod({"name": "a", "image": None}), pod({"name": "a"})),
    "a field that is not there is removed": ({"spec": {}}, {"spec": {"replicas": None}}, {"spec": {}}),
    "a map is merged": (
        {"metadata": {"labels": {"a": "1", "b": "2"}}},
        {"metadata": {"labels": {"a": None, "c": "3"}}},
        {"metadata": {"labels": {"b": "2", "c": "3"}}},
    ),
    "a map is replaced": (
        {"metadata": {"labels": {"a": "1", "b": "2"}}},
        {"metadata": {"labels": {"$patch": "replace", "c": "3"}}},
        {"metadata": {"labels": {"c": "3"}}},
    ),
    "a map is deleted": (
        {"metadata": {"labels": {"a": "1", "b": "2"}}},
        {"metadata": {"labels": {"$patch": "delete"}}},
        {"metadata": {"labels": {}}},
    ),
    "a list without a strategy is replaced": (
        pod(container("a", args=["1", "2"])),
        pod(container("a", args=["3"])),
        pod(container("a", args=["3"])),
    ),
    "scalars are added": (
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"finalizers": ["c", "b"]}},
        {"metadata": {"finalizers": ["c", "a", "b"]}},
    ),
    "scalars are taken out": (
        {"metadata": {"finalizers": ["a", "b", "c"]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b", "z"]}},
        {"metadata": {"finalizers": ["a", "c"]}},
    ),
    "scalars are added, taken out and ordered": (
        {"metadata": {"finalizers": ["a", "b"]}},
        {
            "metadata": {
                "$deleteFromPrimitiveList/finalizers": ["a"],
                "$setElementOrder/finalizers": ["c", "b"],
                "finalizers": ["c"],
            }
        },
        {"metadata": {"finalizers": ["c", "b"]}},
    ),
    "only some keys are kept": (
        spec(volumes=[{"name": "v", "emptyDir": {}}]),
        spec(volumes=[{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]),
        spec(volumes=[{"name": "v", "secret": {"secretName": "s"}}]),
    ),
    "only some keys of a struct are kept": (
        {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "1"}}}},
        {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}},
        {"spec": {"strategy": {"type": "Recreate"}}},
    ),
    "directives in what is new mean nothing": (
        {"spec": {}},
        pod(A, DELETE_A, {"name": "b", "env": [{"name": "x", "$patch": "delete"}]}),
        pod(A, {"name": "b", "env": []}),
    ),
    "a scalar for a list": (pod(A), spec(containers="x"), spec(containers="x")),
    "nested lists": (
        pod(container("a", env=[{"name": "x", "value": "1"}, {"name": "y", "value": "2"}])),
        pod(container("a", env=[{"name": "y", "value": "3"}, {"name": "x", "$patch": "delete"}])),
        pod(container("a", env=[{"name": "y", "value": "3"}])),
    ),
}


@pytest.mark.parametrize("case", APPLIES)
def test_A20_a_strategic_patch_applies(case):
    before, patch, after = APPLIES[case]
    text = json.dumps([before, patch])
    assert strategic.apply(DEPLOYMENT, before, patch) == after
    assert json.dumps([before, patch]) == text, "what goes in is left alone"


REFUSED = {
    "no object": ([], 400, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
    "unknown directive": (
        {"spec": {"$patch": "remove"}},
        500,
        "unknown patch type: remove in map: map[$patch:remove]",
    ),
    "no key": (pod({"image": "9"}), 500, "map: map[image:9] does not contain declared merge key: name"),
    "delete without a key": (
        pod({"$patch": "delete"}),
        500,
        "map: map[$patch:delete] does not contain declared merge key: name",
    ),
    "mixed": (pod("x"), 500, "list element types are not identical: [[map[image:1 name:a] map[image:2 name:b]] [x]]"),
    "lists of lists": (pod([]), 422, "the server rejected our request due to an error in our request"),
    "merge of a list": (pod({"$patch": "merge"}), 500, "merging lists cannot yet be specified in the patch"),
    "order of nothing": (spec(**{"$setElementOrder": []}), 400, "invalid patch format of setElementOrder list"),
    "order is no list": (
        spec(**{"$setElementOrder/containers": "a"}),
        500,
        "expected a []interface {}, but received a string",
    ),
    "order without an item of the patch": (
        spec(**{"$setElementOrder/containers": [{"name": "b"}], "containers": [A]}),
        500,
        "The order in patch list:\n[map[image:1 name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
    ),
    "deletion of nothing": (
        {"spec": {"$deleteFromPrimitiveList": ["a"]}},
        400,
        "invalid patch format of primitive list",
    ),
    "kept keys that are not a list": (
        {"spec": {"$retainKeys": "x", "replicas": 1}},
        400,
        "invalid patch format of retainKeys",
    ),
    "kept keys without one that is set": (
        {"spec": {"$retainKeys": ["paused"], "replicas": 1}},
        400,
        "invalid patch format of retainKeys",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_A20_a_strategic_patch_that_does_not_fit_is_refused(case):
    patch, code, text = REFUSED[case]
    with pytest.raises(StatusError) as caught:
        strategic.apply(DEPLOYMENT, pod(A, B), patch)
    assert (caught.value.code, str(caught.value)) == (code, text)


# --- a difference as a patch, made as kubectl makes it

NAMES = st.sampled_from("abcd")
ITEMS = st.dictionaries(
    NAMES, st.fixed_dictionaries({}, optional={"image": NAMES, "args": st.lists(NAMES, max_size=2)})
)
OBJECTS = st.fixed_dictionaries({
    "containers": ITEMS,
    "labels": st.dictionaries(NAMES, NAMES),
    "finalizers": st.lists(NAMES, unique=True),
    "order": st.permutations("abcd"),
})  # fmt: skip


def made(parts: dict[str, Any]) -> dict[str, Any]:
    containers = [{"name": name, **parts["containers"][name]} for name in parts["order"] if name in parts["containers"]]
    return {"metadata": {"labels": parts["labels"], "finalizers": parts["finalizers"]}, **pod(*containers)}


def changes(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = {name: None for name in one if name not in other}
    return patch | {name: item for name, item in other.items() if name not in one or one[name] != item}


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    before, after = ({c["name"]: c for c in each["spec"]["template"]["spec"]["containers"]} for each in (one, other))
    items = [{**changes(before.get(name, {}), item), "name": name} for name, item in after.items()]
    items += [{"name": name, "$patch": "delete"} for name in before if name not in after]
    labels = changes(one["metadata"]["labels"], other["metadata"]["labels"])
    old, new = one["metadata"]["finalizers"], other["metadata"]["finalizers"]
    return {
        "metadata": {
            "labels": labels,
            "finalizers": [name for name in new if name not in old],
            "$deleteFromPrimitiveList/finalizers": [name for name in old if name not in new],
            "$setElementOrder/finalizers": new,
        },
        **spec(**{"containers": items, "$setElementOrder/containers": [{"name": name} for name in after]}),
    }


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(OBJECTS, OBJECTS)
def test_A20_a_difference_as_strategic_patch_brings_one_object_to_the_other(one, other):
    before, after = made(one), made(other)
    patch = difference(before, after)
    assert strategic.apply(DEPLOYMENT, before, patch) == after
    assert strategic.apply(DEPLOYMENT, after, patch) == after, "once more changes nothing"
