# SPDX-License-Identifier: Apache-2.0
"""The DRA service on its Unix socket: v1 and v1beta1 with one handler, and the health of the devices.

Every claim of a call is served on its own: one that fails has its error, the others their devices, and an unexpected
error is an answer too. Nothing that one claim waits for stands in the way of another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

from dynamic_memory.driver.calls import ClaimRef, Device
from dynamic_memory.driver.config import Timing
from dynamic_memory.driver.health import HEALTH_VERSIONS, Condition, health_handlers
from dynamic_memory.driver.prepare import Preparer
from dynamic_memory.driver.proto import dra_v1_pb2, dra_v1beta1_pb2
from dynamic_memory.driver.serving import Serving
from dynamic_memory.driver.unprepare import Unpreparer
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.process import clock
from dynamic_memory.process.locks import KeyedLocks

__all__ = ["VERSIONS", "Plugin"]

log = logging.getLogger(__name__)

VERSIONS = ("v1.DRAPlugin", "v1beta1.DRAPlugin", *HEALTH_VERSIONS)
"""Newest first: the kubelet takes the first that it knows."""
PACKAGE = "k8s.io.kubelet.pkg.apis.dra"
MESSAGES = {"v1": dra_v1_pb2, "v1beta1": dra_v1beta1_pb2}
GRACE = 2.0


class Plugin:
    """Serves Prepare and Unprepare.

    Args:
        preparer: of the node.
        unpreparer: of the node.
        timing: how long a call may wait.
        devices: how the node's devices are; called often.
        locks: held during the call for a claim, by UID.

    """

    def __init__(
        self,
        preparer: Preparer,
        unpreparer: Unpreparer,
        timing: Timing,
        devices: Callable[[], Sequence[Condition]] = tuple,
        locks: KeyedLocks | None = None,
    ) -> None:
        self._preparer = preparer
        self._unpreparer = unpreparer
        self._timing = timing
        self._devices = devices
        self._locks = KeyedLocks() if locks is None else locks
        self._serving: Serving | None = None

    async def start(self, path: Path) -> None:
        """Listen.

        Raises:
            InvalidInput: the path cannot be a socket's.
            Served: another driver listens there.

        """
        server = grpc.aio.server()
        for version, messages in MESSAGES.items():
            server.add_generic_rpc_handlers((self._handlers(version, messages),))
        server.add_generic_rpc_handlers(tuple(health_handlers(self._devices)))
        self._serving = await Serving.start(server, path)

    async def stop(self) -> None:
        """Stop listening; calls get a moment to end."""
        if self._serving is not None:
            await self._serving.stop(GRACE)
            self._serving = None

    def _handlers(self, version: str, messages: Any) -> grpc.GenericRpcHandler:
        async def prepare(request: Any, context: grpc.aio.ServicerContext) -> Any:
            answers = await self._each(request.claims, context, self._prepare)
            response = messages.NodePrepareResourcesResponse()
            for uid, (devices, error) in answers.items():
                entry = response.claims[uid]
                entry.error = error
                entry.devices.extend(_device(messages, device) for device in devices or ())
            return response

        async def unprepare(request: Any, context: grpc.aio.ServicerContext) -> Any:
            answers = await self._each(request.claims, context, self._unprepare)
            response = messages.NodeUnprepareResourcesResponse()
            for uid, (_, error) in answers.items():
                response.claims[uid].error = error
            return response

        methods = {
            "NodePrepareResources": grpc.unary_unary_rpc_method_handler(
                prepare,
                request_deserializer=messages.NodePrepareResourcesRequest.FromString,
                response_serializer=messages.NodePrepareResourcesResponse.SerializeToString,
            ),
            "NodeUnprepareResources": grpc.unary_unary_rpc_method_handler(
                unprepare,
                request_deserializer=messages.NodeUnprepareResourcesRequest.FromString,
                response_serializer=messages.NodeUnprepareResourcesResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(f"{PACKAGE}.{version}.DRAPlugin", methods)

    async def _each(
        self,
        requested: Sequence[Any],
        context: grpc.aio.ServicerContext,
        call: Callable[[ClaimRef, float], Awaitable[Sequence[Device]]],
    ) -> dict[str, tuple[Sequence[Device], str]]:
        """Serve every claim of a call at the same time; return devices and error by UID."""
        left = context.time_remaining()
        deadline = self._timing.call_deadline if left is None else left
        until = clock.monotonic() + max(deadline - self._timing.call_margin, deadline / 2)
        refs = [ClaimRef(claim.namespace, claim.name, claim.uid) for claim in requested]
        answers = await asyncio.gather(*(self._one(ref, until, call) for ref in refs))
        return {ref.uid: answer for ref, answer in zip(refs, answers, strict=True)}

    async def _one(
        self, ref: ClaimRef, until: float, call: Callable[[ClaimRef, float], Awaitable[Sequence[Device]]]
    ) -> tuple[Sequence[Device], str]:
        try:
            async with self._locks(ref.uid):
                return await call(ref, until), ""
        except DynamicMemoryError as error:
            log.warning("claim refused to the kubelet", extra={"claim": str(ref), "uid": ref.uid, "error": str(error)})
            return (), str(error)
        except Exception as error:  # the other claims of the call must get their answers
            log.exception("unexpected error", extra={"claim": str(ref), "uid": ref.uid})
            return (), f"unexpected error of the driver: {type(error).__name__}: {error}"

    async def _prepare(self, ref: ClaimRef, until: float) -> Sequence[Device]:
        return await self._preparer.prepare(ref, until)

    async def _unprepare(self, ref: ClaimRef, until: float) -> Sequence[Device]:
        await self._unpreparer.unprepare(ref, until)
        return ()


def _device(messages: Any, device: Device) -> Any:
    message = messages.Device(
        request_names=[device.request],
        pool_name=device.pool,
        device_name=device.device,
        cdi_device_ids=list(device.cdi_ids),
    )
    if "share_id" in messages.Device.DESCRIPTOR.fields_by_name:
        message.share_id = device.share_id
    return message
