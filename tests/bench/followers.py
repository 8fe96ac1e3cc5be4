# SPDX-License-Identifier: Apache-2.0
"""Watches that hear of changes, for benches: how long after a write the last of them has it.

The client must not be what is measured. While changes are made it takes bytes from sockets and notes when, nothing
else; it decrypts them and looks for the changes afterwards. To do that at once takes as long for a hundred watches as a
server needs to serve them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence

__all__ = ["CutOff", "Followers"]

Head = Callable[[str, str, bytes, str], bytes]
"""Makes the head of a request of its method, path, body and media type."""
MARK = re.compile(rb'"fan":"(\d+)"')
FRAME = re.compile(rb"\r\n[0-9a-f]+\r\n")
"""What is between two chunks, wherever a server ends one; nowhere else is there a carriage return."""
END = b"0\r\n\r\n"
FROM_NOW = "watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
NUMBERS = itertools.count()
"""Of changes: none is made twice, which would be no change."""
QUIET = 0.2
"""Seconds without a byte, after which it is looked whether all is there."""
PATIENCE = 60.0


class CutOff(Exception):
    """The server has ended a watch: its client was too slow for it."""


class Wire:
    """A TLS connection on a plain socket. What arrives is kept with its time, and decrypted when it is read."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._arrived: list[tuple[float, bytes]] = []
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        while not self._shaken():
            self._incoming.write(self.socket.recv(65536))

    def _shaken(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.socket.sendall(self._outgoing.read())
        return True

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self.socket.sendall(self._outgoing.read())

    def receive(self) -> None:
        """Keep what is there."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server has hung up")
        self._arrived.append((time.perf_counter(), data))

    def read(self) -> Iterator[tuple[float, bytes]]:
        """Return what was received since the last call, with its times."""
        arrived, self._arrived = self._arrived, []
        for at, data in arrived:
            self._incoming.write(data)
            with contextlib.suppress(ssl.SSLWantReadError):
                while part := self._tls.read(65536):
                    yield at, part


class Watch:
    """What a watch has heard."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._rest = b""

    def heard(self) -> Iterator[tuple[int, float]]:
        """Return the changes that came since the last call, with the times at which they were there as a whole."""
        for at, data in self._wire.read():
            if data.endswith(END):
                raise CutOff
            whole, _, self._rest = FRAME.sub(b"", self._rest + data).rpartition(b"}\n")
            for mark in MARK.findall(whole):
                yield int(mark), at


class Writer:
    """A connection that changes one config map."""

    def __init__(self, wire: Wire, head: Head, path: str) -> None:
        self._wire = wire
        self._head = head
        self._path = path
        self._answer = b""

    def change(self, number: int) -> None:
        """Send a change."""
        body = json.dumps({"data": {"fan": str(number)}}).encode()
        self._wire.send(self._head("PATCH", self._path, body, "application/merge-patch+json") + body)

    def answered(self) -> bool:
        """Say whether the answer is there as a whole."""
        self._answer += b"".join(data for _, data in self._wire.read())
        head, _, content = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
        if not length or len(content) < int(length):
            return False
        assert head.startswith(b"HTTP/1.1 200 "), self._answer
        self._answer = b""
        return True


class Followers:
    """Watches of a namespace's config maps, and connections that change these.

    Args:
        port: of the server on this machine.
        context: how to speak TLS with it.
        head: makes heads of requests.
        path: of the namespace's config maps.
        names: of those that are changed, each by a connection of its own.
        watches: how many.

    """

    def __init__(
        self, port: int, context: ssl.SSLContext, head: Head, path: str, names: Sequence[str], watches: int
    ) -> None:
        self._poll = select.epoll()
        self._wires: dict[int, Wire] = {}
        self._writers: dict[int, Writer] = {}
        self._watches = []
        for _ in range(watches):
            wire = self._connected(port, context)
            wire.send(head("GET", f"{path}?{FROM_NOW}", b"", ""))
            while not (begin := b"".join(data for _, data in wire.read())):  # first there are tickets of TLS
                wire.receive()
            assert begin.startswith(b"HTTP/1.1 200 "), begin
            self._watches.append(Watch(wire))
        for name in names:
            wire = self._connected(port, context)
            self._writers[wire.socket.fileno()] = Writer(wire, head, f"{path}/{name}")

    def _connected(self, port: int, context: ssl.SSLContext) -> Wire:
        wire = Wire(port, context)
        self._wires[wire.socket.fileno()] = wire
        self._poll.register(wire.socket, select.EPOLLIN)
        return wire

    def change(self, count: int, pace: float) -> tuple[list[float], float]:
        """Make changes: one every `pace` seconds, or with 0 as fast as the server answers to all writers.

        Returns:
            The seconds from each write until the last watch had it, and those from the first write until all had all.

        Raises:
            CutOff: a watch has ended.

        """
        written = self._write(count, pace)
        last: dict[int, float] = {}
        missing = count * len(self._watches)
        patient = time.perf_counter() + PATIENCE
        while missing:
            if time.perf_counter() > patient:
                raise TimeoutError(f"{missing} times a change was not heard of")
            while self._receive(QUIET):
                pass
            for watch in self._watches:
                for number, at in watch.heard():
                    last[number] = max(at, last.get(number, at))
                    missing -= 1
        return [last[number] - begin for number, begin in written.items()], max(last.values()) - min(written.values())

    def _write(self, count: int, pace: float) -> dict[int, float]:
        """Make changes; return when."""
        idle, busy = list(self._writers.values()), 0
        written: dict[int, float] = {}
        due = time.perf_counter()
        while busy or len(written) < count:
            wait = due - time.perf_counter()
            if idle and wait <= 0 and len(written) < count:
                number = next(NUMBERS)
                written[number] = time.perf_counter()
                idle.pop(0).change(number)
                busy += 1
                due += pace
                continue
            for ready in self._receive(max(0.0, wait) or QUIET):
                if ready in self._writers and self._writers[ready].answered():
                    idle.append(self._writers[ready])
                    busy -= 1
        return written

    def _receive(self, seconds: float) -> list[int]:
        """Take what arrives within some seconds; return of whom."""
        ready = [number for number, _ in self._poll.poll(seconds)]
        for number in ready:
            self._wires[number].receive()
        return ready

    def close(self) -> None:
        self._poll.close()
        for wire in self._wires.values():
            wire.socket.close()
