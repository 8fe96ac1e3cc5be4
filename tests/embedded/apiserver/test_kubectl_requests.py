# SPDX-License-Identifier: Apache-2.0
"""A06 to A08, A10, A34 and A37 over HTTP: the requests of kubectl, with its headers."""

from __future__ import annotations

import pytest
import yaml
from tests.embedded.support.client import TABLE, Client

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
PROTO = "devmgmtproto.k8s.io"
DRIVERS = f"/apis/{PROTO}/v1alpha1/devicedrivers"


@pytest.mark.parametrize(
    ("accept", "version"), [(f"{V2},{V2BETA1},application/json", "v2"), (f"{V2BETA1},application/json", "v2beta1")]
)
async def test_A06_A08_what_api_resources_reads(client: Client, accept: str, version: str) -> None:
    answer = await client.get("/apis", accept=accept)
    assert answer.headers["Content-Type"] == (V2 if version == "v2" else V2BETA1)
    assert answer.json["apiVersion"] == f"apidiscovery.k8s.io/{version}"
    (group,) = [item for item in answer.json["items"] if item["metadata"]["name"] == PROTO]
    found = {entry["resource"]: entry for entry in group["versions"][0]["resources"]}
    assert set(found) == {"devicedrivers", "deviceclasses", "deviceclaims", "deviceprivilegedclaims", "devicepools"}
    driver = found["devicedrivers"]
    assert (driver["scope"], driver["shortNames"], driver["categories"]) == ("Cluster", ["ddrv"], ["srm"])
    assert {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"} == set(driver["verbs"])
    assert found["deviceclaims"]["scope"] == "Namespaced"
    again = await client.send("GET", "/apis", accept=accept, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.code, again.body) == (304, b"")


async def test_A07_names_of_a_kind(client: Client) -> None:
    listed = (await client.get(f"/apis/{PROTO}/v1alpha1")).json
    (driver,) = [entry for entry in listed["resources"] if entry["name"] == "devicedrivers"]
    assert (driver["singularName"], driver["shortNames"], driver["categories"]) == ("devicedriver", ["ddrv"], ["srm"])
    assert (await client.get("/apis", accept="application/json")).json["kind"] == "APIGroupList"
    assert (await client.get("/api", accept="application/json")).json["versions"] == ["v1"]


async def test_A10_what_explain_reads(client: Client) -> None:
    index = (await client.get("/openapi/v3")).json["paths"]
    url = index[f"apis/{PROTO}/v1alpha1"]["serverRelativeURL"]
    document = await client.get(url)
    assert document.code == 200
    assert document.headers["Cache-Control"] == "public, immutable"
    schemas = document.json["components"]["schemas"]
    claims = [
        schema
        for schema in schemas.values()
        if any(entry["kind"] == "DeviceClaim" for entry in schema.get("x-kubernetes-group-version-kind", ()))
    ]
    assert len(claims) == 1
    assert claims[0]["properties"]["spec"]
    assert (await client.get("/openapi/v2", accept=OPENAPI_V2)).code == 406
    wrong = await client.session.get(f"/openapi/v3/apis/{PROTO}/v1alpha1?hash=0", allow_redirects=False)
    assert (wrong.status, wrong.headers["Location"]) == (301, url)


async def test_A34_lists_and_objects_as_tables(client: Client) -> None:
    for name in ("b", "a"):
        await client.create(DRIVERS, {"metadata": {"name": name}})
    table = (await client.get(DRIVERS, accept=TABLE, limit="500")).json
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Age"]
    assert [row["cells"][0] for row in table["rows"]] == ["a", "b"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    whole = (await client.get(DRIVERS, accept=TABLE, includeObject="Object")).json
    assert whole["rows"][0]["object"]["kind"] == "DeviceDriver"
    one = (await client.get(f"{DRIVERS}/a", accept=TABLE)).json
    assert (one["kind"], len(one["rows"])) == ("Table", 1)
    metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    partial = (await client.get(DRIVERS, accept=metadata)).json
    assert partial["kind"] == "PartialObjectMetadataList"
    assert set(partial["items"][0]) == {"kind", "apiVersion", "metadata"}


async def test_A37_version(client: Client) -> None:
    found = (await client.get("/version")).json
    assert (found["major"], found["minor"]) == ("1", "37")


async def test_answers_in_yaml(client: Client) -> None:
    answer = await client.get("/api/v1/namespaces/default", accept="application/yaml")
    assert answer.headers["Content-Type"] == "application/yaml"
    assert yaml.safe_load(answer.text)["metadata"]["name"] == "default"


async def test_without_a_cluster_there_are_no_metrics(client: Client) -> None:
    assert (await client.get("/apis/metrics.k8s.io/v1beta1/nodes")).code == 405
