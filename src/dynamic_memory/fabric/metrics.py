# SPDX-License-Identifier: Apache-2.0
"""What the service measures of itself: calls, and the bytes of each pool device at the moment of asking."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dynamic_memory.fabric.service import Service

__all__ = ["Metrics"]

_PREFIX = "dynamic_memory_fabric"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics(Collector):
    """Metrics of one service.

    Args:
        service: whose pools are measured.
        registry: where they are shown; that of the process if not given.

    """

    def __init__(self, service: Service, registry: CollectorRegistry = REGISTRY) -> None:
        self._service = service
        self._registry = registry
        self._calls = Counter(
            f"{_PREFIX}_calls",
            "Calls of the service by gRPC status.",
            ["method", "code"],
            registry=None,
        )
        self._seconds = Histogram(
            f"{_PREFIX}_call_seconds", "Time that calls take.", ["method"], buckets=_BUCKETS, registry=None
        )
        registry.register(self)

    def called(self, method: str, code: str, seconds: float) -> None:
        """Count a call that has ended."""
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """Everything, for a scrape."""
        yield from self._calls.collect()
        yield from self._seconds.collect()
        labels = ["pool", "device"]
        total = GaugeMetricFamily(f"{_PREFIX}_pool_bytes", "Bytes of a pool device.", labels=labels)
        free = GaugeMetricFamily(f"{_PREFIX}_pool_free_bytes", "Bytes that nobody holds.", labels=labels)
        held = GaugeMetricFamily(f"{_PREFIX}_pool_held_bytes", "Bytes that shares hold.", labels=labels)
        healthy = GaugeMetricFamily(f"{_PREFIX}_pool_healthy", "Whether a pool device works.", labels=labels)
        for device in self._service.devices():
            names = [device.pool, device.device]
            total.add_metric(names, device.total)
            free.add_metric(names, device.free)
            held.add_metric(names, device.total - device.free)
            healthy.add_metric(names, device.healthy)
        watches = GaugeMetricFamily(f"{_PREFIX}_watches", "Open Watches.", value=self._service.watches)
        yield from (total, free, held, healthy, watches)

    def close(self) -> None:
        """Show nothing any more."""
        self._registry.unregister(self)
