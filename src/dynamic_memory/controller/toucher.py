# SPDX-License-Identifier: Apache-2.0
"""Sees what may free waiting pods, and touches the pools (rule 20).

Events that matter: bytes came back to the pool, a claim lost its allocation, a pod with our claims was bound, and such
a pod went away while it waited. Which pods are "ours" is decided when they are seen and remembered, because a claim
made from a template is often gone before its pod is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from prometheus_client import Counter

from dynamic_memory.controller.claims import ClaimView, PodView, claim_names, concerns_fabric, shares_of
from dynamic_memory.controller.faultpoints import ROLE
from dynamic_memory.controller.touch import TouchPlan
from dynamic_memory.errors import DynamicMemoryError, Kind
from dynamic_memory.process import clock, faults

__all__ = ["Toucher"]

log = logging.getLogger(__name__)

TOUCHES = Counter("dynamic_memory_pool_touches", "Touches of a pool's slices, to wake the scheduler.", ["pool"])
EVENTS = Counter("dynamic_memory_pool_wake_events", "Events that may let a waiting pod in, by kind.", ["event"])


class _Seen(msgspec.Struct):
    bound: bool
    ours: bool
    pools: set[str]


class Toucher:
    """Turns events into touches.

    Args:
        claim: finds a claim in the cache: (name, namespace).
        pools: names of all pools, for a pod whose claim was never seen allocated.
        touch: touches a pool.

    """

    def __init__(
        self,
        *,
        claim: Callable[[str, str], ClaimView | None],
        pools: Callable[[], Iterable[str]],
        touch: Callable[[str], Awaitable[None]],
    ) -> None:
        self._claim = claim
        self._pools = pools
        self._touch = touch
        self._plan = TouchPlan()
        self._wake = asyncio.Event()
        self._pods: dict[str, _Seen] = {}

    def event(self, kind: str, pools: Iterable[str]) -> None:
        """Note that something happened to these pools; to all, if it is not known to which."""
        now = clock.monotonic()
        EVENTS.labels(kind).inc()
        for pool in list(pools) or list(self._pools()):
            self._plan.event(pool, now)
        self._wake.set()

    def pod_changed(self, pod: PodView) -> None:
        """Note a pod as it is now."""
        claims = [c for name in claim_names(pod) if (c := self._claim(name, pod.metadata.namespace)) is not None]
        ours = [claim for claim in claims if concerns_fabric(claim)]
        bound = bool(pod.spec.node_name)
        seen = self._pods.get(pod.metadata.uid)
        if seen is None:
            # Its claims come by another watch, and may be known later than the pod.
            if not ours and (bound or not pod.spec.resource_claims):
                return
            # The first sight of a pod that is bound already is no event: it is how every start looks.
            seen = self._pods[pod.metadata.uid] = _Seen(bound=bound, ours=False, pools=set())
        seen.ours = seen.ours or bool(ours)
        seen.pools.update(share.pool for claim in ours for share in shares_of(claim))
        if bound and not seen.bound and seen.ours:
            seen.bound = True
            self.event("bound", seen.pools)

    def pod_gone(self, pod: PodView) -> None:
        """Note that a pod is gone. One that ran is not of interest: its memory comes back by itself."""
        self.pod_changed(pod)
        seen = self._pods.pop(pod.metadata.uid, None)
        if seen is not None and seen.ours and not seen.bound:
            self.event("waiting-pod-gone", seen.pools)

    async def run(self) -> None:
        """Touch what is due, for ever."""
        while True:
            self._wake.clear()
            for pool in self._plan.due(clock.monotonic()):
                await self._touch_one(pool)
            at = self._plan.next_due()
            try:
                async with asyncio.timeout(None if at is None else max(0.0, at - clock.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _touch_one(self, pool: str) -> None:
        try:
            await self._touch(pool)
        except DynamicMemoryError as error:
            log.warning("pool not touched", extra={"pool": pool, "error": str(error)})
            if error.kind is Kind.RETRY:
                self._plan.again(pool, clock.monotonic())
            return
        faults.point(f"{ROLE}.touched")
        TOUCHES.labels(pool).inc()
