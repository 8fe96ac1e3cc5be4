# SPDX-License-Identifier: Apache-2.0
"""The runtime's side of NRI on a real socket with framing of its own: as containerd behaves, and as it must not.

It reads as Go does: a frame that begins with a ttrpc header is read into 4096 bytes, and a longer one ends the
connection. It sends as Go does: the first 4096 bytes of a message, then the rest. Faults are methods: `raw` sends any
bytes, `cut` ends the connection in the middle of a frame, `stop` and `start` are a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from pathlib import Path
from typing import Any, Self

from dynamic_memory.nri.events import Event
from dynamic_memory.nri.proto import nri_pb2 as pb
from dynamic_memory.nri.proto.ttrpc_pb2 import Request, Response, Status

PLUGIN, RUNTIME = 1, 2
SERVICE = "nri.pkg.api.v1alpha1.Plugin"
BUFFER = 4096
UNIMPLEMENTED = 12
# the calls that became calls of their own in 0.12: before it, StateChange
OWN_SINCE_0_12 = {
    Event.RUN_POD_SANDBOX: "RunPodSandbox",
    Event.STOP_POD_SANDBOX: "StopPodSandbox",
    Event.REMOVE_POD_SANDBOX: "RemovePodSandbox",
    Event.POST_CREATE_CONTAINER: "PostCreateContainer",
    Event.START_CONTAINER: "StartContainer",
    Event.POST_START_CONTAINER: "PostStartContainer",
    Event.POST_UPDATE_CONTAINER: "PostUpdateContainer",
    Event.REMOVE_CONTAINER: "RemoveContainer",
    Event.POST_UPDATE_POD_SANDBOX: "PostUpdatePodSandbox",
}


class Answered(Exception):
    """The plugin answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(f"{code}: {message}")


class Lost(Exception):
    """The connection is over."""


