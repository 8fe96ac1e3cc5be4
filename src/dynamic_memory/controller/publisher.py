# SPDX-License-Identifier: Apache-2.0
"""Keeps the slices of all pools as the fabric says they should be.

It compares level by level: what should be published, from the books and the fabric's capacity, against the slices that
are there. Only differences are written. A slice that somebody deleted or changed is written again, and the pools of
domains that the service no longer has are withdrawn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from prometheus_client import Counter, Gauge

from dynamic_memory.api import names
from dynamic_memory.api.resource import ResourceSlice
from dynamic_memory.controller import pools as rules
from dynamic_memory.controller.books import Books
from dynamic_memory.controller.faultpoints import ROLE
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.fabric.model import Capacity
from dynamic_memory.process import clock, faults
from dynamic_memory.process.backoff import Backoff

__all__ = ["PoolPublisher", "PoolWriter"]

log = logging.getLogger(__name__)

VALUE = Gauge("dynamic_memory_pool_published_bytes", "Published value of a pool device.", ["pool", "device"])
HEALTHY = Gauge("dynamic_memory_pool_device_healthy", "1 unless the device is tainted as down.", ["pool", "device"])
WRITES = Counter("dynamic_memory_pool_slice_writes", "Slices written, by pool.", ["pool"])
FAILURES = Counter("dynamic_memory_pool_publish_failures", "Publications of a pool that failed.", ["pool"])

SETTLE = 0.05
"""Seconds in which changes are gathered into one write."""


class PoolWriter(Protocol):
    """Writes the slices of one pool."""

    async def publish(self, devices: Sequence[Any]) -> Any:
        """Write what differs."""
        ...

    async def touch(self) -> None:
        """Change an annotation."""
        ...

    async def withdraw(self) -> None:
        """Delete all slices of the pool."""
        ...


class PoolPublisher:
    """Publishes all pools, and touches them.

    Args:
        books: shares without owner.
        capacity: what the service says; None while it is not known.
        existing: slices of pools of ours, from a cache that is complete.
        writer: makes the writer of a pool: (name of the pool, nodeSelector).
        resync: seconds between two comparisons if nothing happens.
        ready: called with (ok, why) after each round.

    """

    def __init__(
        self,
        *,
        books: Books,
        capacity: Callable[[], Capacity | None],
        existing: Callable[[], Sequence[ResourceSlice]],
        writer: Callable[[str, dict[str, Any]], PoolWriter],
        resync: float,
        ready: Callable[[bool, str], None],
    ) -> None:
        self._books = books
        self._capacity = capacity
        self._existing = existing
        self._make_writer = writer
        self._resync = resync
        self._ready = ready
        self._dirty = asyncio.Event()
        self._writers: dict[str, PoolWriter] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._shown: set[tuple[str, str]] = set()
        self._refused: set[rules.Misnamed] = set()

    @property
    def pools(self) -> tuple[str, ...]:
        """Names of the pools that are published."""
        return tuple(self._writers)

    def changed(self) -> None:
        """Compare again soon."""
        self._dirty.set()

    async def run(self) -> None:
        """Publish whenever something changed, for ever."""
        backoff = Backoff(initial=0.2, maximum=30.0)
        while True:
            self._dirty.clear()
            failure = await self.publish()
            if failure is None:
                backoff.reset()
                await self._wait(self._next_look())
            else:
                await self._wait(backoff.next())
            await clock.sleep(SETTLE)

    async def publish(self) -> DynamicMemoryError | None:
        """Compare and write once; return a failure, if there was one. The pools do not wait for each other's health."""
        capacity = self._capacity()
        if capacity is None:
            return None
        self._tell_misnamed(capacity)
        wanted = rules.pools(capacity, self._books.held(clock.monotonic()))
        failure: DynamicMemoryError | None = None
        for pool in wanted.values():
            failure = await self._guarded(pool.name, lambda pool=pool: self._publish(pool)) or failure  # type: ignore[misc]  # a lambda's default
        for name in sorted(self._obsolete(wanted)):
            failure = await self._guarded(name, lambda name=name: self._withdraw(name)) or failure  # type: ignore[misc]  # the same
        self._show(wanted, capacity)
        self._ready(failure is None, "" if failure is None else str(failure))
        return failure

    async def touch(self, pool: str) -> None:
        """Touch a slice of a pool, so that the scheduler looks at waiting pods again.

        Raises:
            DynamicMemoryError: it could not be done.

        """
        writer = self._writers.get(pool)
        if writer is not None:
            async with self._lock(pool):
                await writer.touch()

    async def _publish(self, pool: rules.Pool) -> None:
        writer = self._writers.get(pool.name)
        if writer is None:
            writer = self._writers[pool.name] = self._make_writer(pool.name, pool.where)
        async with self._lock(pool.name):
            result = await writer.publish(pool.devices)
        written = getattr(result, "written", 0)
        if written:
            faults.point(f"{ROLE}.slices-written")
            WRITES.labels(pool.name).inc(written)
            log.info("pool published", extra={"pool": pool.name, "values": pool.values, "slices_written": written})

    async def _withdraw(self, name: str) -> None:
        async with self._lock(name):
            await (self._writers.get(name) or self._make_writer(name, {})).withdraw()
        self._writers.pop(name, None)
        faults.point(f"{ROLE}.slices-withdrawn")
        log.info("pool withdrawn: the service has it no longer", extra={"pool": name})

    async def _guarded(self, pool: str, step: Callable[[], Any]) -> DynamicMemoryError | None:
        try:
            await step()
        except DynamicMemoryError as error:
            FAILURES.labels(pool).inc()
            log.warning("pool not published", extra={"pool": pool, "error": str(error)})
            return error
        return None

    def _obsolete(self, wanted: dict[str, rules.Pool]) -> set[str]:
        there = {s.spec.pool.name for s in self._existing() if names.fabric_domain_of(s.spec.pool.name) is not None}
        return (there | set(self._writers)) - set(wanted)

    def _show(self, wanted: dict[str, rules.Pool], capacity: Capacity) -> None:
        shown = {(pool.name, device): value for pool in wanted.values() for device, value in pool.values.items()}
        for key in self._shown - set(shown):
            VALUE.remove(*key)
            HEALTHY.remove(*key)
        for key, value in shown.items():
            VALUE.labels(*key).set(value)
        for device in capacity.pools:
            if (device.pool, device.device) in shown:
                HEALTHY.labels(device.pool, device.device).set(device.healthy)
        self._shown = set(shown)

    def _tell_misnamed(self, capacity: Capacity) -> None:
        refused = set(rules.misnamed(capacity))
        for entry in refused - self._refused:
            log.error("pool device not published", extra={"pool": entry.pool, "device": entry.device, "why": entry.why})
        self._refused = refused

    def _next_look(self) -> float:
        now = clock.monotonic()
        at = self._books.next_change(now)
        return self._resync if at is None else min(self._resync, at - now)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._dirty.wait()
        except TimeoutError:
            return

    def _lock(self, pool: str) -> asyncio.Lock:
        return self._locks.setdefault(pool, asyncio.Lock())
