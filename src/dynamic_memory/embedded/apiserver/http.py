# SPDX-License-Identifier: Apache-2.0
"""The HTTP edge: aiohttp, one handler for all paths.

Bodies are limited as those of the real server; watches are chunked, several lines a chunk when many events come at
once, and a client that does not read is disconnected when its watcher is cut off.

A page in a browser of this machine must not reach the server: requests that another origin sends are refused, and those
to a name that is not the server's own, which a page can have pointed to loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import zlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, cast
from urllib.parse import unquote, unquote_plus, urlsplit

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from multidict import CIMultiDict

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.errors import StatusError, bad_request, too_large
from dynamic_memory.embedded.apiserver.request import ANONYMOUS, Request, Response, Stream, clean, failure

__all__ = ["MAX_BODY", "Edge"]

MAX_BODY = 3 << 20
"""Bytes, as the real server reads at most."""
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - not bound to here
_UNCACHED = ("Cache-Control", "no-cache, private")

Authenticate = Callable[[web.BaseRequest, Request], Awaitable[None]]


async def _anybody(_incoming: web.BaseRequest, request: Request) -> None:
    request.user = ANONYMOUS


class Edge:
    """Turns HTTP requests into those of the API.

    Args:
        api: what answers.
        authenticate: puts into a request who asks, or raises StatusError.
        hosts: names and addresses that clients may reach it by, beside those of loopback.

    """

    def __init__(self, api: Api, authenticate: Authenticate | None = None, hosts: Collection[str] = ()) -> None:
        self._api = api
        self.authenticate = authenticate or _anybody
        self._hosts = frozenset(host.lower() for host in hosts)
        self.audit: Callable[[Request, int, float], None] | None = None
        """Told of each answered request with its code and duration in seconds; watches when they begin."""
        self._writes: set[asyncio.Future[Response | Stream]] = set()

    async def handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        begin = asyncio.get_running_loop().time()
        request = Request(
            incoming.method,
            clean(unquote(incoming.rel_url.raw_path)),
            _query(clean(incoming.rel_url.raw_query_string)),
            _Headers(incoming.headers),
            user=ANONYMOUS,
        )
        try:
            self._check_sender(request, "https" if incoming.secure else "http")
            await self.authenticate(incoming, request)
            if incoming.can_read_body:
                request.body = await _body(incoming)
        except StatusError as error:
            answer: Response | Stream = failure(error)
            self._log(request, answer.code, begin)
        else:
            answer = await self._answer(request, begin)
        if isinstance(answer, Stream):
            return await _stream(incoming, answer)
        return _whole(answer)

    def _check_sender(self, request: Request, scheme: str) -> None:
        """Refuse what a page in a browser sends.

        Raises:
            StatusError: 400, it is to a name that is not the server's; 403, another origin sends it.

        """
        host = request.headers.get("host", "")
        if host and not self._own(host):
            raise bad_request(f"this server is not {_shown(host)}; --tls-host gives it further names")
        origin = request.headers.get("origin", "")
        if origin and origin.lower() != f"{scheme}://{host.lower()}":
            raise StatusError(403, "Forbidden", f"requests of {_shown(origin)} are refused")

    def _own(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name == "localhost" or name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # no name server can have been told to give an address another meaning
        return address.is_loopback or not self._hosts.isdisjoint(_EVERYWHERE)

    def _log(self, request: Request, code: int, begin: float) -> None:
        if self.audit is not None:
            self.audit(request, code, asyncio.get_running_loop().time() - begin)

    async def _handled(self, request: Request, begin: float) -> Response | Stream:
        code = 500
        try:
            answer = await self._api.handle(request)
            code = answer.code
            return answer
        finally:
            # here and not where the answer is sent: the client may have gone meanwhile
            self._log(request, code, begin)

    async def _answer(self, request: Request, begin: float) -> Response | Stream:
        """Have a request answered; a write is brought to its end, and logged, even if the client has gone."""
        if request.method == "GET":
            return await self._handled(request, begin)
        task = asyncio.ensure_future(self._handled(request, begin))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)


class _Headers(dict[str, str]):
    """Headers by lower-case name, looked up only when asked for."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._headers = headers

    def get(self, key: str, default: Any = None) -> Any:
        found = self._headers.get(key, default)
        return clean(found) if isinstance(found, str) else found


def _shown(text: str) -> str:
    return repr(text[:100])


def _query(raw: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in raw.split("&") if raw else ():
        name, _, value = part.partition("=")
        if "%" in part or "+" in part:
            name, value = unquote_plus(name), unquote_plus(value)
        found.setdefault(name, []).append(value)
    return found


async def _body(incoming: web.BaseRequest) -> bytes:
    length = incoming.content_length
    if length is not None and length > MAX_BODY:
        raise too_large(f"limit is {MAX_BODY}")
    if incoming.headers.get("Expect", "").lower() == "100-continue":
        await incoming.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        incoming.writer.output_size = 0
    parts: list[bytes] = []
    size = 0
    async for chunk in incoming.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY:
            raise too_large(f"limit is {MAX_BODY}")
        parts.append(chunk)
    data = b"".join(parts)
    if incoming.headers.get("Content-Encoding", "").lower() == "gzip":
        data = _inflated(data)
    return data


def _inflated(data: bytes) -> bytes:
    machine = zlib.decompressobj(wbits=31)
    try:
        found = machine.decompress(data, MAX_BODY + 1)
    except zlib.error as error:
        raise bad_request(f"the body is not gzip: {error}") from None
    if len(found) > MAX_BODY:
        raise too_large(f"limit is {MAX_BODY}")
    if not machine.eof:
        raise bad_request("the body is not gzip: it ends too early")
    return found


def _whole(answer: Response) -> web.Response:
    headers: CIMultiDict[str] = CIMultiDict([(name, clean(value)) for name, value in answer.headers])
    headers["Content-Type"] = answer.content_type
    headers["Cache-Control"] = headers.get("Cache-Control", "no-cache, private")
    return web.Response(body=answer.body, status=answer.code, headers=headers)


def _sender(protocol: BaseProtocol, transport: asyncio.Transport) -> Callable[[bytes], bool]:
    """Return what sends a chunk without a task that waits for it, as the response's own `write` needs."""

    def send(data: bytes) -> bool:
        if protocol.writing_paused or transport.is_closing():
            return False
        transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    return send


async def _stream(incoming: web.BaseRequest, answer: Stream) -> web.StreamResponse:
    response = web.StreamResponse(
        status=answer.code,
        headers=CIMultiDict(
            [
                *((name, clean(value)) for name, value in answer.headers),
                ("Content-Type", answer.content_type),
                _UNCACHED,
            ]
        ),
    )
    response.enable_chunked_encoding()
    transport = incoming.transport
    if transport is not None:
        answer.abort = transport.abort
        answer.send = _sender(incoming.protocol, transport)
    await response.prepare(incoming)  # sends the headers: chunks may follow by either way
    async with contextlib.aclosing(cast("Any", answer.chunks)):
        try:
            async for chunk in answer.chunks:
                # waits while the client does not read; its watcher is cut off then, which breaks the connection
                await response.write(chunk)
        except ConnectionError:
            return response
    with contextlib.suppress(ConnectionError):
        await response.write_eof()
    return response
