# SPDX-License-Identifier: Apache-2.0
"""A06-A08: what clients learn of the kinds that are served."""

from __future__ import annotations

import json

import pytest

from dynamic_memory.embedded.apiserver.discovery import Discovery
from dynamic_memory.embedded.apiserver.negotiation import Target, discovery_version, negotiate, strict_match
from dynamic_memory.embedded.apiserver.resource import ALL_VERBS, Registry, Resource, Subresource

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
KUBECTL_1_33 = f"{V2},{V2BETA1},application/json"
KUBECTL_1_37 = f"{V2},application/json"
KUBECTL_1_29 = f"{V2BETA1},application/json"
TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)

PROTO = "devmgmtproto.k8s.io"
EVICTION = Subresource("Eviction", "policy", "v1", ("create",))
STATUS = Subresource("Pod", "", "v1", ("get", "patch", "update"))


def registry():
    return Registry(
        [
            Resource("apps", "v1", "Deployment", "deployments", True, short_names=("deploy",), categories=("all",)),
            Resource("", "v1", "Pod", "pods", True, subresources={"status": STATUS, "eviction": EVICTION}),
            Resource("", "v1", "Node", "nodes", False, short_names=("no",)),
            Resource("resource.k8s.io", "v1beta1", "DeviceClass", "deviceclasses", False),
            Resource("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", False),
            Resource(
                "authorization.k8s.io",
                "v1",
                "SelfSubjectAccessReview",
                "selfsubjectaccessreviews",
                False,
                verbs=("create",),
                stored=False,
            ),
            Resource(
                PROTO, "v1alpha1", "DeviceDriver", "devicedrivers", False, short_names=("ddrv",), categories=("srm",)
            ),
        ]
    )


def read(document):
    assert document is not None
    return json.loads(document.body)


@pytest.mark.parametrize("path", ["/api", "/apis"])
@pytest.mark.parametrize(
    ("accept", "kind", "content_type"),
    [
        (KUBECTL_1_33, "apidiscovery.k8s.io/v2", V2),
        (KUBECTL_1_37, "apidiscovery.k8s.io/v2", V2),
        (KUBECTL_1_29, "apidiscovery.k8s.io/v2beta1", V2BETA1),
        (f"application/json;q=0.5,{V2}", "apidiscovery.k8s.io/v2", V2),
        (f"application/json,{V2}", None, "application/json"),
        ("application/json", None, "application/json"),
        ("*/*", None, "application/json"),
        ("", None, "application/json"),
        ("application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList", None, "application/json"),
        ("application/vnd.kubernetes.protobuf," + V2, "apidiscovery.k8s.io/v2", V2),
    ],
)
def test_A08_the_accept_header_decides_exactly(path, accept, kind, content_type):
    document = Discovery(registry()).get(path, accept)
    found = read(document)
    assert document.content_type == content_type
    if kind:
        assert (found["kind"], found["apiVersion"]) == ("APIGroupDiscoveryList", kind)
    else:
        assert found["kind"] == {"/api": "APIVersions", "/apis": "APIGroupList"}[path]


def test_A08_the_core_group_is_under_api_alone():
    discovery = Discovery(registry())
    core = read(discovery.get("/api", V2))
    assert [item["metadata"].get("name", "") for item in core["items"]] == [""]
    others = read(discovery.get("/apis", V2))
    assert [item["metadata"]["name"] for item in others["items"]] == [
        "apps",
        "authorization.k8s.io",
        "resource.k8s.io",
        PROTO,
    ]
    assert [group["name"] for group in read(discovery.get("/apis"))["groups"]] == [
        "apps",
        "authorization.k8s.io",
        "resource.k8s.io",
        PROTO,
    ]
    assert read(discovery.get("/api"))["versions"] == ["v1"]
    assert discovery.get("/apis//v1") is None


