# SPDX-License-Identifier: Apache-2.0
"""Deletion: preconditions, grace, finalizers, propagation; and of whole collections.

An object that nothing holds goes at once. One with finalizers, or a pod that a kubelet still runs, is marked with a
deletionTimestamp and goes when the last holder lets go. Source: `BeforeDelete` and `genericregistry.Store.Delete` of
k8s.io/apiserver; grace of pods: `CheckGracefulDelete` of the pod strategy.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dynamic_memory.embedded.apiserver.builtin.models import schema_of
from dynamic_memory.embedded.apiserver.core import DEFINITIONS, NAMESPACES, AdmissionRequest, Core
from dynamic_memory.embedded.apiserver.decoding import SCHEME
from dynamic_memory.embedded.apiserver.errors import (
    Cause,
    StatusError,
    bad_request,
    forbidden,
    invalid,
    not_found,
    qualified,
)
from dynamic_memory.embedded.apiserver.forms import decoded
from dynamic_memory.embedded.apiserver.gotypes import Reader, Wrong
from dynamic_memory.embedded.apiserver.lasting import lasting
from dynamic_memory.embedded.apiserver.records import Object, Record
from dynamic_memory.embedded.apiserver.request import Request, UserInfo
from dynamic_memory.embedded.apiserver.resource import Resource, StorageKey
from dynamic_memory.embedded.apiserver.store import Changed
from dynamic_memory.embedded.apiserver.targets import dry_run_of
from dynamic_memory.process import clock

__all__ = ["CLEANUP", "FOREGROUND", "ORPHAN", "DeleteOptions", "Deleting", "Outcome", "options_of", "other_uid"]

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""Holds a CustomResourceDefinition until its objects are gone."""
ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
PODS = StorageKey("", "pods")
_POLICIES = ("Background", "Foreground", "Orphan")
_KEPT_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})
_FINISHED = frozenset({"Succeeded", "Failed"})
LONGEST_GRACE = 10 * 366 * 86400
"""Seconds; more than that is forever, and a time still has to come out."""
DEFAULT_GRACE = 30


@dataclass(slots=True)
class DeleteOptions:
    """How to delete."""

    grace_period: int | None = None
    """Seconds; None = what the object says."""
    uid: str = ""
    resource_version: str = ""
    propagation: Literal["", "Background", "Foreground", "Orphan"] = ""
    dry_run: bool = False
    collection: bool = False
    """The whole collection goes: admission is told no names."""


@dataclass(slots=True)
class Outcome:
    """What became of a deletion: the object, and whether it is gone."""

    record: Record
    gone: bool


def options_of(request: Request, body: Mapping[str, Any]) -> DeleteOptions:
    """Return the options of a DELETE, from its body and its query.

    Raises:
        StatusError: 400 or 422, they cannot be.

    """
    kind = body.get("kind") or "DeleteOptions"
    if kind != "DeleteOptions":
        version = body.get("apiVersion")
        raise bad_request(f'no kind "{kind}" is registered for version "{version}" in scheme "{SCHEME}"')
    try:
        said = Reader([]).read_object(schema_of("meta_v1", "DeleteOptions"), dict(body), "", "DeleteOptions", ())
    except Wrong as error:
        raise bad_request(str(error)) from None
    for name in ("propagationPolicy", "gracePeriodSeconds", "orphanDependents"):
        if request.first(name):
            said.setdefault(name, request.first(name))
    preconditions = said.get("preconditions") or {}
    policy: Any = said.get("propagationPolicy") or ""
    if policy and policy not in _POLICIES:
        known = '"Foreground", "Background", "Orphan", "nil"'
        raise _invalid("FieldValueNotSupported", f'Unsupported value: "{policy}": supported values: {known}')
    orphan = said.get("orphanDependents")
    if orphan is not None:
        if policy:
            text = f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set'
            raise _invalid("FieldValueInvalid", text)
        policy = "Orphan" if str(orphan).lower() == "true" else "Background"
    return DeleteOptions(
        _seconds(said.get("gracePeriodSeconds")),
        str(preconditions.get("uid") or ""),
        str(preconditions.get("resourceVersion") or ""),
        policy,
        dry_run_of(body.get("dryRun"), "DeleteOptions") or dry_run_of(request.query.get("dryRun", ()), "DeleteOptions"),
    )


