# SPDX-License-Identifier: Apache-2.0
"""The client in process does what any client does: the checks that real API servers pass."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.embedded.support.servers import Running, running
from tests.support.kube_conformance import CHECKS, Check

from dynamic_memory.api.kinds import CONFIG_MAPS, NAMESPACES
from dynamic_memory.embedded.apiserver.kubeconfig import write_kubeconfig
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.security import SecurityOptions
from dynamic_memory.kube.client import Client
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.kube.interface import Kube


@pytest.fixture(params=["in process", "over HTTP"])
async def kube(request: pytest.FixtureRequest, running_server: Running, tmp_path) -> AsyncIterator[Kube]:
    found: Kube = LocalKube(running_server.server.api)
    if request.param == "over HTTP":
        write_kubeconfig(tmp_path / "kubeconfig", await running_server.server.kubeconfig())
        found = Client.from_environment(str(tmp_path / "kubeconfig"))
    await found.create(NAMESPACES, {"metadata": {"name": "test"}})
    yield found
    await found.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_client_finds_the_server_to_be_like_real_ones(kube: Kube, check: Check) -> None:
    await check(kube, "test")


@pytest.mark.parametrize("error", [RuntimeError("a fault"), asyncio.CancelledError()], ids=repr)
async def test_a_request_that_ends_by_a_fault_is_500_in_the_audit_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    log = tmp_path / "audit"
    async with running(security=SecurityOptions(audit_log=log)) as server:
        api = server.server.api

        async def fail(*_arguments: Any, **_options: Any) -> None:
            raise error

        monkeypatch.setattr(api.writing, "create", fail)
        with pytest.raises(type(error)):
            await LocalKube(api).create(CONFIG_MAPS, {"metadata": {"name": "a"}}, namespace="default")
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (line["verb"], line["code"]) == ("create", 500)


async def test_A45_requests_within_the_process_are_in_the_audit_log(tmp_path: Path) -> None:
    log = tmp_path / "audit"
    async with running(security=SecurityOptions(audit_log=log)) as server:
        kube = LocalKube(server.server.api, UserInfo("system:node:n", ("system:nodes",)), manager="kubelet")
        await kube.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, namespace="default")
        await kube.patch(CONFIG_MAPS, "a", {"data": {"k": "v"}}, namespace="default")
        with pytest.raises(NotFound):
            await kube.get(CONFIG_MAPS, "b", "default")
        await server.client.get("/version")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    seen = [(line["verb"], line.get("name"), line["code"], line["requestURI"]) for line in lines]
    path = "/api/v1/namespaces/default/configmaps"
    assert seen == [
        ("create", "a", 201, path),
        ("patch", "a", 200, f"{path}/a"),
        ("get", "b", 404, f"{path}/b"),
        ("get", None, 200, "/version"),
    ]
    assert [line["user"] for line in lines[:3]] == ["system:node:n"] * 3