class GoReader:
    """A connection's bytes as Go's ttrpc reads them: through a buffer of 4096 bytes, a frame a read."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._buffer = b""

    async def _frame(self, room: int) -> bytes:
        frame = await self.frames.get()
        if frame is None:
            raise Lost("closed")
        if len(frame) > room:
            raise Lost(f"cannot allocate memory: a frame of {len(frame)} for a read of {room}")
        return frame

    async def read(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            wanted = size - len(got)
            if not self._buffer and wanted >= BUFFER:
                got += await self._frame(wanted)
                continue
            if not self._buffer:
                self._buffer = await self._frame(BUFFER)
            got, self._buffer = got + self._buffer[:wanted], self._buffer[wanted:]
        return got


class Connection:
    """One plugin, from its connect on."""

    def __init__(self, runtime: Runtime, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.runtime = runtime
        self.reader, self.writer = reader, writer
        self.registered: pb.RegisterPluginRequest | None = None
        self.events = 0
        self.sync_updates: list[pb.ContainerUpdate] = []
        self.why = ""
        self.rejects_updates: set[str] = set()
        self.updates: list[pb.ContainerUpdate] = []
        self.legacy = runtime.legacy
        self.deprecated = 0
        self._channels = {PLUGIN: GoReader(), RUNTIME: GoReader()}
        self._stream = -1
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._registration: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.tasks = [asyncio.create_task(step()) for step in (self._demultiplex, self._answers, self._serve)]

    # --- frames

    def send(self, channel: int, stream: int, kind: int, data: bytes) -> None:
        message = struct.pack(">IIBB", len(data), stream, kind, 0) + data
        for piece in (message[:BUFFER], message[BUFFER:]):
            if piece:
                self.writer.write(struct.pack(">II", channel, len(piece)) + piece)

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    async def cut(self) -> None:
        """End it in the middle of a frame."""
        self.raw(struct.pack(">II", PLUGIN, 100) + b"half a frame")
        await self.close()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
        self._end("closed")

    def _end(self, why: str) -> None:
        self.why = self.why or why
        for waiter in (*self._waiting.values(), self._registration):
            if not waiter.done():
                waiter.set_exception(Lost(why))
                waiter.exception()

    async def _demultiplex(self) -> None:
        try:
            while True:
                channel, length = struct.unpack(">II", await self.reader.readexactly(8))
                assert 0 < length <= (4 << 20) + 10, f"a frame of {length}"
                self._channels[channel].frames.put_nowait(await self.reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError):
            for channel_reader in self._channels.values():
                channel_reader.frames.put_nowait(None)

    async def _message(self, channel: int) -> tuple[int, int, bytes]:
        reader = self._channels[channel]
        length, stream, kind, _flags = struct.unpack(">IIBB", await reader.read(10))
        assert length <= 4 << 20, f"a message of {length}"
        return stream, kind, await reader.read(length)

    async def _answers(self) -> None:
        try:
            while True:
                stream, kind, data = await self._message(PLUGIN)
                waiter = self._waiting.pop(stream, None)
                if kind == 2 and waiter is not None and not waiter.done():
                    waiter.set_result(Response.FromString(data))
        except Lost as error:
            self._end(str(error))
            self.writer.close()

    async def _serve(self) -> None:
        try:
            while True:
                stream, kind, data = await self._message(RUNTIME)
                assert kind == 1
                request = Request.FromString(data)
                assert request.service == "nri.pkg.api.v1alpha1.Runtime"
                if request.method == "RegisterPlugin":
                    self.registered = pb.RegisterPluginRequest.FromString(request.payload)
                    self._registration.set_result(stream)
                elif request.method == "UpdateContainers":
                    wanted = pb.UpdateContainersRequest.FromString(request.payload)
                    self.updates.extend(wanted.update)
                    failed = [u for u in wanted.update if u.container_id in self.rejects_updates]
                    self.reply(stream, pb.UpdateContainersResponse(failed=failed).SerializeToString())
                else:
                    raise AssertionError(request.method)
        except Lost as error:
            self._end(str(error))
            self.writer.close()

    def reply(self, stream: int, payload: bytes = b"", status: Status | None = None) -> None:
        response = Response(payload=payload, status=status) if status else Response(payload=payload)
        self.send(RUNTIME, stream, 2, response.SerializeToString())

    # --- calls

    async def call(self, method: str, message: Any, answer: Any = pb.Empty, timeout: float | None = None) -> Any:
        payload = message if isinstance(message, bytes) else message.SerializeToString()
        patience = self.runtime.request_timeout if timeout is None else timeout
        self._stream += 2
        waiter: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[self._stream] = waiter
        if self.why:
            raise Lost(self.why)
        request = Request(service=SERVICE, method=method, payload=payload, timeout_nano=int(patience * 1e9))
        self.send(PLUGIN, self._stream, 1, request.SerializeToString())
        try:
            response = await asyncio.wait_for(waiter, patience)
        except TimeoutError:
            # what the runtime does to a plugin that is slow once
            self._end("too slow")
            self.writer.close()
            raise Lost("too slow") from None
        if response.status.code:
            raise Answered(response.status.code, response.status.message)
        return answer.FromString(response.payload)

    async def handshake(self) -> None:
        """Registration, Configure, Synchronize; Configure before the answer to the registration, as the runtime may."""
        stream = await asyncio.wait_for(self._registration, 30)
        runtime = self.runtime
        configure = pb.ConfigureRequest(
            runtime_name=runtime.name,
            runtime_version=runtime.version,
            registration_timeout=5000,
            request_timeout=int(runtime.request_timeout * 1000),
            nri_version=runtime.nri,
        )
        if runtime.reply_first:
            self.reply(stream)
        self.events = (await self.call("Configure", configure, pb.ConfigureResponse)).events
        if self.events & ~runtime.known_mask:
            await self.close()
            raise Lost(f"invalid plugin events: {self.events:#x}")
        if not runtime.reply_first:
            self.reply(stream)
        pieces = runtime.pieces()
        for number, (pods, containers) in enumerate(pieces, 1):
            more = number < len(pieces)
            request = pb.SynchronizeRequest(pods=pods, containers=containers, more=more)
            if runtime.lose_at_piece == number:
                await self.close()
                raise Lost("in the middle of Synchronize")
            answer = await self.call("Synchronize", request, pb.SynchronizeResponse)
            if more and (answer.update or not answer.more):
                await self.close()
                raise Lost("plugin does not handle split sync requests")
            self.sync_updates = list(answer.update)

    async def event(self, event: Event, pod: Any = None, container: Any = None) -> None:
        """Tell an event that expects nothing: its own call, or StateChange; the fallback is for good."""
        if not self.events & 1 << (event - 1):
            return
        if not self.legacy:
            try:
                await self.call(OWN_SINCE_0_12[event], pb.EventRequest(pod=pod, container=container))
            except Answered as error:
                if error.code != UNIMPLEMENTED:
                    raise
                self.legacy, self.deprecated = True, self.deprecated + 1
            else:
                return
        await self.call("StateChange", pb.StateChangeEvent(event=event, pod=pod, container=container))

    async def create(self, pod: Any, container: Any) -> pb.CreateContainerResponse:
        request = pb.EventRequest(pod=pod, container=container)
        answer: pb.CreateContainerResponse = await self.call("CreateContainer", request, pb.CreateContainerResponse)
        return answer


class Runtime:
    """A runtime that takes plugins.

    Args:
        path: of its socket.
        legacy: it has StateChange only (NRI up to 0.11).
        request_timeout: seconds that it waits for an answer. A real one has 2; a test that is about something else
            must not fail because the machine was busy.
        handshakes: whether it does the handshake by itself; else the test does.

    """

    def __init__(
        self,
        path: Path,
        *,
        name: str = "containerd",
        version: str = "v2.4.2",
        nri: str = "v0.12.3",
        legacy: bool = False,
        known_mask: int = 0x3FFF,
        request_timeout: float = 30.0,
        reply_first: bool = False,
        handshakes: bool = True,
    ) -> None:
        self.path, self.name, self.version, self.nri = path, name, version, nri
        self.legacy, self.known_mask, self.request_timeout = legacy, known_mask, request_timeout
        self.reply_first, self.handshakes = reply_first, handshakes
        self.pods: list[Any] = []
        self.containers: list[Any] = []
        self.piece = 1000
        self.lose_at_piece = 0
        self.failures: list[str] = []
        self.connections: list[Connection] = []
        self._ready: asyncio.Queue[Connection] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._one_at_a_time = asyncio.Lock()
        self._handlers: set[asyncio.Task[Any]] = set()

    def pieces(self) -> list[tuple[list[Any], list[Any]]]:
        """What Synchronize brings, in pieces as the runtime would cut it: first the pods, then containers."""
        pods, containers = list(self.pods), list(self.containers)
        cut = [(pods[n : n + self.piece], []) for n in range(0, len(pods), self.piece)]
        cut += [([], containers[n : n + self.piece]) for n in range(0, len(containers), self.piece)]
        if len(pods) + len(containers) <= self.piece:
            return [(pods, containers)]
        return cut

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self.path, limit=1 << 24)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        for connection in self.connections:
            await connection.close()
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def plugin(self, timeout: float = 30.0) -> Connection:
        """The next plugin that is synchronized (or connected, if the test does the handshake)."""
        return await asyncio.wait_for(self._ready.get(), timeout)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        connection = Connection(self, reader, writer)
        self.connections.append(connection)
        try:
            async with self._one_at_a_time:
                if self.handshakes:
                    await connection.handshake()
        except (Answered, Lost, TimeoutError) as error:
            self.failures.append(str(error))
            await connection.close()
        except asyncio.CancelledError:
            await connection.close()
        else:
            self._ready.put_nowait(connection)


def pod(uid: str = "pod-uid", **fields: Any) -> pb.PodSandbox:
    """A sandbox."""
    return pb.PodSandbox(
        **{"id": f"sandbox-{uid}", "name": f"name-{uid}", "uid": uid, "namespace": "default", **fields}
    )


def container(name: str = "app", sandbox: str = "sandbox-pod-uid", **fields: Any) -> pb.Container:
    """A container as the runtime is about to create it."""
    return pb.Container(**{"id": f"{sandbox}-{name}", "pod_sandbox_id": sandbox, "name": name, **fields})
