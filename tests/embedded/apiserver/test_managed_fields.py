# SPDX-License-Identifier: Apache-2.0
"""managedFields as clients send them (A21), and as kubectl takes them over from client-side apply (A22)."""

from __future__ import annotations

import json

import pytest
from tests.embedded.support.applied import Object, data
from tests.embedded.support.schemas import CONFIG_MAP, CUSTOM, DEPLOYMENT

from dynamic_memory.embedded.apiserver.patch.apply import LAST_APPLIED


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
