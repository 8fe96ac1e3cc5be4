# SPDX-License-Identifier: Apache-2.0
"""Events: what people read when they `kubectl describe` a pod or claim.

The same sentence about the same object is one Event with a count, written again at most once a minute. Events are help,
not state: failing to write one is logged and changes nothing.
"""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from typing import Any

import msgspec

from dynamic_memory.api.core import ObjectReference
from dynamic_memory.api.meta import PartialObject
from dynamic_memory.api.wire import Kind
from dynamic_memory.kube.errors import ApiError, NotFound
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock

__all__ = ["EVENTS", "EventRecorder", "reference"]

log = logging.getLogger(__name__)

EVENTS = Kind(group="", version="v1", kind="Event", plural="events", namespaced=True, type=PartialObject)
QUIET_SECONDS = 60.0
REMEMBERED = 4096
MAX_MESSAGE = 1024


def reference(kind: Kind[Any], obj: Any) -> ObjectReference:
    """Return the reference to an object, by its metadata."""
    meta = obj.metadata
    return ObjectReference(
        api_version=kind.api_version, kind=kind.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid
    )


class _Said:
    """An Event that was written: its name, how often it was said, and when it was last written."""

    def __init__(self, name: str, first: str) -> None:
        self.name = name
        self.first = first
        self.count = 1
        self.written = clock.monotonic()


class EventRecorder:
    """Writes Events in the name of one component.

    Args:
        kube: the API server.
        component: who speaks, `dynamic-memory-driver`.
        instance: which one of them, the node or pod.

    """

    def __init__(self, kube: Kube, component: str, instance: str) -> None:
        self._kube = kube
        self._component = component
        self._instance = instance
        self._said: OrderedDict[tuple[str, ...], _Said] = OrderedDict()

    async def event(
        self,
        regarding: ObjectReference,
        *,
        type: str,  # noqa: A002 - the field's name
        reason: str,
        message: str,
        action: str = "",
    ) -> None:
        """State something about an object; never raises for want of an API server.

        Args:
            regarding: the object.
            type: Normal or Warning.
            reason: one word in CamelCase.
            message: a sentence.
            action: what was being done.

        """
        message = message[:MAX_MESSAGE]
        about = (regarding.kind, regarding.namespace, regarding.name, regarding.uid, regarding.field_path)
        key = (*about, type, reason, message)
        said = self._said.get(key)
        try:
            if said is None:
                await self._first(key, regarding, action)
            else:
                said.count += 1
                if clock.monotonic() - said.written >= QUIET_SECONDS:
                    await self._again(key, said, regarding)
        except ApiError as error:
            log.warning("an event could not be written: %s", error, extra={"reason": reason, "about": regarding.name})

    async def _first(self, key: tuple[str, ...], regarding: ObjectReference, action: str) -> None:
        *_, type_, reason, message = key
        now = clock.rfc3339(clock.now())
        # events of cluster-scoped objects live in the namespace default
        namespace = regarding.namespace or "default"
        name = f"{regarding.name[:200].rstrip('-.')}.{secrets.token_hex(8)}"
        body = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": msgspec.to_builtins(regarding),
            "type": type_,
            "reason": reason,
            "message": message,
            "source": {"component": self._component, "host": self._instance},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
            "action": action or reason,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        # remembered before it is written: two at once must not both be first
        self._said[key] = _Said(name, now)
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        try:
            await self._kube.create(EVENTS, body, namespace=namespace)
        except ApiError:
            self._said.pop(key, None)
            raise

    async def _again(self, key: tuple[str, ...], said: _Said, regarding: ObjectReference) -> None:
        said.written = clock.monotonic()
        body = {"count": said.count, "lastTimestamp": clock.rfc3339(clock.now())}
        try:
            await self._kube.patch(EVENTS, said.name, body, namespace=regarding.namespace or "default")
        except NotFound:
            # it has expired (an hour by default): say it anew
            self._said.pop(key, None)
            await self._first(key, regarding, "")
