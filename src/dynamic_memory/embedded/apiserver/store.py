# SPDX-License-Identifier: Apache-2.0
"""The objects, their history and one resource version for all: in memory, with a journal behind it if wanted.

A write is checked against the newest state (the head), gets the next resource version, and becomes visible to readers
and watchers when the journal has it on disk: what anybody has seen survives a crash, and versions never go back.
Without a journal that is at once. All of it runs on one event loop and never waits while it holds something, so there
are no locks and no slow reader can block a writer.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from dynamic_memory.embedded.apiserver.errors import StatusError, bad_request, expired
from dynamic_memory.embedded.apiserver.records import ADDED, DELETED, MODIFIED, Event, Key, Object, Record
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.watch import Selection, Watcher, Watchers

__all__ = ["Changed", "Journal", "Store"]

HISTORY = 8192
"""Changes of one kind that a watch can go back."""
HISTORY_BYTES = 64 << 20
"""Bytes of the objects in them: large objects make the history shorter, not the process larger."""
LARGEST = 3 << 19
"""Bytes of an object: 1.5 MiB, as etcd takes at most."""


class Changed(Exception):
    """The object is no longer the one that the writer started from."""


class Journal(Protocol):
    """Where changes become lasting. Calls back on the event loop, in the order of submission."""

    def submit(self, event: Event) -> None:
        """Write a change."""

    async def close(self) -> None:
        """Write the rest and close."""


class _Collection:
    """The objects of one kind."""

    def __init__(self, oldest: int, history: int, history_bytes: int) -> None:
        self.records: dict[Key, Record] = {}
        self.keys: list[Key] = []
        self.staged: dict[Key, tuple[int, Record | None]] = {}
        """Newest writes that are not visible yet, with their versions; None = deleted."""
        self.events: deque[Event] = deque()
        self.oldest = oldest
        """Watches can start from here on."""
        self.history = history
        self.history_bytes = history_bytes
        self.size = 0
        """Bytes of the objects in `events`."""
        self.watchers = Watchers()

    def apply(self, event: Event) -> None:
        key = event.record.key
        if event.type == DELETED:
            self.records.pop(key, None)
            at = bisect.bisect_left(self.keys, key)
            if at < len(self.keys) and self.keys[at] == key:
                del self.keys[at]
        else:
            if key not in self.records:
                bisect.insort(self.keys, key)
            self.records[key] = event.record
        self.events.append(event)
        self.size += len(event.record.data)
        while len(self.events) > self.history or self.size > self.history_bytes:
            dropped = self.events.popleft()
            self.size -= len(dropped.record.data)
            self.oldest = dropped.version

    def between(self, namespace: str) -> Sequence[Key]:
        if not namespace:
            return self.keys
        low = bisect.bisect_left(self.keys, (namespace, ""))
        return self.keys[low : bisect.bisect_left(self.keys, (namespace + "\0", ""))]


class Store:
    """See the module.

    Args:
        records: what is there at the start.
        version: the resource version that it has.
        history: changes kept of each kind.
        history_bytes: bytes of the objects in them.

    """

    def __init__(
        self,
        records: Iterable[Record] = (),
        version: int = 1,
        history: int = HISTORY,
        history_bytes: int = HISTORY_BYTES,
    ) -> None:
        self.version = version
        """The version of what is visible."""
        self.journal: Journal | None = None
        self._next = version
        self._history = history
        self._history_bytes = history_bytes
        self._start = version
        self._collections: dict[StorageKey, _Collection] = {}
        self._pending: dict[int, asyncio.Future[Record]] = {}
        self._listeners: list[Callable[[Event], None]] = []
        self.failure = ""
        """Why nothing can be written any more; empty while that is not so."""
        for record in records:
            self._of(record.storage).records[record.key] = record
        for collection in self._collections.values():
            collection.keys = sorted(collection.records)

    def _of(self, storage: StorageKey) -> _Collection:
        found = self._collections.get(storage)
        if found is None:
            found = self._collections[storage] = _Collection(self._start, self._history, self._history_bytes)
        return found

    # --- reading

    def get(self, storage: StorageKey, key: Key) -> Record | None:
        """Return the visible version of an object."""
        return self._of(storage).records.get(key)

    def head(self, storage: StorageKey, key: Key) -> Record | None:
        """Return the newest version of an object, which a write has to start from."""
        collection = self._of(storage)
        if collection.staged and key in collection.staged:
            return collection.staged[key][1]
        return collection.records.get(key)

    def select(self, storage: StorageKey, selection: Selection, after: Key | None = None) -> list[Record]:
        """Return the visible objects that are selected, by namespace and name, those behind `after` only."""
        collection = self._of(storage)
        records = collection.records
        if selection.name is not None and selection.namespace:
            found = records.get((selection.namespace, selection.name))
            return [found] if found is not None and selection.takes(found) else []
        keys = collection.between(selection.namespace)
        if after is not None:
            keys = keys[bisect.bisect_right(keys, after) :]
        if selection.everything:
            return [records[key] for key in keys]
        return [record for key in keys if selection.takes(record := records[key])]

    def at(self, storage: StorageKey, selection: Selection, version: int) -> list[Record] | None:
        """Return what `select` returned at an earlier version; None if the history does not go back that far."""
        collection = self._of(storage)
        if version < collection.oldest:
            return None
        records = dict(collection.records)
        for event in reversed(collection.events):
            if event.version <= version:
                break
            if event.old is None:
                del records[event.record.key]
            else:
                records[event.record.key] = event.old
        return [record for _, record in sorted(records.items()) if selection.takes(record)]

    def everything(self, storage: StorageKey) -> list[Record]:
        """Return all visible objects of a kind, in no order."""
        return list(self._of(storage).records.values())

    def storages(self) -> tuple[StorageKey, ...]:
        """Return the kinds of which there are objects."""
        return tuple(storage for storage, collection in self._collections.items() if collection.records)

    def counts(self) -> dict[StorageKey, int]:
        """Return how many objects there are of each kind that was ever stored or asked for."""
        return {storage: len(collection.records) for storage, collection in self._collections.items()}

    # --- writing

    async def put(self, storage: StorageKey, key: Key, obj: Object, expect: Record | None) -> Record:
        """Create an object, or change it if it is still `expect`; it belongs to the store from now on.

        Raises:
            Changed: it is not.
            StatusError: 400, it cannot be encoded; 500, nothing can be written any more.

        """
        type_ = ADDED if expect is None else MODIFIED
        return await self._write(type_, storage, key, obj, expect)

    async def remove(self, record: Record, last: Object | None = None) -> Record:
        """Delete an object if it is still this version; return its last state with the version of the deletion.

        Args:
            record: the version.
            last: what its last state shall be, if not that version.

        Raises:
            Changed: it is not.

        """
        return await self._write(DELETED, record.storage, record.key, last or record.object, record)

    async def _write(self, type_: str, storage: StorageKey, key: Key, obj: Object, expect: Record | None) -> Record:
        if self.failure:
            raise self._refusal()
        collection = self._of(storage)
        if self.head(storage, key) is not expect:
            raise Changed
        version = self._next + 1
        record = Record(
            storage, key, {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}, version
        )
        _encode(record)
        if type_ != DELETED and len(record.data) > LARGEST:
            raise StatusError(500, "", "etcdserver: request is too large")
        self._next = version
        event = Event(type_, record, expect)
        if self.journal is None:
            self._publish(event)
            return record
        collection.staged[key] = (version, None if type_ == DELETED else record)
        future = self._pending[version] = asyncio.get_running_loop().create_future()
        self.journal.submit(event)
        return await asyncio.shield(future)

    async def settled(self, record: Record) -> None:
        """Wait until a version is on disk that a reader of the head has seen.

        Raises:
            StatusError: 500, it cannot be written.

        """
        future = self._pending.get(record.version)
        if future is not None:
            await asyncio.shield(future)

    async def flushed(self) -> None:
        """Wait until everything is on disk that a reader of heads can have seen.

        Raises:
            StatusError: 500, it cannot be written.

        """
        if self._pending:
            await asyncio.shield(next(reversed(self._pending.values())))

    def _refusal(self) -> StatusError:
        return StatusError(500, "InternalError", f"Internal error occurred: {self.failure}")

    def committed(self, events: Sequence[Event]) -> None:
        """Make changes visible that are on disk now."""
        for event in events:
            self._publish(event)
            collection = self._of(event.record.storage)
            staged = collection.staged.get(event.record.key)
            if staged is not None and staged[0] == event.version:
                del collection.staged[event.record.key]
            future = self._pending.pop(event.version, None)
            if future is not None and not future.done():
                future.set_result(event.record)

    def failed(self, why: str) -> None:
        """Refuse what is not on disk, and all writes from now on: nobody can say any more what is on disk."""
        self.failure = f"the journal failed: {why}"
        for collection in self._collections.values():
            collection.staged.clear()
        error = self._refusal()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(error)
                future.exception()
        self._pending.clear()

    def _publish(self, event: Event) -> None:
        collection = self._of(event.record.storage)
        collection.apply(event)
        self.version = event.version
        collection.watchers.offer(event)
        for listener in self._listeners:
            listener(event)

    # --- watching

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Have a function called with every change of any kind; it must not fail or wait."""
        self._listeners.append(listener)

    def watch(self, storage: StorageKey, selection: Selection, version: int | None) -> Watcher:
        """Start a watch after `version` (None = from now on); give it back with `unwatch`.

        Raises:
            StatusError: 410, the version is too old.

        """
        collection = self._of(storage)
        watcher = Watcher(selection)
        if version is not None:
            if version < collection.oldest:
                raise expired(f"too old resource version: {version} ({collection.oldest})")
            if collection.events and collection.events[-1].version > version:
                at = bisect.bisect_right(collection.events, version, key=lambda event: event.version)
                watcher.preload(collection.events[index] for index in range(at, len(collection.events)))
        collection.watchers.add(watcher)
        return watcher

    def unwatch(self, storage: StorageKey, watcher: Watcher) -> None:
        """End a watch."""
        self._of(storage).watchers.remove(watcher)

    def end_watches(self, storage: StorageKey) -> None:
        """End all watches of a kind that is no longer served."""
        self._of(storage).watchers.stop()

    def compact(self) -> None:
        """Forget the history: watches from earlier versions get 410."""
        self._start = self.version
        for collection in self._collections.values():
            collection.events.clear()
            collection.size = 0
            collection.oldest = self.version

    async def close(self) -> None:
        """End all watches; write what is not written, and refuse what comes after that."""
        for collection in self._collections.values():
            collection.watchers.stop()
        if self.journal is not None:
            # nobody writes any more what is submitted behind the end
            self.failure = self.failure or "the server is stopping"
            await self.journal.close()


def _encode(record: Record) -> None:
    """Encode an object before it gets its version: one that cannot be would end the journal, and every list.

    Raises:
        StatusError: 400.

    """
    try:
        len(record.data)
    except (ValueError, TypeError, OverflowError) as error:
        raise bad_request(f"the object cannot be encoded: {error}") from error
