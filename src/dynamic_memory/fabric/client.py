# SPDX-License-Identifier: Apache-2.0
"""The fabric over gRPC, as the roles of a cluster hold it.

gRPC connects, and connects again, by itself; a call made meanwhile fails at once as `Unreachable`, and when to try
again is the caller's business. Every call has a deadline, which is kept here as well as by gRPC: its threads may hang,
or starve, and a role must never wait for them without a word. A Watch has none, and lives by keepalive.

Certificates are replaced while the process runs. A new connection is made when the files have changed; streams of the
old one go on until they end, at the latest when the service ends them because the old certificate has expired.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from dynamic_memory.fabric import failures, wire
from dynamic_memory.fabric.authentication import IDENTITY_KEY
from dynamic_memory.fabric.errors import Unreachable
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.fabric.model import Capacity, Change, Removed, Share, Snapshot
from dynamic_memory.fabric.proto import fabric_pb2 as pb
from dynamic_memory.fabric.proto.fabric_pb2_grpc import DynamicMemoryStub
from dynamic_memory.fabric.tls import Signature, TlsFiles, signature

__all__ = ["OPTIONS", "Fabric", "FabricClient", "TlsFiles"]

_MAX_INT = (1 << 63) - 1
_SLACK = 1.0
"""Seconds after a call's deadline in which gRPC has to say so."""
OPTIONS: tuple[tuple[str, int | str], ...] = (
    # Snapshots of a large fabric: some 200 bytes a share.
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    # Not a wait, in spite of its name: the time that a connection may take to come about. A service that is restarted
    # under load, with all nodes at its door, needs seconds for a handshake; cut off sooner, it would never end one.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 0),
    # The fabric is of the same site: the proxies of the environment lead out of it.
    ("grpc.enable_http_proxy", 0),
    # Two channels to one address are two connections: a renewed certificate must not ride on the old one.
    ("grpc.use_local_subchannel_pool", 1),
)


class _Connection:
    """A channel with one set of certificates; closed when it is replaced and nobody uses it."""

    def __init__(self, channel: grpc.aio.Channel, seen: Signature) -> None:
        self.stub = DynamicMemoryStub(channel)  # type: ignore[no-untyped-call]  # generated
        self.seen = seen
        self.users = 0
        self.replaced = False
        self._channel = channel

    async def release(self) -> None:
        self.users -= 1
        if self.replaced and not self.users:
            await self._channel.close()

    async def replace(self) -> None:
        self.replaced = True
        if not self.users:
            await self._channel.close()

    async def close(self) -> None:
        await self._channel.close()


