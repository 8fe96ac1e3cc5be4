# SPDX-License-Identifier: Apache-2.0
"""ttrpc on a connection: a header of 10 bytes (length, stream, kind, flags; big-endian), then a request or a response.

Only unary calls, which is all that NRI has. A message is always sent as two frames, header and data: the runtime's
reader takes a frame that begins with a header into 4096 bytes and gives the connection up if it is longer. What comes
is put together again, however the peer has cut it.

A server's handler answers at once or with an awaitable; see `Handler`.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable

import msgspec
from google.protobuf.message import DecodeError

from dynamic_memory.nri.errors import CallFailed, Code, Disconnected, ProtocolError
from dynamic_memory.nri.proto.ttrpc_pb2 import Request, Response, Status

__all__ = ["MAX_DATA", "MAX_PENDING", "Client", "Handler", "Message", "MessageReader", "Server", "pack"]

log = logging.getLogger(__name__)

MAX_DATA = 4 << 20
MAX_PENDING = 128
"""Calls that may be in hand at a time, either way. A message is two frames, and a reader's queue holds 256."""
REQUEST, RESPONSE = 1, 2

_HEADER = struct.Struct(">IIBB")

Send = Callable[..., None]
"""Sends payloads (bytes) as a frame each: `Mux.send` of one connection."""
Handler = Callable[[str, bytes, float | None], bytes | Awaitable[bytes]]
"""Gets method, payload and the seconds that the caller waits (None: for ever). Raises `CallFailed` to answer an error;
any other exception is answered as UNKNOWN with its text."""


class Message(msgspec.Struct, frozen=True):
    """One message; `data` is None if it was too large to be kept."""

    stream: int
    kind: int
    flags: int
    data: bytes | None


def pack(stream: int, kind: int, data: bytes) -> tuple[bytes, ...]:
    """Return the payloads of a message, a frame each."""
    header = _HEADER.pack(len(data), stream, kind, 0)
    return (header, data) if data else (header,)


