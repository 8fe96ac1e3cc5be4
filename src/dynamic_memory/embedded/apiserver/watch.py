# SPDX-License-Identifier: Apache-2.0
"""Watchers: what one of them wants, its queue, and how a change reaches only those whom it concerns.

Events are filtered when they happen, before anybody is woken: two hundred kubelets that each follow their own pods cost
one look-up per event. A watcher whose client reads is handed what it sees at once, for all of them together, without
waking a task for each; what it cannot take waits in its queue. A watcher that does not keep up is cut off; nobody waits
for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.records import ADDED, DELETED, MODIFIED, Event, Object, Record
from dynamic_memory.embedded.apiserver.selectors import FieldTerm

__all__ = ["Selection", "Watcher", "Watchers"]

QUEUE = 16_384
"""Events that a watcher may lag behind before it is cut off."""
Seen = tuple[str, Record]
_log = logging.getLogger(__name__)
_NONE: Mapping[str, str] = {}


class Selection:
    """What a list or watch is about.

    Args:
        namespace: "" for all.
        labels: test of labels; None takes all.
        fields: conditions on fields.
        value: how to read a field of a stored object.

    """

    def __init__(
        self,
        namespace: str = "",
        labels: Callable[[Mapping[str, str]], bool] | None = None,
        fields: Iterable[FieldTerm] = (),
        value: Callable[[Object, str], str | None] = lambda _obj, _path: None,
    ) -> None:
        self.namespace = namespace
        self._labels = labels
        self._fields = tuple(fields)
        self._value = value
        self.everything = labels is None and not self._fields
        """Whether nothing but the namespace counts."""
        self.name = next((term.value for term in self._fields if term.path == "metadata.name" and term.equal), None)
        """The only name that can match, if that is asked for."""
        self.bucket = next(((term.path, term.value) for term in self._fields if term.equal), None)
        """A field and the value that it must have, by which watchers are found."""

    def takes(self, record: Record) -> bool:
        """Say whether an object is selected."""
        if self.namespace and record.key[0] != self.namespace:
            return False
        if self.everything:
            return True
        obj = record.object
        if self._labels is not None and not self._labels(obj["metadata"].get("labels") or _NONE):
            return False
        return all((self._value(obj, term.path) == term.value) is term.equal for term in self._fields)

    def value(self, obj: Object, path: str) -> str | None:
        """Return the value of a field."""
        return self._value(obj, path)

    def sees(self, event: Event) -> Seen | None:
        """Return how a change looks through this selection; None if it is not seen."""
        if self.everything:
            if self.namespace and event.record.key[0] != self.namespace:
                return None
            return event.type, event.record
        before = event.old is not None and self.takes(event.old)
        if event.type == DELETED:
            return (DELETED, event.record) if before else None
        if self.takes(event.record):
            return (MODIFIED if before else ADDED), event.record
        return (DELETED, event.left) if before else None


class Watcher:
    """The receiving end of one watch."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.cut = False
        """Whether it was too slow, or the server stops: there are no more events."""
        self.too_slow: Callable[[], None] | None = None
        """Called when the watch ends because nobody takes what it brings."""
        self.forward: Callable[[list[Seen]], bool] | None = None
        """Takes what there is while somebody waits in `take`, or says that it cannot; then `take` returns it."""
        self._queue: deque[Seen] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._until = 0.0

    def offer(self, event: Event) -> bool:
        """Queue a change if it is seen; say whether it is to be handed on with `flush`."""
        seen = self.selection.sees(event)
        if seen is None or self.cut:
            return False
        if len(self._queue) >= QUEUE:
            self._give_up()
            return False
        self._queue.append(seen)
        if self.forward is not None:
            return len(self._queue) == 1
        self._wake()
        return False

    def flush(self) -> None:
        """Hand on what is queued."""
        if self._waiter is None or not self._queue or self.forward is None:
            return
        try:
            taken = self.forward(list(self._queue))
        except Exception:  # noqa: BLE001 - one watch that fails must not stop the others
            _log.exception("an event could not be sent")
            self._give_up()
            return
        if taken:
            self._queue.clear()
        else:
            self._wake()

    def _give_up(self) -> None:
        self.stop()
        if self.too_slow is not None:
            self.too_slow()

    def preload(self, events: Iterable[Event]) -> None:
        """Queue what happened before the watch began, however much it is."""
        self._queue.extend(seen for event in events if (seen := self.selection.sees(event)))

    def stop(self) -> None:
        """End the watch at once."""
        self.cut = True
        self._queue.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self, seconds: float) -> list[Seen]:
        """Return what has happened; an empty list after `seconds` without anything, or when cut off."""
        if not self._queue and not self.cut:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            self._until = loop.time() + seconds
            if self._alarm is None or self._alarm.when() > self._until:
                self._set_alarm(loop)
            try:
                await self._waiter
            finally:
                self._waiter = None
        taken = list(self._queue)
        self._queue.clear()
        return taken

    def _set_alarm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_at(self._until, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake whoever waits long enough; an alarm is left on while events come, which is cheaper than one for each."""
        self._alarm = None
        if self._waiter is not None:
            if loop.time() >= self._until:
                self._wake()
            else:
                self._set_alarm(loop)

    def close(self) -> None:
        """Nobody will take anything any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class Watchers:
    """The watchers of one kind, sorted by what they wait for."""

    def __init__(self) -> None:
        self._any: dict[Watcher, None] = {}
        self._waiting: list[Watcher] = []
        """Those that are to be flushed when the loop comes to it."""
        self._buckets: dict[str, dict[str, dict[Watcher, None]]] = {}

    def _home(self, watcher: Watcher) -> dict[Watcher, None]:
        bucket = watcher.selection.bucket
        if bucket is None:
            return self._any
        return self._buckets.setdefault(bucket[0], {}).setdefault(bucket[1], {})

    def add(self, watcher: Watcher) -> None:
        """Let a watcher have what happens from now on."""
        self._home(watcher)[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        watcher.close()
        self._home(watcher).pop(watcher, None)
        if watcher.selection.bucket is not None:
            path, value = watcher.selection.bucket
            if not self._buckets[path][value]:
                del self._buckets[path][value]
            if not self._buckets[path]:
                del self._buckets[path]

    @contextlib.contextmanager
    def joined(self, watcher: Watcher) -> Iterator[Watcher]:
        """Have a watcher among these while the context is open."""
        self.add(watcher)
        try:
            yield watcher
        finally:
            self.remove(watcher)

    def offer(self, event: Event) -> None:
        """Hand a change to those whom it may concern."""
        idle = not self._waiting
        self._waiting += [watcher for watcher in self._any if watcher.offer(event)]
        for path, by_value in self._buckets.items():
            read: Callable[[Object, str], Any] = next(iter(next(iter(by_value.values())))).selection.value
            values = {read(event.record.object, path)}
            if event.old is not None:
                values.add(read(event.old.object, path))
            for value in values:
                self._waiting += [watcher for watcher in by_value.get(value, ()) if watcher.offer(event)]
        if idle and self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for watcher in waiting:
            watcher.flush()

    def stop(self) -> None:
        """End all watches."""
        for watcher in [*self._any, *(w for by in self._buckets.values() for group in by.values() for w in group)]:
            watcher.stop()
