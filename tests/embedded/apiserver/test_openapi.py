# SPDX-License-Identifier: Apache-2.0
"""A10 and the parts of A05 and A09 that are in documents: what kubectl reads before it applies or explains anything."""

from __future__ import annotations

import json

import pytest

from dynamic_memory.embedded.apiserver.builtin import builtin_registry
from dynamic_memory.embedded.apiserver.openapi import OpenApi
from dynamic_memory.embedded.apiserver.resource import Registry, Resource, Subresource
from dynamic_memory.embedded.apiserver.schema import Rule, Schema

PREFIX = "#/components/schemas/"
STRATEGIC = "application/strategic-merge-patch+json"
PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

SOURCE = {
    "type": "object",
    "description": "A thing.",
    "properties": {
        "spec": {
            "type": "object",
            "description": "What is wanted.",
            "properties": {"size": {"type": "integer", "description": "How much."}},
            "x-kubernetes-validations": [{"rule": "self.size > 0"}],
        }
    },
}


@pytest.fixture(scope="module")
def served():
    return OpenApi(builtin_registry())


def read(openapi, path):
    document = openapi.get(path)
    assert document is not None
    assert document.code == 200
    return json.loads(document.body)


def index(openapi):
    return read(openapi, "/openapi/v3")["paths"]


def custom(source=None):
    schema = Schema("object", source=source or SOURCE)
    scale = Subresource("Scale", "autoscaling", "v1", ("get", "patch", "update"))
    resource = Resource("example.com", "v1", "Thing", "things", True, builtin=False, make_schema=lambda: schema)
    resource.subresources["scale"] = scale
    return resource


def resolve(document, node):
    """Follow references as `kubectl explain` does, into items and maps too."""
    while True:
        if "$ref" in node:
            node = document["components"]["schemas"][node["$ref"].removeprefix(PREFIX)]
        elif len(node.get("allOf", ())) == 1 and not node.get("properties"):
            node = node["allOf"][0]
        elif "items" in node:
            node = node["items"]
        elif isinstance(node.get("additionalProperties"), dict):
            node = node["additionalProperties"]
        else:
            return node


def explain(document, kind, *path):
    """Return the fields at a path below a kind: name -> description."""
    (node,) = [
        schema
        for schema in document["components"]["schemas"].values()
        if any(entry["kind"] == kind for entry in schema.get("x-kubernetes-group-version-kind", ()))
    ]
    for name in path:
        node = resolve(document, node)["properties"][name]
    return {name: child.get("description", "") for name, child in resolve(document, node)["properties"].items()}


def test_the_index_names_every_group_version_by_a_hash(served):
    found = index(served)
    assert {"api/v1", "apis/apps/v1", "apis/resource.k8s.io/v1", "apis/devmgmtproto.k8s.io/v1alpha1"} <= set(found)
    for name, entry in found.items():
        assert entry["serverRelativeURL"].startswith(f"/openapi/v3/{name}?hash=")


def test_A10_explain_of_builtin_and_prototype_kinds(served):
    claims = read(served, "/openapi/v3/apis/devmgmtproto.k8s.io/v1alpha1")
    fields = explain(claims, "DeviceClaim", "spec", "devices")
    assert fields
    assert all(fields.values())
    core = read(served, "/openapi/v3/api/v1")
    assert {"name", "image", "resources"} <= set(explain(core, "Pod", "spec", "containers"))
    assert explain(core, "Pod", "metadata")["name"].startswith("Name must be unique within a namespace")
    stable = read(served, "/openapi/v3/apis/resource.k8s.io/v1")
    assert "exactly" in explain(stable, "ResourceClaim", "spec", "devices", "requests")


