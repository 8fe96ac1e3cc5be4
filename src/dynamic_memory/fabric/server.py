# SPDX-License-Identifier: Apache-2.0
"""gRPC around the service: TLS, who calls, errors, limits, keepalive, health.

Keepalive is what makes sessions true: a node that died without a word is noticed when its connection answers no ping
for fifteen seconds, and its Watch ends. Reflection is not offered; the interface is in `fabric.proto`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from dynamic_memory.errors import InvalidInput
from dynamic_memory.fabric import failures, wire
from dynamic_memory.fabric.authentication import ByCertificate, ByWord, Caller, Credentials
from dynamic_memory.fabric.config import ServiceConfig
from dynamic_memory.fabric.errors import FabricError, Unauthenticated
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.fabric.metrics import Metrics
from dynamic_memory.fabric.proto import fabric_pb2 as pb
from dynamic_memory.fabric.proto import fabric_pb2_grpc
from dynamic_memory.fabric.service import Service
from dynamic_memory.fabric.tls import ServerCertificates
from dynamic_memory.process import clock

__all__ = ["OPTIONS", "SERVICE_NAME", "Server"]

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer", bound=Message)

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["DynamicMemory"].full_name
OPTIONS = (
    # A second service on the same address is a mistake, not a way to share load.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 64 << 10),
    ("grpc.max_concurrent_streams", 1024),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Clients ping every ten seconds; that is not abuse.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
_GRACE = 1.0
_DRAIN = 3.0


class Server:
    """A listening service.

    Args:
        service: what is served.
        credentials: how callers are known.
        metrics: where calls are counted.

    """

    def __init__(self, service: Service, credentials: Credentials, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._server = grpc.aio.server(options=OPTIONS)
        self._health = health.aio.HealthServicer()
        self.port = 0
        servicer = _Servicer(service, credentials, metrics)
        fabric_pb2_grpc.add_DynamicMemoryServicer_to_server(servicer, self._server)  # type: ignore[no-untyped-call]  # generated
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    @classmethod
    async def start(cls, config: ServiceConfig, service: Service, metrics: Metrics) -> Server:
        """Listen as configured.

        Raises:
            InvalidInput: the certificate files cannot be used, or the address cannot be listened on.

        """
        credentials: Credentials
        if config.tls is None:
            credentials = ByWord([owner.name for owner in config.owners])
        else:
            credentials = ByCertificate(config.authorities())
        server = cls(service, credentials, metrics)
        try:
            if config.tls is None:
                server.port = server._server.add_insecure_port(config.listen)
            else:
                # ssl.SSLError is an OSError.
                certificates = ServerCertificates(config.tls, tuple(config.authorities().values()))
                server.port = server._server.add_secure_port(config.listen, certificates.credentials())
        except (OSError, RuntimeError) as error:
            raise InvalidInput("listen", f"an address and certificates that can be used ({error})") from error
        await server._server.start()
        await server.set_serving(serving=True)
        _log.info("listening", extra={"address": config.listen, "port": server.port, "tls": config.tls is not None})
        return server

    async def set_serving(self, *, serving: bool) -> None:
        """What the health service answers."""
        status = health_pb2.HealthCheckResponse
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def stop(self) -> None:
        """Refuse new calls, end Watches, and let operations under way come to their end, for some seconds."""
        await self._health.enter_graceful_shutdown()
        self._service.end_watches()
        await self._server.stop(_GRACE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN):
                await self._service.drain()


class _Servicer(fabric_pb2_grpc.DynamicMemoryServicer):
    """The methods of the interface, under the names that it gives them."""

    def __init__(self, service: Service, credentials: Credentials, metrics: Metrics) -> None:
        self._service = service
        self._credentials = credentials
        self._metrics = metrics

    async def AddMemory(self, request: pb.AddMemoryRequest, context: grpc.aio.ServicerContext) -> pb.AddMemoryResponse:
        async def act(caller: Caller) -> pb.AddMemoryResponse:
            share = await self._service.add_memory(
                caller.identity,
                node=request.node,
                pool=request.pool,
                device=request.device,
                size=request.bytes,
                tag=request.tag,
            )
            return pb.AddMemoryResponse(share=wire.share_to(share))

        return await self._call("AddMemory", context, act)

    async def RemoveMemory(
        self, request: pb.RemoveMemoryRequest, context: grpc.aio.ServicerContext
    ) -> pb.RemoveMemoryResponse:
        async def act(caller: Caller) -> pb.RemoveMemoryResponse:
            removed = await self._service.remove_memory(
                caller.identity, request.tag, host_off=request.host_off, force=request.force
            )
            return wire.removed_to(removed)

        return await self._call("RemoveMemory", context, act)

    async def GetCapacity(self, request: pb.GetCapacityRequest, context: grpc.aio.ServicerContext) -> pb.Capacity:
        async def act(caller: Caller) -> pb.Capacity:
            return wire.capacity_to(await self._service.get_capacity(caller.identity, request.node or None))

        return await self._call("GetCapacity", context, act)

    async def ListExtents(self, request: pb.ListExtentsRequest, context: grpc.aio.ServicerContext) -> pb.Snapshot:
        del request

        async def act(caller: Caller) -> pb.Snapshot:
            return wire.snapshot_to(await self._service.list_extents(caller.identity))

        return await self._call("ListExtents", context, act)

    async def Watch(self, request: pb.WatchRequest, context: grpc.aio.ServicerContext) -> None:
        del request

        async def act(caller: Caller) -> pb.WatchResponse:
            watcher = await self._service.watch(caller.identity)
            try:
                async with asyncio.timeout(_seconds_left(caller)):
                    while True:
                        await context.write(wire.item_to(await watcher.next()))
            except TimeoutError as error:
                raise Unauthenticated("the client certificate has expired") from error
            finally:
                self._service.unwatch(watcher)

        await self._call("Watch", context, act)

    async def _call(
        self, method: str, context: grpc.aio.ServicerContext, act: Callable[[Caller], Awaitable[_Answer]]
    ) -> _Answer:
        begin = clock.monotonic()
        code = grpc.StatusCode.CANCELLED
        caller: Identity | None = None
        try:
            known = self._credentials.identify(context.auth_context(), context.invocation_metadata() or ())
            caller = known.identity
            answer = await act(known)
        except FabricError as error:
            code = failures.status_of(error)
            _log.info("refused", extra={"method": method, "caller": str(caller), "code": code.name, "why": str(error)})
            failure = ((failures.FAILURE_KEY, failures.failure_to(error)),)
            await context.abort(code, str(error), trailing_metadata=failure)
            raise
        except Exception:
            code = grpc.StatusCode.UNKNOWN
            _log.exception("failed", extra={"method": method, "caller": str(caller)})
            await context.abort(code, "internal fault of the service")
            raise
        else:
            code = grpc.StatusCode.OK
            return answer
        finally:
            self._metrics.called(method, code.name, clock.monotonic() - begin)


def _seconds_left(caller: Caller) -> float | None:
    return None if caller.expires is None else (caller.expires - clock.now()).total_seconds()
