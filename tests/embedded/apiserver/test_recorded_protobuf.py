# SPDX-License-Identifier: Apache-2.0
"""A35: protobuf bodies as kubectl 1.37.0 sent them, recorded, beside what it prints with `--dry-run=client -o json`."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.embedded.support.client import Client

from dynamic_memory.embedded.apiserver.protobuf import PROTOBUF, decode

RECORDED = json.loads((Path(__file__).parent / "recorded" / "protobuf.json").read_text())


def without_nulls(value: Any) -> Any:
    """Leave out nulls, and statuses, which differ in zeros and are not read of a new object."""
    if isinstance(value, dict):
        kept = {name: without_nulls(item) for name, item in value.items() if item is not None and name != "status"}
        return {name: item for name, item in kept.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("row", [row for row in RECORDED if "expected" in row], ids=lambda row: row["command"])
def test_A35_a_body_is_what_kubectl_prints_as_json(row: dict[str, Any]) -> None:
    found = without_nulls(decode(base64.b64decode(row["body"])))
    expected = without_nulls(row["expected"])
    if "namespace" not in found["metadata"]:
        expected["metadata"].pop("namespace", None)
    assert found == expected


async def test_A35_every_body_is_answered_over_http(client: Client) -> None:
    for row in RECORDED:
        body, accept = base64.b64decode(row["body"]), f"{PROTOBUF},application/json"
        answer = await client.send("POST", row["path"], body, media=PROTOBUF, accept=accept)
        assert answer.code == 201, (row["command"], answer)
        assert answer.headers["Content-Type"] == "application/json"
    quota = (await client.get("/api/v1/namespaces/default/resourcequotas/q")).json
    assert quota["spec"]["hard"] == {"cpu": "1", "memory": "1Gi", "pods": "2"}
    deployment = (await client.get("/apis/apps/v1/namespaces/default/deployments/d")).json
    assert deployment["spec"]["replicas"] == 2
    assert deployment["metadata"]["managedFields"][0]["manager"] == "kubectl-create"
