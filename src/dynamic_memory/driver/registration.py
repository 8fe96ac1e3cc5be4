# SPDX-License-Identifier: Apache-2.0
"""The registration socket: by it the kubelet finds the driver, and tells whether it takes it.

The socket appears when the driver can serve, and only then; removing it deregisters the driver.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import grpc

from dynamic_memory.api.names import DRIVER
from dynamic_memory.driver.plugin import VERSIONS
from dynamic_memory.driver.proto import pluginregistration_pb2 as messages
from dynamic_memory.driver.serving import Serving

__all__ = ["Registration"]

log = logging.getLogger(__name__)

TYPE = "DRAPlugin"
SERVICE = "pluginregistration.Registration"
GRACE = 0.5


class Registration:
    """Serves `pluginregistration.v1`.

    Args:
        endpoint: the DRA socket.
        told: called with what the kubelet says: whether it has registered the driver, and its error.

    """

    def __init__(self, endpoint: Path, told: Callable[[bool, str], None]) -> None:
        self._endpoint = endpoint
        self._told = told
        self._serving: Serving | None = None

    async def start(self, path: Path) -> None:
        """Listen.

        Raises:
            InvalidInput: the path cannot be a socket's.
            Served: another driver listens there.

        """
        server = grpc.aio.server()
        methods = {
            "GetInfo": grpc.unary_unary_rpc_method_handler(
                self._get_info,
                request_deserializer=messages.InfoRequest.FromString,
                response_serializer=messages.PluginInfo.SerializeToString,
            ),
            "NotifyRegistrationStatus": grpc.unary_unary_rpc_method_handler(
                self._notify,
                request_deserializer=messages.RegistrationStatus.FromString,
                response_serializer=messages.RegistrationStatusResponse.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        self._serving = await Serving.start(server, path)

    async def stop(self) -> None:
        """Deregister."""
        if self._serving is not None:
            await self._serving.stop(GRACE)
            self._serving = None

    async def _get_info(
        self, _request: messages.InfoRequest, _context: grpc.aio.ServicerContext
    ) -> messages.PluginInfo:
        return messages.PluginInfo(
            type=TYPE, name=DRIVER, endpoint=str(self._endpoint), supported_versions=list(VERSIONS)
        )

    async def _notify(
        self, request: messages.RegistrationStatus, _context: grpc.aio.ServicerContext
    ) -> messages.RegistrationStatusResponse:
        if request.plugin_registered:
            log.info("registered with the kubelet")
        else:
            log.error("the kubelet refuses the driver", extra={"error": request.error})
        self._told(request.plugin_registered, request.error)
        return messages.RegistrationStatusResponse()
