# SPDX-License-Identifier: Apache-2.0
"""Server-side apply and managedFields (A21, A22)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.embedded.support.schemas import CONFIG_MAP, CUSTOM, DEPLOYMENT

from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.patch import managed_fields
from dynamic_memory.embedded.apiserver.patch.apply import LAST_APPLIED, apply
from dynamic_memory.embedded.apiserver.schema import Schema

KINDS = {
    id(DEPLOYMENT): ("apps/v1", "Deployment"),
    id(CUSTOM): ("example.com/v1", "Thing"),
    id(CONFIG_MAP): ("v1", "ConfigMap"),
}


class Object:
    """An object as a server keeps it: by applies and updates, each with a time of its own."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.version, self.kind = KINDS[id(schema)]
        self.live: dict[str, Any] | None = None
        self.clock = 0

    def config(self, **fields: Any) -> dict[str, Any]:
        metadata = {"name": "x", "namespace": "n", **fields.pop("metadata", {})}
        return {"apiVersion": self.version, "kind": self.kind, "metadata": metadata, **fields}

    def _time(self) -> str:
        self.clock += 1
        return f"2026-01-01T00:00:{self.clock:02}Z"

    def _keep(self, obj: dict[str, Any]) -> dict[str, Any]:
        obj = {**obj, "metadata": {"uid": "u", **obj["metadata"]}}
        self.live = obj if self.live is None else managed_fields.settle(self.live, obj)
        return self.live

    def apply(self, manager: str, *, force: bool = False, **fields: Any) -> dict[str, Any]:
        subresource, version = fields.pop("subresource", None), fields.pop("version", self.version)
        config = {**self.config(**fields), "apiVersion": version}
        return self._keep(
            apply(
                self.schema,
                self.live,
                config,
                manager=manager,
                force=force,
                subresource=subresource,
                api_version=version,
                time=self._time(),
                kind=self.kind,
                reset=managed_fields.reset_fields("", self.kind, subresource, has_status=True),
            )
        )

    def update(self, manager: str, *, subresource: str | None = None, **fields: Any) -> dict[str, Any]:
        """Replace fields; None removes one."""
        new = {k: v for k, v in {**(self.live or self.config()), **fields}.items() if v is not None}
        new["metadata"] = {**(self.live or self.config())["metadata"], **fields.get("metadata", {})}
        return self._keep(
            managed_fields.update(
                self.schema,
                self.live,
                new,
                manager=manager,
                subresource=subresource,
                api_version=self.version,
                time=self._time(),
                reset=managed_fields.reset_fields("", self.kind, subresource, has_status=True),
            )
        )

    @property
    def entries(self) -> list[dict[str, Any]]:
        assert self.live is not None
        return self.live["metadata"].get("managedFields", [])

    def owned(self, manager: str, operation: str = "Apply") -> Any:
        found = [e["fieldsV1"] for e in self.entries if e["manager"] == manager and e["operation"] == operation]
        assert len(found) <= 1
        return found[0] if found else None

    def refused(self, manager: str, **fields: Any) -> dict[str, Any]:
        before = json.dumps(self.live)
        with pytest.raises(StatusError) as caught:
            self.apply(manager, **fields)
        assert json.dumps(self.live) == before
        return caught.value.status()


def data(**fields: str) -> Any:
    return {f"f:{name}": {} for name in fields}


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


# --- managedFields as clients send them


def test_A21_an_object_without_records_gets_one_for_what_was_there():
    thing = Object(CONFIG_MAP)
    thing.update("hand", data={"a": "1"})
    thing.update("hand", metadata={"managedFields": []})
    assert thing.entries == []
    thing.update("hand", data={"a": "2"})
    assert thing.entries == [], "nobody had applied"
    status = thing.refused("me", data={"a": "3"})
    assert 'conflict with "before-first-apply" using v1: .data.a' in status["message"]
    thing.apply("me", data={"b": "1"})
    assert thing.owned("before-first-apply", "Update") == {"f:data": {".": {}, "f:a": {}}}


