# SPDX-License-Identifier: Apache-2.0
"""A cache that is kept equal to the API server's objects of one kind.

List, then watch from the list's version; bookmarks move the version on while nothing happens. When the version has
become too old (410), list again and report the difference, deletions included: a cache that only streams would keep
what was deleted meanwhile. The same is done when a watch brings not even bookmarks. Any other failure is waited out
with back-off and jitter, and the watch goes on where it was.

An object for which `keep` is false is not stored; one that changes so is reported as deleted. That is how a node's
cache holds its own claims only, although the API server cannot select them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Literal, TypeVar

import msgspec

from dynamic_memory.api.wire import Kind
from dynamic_memory.kube.errors import ApiError, Gone, Unavailable
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff

__all__ = ["Change", "ChangeType", "Informer", "Unsynced", "report"]

log = logging.getLogger(__name__)

T = TypeVar("T")

ChangeType = Literal["added", "modified", "deleted", "resync"]
WATCH_SECONDS = 300.0
SILENCE_SECONDS = 120.0
"""Bookmarks come about once a minute: a watch that is silent for longer is dead."""


class Unsynced(RuntimeError):
    """The cache was asked before it knew anything: a defect of the caller."""


class Change(msgspec.Struct, Generic[T], frozen=True):
    """What happened to an object; `old` is what the cache had before, if anything."""

    type: ChangeType
    object: T
    old: T | None = None


class Informer(Generic[T]):
    """Objects of one kind, by namespace and name, and by the indexes that are asked for.

    Args:
        kube: the API server.
        kind: what to cache; its type needs a field `metadata`.
        namespace: only this namespace; None = all.
        labels: label selector.
        fields: field selector.
        keep: which objects to hold; None = all.
        indexes: for each name a function from an object to the values under which it is found.
        resync: seconds after which every object is reported again; None = never.

    """

    def __init__(
        self,
        kube: Kube,
        kind: Kind[T],
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        keep: Callable[[T], bool] | None = None,
        indexes: Mapping[str, Callable[[T], Iterable[str]]] | None = None,
        resync: float | None = None,
    ) -> None:
        self._kube = kube
        self._kind = kind
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._keep = keep or (lambda _: True)
        self._index_functions = dict(indexes or {})
        self._resync = resync
        self._objects: dict[tuple[str, str], T] = {}
        self._indexes: dict[str, dict[str, dict[tuple[str, str], T]]] = {name: {} for name in self._index_functions}
        self._handlers: list[Callable[[Change[T]], None]] = []
        self._synced = asyncio.Event()
        self._version = ""
        self._moved = asyncio.Condition()
        self._heard = 0.0
        self.failure: ApiError | None = None
        """Why the server is not followed right now; None while it is."""

    @property
    def synced(self) -> bool:
        """Whether the first list is complete."""
        return self._synced.is_set()

    @property
    def resource_version(self) -> str:
        """The version that the cache is at; empty before the first list."""
        return self._version

    def age(self) -> float:
        """Return the seconds since the server was last heard."""
        return clock.monotonic() - self._heard if self.synced else float("inf")

    async def wait_synced(self) -> None:
        """Wait for the first list to be complete."""
        await self._synced.wait()

    async def wait_for_version(self, resource_version: str) -> None:
        """Wait until the cache is at least as new as `resource_version`."""
        wanted = int(resource_version)
        async with self._moved:
            await self._moved.wait_for(lambda: bool(self._version) and int(self._version) >= wanted)

    def get(self, name: str, namespace: str = "") -> T | None:
        """Return an object, or None."""
        return self._objects.get((namespace, name))

    def all(self) -> list[T]:
        """Return all objects that are held."""
        return list(self._objects.values())

    def by_index(self, index: str, value: str) -> list[T]:
        """Return the objects that an index finds under `value`."""
        return list(self._indexes[index].get(value, {}).values())

    def __len__(self) -> int:
        return len(self._objects)

    def subscribe(self, handler: Callable[[Change[T]], None]) -> None:
        """Call `handler` at each change, in order, after the cache has it; it must neither block nor raise."""
        self._handlers.append(handler)

    async def run(self) -> None:
        """Follow the server for ever."""
        async with asyncio.TaskGroup() as group:
            if self._resync is not None:
                group.create_task(self._resync_forever(self._resync))
            await self._follow()

    async def _follow(self) -> None:
        backoff = Backoff(initial=0.2, maximum=30.0)
        listed = False
        while True:
            try:
                if not listed:
                    await self._list()
                    listed = True
                await self._watch(backoff)
            except Gone:
                log.info("%s: the resource version expired; listing again", self._kind)
                listed = False
                await clock.sleep(backoff.next())
            except TimeoutError:
                # the connection hangs, or our version is one that a restored server has not come to yet
                listed = False
                self._failed(Unavailable(0, "Silence", f"the watch was silent for {SILENCE_SECONDS:g} s"))
            except ApiError as error:
                self._failed(error)
                await clock.sleep(max(backoff.next(), getattr(error, "retry_after", None) or 0.0))

    def _failed(self, error: ApiError) -> None:
        if self.failure is None:
            log.warning("%s: cannot be followed: %s", self._kind, error)
        self.failure = error

    async def _list(self) -> None:
        found = await self._kube.list(self._kind, namespace=self._namespace, labels=self._labels, fields=self._fields)
        self._heard = clock.monotonic()
        present = {_key(item): item for item in found.items if self._keep(item)}
        for key in self._objects.keys() - present.keys():
            self._delete(key, None)
        for key, item in present.items():
            old = self._objects.get(key)
            if old is not None and _uid(old) != _uid(item):
                self._delete(key, None)
                old = None
            if old is None or _version(old) != _version(item):
                self._store(key, item)
        await self._advance(found.resource_version)
        self.failure = None
        self._synced.set()

    async def _watch(self, backoff: Backoff) -> None:
        started = clock.monotonic()
        events = self._kube.watch(
            self._kind,
            resource_version=self._version,
            namespace=self._namespace,
            labels=self._labels,
            fields=self._fields,
            timeout=WATCH_SECONDS,
        )
        iterator = aiter(events)
        try:
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    try:
                        event = await anext(iterator)
                    except StopAsyncIteration:
                        break
                self._heard = clock.monotonic()
                self.failure = None
                backoff.reset()
                if event.object is not None:
                    self._handle(event.type, event.object)
                await self._advance(event.resource_version)
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()
        self.failure = None
        self._heard = clock.monotonic()
        if clock.monotonic() - started < 1.0:
            # a server that ends watches at once must not be hammered
            await clock.sleep(backoff.next())

    def _handle(self, type_: str, item: T) -> None:
        key = _key(item)
        old = self._objects.get(key)
        if type_ == "DELETED" or not self._keep(item):
            if old is not None:
                self._delete(key, item)
            return
        if old is not None and _uid(old) != _uid(item):
            self._delete(key, None)
        self._store(key, item)

    def _store(self, key: tuple[str, str], item: T) -> None:
        old = self._objects.get(key)
        if old is not None:
            self._unindex(key, old)
        self._objects[key] = item
        for name, function in self._index_functions.items():
            for value in function(item):
                self._indexes[name].setdefault(value, {})[key] = item
        self._tell(Change("added" if old is None else "modified", item, old))

    def _delete(self, key: tuple[str, str], last: T | None) -> None:
        old = self._objects.pop(key)
        self._unindex(key, old)
        self._tell(Change("deleted", old if last is None else last, old))

    def _unindex(self, key: tuple[str, str], old: T) -> None:
        for name, function in self._index_functions.items():
            index = self._indexes[name]
            for value in function(old):
                entries = index.get(value)
                if entries is not None:
                    entries.pop(key, None)
                    if not entries:
                        del index[value]

    def _tell(self, change: Change[T]) -> None:
        for handler in self._handlers:
            handler(change)

    async def _advance(self, version: str) -> None:
        if version:
            self._version = version
            async with self._moved:
                self._moved.notify_all()

    async def _resync_forever(self, period: float) -> None:
        while True:
            await clock.sleep(period)
            for item in self.all():
                self._tell(Change("resync", item, item))


def _key(item: object) -> tuple[str, str]:
    metadata = item.metadata  # type: ignore[attr-defined]  # every cached type has it
    return metadata.namespace, metadata.name


def _uid(item: object) -> str:
    return str(item.metadata.uid)  # type: ignore[attr-defined]  # the same


def _version(item: object) -> str:
    return str(item.metadata.resource_version)  # type: ignore[attr-defined]  # the same


async def report(informers: Iterable[Informer[Any]], say: Callable[[bool, str], None], *, every: float = 1.0) -> None:
    """Say for ever whether all of these caches follow the server, and if not, why.

    A watch that was lost is known to be back with its next event or bookmark, a minute later at most.

    Args:
        informers: the caches.
        say: called with (whether, why), whenever that may have changed.
        every: seconds between two looks.

    """
    watched = list(informers)
    while True:
        failures = [str(informer.failure) for informer in watched if informer.failure is not None]
        say(not failures, failures[0] if failures else "")
        await clock.sleep(every)
