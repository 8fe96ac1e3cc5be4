# SPDX-License-Identifier: Apache-2.0
"""All that happens to objects of one kind, by a watch: polling misses what lasts for a few milliseconds.

    with History(cluster.api, "ResourceClaim", namespace) as claims:
        ...
        assert len(claims.allocations()) == 1

etcd numbers all changes in one row, so the versions of two objects, of any kinds, say which was written first.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.cluster.support.api import Api, Object
from tests.cluster.support.processes import eventually

from dynamic_memory.api import names

__all__ = ["Allocation", "Entry", "History"]


@dataclass(frozen=True)
class Entry:
    """One change: when it was seen (monotonic seconds), what it was, and the object after it."""

    at: float
    type: str
    object: Object

    @property
    def version(self) -> int:
        return int(self.object["metadata"]["resourceVersion"])


@dataclass
class Allocation:
    """The life of one share, as its claim tells it: monotonic seconds, and versions of the claim."""

    claim: str
    share: str
    at: float
    attached: float | None = None
    failed: float | None = None
    failed_version: int = 0
    reasons: tuple[str, ...] = ()


class History:
    """Watches while it is entered; what there was before is not part of it."""

    def __init__(self, api: Api, kind: str, namespace: str = "") -> None:
        self._api = api
        self._kind = kind
        self._namespace = namespace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"history of {kind}", daemon=True)
        self._seen: list[Entry] = []
        self._broken: Exception | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        self._version = self._api.version(self._kind, self._namespace)
        self._begun = int(self._version)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        if error is None:
            assert self._broken is None, self._broken

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                for line in self._api.watch(self._kind, self._namespace, self._version, 1, self._opened):
                    self._take(json.loads(line))
            except AssertionError as error:
                self._broken = error
                return
            except (OSError, http.client.HTTPException, ValueError) as error:
                if not self._stop.is_set():  # else it was ended from here, in the middle of a line perhaps
                    self._broken = error
                return

    def _opened(self, connection: socket.socket) -> None:
        self._socket = connection

    def _take(self, event: dict[str, Any]) -> None:
        assert event["type"] != "ERROR", event
        self._version = event["object"]["metadata"]["resourceVersion"]
        self._seen.append(Entry(time.monotonic(), event["type"], event["object"]))

    def entries(self) -> list[Entry]:
        """Return what happened so far, in order: all that the API server would tell now, for a watch is told later."""
        items, version = self._api.snapshot(self._kind, self._namespace)
        there = {item["metadata"]["uid"]: int(item["metadata"]["resourceVersion"]) for item in items}
        what = f"the watch of {self._kind} has told what there was at version {version}"
        seen, _ = eventually(lambda: self._told(there, int(version)), 20, what, every=0.01)
        return seen

    def _told(self, there: dict[str, int], version: int) -> tuple[list[Entry], bool] | None:
        """Return what was told, if it has in it what led to these objects at that version of all."""
        assert self._broken is None, self._broken
        seen = self._seen.copy()
        latest = {entry.object["metadata"]["uid"]: entry for entry in seen}
        for uid, wanted in there.items():
            if wanted > (latest[uid].version if uid in latest else self._begun):
                return None
        for uid, entry in latest.items():
            if entry.type != "DELETED" and entry.version <= version and uid not in there:
                return None
        return seen, True

    def allocations(self) -> list[Allocation]:
        """Return every share of fabric memory that claims were given, in the order in which they were."""
        found: dict[tuple[str, str], Allocation] = {}
        for entry in self.entries():
            status, name = entry.object.get("status", {}), entry.object["metadata"]["name"]
            for result in status.get("allocation", {}).get("devices", {}).get("results", []):
                if names.fabric_domain_of(result["pool"]) is not None:
                    key = name, result["shareID"]
                    found.setdefault(key, Allocation(name, result["shareID"], entry.at))
            for device in status.get("devices", []):
                share = found.get((name, device.get("shareID", "")))
                if share is not None:
                    _note(share, entry, {each["type"]: each for each in device.get("conditions", [])})
        return list(found.values())


def _note(share: Allocation, entry: Entry, conditions: dict[str, Object]) -> None:
    attached, failed = conditions.get(names.ATTACHED, {}), conditions.get(names.ATTACH_FAILED, {})
    if attached.get("status") == "True" and share.attached is None:
        share.attached = entry.at
    if failed.get("status") == "True" and share.failed is None:
        share.failed, share.failed_version = entry.at, entry.version
    reason = attached.get("reason", "")
    if reason and share.reasons[-1:] != (reason,):
        share.reasons += (reason,)
