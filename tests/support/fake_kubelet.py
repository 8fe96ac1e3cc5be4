# SPDX-License-Identifier: Apache-2.0
"""A caller of the plugin sockets, as the kubelet is one: finds a registration socket, registers, prepares, unprepares.

    kubelet = FakeKubelet(registry_folder)
    await kubelet.register(timeout=30)                  # waits for a socket, GetInfo, NotifyRegistrationStatus
    answer = await kubelet.prepare(("app", "far", uid)) # {uid: Prepared(devices, error)}
    await kubelet.unprepare(("app", "far", uid))        # {uid: error}

It speaks the version that a kubelet would choose (the first of the driver's list that it knows), or the one it is told.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from dynamic_memory.driver.proto import dra_v1_pb2, dra_v1beta1_pb2, pluginregistration_pb2
from dynamic_memory.process import clock

MESSAGES = {"v1.DRAPlugin": dra_v1_pb2, "v1beta1.DRAPlugin": dra_v1beta1_pb2}
DEADLINE = 45.0

Claim = tuple[str, str, str]
"""Namespace, name, UID."""


@dataclass
class Prepared:
    """The answer for one claim."""

    devices: list[dict[str, Any]]
    error: str


@dataclass
class FakeKubelet:
    """The kubelet's side of the plugin sockets."""

    registry: Path
    known: tuple[str, ...] = ("v1.DRAPlugin", "v1beta1.DRAPlugin")
    info: pluginregistration_pb2.PluginInfo | None = None
    version: str = ""
    refuse: str = ""
    sockets: list[Path] = field(default_factory=list)

    async def register(self, timeout: float = 30.0, socket: Path | None = None) -> pluginregistration_pb2.PluginInfo:
        """Find a registration socket, and register what is behind it."""
        path = socket or await self._find(timeout)
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
            self.info = await get_info(pluginregistration_pb2.InfoRequest(), timeout=timeout, wait_for_ready=True)
            chosen = [v for v in self.info.supported_versions if v in self.known]
            error = self.refuse or ("" if chosen else f"none of {list(self.info.supported_versions)} is known")
            self.version = chosen[0] if chosen else ""
            status = pluginregistration_pb2.RegistrationStatus(plugin_registered=not error, error=error)
            await notify(status, timeout=timeout)
        return self.info

    async def prepare(self, *claims: Claim, timeout: float | None = DEADLINE, version: str = "") -> dict[str, Prepared]:
        """NodePrepareResources."""
        answer = await self._call("Prepare", claims, timeout, version or self.version)
        return {
            uid: Prepared([_device(device) for device in entry.devices], entry.error)
            for uid, entry in answer.claims.items()
        }

    async def unprepare(self, *claims: Claim, timeout: float | None = DEADLINE, version: str = "") -> dict[str, str]:
        """NodeUnprepareResources: the error of each claim, empty if it is done."""
        answer = await self._call("Unprepare", claims, timeout, version or self.version)
        return {uid: entry.error for uid, entry in answer.claims.items()}

    async def _call(self, verb: str, claims: tuple[Claim, ...], timeout: float | None, version: str) -> Any:
        assert self.info is not None, "register first"
        messages, package = MESSAGES[version], version.removesuffix(".DRAPlugin")
        request_type = getattr(messages, f"Node{verb}ResourcesRequest")
        response_type = getattr(messages, f"Node{verb}ResourcesResponse")
        request = request_type(
            claims=[messages.Claim(namespace=namespace, name=name, uid=uid) for namespace, name, uid in claims]
        )
        async with grpc.aio.insecure_channel(f"unix:{self.info.endpoint}") as channel:
            method = channel.unary_unary(
                f"/k8s.io.kubelet.pkg.apis.dra.{package}.DRAPlugin/Node{verb}Resources",
                request_serializer=request_type.SerializeToString,
                response_deserializer=response_type.FromString,
            )
            answer = await method(request, timeout=timeout, wait_for_ready=True)
        # what the kubelet itself checks
        assert set(answer.claims) == {uid for _, _, uid in claims}, "UIDs left out, or unknown"
        return answer

    async def _find(self, timeout: float) -> Path:
        async with asyncio.timeout(timeout):
            while True:
                found = sorted(self.registry.glob("*-reg.sock")) if self.registry.is_dir() else []
                if found:
                    return found[-1]
                await clock.sleep(0.02)


def _device(device: Any) -> dict[str, Any]:
    result: dict[str, Any] = {
        "request_names": list(device.request_names),
        "pool_name": device.pool_name,
        "device_name": device.device_name,
        "cdi_device_ids": list(device.cdi_device_ids),
    }
    if "share_id" in device.DESCRIPTOR.fields_by_name:
        result["share_id"] = device.share_id
    return result
