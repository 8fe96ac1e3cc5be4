# SPDX-License-Identifier: Apache-2.0
"""What the driver remembers of each claim over its own death: one small file a claim, written before anything is done.

The files are the truth and the copies in memory are an index of them: two processes may work on one folder while a new
driver replaces an old one (the old one attaches and detaches, the new one already prepares), so a change always reads
the file, changes it and replaces it, under a lock that only claims of the same stripe share.

A file that is no record is put aside with an error. The shares that it spoke of are found again on the fabric and on
the host. One that the disk does not give stays where it is, and costs its own claim alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from dynamic_memory.driver.claims import Pod
from dynamic_memory.driver.grants import Grant, Owner, totals
from dynamic_memory.driver.planner import State
from dynamic_memory.errors import InvalidInput
from dynamic_memory.process import durable

__all__ = ["ClaimRecord", "Failure", "Prepared", "Records", "ShareRecord", "orphan_key"]

log = logging.getLogger(__name__)

STRIPES = 16
KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,127}")
PARTIAL = re.compile(rf"\.(?P<key>{KEY.pattern})\.json\.[0-9]+-[0-9a-f]+\.tmp")
"""What `durable.write` calls a record that is not whole yet."""
ORPHAN_PREFIX = "orphan-"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attach failed, for the condition: a reason of `names.Reason`, a sentence, and when (Unix seconds)."""

    reason: str
    message: str
    at: float
    publish: bool = True
    """Whether the node's slices have to say it before the claim may."""


class ShareRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One share of a claim.

    Attributes:
        tag: shareID and extent tag.
        pool: pool name; empty for an orphan that only the host knows.
        device: pool device.
        size: bytes.
        window: the node's window device.
        request: name of the claim's request.
        state: see `planner.State`.
        committed: a pod may already be bound to it: an attach that fails is tried again for ever.
        boot_id: boot in which it was last attached.
        failure: why it is being undone, if that is so.
        pods: the pods of the claim that were known when the release began.

    """

    tag: str
    pool: str
    device: str
    size: int
    window: str = ""
    request: str = ""
    state: State
    committed: bool = False
    boot_id: str = ""
    failure: Failure | None = None
    pods: tuple[Pod, ...] = ()


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What Prepare answered: enough to answer it again, and to write the CDI file again after a reboot.

    Attributes:
        tag: the share of fabric memory that was prepared; empty if the claim has none.
        cdi_id: name of the CDI device as the kubelet got it; of the first, if there are several.
        spec: the CDI file, JSON text.
        grants: everything that the claim was given. Empty in what an earlier version wrote.
        pod: the pod that it was prepared for, where the record names no owner (fabric memory alone).

    """

    tag: str
    cdi_id: str
    spec: str
    grants: tuple[Grant, ...] = ()
    pod: Pod | None = None


class ClaimRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that is remembered of one claim.

    Attributes:
        key: name of the record.
        uid: of the claim; empty for a share that no claim is known of.
        namespace: of the claim.
        name: of the claim.
        shares: what it holds of the fabric, and what is still being released.
        local: what it holds of the node's own memory: taken from Prepare to Unprepare.
        owner: the pod that it is prepared for, from Prepare to Unprepare.
        prepared: what Prepare answered for the share that the claim holds.
        offered: what the CDI file says though Prepare was not asked: see `unprepare_due`.
        unprepare_due: a share that was prepared is gone or going, and no Unprepare has succeeded since: the kubelet may
            still take the claim for prepared, and start the next pod without asking.

    """

    key: str
    uid: str = ""
    namespace: str = ""
    name: str = ""
    shares: tuple[ShareRecord, ...] = ()
    local: tuple[Grant, ...] = ()
    owner: Owner | None = None
    prepared: Prepared | None = None
    offered: Prepared | None = None
    unprepare_due: bool = False
    version: int = 1

    def share(self, tag: str) -> ShareRecord | None:
        """Return the share with this tag, or None."""
        return next((share for share in self.shares if share.tag == tag), None)

    def with_share(self, share: ShareRecord) -> ClaimRecord:
        """Return the record with this share added or replaced."""
        others = tuple(s for s in self.shares if s.tag != share.tag)
        return msgspec.structs.replace(self, shares=(*others, share))

    def without_share(self, tag: str) -> ClaimRecord | None:
        """Return the record without this share, or None if nothing is left to remember."""
        others = tuple(s for s in self.shares if s.tag != tag)
        return msgspec.structs.replace(self, shares=others) if others or self.local else None

    def without_local(self) -> ClaimRecord | None:
        """Return the record without the node's own memory and its owner, or None if nothing is left to remember."""
        prepared = self.prepared if self.prepared and self.prepared.tag else None
        left = msgspec.structs.replace(self, local=(), owner=None, prepared=prepared)
        return left if left.shares else None


