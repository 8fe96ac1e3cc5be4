# SPDX-License-Identifier: Apache-2.0
"""What `kubectl logs` shows of an embedded cluster: the files that the containers of its nodes write.

A node keeps a file for every start of a container, for as long as its pod is there. What is there is sent; `-f` ends
with it, since a simulated container prints at its start, if at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.errors import bad_request
from dynamic_memory.embedded.apiserver.request import Request, Response
from dynamic_memory.embedded.cluster.node import SimulatedNode

__all__ = ["LogsApi"]

PARTS = ("initContainers", "containers")


class LogsApi:
    """See the module.

    Args:
        nodes: the nodes of the cluster, by name; as they are whenever somebody asks.

    """

    def __init__(self, nodes: Mapping[str, SimulatedNode]) -> None:
        self._nodes = nodes

    def install(self, api: Api) -> None:
        """Let an API server answer with these."""
        api.subresources.logs = self.answer

    def answer(self, request: Request, pod: Mapping[str, Any]) -> Response:
        """Return what a container has printed, with the words of kubelet and API server where it has not.

        Raises:
            StatusError: there is no such container, or nothing of it.

        """
        name = pod["metadata"]["name"]
        container = _container(pod, request.first("container"))
        node = self._nodes.get(pod["spec"].get("nodeName") or "")
        if node is None:
            raise bad_request(f"pod {name} does not have a host assigned")
        status = _status(pod, container)
        number = int(status.get("restartCount", 0))
        if "containerID" not in status:
            reason = (status.get("state") or {}).get("waiting", {}).get("reason", "ContainerCreating")
            raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
        if request.flag("previous"):
            # of one that waits to be started again the last start is the previous one
            number -= "waiting" not in (status.get("state") or {})
            if "terminated" not in (status.get("lastState") or {}):
                raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        meta = pod["metadata"]
        text = _read(node.kubelet.log_file(meta["namespace"], name, meta["uid"], container, number))
        return Response(200, _tail(request, text), "text/plain")


def _container(pod: Mapping[str, Any], wanted: str) -> str:
    known = [each["name"] for part in PARTS for each in pod["spec"].get(part) or ()]
    if wanted and wanted not in known:
        raise bad_request(f"container {wanted} is not valid for pod {pod['metadata']['name']}")
    if not wanted and len(pod["spec"]["containers"]) > 1:
        listed = " ".join(each["name"] for each in pod["spec"]["containers"])
        text = f"a container name must be specified for pod {pod['metadata']['name']}, choose one of: [{listed}]"
        raise bad_request(text)
    return wanted or str(pod["spec"]["containers"][0]["name"])


def _status(pod: Mapping[str, Any], container: str) -> Mapping[str, Any]:
    status = pod.get("status") or {}
    listed = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return next((each for each in listed if each["name"] == container), {})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it has printed nothing


def _tail(request: Request, text: bytes) -> bytes:
    for name in ("tailLines", "limitBytes"):
        value = request.first(name)
        if value and not value.isdecimal():
            raise bad_request(f'{name}: Invalid value: "{value}": must be a number of 0 or more')
    if lines := request.first("tailLines"):
        kept = text.splitlines(keepends=True)
        text = b"".join(kept[len(kept) - min(len(kept), int(lines)) :])
    return text[: int(request.first("limitBytes") or len(text))]
