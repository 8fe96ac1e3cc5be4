# SPDX-License-Identifier: Apache-2.0
"""The loop of the updater: look at the host, set the limit over all pods, say in the Node object what is there.

Each look starts from nothing but what is true now, so a lost write, a Node object registered anew, or a kubelet that
was restarted needs no case of its own: the next look finds the difference. A look happens every second, and at once
when the Node object or a pod of the node has changed. Nothing is written that is not different.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math

from dynamic_memory.api import kinds, names
from dynamic_memory.api.core import Node, Pod
from dynamic_memory.capacity import preflight, status
from dynamic_memory.capacity.config import CapacityConfig
from dynamic_memory.capacity.lid import Lid, LidState
from dynamic_memory.capacity.limits import Claims
from dynamic_memory.capacity.metrics import Metrics
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.host.errors import HostError
from dynamic_memory.host.interface import Host, Memory
from dynamic_memory.kube.informer import Change, Informer, report
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff
from dynamic_memory.process.readiness import Readiness

__all__ = ["Updater"]

log = logging.getLogger(__name__)

CACHE_SECONDS = 5.0
"""Time for the cache to see a write of ours; after it the next look may write the same again, which harms nobody."""


class Updater:
    """The updater of one node.

    Args:
        config: its configuration.
        kube: the API server.
        host: the Linux of the node.
        ready: where to report whether it can do its work.
        metrics: where to measure.

    """

    def __init__(self, config: CapacityConfig, *, kube: Kube, host: Host, ready: Readiness, metrics: Metrics) -> None:
        self._config = config
        self._kube = kube
        self._host = host
        self._ready = ready
        self._metrics = metrics
        self._nodes: Informer[Node] = Informer(kube, kinds.NODES, fields=f"metadata.name={config.node}")
        self._pods: Informer[Pod] = Informer(
            kube,
            kinds.PODS,
            fields=f"spec.nodeName={config.node}",
            keep=lambda pod: bool(pod.spec.resource_claims),
        )
        self._claims = Claims(kube)
        self._lid = None if config.ceiling is None else Lid(config.ceiling, simulated=host.simulated)
        self._changed = asyncio.Event()
        self._found: list[preflight.Finding] = []

    @property
    def findings(self) -> list[preflight.Finding]:
        """What was missing at the last look."""
        return list(self._found)

    async def run(self) -> None:
        """Work for ever."""
        self._ready.set("node", False, "not looked at yet")
        for informer in (self._nodes, self._pods):
            informer.subscribe(self._wake)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._nodes.run())
            group.create_task(self._pods.run())
            group.create_task(self._loop())
            group.create_task(report((self._nodes, self._pods), lambda ok, why: self._ready.set("api server", ok, why)))

    def _wake(self, _: Change[Node] | Change[Pod]) -> None:
        self._changed.set()

    async def _loop(self) -> None:
        backoff = Backoff(initial=float(self._config.interval), maximum=30.0)
        while True:
            self._changed.clear()
            try:
                await self.look()
            except DynamicMemoryError as error:
                self._metrics.failures.inc()
                self._ready.set("node", False, str(error))
                log.warning("the node could not be brought up to date: %s", error)
                await clock.sleep(backoff.next())
                continue
            backoff.reset()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.interval):
                    await self._changed.wait()

    async def look(self) -> None:
        """Look once, and do what is to be done.

        Raises:
            ApiError: the Node object could not be written; the limit over all pods is right nevertheless.

        """
        node = self._nodes.get(self._config.node)
        memory, why = await self._memory()
        lid = await self._keep(memory, node)
        pods = await self._claims.limits(self._pods.all())
        self._report(
            preflight.findings(
                preflight.Facts(
                    host_error=why,
                    auto_online=memory.auto_online if memory is not None else None,
                    ceiling_kept=self._lid is not None,
                    ceiling_missing=lid.missing,
                    ceiling_error=lid.error,
                    ceiling=lid.limit,
                    ceiling_wanted=lid.wanted,
                    pods=pods,
                )
            )
        )
        if node is None:
            what = "is not registered" if self._nodes.synced else "is not known yet"
            self._ready.set("node", False, f"node {self._config.node} {what}")
            return
        await self._publish(memory, node)
        self._ready.set("node", not why, why)

    async def _memory(self) -> tuple[Memory | None, str]:
        try:
            memory = await self._host.memory()
        except HostError as error:
            return None, str(error)
        self._metrics.online.set(memory.fabric_online)
        return memory, ""

    async def _keep(self, memory: Memory | None, node: Node | None) -> LidState:
        lid = self._lid
        if lid is None or memory is None:
            return LidState()
        counted = status.counted(node)
        state = await asyncio.to_thread(lid.keep, memory, counted)
        self._metrics.ceiling.set(math.inf if state.limit is None else state.limit)
        if state.wrote:
            self._metrics.writes.labels("ceiling").inc()
        return state

    def _report(self, found: list[preflight.Finding]) -> None:
        for finding in found:
            if finding not in self._found:
                log.warning("%s", finding, extra={"check": finding.check.value})
        for check in {finding.check for finding in self._found} - {finding.check for finding in found}:
            log.info("put right: %s", check.value, extra={"check": check.value})
        self._found = found
        self._metrics.found(found)

    async def _publish(self, memory: Memory | None, node: Node) -> None:
        wanted = status.wanted(memory, self._found, node.status, view=self._config.view, simulated=self._host.simulated)
        body = status.body(wanted, node, clock.rfc3339(clock.now()))
        if body is None:
            return
        written = await self._kube.apply(
            kinds.NODES, body, manager=names.MANAGER_UPDATER, subresource="status", force=True
        )
        self._metrics.writes.labels("capacity").inc()
        log.info(
            "node status written",
            extra={"node": self._config.node, "capacity": wanted.capacity, "reason": wanted.reason},
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CACHE_SECONDS):
                await self._nodes.wait_for_version(written.metadata.resource_version)
