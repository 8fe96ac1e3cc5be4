# SPDX-License-Identifier: Apache-2.0
"""One connection to a runtime, from the handshake to its loss.

The service Plugin is served before the plugin registers: the runtime may call Configure before it answers the
registration, and waits for nobody. Then it calls Synchronize, in one piece or several, and then tells events, in one of
two styles: a call for each (NRI 0.12), or StateChange for most (before). Both are served, whatever the runtime says.

Answers have a budget: the runtime that does not get one in time disconnects the plugin and goes on *without* it. So an
awaited answer that is not there when the budget is nearly used up is replaced: by an error where an error stops the
container, else by an empty answer.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.protobuf.message import DecodeError, Message

from dynamic_memory.nri import hooks, mux, ttrpc
from dynamic_memory.nri.errors import CallFailed, Code, Disconnected, ProtocolError, Refused, UnsafeRuntime
from dynamic_memory.nri.events import DEFAULT_TIMEOUT, Event, Runtime, mask
from dynamic_memory.nri.mux import Mux
from dynamic_memory.nri.proto.nri_pb2 import (
    ConfigureRequest,
    ConfigureResponse,
    Container,
    ContainerUpdate,
    PodSandbox,
    RegisterPluginRequest,
    StateChangeEvent,
    SynchronizeRequest,
    SynchronizeResponse,
    UpdateContainersRequest,
    UpdateContainersResponse,
)
from dynamic_memory.nri.rpcs import BY_EVENT, RPCS, Rpc

__all__ = ["PLUGIN_SERVICE", "RUNTIME_SERVICE", "Session"]

log = logging.getLogger(__name__)

PLUGIN_SERVICE = "nri.pkg.api.v1alpha1.Plugin"
RUNTIME_SERVICE = "nri.pkg.api.v1alpha1.Runtime"
VERSION = "v0.12.2"
"""The version of NRI that this speaks."""
NEAR = 0.75
"""The share of the runtime's patience after which an answer is late."""
MAX_PIECES = 256
"""Pieces of one Synchronize, of 4 MiB at most."""
REGISTRATION = 30.0
"""Seconds for the registration: the runtime takes one plugin after the other, each with its Synchronize."""

Late = Callable[[str, float], None]


