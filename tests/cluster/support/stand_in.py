# SPDX-License-Identifier: Apache-2.0
"""A DRA driver that does nothing but answer: to test the nodes of the test cluster, not to test ours against."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from dynamic_memory.driver.proto import dra_v1_pb2, pluginregistration_pb2

__all__ = ["StandIn"]

KUBELET = Path("/var/lib/kubelet")


class StandIn:
    """Listens below a kubelet's folder until `stop`; `refuse` is what it answers with, per verb.

    Args:
        driver: its name.
        root: the kubelet's folder, as the machine sees it.

    """

    def __init__(self, driver: str, root: Path) -> None:
        self.calls: list[tuple[str, str]] = []
        self.refuse = {"Prepare": "", "Unprepare": ""}
        self.status: Any = None
        self._driver = driver
        self._endpoint = Path("plugins") / driver / "dra.sock"
        (root / self._endpoint).parent.mkdir(parents=True, exist_ok=True)
        self._server = grpc.server(ThreadPoolExecutor(4))
        registration = {
            "GetInfo": _method(self._info, pluginregistration_pb2.InfoRequest),
            "NotifyRegistrationStatus": _method(self._notify, pluginregistration_pb2.RegistrationStatus),
        }
        plugin = {
            f"Node{verb}Resources": _method(
                lambda request, _, verb=verb: self._answer(verb, request),
                getattr(dra_v1_pb2, f"Node{verb}ResourcesRequest"),
            )
            for verb in ("Prepare", "Unprepare")
        }
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("pluginregistration.Registration", registration),
                grpc.method_handlers_generic_handler("k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin", plugin),
            )
        )
        for path in (self._endpoint, Path("plugins_registry") / f"{driver}-reg.sock"):
            (root / path).unlink(missing_ok=True)
            self._server.add_insecure_port(f"unix:{root / path}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def _info(self, _: Any, __: Any) -> Any:
        return pluginregistration_pb2.PluginInfo(
            type="DRAPlugin",
            name=self._driver,
            endpoint=str(KUBELET / self._endpoint),
            supported_versions=["v1.DRAPlugin"],
        )

    def _notify(self, status: Any, _: Any) -> Any:
        self.status = status
        return pluginregistration_pb2.RegistrationStatusResponse()

    def _answer(self, verb: str, request: Any) -> Any:
        answer = getattr(dra_v1_pb2, f"Node{verb}ResourcesResponse")()
        for claim in request.claims:
            self.calls.append((verb, claim.name))
            answer.claims[claim.uid].error = self.refuse[verb]
        return answer


def _method(handler: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        handler, request_deserializer=request.FromString, response_serializer=lambda answer: answer.SerializeToString()
    )
