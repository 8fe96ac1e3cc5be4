# SPDX-License-Identifier: Apache-2.0
"""DRA drivers on this node: found by the sockets in the folder of plugins, called by gRPC (kubelet/pkg/apis).

A socket that appears is asked who it is, and told whether it is taken: the first version of the plugin's list that is
known counts. Several instances of one driver may be there at once (a rolling update); the last one that registered is
called. A driver none of whose instances answers any more loses its ResourceSlices of this node after a while.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import msgspec

from dynamic_memory.driver.proto import dra_v1_pb2, dra_v1beta1_pb2, pluginregistration_pb2
from dynamic_memory.embedded.kubelet.config import Periods
from dynamic_memory.errors import RetryError
from dynamic_memory.process import clock

__all__ = ["ClaimRef", "DriverError", "Plugins", "PreparedDevice"]

log = logging.getLogger(__name__)

MESSAGES: dict[str, Any] = {"v1.DRAPlugin": dra_v1_pb2, "v1beta1.DRAPlugin": dra_v1beta1_pb2}
TYPE = "DRAPlugin"
OPTIONS = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000))
"""A driver that comes back is called at once: by itself gRPC would wait for up to two minutes."""
MOST = 120.0
"""Seconds between two tries of a registration that goes on failing."""


class DriverError(RetryError):
    """A driver did not do what it was asked to; the text is that of the real kubelet."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return self.text


class ClaimRef(NamedTuple):
    """What a driver is told of a claim."""

    namespace: str
    name: str
    uid: str


