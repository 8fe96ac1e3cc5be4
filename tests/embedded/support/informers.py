# SPDX-License-Identifier: Apache-2.0
"""The Go program of tools/informer, which follows config maps and pods by shared informers of client-go."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.embedded.support.churning import RESOURCES, Change
from tests.embedded.support.followers import Seen
from tools.informer.build import build

__all__ = ["AGENT", "Informers", "client_go_follows", "informers"]

AGENT = "peer"
"""The first word of its user agent."""
EVENTS = {"add": "ADDED", "update": "MODIFIED", "delete": "DELETED"}


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
        async with asyncio.timeout(30):
            await reading
            assert await process.wait() == 0
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def client_go_follows(kubeconfig: Path, timeout: int) -> AsyncIterator[Seen]:
    """The informers as one of the followers; client-go ends its watches after five to ten minutes (no `timeout`)."""
    program = await asyncio.to_thread(build)
    async with informers(program, kubeconfig) as found:
        yield _Lines(found)


class _Lines(Seen):
    """What has been printed so far."""

    def __init__(self, found: Informers) -> None:
        self._found = found
        self.ordered = True
        self.errors = []

    @property
    def changes(self) -> dict[str, list[Change]]:  # type: ignore[override] # read anew each time
        return {resource: self._found.changes(resource) for resource in RESOURCES}