class Session:
    """One connection.

    Args:
        plugin: see `hooks`.
        late: told of each answer that came near the runtime's patience or beyond: method and seconds.

    """

    def __init__(self, plugin: object, late: Late) -> None:
        self._plugin = plugin
        self._late = late
        self.events = frozenset(rpc.event for _, rpc in BY_EVENT.values() if isinstance(plugin, rpc.hook))
        self.runtime: Runtime | None = None
        self.synchronized = asyncio.Event()
        self.mux = Mux()
        self._server = ttrpc.Server(
            lambda *payloads: self.mux.send(mux.PLUGIN, *payloads), {PLUGIN_SERVICE: self._serve}, self.mux.abort
        )
        self._client = ttrpc.Client(lambda *payloads: self.mux.send(mux.RUNTIME, *payloads))
        self.mux.open(mux.PLUGIN, self._server.receive)
        self.mux.open(mux.RUNTIME, self._client.receive)
        self.mux.closed.add_done_callback(lambda closed: self._client.lost(closed.result()))
        self._pods: list[PodSandbox] = []
        self._containers: list[Container] = []
        self._pieces = 0
        self._sync_began = 0.0
        self._in_hook: set[asyncio.Task[Any]] = set()

    async def register(self, name: str, index: str) -> None:
        """Register; the runtime goes on by itself.

        Raises:
            CallFailed: the runtime refuses, or does not answer.
            Disconnected: the connection was lost.
            ProtocolError: the answer is none.

        """
        request = RegisterPluginRequest(plugin_name=name, plugin_idx=index, nri_version=VERSION)
        await self._client.call(RUNTIME_SERVICE, "RegisterPlugin", request.SerializeToString(), REGISTRATION)

    async def update(self, updates: Sequence[ContainerUpdate]) -> list[ContainerUpdate]:
        """Change containers unasked; return the updates that did not work.

        Raises:
            RuntimeError: called from a hook: the runtime would wait for itself until it gives the plugin up.
            UnsafeRuntime: the runtime's NRI is one that this can block for ever.
            CallFailed: the runtime answers with an error.
            Disconnected: there is no connection.
            ProtocolError: the answer is none.

        """
        if asyncio.current_task() in self._in_hook:
            raise RuntimeError("containers must not be updated from within a hook: return the updates")
        if self.runtime is None or not self.synchronized.is_set():
            raise Disconnected("the runtime is not synchronized yet")
        if not self.runtime.takes_updates:
            raise UnsafeRuntime(str(self.runtime))
        request = UpdateContainersRequest(update=updates)
        timeout = self.runtime.request_timeout
        answer = await self._client.call(
            RUNTIME_SERVICE, "UpdateContainers", request.SerializeToString(), max(timeout, DEFAULT_TIMEOUT)
        )
        try:
            return list(UpdateContainersResponse.FromString(answer).failed)
        except DecodeError as error:
            raise ProtocolError(f"the answer to UpdateContainers is none: {error}") from error

    async def close(self, why: str) -> None:
        """End it."""
        self.mux.close(why)
        await self._server.stop()

    # --- the service Plugin

    def _serve(self, method: str, payload: bytes, seconds: float | None) -> bytes | Awaitable[bytes]:
        try:
            rpc = RPCS.get(method)
            if rpc is not None:
                return self._event(method, rpc, rpc.request.FromString(payload), seconds)
            if method == "StateChange":
                return self._state_change(StateChangeEvent.FromString(payload), seconds)
            if method == "Synchronize":
                return self._synchronize(SynchronizeRequest.FromString(payload), seconds)
            if method == "Configure":
                return self._configure(ConfigureRequest.FromString(payload), seconds)
        except DecodeError as error:
            raise CallFailed(method, Code.INVALID_ARGUMENT, f"not a message of {method}: {error}") from error
        if method == "Shutdown":
            return self._shutdown(seconds)
        raise CallFailed(method, Code.UNIMPLEMENTED, f"no method {method}")

    def _event(self, method: str, rpc: Rpc, request: Message, seconds: float | None) -> bytes | Awaitable[bytes]:
        if rpc.event not in self.events:
            return b""
        return self._run(method, lambda: rpc.invoke(self._plugin, request), rpc.answer, seconds, refuses=rpc.refuses)

    def _state_change(self, change: StateChangeEvent, seconds: float | None) -> bytes | Awaitable[bytes]:
        try:
            method, rpc = BY_EVENT[Event(change.event)]
        except ValueError:
            # a newer runtime's event: it expects nothing
            return b""
        return self._event(method, rpc, change, seconds)

    def _configure(self, request: ConfigureRequest, seconds: float | None) -> bytes | Awaitable[bytes]:
        self.runtime = runtime = Runtime(
            name=request.runtime_name,
            version=request.runtime_version,
            nri=request.nri_version,
            request_timeout=request.request_timeout / 1000 or DEFAULT_TIMEOUT,
            registration_timeout=request.registration_timeout / 1000 or 5.0,
            config=request.config,
        )
        answer = ConfigureResponse(events=mask(self.events, runtime)).SerializeToString()
        if not isinstance(self._plugin, hooks.Configures):
            return answer
        plugin = self._plugin
        return self._run("Configure", lambda: plugin.configure(runtime), lambda _: answer, seconds, refuses=True)

    def _synchronize(self, request: SynchronizeRequest, seconds: float | None) -> bytes | Awaitable[bytes]:
        if not self._pieces:
            self._sync_began = _now()
        self._pieces += 1
        if self._pieces > MAX_PIECES:
            raise CallFailed("Synchronize", Code.RESOURCE_EXHAUSTED, f"more than {MAX_PIECES} pieces")
        self._pods.extend(request.pods)
        self._containers.extend(request.containers)
        if request.more:
            return SynchronizeResponse(more=True).SerializeToString()
        pods, containers, spent = self._pods, self._containers, _now() - self._sync_began
        self._pods, self._containers, self._pieces = [], [], 0
        if not isinstance(self._plugin, hooks.Synchronizes):
            return self._synchronized([])
        plugin = self._plugin
        return self._run(
            "Synchronize",
            lambda: plugin.synchronize(pods, containers),
            self._synchronized,
            None if seconds is None else max(seconds, 0.001),
            refuses=True,
            spent=spent,
        )

    def _synchronized(self, updates: Sequence[ContainerUpdate] | None) -> bytes:
        # set after the answer is on its way, so that nobody sends an update before it
        asyncio.get_running_loop().call_soon(self.synchronized.set)
        return SynchronizeResponse(update=updates or ()).SerializeToString()

    def _shutdown(self, seconds: float | None) -> bytes | Awaitable[bytes]:
        if not isinstance(self._plugin, hooks.ShutsDown):
            return b""
        return self._run("Shutdown", self._plugin.shutdown, lambda _: b"", seconds, refuses=False)

    # --- running a hook

    def _run(
        self,
        method: str,
        invoke: Callable[[], Any],
        answer: Callable[[Any], bytes],
        seconds: float | None,
        *,
        refuses: bool,
        spent: float = 0.0,
    ) -> bytes | Awaitable[bytes]:
        """Call a hook; `spent` seconds of the runtime's patience are gone already."""
        patience = self.runtime.request_timeout if self.runtime is not None else DEFAULT_TIMEOUT
        # timeout_nano is what is left now, so what is spent is out of it already
        near = min(patience - spent, patience if seconds is None else seconds) * NEAR
        began = _now()
        try:
            result = invoke()
            if inspect.isawaitable(result):
                return self._await(method, result, answer, near, refuses=refuses)
            return answer(result)
        except Exception as error:  # noqa: BLE001 - it is answered or logged
            return self._failed(method, error, refuses=refuses)
        finally:
            self._watch(method, _now() - began, near)

    async def _await(
        self,
        method: str,
        result: Awaitable[Any],
        answer: Callable[[Any], bytes],
        near: float,
        *,
        refuses: bool,
    ) -> bytes:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - tells the type checker
        began = _now()
        self._in_hook.add(task)
        scope = asyncio.timeout(max(near, 0))
        try:
            async with scope:
                return answer(await result)
        except TimeoutError as error:
            if not scope.expired():
                return self._failed(method, error, refuses=refuses)
            late = Refused(f"{method} could not be answered in {near:.3g} s, and the runtime would not wait longer")
            return self._failed(method, late, refuses=refuses)
        except Exception as error:  # noqa: BLE001 - it is answered or logged
            return self._failed(method, error, refuses=refuses)
        finally:
            self._in_hook.discard(task)
            took = _now() - began
            # a timer may go off a clock's tick early
            self._watch(method, max(took, near) if scope.expired() else took, near)

    def _watch(self, method: str, took: float, near: float) -> None:
        if took >= near:
            log.warning("an answer was late", extra={"method": method, "seconds": round(took, 3)})
            self._late(method, took)

    @staticmethod
    def _failed(method: str, error: Exception, *, refuses: bool) -> bytes:
        if isinstance(error, Refused):
            log.warning("refused", extra={"method": method, "why": str(error)})
        else:
            log.error("a hook failed", extra={"method": method}, exc_info=error)
        if not refuses:
            return b""
        code = Code.FAILED_PRECONDITION if isinstance(error, Refused) else Code.UNKNOWN
        raise CallFailed(method, code, str(error) or type(error).__name__) from error


def _now() -> float:
    return asyncio.get_running_loop().time()
