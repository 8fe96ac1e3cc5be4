# SPDX-License-Identifier: Apache-2.0
"""Two connections on one socket: frames of 8 bytes header (connection, length; big-endian) and their payload.

Opening a connection sends nothing, and frames of a connection that is not open are dropped. Nothing here knows what a
payload means; a stream of bytes is cut into frames wherever the sender liked.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable

from dynamic_memory.nri.errors import Disconnected, ProtocolError

__all__ = ["MAX_PAYLOAD", "PLUGIN", "QUEUE", "RUNTIME", "FrameReader", "Mux", "frame"]

PLUGIN = 1
"""The connection on which the runtime calls the plugin."""
RUNTIME = 2
"""The connection on which the plugin calls the runtime."""
MAX_PAYLOAD = (4 << 20) + 10
"""Bytes of one frame: the largest ttrpc message with its header."""
QUEUE = 256
"""Frames that wait for an open connection to be read; more close the socket, as in the runtime."""

_HEADER = struct.Struct(">II")

Receiver = Callable[[bytes], None]


def frame(connection: int, payload: bytes) -> bytes:
    """Return one frame.

    Raises:
        ValueError: the payload is empty or too large: no peer would take it.

    """
    if not 0 < len(payload) <= MAX_PAYLOAD:
        raise ValueError(f"a frame of {len(payload)} bytes")
    return _HEADER.pack(connection, len(payload)) + payload


class FrameReader:
    """Cuts a stream of bytes into frames. No I/O."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes as they came; return the frames that are whole now, as (connection, payload).

        Raises:
            ProtocolError: a frame is longer than any may be.

        """
        buffer = self._buffer
        buffer += data
        frames: list[tuple[int, bytes]] = []
        start, end = 0, len(buffer)
        while end - start >= _HEADER.size:
            connection, length = _HEADER.unpack_from(buffer, start)
            if length > MAX_PAYLOAD:
                raise ProtocolError(f"a frame of {length} bytes on connection {connection}")
            after = start + _HEADER.size + length
            if after > end:
                break
            frames.append((connection, bytes(buffer[start + _HEADER.size : after])))
            start = after
        if start:
            del buffer[:start]
        return frames


class Mux(asyncio.Protocol):
    """One socket. `closed` is done when nothing more comes, with the reason as its result.

    A connection is opened before frames can arrive for it, and its receiver may be set later: meanwhile frames wait.
    """

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._receivers: dict[int, Receiver | None] = {}
        self._waiting: dict[int, deque[bytes]] = {}
        self._why = ""
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def open(self, connection: int, receiver: Receiver | None = None) -> None:
        """Accept frames of a connection; they wait if there is no receiver yet."""
        self._receivers[connection] = receiver
        waiting = self._waiting.setdefault(connection, deque())
        while waiting and receiver is not None:
            receiver(waiting.popleft())

    def send(self, connection: int, *payloads: bytes) -> None:
        """Send payloads as a frame each, one after the other with nothing between them.

        Raises:
            Disconnected: the socket is closed.

        """
        if self._transport is None or self._transport.is_closing():
            raise Disconnected(self._why or "not connected")
        self._transport.write(b"".join([frame(connection, payload) for payload in payloads]))

    def close(self, why: str) -> None:
        """Close the socket; what was sent already still goes out."""
        self._why = self._why or why
        if self._transport is not None:
            self._transport.close()

    def abort(self, why: str) -> None:
        """Close the socket at once."""
        self._why = self._why or why
        if self._transport is not None:
            self._transport.abort()

    # --- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells the type checker; a socket's always is
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            for connection, payload in self._reader.feed(data):
                if self._why:
                    return
                self._deliver(connection, payload)
        except ProtocolError as error:
            self.abort(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        cut = f" in the middle of a frame ({self._reader.pending} bytes of it)" if self._reader.pending else ""
        self._why = self._why or (f"connection lost{cut}: {exc}" if exc else f"the peer closed the connection{cut}")
        if not self.closed.done():
            self.closed.set_result(self._why)

    def _deliver(self, connection: int, payload: bytes) -> None:
        if connection not in self._receivers or not payload:
            return
        receiver = self._receivers[connection]
        if receiver is not None:
            receiver(payload)
            return
        waiting = self._waiting[connection]
        if len(waiting) == QUEUE:
            raise ProtocolError(f"more than {QUEUE} frames wait on connection {connection}")
        waiting.append(payload)
