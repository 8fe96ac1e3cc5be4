# SPDX-License-Identifier: Apache-2.0
"""A running API server: its parts put together, started and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import sslproto
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from dynamic_memory.embedded.apiserver.admission.policies import Policies
from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.background import Background
from dynamic_memory.embedded.apiserver.builtin import builtin_registry
from dynamic_memory.embedded.apiserver.clock import Clock
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.http import Edge
from dynamic_memory.embedded.apiserver.reading import BOOKMARK_SECONDS
from dynamic_memory.embedded.apiserver.security import Security, SecurityOptions, secured
from dynamic_memory.embedded.apiserver.store import Store
from dynamic_memory.errors import InvalidInput
from dynamic_memory.process.clock import now

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.tls import Authority

__all__ = ["PORT", "ApiServer", "Options", "serve"]

PORT = 55441
MAX_LINE = 64 << 10
"""Bytes of a request line or header: long selectors and tokens fit."""
TLS_BUFFER = 16 << 10
"""Bytes that a TLS connection reads at once and holds as long as it lives: a record; asyncio itself takes 256 KiB."""
ADMINISTRATOR = "kubernetes-admin"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How to serve.

    Attributes:
        bind: address; loopback unless said otherwise.
        port: 0 = any free one.
        data_dir: where objects are kept; None = in memory only.
        clock: the server's time.
        kubeconfig: file to write, for clients; None = none. Over TLS it has a certificate of an administrator.
        tls: whether to serve HTTPS, by an authority of its own.
        tls_hosts: names and addresses that clients reach it by, in the certificate too, beside those of this machine.
        security: what is checked.
        bookmark_seconds: how often watches say how far they are, when nothing happens.

    """

    bind: str = "127.0.0.1"
    port: int = PORT
    data_dir: Path | None = None
    clock: Clock | None = None
    kubeconfig: Path | None = None
    tls: bool = False
    tls_hosts: tuple[str, ...] = ()
    security: SecurityOptions = field(default_factory=SecurityOptions)
    bookmark_seconds: float = BOOKMARK_SECONDS


class ApiServer:
    """See the module. Made by `serve`.

    Attributes:
        security: says who asks, and who may do what.
        authority: signs certificates; None without TLS.
        address: `host:port` once it listens.

    """

    def __init__(self, api: Api, edge: Edge, background: Background, authority: Authority | None) -> None:
        self.api = api
        self.core = api.core
        self.edge = edge
        self.security: Security
        self.background = background
        self.authority = authority
        self.address = ""

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"{'http' if self.authority is None else 'https'}://{self.address}"

    @property
    def ca(self) -> bytes:
        """The certificate of its authority, PEM; empty without TLS."""
        return b"" if self.authority is None else self.authority.certificate

    async def kubeconfig(self) -> dict[str, Any]:
        """Return a kubeconfig of an administrator."""
        from dynamic_memory.embedded.apiserver.kubeconfig import kubeconfig  # noqa: PLC0415 - YAML, only if wanted

        if self.authority is None:
            return kubeconfig(self.url)
        client = await asyncio.to_thread(self.authority.client, ADMINISTRATOR, ["system:masters"])
        return kubeconfig(self.url, ca=self.ca, client=client)


@contextlib.asynccontextmanager
async def serve(options: Options) -> AsyncIterator[ApiServer]:
    """Serve while the context is open.

    Raises:
        InvalidInput: the address, the data folder or another file cannot be used.

    """
    store = _store(options)
    try:
        core = Core(store, builtin_registry(), options.clock or Clock())
        core.admission = Policies(store, core.registry)
        api = Api(core, bookmark_seconds=options.bookmark_seconds)
        authority = await asyncio.to_thread(_authority, options) if options.tls else None
        root = authority.certificate.decode() if authority is not None else ""
        edge = Edge(api, hosts=(options.bind, *options.tls_hosts))
        server = ApiServer(api, edge, Background(api, root), authority)
        async with secured(api, options.security, options.data_dir) as security:
            server.security = security
            edge.authenticate = security.authenticator
            edge.audit = api.audit = security.audit
            async with _working(server.background, security.prepare), _listening(server, options):
                if options.kubeconfig is not None:
                    await _write_kubeconfig(options.kubeconfig, server)
                _log.info("addr = %s", server.address)
                yield server
    finally:
        await store.close()


async def _write_kubeconfig(path: Path, server: ApiServer) -> None:
    from dynamic_memory.embedded.apiserver.kubeconfig import write_kubeconfig  # noqa: PLC0415 - only if wanted

    await asyncio.to_thread(write_kubeconfig, path, await server.kubeconfig())


def _store(options: Options) -> Store:
    if options.data_dir is None:
        return Store()
    from dynamic_memory.embedded.apiserver.persistence import SqliteJournal, load  # noqa: PLC0415 - only if wanted

    base, records, version = load(options.data_dir)
    store = Store(records, version)
    store.journal = SqliteJournal(base, store.committed, store.failed)
    return store


def _authority(options: Options) -> Authority:
    from dynamic_memory.embedded.apiserver.tls import Authority  # noqa: PLC0415 - only if wanted

    return Authority(options.data_dir, now())


@contextlib.asynccontextmanager
async def _working(background: Background, prepare: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    await background.prepare()
    await prepare()
    task = asyncio.create_task(background.run(), name="apiserver-background")
    task.add_done_callback(_ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _ended(task: asyncio.Task[None]) -> None:
    """Say it when background work has ended on its own: namespaces and garbage would stay without a word."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("background work has ended", exc_info=error)


@contextlib.asynccontextmanager
async def _listening(server: ApiServer, options: Options) -> AsyncIterator[None]:
    context = None
    if server.authority is not None:
        context = await asyncio.to_thread(server.authority.server_context, [options.bind, *options.tls_hosts])
        sslproto.SSLProtocol.max_size = TLS_BUFFER
    runner = web.ServerRunner(
        web.Server(
            server.edge.handle,
            handler_cancellation=True,  # a watch ends with its client
            access_log=None,
            auto_decompress=False,  # the limit of bodies is for what they become
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
        ),
        handle_signals=False,
        shutdown_timeout=2.0,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.bind, options.port, ssl_context=context, backlog=1024)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            where = f"{options.bind}:{options.port}"
            raise InvalidInput("--port", f"an address that can be listened on ({error})", where) from error
        host, port = runner.addresses[0][:2]
        server.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        server.api.address = server.address
        yield
    finally:
        # watches end first: connections would be waited for otherwise
        await server.core.store.close()
        await runner.cleanup()