Update = Callable[[ClaimRecord | None], ClaimRecord | None]
Effect = Callable[[ClaimRecord | None], None]


def orphan_key(tag: str) -> str:
    """Return the key of the record of a share that no claim is known of."""
    return f"{ORPHAN_PREFIX}{tag}"


class Records:
    """The folder of records, and an index of it.

    Args:
        folder: where the files are; made if it is missing.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks = folder.parent / "locks"
        self._by_key: dict[str, ClaimRecord] = {}
        self._key_of_tag: dict[str, str] = {}
        self._taken: dict[tuple[str, str], int] = {}
        self._keys_of_pod: dict[str, set[str]] = {}
        self._quarantined = 0
        self._loading = asyncio.Lock()
        self._touched: set[str] = set()
        """Keys that were read or written since the load that is under way began; none is noted without one."""

    @property
    def quarantined(self) -> int:
        """How many files were put aside since the start."""
        return self._quarantined

    async def load(self) -> None:
        """Read all files anew, at the start and when another process may have written.

        The index is replaced in one go: whoever asks meanwhile gets what was known before.
        """
        async with self._loading:
            self._touched.clear()
            found = await asyncio.to_thread(self._read_all)
            while self._touched:  # what was read of these may be older than what is known by now
                keys = sorted(self._touched)
                self._touched.clear()
                found |= await asyncio.to_thread(self._read_each, keys)
            self._replace(found)

    async def sweep(self) -> None:
        """Remove what writers left that were killed in the middle of it.

        Raises:
            OSError: something cannot be removed.

        """
        await asyncio.to_thread(self._sweep)

    def get(self, key: str) -> ClaimRecord | None:
        """Return the record of a claim UID (or orphan key), as last read or written by this process."""
        return self._by_key.get(key)

    def all(self) -> list[ClaimRecord]:
        """Return all records, as last read or written by this process."""
        return list(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

    def key_of(self, tag: str) -> str | None:
        """Return the key of the record that has this tag."""
        return self._key_of_tag.get(tag)

    def taken(self, pool: str, device: str) -> int:
        """Return the bytes of one of the node's own devices that records hold; as quick with many as with one."""
        return self._taken.get((pool, device), 0)

    def owned_by(self, pod: str) -> list[ClaimRecord]:
        """Return the records whose owner is a pod, by UID; as quick with many records as with few."""
        return [self._by_key[key] for key in sorted(self._keys_of_pod.get(pod, ()))]

    async def refresh(self, key: str) -> ClaimRecord | None:
        """Read one file anew: another process may have written it."""
        record = await asyncio.to_thread(self._read, key)
        self._index(key, record)
        return record

    async def update(self, key: str, change: Update, then: Effect | None = None) -> ClaimRecord | None:
        """Change one record durably: when this returns it is on the disk.

        Args:
            key: claim UID or orphan key.
            change: gets the record as it is on the disk, returns it as it shall be; None removes the file. Must not
                block.
            then: gets the record as it is now, in a thread and before anybody else may change it; what it writes
                therefore agrees with the record. If it raises OSError the record is put back as it was.

        Returns:
            The record as it is now.

        Raises:
            OSError: the disk refuses, or `then`; nothing has changed.

        """
        try:
            record = await asyncio.to_thread(self._update, key, change, then)
        except OSError:
            if then is not None:
                await self.refresh(key)  # the disk may have refused to put it back as well
            raise
        self._index(key, record)
        return record

    def _index(self, key: str, record: ClaimRecord | None) -> None:
        if self._loading.locked():
            self._touched.add(key)
        before = self._by_key.get(key)
        for share in before.shares if before else ():
            self._key_of_tag.pop(share.tag, None)
        for sign, each in ((-1, before), (1, record)):
            for device, size in totals(each.local if each else ()).items():
                self._taken[device] = self._taken.get(device, 0) + sign * size
        if before is not None and before.owner is not None:
            keys = self._keys_of_pod[before.owner.uid]
            keys.discard(key)
            if not keys:
                del self._keys_of_pod[before.owner.uid]
        if record is None:
            self._by_key.pop(key, None)
            return
        self._by_key[key] = record
        if record.owner is not None:
            self._keys_of_pod.setdefault(record.owner.uid, set()).add(key)
        for share in record.shares:
            self._key_of_tag[share.tag] = key

    def _replace(self, found: dict[str, ClaimRecord | None]) -> None:
        self._by_key.clear()
        self._key_of_tag.clear()
        self._taken.clear()
        self._keys_of_pod.clear()
        for key in sorted(found):
            self._index(key, found[key])

    def _read_all(self) -> dict[str, ClaimRecord | None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        found: dict[str, ClaimRecord | None] = {}
        for path in sorted(self._folder.glob("*.json")):
            if KEY.fullmatch(path.stem):
                found |= self._read_each([path.stem])
            else:
                log.warning("not a record, and left alone", extra={"path": str(path)})
        return found

    def _sweep(self) -> None:
        for path in self._folder.glob(".*.tmp"):
            found = PARTIAL.fullmatch(path.name)
            if found is not None:
                with self._locked(found["key"]):  # so nobody writes it now
                    path.unlink(missing_ok=True)

    def _read_each(self, keys: list[str]) -> dict[str, ClaimRecord | None]:
        found: dict[str, ClaimRecord | None] = {}
        for key in keys:
            try:
                found[key] = self._read(key)
            except OSError as error:  # one file must not cost the claims of all others
                log.error(  # noqa: TRY400 - the reason is the whole story
                    "record cannot be read", extra={"path": str(self._path(key)), "error": str(error)}
                )
                found[key] = self._by_key.get(key)
        return found

    def _path(self, key: str) -> Path:
        if not KEY.fullmatch(key):
            raise InvalidInput("claim UID", "letters, digits and dashes", key)
        return self._folder / f"{key}.json"

    def _read(self, key: str) -> ClaimRecord | None:
        path = self._path(key)
        data = durable.read(path)
        if data is None:
            return None
        try:
            record = msgspec.json.decode(data, type=ClaimRecord)
        except msgspec.DecodeError:  # also what does not fit the type
            aside = path.with_suffix(".corrupt")
            path.replace(aside)
            self._quarantined += 1
            log.exception("record is not readable and was put aside", extra={"path": str(aside)})
            return None
        return record

    def _update(self, key: str, change: Update, then: Effect | None) -> ClaimRecord | None:
        path = self._path(key)
        with self._locked(key):
            before = self._read(key)
            after = change(before)
            if after != before:
                self._put(path, after)
            try:
                if then is not None:
                    then(after)
            except OSError:
                if after != before:
                    self._put(path, before)
                raise
        return after

    @staticmethod
    def _put(path: Path, record: ClaimRecord | None) -> None:
        if record is None:
            durable.remove(path)
        else:
            durable.write(path, msgspec.json.encode(record))

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        stripe = zlib.crc32(key.encode()) % STRIPES
        descriptor = os.open(self._locks / f"{stripe:x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
