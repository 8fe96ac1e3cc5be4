# SPDX-License-Identifier: Apache-2.0
"""Shared informers of client-go, as every controller of Kubernetes has them, on our API server: row A42.

They follow a churn and have to tell each change once, in order, and to ask as seldom as they do of a real server: once,
by a watch that begins with what there is (WatchList, their default). The audit log counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.embedded.support.churning import RESOURCES, Change, audited, churn
from tests.embedded.support.processes import server_process
from tools.informer.build import build

SECONDS = 45.0
PAUSE = 0.01
AGENT = "peer"
EVENTS = {"add": "ADDED", "update": "MODIFIED", "delete": "DELETED"}

pytestmark = pytest.mark.timeout(300)


class Informers:
    """The running program; `lines` are what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def changes(self, resource: str) -> list[Change]:
        """What the handlers were called with; a kind that is none of a watch stands out."""
        return [
            Change.seen(EVENTS.get(line["event"], line["event"]), line)
            for line in self.lines
            if line.get("resource") == resource and line["event"] != "cached" and line["name"].startswith("churn-")
        ]

    def cached(self, resource: str) -> dict[str, str]:
        """What the stores hold at the end: versions by name."""
        return {
            line["name"]: line["resourceVersion"]
            for line in self.lines
            if line["event"] == "cached" and line["resource"] == resource and line["name"].startswith("churn-")
        }


@contextlib.asynccontextmanager
async def informers(program: Path, kubeconfig: Path) -> AsyncIterator[Informers]:
    process = await asyncio.create_subprocess_exec(
        str(program),
        "-kubeconfig",
        str(kubeconfig),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    found = Informers(process)
    reading = asyncio.create_task(found.read())
    try:
        yield found
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(20):
            await reading
            assert await process.wait() == 0
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def eventually(condition: Any, seconds: float = 20.0) -> bool:
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