def _seconds(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise bad_request(f'strconv.ParseInt: parsing "{value}": invalid syntax') from None


def _invalid(reason: str, text: str) -> Exception:
    return invalid("meta.k8s.io", "DeleteOptions", "", [Cause(reason, text, "propagationPolicy")])


def other_uid(resource: Resource, record: Record, uid: str) -> StatusError:
    """Return the refusal to delete an object in the place of another one of its name."""
    why = f"the UID in the precondition ({uid}) does not match the UID in record ({record.uid})"
    return _not_meant(resource, record, f"{why}. The object might have been deleted and then recreated")


def _not_meant(resource: Resource, record: Record, why: str) -> StatusError:
    kind, name = resource.kind, record.key[1]
    text = f'Operation cannot be fulfilled on {qualified(kind, resource.group)} "{name}": {why}'
    return StatusError(409, "Conflict", text, group=resource.group, kind=kind, name=name)


class Deleting:
    """See the module."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @lasting
    async def delete(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions, by: UserInfo | Request
    ) -> Outcome:
        """Delete an object, or mark it.

        Args:
            resource: its kind.
            namespace: its namespace.
            name: its name.
            options: how.
            by: who wants it; or the request, which warnings and annotations go to.

        Raises:
            StatusError: there is none, it is not the one that was meant, or it may not be deleted.

        """
        if resource.storage == NAMESPACES and name in _KEPT_NAMESPACES:
            raise forbidden(resource, name, "this namespace may not be deleted")
        while True:
            record = self._core.store.head(resource.storage, (namespace, name))
            if record is None:
                raise not_found(resource, name)
            self._meant(resource, record, options)
            await self._core.admission.validate(self._request(resource, record, options, by))
            try:
                return await self._delete_once(record, options)
            except Changed:
                continue

    async def _delete_once(self, record: Record, options: DeleteOptions) -> Outcome:
        metadata = record.object["metadata"]
        finalizers = _finalizers(metadata.get("finalizers") or [], options.propagation)
        if record.storage == DEFINITIONS and not metadata.get("deletionTimestamp") and CLEANUP not in finalizers:
            finalizers = [*finalizers, CLEANUP]
        grace = _grace(record, options)
        holds = bool(finalizers) or (
            record.storage == NAMESPACES and bool((record.object.get("spec") or {}).get("finalizers"))
        )
        if not holds and not grace:
            # a pod ends by the way that others take with grace
            last = self._marked(record, finalizers, grace) if record.storage == PODS else record.object
            if options.dry_run:
                await self._core.store.settled(record)
                return Outcome(Record(record.storage, record.key, last, record.version), gone=True)
            return Outcome(await self._core.store.remove(record, last), gone=True)
        marked = self._marked(record, finalizers, grace)
        if marked == record.object or options.dry_run:
            await self._core.store.settled(record)
        if marked == record.object:
            return Outcome(record, gone=False)
        if options.dry_run:
            return Outcome(Record(record.storage, record.key, marked, record.version), gone=False)
        return Outcome(await self._core.store.put(record.storage, record.key, marked, record), gone=False)

    def _meant(self, resource: Resource, record: Record, options: DeleteOptions) -> None:
        if options.uid and options.uid != record.uid:
            raise other_uid(resource, record, options.uid)
        found = record.object["metadata"]["resourceVersion"]
        said = options.resource_version
        if said and said != found:
            why = f"the ResourceVersion in the precondition ({said}) does not match the ResourceVersion in record"
            raise _not_meant(resource, record, f"{why} ({found}). The object might have been modified")

    def _marked(self, record: Record, finalizers: list[str], grace: int) -> Object:
        """Return an object as one that is being deleted."""
        metadata = dict(record.object["metadata"])
        if finalizers:
            metadata["finalizers"] = finalizers
        else:
            metadata.pop("finalizers", None)
        before = metadata.get("deletionGracePeriodSeconds")
        if not metadata.get("deletionTimestamp"):
            until = self._core.clock.now() + dt.timedelta(seconds=grace)
            metadata["deletionTimestamp"] = clock.rfc3339(until)
            metadata["deletionGracePeriodSeconds"] = grace
            if metadata.get("generation"):
                metadata["generation"] += 1
        elif before is not None and grace < before:
            start = clock.parse_rfc3339(metadata["deletionTimestamp"]) - dt.timedelta(seconds=before)
            metadata["deletionTimestamp"] = clock.rfc3339(start + dt.timedelta(seconds=grace))
            metadata["deletionGracePeriodSeconds"] = grace
        marked = {**record.object, "metadata": metadata}
        if record.storage == NAMESPACES:
            marked["status"] = {**(marked.get("status") or {}), "phase": "Terminating"}
        return marked

    def _request(
        self, resource: Resource, record: Record, options: DeleteOptions, by: UserInfo | Request
    ) -> AdmissionRequest:
        said: Object = {"propagationPolicy": options.propagation} if options.propagation else {}
        if options.grace_period is not None:
            said["gracePeriodSeconds"] = options.grace_period
        if options.dry_run:
            said["dryRun"] = ["All"]
        old = decoded(resource, record)
        namespace, name = record.key[0], "" if options.collection else record.key[1]
        request = by if isinstance(by, Request) else Request("DELETE", "", user=by)
        return AdmissionRequest(
            "DELETE",
            resource,
            "",
            name,
            namespace,
            None,
            old,
            said,
            request.user,
            options.dry_run,
            request.warnings,
            request.audit,
        )


def _finalizers(present: list[str], propagation: str) -> list[str]:
    if not propagation:
        return present
    kept = [name for name in present if name not in {ORPHAN, FOREGROUND}]
    if propagation == "Orphan":
        return [*kept, ORPHAN]
    return [*kept, FOREGROUND] if propagation == "Foreground" else kept


def _grace(record: Record, options: DeleteOptions) -> int:
    """Return the seconds that a pod has to end; other objects have none."""
    if record.storage != PODS:
        return 0
    spec = record.object.get("spec") or {}
    if not spec.get("nodeName") or (record.object.get("status") or {}).get("phase") in _FINISHED:
        return 0
    grace = options.grace_period
    if grace is None:
        grace = int(spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE))
    if grace < 0:
        grace = 1
    before = record.object["metadata"].get("deletionGracePeriodSeconds")
    grace = min(grace, LONGEST_GRACE)
    return grace if before is None else min(grace, before)
