# SPDX-License-Identifier: Apache-2.0
"""What the server counts of its requests, for `/metrics`. A few dictionary look-ups a request; text is made when asked.

The numbers are those of the real server: each request counts when its answer is done, a watch when it ends, with the
time that it lasted. `exposition` gives them the names that dashboards know.
Source: k8s.io/apiserver, `pkg/endpoints/metrics/metrics.go`.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from dynamic_memory.embedded.apiserver.request import Request
from dynamic_memory.process import clock

__all__ = ["BUCKETS", "VERBS", "Labels", "Monitoring", "labels_of", "scope_of"]

BUCKETS = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0),
    *(3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
)
"""Seconds, upper ends."""
VERBS = {
    "get": "GET",
    "list": "LIST",
    "watch": "WATCH",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}
METHODS = {**{method: method for method in ("GET", "POST", "PUT", "PATCH", "DELETE")}, "HEAD": "GET"}
"""As the real server names methods of what is no resource."""
READS = frozenset({"GET", "HEAD"})
CONNECTS = frozenset({"log", "exec", "attach", "portforward", "proxy"})
PATHS = frozenset({"/healthz", "/livez", "/readyz", "/metrics", "/version"})
APPLY = "application/apply-patch+yaml"


class Labels(NamedTuple):
    """What tells requests apart; none of it is free text of a client."""

    verb: str
    dry_run: str
    group: str
    version: str
    resource: str
    subresource: str
    scope: str


def labels_of(request: Request) -> Labels:
    """Return the labels of a request, from what the pipeline found out about it."""
    known = request.audit
    resource = known.get("resource")
    if not resource:
        path = request.path if request.path in PATHS else ""
        return Labels(METHODS.get(request.method, "other"), "", "", "", "", path, "")
    verb = known["verb"]
    subresource = known["subresource"]
    shown = VERBS[verb]
    if verb == "patch" and request.media_type == APPLY:
        shown = "APPLY"
    elif subresource in CONNECTS:
        shown = "CONNECT"
    asked = request.query.get("dryRun") if request.query else None
    dry_run = "" if not asked else "All" if set(asked) == {"All"} else "invalid"
    scope = scope_of(verb, known["namespace"], known["name"])
    return Labels(shown, dry_run, known["group"], known["version"], resource, subresource, scope)


def scope_of(verb: str, namespace: str, name: str) -> str:
    """Return what a request is about: one object, those of a namespace, or those of the cluster."""
    if name or verb == "create":
        return "resource"
    return "namespace" if namespace else "cluster"


class _Peak:
    """How many there were at once, at most, in the last second or two."""

    def __init__(self) -> None:
        self.now = 0
        self._most = 0
        self._before = 0
        self._since = 0.0

    def add(self, number: int, at: float) -> None:
        if at - self._since >= 1.0:
            # since the last change there were as many as now
            self._before = self._most if at - self._since < 2.0 else self.now  # noqa: PLR2004 - the second before
            self._most, self._since = self.now, at
        self.now += number
        self._most = max(self._most, self.now)

    def read(self, at: float) -> int:
        self.add(0, at)
        return max(self._most, self._before)


class Monitoring:
    """The counts. Made once a server."""

    def __init__(self) -> None:
        self.requests: dict[tuple[Labels, int], int] = {}
        """How many were answered, by labels and code."""
        self.durations: dict[Labels, list[float]] = {}
        """How many took so long, by bucket, the last one without an end; behind them the sum of seconds."""
        self.watches: dict[Labels, int] = {}
        """How many are open."""
        self._reading = _Peak()
        self._changing = _Peak()

    def done(self, labels: Labels, code: int, seconds: float) -> None:
        """Count a request."""
        key = (labels, code)
        self.requests[key] = self.requests.get(key, 0) + 1
        found = self.durations.get(labels)
        if found is None:
            found = self.durations[labels] = [0.0] * (len(BUCKETS) + 2)
        found[bisect_left(BUCKETS, seconds)] += 1
        found[-1] += seconds

    def inflight(self, at: float) -> dict[str, int]:
        """Return how many requests were worked on at once a moment ago, by kind."""
        return {"mutating": self._changing.read(at), "readOnly": self._reading.read(at)}

    def enter(self, method: str, at: float) -> None:
        """Count a request that is worked on."""
        (self._reading if method in READS else self._changing).add(1, at)

    def leave(self, method: str, at: float) -> None:
        """Count it no more."""
        (self._reading if method in READS else self._changing).add(-1, at)

    @contextlib.contextmanager
    def watching(self, labels: Labels, begin: float) -> Iterator[None]:
        """Count a watch while it is open, and when it ends."""
        self.watches[labels] = self.watches.get(labels, 0) + 1
        try:
            yield
        finally:
            self.watches[labels] -= 1
            self.done(labels, 200, clock.monotonic() - begin)
