# SPDX-License-Identifier: Apache-2.0
"""The runtime's side of the Node Resource Interface (0.12): plugins connect, hear of containers, change them.

    register → Configure → Synchronize → RunPodSandbox, CreateContainer, …, RemovePodSandbox

Everything happens one after the other, under one lock: a handshake sees what exists and nothing is created meanwhile.
Plugins are asked in the order of their index, each sees what the ones before it changed. One that answers with an error
stops what is about to happen; one that does not answer in time, or whose connection is lost, is left out from then on,
and containers start without it, as on a real node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from dynamic_memory.embedded.runtime import messages
from dynamic_memory.errors import RetryError
from dynamic_memory.nri import mux, ttrpc
from dynamic_memory.nri.errors import CallFailed, Code, Disconnected, NriError, ProtocolError
from dynamic_memory.nri.events import DEFAULT_TIMEOUT, Event
from dynamic_memory.nri.proto import nri_pb2 as pb
from dynamic_memory.nri.rpcs import BY_EVENT
from dynamic_memory.nri.session import PLUGIN_SERVICE, RUNTIME_SERVICE

__all__ = ["NAME", "NRI", "VERSION", "PluginRefused", "Plugins"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)
NAME, VERSION, NRI = "containerd", "v2.4.2", "v0.12.3"
"""What the runtime says it is: the one whose ways it has. The names of CDI devices are shown from this version on."""
REGISTRATION = 5.0
"""Seconds that a plugin may take to register."""
PIECE = 2 << 20
"""Bytes of one piece of Synchronize, about."""
EVENTS = (1 << len(Event)) - 1

State = Callable[[], tuple[list[pb.PodSandbox], list[pb.Container]]]
Apply = Callable[[Sequence[pb.ContainerUpdate]], list[pb.ContainerUpdate]]


class PluginRefused(RetryError):
    """A plugin does not let a pod or container be.

    Args:
        plugin: index and name.
        message: what it said.

    """

    def __init__(self, plugin: str, message: str) -> None:
        self.plugin = plugin
        self.message = message
        super().__init__(plugin, message)

    def __str__(self) -> str:
        return f"NRI plugin {self.plugin} refused: {self.message}"


class _Plugin:
    """One connection.

    Args:
        update: serves UpdateContainers.

    """

    def __init__(self, update: Callable[[pb.UpdateContainersRequest], Awaitable[bytes]]) -> None:
        self.name = self.index = ""
        self.events = 0
        self.registered = asyncio.Event()
        self.mux = mux.Mux()
        self._update = update
        self._client = ttrpc.Client(lambda *payloads: self.mux.send(mux.PLUGIN, *payloads))
        self._server = ttrpc.Server(
            lambda *payloads: self.mux.send(mux.RUNTIME, *payloads), {RUNTIME_SERVICE: self._serve}, self.mux.abort
        )
        self.mux.open(mux.PLUGIN, self._client.receive)
        self.mux.open(mux.RUNTIME, self._server.receive)
        self.mux.closed.add_done_callback(lambda closed: self._client.lost(closed.result()))

    def __str__(self) -> str:
        return f"{self.index}-{self.name}"

    def hears(self, event: Event) -> bool:
        """Tell whether it has subscribed to an event."""
        return bool(self.events & 1 << (event - 1))

    async def call(self, method: str, request: Message, answer: type[M], timeout: float) -> M:
        """Call it; see `ttrpc.Client.call` for what can go wrong."""
        payload = await self._client.call(PLUGIN_SERVICE, method, request.SerializeToString(), timeout)
        try:
            return answer.FromString(payload)
        except DecodeError as error:
            raise ProtocolError(f"the answer to {method} is none: {error}") from error

    async def close(self, why: str) -> None:
        """End it."""
        self.mux.close(why)
        await self._server.stop()

    def _serve(self, method: str, payload: bytes, _seconds: float | None) -> bytes | Awaitable[bytes]:
        try:
            if method == "RegisterPlugin":
                request = pb.RegisterPluginRequest.FromString(payload)
                self.name, self.index = request.plugin_name, request.plugin_idx
                self.registered.set()
                return b""
            if method == "UpdateContainers":
                return self._update(pb.UpdateContainersRequest.FromString(payload))
        except DecodeError as error:
            raise CallFailed(method, Code.INVALID_ARGUMENT, f"not a message of {method}: {error}") from error
        raise CallFailed(method, Code.UNIMPLEMENTED, f"no method {method}")


class Plugins:
    """The plugins of one runtime.

    Args:
        path: of the socket.
        state: returns all pods and containers.
        apply: changes containers that are there; returns the updates that could not be made.
        timeout: seconds that a plugin may take to answer.
        piece: see `PIECE`.

    """

    def __init__(
        self, path: Path, *, state: State, apply: Apply, timeout: float = DEFAULT_TIMEOUT, piece: int = PIECE
    ) -> None:
        self.path = path
        self.lock = asyncio.Lock()
        """Held by whoever changes what exists, from before plugins are asked until it is done."""
        self._state = state
        self._apply = apply
        self._timeout = timeout
        self._piece = piece
        self._plugins: list[_Plugin] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._told: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def names(self) -> list[str]:
        """Index and name of the plugins that are synchronized."""
        return [str(plugin) for plugin in self._plugins]

    async def listen(self) -> None:
        """Take plugins from now on.

        Raises:
            OSError: the socket cannot be made.

        """
        if self._server is None:
            self.path.unlink(missing_ok=True)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(self._connected, str(self.path))

    async def close(self) -> None:
        """End all connections; the socket is gone afterwards."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        tasks = [*self._connections, *self._told]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()
            self.path.unlink(missing_ok=True)

    # --- what happens on the node; `lock` is held, but for `post`

    async def tell(self, event: Event, pod: pb.PodSandbox, container: pb.Container | None = None) -> None:
        """Tell an event.

        Raises:
            PluginRefused: a plugin does not let it happen.

        """
        method, _ = BY_EVENT[event]
        request = pb.EventRequest(pod=pod, container=container)
        answer: type[Message] = pb.UpdatesResponse if event is Event.STOP_CONTAINER else pb.Empty
        for plugin in self._hearing(event):
            found = await self._ask(plugin, method, request, answer)
            if isinstance(found, pb.UpdatesResponse):
                self._apply(found.update)

    def post(self, event: Event, pod: pb.PodSandbox, container: pb.Container) -> None:
        """Tell an event that nobody waits for, after those before it."""
        if not self._connections:
            return

        async def told() -> None:
            async with self.lock:
                with contextlib.suppress(PluginRefused):
                    await self.tell(event, pod, container)

        task = asyncio.create_task(told(), name=f"nri {event.name}")
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def told(self) -> None:
        """Wait until what was posted so far is told; `lock` must not be held."""
        if self._told:
            await asyncio.wait(set(self._told))

    async def create(self, pod: pb.PodSandbox, container: pb.Container) -> str:
        """Have a container that is about to be created changed; return its memory policy.

        Raises:
            PluginRefused: a plugin does not let it be.

        """
        policy = ""
        whole = pb.ContainerAdjustment()
        before = pb.Container.FromString(container.SerializeToString())
        for plugin in self._hearing(Event.CREATE_CONTAINER):
            request = pb.EventRequest(pod=pod, container=container)
            found = await self._ask(plugin, "CreateContainer", request, pb.CreateContainerResponse)
            if found is not None:
                messages.adjust(container, found.adjust)
                policy = messages.policy(found.adjust) or policy
                whole.MergeFrom(found.adjust)
                self._apply(found.update)
        check = pb.ValidateContainerAdjustmentRequest(
            pod=pod,
            container=before,
            adjust=whole,
            plugins=[pb.PluginInstance(name=plugin.name, index=plugin.index) for plugin in self._plugins],
        )
        for plugin in self._hearing(Event.VALIDATE_CONTAINER_ADJUSTMENT):
            verdict = await self._ask(
                plugin, "ValidateContainerAdjustment", check, pb.ValidateContainerAdjustmentResponse
            )
            if verdict is not None and verdict.reject:
                raise PluginRefused(str(plugin), verdict.reason)
        return policy

    async def update(self, pod: pb.PodSandbox, container: pb.Container, resources: pb.LinuxResources) -> None:
        """Have the resources that a container is about to get changed, in place.

        Raises:
            PluginRefused: a plugin does not let it be.

        """
        for plugin in self._hearing(Event.UPDATE_CONTAINER):
            request = pb.UpdateContainerRequest(pod=pod, container=container, linux_resources=resources)
            found = await self._ask(plugin, "UpdateContainer", request, pb.UpdatesResponse)
            for change in found.update if found is not None else ():
                if change.container_id == container.id:
                    messages.merge(resources, change.linux.resources)
                else:
                    self._apply([change])

    async def update_pod(self, pod: pb.PodSandbox, resources: pb.LinuxResources) -> None:
        """Tell that the kubelet is going to give a pod other limits, then that it may; no refusal counts after that.

        Raises:
            PluginRefused: a plugin does not let it be.

        """
        for plugin in self._hearing(Event.UPDATE_POD_SANDBOX):
            request = pb.UpdatePodSandboxRequest(pod=pod, linux_resources=resources)
            await self._ask(plugin, "UpdatePodSandbox", request, pb.Empty)
        with contextlib.suppress(PluginRefused):
            await self.tell(Event.POST_UPDATE_POD_SANDBOX, pod)

    # --- connections

    def _hearing(self, event: Event) -> list[_Plugin]:
        return [plugin for plugin in self._plugins if plugin.hears(event)]

    async def _ask(self, plugin: _Plugin, method: str, request: Message, answer: type[M]) -> M | None:
        """Call a plugin; None if it is not there any more."""
        try:
            return await plugin.call(method, request, answer, self._timeout)
        except CallFailed as error:
            if error.code != Code.DEADLINE_EXCEEDED:
                raise PluginRefused(str(plugin), error.message) from error
            why = str(error)
        except (Disconnected, ProtocolError) as error:
            why = str(error)
        log.warning("a plugin is left out", extra={"plugin": str(plugin), "why": why})
        self._leave(plugin)
        plugin.mux.close(why)
        return None

    def _leave(self, plugin: _Plugin) -> None:
        self._plugins = [each for each in self._plugins if each is not plugin]

    def _connected(self) -> mux.Mux:
        plugin = _Plugin(self._updated)
        task = asyncio.create_task(self._serve(plugin), name="nri plugin")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        return plugin.mux

    async def _serve(self, plugin: _Plugin) -> None:
        why = "the runtime ends"
        try:
            async with asyncio.timeout(REGISTRATION):
                await plugin.registered.wait()
            async with self.lock:
                await self._handshake(plugin)
                self._plugins = sorted((*self._plugins, plugin), key=str)
            log.info("a plugin is synchronized", extra={"plugin": str(plugin)})
            await asyncio.wait([plugin.mux.closed])
            why = plugin.mux.closed.result()
        except (NriError, TimeoutError) as error:
            why = str(error) or "it did not register"
            log.warning("a plugin is not taken", extra={"plugin": str(plugin), "why": why})
        finally:
            self._leave(plugin)
            await plugin.close(why)

    async def _handshake(self, plugin: _Plugin) -> None:
        configure = pb.ConfigureRequest(
            runtime_name=NAME,
            runtime_version=VERSION,
            registration_timeout=int(REGISTRATION * 1000),
            request_timeout=int(self._timeout * 1000),
            nri_version=NRI,
        )
        wanted = (await plugin.call("Configure", configure, pb.ConfigureResponse, self._timeout)).events
        plugin.events = wanted or EVENTS
        if plugin.events & ~EVENTS:
            raise ProtocolError(f"it asks for events that there are not ({plugin.events:#x})")
        pods, containers = self._state()
        for piece in messages.pieces(pods, containers, self._piece):
            answer = await plugin.call("Synchronize", piece, pb.SynchronizeResponse, self._timeout)
            if piece.more and (answer.update or not answer.more):
                raise ProtocolError("it does not take Synchronize in pieces")
            self._apply(answer.update)

    async def _updated(self, request: pb.UpdateContainersRequest) -> bytes:
        """Change containers because a plugin wants it."""
        async with self.lock:
            return pb.UpdateContainersResponse(failed=self._apply(request.update)).SerializeToString()
