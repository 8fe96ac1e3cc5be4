# SPDX-License-Identifier: Apache-2.0
"""What is said of a pod: its status, and events.

A status is written only if it differs from the one written before; nobody waits for events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from dynamic_memory.embedded.kubelet.objects import PODS, Pod
from dynamic_memory.embedded.kubelet.parts import Parts
from dynamic_memory.embedded.kubelet.pod import PodRecord
from dynamic_memory.embedded.kubelet.status import pod_status
from dynamic_memory.kube.errors import Conflict, NotFound
from dynamic_memory.kube.events import reference
from dynamic_memory.process import clock

__all__ = ["Reports"]

MANAGER = "kubelet"


class Reports:
    """Reports of one pod.

    Args:
        parts: of its node.
        record: of the pod.

    """

    def __init__(self, parts: Parts, record: PodRecord) -> None:
        self._parts = parts
        self._record = record
        self._written: dict[str, Any] = {}
        self._version = 0
        self._background: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Drop the events that are on their way."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def seen(self, pod: Pod) -> None:
        """Write everything again if somebody else has said whether the pod is ready, as is done for lost nodes."""
        newer = int(pod.metadata.resource_version or 0) > self._version
        if self._written and newer and _ready(pod.status) != _ready(self._written):
            self._written = {}

    async def write(self, final: str = "") -> None:
        """Write the status if it changed; `final` is the phase in which the pod has ended.

        Raises:
            ApiError: the API server does not answer, or refuses.

        """
        record = self._record
        now = clock.rfc3339(clock.now())
        written = self._written.get("conditions") or ()
        status = pod_status(record, now=now, node_ip=self._parts.node_ip, final=final, written=written)
        if status == self._written or record.gone:
            return
        body = {"metadata": {"uid": record.uid}, "status": status}
        meta = record.object.metadata
        try:
            pod = await self._parts.kube.patch(
                PODS, meta.name, body, namespace=meta.namespace, subresource="status", manager=MANAGER
            )
        except (NotFound, Conflict):
            return  # it is gone; the watch will tell
        self._written = status
        self._version = int(pod.metadata.resource_version or 0)
        if pod.metadata.uid == record.uid:
            record.object = msgspec.structs.replace(record.object, status=pod.status)

    def tell(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Post an event about the pod, or one of its containers; nobody waits for it."""
        regarding = reference(PODS, self._record.object)
        if container:
            part = next(
                ("initContainers" for each in self._record.containers if each.name == container and each.init), ""
            )
            path = f"spec.{part or 'containers'}{{{container}}}"
            regarding = msgspec.structs.replace(regarding, field_path=path)
        task = asyncio.create_task(self._parts.recorder.event(regarding, type=kind, reason=reason, message=message))
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _ready(status: Mapping[str, Any]) -> str:
    conditions = status.get("conditions") or ()
    return next((str(each.get("status")) for each in conditions if each.get("type") == "Ready"), "")
