# SPDX-License-Identifier: Apache-2.0
"""Servers for tests, on free ports of the test's own loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from tests.embedded.support.client import Client

from dynamic_memory.embedded.apiserver.server import ApiServer, Options, serve

__all__ = ["Running", "running"]


class Running:
    """A server and a client of it."""

    def __init__(self, server: ApiServer, client: Client) -> None:
        self.server = server
        self.client = client


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Running]:
    """Run a server with options of its `Options`; port 0 unless said."""
    async with serve(Options(**{"port": 0, **options})) as server, aiohttp.ClientSession(server.url) as session:
        yield Running(server, Client(session))
