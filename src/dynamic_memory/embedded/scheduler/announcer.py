# SPDX-License-Identifier: Apache-2.0
"""What people read: events about pods, and the condition PodScheduled.

Nothing waits for these writes. Of a pod only the newest condition is written; if the API server falls behind, old
events are dropped, as upstream does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, NamedTuple

from dynamic_memory.api.core import ObjectReference
from dynamic_memory.embedded.scheduler.types import SCHEDULED_PODS, Pod
from dynamic_memory.kube.errors import ApiError, NotFound
from dynamic_memory.kube.events import EventRecorder, reference
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock

__all__ = ["Announcer"]

log = logging.getLogger(__name__)

_EVENTS_KEPT = 10_000
_WRITERS = 4


class _Event(NamedTuple):
    regarding: ObjectReference
    type: str
    reason: str
    message: str
    action: str


class Announcer:
    """See the module.

    Args:
        kube: the API server.
        name: of the scheduler.

    """

    def __init__(self, kube: Kube, name: str) -> None:
        self._kube = kube
        self._recorder = EventRecorder(kube, name, name)
        self._events: deque[_Event] = deque(maxlen=_EVENTS_KEPT)
        self._statuses: dict[str, tuple[Pod, dict[str, Any]]] = {}
        self._said: dict[str, tuple[str, str]] = {}
        self._work = asyncio.Event()

    def say(self, pod: Pod, type_: str, reason: str, message: str, action: str) -> None:
        """Write an event about a pod."""
        self._events.append(_Event(reference(SCHEDULED_PODS, pod), type_, reason, message, action))
        self._work.set()

    def unscheduled(self, pod: Pod, reason: str, message: str) -> None:
        """Write the condition PodScheduled=False, unless it says so already."""
        uid = pod.metadata.uid
        old = next((item for item in pod.status.conditions if item.type == "PodScheduled"), None)
        told = self._said.get(uid) or (None if old is None or old.status != "False" else (old.reason, old.message))
        if told == (reason, message):
            return
        self._said[uid] = (reason, message)
        same = old is not None and old.status == "False" and old.last_transition_time
        since = old.last_transition_time if old is not None and same else clock.rfc3339(clock.now())
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
        }
        self._status(pod, {"conditions": [condition]})

    def nominate(self, pod: Pod, node: str) -> None:
        """Write the node that the pod will get once its devices are ready; empty = none after all."""
        if pod.status.nominated_node_name != node:
            self._status(pod, {"nominatedNodeName": node or None})

    def forget(self, uid: str) -> None:
        """Forget a pod that is bound or gone."""
        self._said.pop(uid, None)
        self._statuses.pop(uid, None)

    async def run(self) -> None:
        """Write for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_WRITERS):
                group.create_task(self._write_forever())

    def _status(self, pod: Pod, status: dict[str, Any]) -> None:
        known = self._statuses.pop(pod.metadata.uid, None)
        self._statuses[pod.metadata.uid] = (pod, {**(known[1] if known else {}), **status})
        self._work.set()

    async def _write_forever(self) -> None:
        while True:
            self._work.clear()
            if self._statuses:
                uid = next(iter(self._statuses))
                await self._write_status(*self._statuses.pop(uid))
            elif self._events:
                event = self._events.popleft()
                await self._recorder.event(
                    event.regarding, type=event.type, reason=event.reason, message=event.message, action=event.action
                )
            else:
                await self._work.wait()

    async def _write_status(self, pod: Pod, status: dict[str, Any]) -> None:
        meta = pod.metadata
        body = {"metadata": {"uid": meta.uid}, "status": status}
        try:
            await self._kube.patch(
                SCHEDULED_PODS,
                meta.name,
                body,
                namespace=meta.namespace,
                style="strategic",
                subresource="status",
            )
        except NotFound:
            self.forget(meta.uid)
        except ApiError as error:
            log.warning("the status of pod %s/%s was not written: %s", meta.namespace, meta.name, error)
            self._said.pop(meta.uid, None)
