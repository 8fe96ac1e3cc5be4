# SPDX-License-Identifier: Apache-2.0
"""The journal on disk: SQLite in WAL mode, synchronous=FULL, one writer thread with group commit.

Whatever has come in while one commit ran goes into the next: a single client waits for one fsync per write, hundreds
share one. The database holds the newest version of each object, and the resource version of the last deletion. Objects
that come together are one statement: the interpreter's lock changes hands at each, which costs the loop's thread more
than the statement itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from dynamic_memory.embedded.apiserver.records import DELETED, Event, Record
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.errors import InvalidInput

__all__ = ["BATCH", "SqliteJournal", "load"]

FILE = "apiserver.db"
_log = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  api_group TEXT NOT NULL, plural TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  version INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (api_group, plural, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 0), version INTEGER NOT NULL);
INSERT OR IGNORE INTO state VALUES (0, 1);
"""
BATCH = 256
"""Changes in one commit at most; SQLite takes so many values in a statement."""
_DELETE = "DELETE FROM objects WHERE api_group = ? AND plural = ? AND namespace = ? AND name = ?"


def _open(folder: Path) -> sqlite3.Connection:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # there are secrets in it
        # readable by the owner alone, also in a folder that is not; SQLite gives its other files the same rights
        os.close(os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        base = sqlite3.connect(folder / FILE, isolation_level=None, check_same_thread=False, timeout=0.1)
        try:
            # two servers on one folder would overwrite each other
            base.execute("PRAGMA locking_mode=EXCLUSIVE")
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=FULL")
            base.executescript(_SCHEMA)
        except BaseException:
            base.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise InvalidInput("--data-dir", f"a folder that can be used ({error})", str(folder)) from error
    return base


def load(folder: Path) -> tuple[sqlite3.Connection, list[Record], int]:
    """Open the database in a folder, which is made if need be; return it with its objects and its version.

    Raises:
        InvalidInput: it cannot be opened, or another server has it open.

    """
    base = _open(folder)
    try:
        (version,) = base.execute("SELECT version FROM state").fetchone()
        records = list(_records(base))
        return base, records, max([int(version), *(record.version for record in records)])
    except sqlite3.Error as error:
        base.close()
        raise InvalidInput("--data-dir", f"a folder that can be used ({error})", str(folder)) from error


def _records(base: sqlite3.Connection) -> Iterator[Record]:
    decode = msgspec.json.decode
    for group, plural, namespace, name, version, value in base.execute("SELECT * FROM objects"):
        yield Record(StorageKey(group, plural), (namespace, name), decode(value), version)


class SqliteJournal:
    """Writes changes in the order of submission.

    Args:
        base: the database, from `load`; closed with the journal.
        committed: called on the event loop with changes that are on disk.
        failed: called on the event loop once, if writing fails; nothing is written after that.

    """

    def __init__(
        self,
        base: sqlite3.Connection,
        committed: Callable[[Sequence[Event]], None],
        failed: Callable[[str], None],
    ) -> None:
        self._base = base
        self._committed = committed
        self._failed = failed
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def submit(self, event: Event) -> None:
        """Queue a change."""
        self._queue.put(event)

    async def close(self) -> None:
        """Write what is queued and close the database."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            while events := self._batch():
                self._commit(events)
                self._call(self._committed, events)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for this thread any more
            _log.exception("the journal cannot be written")
            self._call(self._failed, str(error))
        finally:
            self._base.close()

    def _batch(self) -> list[Event]:
        """Wait for a change and return those that are there by then; nothing at the end."""
        first = self._queue.get()
        if first is None:
            return []
        events = [first]
        with contextlib.suppress(queue.Empty):
            while len(events) < BATCH:
                event = self._queue.get_nowait()
                if event is None:
                    self._queue.put(None)
                    break
                events.append(event)
        return events

    def _commit(self, events: list[Event]) -> None:
        base = self._base
        if all(event.type != DELETED for event in events):
            _put(base, events)
            return
        base.execute("BEGIN IMMEDIATE")
        for event in events:
            if event.type == DELETED:
                base.execute(_DELETE, (*event.record.storage, *event.record.key))
            else:
                _put(base, [event])
        base.execute("UPDATE state SET version = ?", (events[-1].version,))
        base.execute("COMMIT")

    def _call(self, function: Callable[..., None], argument: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, argument)


def _put(base: sqlite3.Connection, events: list[Event]) -> None:
    """Write objects in one statement; of one that is there twice the last version stays."""
    values: list[object] = []
    for event in events:
        record = event.record
        values += (*record.storage, *record.key, record.version, record.data)
    base.execute(_put_statement(len(events)), values)


@functools.cache
def _put_statement(rows: int) -> str:
    rows_of_values = ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT OR REPLACE INTO objects VALUES {rows_of_values}"  # noqa: S608 - no text of anybody is in it