class FabricClient:
    """A `Fabric` at an address. Made by `connect`."""

    def __init__(
        self,
        address: str,
        tls: TlsFiles | None,
        *,
        metadata: tuple[tuple[str, str], ...],
        options: tuple[tuple[str, int | str], ...],
        deadline: float,
    ) -> None:
        self._address = address
        self._tls = tls
        self._metadata = metadata
        self._options = options
        self._deadline = deadline
        self._connection: _Connection | None = None

    @classmethod
    def connect(
        cls,
        address: str,
        tls: TlsFiles | None,
        *,
        identity: Identity | str | None = None,
        server_name: str | None = None,
        deadline: float = 10.0,
    ) -> FabricClient:
        """A client; nothing is sent before the first call, which may fail with `Unreachable`.

        Args:
            address: `host:port` or `unix:/path`.
            tls: files of this caller's certificate; None where the service listens without TLS.
            identity: who one is, to a service without TLS.
            server_name: name in the service's certificate, where it is not that of the address.
            deadline: seconds that a call may take.

        """
        metadata = () if identity is None else ((IDENTITY_KEY, str(identity)),)
        options = OPTIONS if server_name is None else (*OPTIONS, ("grpc.ssl_target_name_override", server_name))
        return cls(address, tls, metadata=metadata, options=options, deadline=deadline)

    async def add_memory(self, *, node: str, pool: str, device: str, size: int, tag: str) -> Share:
        """See `Fabric.add_memory`."""
        # What does not fit into the message is as absurd as the largest that does, and is refused for it.
        bounded = max(min(size, _MAX_INT), -_MAX_INT)
        request = pb.AddMemoryRequest(node=node, pool=pool, device=device, bytes=bounded, tag=tag)
        answer = await self._call("AddMemory", request)
        return wire.share_from(answer.share)

    async def remove_memory(self, tag: str, *, host_off: bool = False, force: bool = False) -> Removed:
        """See `Fabric.remove_memory`."""
        request = pb.RemoveMemoryRequest(tag=tag, host_off=host_off, force=force)
        return wire.removed_from(await self._call("RemoveMemory", request))

    async def get_capacity(self, node: str | None = None) -> Capacity:
        """See `Fabric.get_capacity`."""
        request = pb.GetCapacityRequest(node=node or "")
        return wire.capacity_from(await self._call("GetCapacity", request))

    async def list_extents(self) -> Snapshot:
        """See `Fabric.list_extents`."""
        return wire.snapshot_from(await self._call("ListExtents", pb.ListExtentsRequest()))

    async def watch(self) -> AsyncIterator[Snapshot | Change]:
        """See `Fabric.watch`. The snapshot has to come within the deadline of a call."""
        async with self._connected() as stub:
            call = stub.Watch(pb.WatchRequest(), metadata=self._metadata)
            limit: float | None = self._deadline
            try:
                while True:
                    async with asyncio.timeout(limit):
                        message = await call.read()
                    if message is grpc.aio.EOF:
                        raise Unreachable("the service ended the watch")
                    limit = None
                    yield wire.item_from(message)
            except grpc.aio.AioRpcError as error:
                raise failures.error_from(error) from error
            except TimeoutError as error:
                raise Unreachable("no snapshot in time") from error
            except asyncio.CancelledError as error:
                _raise_if_cancelled()
                raise Unreachable("the connection was closed") from error
            finally:
                call.cancel()

    async def close(self) -> None:
        """Close the connection; calls and streams under way end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _call(self, method: str, request: Message) -> Any:
        async with self._connected() as stub:
            try:
                async with asyncio.timeout(self._deadline + _SLACK):
                    return await getattr(stub, method)(request, timeout=self._deadline, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                raise failures.error_from(error) from error
            except TimeoutError as error:
                raise Unreachable(f"{method} did not end within {self._deadline:g} s") from error
            except asyncio.CancelledError as error:
                _raise_if_cancelled()
                raise Unreachable("the connection was closed") from error

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[DynamicMemoryStub]:
        connection = await self._current()
        connection.users += 1
        try:
            yield connection.stub
        finally:
            await connection.release()

    async def _current(self) -> _Connection:
        seen = self._signature()
        old = self._connection
        if old is not None and old.seen == seen:
            return old
        connection = _Connection(self._channel(), seen)
        self._connection = connection
        if old is not None:
            await old.replace()
        return connection

    def _signature(self) -> Signature:
        if self._tls is None:
            return ()
        try:
            return signature(self._tls.ca, self._tls.certificate, self._tls.key)
        except OSError as error:
            raise Unreachable(f"certificate files cannot be looked at: {error}") from error

    def _channel(self) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(self._address, options=self._options)
        try:
            credentials = grpc.ssl_channel_credentials(
                root_certificates=Path(self._tls.ca).read_bytes(),
                private_key=Path(self._tls.key).read_bytes(),
                certificate_chain=Path(self._tls.certificate).read_bytes(),
            )
        except OSError as error:
            raise Unreachable(f"certificate files cannot be read: {error}") from error
        return grpc.aio.secure_channel(self._address, credentials, options=self._options)


def _raise_if_cancelled() -> None:
    """Within `except CancelledError`: raise it again if this task was cancelled.

    gRPC raises it, too, in whoever waits for a call that was ended on this side. A task that dies of that looks to its
    TaskGroup as if somebody had wanted it, and is missed by nobody.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise  # noqa: PLE0704 - the caller is in its except
