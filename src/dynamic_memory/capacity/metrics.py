# SPDX-License-Identifier: Apache-2.0
"""What the updater measures: bytes online, the limit over all pods, its own writes, what is missing."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.registry import Collector

from dynamic_memory.capacity.preflight import Check, Finding

__all__ = ["Metrics"]

_PREFIX = "dynamic_memory_updater"


class Metrics(Collector):
    """Metrics of one updater.

    Args:
        registry: where they are shown; that of the process if not given.

    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self.online = Gauge(f"{_PREFIX}_online_bytes", "Fabric memory online on this node.", registry=None)
        self.ceiling = Gauge(
            f"{_PREFIX}_ceiling_bytes", "Limit over all pods; infinite if there is none.", registry=None
        )
        self.writes = Counter(f"{_PREFIX}_writes", "Changes that were written.", ["target"], registry=None)
        self.failures = Counter(f"{_PREFIX}_failures", "Looks at the node that failed.", registry=None)
        self._findings = Gauge(
            f"{_PREFIX}_findings", "What is missing for pods to profit, by check.", ["check"], registry=None
        )
        for target in ("capacity", "ceiling"):
            self.writes.labels(target)
        self.found([])
        registry.register(self)

    def found(self, findings: Iterable[Finding]) -> None:
        """Show the findings of the last look."""
        present = [finding.check for finding in findings]
        for check in Check:
            self._findings.labels(check.value).set(present.count(check))

    def collect(self) -> Iterable[Metric]:
        """Everything, for a scrape."""
        for metric in (self.online, self.ceiling, self.writes, self.failures, self._findings):
            yield from metric.collect()

    def close(self) -> None:
        """Show nothing any more."""
        self._registry.unregister(self)
