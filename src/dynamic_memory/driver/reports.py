# SPDX-License-Identifier: Apache-2.0
"""What people are told of a share: the conditions of its claim, and events on the claim and its pods.

The kubelet tells nobody why a pod does not end while its memory is busy, and the scheduler only that a condition is not
met: the driver is the one who knows, so it says it where people look (`kubectl describe`). Conditions are written at
once, for others act on them; events are written beside the work, which never waits for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from dynamic_memory.api.core import ObjectReference
from dynamic_memory.api.kinds import PODS, RESOURCE_CLAIMS
from dynamic_memory.api.names import MANAGER_DRIVER
from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import claims, conditions
from dynamic_memory.driver.cache import Claims
from dynamic_memory.driver.claims import Pod
from dynamic_memory.driver.conditions import Report
from dynamic_memory.kube.errors import ApiError, Conflict, Invalid, NotFound
from dynamic_memory.kube.events import EventRecorder
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock

__all__ = ["Reporter"]

log = logging.getLogger(__name__)

MAX_UNSAID = 256


class _Event(msgspec.Struct, frozen=True):
    """A sentence, and the objects that it is about."""

    about: list[ObjectReference]
    type: str
    reason: str
    message: str


class Reporter:
    """Writes conditions and events for one node."""

    def __init__(self, kube: Kube, cache: Claims, events: EventRecorder) -> None:
        self._kube = kube
        self._cache = cache
        self._events = events
        self._unsaid: asyncio.Queue[_Event] = asyncio.Queue(MAX_UNSAID)

    async def run(self) -> None:
        """Write events for ever."""
        while True:
            event = await self._unsaid.get()
            for about in event.about:
                await self._events.event(
                    about, type=event.type, reason=event.reason, message=event.message, action="Attach"
                )

    async def report(self, claim: ResourceClaim, tag: str, report: Report) -> ResourceClaim | None:
        """Say it in the claim, unless it says so already.

        Returns:
            The claim as it is now; None if it is gone. The share may be gone from it: look again.

        Raises:
            ApiError: the server does not answer, or refuses although the share is in the claim.

        """
        if conditions.says(claim, tag, report):
            return claim
        body = conditions.body(claim, claims.fabric_results(claim), report, now=clock.rfc3339(clock.now()))
        try:
            return await self._kube.apply(RESOURCE_CLAIMS, body, manager=MANAGER_DRIVER, subresource="status")
        except (NotFound, Conflict, Invalid) as error:
            return await self._look_again(claim, tag, error)

    async def _look_again(self, claim: ResourceClaim, tag: str, error: ApiError) -> ResourceClaim | None:
        """Find out whether a refusal means that the share is gone (rule 10), or that something else is wrong."""
        meta = claim.metadata
        current = await self._cache.read(meta.namespace, meta.name, meta.uid)
        if current is not None and any(r.share_id == tag for r in claims.our_results(current)):
            raise error
        log.info("the claim has let go of the share", extra={"claim": meta.uid, "tag": tag, "answer": str(error)})
        return current

    def say(
        self,
        *,
        namespace: str,
        name: str,
        uid: str,
        pods: Iterable[Pod],
        reason: str,
        message: str,
        warning: bool = False,
    ) -> None:
        """Have an event posted on a claim and on its pods; with too many unsaid ones it is dropped."""
        about = [
            ObjectReference(
                api_version=RESOURCE_CLAIMS.api_version,
                kind=RESOURCE_CLAIMS.kind,
                namespace=namespace,
                name=name,
                uid=uid,
            )
        ]
        about += [
            ObjectReference(
                api_version=PODS.api_version, kind=PODS.kind, namespace=namespace, name=pod.name, uid=pod.uid
            )
            for pod in pods
        ]
        event = _Event(about, "Warning" if warning else "Normal", reason, message)
        try:
            self._unsaid.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("event dropped", extra={"claim": uid, "reason": reason})
