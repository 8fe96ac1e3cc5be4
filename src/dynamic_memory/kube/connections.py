# SPDX-License-Identifier: Apache-2.0
"""Connections that are closed when a request is cancelled while its TLS handshake is under way.

httpcore closes the socket of a handshake that fails or takes too long, but not of one that is cancelled; the event loop
then holds that socket for ever. A server that accepts and never answers, while lease renewals and shutdowns cancel what
waits for it, would cost a file descriptor each time.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable

import httpcore2
import httpx2

__all__ = ["close_when_cancelled"]


def close_when_cancelled(client: httpx2.AsyncClient) -> None:
    """Have `client` close what it was connecting when a request is cancelled."""
    # neither httpx nor httpcore offers a way to set this after, or lightkube one before, the client is made
    pool = client._transport._pool  # type: ignore[attr-defined] # noqa: SLF001
    pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001


class _Backend(httpcore2.AsyncNetworkBackend):
    """Another backend, whose streams are of the kind below."""

    def __init__(self, backend: httpcore2.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._backend.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _Stream(httpcore2.AsyncNetworkStream):
    """A plain connection, on which TLS may be started."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self.read, self.write, self.aclose = stream.read, stream.write, stream.aclose  # type: ignore[method-assign]
        self.get_extra_info = stream.get_extra_info  # type: ignore[method-assign]

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self._stream.aclose()
            raise