@pytest.mark.parametrize(("sent", "kept"), [([], False), ([{}], False), (None, True), ("drop", True), ("broken", True)])
def test_A21_a_client_may_take_the_records_away_but_not_by_accident(sent, kept):
    thing = Object(CONFIG_MAP)
    thing.apply("one", data={"a": "1"})
    before = thing.entries
    broken = [{"manager": "x", "operation": "Touch", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]
    thing.update("hand", metadata={"managedFields": broken if sent == "broken" else None if sent == "drop" else sent})
    assert thing.entries == (before if kept else [])


def test_A21_a_client_may_change_the_records():
    thing = Object(CONFIG_MAP)
    thing.apply("one", data={"a": "1", "b": "1"})
    (entry,) = thing.entries
    spaced = {**entry, "manager": "two", "fieldsV1": {"f:data": {"f:a": {}}}}
    thing.update("hand", metadata={"managedFields": [spaced]})
    assert thing.owned("two") == {"f:data": {"f:a": {}}}
    assert thing.owned("one") is None


def test_A21_records_of_clients_are_read_however_they_are_spelled():
    thing = Object(CUSTOM)
    thing.apply("one", spec={"items": [{"a": "<", "b": "1", "v": 1}]})
    (entry,) = thing.entries
    ((key, node),) = entry["fieldsV1"]["f:spec"]["f:items"].items()
    assert key == 'k:{"a":"\\u003c","b":"1"}'
    spelled = {**entry, "fieldsV1": {"f:spec": {"f:items": {'k: {"b": "1",  "a": "<"}': node}}}}
    thing.update("hand", metadata={"managedFields": [spelled]})
    assert thing.owned("one") == entry["fieldsV1"]


def test_A21_old_updaters_become_one():
    thing = Object(CONFIG_MAP)
    for number in range(14):
        thing.update(f"m{number:02}", data={**(thing.live or {}).get("data", {}), f"k{number:02}": "1"})
    managers = [entry["manager"] for entry in thing.entries]
    assert managers == ["ancient-changes", *(f"m{number:02}" for number in range(5, 14))]
    assert thing.owned("ancient-changes", "Update")["f:data"] == {
        ".": {},
        **{f"f:k{number:02}": {} for number in range(5)},
    }


def test_A21_metadata_of_the_server_is_nobodys():
    thing = Object(CONFIG_MAP)
    thing.apply("one", metadata={"uid": "u", "resourceVersion": "1", "labels": {"a": "1"}})
    assert thing.owned("one") == {"f:metadata": {"f:labels": {"f:a": {}}}}


def test_A21_an_update_of_a_new_object_owns_its_containers_as_the_real_server_says():
    """Structs of builtin types are always there; what is no pointer is not owned itself."""
    thing = Object(DEPLOYMENT)
    container = {"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}}, "ports": [{"containerPort": 80}]}
    thing.update(
        "kubectl-create",
        metadata={"labels": {"l": "1"}},
        spec={
            "selector": {"matchLabels": {"l": "1"}},
            "template": {"metadata": {"labels": {"l": "1"}}, "spec": {"containers": [container], "volumes": []}},
        },
    )
    labels = {"f:labels": {".": {}, "f:l": {}}}
    item = {
        ".": {},
        "f:image": {},
        "f:name": {},
        "f:ports": {".": {}, 'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
        "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}}},
    }
    assert thing.owned("kubectl-create", "Update") == {
        "f:metadata": labels,
        "f:spec": {
            "f:selector": {},
            "f:template": {
                "f:metadata": labels,
                "f:spec": {"f:containers": {'k:{"name":"c"}': item}, "f:volumes": {}},
            },
        },
    }


# --- from client-side apply to server-side apply


def client_side(thing: Object, **values: str) -> None:
    """What `kubectl apply` does: an update, with the configuration in an annotation."""
    config = json.dumps(thing.config(data=values))
    thing.update("kubectl-client-side-apply", data=values, metadata={"annotations": {LAST_APPLIED: config}})


def test_A22_kubectl_takes_over_its_own_fields():
    thing = Object(CONFIG_MAP)
    client_side(thing, a="1", b="1")
    after = thing.apply("kubectl", data={"a": "2", "b": "1"})
    assert after["data"] == {"a": "2", "b": "1"}
    assert thing.owned("kubectl") == {"f:data": data(a="", b="")}
    assert json.loads(after["metadata"]["annotations"][LAST_APPLIED])["data"] == {"a": "2", "b": "1"}
    assert after["metadata"]["annotations"][LAST_APPLIED].endswith("}\n")


def test_A22_but_nothing_that_has_changed_since():
    thing = Object(CONFIG_MAP)
    client_side(thing, a="1", b="1")
    thing.update("hand", data={"a": "9", "b": "1"})
    status = thing.refused("kubectl", data={"a": "2", "b": "2"})
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "hand" using v1: .data.a'
    thing.refused("other", data={"b": "2"})


def test_A22_kubectls_second_step_gives_the_old_entry_away():
    """After the first apply, kubectl applies once more in the name of the old entry, and then drops it."""
    thing = Object(CONFIG_MAP)
    client_side(thing, a="1")
    thing.apply("kubectl", data={"a": "1"})
    rest = [entry for entry in thing.entries if entry["manager"] != "kubectl-client-side-apply"]
    thing.update("kubectl", metadata={"managedFields": rest})
    assert thing.owned("kubectl-client-side-apply", "Update") is None
    assert "data" not in thing.apply("kubectl", metadata={"annotations": {}})


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
