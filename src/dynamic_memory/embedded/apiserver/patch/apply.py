# SPDX-License-Identifier: Apache-2.0
"""Server-side apply: a manager says what it wants of an object, and no more.

What it says is merged into the object; what it said before and no longer says is removed unless somebody else owns it;
a field that somebody else owns and that would change is a conflict, unless it forces. The result is the same however
often it is applied. Objects that `kubectl apply` made on the client's side have their configuration in an annotation:
`kubectl` takes these fields over without conflict.

Source: KEP-555; k8s.io/apimachinery, pkg/util/managedfields; sigs.k8s.io/structured-merge-diff, merge.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.errors import Cause, StatusError, bad_request
from dynamic_memory.embedded.apiserver.patch import field_sets, managed_fields, typed
from dynamic_memory.embedded.apiserver.patch.field_sets import Fields
from dynamic_memory.embedded.apiserver.patch.managed_fields import Comparisons, Convert, Entry, Managers, Who
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema

__all__ = ["LAST_APPLIED", "apply"]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ANNOTATIONS_LIMIT = 256 * 1024


class _Conflicts(Exception):
    def __init__(self, found: Mapping[Who, Fields]) -> None:
        super().__init__()
        self.found = dict(found)


def apply(
    schema: Schema,
    live: dict[str, Any] | None,
    config: dict[str, Any],
    *,
    manager: str,
    force: bool = False,
    subresource: str | None = None,
    api_version: str,
    time: str,
    reset: Collection[tuple[str, ...]] = (),
    kind: str = "",
    convert: Convert | None = None,
) -> dict[str, Any]:
    """Return an object after a server-side apply, with its managedFields; defaults are the caller's.

    Args:
        schema: of the object.
        live: as it is stored, in the version of the request; None if there is none: the result is the new object.
        config: what the manager says.
        manager: its name.
        force: take over fields of others.
        subresource: that is written to, None for the object itself.
        api_version: of the request.
        time: now, RFC 3339 in seconds.
        reset: fields that this request cannot change, from `managed_fields.reset_fields`.
        kind: that is expected; empty if the caller has checked it.
        convert: gives the object in other versions; None where all versions have the same fields.

    Raises:
        StatusError: 409 a conflict with other managers; 400 another kind or version, or managedFields in the
            configuration; 500 (as Kubernetes has it) a configuration that does not fit the schema.

    """
    said = str(config.get("apiVersion") or "")
    if said != api_version or (kind and config.get("kind") != kind):
        raise bad_request(
            f"invalid object type: {said if '/' in said else '/' + said}, Kind={config.get('kind') or ''}"
        )
    metadata = config.get("metadata") or {}
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    _check(schema, config)
    try:
        stored = (live or {}).get("metadata", {}).get("managedFields")
        before = managed_fields.decode(stored, stored)
    except (ValueError, TypeError) as error:
        raise StatusError(500, "", f"failed to decode managed fields: {error}") from None
    old = managed_fields.stripped(live) if live is not None else {"apiVersion": said, "kind": config.get("kind")}
    writer = _Writer(
        schema,
        old,
        fresh=live is None,
        name=managed_fields.who(manager, "Apply", api_version, subresource),
        version=api_version,
        reset=field_sets.from_paths(reset),
        convert=convert,
    )
    if not before and live is not None:
        before = writer.before_first_apply(time)
    try:
        new, managers = writer.apply(config, before, force=force)
    except _Conflicts as conflicts:
        if manager != "kubectl":
            raise _conflict(conflicts.found) from None
        rest = _less(conflicts.found, writer.last_applied())
        if rest:
            raise _conflict(rest) from None
        new, managers = writer.apply(config, before, force=True)
    if new is not old and writer.name in managers:
        managers[writer.name] = Entry(managers[writer.name].fields, api_version, time)
    if manager == "kubectl":
        new = _with_last_applied(new, config)
    return managed_fields.stripped(new, managers)


def _check(schema: Schema, config: dict[str, Any]) -> None:
    try:
        typed.validate(schema, config)
    except typed.TypeProblem as problem:
        metadata = config.get("metadata")
        named = metadata if isinstance(metadata, dict) else {}
        what = f"{named.get('namespace') or ''}/{named.get('name') or ''}; {_kind(config)}"
        raise StatusError(500, "", f"failed to create typed patch object ({what}): {problem}") from None


def _kind(config: dict[str, Any]) -> str:
    version = str(config.get("apiVersion") or "")
    return f"{version if '/' in version else '/' + version}, Kind={config.get('kind') or ''}"


class _Writer:
    """One apply: what is there, and who writes."""

    def __init__(
        self,
        schema: Schema,
        live: dict[str, Any],
        *,
        fresh: bool,
        name: Who,
        version: str,
        reset: Fields,
        convert: Convert | None,
    ) -> None:
        self.schema = schema
        self.live = live
        self.fresh = fresh
        self.name = name
        self.version = version
        self.reset = reset
        self.convert = convert

    def _compared(self, old: dict[str, Any], new: dict[str, Any]) -> Comparisons:
        return Comparisons(self.schema, old, new, version=self.version, reset=self.reset, convert=self.convert)

    def before_first_apply(self, time: str) -> Managers:
        """Return an entry that owns all that is there: nobody had applied before, and nothing was recorded."""
        fields = managed_fields.own_changes(self._compared(typed.with_structs(self.schema), self.live))
        if not fields:
            return {}
        name = Who(managed_fields.BEFORE_FIRST_APPLY, "Update", self.version, self.name.subresource)
        return {name: Entry(fields, self.version, time)}

    def apply(self, config: dict[str, Any], before: Managers, *, force: bool) -> tuple[dict[str, Any], Managers]:
        """Return the new object, the live one itself if nothing changes, and the managers.

        Raises:
            _Conflicts: others own fields that would change.

        """
        named = typed.field_set(self.schema, config)
        said = managed_fields.strip(named)
        if self.reset:
            said = field_sets.without(said, self.reset)
        last = before.get(self.name)
        if last is not None and last.fields == said and last.version == self.version:
            ours = last
        else:
            ours = Entry(said, self.version, last.time if last else None)
        managers = {**before, self.name: ours}
        new = seen = typed.merge(self.schema, self.live, config)
        if last is not None and last is not ours:
            # name and namespace are nobody's, but said: they, and what they are in, stay
            new = seen = self._pruned(new, {**managers, self.name: ours._replace(fields=named)}, last)
            if self.schema.ref and new is not self.live:
                # Go's types leave out what is empty; until then it is there for those who own it
                new = typed.without_empty(self.live, new)
        if new is not self.live:
            old = typed.with_structs(self.schema) | self.live if self.fresh else self.live
            managers, conflicts = managed_fields.take_over(self._compared(old, seen), managers, self.name)
            if conflicts and not force:
                raise _Conflicts(conflicts)
        if not said:
            del managers[self.name]
        return new, managers

    def _pruned(self, merged: dict[str, Any], managers: Managers, last: Entry) -> dict[str, Any]:
        """Remove what the manager said last time and nobody says now."""
        convert = self.convert
        managed: dict[str, Fields] = {}
        for entry in managers.values():
            version = entry.version if convert is not None else self.version
            managed[version] = field_sets.union(managed.get(version, {}), entry.fields)
        if convert is None or managed.keys() <= {self.version} >= {last.version}:
            if not field_sets.difference(last.fields, managed[self.version]):
                return merged
            return _prune(self.schema, merged, managed[self.version], last.fields)
        there = convert(merged, last.version)
        if there is None:
            return merged
        schema, obj = there
        rest = _removed(schema, obj, _with_named(schema, last.fields))
        for version in sorted(managed, key=lambda version: version != last.version):
            seen, left = convert(obj, version), convert(rest, version)
            if seen is not None and left is not None:
                rest = _add_back(*seen, left[1], managed[version])
        back = convert(rest, last.version)
        left_over = obj if back is None else back[1]
        same = managed.get(last.version, {})
        pruned = convert(_without_dangling(schema, obj, left_over, same, last.fields), self.version)
        return merged if pruned is None else pruned[1]

    def last_applied(self) -> Fields:
        """Return the fields which `kubectl apply` set on the client's side and which still have these values."""
        text = ((self.live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
        try:
            config = json.loads(text or "")
        except (ValueError, TypeError):
            return {}
        if not isinstance(config, dict) or config.get("apiVersion") != self.version:
            return {}
        try:
            typed.validate(self.schema, config)
        except typed.TypeProblem:
            return {}
        found = typed.compare(self.schema, config, self.live)
        fields = typed.field_set(self.schema, config)
        for changed in (found.modified, found.added, found.removed):
            fields = field_sets.difference(fields, changed)
        return fields


def _prune(schema: Schema, merged: dict[str, Any], managed: Fields, last: Fields) -> dict[str, Any]:
    """Remove from an object what is in `last` unless it, or something in it, is managed."""
    rest = _removed(schema, merged, _with_named(schema, last))
    return _without_dangling(schema, merged, _add_back(schema, merged, rest, managed), managed, last)


def _removed(schema: Schema, obj: dict[str, Any], fields: Fields, kept: Fields | None = None) -> dict[str, Any]:
    result = typed.remove(schema, obj, fields, kept)
    return {} if result is MISSING else result


def _all(schema: Schema, obj: dict[str, Any]) -> Fields:
    return _with_named(schema, typed.field_set(schema, obj))


def _add_back(schema: Schema, merged: dict[str, Any], rest: dict[str, Any], managed: Fields) -> dict[str, Any]:
    """Return an object with what is left of it and what is managed."""
    kept = field_sets.union(_all(schema, rest), _with_named(schema, managed))
    return _removed(schema, merged, field_sets.difference(_all(schema, merged), kept), managed)


def _without_dangling(
    schema: Schema, merged: dict[str, Any], rest: dict[str, Any], managed: Fields, last: Fields
) -> dict[str, Any]:
    """Remove only what the manager had said of what is not left: what nobody owns stays."""
    missing = field_sets.difference(_all(schema, merged), _all(schema, rest))
    gone = field_sets.intersection(missing, _with_named(schema, last))
    return _removed(schema, merged, gone, managed) if gone else merged


def _with_named(schema: Schema | None, fields: Fields) -> Fields:
    """Add the named fields on the way to what is in a set."""
    result: Fields = {}
    for element, node in fields.items():
        if element == field_sets.MEMBER or not node:
            result[element] = node
            continue
        child: Schema | None = None
        named = False
        if schema is not None and element[:2] == "f:":
            name = element[2:]
            named = name in schema.properties
            child = schema.properties.get(name, schema.additional)
        elif schema is not None and element[:2] == "k:":
            child = schema.items
        inner = _with_named(child, node)
        result[element] = {field_sets.MEMBER: {}, **inner} if named else inner
    return result


def _less(conflicts: Mapping[Who, Fields], allowed: Fields) -> dict[Who, Fields]:
    rest = {name: field_sets.difference(fields, allowed) for name, fields in conflicts.items()}
    return {name: fields for name, fields in rest.items() if fields}


def _shown(name: Who) -> str:
    text = json.dumps(name.manager, ensure_ascii=False)
    if name.subresource:
        text = f"{text} with subresource {json.dumps(name.subresource)}"
    return text if name.applies else f"{text} using {name.version}"


def _conflict(conflicts: Mapping[Who, Fields]) -> StatusError:
    found = [(name, list(field_sets.members(conflicts[name]))) for name in sorted(conflicts)]
    causes = [
        Cause("FieldManagerConflict", f"conflict with {_shown(name)}", field_sets.path_text(path))
        for name, paths in found
        for path in paths
    ]
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    else:
        lines: list[str] = []
        for name, paths in found:
            lines.append(f"conflicts with {_shown(name)}:")
            lines += [f"- {field_sets.path_text(path)}" for path in paths]
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return StatusError(409, "Conflict", text, causes=causes)


def _with_last_applied(obj: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Keep the annotation of `kubectl apply` up to date, where an object has it."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if not annotations.get(LAST_APPLIED):
        return obj
    metadata = dict(config.get("metadata") or {})
    if isinstance(metadata.get("annotations"), dict):
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != LAST_APPLIED}
        if not metadata["annotations"]:
            del metadata["annotations"]
    text = json.dumps({**config, "metadata": metadata}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    changed = {**annotations, LAST_APPLIED: f"{text}\n"}
    if sum(len(k.encode()) + len(str(v).encode()) for k, v in changed.items()) > _ANNOTATIONS_LIMIT:
        del changed[LAST_APPLIED]
    if changed == annotations:
        return obj
    return {**obj, "metadata": {**obj["metadata"], "annotations": changed}}
