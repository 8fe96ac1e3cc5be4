# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes and Prometheus ask a role: /healthz, /readyz and /metrics.

Served by the standard library from threads of its own: an agent on every node must not carry ten more megabytes for
three pages, and a role whose event loop hangs has to be found out rather than to hang its probe as well. So /healthz
answers only if the loop did, within two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import threading
from collections.abc import AsyncIterator
from http import HTTPStatus

from prometheus_client import generate_latest

from dynamic_memory.errors import InvalidInput
from dynamic_memory.process.readiness import Readiness

__all__ = ["serve"]

LOOP_ANSWERS_WITHIN = 2.0
"""Seconds; kubelets wait one second for a probe by default, and count several failures before they restart a role."""
CLIENT_SECONDS = 5.0


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], family: int, ready: Readiness, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.address_family = socket.AddressFamily(family)
        self.ready = ready
        self.loop = loop
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Take no notice of clients that hang up."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = CLIENT_SECONDS
    server: _Server

    def do_GET(self) -> None:
        page = {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics}.get(self.path)
        status, kind, body = page() if page else (HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _healthz(self) -> tuple[HTTPStatus, str, bytes]:
        answered = threading.Event()
        try:
            self.server.loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed: the process is about to end
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"stopping\n"
        if not answered.wait(LOOP_ANSWERS_WITHIN):
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"the event loop does not answer\n"
        return HTTPStatus.OK, "text/plain", b"ok\n"

    def _readyz(self) -> tuple[HTTPStatus, str, bytes]:
        status = HTTPStatus.OK if self.server.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return status, "text/plain", self.server.ready.report().encode()

    def _metrics(self) -> tuple[HTTPStatus, str, bytes]:
        return HTTPStatus.OK, "text/plain; version=0.0.4", generate_latest()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keep probes out of the log."""


@contextlib.asynccontextmanager
async def serve(ready: Readiness, address: str) -> AsyncIterator[int]:
    """Serve the pages at `host:port` (port 0 = any) while the context is open; its value is the port.

    Raises:
        InvalidInput: that is not an address, or it cannot be had.

    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise InvalidInput("health", "an address such as 127.0.0.1:8080", address)
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = _Server((host, int(port)), family, ready, asyncio.get_running_loop())
    except (OSError, OverflowError) as error:
        raise InvalidInput("health", f"an address that can be listened on ({error})", address) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="endpoints", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
