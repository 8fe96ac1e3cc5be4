# SPDX-License-Identifier: Apache-2.0
"""JSON patches and merge patches (A20)."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.patch import json_patch, merge_patch

OBJECT = {"a": {"b": [1, 2, 3], "c": "x"}, "d/e": 1, "m~n": 2, "n": None}

APPLIES = {
    "add a field": ([{"op": "add", "path": "/a/d", "value": {}}], {"a": {"b": [1, 2, 3], "c": "x", "d": {}}}),
    "add replaces": ([{"op": "add", "path": "/a", "value": 1}], {"a": 1}),
    "add to the end": ([{"op": "add", "path": "/a/b/-", "value": 4}], {"a": {"b": [1, 2, 3, 4], "c": "x"}}),
    "add in the middle": ([{"op": "add", "path": "/a/b/1", "value": 9}], {"a": {"b": [1, 9, 2, 3], "c": "x"}}),
    "add before the last": ([{"op": "add", "path": "/a/b/-1", "value": 9}], {"a": {"b": [1, 2, 3, 9], "c": "x"}}),
    "add null": ([{"op": "add", "path": "/z", "value": None}], {"z": None}),
    "remove": ([{"op": "remove", "path": "/a/b/0"}], {"a": {"b": [2, 3], "c": "x"}}),
    "remove from the end": ([{"op": "remove", "path": "/a/b/-1"}], {"a": {"b": [1, 2], "c": "x"}}),
    "replace": ([{"op": "replace", "path": "/a/b/2", "value": 7}], {"a": {"b": [1, 2, 7], "c": "x"}}),
    "replace all": ([{"op": "replace", "path": "", "value": {"z": 1}}], None),
    "escapes": ([{"op": "replace", "path": "/d~1e", "value": 7}, {"op": "remove", "path": "/m~0n"}], None),
    "move": ([{"op": "move", "from": "/a/c", "path": "/a/b/0"}], {"a": {"b": ["x", 1, 2, 3]}}),
    "copy": ([{"op": "copy", "from": "/a/b", "path": "/z"}], {"z": [1, 2, 3]}),
    "test": ([{"op": "test", "path": "/a/b", "value": [1, 2, 3]}, {"op": "test", "path": "/n", "value": None}], {}),
    "test of what is not there": ([{"op": "test", "path": "/zz", "value": None}], {}),
}
WHOLE = {"replace all": {"z": 1}, "escapes": {"a": OBJECT["a"], "d/e": 7, "n": None}}


@pytest.mark.parametrize("case", APPLIES)
def test_A20_a_json_patch_applies(case):
    operations, expected = APPLIES[case]
    before = json.dumps(OBJECT)
    assert json_patch.apply(OBJECT, operations) == (OBJECT | expected if expected is not None else WHOLE[case])
    assert json.dumps(OBJECT) == before, "the object itself is left alone"


def op(kind: Any, path: Any = "/a/c", **more: Any) -> dict[str, Any]:
    return {"op": kind, "path": path, **more}


REFUSED = {
    "test says no": (op("test", value="y"), "testing value /a/c failed: test failed"),
    "true is not one": (op("test", "/d~1e", value=True), "testing value /d~1e failed: test failed"),
    "nothing to remove": (
        op("remove", "/z"),
        "error in remove for path: '/z': Unable to remove nonexistent key: z: missing value",
    ),
    "no way there": (
        op("add", "/z/y", value=1),
        'add operation does not apply: doc is missing path: "/z/y": missing value',
    ),
    "nothing to replace": (
        op("replace", "/z/y", value=1),
        "replace operation does not apply: doc is missing path: /z/y: missing value",
    ),
    "index too large": (
        op("add", "/a/b/4", value=1),
        "error in add for path: '/a/b/4': Unable to access invalid index: 4: invalid index referenced",
    ),
    "index too small": (
        op("remove", "/a/b/-4"),
        "error in remove for path: '/a/b/-4': Unable to access invalid index: -4: invalid index referenced",
    ),
    "no index": (
        op("add", "/a/b/x", value=1),
        (
            "error in add for path: '/a/b/x': value was not a proper array index: 'x': "
            'strconv.Atoi: parsing "x": invalid syntax'
        ),
    ),
    "no such index to replace": (
        op("replace", "/a/b/7", value=1),
        "replace operation does not apply: doc is missing key: /a/b/7: missing value",
    ),
    "move of nothing": (
        op("move", **{"from": "/y/z"}),
        "move operation does not apply: doc is missing from path: /y/z: missing value",
    ),
    "copy to nowhere": (
        op("copy", "/y/z", **{"from": "/a"}),
        "copy operation does not apply: doc is missing destination path: /y/z: missing value",
    ),
    "no from": (op("copy"), "copy operation failed to decode from: operation, missing from field: missing value"),
    "no path": (op("add", None), "add operation failed to decode path: missing value"),
    "unknown": (op("merge"), "Unexpected kind: merge"),
    "no operation": (op(None), "Unexpected kind: unknown"),
    "scalar instead of all": (
        op("replace", "", value=1),
        "replace operation value must be object or array: missing value",
    ),
    "list instead of all": (op("replace", "", value=[]), None),
}


@pytest.mark.parametrize("case", REFUSED)
def test_A20_a_json_patch_that_does_not_apply_is_422(case):
    operation, why = REFUSED[case]
    with pytest.raises(StatusError) as caught:
        json_patch.apply(OBJECT, [operation])
    status = caught.value.status()
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert status["message"] == "the server rejected our request due to an error in our request"
    assert caught.value.__cause__ is None or str(caught.value.__cause__) == why


@pytest.mark.parametrize(("patch", "kind"), [({}, "object"), ("x", "string"), (1, "number"), (True, "bool")])
def test_A20_a_json_patch_is_a_list(patch, kind):
    with pytest.raises(StatusError, match=f"json: cannot unmarshal {kind} into Go value of type"):
        json_patch.apply(OBJECT, patch)
    with pytest.raises(StatusError, match="error decoding patch"):
        json_patch.apply(OBJECT, [[patch]])


def test_A20_a_json_patch_has_limits():
    many = [op("test", value="x")] * 10_001
    with pytest.raises(StatusError) as caught:
        json_patch.apply(OBJECT, many)
    assert caught.value.code == 413
    assert str(caught.value) == (
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    )
    json_patch.apply(OBJECT, many[1:])
    doubling = [op("add", "/x", value=["y" * 1000]), *([op("copy", "/x/-", **{"from": "/x"})] * 100)]
    with pytest.raises(StatusError) as caught:
        json_patch.apply(OBJECT, doubling)
    assert caught.value.code == 422


QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "~/", "c"]), inner, max_size=4)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "~/", "c"]), VALUES, max_size=4)


@QUIET
@given(OBJECTS, OBJECTS)
def test_A20_a_difference_as_json_patch_brings_one_object_to_the_other(one, other):
    operations = jsonpatch.make_patch(one, other).patch
    assert json_patch.apply(one, operations) == other


@QUIET
@given(OBJECTS, st.lists(st.fixed_dictionaries({
    "op": st.sampled_from(["add", "remove", "test", "move", "copy"]),
    "path": st.sampled_from(["/a", "/b/0", "/b/-", "/a/~0~1", "/c/a", "/a/b"]),
    "from": st.sampled_from(["/a", "/b/0", "/c/a", "/b"]),
    "value": VALUES,
}), max_size=4))  # fmt: skip
def test_A20_what_the_standard_library_of_patches_takes_gives_the_same_here(obj, operations):
    try:
        expected = jsonpatch.apply_patch(obj, operations)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError):
        return
    if any(operation["op"] in {"move", "copy"} and operation["path"].startswith(f"{operation['from']}/")
           for operation in operations):  # fmt: skip
        return  # the library moves a value into itself
    try:
        assert json_patch.apply(obj, operations) == expected
    except StatusError as error:
        # `test` of True against 1 is where Python is too kind
        assert "test failed" in str(error.__cause__)  # noqa: PT017 - it need not be raised


MERGED = {
    "set": ({"a": {"c": "y"}}, {"a": {"b": [1, 2, 3], "c": "y"}}),
    "null deletes": ({"a": {"c": None}}, {"a": {"b": [1, 2, 3]}}),
    "null of nothing": ({"zz": None}, {}),
    "list replaced": ({"a": {"b": []}}, {"a": {"b": [], "c": "x"}}),
    "object instead of scalar": ({"d/e": {"x": {"y": None, "z": 1}}}, {"d/e": {"x": {"z": 1}}}),
    "scalar instead of object": ({"a": 1}, {"a": 1}),
    "nulls in objects of lists": ({"z": [{"x": None, "y": 1}, None]}, {"z": [{"y": 1}, None]}),
    "new and empty": ({"z": {"y": {}}}, {"z": {"y": {}}}),
}


@pytest.mark.parametrize("case", MERGED)
def test_A20_a_merge_patch_merges(case):
    patch, expected = MERGED[case]
    before = json.dumps([OBJECT, patch])
    assert merge_patch.apply(OBJECT, patch) == OBJECT | expected
    assert json.dumps([OBJECT, patch]) == before


@pytest.mark.parametrize(("patch", "kind"), [([], "array"), ("x", "string"), (1, "number"), (None, None)])
def test_A20_a_merge_patch_is_an_object(patch, kind):
    with pytest.raises(StatusError) as caught:
        merge_patch.apply(OBJECT, patch)
    text = f"error decoding patch: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    assert (caught.value.code, str(caught.value)) == (400, text if kind else "Invalid JSON Patch")


PLAIN = st.recursive(
    st.integers(-9, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


def difference(one: Any, other: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    patch = {name: None for name in one if name not in other}
    return patch | {
        name: difference(one.get(name), item) for name, item in other.items() if name not in one or one[name] != item
    }


@QUIET
@given(
    st.dictionaries(st.sampled_from("abc"), PLAIN, max_size=3),
    st.dictionaries(st.sampled_from("abc"), PLAIN, max_size=3),
)
def test_A20_a_difference_as_merge_patch_brings_one_object_to_the_other(one, other):
    patch = difference(one, other)
    assert merge_patch.apply(one, patch) == other
    assert merge_patch.apply(other, patch) == other
