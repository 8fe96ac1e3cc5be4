# SPDX-License-Identifier: Apache-2.0
"""The API server as a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator

import aiohttp
from tests.embedded.support.client import Client

__all__ = ["ServerProcess", "server_process"]

SECONDS = 30.0


class ServerProcess:
    """A running process; `lines` are those of its log so far."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, lines: list[str]) -> None:
        self.process = process
        self.address = address
        self.lines = lines

    async def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        await self.process.wait()


@contextlib.asynccontextmanager
async def server_process(*arguments: str) -> AsyncIterator[tuple[ServerProcess, Client]]:
    """Run `dynamic-memory apiserver` with arguments until the context closes; its end is SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dynamic_memory", "apiserver", *arguments, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    lines: list[str] = []
    drain: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(SECONDS):
            async for line in process.stderr:
                lines.append(line.decode())
                if found := re.search(r"addr = (\S+)", lines[-1]):
                    break
            else:
                raise AssertionError("".join(lines))

        async def rest() -> None:
            assert process.stderr is not None
            lines.extend([line.decode() async for line in process.stderr])

        drain = asyncio.create_task(rest())
        async with aiohttp.ClientSession(f"http://{found[1]}") as session:
            yield ServerProcess(process, found[1], lines), Client(session)
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(SECONDS):
                await process.wait()
        if drain is not None:
            await drain
