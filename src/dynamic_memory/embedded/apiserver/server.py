# SPDX-License-Identifier: Apache-2.0
"""A running API server: its parts put together, started and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from dynamic_memory.embedded.apiserver.admission.policies import Policies
from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.background import Background
from dynamic_memory.embedded.apiserver.builtin import builtin_registry
from dynamic_memory.embedded.apiserver.clock import Clock
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.http import Edge
from dynamic_memory.embedded.apiserver.reading import BOOKMARK_SECONDS
from dynamic_memory.embedded.apiserver.store import Store
from dynamic_memory.errors import InvalidInput

__all__ = ["PORT", "ApiServer", "Options", "serve", "write_kubeconfig"]

PORT = 55441
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How to serve.

    Attributes:
        bind: address; loopback unless said otherwise.
        port: 0 = any free one.
        data_dir: where objects are kept; None = in memory only.
        clock: the server's time.
        kubeconfig: file to write, for clients; None = none.
        bookmark_seconds: how often watches say how far they are, when nothing happens.

    """

    bind: str = "127.0.0.1"
    port: int = PORT
    data_dir: Path | None = None
    clock: Clock | None = None
    kubeconfig: Path | None = None
    bookmark_seconds: float = BOOKMARK_SECONDS


class ApiServer:
    """See the module. Made by `serve`."""

    def __init__(self, api: Api, edge: Edge, background: Background) -> None:
        self.background = background
        self.api = api
        self.core = api.core
        self.edge = edge
        self.address = ""
        """`host:port` once it listens."""
        self.url = ""


@contextlib.asynccontextmanager
async def serve(options: Options) -> AsyncIterator[ApiServer]:
    """Serve while the context is open.

    Raises:
        InvalidInput: the address or the data folder cannot be used.

    """
    clock = options.clock or Clock()
    store = _store(options)
    core = Core(store, builtin_registry(), clock)
    core.admission = Policies(store, core.registry)
    api = Api(core, bookmark_seconds=options.bookmark_seconds)
    server = ApiServer(api, Edge(api), Background(api))
    try:
        async with _working(server.background), _listening(server, options, None):
            _log.info("addr = %s", server.address)
            if options.kubeconfig is not None:
                write_kubeconfig(options.kubeconfig, server.url)
            yield server
            await store.close()
    finally:
        await store.close()


def _store(options: Options) -> Store:
    if options.data_dir is None:
        return Store()
    from dynamic_memory.embedded.apiserver.persistence import SqliteJournal, load  # noqa: PLC0415 - only if wanted

    base, records, version = load(options.data_dir)
    store = Store(records, version)
    store.journal = SqliteJournal(base, store.committed, store.failed)
    return store


@contextlib.asynccontextmanager
async def _working(background: Background) -> AsyncIterator[None]:
    await background.prepare()
    task = asyncio.create_task(background.run(), name="apiserver-background")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _listening(server: ApiServer, options: Options, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    runner = web.ServerRunner(
        web.Server(server.edge.handle, access_log=None), handle_signals=False, shutdown_timeout=2.0
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.bind, options.port, ssl_context=tls, backlog=1024)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            where = f"{options.bind}:{options.port}"
            raise InvalidInput("--port", f"an address that can be listened on ({error})", where) from error
        host, port = runner.addresses[0][:2]
        server.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        server.api.address = server.address
        server.url = f"{'https' if tls else 'http'}://{server.address}"
        yield
    finally:
        await server.core.store.close()
        await runner.cleanup()


def write_kubeconfig(path: Path, url: str) -> None:
    """Write a kubeconfig for clients of a server."""
    import yaml  # noqa: PLC0415

    name = "embedded"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
        "users": [{"name": name, "user": {}}],
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
