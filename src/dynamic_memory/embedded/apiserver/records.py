# SPDX-License-Identifier: Apache-2.0
"""What the store keeps: versions of objects and the changes between them. Neither is ever changed.

A record remembers its encodings, so an object is encoded once per version however many clients read or watch it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

import msgspec

from dynamic_memory.embedded.apiserver.resource import StorageKey

__all__ = ["ADDED", "DELETED", "MODIFIED", "Event", "Key", "Object", "Record", "encode"]

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace ("" if cluster-scoped) and name."""

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"

encode = msgspec.json.encode


class Record:
    """One version of an object, in the storage version of its kind."""

    __slots__ = ("_data", "_forms", "key", "object", "storage", "version")

    def __init__(self, storage: StorageKey, key: Key, obj: Object, version: int) -> None:
        self.storage = storage
        self.key = key
        self.object = obj
        self.version = version
        self._data: bytes | None = None
        self._forms: dict[Hashable, Any] | None = None  # most versions are never asked for any

    @property
    def uid(self) -> str:
        """The object's uid."""
        return str(self.object["metadata"].get("uid", ""))

    @property
    def data(self) -> bytes:
        """The object as it is stored, as JSON."""
        if self._data is None:
            self._data = encode(self.object)
        return self._data

    def form(self, name: Hashable, make: Callable[[Object], bytes]) -> bytes:
        """Return an encoding, made at its first use."""
        if self._forms is None:
            self._forms = {}
        found: bytes | None = self._forms.get(name)
        if found is None:
            found = self._forms[name] = make(self.object)
        return found

    def kept(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """Return anything that is made of the object, at its first use."""
        if self._forms is None:
            self._forms = {}
        found = self._forms.get(name)
        if found is None:
            found = self._forms[name] = make()
        return found

    def stamped(self, version: int) -> Record:
        """Return the same object with another resource version, for events about its end."""
        metadata = {**self.object["metadata"], "resourceVersion": str(version)}
        return Record(self.storage, self.key, {**self.object, "metadata": metadata}, version)


class Event:
    """A change of one object.

    Attributes:
        type: ADDED, MODIFIED or DELETED.
        record: the new version; of a deletion, the last one with the version of the deletion.
        old: the version before, if there was one.

    """

    __slots__ = ("_left", "old", "record", "type")

    def __init__(self, type_: str, record: Record, old: Record | None) -> None:
        self.type = type_
        self.record = record
        self.old = old
        self._left: Record | None = None

    @property
    def version(self) -> int:
        """The resource version of the change."""
        return self.record.version

    @property
    def left(self) -> Record:
        """The version before, stamped: what those see whose selector the object has left."""
        if self._left is None:
            assert self.old is not None  # noqa: S101 - only what was there can leave
            self._left = self.old.stamped(self.version)
        return self._left
