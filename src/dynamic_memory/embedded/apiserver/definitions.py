# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions at work: served as soon as they are stored, cleaned up before they go.

A definition being deleted keeps a finalizer until its objects are gone, as on a real cluster.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from dynamic_memory.embedded.apiserver.core import DEFINITIONS, Core
from dynamic_memory.embedded.apiserver.deleting import CLEANUP, DeleteOptions
from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.records import DELETED, Event, Object, Record
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.targets import Target

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.api import Api
    from dynamic_memory.embedded.apiserver.crd.kinds import CustomKinds

__all__ = ["Definitions"]

_USER = UserInfo("system:apiserver", ("system:masters",))
Work = Callable[[], Awaitable[None]]


class Definitions:
    """See the module."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._core: Core = api.core
        self._made: CustomKinds | None = None
        self._ending: dict[StorageKey, str] = {}
        self._queued: set[str] = set()
        """Definitions that will be looked at anyway."""
        api.core.finishers[DEFINITIONS] = self._finished

    @property
    def _kinds(self) -> CustomKinds:
        if self._made is None:
            from dynamic_memory.embedded.apiserver.crd.kinds import CustomKinds  # noqa: PLC0415 - CEL, if there are any

            self._made = CustomKinds(self._core.registry)
        return self._made

    def _finished(self, definition: Object) -> Object:
        """Return a definition with the status that it has once it is stored."""
        return {**definition, "status": self._kinds.status(definition, self._core.clock.stamp())}

    def known(self, record: Record) -> Iterable[Work]:
        """Take in an object that was there at the start."""
        return self._of(record) if record.storage == DEFINITIONS else ()

    def heard(self, event: Event) -> Iterable[Work]:
        """Return what follows from a change."""
        record = event.record
        if record.storage == DEFINITIONS:
            if event.type != DELETED:
                return self._of(record)
            for resource in self._kinds.withdraw(record.key[1]):
                self._core.store.end_watches(resource.storage)
                self._ending.pop(resource.storage, None)
                self._core.closed.discard(resource.storage)
        elif event.type == DELETED and record.storage in self._ending:
            return self._look(self._ending[record.storage])
        return ()

    def _of(self, record: Record) -> Iterable[Work]:
        self._kinds.publish(record.object)
        name = record.key[1]
        if not record.object["metadata"].get("deletionTimestamp"):
            return ()
        spec = record.object["spec"]
        storage = StorageKey(spec["group"], spec["names"]["plural"])
        self._ending[storage] = name
        self._core.closed.add(storage)
        return self._look(name)

    def _look(self, name: str) -> Iterable[Work]:
        if name in self._queued:
            return ()
        self._queued.add(name)
        return (lambda: self._end(name),)

    async def _end(self, name: str) -> None:
        """Delete the objects of a definition; when none is left, let it go."""
        self._queued.discard(name)
        record = self._core.store.head(DEFINITIONS, ("", name))
        if record is None or CLEANUP not in (record.object["metadata"].get("finalizers") or ()):
            return
        spec = record.object["spec"]
        storage = StorageKey(spec["group"], spec["names"]["plural"])
        for resource in self._core.registry.versions(storage)[:1]:
            for found in self._core.store.everything(storage):
                try:
                    await self._api.deleting.delete(resource, *found.key, DeleteOptions(), _USER)
                except StatusError as error:
                    if error.reason != "NotFound":
                        raise
        if self._core.store.everything(storage):
            return

        def change(old: Object) -> Object:
            metadata = old["metadata"]
            metadata["finalizers"] = [each for each in metadata.get("finalizers") or () if each != CLEANUP]
            return old

        definitions = self._core.registry.find(*DEFINITIONS_V1)
        if definitions is not None:
            await self._api.writing.change(Target(definitions, "", name, _USER, []), change)


DEFINITIONS_V1 = (DEFINITIONS.group, "v1", DEFINITIONS.plural)
