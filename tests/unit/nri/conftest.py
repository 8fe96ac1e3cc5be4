# SPDX-License-Identifier: Apache-2.0
"""A runtime and a connected plugin on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.support.nri_runtime import Connection, Runtime

from dynamic_memory.nri.stub import Stub
from dynamic_memory.process.backoff import Backoff


class Link:
    """A stub that runs, and what it reported."""

    def __init__(self, plugin: object, **arguments: Any) -> None:
        self.states: list[tuple[bool, str]] = []
        self.late: list[tuple[str, float]] = []
        arguments = {
            "name": "dra.memory",
            "environ": {},
            "backoff": Backoff(initial=0.01, maximum=0.05),
            **arguments,
        }
        self.stub = Stub(
            plugin,
            state=lambda ok, why: self.states.append((ok, why)),
            late=lambda method, seconds: self.late.append((method, seconds)),
            **arguments,
        )
        self.task = asyncio.create_task(self.stub.run())

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def until(self, what: Callable[[], Any], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not what():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.005)


@pytest.fixture
async def connect(tmp_path) -> AsyncIterator[Callable[..., Any]]:
    """Connect a plugin to a new runtime: (runtime, connection, link)."""
    async with contextlib.AsyncExitStack() as stack:

        async def connected(plugin: object, **runtime_arguments: Any) -> tuple[Runtime, Connection, Link]:
            setup = runtime_arguments.pop("setup", None)
            runtime = Runtime(tmp_path / "nri.sock", **runtime_arguments)
            if setup:
                setup(runtime)
            await stack.enter_async_context(runtime)
            link = Link(plugin, socket=runtime.path)
            stack.push_async_callback(link.stop)
            connection = await runtime.plugin()
            if runtime.handshakes:
                await link.until(lambda: link.stub.synchronized)
            return runtime, connection, link

        yield connected
