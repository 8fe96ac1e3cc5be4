# SPDX-License-Identifier: Apache-2.0
"""Tells pods that they wait for a driver that is not there: the edge of `waiting` (rule 22)."""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import Counter

from dynamic_memory.api import core, kinds
from dynamic_memory.controller.claims import ClaimKey, ClaimView
from dynamic_memory.controller.fabricview import FabricView
from dynamic_memory.controller.faultpoints import ROLE
from dynamic_memory.controller.waiting import Wait, Waits, message
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.kube.events import EventRecorder
from dynamic_memory.process import clock, faults

__all__ = ["WaitWatcher"]

log = logging.getLogger(__name__)

TOLD = Counter("dynamic_memory_waits_without_driver", "Claims that waited for a driver that was not there.")
AGAIN = 5.0
"""Seconds between two looks at the sessions while a claim is overdue."""


class WaitWatcher:
    """Looks at claims on their way.

    Args:
        waits: claims on their way.
        view: the fabric, which knows the sessions of drivers.
        recorder: for events.
        binding_timeout: the scheduler's, in seconds.

    """

    def __init__(self, waits: Waits, view: FabricView, recorder: EventRecorder, *, binding_timeout: float) -> None:
        self._waits = waits
        self._view = view
        self._recorder = recorder
        self._binding_timeout = binding_timeout
        self._wake = asyncio.Event()

    def claim_changed(self, claim: ClaimView) -> None:
        """Note a claim as it is now."""
        self._waits.update(claim, clock.monotonic())
        self._wake.set()

    def claim_gone(self, key: ClaimKey) -> None:
        """Note that a claim is gone."""
        self._waits.remove(key)

    async def run(self) -> None:
        """Look whenever a claim has waited for long, for ever."""
        while True:
            self._wake.clear()
            at = self._waits.next_due()
            now = clock.monotonic()
            if at is not None and at <= now:
                await self.look()
                await clock.sleep(AGAIN)
                continue
            try:
                async with asyncio.timeout(None if at is None else at - now):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Tell those that wait for a driver that is not there."""
        for wait in self._waits.without_driver(clock.monotonic(), await self._sessions()):
            self._waits.told(wait)
            TOLD.inc()
            await self._tell(wait)
            faults.point(f"{ROLE}.waiting-told")

    async def _sessions(self) -> dict[str, bool] | None:
        try:
            return {host.node: host.session for host in (await self._view.look()).hosts}
        except DynamicMemoryError:
            return None

    async def _tell(self, wait: Wait) -> None:
        text = message(wait.node, self._binding_timeout)
        namespace, name = wait.claim
        log.warning(
            "a pod waits for a driver that is not there", extra={"claim": f"{namespace}/{name}", "node": wait.node}
        )
        about = [
            core.ObjectReference(
                api_version=kinds.RESOURCE_CLAIMS.api_version,
                kind=kinds.RESOURCE_CLAIMS.kind,
                namespace=namespace,
                name=name,
                uid=wait.uid,
            )
        ]
        about += [
            core.ObjectReference(api_version="v1", kind="Pod", namespace=namespace, name=pod, uid=uid)
            for pod, uid in wait.pods
        ]
        for reference in about:
            await self._recorder.event(reference, type="Warning", reason="DriverNotRunning", message=text)
