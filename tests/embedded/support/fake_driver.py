# SPDX-License-Identifier: Apache-2.0
"""A DRA driver for tests of the simulated kubelet: the plugin's side of the sockets, with answers that a test sets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc

from dynamic_memory.driver.proto import dra_v1_pb2, pluginregistration_pb2

__all__ = ["FakeDriver"]


class FakeDriver:
    """Serves v1; writes a CDI file for each claim unless it is to fail."""

    def __init__(self, kubelet: Path, cdi: Path, name: str = "dra.memory") -> None:
        self.name = name
        self.versions = ["v1.DRAPlugin"]
        self.type = "DRAPlugin"
        self.errors: dict[str, str] = {}
        """Error of `Prepare` and `Unprepare`."""
        self.leave_out = False
        self.answers = asyncio.Event()
        """Unprepare waits for it; set."""
        self.answers.set()
        self.prepares = asyncio.Event()
        """Prepare waits for it; set."""
        self.prepares.set()
        self.calls: list[tuple[str, list[str]]] = []
        self.told: list[tuple[bool, str]] = []
        self.registered = asyncio.Event()
        self.folder = kubelet
        self.cdi = cdi
        self.socket = kubelet / "plugins" / name / "dra.sock"
        self.registration = kubelet / "plugins_registry" / f"{name}-reg.sock"
        self._servers: list[grpc.aio.Server] = []

    async def start(self) -> None:
        for path in (self.socket, self.registration):
            path.parent.mkdir(parents=True, exist_ok=True)
        self.cdi.mkdir(parents=True, exist_ok=True)
        await self._serve(
            self.socket,
            "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin",
            {
                "NodePrepareResources": (self._prepare, dra_v1_pb2.NodePrepareResourcesRequest),
                "NodeUnprepareResources": (self._unprepare, dra_v1_pb2.NodeUnprepareResourcesRequest),
            },
        )
        await self._serve(
            self.registration,
            "pluginregistration.Registration",
            {
                "GetInfo": (self._info, pluginregistration_pb2.InfoRequest),
                "NotifyRegistrationStatus": (self._notify, pluginregistration_pb2.RegistrationStatus),
            },
        )

    async def _serve(self, path: Path, service: str, methods: dict) -> None:
        server = grpc.aio.server()
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                call,
                request_deserializer=kind.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name, (call, kind) in methods.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        self._servers.append(server)

    async def stop(self, *, politely: bool = True) -> None:
        """End; as `kill -9` does, the sockets stay if not politely."""
        for server in self._servers:
            await server.stop(None)
        self._servers.clear()
        if politely:
            for path in (self.registration, self.socket):
                path.unlink(missing_ok=True)

    async def _info(self, _request, _context):
        return pluginregistration_pb2.PluginInfo(
            type=self.type, name=self.name, endpoint=str(self.socket), supported_versions=self.versions
        )

    async def _notify(self, request, _context):
        self.told.append((request.plugin_registered, request.error))
        self.registered.set()
        return pluginregistration_pb2.RegistrationStatusResponse()

    async def _prepare(self, request, _context):
        self.calls.append(("prepare", [claim.uid for claim in request.claims]))
        await self.prepares.wait()
        answer = dra_v1_pb2.NodePrepareResourcesResponse()
        for claim in request.claims:
            if self.leave_out:
                continue
            entry = answer.claims[claim.uid]
            if error := self.errors.get("Prepare"):
                entry.error = error
                continue
            entry.devices.add(
                request_names=["far"],
                pool_name="fabric/rack-a",
                device_name="pool0",
                cdi_device_ids=[f"dra.memory/claim=claim-{claim.uid}"],
                share_id="00000000-0000-0000-0000-000000000001",
            )
            edits = {"env": ["DYNAMIC_MEMORY_BYTES=42"], "mounts": [{"hostPath": "/a", "containerPath": "/b"}]}
            spec = {
                "cdiVersion": "0.8.0",
                "kind": "dra.memory/claim",
                "devices": [{"name": f"claim-{claim.uid}", "containerEdits": edits}],
            }
            (self.cdi / f"dra.memory-claim-{claim.uid}.json").write_text(json.dumps(spec))
        return answer

    async def _unprepare(self, request, _context):
        self.calls.append(("unprepare", [claim.uid for claim in request.claims]))
        await self.answers.wait()
        answer = dra_v1_pb2.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            entry = answer.claims[claim.uid]
            if error := self.errors.get("Unprepare"):
                entry.error = error
            else:
                (self.cdi / f"dra.memory-claim-{claim.uid}.json").unlink(missing_ok=True)
        return answer
