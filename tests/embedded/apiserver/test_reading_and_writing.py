# SPDX-License-Identifier: Apache-2.0
"""Create, read, replace and patch over HTTP: rows A04, A12, A25, A26."""

from __future__ import annotations

import uuid

from tests.embedded.support.client import Client

MAPS = "/api/v1/namespaces/default/configmaps"
CRD = "/apis/foozer.example.com/v1alpha1/namespaces/default/foozerconfigs"


async def test_A25_the_server_sets_names_uids_times_and_versions(client: Client) -> None:
    body = {
        "metadata": {"generateName": "g-", "uid": "mine", "generation": 9, "creationTimestamp": "2000-01-01T00:00:00Z"}
    }
    made = (await client.create(MAPS, body)).json
    metadata = made["metadata"]
    assert metadata["name"].startswith("g-")
    assert len(metadata["name"]) == 7
    assert uuid.UUID(metadata["uid"]).version == 4
    assert metadata["creationTimestamp"] > "2026"
    assert "generation" not in metadata, "config maps have none"
    assert (made["apiVersion"], made["kind"]) == ("v1", "ConfigMap")
    again = (await client.create(MAPS, body)).json["metadata"]
    assert again["name"] != metadata["name"]
    assert int(again["resourceVersion"]) > int(metadata["resourceVersion"])