class PreparedDevice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device that a driver has prepared."""

    requests: tuple[str, ...]
    pool: str
    device: str
    cdi: tuple[str, ...]
    share: str = ""


class _Plugin:
    """One registered instance of a driver."""

    def __init__(self, name: str, endpoint: str, version: str, identity: tuple[int, int]) -> None:
        self.name = name
        self.endpoint = endpoint
        self.version = version
        self.identity = identity
        self._channel: grpc.aio.Channel | None = None

    async def call(self, verb: str, claims: Iterable[ClaimRef], timeout: float) -> Any:
        """Call NodePrepareResources or NodeUnprepareResources."""
        messages, package = MESSAGES[self.version], self.version.removesuffix(".DRAPlugin")
        request_type = getattr(messages, f"Node{verb}ResourcesRequest")
        response_type = getattr(messages, f"Node{verb}ResourcesResponse")
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(f"unix:{self.endpoint}", options=OPTIONS)
        method = self._channel.unary_unary(
            f"/k8s.io.kubelet.pkg.apis.dra.{package}.DRAPlugin/Node{verb}Resources",
            request_serializer=request_type.SerializeToString,
            response_deserializer=response_type.FromString,
        )
        request = request_type(
            claims=[messages.Claim(namespace=each.namespace, name=each.name, uid=each.uid) for each in claims]
        )
        return await method(request, timeout=timeout)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


class Plugins:
    """The drivers of one node.

    Args:
        folder: where registration sockets appear.
        periods: how often and how long.
        wipe: deletes the slices of a driver that is gone.
        registered: called when a driver was registered.

    """

    def __init__(
        self,
        folder: Path,
        periods: Periods,
        *,
        wipe: Callable[[str], Awaitable[None]],
        registered: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._periods = periods
        self._wipe = wipe
        self._registered = registered
        self._plugins: dict[Path, _Plugin] = {}
        self._retry: dict[Path, tuple[float, float]] = {}
        self._gone: dict[str, float] = {}

    @property
    def names(self) -> list[str]:
        """Drivers that are registered."""
        return sorted({plugin.name for plugin in self._plugins.values()})

    async def run(self) -> None:
        """Look at the folder for ever."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            while True:
                await self.look()
                await clock.sleep(self._periods.registry)
        finally:
            for plugin in self._plugins.values():
                await plugin.close()
            self._plugins.clear()

    async def look(self) -> None:
        """Take in what is new, forget what is gone."""
        # what is hidden is not there yet (pkg/kubelet/pluginmanager/pluginwatcher)
        shown = [path for path in sorted(self._folder.iterdir()) if not path.name.startswith(".") and path.is_socket()]
        found = {path: _identity(path) for path in shown}
        for path in [path for path, plugin in self._plugins.items() if found.get(path) != plugin.identity]:
            plugin = self._plugins.pop(path)
            self._gone.setdefault(plugin.name, clock.monotonic())
            log.info("plugin deregistered", extra={"driver": plugin.name})
            await plugin.close()
        for path, identity in found.items():
            if path not in self._plugins and self._retry.get(path, (0.0, 0.0))[0] <= clock.monotonic():
                await self._register(path, identity)
        self._retry = {path: entry for path, entry in self._retry.items() if path in found}
        await self._forget()

    async def _forget(self) -> None:
        """Delete the slices of drivers that have not been there for long enough."""
        now = clock.monotonic()
        alive = {plugin.name for plugin in self._plugins.values() if _accepts(plugin.endpoint)}
        for name in {*self.names, *self._gone} - alive:
            since = self._gone.setdefault(name, now)
            if now - since >= self._periods.wipe:
                self._gone[name] = float("inf")  # once
                log.info("driver is gone: its slices are deleted", extra={"driver": name})
                await self._wipe(name)
        for name in alive:
            self._gone.pop(name, None)

    async def _register(self, path: Path, identity: tuple[int, int]) -> None:
        try:
            plugin = await self._introduce(path, identity)
        except (grpc.RpcError, OSError) as error:
            before = self._retry.get(path, (0.0, float(self._periods.registration) / 2))[1]
            wait = min(MOST, before * 2)
            self._retry[path] = (clock.monotonic() + wait, wait)
            log.debug("plugin not registered", extra={"socket": str(path), "error": str(error)})
            return
        self._retry.pop(path, None)
        self._plugins[path] = plugin
        log.info("plugin registered", extra={"driver": plugin.name, "version": plugin.version})
        self._registered(plugin.name)

    async def _introduce(self, path: Path, identity: tuple[int, int]) -> _Plugin:
        """Ask who it is, and tell whether it is taken.

        Raises:
            OSError: it is not taken, or does not listen.

        """
        timeout = 5.0
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            get_info = channel.unary_unary(
                "/pluginregistration.Registration/GetInfo",
                request_serializer=pluginregistration_pb2.InfoRequest.SerializeToString,
                response_deserializer=pluginregistration_pb2.PluginInfo.FromString,
            )
            notify = channel.unary_unary(
                "/pluginregistration.Registration/NotifyRegistrationStatus",
                request_serializer=pluginregistration_pb2.RegistrationStatus.SerializeToString,
                response_deserializer=pluginregistration_pb2.RegistrationStatusResponse.FromString,
            )
            if not _accepts(str(path)):
                raise ConnectionRefusedError(str(path))
            info = await get_info(pluginregistration_pb2.InfoRequest(), timeout=timeout)
            versions = [each for each in info.supported_versions if each in MESSAGES]
            error = ""
            if info.type != TYPE:
                error = f"no handler registered for plugin type: {info.type} at socket {path}"
            elif not versions:
                error = f"none of the DRA gRPC API versions {list(info.supported_versions)} are supported"
            status = pluginregistration_pb2.RegistrationStatus(plugin_registered=not error, error=error)
            await notify(status, timeout=timeout)
            if error:
                raise OSError(error)
        return _Plugin(info.name, info.endpoint or str(path), versions[0], identity)

    def _plugin(self, driver: str) -> _Plugin:
        for plugin in reversed(self._plugins.values()):
            if plugin.name == driver and _accepts(plugin.endpoint):
                return plugin
        raise DriverError(f"DRA driver {driver} is not registered")

    async def prepare(self, driver: str, claims: list[ClaimRef]) -> dict[str, tuple[PreparedDevice, ...]]:
        """NodePrepareResources: the devices of each claim, by UID.

        Raises:
            DriverError: not all of them were prepared.

        """
        answer = await self._call("Prepare", driver, claims)
        prepared: dict[str, tuple[PreparedDevice, ...]] = {}
        names = {claim.uid: claim.name for claim in claims}
        for uid, entry in answer.items():
            if entry.error:
                raise DriverError(f"NodePrepareResources failed for ResourceClaim {names[uid]}: {entry.error}")
            prepared[uid] = tuple(_device(device) for device in entry.devices)
        return prepared

    async def unprepare(self, driver: str, claims: list[ClaimRef]) -> None:
        """NodeUnprepareResources.

        Raises:
            DriverError: not all of them were unprepared.

        """
        names = {claim.uid: claim.name for claim in claims}
        for uid, entry in (await self._call("Unprepare", driver, claims)).items():
            if entry.error:
                raise DriverError(f"NodeUnprepareResources failed for ResourceClaim {names[uid]}: {entry.error}")

    async def _call(self, verb: str, driver: str, claims: list[ClaimRef]) -> dict[str, Any]:
        plugin = self._plugin(driver)
        try:
            answer = await plugin.call(verb, claims, float(self._periods.call))
        except grpc.aio.AioRpcError as error:
            code = error.code().name.title().replace("_", "")
            text = f"rpc error: code = {code} desc = {error.details()}"
            raise DriverError(f"Node{verb}Resources failed: {text}") from error
        except (grpc.aio.UsageError, asyncio.CancelledError):
            # gRPC cancels the calls of a channel that is closed, as if somebody had cancelled who waits for them
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            text = "rpc error: code = Canceled desc = grpc: the client connection is closing"
            raise DriverError(f"Node{verb}Resources failed: {text}") from None
        found = dict(answer.claims)
        wanted = {claim.uid for claim in claims}
        if unknown := found.keys() - wanted:
            raise DriverError(f"Node{verb}Resources returned result for unknown claim UID {min(unknown)}")
        if missing := wanted - found.keys():
            raise DriverError(f"Node{verb}Resources skipped {len(missing)} ResourceClaims")
        return found


def _device(device: Any) -> PreparedDevice:
    share = device.share_id if "share_id" in device.DESCRIPTOR.fields_by_name else ""
    return PreparedDevice(
        tuple(device.request_names), device.pool_name, device.device_name, tuple(device.cdi_device_ids), share
    )


def _accepts(path: str) -> bool:
    """Tell whether something listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its queue is full: somebody listens
        except OSError:
            return False
    return True


def _identity(path: Path) -> tuple[int, int]:
    """Return what tells a socket from another one of its name: inodes are used again, but not at the same moment."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_ino, status.st_ctime_ns