@pytest.mark.parametrize(
    "name", ["api/v1", "apis/apiextensions.k8s.io/v1", "apis/apps/v1", "apis/resource.k8s.io/v1beta1"]
)
def test_every_reference_of_a_document_has_its_component(served, name):
    document = read(served, f"/openapi/v3/{name}")
    known = set(document["components"]["schemas"])

    def references(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"].removeprefix(PREFIX)
            for child in node.values():
                yield from references(child)
        elif isinstance(node, list):
            for child in node:
                yield from references(child)

    assert set(references(document)) <= known
    assert all(schema for schema in document["components"]["schemas"].values())


def operations(document, method):
    for path, entry in document["paths"].items():
        if method in entry:
            yield path, entry[method]


def test_writes_know_the_parameters_that_kubectl_looks_for(served):
    for name in index(served):
        document = read(served, f"/openapi/v3/{name}")
        for method in ("post", "put", "patch"):
            for path, operation in operations(document, method):
                names = {parameter["name"] for parameter in operation["parameters"]}
                assert {"fieldValidation", "dryRun", "fieldManager"} <= names, path
                identity = operation["x-kubernetes-group-version-kind"]
                assert set(identity) == {"group", "version", "kind"}


def test_A05_strategic_merge_patches_are_for_builtin_kinds_alone():
    registry = builtin_registry()
    registry.add(custom())
    openapi = OpenApi(registry)
    core = read(openapi, "/openapi/v3/api/v1")
    patch = core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]
    assert STRATEGIC in patch["requestBody"]["content"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "", "kind": "Pod", "version": "v1"}
    things = read(openapi, "/openapi/v3/apis/example.com/v1")
    patch = things["paths"]["/apis/example.com/v1/namespaces/{namespace}/things/{name}"]["patch"]
    assert STRATEGIC not in patch["requestBody"]["content"]


