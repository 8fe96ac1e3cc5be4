# SPDX-License-Identifier: Apache-2.0
"""The client in process does what any client does: the checks that real API servers pass."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.embedded.support.servers import Running
from tests.support.kube_conformance import CHECKS, Check

from dynamic_memory.api.kinds import NAMESPACES
from dynamic_memory.embedded.apiserver.kubeconfig import write_kubeconfig
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.kube.client import Client
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
