# SPDX-License-Identifier: Apache-2.0
"""Server-side apply (A21): several managers of one object."""

from __future__ import annotations

from typing import Any

import pytest
from tests.embedded.support.applied import Object, data
from tests.embedded.support.schemas import CONFIG_MAP, CUSTOM, DEPLOYMENT

from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.patch.apply import apply
from dynamic_memory.embedded.apiserver.schema import Schema

# --- the life of an object with several managers


def test_A21_an_apply_creates_and_owns_what_it_names():
    thing = Object(CONFIG_MAP)
    made = thing.apply("one", data={"a": "1"}, metadata={"labels": {"l": "1"}})
    assert made["data"] == {"a": "1"}
    assert thing.entries == [
        {
            "manager": "one",
            "operation": "Apply",
            "apiVersion": "v1",
            "time": "2026-01-01T00:00:01Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {"f:l": {}}}},
        }
    ]


def test_A21_the_same_apply_again_changes_nothing_not_even_a_time():
    thing = Object(DEPLOYMENT)
    container = {"name": "c", "image": "i", "ports": [{"containerPort": 80}]}
    fields = {"spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}}}
    first = thing.apply("one", **fields)
    assert thing.apply("one", **fields) == first


def test_A21_two_managers_own_different_fields_and_share_equal_ones():
    thing = Object(CONFIG_MAP)
    thing.apply("one", data={"a": "1", "b": "1"})
    both = thing.apply("two", data={"b": "1", "c": "2"})
    assert both["data"] == {"a": "1", "b": "1", "c": "2"}
    assert (thing.owned("one"), thing.owned("two")) == ({"f:data": data(a="", b="")}, {"f:data": data(b="", c="")})
    assert thing.apply("one", data={})["data"] == {"b": "1", "c": "2"}, "b is still said by the other"
    assert thing.owned("one") == {"f:data": {}}
    assert thing.apply("two", data={"c": "2"})["data"] == {"c": "2"}


def test_A21_what_nobody_says_any_more_is_gone_with_what_held_it():
    thing = Object(CUSTOM)
    thing.apply("one", spec={"text": "x", "table": {"t": {"x": "1"}}}, metadata={"labels": {"l": "1"}})
    thing.apply("two", spec={"table": {"t": {"y": "2"}}})
    after = thing.apply("one", spec={"text": "x"})
    assert after["spec"] == {"text": "x", "table": {"t": {"y": "2"}}}
    assert "labels" not in after["metadata"]
    after = thing.apply("two")
    assert after["spec"] == {"text": "x"}
    assert thing.owned("two") is None


def test_A21_taking_back_all_of_the_metadata_leaves_the_name():
    thing = Object(CONFIG_MAP)
    thing.update("hand", data={"a": "1"})
    thing.apply("one", metadata={"labels": {"l": "1"}})
    assert thing.apply("one")["metadata"].keys() == {"name", "namespace", "uid", "managedFields"}


def test_A21_a_conflict_names_the_others_and_the_fields():
    thing = Object(DEPLOYMENT)
    thing.update("kubectl-client-side-apply", spec={"replicas": 3, "paused": True})
    status = thing.refused("me", spec={"replicas": 5})
    assert status["message"] == (
        'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas'
    )
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["details"] == {
        "causes": [
            {
                "reason": "FieldManagerConflict",
                "message": 'conflict with "kubectl-client-side-apply" using apps/v1',
                "field": ".spec.replicas",
            }
        ]
    }


def test_A21_several_conflicts_are_listed_by_manager():
    thing = Object(DEPLOYMENT)
    container = {"name": "c", "image": "i", "env": [{"name": "e", "value": "1"}]}
    thing.apply("one", spec={"template": {"spec": {"containers": [container]}}}, metadata={"finalizers": ["f"]})
    thing.update("two", spec={**thing.live["spec"], "replicas": 1})
    thing.update("three", subresource="status", status={"replicas": 1})
    mine = {"name": "c", "image": "j", "env": [{"name": "e", "value": "2"}]}
    status = thing.refused("me", spec={"replicas": 2, "template": {"spec": {"containers": [mine]}}})
    assert status["message"] == (
        "Apply failed with 3 conflicts: "
        'conflicts with "one":\n'
        '- .spec.template.spec.containers[name="c"].image\n'
        '- .spec.template.spec.containers[name="c"].env[name="e"].value\n'
        'conflicts with "two" using apps/v1:\n'
        "- .spec.replicas"
    )
    status = thing.refused("me", subresource="status", status={"replicas": 2})
    assert status["message"].endswith('conflict with "three" with subresource "status" using apps/v1: .status.replicas')


def test_A21_force_takes_over():
    thing = Object(CONFIG_MAP)
    thing.apply("one", data={"a": "1", "b": "1"})
    thing.apply("two", force=True, data={"a": "2"})
    assert (thing.owned("one"), thing.owned("two")) == ({"f:data": data(b="")}, {"f:data": data(a="")})
    thing.refused("one", data={"a": "1", "b": "1"})
    assert thing.apply("one", data={"a": "2", "b": "1"})["data"] == {"a": "2", "b": "1"}, "agreeing is no conflict"


def test_A21_an_update_takes_over_what_it_changes_and_removes_what_it_removes():
    thing = Object(CONFIG_MAP)
    thing.apply("one", data={"a": "1", "b": "1", "c": "1"})
    thing.update("hand", data={"a": "1", "b": "2"})
    assert thing.owned("one") == {"f:data": data(a="")}
    assert thing.owned("hand", "Update") == {"f:data": data(b="")}
    thing.update("hand", data={"a": "1", "b": "2", "d": "3"})
    assert thing.owned("hand", "Update") == {"f:data": data(b="", d="")}
    thing.refused("one", data={"b": "1"})


def test_A21_an_update_that_changes_nothing_leaves_the_time():
    thing = Object(CONFIG_MAP)
    first = thing.update("hand", data={"a": "1"})
    assert thing.update("hand", data={"a": "1"}) == first
    assert thing.update("other", data={"a": "1"}) == first


def test_A21_managers_are_told_apart_by_operation_and_subresource():
    thing = Object(DEPLOYMENT)
    thing.apply("m", spec={"replicas": 1})
    thing.update("m", spec={"replicas": 1, "paused": True})
    thing.update("m", subresource="status", status={"replicas": 1})
    thing.apply("m", subresource="status", status={"readyReplicas": 1})
    assert [(e["operation"], e.get("subresource")) for e in thing.entries] == [
        ("Apply", None),
        ("Apply", "status"),
        ("Update", None),
        ("Update", "status"),
    ]
    assert thing.apply("m")["spec"] == {"paused": True}, "the manager's other entries do not hold it"


def test_A21_the_status_is_nobodys_by_a_write_of_the_object_and_the_spec_by_one_of_the_status():
    thing = Object(DEPLOYMENT)
    thing.apply("one", spec={"replicas": 1}, status={"replicas": 9})
    assert thing.owned("one") == {"f:spec": {"f:replicas": {}}}
    thing.apply("two", subresource="status", spec={"paused": True}, status={"replicas": 1})
    assert thing.owned("two") == {"f:status": {"f:replicas": {}}}


# --- kinds of lists and maps


def test_A21_items_of_a_map_list_have_owners_each_and_keep_their_order():
    thing = Object(CUSTOM)
    thing.apply("one", spec={"items": [{"a": "1", "b": "1", "v": 1}, {"a": "2", "b": "1", "v": 1}]})
    thing.apply("two", spec={"items": [{"a": "3"}, {"a": "2", "b": "1", "v": 1}]})
    assert [item["a"] for item in thing.live["spec"]["items"]] == ["1", "3", "2"]
    assert thing.owned("two")["f:spec"]["f:items"] == {
        'k:{"a":"2","b":"1"}': {".": {}, "f:a": {}, "f:b": {}, "f:v": {}},
        'k:{"a":"3","b":"x"}': {".": {}, "f:a": {}},
    }
    after = thing.apply("one", spec={"items": [{"a": "1", "b": "1"}]})
    assert after["spec"]["items"] == [{"a": "1", "b": "1"}, {"a": "3"}, {"a": "2", "b": "1", "v": 1}]


def test_A21_items_of_a_set_have_owners_each():
    thing = Object(CUSTOM)
    thing.apply("one", spec={"names": ["a", "b"], "numbers": [1]})
    thing.apply("two", spec={"names": ["c", "b"], "numbers": [2, 10]})
    assert thing.live["spec"]["names"] == ["a", "c", "b"]
    assert thing.owned("two")["f:spec"] == {
        "f:names": {'v:"b"': {}, 'v:"c"': {}},
        "f:numbers": {"v:10": {}, "v:2": {}},
    }
    assert thing.apply("one", spec={})["spec"] == {"names": ["c", "b"], "numbers": [2, 10]}


def test_A21_an_atomic_list_or_map_has_one_owner():
    thing = Object(CUSTOM)
    thing.apply("one", spec={"atomic": ["a"], "whole": {"x": "1"}})
    status = thing.refused("two", spec={"atomic": ["a", "b"], "whole": {"y": "1"}})
    assert [cause["field"] for cause in status["details"]["causes"]] == [".spec.atomic", ".spec.whole"]
    after = thing.apply("two", force=True, spec={"atomic": ["b"], "whole": {"y": "1"}})
    assert after["spec"] == {"atomic": ["b"], "whole": {"y": "1"}}
    assert thing.owned("one") is None
    assert thing.owned("two") == {"f:spec": {"f:atomic": {}, "f:whole": {}}}


def test_A21_fields_without_a_schema_are_owned_too():
    thing = Object(CUSTOM)
    thing.apply("one", spec={"free": {"deep": {"x": 1, "list": [1, {"y": 2}]}}})
    assert thing.owned("one")["f:spec"]["f:free"] == {
        "f:deep": {".": {}, "f:list": {}, "f:x": {}},
    }
    thing.apply("two", spec={"free": {"deep": {"z": 1}}})
    assert thing.apply("one", spec={})["spec"] == {"free": {"deep": {"z": 1}}}
    thing.apply("two", spec={"free": {"deep": "text"}})
    assert thing.live["spec"] == {"free": {"deep": "text"}}


def test_A21_true_is_not_one():
    thing = Object(CUSTOM)
    thing.apply("one", spec={"free": {"x": 1}})
    thing.refused("two", spec={"free": {"x": True}})


def test_A21_null_says_nothing_about_a_map_and_is_kept_where_it_is_a_value():
    thing = Object(CUSTOM)
    thing.apply("one", spec={"maybe": None, "text": None, "table": {"t": {"x": "1"}}})
    assert thing.live["spec"] == {"maybe": None, "table": {"t": {"x": "1"}}}
    thing.apply("two", spec={"table": None})
    assert thing.live["spec"]["table"] == {"t": {"x": "1"}}


def test_A21_keys_have_defaults():
    thing = Object(DEPLOYMENT)
    container = {"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]}
    thing.apply("one", spec={"template": {"spec": {"containers": [container]}}})
    ports = thing.owned("one")["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']["f:ports"]
    assert list(ports) == ['k:{"containerPort":80,"protocol":"TCP"}', 'k:{"containerPort":80,"protocol":"UDP"}']


# --- what is refused

REFUSED = {
    "unknown field": ({"spec": {"replica": 1}}, ".spec.replica: field not declared in schema"),
    "wrong type": ({"spec": {"replicas": "1"}}, ".spec.replicas: expected numeric (int or float), got string"),
    "list for map": ({"spec": {"strategy": []}}, ".spec.strategy: expected map, got &{[]}"),
    "map for list": (
        {"spec": {"template": {"spec": {"containers": {"a": 1}}}}},
        ".spec.template.spec.containers: expected list, got &{map[a:1]}",
    ),
    "text": (
        {"metadata": {"labels": {"a": 1}}},
        ".metadata.labels.a: expected string, got &value.valueUnstructured{Value:1}",
    ),
    "twice the same key": (
        {"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}},
        '.spec.template.spec.containers: duplicate entries for key [name="a"]',
    ),
    "twice the same value": (
        {"metadata": {"finalizers": ["a", "a"]}},
        '.metadata.finalizers: duplicate entries for key [="a"]',
    ),
    "no key": (
        {"metadata": {"ownerReferences": [{"name": "a"}]}},
        (
            ".metadata.ownerReferences: element 0: associative list with keys has an element that omits all key fields "
            '["uid"] (and doesn\'t have default values for any key fields)'
        ),
    ),
    "not text": ({"metadata": {"labels": []}}, ".metadata.labels: expected map, got &{[]}"),
    "several": (
        {"spec": {"x": 1, "y": 1}},
        "errors:\n  .spec.x: field not declared in schema\n  .spec.y: field not declared in schema",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_A21_a_configuration_that_does_not_fit_is_refused(case):
    fields, text = REFUSED[case]
    status = Object(DEPLOYMENT).refused("me", **fields)
    expected = f"failed to create typed patch object (n/x; apps/v1, Kind=Deployment): {text}"
    assert (status["code"], status["message"]) == (500, expected)


def test_A21_a_configuration_has_no_managed_fields_and_the_version_of_the_request():
    thing = Object(CONFIG_MAP)
    status = thing.refused("me", metadata={"managedFields": []})
    assert (status["code"], status["message"]) == (400, "metadata.managedFields must be nil")
    with pytest.raises(StatusError, match="invalid object type: /v2, Kind=ConfigMap"):
        apply(CONFIG_MAP, None, {**thing.config(), "apiVersion": "v2"}, manager="m", api_version="v1", time="")


# --- several versions


def test_A21_another_version_of_the_same_fields_is_the_same_manager():
    thing = Object(CUSTOM)
    thing.apply("one", spec={"text": "a"}, version="example.com/v1")
    thing.apply("one", spec={"number": 1}, version="example.com/v2")
    assert thing.live["spec"] == {"number": 1}
    assert [(e["manager"], e["apiVersion"]) for e in thing.entries] == [("one", "example.com/v2")]


def test_A21_versions_with_other_names_are_converted():
    """In v2 the field `text` is called `name`."""
    names = {"example.com/v1": "text", "example.com/v2": "name"}
    v2 = Schema(
        type="object",
        properties={**CUSTOM.properties, "spec": Schema(type="object", properties={"name": Schema(type="string")})},
    )
    schemas = {"example.com/v1": CUSTOM, "example.com/v2": v2}

    def convert(obj: dict[str, Any], version: str) -> tuple[Schema, dict[str, Any]] | None:
        if version not in names:
            return None
        spec = dict(obj.get("spec", {}))
        for name in names.values():
            if name in spec:
                spec[names[version]] = spec.pop(name)
        return schemas[version], {**obj, "apiVersion": version, "spec": spec}

    def write(live: Any, version: str, manager: str, **spec: Any) -> Any:
        config = {"apiVersion": version, "kind": "Thing", "metadata": {"name": "x"}, "spec": spec}
        before = convert(live, version)[1] if live else None
        return apply(schemas[version], before, config, manager=manager, api_version=version, time="t", convert=convert)

    live = write(None, "example.com/v1", "one", text="a", number=1)
    with pytest.raises(StatusError, match=r'conflict with "one": \.spec\.text'):
        write(live, "example.com/v2", "two", name="b")
    live = write(live, "example.com/v2", "one", name="b")
    assert live["spec"] == {"name": "b"}, "the number of v1 is not said any more"
    live["metadata"]["managedFields"].append({
        "manager": "old", "operation": "Update", "apiVersion": "example.com/v0", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:name": {}}},
    })  # fmt: skip
    live = write(live, "example.com/v2", "one", name="c")
    assert [e["manager"] for e in live["metadata"]["managedFields"]] == ["one"], "a version that is gone owns nothing"
