# SPDX-License-Identifier: Apache-2.0
"""Create, replace and patch: from a decoded body to a stored object.

Each write starts from the newest state, becomes what it would be (defaults, owners of fields, admission; then what the
request cannot change is put back, and names, times and the like are set), is validated, and is stored if nobody was
faster; a patch or an unconditional update starts again then. Objects are in the version of the
request until they are stored.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dynamic_memory.embedded.apiserver import metadata as meta
from dynamic_memory.embedded.apiserver.builtin.zeros import fill_zeros
from dynamic_memory.embedded.apiserver.contents import Contents, reset_of
from dynamic_memory.embedded.apiserver.core import AdmissionRequest, Core
from dynamic_memory.embedded.apiserver.errors import (
    Cause,
    StatusError,
    already_exists,
    conflict,
    forbidden,
    invalid,
    not_found,
)
from dynamic_memory.embedded.apiserver.forms import decoded
from dynamic_memory.embedded.apiserver.lasting import lasting
from dynamic_memory.embedded.apiserver.records import Object, Record
from dynamic_memory.embedded.apiserver.resource import Strategy
from dynamic_memory.embedded.apiserver.schema import clone
from dynamic_memory.embedded.apiserver.store import Changed
from dynamic_memory.embedded.apiserver.targets import Target

__all__ = ["MODIFIED_MEANWHILE", "Change", "Write", "Writing", "finished"]

MODIFIED_MEANWHILE = "the object has been modified; please apply your changes to the latest version and try again"
RETRIES = 64
NAME_RETRIES = 8
_SPEC_ONLY = frozenset({"", "resize", "ephemeralcontainers", "scale", "finalize"})
"""Writes that leave the status as it is."""


@dataclass(slots=True)
class Write:
    """What became of a write."""

    record: Record
    """As stored; of a dry run, as it would be."""
    created: bool = False


Change = Callable[[Object], Awaitable[Object] | Object]
"""Makes the new object from a copy of the one that is there."""


class Writing:
    """See the module."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.contents = Contents(core)

    # --- create

    @lasting
    async def create(self, target: Target, obj: Object, *, owned: bool = False, raw: bytes = b"") -> Write:
        """Store a new object, which belongs to this from now on.

        Args:
            target: what and by whom.
            obj: as decoded.
            owned: whether it has its managedFields.
            raw: the body that it was decoded from.

        Raises:
            StatusError: it is not allowed, not valid, or there is one of that name.

        """
        resource = target.resource
        if not owned:
            obj = self.contents.check(target, obj, raw)
        meta.check_names(obj, resource, target.namespace, "")
        obj = self.contents.default(target, obj)
        if not owned:
            obj = self.contents.own(target, None, obj)
        self._namespace_exists(target)
        obj = await self._admit("CREATE", target, obj, None)
        base = "" if obj["metadata"].get("name") else obj["metadata"].get("generateName") or ""
        attempts = NAME_RETRIES if base else 1
        while True:
            attempts -= 1
            fresh = clone(obj) if attempts else obj
            if base:
                fresh["metadata"]["name"] = meta.generate_name(base)
            try:
                return Write(await self._create_once(target, self._fresh(target, fresh)), created=True)
            except StatusError as error:
                if error.reason != "AlreadyExists" or not attempts:
                    raise

    def _fresh(self, target: Target, obj: Object) -> Object:
        """Return a new object with what the server sets, and without what clients may not set."""
        resource = target.resource
        now = self._core.clock.stamp() if target.dry_run else self._core.clock.creation()
        meta.new_metadata(obj, resource, str(uuid.uuid4()), now)
        if "status" in resource.subresources and not target.subresource and not resource.strategy.keeps_status:
            obj.pop("status", None)
        if resource.builtin:
            fill_zeros(resource.storage, obj)
        if type(resource.strategy).prepare_create is Strategy.prepare_create:
            return obj
        return resource.strategy.prepare_create(obj, self._core.context(resource, target.user))

    async def _create_once(self, target: Target, obj: Object) -> Record:
        resource = target.resource
        self._namespace_exists(target)
        name = obj["metadata"].get("name") or ""
        if not name:
            cause = Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")
            raise invalid(resource.group, resource.kind, name, [cause])
        if causes := self.contents.validate(target, obj, None):
            raise invalid(resource.group, resource.kind, name, causes)
        await self._core.admission.validate(self._request("CREATE", target, obj, None, name))
        target.warnings += resource.strategy.warnings(obj)
        key = (target.namespace, name)
        finisher = self._core.finishers.get(resource.storage)
        if finisher is not None:
            obj = finisher(obj)
        stored = resource.to_storage(obj)
        there = self._core.store.head(resource.storage, key)
        if there is not None:
            error = already_exists(resource, name)
            if there.object["metadata"].get("deletionTimestamp"):
                error.message = f"object is being deleted: {error.message}"
            raise error
        if target.dry_run:
            await self._core.store.flushed()  # there is none, as far as the disk knows, too
            return Record(resource.storage, key, stored, 0)
        try:
            return await self._core.store.put(resource.storage, key, stored, None)
        except Changed:
            raise already_exists(resource, name) from None

    def _namespace_exists(self, target: Target) -> None:
        if target.resource.storage in self._core.closed:
            text = "create not allowed while custom resource definition is terminating"
            raise StatusError(405, "MethodNotAllowed", text)
        if not target.resource.namespaced:
            return
        found = self._core.namespace(target.namespace)
        if found is None:
            raise _no_namespace(target.namespace)
        if found.object["metadata"].get("deletionTimestamp"):
            name = target.namespace
            causes = [Cause("NamespaceTerminating", f"namespace {name} is being terminated", "metadata.namespace")]
            why = f"unable to create new content in namespace {name} because it is being terminated"
            raise forbidden(target.resource, target.name, why, causes=causes)

    # --- change

    async def replace(self, target: Target, obj: Object, *, raw: bytes = b"") -> Write:
        """Put a whole object in the place of the one that is there."""
        obj = self.contents.check(target, obj, raw)
        meta.named(obj, target.name)
        meta.check_names(obj, target.resource, target.namespace, target.name)
        version = obj["metadata"].get("resourceVersion") or ""
        uid = obj["metadata"].get("uid") or ""
        if not version and not target.resource.builtin:
            text = "Invalid value: 0: must be specified for an update"
            cause = Cause("FieldValueInvalid", text, "metadata.resourceVersion")
            raise invalid(target.resource.group, target.resource.plural, target.name, [cause])

        def change(old: Object) -> Object:
            self.same_object(target, old, uid, "")
            return clone(obj)  # type: ignore[no-any-return] # a dict stays one

        return await self.change(target, change, version=version)

    @lasting
    async def change(self, target: Target, make: Change, *, version: str = "", owned: bool = False) -> Write:
        """Change an object that is there.

        Args:
            target: what and by whom.
            make: makes the new object from a copy of the present one, each time it is tried.
            version: the resource version that the caller started from; "" = any.
            owned: whether `make` sets managedFields itself.

        Raises:
            StatusError: there is none, it is another version, or the change is not allowed or not valid.

        """
        resource = target.resource
        key = (target.namespace, target.name)
        for _ in range(RETRIES):
            record = self._core.store.head(resource.storage, key)
            if record is None:
                raise not_found(resource, target.name)
            old = decoded(resource, record)
            if version and version != old["metadata"]["resourceVersion"]:
                raise conflict(resource, target.name, MODIFIED_MEANWHILE)
            made = make(clone(old))
            new = made if isinstance(made, dict) else await made
            said = new["metadata"].get("resourceVersion") or ""
            if said and said != old["metadata"]["resourceVersion"]:
                raise conflict(resource, target.name, MODIFIED_MEANWHILE)
            try:
                return await self._store_change(target, record, old, new, owned=owned)
            except Changed:
                continue
        raise conflict(resource, target.name, MODIFIED_MEANWHILE)

    async def _store_change(self, target: Target, record: Record, old: Object, new: Object, *, owned: bool) -> Write:
        resource = target.resource
        new = self.contents.default(target, new)
        if not owned:
            new = self.contents.own(target, old, new)
        new = self._kept(target, await self._admit("UPDATE", target, new, old), old)
        if type(resource.strategy).prepare_update is not Strategy.prepare_update:
            context = self._core.context(resource, target.user)
            new = resource.strategy.prepare_update(new, clone(old), context, target.subresource or None)
        if meta.has_generation(resource) and meta.changed_generation(new, old, resource):
            new["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1
        causes = meta.immutable(new, old) + self.contents.validate(target, new, old)
        if causes:
            raise invalid(resource.group, resource.kind, target.name, causes)
        await self._core.admission.validate(self._request("UPDATE", target, new, old))
        target.warnings += resource.strategy.warnings(new)
        finisher = self._core.finishers.get(resource.storage)
        if finisher is not None and not target.subresource:
            new = finisher(new)
        if meta.same_content(new, old):
            await self._core.store.settled(record)
            return Write(record)
        stored = resource.to_storage(new)
        if target.dry_run:
            await self._core.store.settled(record)
            return Write(Record(resource.storage, record.key, stored, record.version))
        if finished(stored):
            return Write(await self._core.store.remove(record, stored))
        return Write(await self._core.store.put(resource.storage, record.key, stored, record))

    def _kept(self, target: Target, new: Object, old: Object) -> Object:
        """Return the new object with everything as it was that this request may not change."""
        resource = target.resource
        if target.subresource == "status":
            keep = {key: clone(value) for key, value in old.items() if key not in {"status", "metadata"}}
            reset = reset_of(target)
            if ("metadata",) not in reset:
                metadata = new["metadata"]
                for path in reset:
                    if path[0] == "metadata":
                        _restore(metadata, old["metadata"], path[1])
            else:
                metadata = {**old["metadata"], "managedFields": new["metadata"].get("managedFields")}
                uid = new["metadata"].get("uid")
                if uid:
                    metadata["uid"] = uid
            merged = {**keep, "metadata": metadata}
            if new.get("status") is not None:
                merged["status"] = new["status"]
            new = merged
        elif target.subresource in _SPEC_ONLY and "status" in resource.subresources:
            _restore(new, old, "status")
        meta.keep_server_fields(new, old)
        new["apiVersion"], new["kind"] = resource.api_version, resource.kind
        return new

    def same_object(self, target: Target, old: Object, uid: str, version: str) -> None:
        """Refuse a write that means another object than the one that is there.

        Raises:
            StatusError: 409.

        """
        found = old["metadata"]
        if uid and uid != found.get("uid"):
            text = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {found.get('uid')}"
            raise conflict(target.resource, target.name, text)
        if version and version != found.get("resourceVersion"):
            raise conflict(target.resource, target.name, MODIFIED_MEANWHILE)

    # --- admission

    async def _admit(self, operation: str, target: Target, obj: Object, old: Object | None) -> Object:
        """Return what admission makes of an object as it was sent, with what this request cannot change, too."""
        strategy = target.resource.strategy
        if type(strategy).admit is not Strategy.admit:
            obj = strategy.admit(obj, self._core.context(target.resource, target.user), target.subresource, old)
        request = self._request(operation, target, obj, old)
        new = await self._core.admission.mutate(request)
        if new is obj:
            return obj
        # what admission changes belongs to nobody
        return self.contents.default(target, new)

    def _request(
        self, operation: str, target: Target, obj: Object, old: Object | None, name: str = ""
    ) -> AdmissionRequest:
        return AdmissionRequest(
            "CREATE" if operation == "CREATE" else "UPDATE",
            target.resource,
            target.subresource,
            target.name or name,
            target.namespace,
            obj,
            old,
            target.options,
            target.user,
            target.dry_run,
            target.warnings,
            target.audit,
        )


def finished(obj: Object) -> bool:
    """Say whether nothing holds an object any more that is being deleted."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if obj.get("kind") == "Namespace" and (obj.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def _restore(new: Object, old: Object, field: str) -> None:
    new.pop(field, None)
    if field in old:
        new[field] = clone(old[field])


def _no_namespace(name: str) -> StatusError:
    text = f'namespaces "{name}" not found'
    return StatusError(404, "NotFound", text, kind="namespaces", name=name)
