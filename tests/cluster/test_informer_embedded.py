# SPDX-License-Identifier: Apache-2.0
"""Shared informers of client-go, as every controller of Kubernetes has them, on our API server: row A42.

They follow a churn and have to tell each change once, in order, and to ask as seldom as they do of a real server: once,
by a watch that begins with what there is (WatchList, their default). The audit log counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from tests.embedded.support.churning import RESOURCES, audited, churn
from tests.embedded.support.informers import AGENT, informers
from tests.embedded.support.processes import server_process
from tools.informer.build import build

SECONDS = 45.0
PAUSE = 0.01
pytestmark = pytest.mark.timeout(900, method="signal")


async def eventually(condition: Any, seconds: float = 60.0) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.05)
    return bool(condition())


async def test_A42_informers_of_client_go_see_each_change_once(tmp_path: Path) -> None:
    program = await asyncio.to_thread(build)
    log, kubeconfig = tmp_path / "audit.jsonl", tmp_path / "kubeconfig"
    arguments = ("--port", "0", "--audit-log", str(log), "--kubeconfig", str(kubeconfig))
    async with server_process(*arguments) as (_, client):
        written = await churn(client, 2, PAUSE)  # there are objects when the informers begin
        async with informers(program, kubeconfig) as found:
            assert await eventually(lambda: any(line["event"] == "synced" for line in found.lines))
            assert await eventually(lambda: all(len(found.changes(r)) == len(written.living[r]) for r in RESOURCES))
            expected = {}
            for resource in RESOURCES:
                initial = found.changes(resource)
                assert {change.name: change.version for change in initial} == written.living[resource]
                assert {change.kind for change in initial} == {"ADDED"}
                expected[resource] = (initial, len(written.changes[resource]))
            await churn(client, SECONDS, PAUSE, written)
            wanted = {r: initial + written.changes[r][begun:] for r, (initial, begun) in expected.items()}
            await eventually(lambda: all(len(found.changes(r)) >= len(wanted[r]) for r in RESOURCES))
        for resource in RESOURCES:
            assert found.changes(resource) == wanted[resource]
            assert found.cached(resource) == written.living[resource]
    requests = audited(log)
    assert requests["Python"] == written.counts()
    for resource in RESOURCES:
        assert ("list", resource) not in requests[AGENT], "a list is a watch that begins with what there is"
        assert requests[AGENT]["watch", resource] == 1, "nor is there a storm of those"
    assert sum(written.counts().values()) > 10 * SECONDS
