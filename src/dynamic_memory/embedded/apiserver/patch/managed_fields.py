# SPDX-License-Identifier: Apache-2.0
"""Who owns which field: `metadata.managedFields`, kept up to date with every write.

An entry stands for a manager, an operation (Apply or Update), a subresource and, for updates, an API version; it has a
time and a set of fields. An update takes over what it changes; what is gone belongs to nobody. `metadata` fields of the
server itself are owned by nobody. A client that sends an empty list, or a list of one empty entry, takes the record
away; one that sends none leaves it. More than 10 updaters become one, `ancient-changes`.

Source: KEP-555; k8s.io/apimachinery, pkg/util/managedfields.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from dynamic_memory.embedded.apiserver.patch import field_sets, typed
from dynamic_memory.embedded.apiserver.patch.field_sets import Fields
from dynamic_memory.embedded.apiserver.schema import Schema

__all__ = [
    "Convert",
    "Entry",
    "Managers",
    "Who",
    "decode",
    "encode",
    "reset_fields",
    "settle",
    "strip",
    "take_over",
    "update",
]

UPDATERS = 10
BEFORE_FIRST_APPLY = "before-first-apply"
_ANCIENT = "ancient-changes"

Convert = Callable[[dict[str, Any], str], tuple[Schema, dict[str, Any]] | None]
"""Gives an object in another apiVersion, with the schema there; None if there is no such version."""
ResetPath = tuple[str, ...]


class Who(NamedTuple):
    """Names an entry; the version of an Apply is not part of its name."""

    manager: str
    operation: str
    version: str
    subresource: str

    @property
    def applies(self) -> bool:
        """Whether the entry is of an Apply."""
        return self.operation == "Apply"


class Entry(NamedTuple):
    """What an entry holds."""

    fields: Fields
    version: str
    time: str | None
    stored: dict[str, Any] | None = None
    """The entry as it is stored, while nothing of it has changed."""


Managers = dict[Who, Entry]

_SERVERS = frozenset(
    f"f:{name}"
    for name in (
        "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
        "resourceVersion",
    )
)  # fmt: skip
"""Fields of metadata that nobody owns."""


def strip(fields: Fields) -> Fields:
    """Return a set without the fields that nobody owns."""
    result = {element: node for element, node in fields.items() if element not in {"f:apiVersion", "f:kind"}}
    metadata = result.pop("f:metadata", None)
    if metadata:
        rest = {k: v for k, v in metadata.items() if k not in _SERVERS and k != field_sets.MEMBER}
        if rest:
            result["f:metadata"] = rest
    return result


def who(manager: str, operation: str, version: str, subresource: str | None) -> Who:
    """Name an entry."""
    return Who(manager or "unknown", operation, "" if operation == "Apply" else version, subresource or "")


def decode(entries: Any, known: Any = None) -> Managers:
    """Read managedFields.

    Args:
        entries: the list.
        known: a list of our own making; entries that are in it too need no check.

    Raises:
        ValueError: they are no managedFields.

    """
    managers: Managers = {}
    ours = known if isinstance(known, list) else []
    for number, entry in enumerate(entries or ()):
        if not isinstance(entry, Mapping) or entry.get("operation") not in {"Apply", "Update"}:
            raise ValueError("operation must be `Apply` or `Update`")
        version = entry.get("apiVersion") or ""
        if not version:
            raise ValueError("apiVersion must not be empty")
        kind = entry.get("fieldsType") or ""
        if kind != "FieldsV1":
            what = f'invalid fieldsType "{kind}"' if kind else "missing fieldsType"
            raise ValueError(f"{what} in managed fields entry {number}")
        fields = entry.get("fieldsV1") or {}
        if entries is not known and entry not in ours:
            fields = field_sets.canonical(fields)
        name = Who(
            entry.get("manager") or "",
            entry["operation"],
            "" if entry["operation"] == "Apply" else version,
            entry.get("subresource") or "",
        )
        kept = dict(entry) if fields is entry.get("fieldsV1") else None
        managers[name] = Entry(fields, version, entry.get("time"), kept)
    return managers


def encode(managers: Managers) -> list[dict[str, Any]]:
    """Write managedFields: applies first, each kind by time."""
    found = []
    for name, entry in sorted(
        managers.items(), key=lambda item: (item[0].operation, item[1].time or "", item[0].manager, item[1].version,
                                            item[0].subresource)
    ):  # fmt: skip
        if entry.stored is not None:
            found.append(entry.stored)
            continue
        shown: dict[str, Any] = {"manager": name.manager, "operation": name.operation, "apiVersion": entry.version}
        if entry.time is not None:
            shown["time"] = entry.time
        shown["fieldsType"] = "FieldsV1"
        shown["fieldsV1"] = field_sets.ordered(entry.fields)
        if name.subresource:
            shown["subresource"] = name.subresource
        found.append(shown)
    return found


def reset_fields(
    group: str, kind: str, subresource: str | None, *, has_status: bool, builtin: bool = True
) -> Collection[ResetPath]:
    """Return the fields that a write to this resource cannot change, so that nobody comes to own them by it."""
    if subresource == "status":
        special = _RESET_BY_STATUS.get((group, kind))
        if special is not None:
            return special
        return (("spec",),) if builtin else (("metadata",), ("spec",))
    if subresource in _RESET_BY_OTHERS:
        return _RESET_BY_OTHERS[subresource]
    if (group, kind) == ("certificates.k8s.io", "CertificateSigningRequest"):
        return (("spec",), ("status",))
    return (("status",),) if has_status and not subresource else ()


_METADATA_AND_SPEC: Collection[ResetPath] = (("metadata",), ("spec",))
_RESET_BY_STATUS: dict[tuple[str, str], Collection[ResetPath]] = {
    ("", "Pod"): (("spec",), ("metadata", "deletionTimestamp"), ("metadata", "ownerReferences")),
    ("apps", "Deployment"): (("spec",), ("metadata", "labels")),
    ("certificates.k8s.io", "CertificateSigningRequest"): (("spec",), ("status", "conditions")),
    ("networking.k8s.io", "ServiceCIDR"): _METADATA_AND_SPEC,
    ("resource.k8s.io", "DeviceTaintRule"): _METADATA_AND_SPEC,
    ("resource.k8s.io", "ResourceClaim"): _METADATA_AND_SPEC,
    ("storage.k8s.io", "CSINode"): _METADATA_AND_SPEC,
    ("storage.k8s.io", "VolumeAttachment"): _METADATA_AND_SPEC,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _METADATA_AND_SPEC,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): _METADATA_AND_SPEC,
}
_RESET_BY_OTHERS: dict[str | None, Collection[ResetPath]] = {
    "approval": (("spec",), ("status", "certificate")),
    "resize": (("status",), ("metadata", "deletionTimestamp"), ("metadata", "ownerReferences")),
}


def _is_reset(entries: Any) -> bool:
    """Tell whether a client takes the record away."""
    return isinstance(entries, list) and (not entries or (len(entries) == 1 and not entries[0]))


def _live_or_new(live: Mapping[str, Any], new: Mapping[str, Any], *, from_live: bool) -> Managers:
    stored = live.get("metadata", {}).get("managedFields")
    sent = new.get("metadata", {}).get("managedFields")
    if not from_live:
        if _is_reset(sent):
            return {}
        try:
            if sent:
                return decode(sent, stored)
        except (ValueError, TypeError, AttributeError):
            pass
    try:
        return decode(stored, stored)
    except (ValueError, TypeError):
        return {}


def stripped(obj: dict[str, Any], managers: Managers | None = None) -> dict[str, Any]:
    """Return an object with other managedFields, or with none."""
    metadata = obj.get("metadata") or {}
    entries = encode(managers) if managers else None
    if entries is None and "managedFields" not in metadata:
        return obj
    changed = dict(metadata)
    changed.pop("managedFields", None)
    if entries is not None:
        changed["managedFields"] = entries
    return {**obj, "metadata": changed}


def take_over(
    comparisons: Callable[[str], typed.Comparison | None], managers: Managers, but: Who | None
) -> tuple[Managers, dict[Who, Fields]]:
    """Take from all managers but one what a write changes; return what is left and what was taken by conflict.

    Args:
        comparisons: gives what the write changes, as a version of the API sees it; None: there is no such version.
        managers: as they were.
        but: who writes.

    """
    left: Managers = {}
    conflicts: dict[Who, Fields] = {}
    for name, entry in managers.items():
        if name == but:
            left[name] = entry
            continue
        found = comparisons(entry.version)
        if found is None:
            continue
        fields = entry.fields
        if found.added or found.modified:
            taken = field_sets.intersection(fields, field_sets.union(found.modified, found.added))
            if taken:
                conflicts[name] = taken
                fields = field_sets.difference(fields, taken)
        if found.removed:
            fields = field_sets.difference(fields, found.removed)
        if fields:
            left[name] = entry if fields is entry.fields else Entry(fields, entry.version, entry.time)
    return left, conflicts


class Comparisons:
    """What a write changes, in the eyes of each version of the API: a callable for `take_over`."""

    def __init__(
        self,
        schema: Schema,
        old: dict[str, Any],
        new: dict[str, Any],
        *,
        version: str,
        reset: Fields,
        convert: Convert | None,
    ) -> None:
        self._old = old
        self._new = new
        self._convert = convert
        self._reset = reset
        self.own = self._filtered(typed.compare(schema, old, new))
        self._by_version: dict[str, typed.Comparison | None] = {version: self.own}

    def _filtered(self, found: typed.Comparison) -> typed.Comparison:
        if self._reset:
            found.added = field_sets.without(found.added, self._reset)
            found.modified = field_sets.without(found.modified, self._reset)
            found.removed = field_sets.without(found.removed, self._reset)
        return found

    def __call__(self, version: str) -> typed.Comparison | None:
        if self._convert is None:
            return self.own
        if version not in self._by_version:
            old, new = self._convert(self._old, version), self._convert(self._new, version)
            self._by_version[version] = (
                None if old is None or new is None else self._filtered(typed.compare(new[0], old[1], new[1]))
            )
        return self._by_version[version]


def own_changes(comparisons: Comparisons) -> Fields:
    """Return the fields that a write comes to own."""
    found = field_sets.union(comparisons.own.modified, comparisons.own.added)
    return strip(found)


def update(
    schema: Schema,
    live: dict[str, Any] | None,
    new: dict[str, Any],
    *,
    manager: str,
    subresource: str | None,
    api_version: str,
    time: str,
    reset: Collection[ResetPath] = (),
    convert: Convert | None = None,
) -> dict[str, Any]:
    """Return an object as a create, update or patch made it, with its managedFields.

    Args:
        schema: of the object.
        live: as it is stored, in the version of the request; None on create.
        new: as it shall be stored, defaults included; its managedFields are what the client sent.
        manager: who writes; empty means unknown.
        subresource: that is written to, None for the object itself.
        api_version: of the request.
        time: now, RFC 3339 in seconds.
        reset: fields that this request cannot change, from `reset_fields`.
        convert: gives the object in other versions; None where all versions have the same fields.

    """
    before = live or {}
    managers = _live_or_new(before, new, from_live=bool(subresource))
    new = stripped(new)
    if not managers and before.get("metadata", {}).get("uid"):
        return new
    old = typed.with_structs(schema) if live is None else stripped(before)
    comparisons = Comparisons(
        schema, old, new, version=api_version, reset=field_sets.from_paths(reset), convert=convert
    )
    managers, _ = take_over(comparisons, managers, None)
    changed = own_changes(comparisons)
    if changed:
        name = who(manager, "Update", api_version, subresource)
        previous = managers.get(name)
        fields = changed if previous is None else field_sets.union(changed, previous.fields)
        managers[name] = Entry(fields, api_version, time)
    return stripped(new, _capped(managers))


def _capped(managers: Managers) -> Managers:
    if len(managers) <= UPDATERS:
        return managers
    updaters = sorted(
        (name for name in managers if not name.applies), key=lambda name: (managers[name].time or "", name)
    )
    excess = len(updaters) - UPDATERS
    first: dict[str, Who] = {}
    for name in updaters:
        if excess <= 0:
            break
        entry = managers[name]
        if entry.version not in first:
            first[entry.version] = name
            continue
        bucket = Who(_ANCIENT, "Update", entry.version, "")
        if bucket not in managers:
            managers[bucket] = managers.pop(first[entry.version])
        fields = field_sets.union(entry.fields, managers[bucket].fields)
        if name != bucket:
            del managers[name]
        managers[bucket] = Entry(fields, entry.version, entry.time)
        excess -= 1
    return managers


def settle(live: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return an object with the times of its managedFields as they were if nothing but them has changed.

    To be called last, after defaults and admission: a write that changes nothing is no new version.
    """
    entries, before = new.get("metadata", {}).get("managedFields"), live.get("metadata", {}).get("managedFields")
    if not entries or not before or len(entries) != len(before) or entries == before:
        return new
    if any(
        {k: v for k, v in one.items() if k != "time"} != {k: v for k, v in other.items() if k != "time"}
        for one, other in zip(entries, before, strict=True)
    ):
        by_name = {_name(entry): entry for entry in before}
        if any(
            _name(entry) not in by_name or entry.get("fieldsV1") != by_name[_name(entry)].get("fieldsV1")
            for entry in entries
        ):
            return new
    same = {**new, "metadata": {**new["metadata"], "managedFields": before}}
    return same if same == live else new


def _name(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(entry.get(name) for name in ("manager", "operation", "apiVersion", "subresource"))