class MessageReader:
    """Puts messages together from the payloads of frames. No I/O."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, payload: bytes) -> list[Message]:
        """Take a payload; return the messages that are whole now.

        A message above the limit is returned without data as soon as its header is there, and its data is skipped.
        """
        messages: list[Message] = []
        buffer = self._buffer
        buffer += payload
        start, end = 0, len(buffer)
        while True:
            if self._skip:
                step = min(self._skip, end - start)
                self._skip -= step
                start += step
                if self._skip:
                    break
            if end - start < _HEADER.size:
                break
            length, stream, kind, flags = _HEADER.unpack_from(buffer, start)
            if length > MAX_DATA:
                messages.append(Message(stream, kind, flags, None))
                self._skip = length
                start += _HEADER.size
                continue
            after = start + _HEADER.size + length
            if after > end:
                break
            messages.append(Message(stream, kind, flags, bytes(buffer[start + _HEADER.size : after])))
            start = after
        if start:
            del buffer[:start]
        return messages


class Server:
    """Answers calls of one connection.

    Args:
        send: see `Send`.
        services: handler by service name.
        failed: called when the peer breaks the protocol; nothing more is answered then.

    """

    def __init__(self, send: Send, services: dict[str, Handler], failed: Callable[[str], None]) -> None:
        self._send = send
        self._services = services
        self._failed = failed
        self._reader = MessageReader()
        self._last = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, payload: bytes) -> None:
        """Take the payload of a frame."""
        for message in self._reader.feed(payload):
            if message.kind == REQUEST:
                self._request(message)

    async def stop(self) -> None:
        """Cancel what is still being answered."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _request(self, message: Message) -> None:
        stream = message.stream
        if stream % 2 == 0 or stream <= self._last:
            rule = "must be odd" if stream % 2 == 0 else f"must be above {self._last}"
            self._fail(stream, Code.INVALID_ARGUMENT, f"stream id {stream} {rule}")
            return
        self._last = stream
        if message.data is None:
            self._fail(stream, Code.RESOURCE_EXHAUSTED, f"a request may have {MAX_DATA} bytes")
            return
        try:
            request = Request.FromString(message.data)
        except DecodeError as error:
            self._fail(stream, Code.INVALID_ARGUMENT, f"not a request: {error}")
            return
        handler = self._services.get(request.service)
        if handler is None:
            self._fail(stream, Code.UNIMPLEMENTED, f"no service {request.service}")
            return
        seconds = request.timeout_nano / 1e9 if request.timeout_nano > 0 else None
        try:
            answer = handler(request.method, request.payload, seconds)
        except CallFailed as error:
            self._fail(stream, error.code, error.message)
        except Exception as error:
            log.exception("a call could not be answered", extra={"method": request.method})
            self._fail(stream, Code.UNKNOWN, f"{type(error).__name__}: {error}")
        else:
            if isinstance(answer, bytes):
                self._answer(stream, answer)
                return
            if len(self._tasks) >= MAX_PENDING:
                _dispose(answer)
                self._failed(f"more than {MAX_PENDING} calls in hand")
                return
            task = asyncio.ensure_future(self._wait(stream, request.method, answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            # a task that is cancelled before its first step has not touched it
            task.add_done_callback(lambda _: _dispose(answer))

    async def _wait(self, stream: int, method: str, answer: Awaitable[bytes]) -> None:
        try:
            self._answer(stream, await answer)
        except CallFailed as error:
            self._fail(stream, error.code, error.message)
        except Disconnected:
            log.info("the caller has gone", extra={"method": method})
        except Exception as error:
            log.exception("a call could not be answered", extra={"method": method})
            self._fail(stream, Code.UNKNOWN, f"{type(error).__name__}: {error}")

    def _answer(self, stream: int, payload: bytes) -> None:
        # an empty answer is a header alone
        data = Response(payload=payload).SerializeToString() if payload else b""
        if len(data) > MAX_DATA:
            self._fail(stream, Code.RESOURCE_EXHAUSTED, f"the answer has {len(data)} bytes")
            return
        self._put(stream, data)

    def _fail(self, stream: int, code: int, message: str) -> None:
        self._put(stream, Response(status=Status(code=code, message=message)).SerializeToString())

    def _put(self, stream: int, data: bytes) -> None:
        try:
            self._send(*pack(stream, RESPONSE, data))
        except Disconnected:
            log.debug("an answer came too late: the caller has gone")


class Client:
    """Calls the peer of one connection.

    Args:
        send: see `Send`.

    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._reader = MessageReader()
        self._next = 1
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._lost = ""

    def receive(self, payload: bytes) -> None:
        """Take the payload of a frame; an answer that nobody waits for is dropped."""
        for message in self._reader.feed(payload):
            waiter = self._waiting.get(message.stream)
            if message.kind != RESPONSE or waiter is None or waiter.done():
                continue
            if message.data is None:
                waiter.set_exception(CallFailed("", Code.RESOURCE_EXHAUSTED, f"an answer may have {MAX_DATA} bytes"))
            else:
                waiter.set_result(message.data)

    def lost(self, why: str) -> None:
        """Fail all calls in hand: the connection is gone."""
        self._lost = why
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(Disconnected(why))

    async def call(self, service: str, method: str, payload: bytes, timeout: float) -> bytes:
        """Call a method, return the payload of the answer.

        Args:
            service: name.
            method: name.
            payload: of the request.
            timeout: seconds.

        Raises:
            CallFailed: the answer is an error (whose code it has), or there was none in time (DEADLINE_EXCEEDED).
            Disconnected: the connection is or was lost.
            ProtocolError: the answer is none.

        """
        if self._lost:
            raise Disconnected(self._lost)
        request = Request(service=service, method=method, payload=payload, timeout_nano=int(timeout * 1e9))
        data = request.SerializeToString()
        if len(data) > MAX_DATA:
            raise CallFailed(method, Code.RESOURCE_EXHAUSTED, f"the request has {len(data)} bytes")
        if len(self._waiting) >= MAX_PENDING:
            raise CallFailed(method, Code.RESOURCE_EXHAUSTED, f"{MAX_PENDING} calls are in hand")
        stream, self._next = self._next, self._next + 2
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[stream] = waiter
        try:
            self._send(*pack(stream, REQUEST, data))
            async with asyncio.timeout(timeout):
                answer = await waiter
        except TimeoutError as error:
            raise CallFailed(method, Code.DEADLINE_EXCEEDED, f"no answer in {timeout:g} s") from error
        except CallFailed as error:
            raise CallFailed(method, error.code, error.message) from None
        finally:
            del self._waiting[stream]
        try:
            response = Response.FromString(answer)
        except DecodeError as error:
            raise ProtocolError(f"the answer to {method} is none: {error}") from error
        if response.status.code:
            raise CallFailed(method, response.status.code, response.status.message)
        return response.payload


def _dispose(answer: Awaitable[bytes]) -> None:
    close = getattr(answer, "close", None)
    if close is not None:
        close()