def test_A08_groups_and_versions_one_by_one():
    discovery = Discovery(registry())
    group = read(discovery.get("/apis/resource.k8s.io"))
    assert (group["kind"], group["apiVersion"], group["name"]) == ("APIGroup", "v1", "resource.k8s.io")
    assert [entry["groupVersion"] for entry in group["versions"]] == ["resource.k8s.io/v1", "resource.k8s.io/v1beta1"]
    assert group["preferredVersion"] == {"groupVersion": "resource.k8s.io/v1", "version": "v1"}
    core = read(discovery.get("/api/v1"))
    assert (core["kind"], core["groupVersion"]) == ("APIResourceList", "v1")
    assert [entry["name"] for entry in core["resources"]] == ["nodes", "pods", "pods/eviction", "pods/status"]
    eviction = core["resources"][2]
    assert (eviction["group"], eviction["version"], eviction["kind"]) == ("policy", "v1", "Eviction")
    assert "group" not in core["resources"][3]
    assert core["resources"][0]["verbs"] == list(ALL_VERBS)
    review = read(discovery.get("/apis/authorization.k8s.io/v1"))["resources"][0]
    assert review["verbs"] == ["create"]
    assert "storageVersionHash" not in review
    assert discovery.get("/apis/nothing") is None
    assert discovery.get("/apis/resource.k8s.io/v9") is None
    assert discovery.get("/api/v2") is None


def test_A06_A07_names_scope_verbs_and_categories():
    found = read(Discovery(registry()).get("/apis", V2))
    (item,) = [item for item in found["items"] if item["metadata"]["name"] == PROTO]
    assert item["versions"] == [
        {
            "version": "v1alpha1",
            "freshness": "Current",
            "resources": [
                {
                    "resource": "devicedrivers",
                    "responseKind": {"group": PROTO, "version": "v1alpha1", "kind": "DeviceDriver"},
                    "scope": "Cluster",
                    "singularResource": "devicedriver",
                    "verbs": list(ALL_VERBS),
                    "shortNames": ["ddrv"],
                    "categories": ["srm"],
                }
            ],
        }
    ]
    pods = read(Discovery(registry()).get("/api", V2))["items"][0]["versions"][0]["resources"][1]
    assert pods["scope"] == "Namespaced"
    assert pods["subresources"][0] == {
        "subresource": "eviction",
        "responseKind": {"group": "policy", "version": "v1", "kind": "Eviction"},
        "verbs": ["create"],
    }


def test_documents_are_not_sent_again_until_they_change():
    served = registry()
    discovery = Discovery(served)
    first = discovery.get("/apis", V2)
    again = discovery.get("/apis", V2, first.headers["ETag"])
    assert (again.code, again.body) == (304, b"")
    assert first.headers["Vary"] == "Accept"
    served.add(Resource("example.com", "v1", "Thing", "things", True))
    changed = discovery.get("/apis", V2, first.headers["ETag"])
    assert changed.code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]
    assert "example.com" in [item["metadata"]["name"] for item in read(changed)["items"]]
    assert discovery.get("/apis/example.com/v1") is not None


def test_A37_version():
    found = read(Discovery(registry()).get("/version"))
    assert (found["major"], found["minor"]) == ("1", "37")
    assert found["gitVersion"] == "v1.37.0+dynamic-memory"
    assert all(isinstance(value, str) for value in found.values())


def test_the_root_lists_the_paths():
    paths = read(Discovery(registry()).get("/"))["paths"]
    assert {"/api/v1", "/apis/apps/v1", "/openapi/v3", "/version"} <= set(paths)
    assert "/apis/" not in paths


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (TABLE, Target(kind="Table")),
        (
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json",
            Target(kind="Table", version="v1beta1"),
        ),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Target(kind="PartialObjectMetadataList")),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Target()),
        ("application/json;as=Table;v=v1;g=other,application/json", Target()),
        ("application/vnd.kubernetes.protobuf,application/json", Target()),
        ("application/vnd.kubernetes.protobuf", Target()),
        ("application/yaml", Target("application/yaml")),
        ("application/json;q=0.1,application/yaml;q=0.9", Target("application/yaml")),
        ("application/json;q=0", Target()),
        ("application/json;q=x;pretty=1", Target(pretty=True)),
        ("nonsense;;;=,,", Target()),
        ("", Target()),
    ],
)
def test_forms_of_answers(accept, expected):
    assert negotiate(accept) == expected


def test_where_there_are_no_transforms_they_are_passed_over():
    assert negotiate(TABLE, transforms=False) == Target()


def test_documents_of_one_form_are_matched_strictly():
    assert strict_match("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", ("application/json",)) is None
    assert strict_match("text/html, */*;q=0.1", ("application/json",)) == "application/json"
    assert strict_match("", ("application/json",)) == "application/json"
    assert discovery_version("text/plain") == ""
