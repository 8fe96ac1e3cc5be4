# SPDX-License-Identifier: Apache-2.0
"""The garbage collector: what belongs to nobody any more goes, and owners wait for what is theirs if asked to.

Rules (source: kubernetes.io "Garbage collection", `pkg/controller/garbagecollector`): an object all of whose owners are
gone is deleted; of several owners the gone ones are only struck off. `foregroundDeletion` on an owner deletes its
dependents first, and waits for those that say `blockOwnerDeletion`; `orphan` strikes the owner off its dependents. An
owner whose kind is not served counts as there: nobody can know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.deleting import FOREGROUND, ORPHAN, DeleteOptions
from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.records import DELETED, Event, Key, Object, Record
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.resource import Resource, StorageKey
from dynamic_memory.embedded.apiserver.targets import Target

__all__ = ["Collector"]

_USER = UserInfo("system:serviceaccount:kube-system:generic-garbage-collector", ("system:authenticated",))
Work = Callable[[], Awaitable[None]]
Place = tuple[StorageKey, Key]


class Collector:
    """See the module."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._core = api.core
        self._places: dict[str, Place] = {}
        """Every object, by uid."""
        self._dependents: dict[str, set[Place]] = {}
        """By uid of the owner."""

    def known(self, record: Record) -> Iterable[Work]:
        """Take in an object that was there at the start."""
        self._index(record, None)
        return self._of(record)

    def heard(self, event: Event) -> Iterable[Work]:
        """Return what follows from a change."""
        record = event.record
        if event.type == DELETED:
            return self._gone(record)
        self._index(record, event.old)
        if event.old is not None and _same_ties(record.object["metadata"], event.old.object["metadata"]):
            return ()
        return self._of(record)

    def _index(self, record: Record, old: Record | None) -> None:
        place = (record.storage, record.key)
        self._places[record.uid] = place
        now = {reference["uid"] for reference in _references(record)}
        before = {reference["uid"] for reference in _references(old)} if old is not None else set()
        for uid in now - before:
            self._dependents.setdefault(uid, set()).add(place)
        for uid in before - now:
            self._forget(uid, place)

    def _forget(self, owner: str, place: Place) -> None:
        places = self._dependents.get(owner)
        if places is not None:
            places.discard(place)
            if not places:
                del self._dependents[owner]

    def _of(self, record: Record) -> Iterable[Work]:
        metadata = record.object["metadata"]
        place = (record.storage, record.key)
        if metadata.get("deletionTimestamp") and {ORPHAN, FOREGROUND} & set(metadata.get("finalizers") or ()):
            return (lambda: self._let_go(place),)
        if metadata.get("ownerReferences"):
            return (lambda: self._examine(place),)
        return ()

    def _gone(self, record: Record) -> Iterable[Work]:
        place = (record.storage, record.key)
        if self._places.get(record.uid) == place:
            del self._places[record.uid]
        works: list[Work] = [
            lambda each=each: self._examine(each)  # type: ignore[misc] # mypy takes the default for a parameter
            for each in self._dependents.get(record.uid, ())
        ]
        for reference in _references(record):
            self._forget(reference["uid"], place)
            owner = self._places.get(reference["uid"])
            if owner is not None:
                works.append(lambda owner=owner: self._let_go(owner))  # type: ignore[misc] # the same
        return works

    def _resource(self, storage: StorageKey) -> Resource | None:
        return next(iter(self._core.registry.versions(storage)), None)

    # --- dependents

    async def _examine(self, place: Place) -> None:
        """Delete an object whose owners are all gone; strike off those that are, if others are left."""
        record = self._core.store.head(*place)
        resource = self._resource(place[0])
        if record is None or resource is None or record.object["metadata"].get("deletionTimestamp"):
            return
        references = _references(record)
        gone = [reference["uid"] for reference in references if self._is_gone(reference, record)]
        waiting = [r["uid"] for r in references if r["uid"] not in gone and self._waits(r["uid"])]
        if not gone and not waiting:
            return
        if len(gone) + len(waiting) < len(references):
            await self._strike(resource, record, {*gone, *waiting})
            return
        policy = DeleteOptions(uid=record.uid, propagation="Background")
        if waiting and self._dependents.get(record.uid):
            policy.propagation = "Foreground"
        elif {ORPHAN, FOREGROUND} & set(record.object["metadata"].get("finalizers") or ()):
            policy.propagation = ""
        await self._api.deleting.delete(resource, *record.key, policy, _USER)

    def _is_gone(self, reference: dict[str, Any], dependent: Record) -> bool:
        place = self._places.get(reference["uid"])
        if place is not None:
            # an owner in another namespace is none
            return bool(place[1][0]) and place[1][0] != dependent.key[0]
        group, _, version = str(reference.get("apiVersion") or "").rpartition("/")
        return self._core.registry.find_kind(group, version, str(reference.get("kind") or "")) is not None

    def _waits(self, uid: str) -> bool:
        place = self._places.get(uid)
        owner = self._core.store.head(*place) if place is not None else None
        if owner is None:
            return False
        metadata = owner.object["metadata"]
        return bool(metadata.get("deletionTimestamp")) and FOREGROUND in (metadata.get("finalizers") or ())

    async def _strike(self, resource: Resource, record: Record, uids: set[str]) -> None:
        """Take owners off an object."""

        def change(old: Object) -> Object:
            metadata = old["metadata"]
            kept = [entry for entry in metadata.get("ownerReferences") or () if entry.get("uid") not in uids]
            metadata.pop("ownerReferences", None)
            if kept:
                metadata["ownerReferences"] = kept
            return old

        target = Target(resource, *record.key, _USER, [], manager="garbage-collector")
        await self._api.writing.change(target, change)

    # --- owners

    async def _let_go(self, place: Place) -> None:
        """Do what an owner waits for; take its finalizer when that is done."""
        record = self._core.store.head(*place)
        resource = self._resource(place[0])
        if record is None or resource is None or not record.object["metadata"].get("deletionTimestamp"):
            return
        finalizers = record.object["metadata"].get("finalizers") or ()
        dependents = [
            found
            for each in sorted(self._dependents.get(record.uid, ()))
            if (found := self._core.store.head(*each)) is not None
        ]
        if ORPHAN in finalizers:
            for dependent in dependents:
                of = self._resource(dependent.storage)
                if of is not None:
                    await self._quietly(self._strike(of, dependent, {record.uid}))
            await self._release(resource, record, ORPHAN)
        elif FOREGROUND in finalizers:
            for dependent in dependents:
                await self._quietly(self._examine((dependent.storage, dependent.key)))
            if not self._blocked(record.uid):
                await self._release(resource, record, FOREGROUND)

    def _blocked(self, uid: str) -> bool:
        for each in self._dependents.get(uid, ()):
            dependent = self._core.store.head(*each)
            if dependent is None:
                continue
            if any(r["uid"] == uid and r.get("blockOwnerDeletion") for r in _references(dependent)):
                return True
        return False

    async def _release(self, resource: Resource, record: Record, finalizer: str) -> None:
        def change(old: Object) -> Object:
            metadata = old["metadata"]
            metadata["finalizers"] = [name for name in metadata.get("finalizers") or () if name != finalizer]
            if not metadata["finalizers"]:
                del metadata["finalizers"]
            return old

        target = Target(resource, *record.key, _USER, [], manager="garbage-collector")
        await self._api.writing.change(target, change)

    async def _quietly(self, work: Awaitable[None]) -> None:
        """Do work on an object that may be gone by now."""
        try:
            await work
        except StatusError as error:
            if error.reason not in {"NotFound", "Conflict"}:
                raise


def _same_ties(metadata: dict[str, Any], before: dict[str, Any]) -> bool:
    """Say whether a change leaves alone whatever this part looks at."""
    ties = ("ownerReferences", "finalizers", "deletionTimestamp")
    return all(metadata.get(field) == before.get(field) for field in ties)


def _references(record: Record) -> list[dict[str, Any]]:
    found = record.object["metadata"].get("ownerReferences")
    if not isinstance(found, list):
        return []
    return [entry for entry in found if isinstance(entry, dict) and isinstance(entry.get("uid"), str)]
