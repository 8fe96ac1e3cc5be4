# SPDX-License-Identifier: Apache-2.0
"""`/metrics`: what the server counts, with the names of the real one, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dynamic_memory.embedded.apiserver.monitoring import BUCKETS, Labels, Monitoring
from dynamic_memory.embedded.apiserver.request import Response
from dynamic_memory.embedded.apiserver.store import Store
from dynamic_memory.process import clock

__all__ = ["Exposition"]

LABELS = (*Labels._fields, "component")
COMPONENT = "apiserver"
ENDS = (*(f"{bucket:g}" for bucket in BUCKETS), "+Inf")


class Exposition(Collector):
    """See the module.

    Args:
        monitoring: counts of requests.
        store: the objects.

    """

    def __init__(self, monitoring: Monitoring, store: Store) -> None:
        self._monitoring = monitoring
        self._store = store
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def answer(self, accept: str) -> Response:
        """Return all numbers, in the form of Prometheus or of OpenMetrics."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = choose_encoder("")
        return Response(200, encode(self._registry), content_type)

    def describe(self) -> list[Metric]:
        """Return nothing: there is nothing else of these names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all families of numbers."""
        yield self._requests()
        yield self._durations()
        yield self._inflight()
        yield self._watches()
        yield from self._objects()

    def _requests(self) -> Metric:
        text = "Requests that were answered, by verb, resource and code; watches when they end."
        family = CounterMetricFamily("apiserver_request", text, labels=(*LABELS, "code"))
        for (labels, code), number in self._monitoring.requests.items():
            family.add_metric([*labels, COMPONENT, str(code)], number)
        return family

    def _durations(self) -> Metric:
        text = "Seconds until requests were answered, by verb and resource; of watches, until they ended."
        family = HistogramMetricFamily("apiserver_request_duration_seconds", text, labels=LABELS)
        for labels, (*numbers, seconds) in self._monitoring.durations.items():
            total, buckets = 0.0, []
            for end, number in zip(ENDS, numbers, strict=True):
                total += number
                buckets.append((end, total))
            family.add_metric([*labels, COMPONENT], buckets, seconds)
        return family

    def _inflight(self) -> Metric:
        text = "Most requests that were worked on at once in the last second, by kind."
        family = GaugeMetricFamily("apiserver_current_inflight_requests", text, labels=("request_kind",))
        for kind, number in self._monitoring.inflight(clock.monotonic()).items():
            family.add_metric([kind], number)
        return family

    def _watches(self) -> Metric:
        names = tuple(name for name in LABELS if name != "dry_run")
        family = GaugeMetricFamily("apiserver_longrunning_requests", "Watches that are open.", labels=names)
        for labels, number in self._monitoring.watches.items():
            family.add_metric([*labels[:1], *labels[2:], COMPONENT], number)
        return family

    def _objects(self) -> Iterator[Metric]:
        old = GaugeMetricFamily("apiserver_storage_objects", "Objects that are stored, by kind.", labels=("resource",))
        new = GaugeMetricFamily(
            "apiserver_resource_objects", "Objects that are stored, by kind.", labels=("group", "resource")
        )
        for storage, number in self._store.counts().items():
            name = f"{storage.plural}.{storage.group}" if storage.group else storage.plural
            old.add_metric([name], number)
            new.add_metric([storage.group, storage.plural], number)
        yield old
        yield new
