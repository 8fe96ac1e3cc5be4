# SPDX-License-Identifier: Apache-2.0
"""The health service: tells the kubelet, and so the pods' status, which of the node's devices are not well.

A stream of the whole list, sent when something changed and at least every ten seconds: the kubelet takes a device for
unknown after thirty. 1.36 opens `v1alpha1` whether it is offered or not, 1.37 takes `v1` if it is offered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import msgspec

from dynamic_memory.driver.proto import dra_health_v1_pb2, dra_health_v1alpha1_pb2
from dynamic_memory.process import clock

__all__ = ["HEALTH_VERSIONS", "Condition", "health_handlers"]

HEALTH_VERSIONS = ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
MESSAGES = {"v1": dra_health_v1_pb2, "v1alpha1": dra_health_v1alpha1_pb2}
RESEND = 10.0
LOOK = 0.5
LEASE = 30
MAX_MESSAGE = 1024


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A device: pool and name, and why it is not well; empty if it is."""

    pool: str
    device: str
    trouble: str = ""


def health_handlers(devices: Callable[[], Sequence[Condition]]) -> list[grpc.GenericRpcHandler]:
    """Return the handlers of both versions.

    Args:
        devices: how all devices of the node are now; called often.

    """
    return [_handler(version, messages, devices) for version, messages in MESSAGES.items()]


def _handler(version: str, messages: Any, devices: Callable[[], Sequence[Condition]]) -> grpc.GenericRpcHandler:
    async def watch(_request: Any, _context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        sent: Sequence[Condition] | None = None
        due = 0.0
        while True:
            now = list(devices())
            if now != sent or clock.monotonic() >= due:
                yield _response(messages, now)
                sent, due = now, clock.monotonic() + RESEND
            await clock.sleep(LOOK)

    method = grpc.unary_stream_rpc_method_handler(
        watch,
        request_deserializer=messages.NodeWatchResourcesRequest.FromString,
        response_serializer=messages.NodeWatchResourcesResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(f"{version}.DRAResourceHealth", {"NodeWatchResources": method})


def _response(messages: Any, devices: Sequence[Condition]) -> Any:
    response = messages.NodeWatchResourcesResponse()
    at = int(clock.now().timestamp())
    for each in devices:
        entry = response.devices.add()
        entry.device.pool_name, entry.device.device_name = each.pool, each.device
        entry.health = messages.UNHEALTHY if each.trouble else messages.HEALTHY
        entry.last_updated_time = at
        entry.health_check_timeout_seconds = LEASE
        long = len(each.trouble) > MAX_MESSAGE
        entry.message = f"{each.trouble[: MAX_MESSAGE - 3]}..." if long else each.trouble
    return response