def test_A05_pods_have_the_fields_of_the_prototype_with_their_merge_key(served):
    core = read(served, "/openapi/v3/api/v1")
    claims = core["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["deviceClaims"]
    assert claims["x-kubernetes-patch-merge-key"] == "name"
    assert claims["x-kubernetes-patch-strategy"] == "merge"


def test_marks_for_merging_are_written(served):
    pod = read(served, "/openapi/v3/api/v1")["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]
    containers = pod["containers"]
    assert (containers["x-kubernetes-list-type"], containers["x-kubernetes-list-map-keys"]) == ("map", ["name"])
    selector = read(served, "/openapi/v3/api/v1")["components"]["schemas"]["io.k8s.api.core.v1.NodeSelector"]
    assert selector["x-kubernetes-map-type"] == "atomic"


def test_types_that_are_no_objects(served):
    schemas = read(served, "/openapi/v3/api/v1")["components"]["schemas"]
    assert schemas["io.k8s.apimachinery.pkg.apis.meta.v1.Time"]["format"] == "date-time"
    for name in ("api.resource.Quantity", "util.intstr.IntOrString"):
        component = schemas[f"io.k8s.apimachinery.pkg.{name}"]
        assert "type" not in component
        assert len(component["oneOf"]) == 2


def test_A09_a_custom_kind_is_there_at_once_and_changes_its_own_hash_alone():
    registry = builtin_registry()
    openapi = OpenApi(registry)
    before = index(openapi)
    core = openapi.get("/openapi/v3/api/v1").body
    registry.add(custom())
    after = index(openapi)
    assert set(after) - set(before) == {"apis/example.com/v1"}
    assert {name: after[name] for name in before} == before
    document = read(openapi, "/openapi/v3/apis/example.com/v1")
    assert explain(document, "Thing", "spec") == {"size": "How much."}
    thing = document["components"]["schemas"]["com.example.v1.Thing"]
    assert thing["x-kubernetes-group-version-kind"] == [{"group": "example.com", "kind": "Thing", "version": "v1"}]
    assert thing["properties"]["spec"]["x-kubernetes-validations"] == [{"rule": "self.size > 0"}]
    assert "labels" in explain(document, "Thing", "metadata")
    scale = document["paths"]["/apis/example.com/v1/namespaces/{namespace}/things/{name}/scale"]
    assert scale["patch"]["x-kubernetes-group-version-kind"]["kind"] == "Scale"
    changed = {**SOURCE, "description": "Another thing."}
    registry.add(custom(changed))
    assert index(openapi)["apis/example.com/v1"] != after["apis/example.com/v1"]
    schemas = read(openapi, "/openapi/v3/apis/example.com/v1")["components"]["schemas"]
    assert schemas["com.example.v1.Thing"]["description"] == "Another thing."
    assert openapi.get("/openapi/v3/api/v1").body is core
    registry.remove(registry.find("example.com", "v1", "things"))
    assert openapi.get("/openapi/v3/apis/example.com/v1") is None


def test_rules_and_values_of_schemas_without_a_source_are_written():
    rule = Rule("self != ''", message="m", optional_old_self=True)
    node = Schema("string", enum=("a", "b"), default="a", min_length=1, pattern="^.", rules=(rule,), nullable=True)
    other = Schema("array", items=Schema("integer", maximum=3), one_of=(Schema(min_items=1),), not_=Schema(max_items=0))
    schema = Schema("object", properties={"x": node, "y": other}, required=frozenset({"x"}), ref="a.b.Kind")
    openapi = OpenApi(Registry([Resource("g", "v1", "Kind", "kinds", False, make_schema=lambda: schema)]))
    found = read(openapi, "/openapi/v3/apis/g/v1")["components"]["schemas"]["a.b.Kind"]
    assert found["required"] == ["x"]
    assert found["properties"]["x"] == {
        "type": "string",
        "enum": ["a", "b"],
        "default": "a",
        "minLength": 1,
        "pattern": "^.",
        "nullable": True,
        "x-kubernetes-validations": [{"rule": "self != ''", "message": "m", "optionalOldSelf": True}],
    }
    assert found["properties"]["y"] == {
        "type": "array",
        "items": {"type": "integer", "maximum": 3},
        "oneOf": [{"minItems": 1}],
        "not": {"maxItems": 0},
    }


def test_hashes_are_kept_and_wrong_ones_sent_on(served):
    url = index(served)["api/v1"]["serverRelativeURL"]
    path, _, query = url.partition("?hash=")
    right = served.get(path, query_hash=query)
    assert (right.code, right.headers["Cache-Control"]) == (200, "public, immutable")
    assert served.get(path, query_hash=query, if_none_match=right.headers["ETag"]).code == 304
    wrong = served.get(path, query_hash="0")
    assert (wrong.code, wrong.headers["Location"]) == (301, url)
    again = served.get("/openapi/v3", if_none_match=served.get("/openapi/v3").headers["ETag"])
    assert (again.code, again.body) == (304, b"")


def test_what_is_not_there(served):
    assert served.get("/openapi/v3/apis/nothing/v1") is None
    assert served.get("/openapi/v4") is None
    assert served.get("/openapi") is None
    assert served.get("/openapi/v2", PROTOBUF).code == 406
    assert served.get("/openapi/v3/api/v1", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf").code == 406


def test_the_old_document_of_everything(served):
    document = served.get("/openapi/v2", f"{PROTOBUF};q=0.5, application/json")
    found = json.loads(document.body)
    assert found["swagger"] == "2.0"
    definitions = found["definitions"]
    spec = definitions["io.k8s.api.core.v1.Pod"]["properties"]["spec"]
    assert spec["$ref"] == "#/definitions/io.k8s.api.core.v1.PodSpec"
    assert definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"] == "string"
    assert (
        "$ref" in definitions["io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"]["properties"]
    )
    patch = found["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert STRATEGIC in patch["consumes"]
    assert patch["parameters"][0]["in"] == "body"
    assert {"name": "dryRun", "in": "query", "type": "string"}.items() <= patch["parameters"][1].items()
    assert PREFIX not in document.body.decode()
    assert document.headers["ETag"]
