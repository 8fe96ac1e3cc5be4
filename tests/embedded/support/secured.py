# SPDX-License-Identifier: Apache-2.0
"""An API with identities and rights, in process and over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from tests.embedded.support.asking import Asking
from tests.embedded.support.client import Client

from dynamic_memory.embedded.apiserver.admission.policies import Policies
from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.background import Background
from dynamic_memory.embedded.apiserver.builtin import builtin_registry
from dynamic_memory.embedded.apiserver.clock import Clock
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.http import Edge
from dynamic_memory.embedded.apiserver.security import Security, SecurityOptions, secured
from dynamic_memory.embedded.apiserver.store import Store

__all__ = ["HandClock", "World", "world"]


class HandClock(Clock):
    """Time that goes on when a test says so."""

    def __init__(self, start: str = "2026-03-01T12:00:00+00:00") -> None:
        self.time = dt.datetime.fromisoformat(start)

    def now(self) -> dt.datetime:
        return self.time

    def pass_(self, seconds: float) -> None:
        self.time += dt.timedelta(seconds=seconds)


class World:
    """An API, its security, and a listening socket once `listening` is open."""

    def __init__(self, api: Api, security: Security, clock: HandClock) -> None:
        self.api = api
        self.security = security
        self.clock = clock
        self.admin = Asking(api)

    @contextlib.asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """Listen on loopback; gives the URL."""
        edge = Edge(self.api, self.security.authenticator)
        edge.audit = self.security.audit
        runner = web.ServerRunner(web.Server(edge.handle, access_log=None), handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        listener = site._server
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
            # who has turned away in the middle of the handshake is not known to the runner
            async with asyncio.timeout(30):
                while listener._active_count:  # type: ignore[union-attr] # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.005)

    @contextlib.asynccontextmanager
    async def asked_by(self, token: str = "") -> AsyncIterator[Client]:
        """Give a client that shows a token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.listening() as url, aiohttp.ClientSession(url, headers=headers) as session:
            yield Client(session)


@contextlib.asynccontextmanager
async def world(folder: Path | None = None, **options: Any) -> AsyncIterator[World]:
    """Make an API with options of SecurityOptions."""
    clock = HandClock()
    store = Store()
    core = Core(store, builtin_registry(), clock)
    api = Api(core)
    core.admission = Policies(store, core.registry)
    try:
        async with secured(api, SecurityOptions(**options), folder) as security:
            await Background(api).prepare()
            await security.prepare()
            yield World(api, security, clock)
    finally:
        await store.close()
