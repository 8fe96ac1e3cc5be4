# SPDX-License-Identifier: Apache-2.0
"""An API server in memory, for unit tests: a `Kube` whose objects are plain dicts.

What it does as the real one: resource versions, uids, generations; watches with history, selectors, bookmarks (one a
minute), time-outs and 410 (`expire`); server-side apply with one owner set a manager (see managed_fields.py); merge and
JSON patches; status as a subresource; preconditions on uid and resourceVersion; finalizers; dry run; claims refuse the
status of a device that is not allocated and drop it when the claim is deallocated; slices are limited in devices;
fields of a gate that is off are dropped in silence (`drop`).

What it does not: schemas, unknown fields, quantities in canonical form, admission, authorization, garbage collection.

The test's side is synchronous: `put`, `remove`, `body`, `bodies`, `expire`, `disconnect`, `fail`, `down`, `calls`,
`before`. Time is the event loop's, so it works in virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from tests.support import managed_fields

from dynamic_memory.api.wire import Kind
from dynamic_memory.kube.errors import AlreadyExists, ApiError, Conflict, Gone, Invalid, NotFound, Unavailable
from dynamic_memory.kube.interface import ObjectList, WatchEvent
from dynamic_memory.process import clock

__all__ = ["Call", "FakeKube", "merge_patch"]

T = TypeVar("T")
Key = tuple[str, str]

BOOKMARK_SECONDS = 60.0
SERVER_FIELDS = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields")
STATUS_KINDS = frozenset({"Pod", "Node", "ResourceClaim", "CertificateSigningRequest"})
SLICE_LIMIT, SLICE_LIMIT_TAINTED = 128, 64


class Call(NamedTuple):
    """One call of the code under test."""

    verb: str
    kind: str
    name: str
    subresource: str | None = None
    body: Any = None


class _Entry:
    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.owners: managed_fields.Owners = {}


class _Record(NamedTuple):
    version: int
    kind: str
    type: str
    body: dict[str, Any]
    old: dict[str, Any] | None


class FakeKube:
    """See the module; `history` is how many changes a watch can go back."""

    def __init__(self, *, history: int = 10_000, server: tuple[int, int] = (1, 36)) -> None:
        self.version = 1
        self.down = False
        """Every call fails, open watches break."""
        self.calls: list[Call] = []
        self.before: Callable[[Call], Awaitable[None] | None] = lambda _: None
        """Called with each call before it takes effect; may raise, or return something to wait for."""
        self.drop: set[str] = set()
        """Names of device fields that the server does not store, as if their gate were off."""
        self.raw: dict[str, Any] = {
            "/version": {"major": str(server[0]), "minor": str(server[1]), "gitVersion": f"v{server[0]}.{server[1]}.0"},
            "/apis/resource.k8s.io/v1": {
                "resources": [{"name": n} for n in ("resourceclaims", "resourceslices", "deviceclasses")]
            },
        }
        """Answers to `get_raw`, and to `create_raw` if a callable of the body."""
        self._entries: dict[str, dict[Key, _Entry]] = {}
        self._log: list[_Record] = []
        self._history = history
        self._oldest = 1
        self._failures: list[tuple[ApiError, str | None, str | None]] = []
        self._watches: set[asyncio.Event] = set()
        self._cuts = 0
        self.closed = False

    # --- the test's side

    def put(self, kind: Kind[Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object or replace it as a whole, status included; return it as stored."""
        fresh = copy.deepcopy(dict(body))
        entry = self._entry(kind, fresh["metadata"]["name"], fresh["metadata"].get("namespace", ""))
        if entry is not None:
            kept = {field: entry.body["metadata"][field] for field in ("uid", "creationTimestamp")}
            fresh["metadata"] = kept | fresh["metadata"]
        return self._store(kind, fresh, ("somebody", "Update", ""))

    def remove(self, kind: Kind[Any], name: str, namespace: str = "") -> None:
        """Take an object away at once, finalizers or not."""
        self._drop(kind, (namespace, name))

    def body(self, kind: Kind[Any], name: str, namespace: str = "") -> dict[str, Any] | None:
        """Return a copy of an object, or None."""
        entry = self._entry(kind, name, namespace)
        return copy.deepcopy(entry.body) if entry else None

    def bodies(self, kind: Kind[Any]) -> list[dict[str, Any]]:
        """Return copies of all objects of a kind, by namespace and name."""
        return [copy.deepcopy(entry.body) for _, entry in sorted(self._entries.get(str(kind), {}).items())]

    def owners(self, kind: Kind[Any], name: str, namespace: str = "") -> dict[str, set[Any]]:
        """Return the paths that each manager owns."""
        entry = self._entry(kind, name, namespace)
        found: dict[str, set[Any]] = {}
        for (manager, _, _), paths in (entry.owners if entry else {}).items():
            found[manager] = found.get(manager, set()) | paths
        return found

    def expire(self) -> None:
        """Forget the history: a watch from any earlier version gets 410, open watches too."""
        self.version += 1
        self._log.clear()
        self._oldest = self.version
        self._wake()

    def disconnect(self) -> None:
        """Break all open watches, as a lost connection does."""
        self._cuts += 1
        self._wake()

    def fail(self, error: ApiError, *, verb: str | None = None, kind: Kind[Any] | None = None, times: int = 1) -> None:
        """Answer the next calls of a verb and kind (None = any) with an error."""
        self._failures += [(error, verb, None if kind is None else str(kind))] * times

    def count(self, verb: str, kind: Kind[Any] | None = None) -> int:
        """Return how often a verb was called."""
        return sum(call.verb == verb and (kind is None or call.kind == str(kind)) for call in self.calls)

    # --- Kube

    async def get(self, kind: Kind[T], name: str, namespace: str | None = None) -> T:
        await self._called("get", kind, name)
        return _decode(kind, self._need(kind, name, namespace).body)

    async def list(
        self,
        kind: Kind[T],
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        consistent: bool = True,
    ) -> ObjectList[T]:
        await self._called("list", kind, "", body={"consistent": consistent})
        wanted = _selector(namespace, labels, fields)
        items = [_decode(kind, body) for body in self.bodies(kind) if wanted(body)]
        return ObjectList(items, str(self.version))

    async def watch(
        self,
        kind: Kind[T],
        *,
        resource_version: str,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        timeout: float,
    ) -> AsyncIterator[WatchEvent[T]]:
        await self._called("watch", kind, "")
        wanted = _selector(namespace, labels, fields)
        seen, cuts, end = int(resource_version), self._cuts, clock.monotonic() + timeout
        wake = asyncio.Event()
        self._watches.add(wake)
        try:
            while True:
                wake.clear()
                if self.down or self._cuts != cuts:
                    raise Unavailable(0, "Unreachable", "the connection was lost")
                if seen < self._oldest:
                    raise Gone(410, "Expired", f"too old resource version: {seen} ({self._oldest})")
                # what is put while the reader works on an event comes in the next round
                news, now = [record for record in self._log if record.version > seen], self.version
                for record in news:
                    seen = record.version
                    event = _event(record, wanted) if record.kind == str(kind) else None
                    if event is not None:
                        yield WatchEvent(event, _decode(kind, record.body), str(record.version))
                seen = max(seen, now)
                rest = end - clock.monotonic()
                if rest < 0.001:
                    return
                try:
                    async with asyncio.timeout(min(BOOKMARK_SECONDS, rest)):
                        await wake.wait()
                except TimeoutError:
                    if end - clock.monotonic() > 0.001:
                        yield WatchEvent("BOOKMARK", None, str(seen))
        finally:
            self._watches.discard(wake)

    async def create(
        self, kind: Kind[T], body: Mapping[str, Any], *, namespace: str | None = None, dry_run: bool = False
    ) -> T:
        fresh = copy.deepcopy(dict(body))
        meta = fresh["metadata"] = dict(fresh.get("metadata", {}))
        if not meta.get("name"):
            meta["name"] = f"{meta.pop('generateName')}{uuid.uuid4().hex[:5]}"
        await self._called("create", kind, meta["name"], body=body)
        if kind.namespaced:
            meta["namespace"] = namespace or meta.get("namespace", "")
        if self._entry(kind, meta["name"], meta.get("namespace", "")):
            raise AlreadyExists(409, "AlreadyExists", f"{kind} {meta['name']!r} already exists")
        if kind.kind in STATUS_KINDS:
            fresh.pop("status", None)
        for field in SERVER_FIELDS:
            meta.pop(field, None)
        return _decode(kind, self._store(kind, fresh, ("unknown", "Update", ""), dry_run=dry_run))

    async def apply(
        self,
        kind: Kind[T],
        body: Mapping[str, Any],
        *,
        manager: str,
        subresource: str | None = None,
        force: bool = True,
        dry_run: bool = False,
    ) -> T:
        meta = body["metadata"]
        await self._called("apply", kind, meta["name"], subresource, body)
        entry = self._entry(kind, meta["name"], meta.get("namespace", ""))
        if entry is None and subresource:
            raise NotFound(404, "NotFound", f"{kind} {meta['name']!r} not found")
        if entry is None and "uid" in meta:
            raise Conflict(409, "Conflict", "uid mismatch: no existing object was found")
        before = entry.body if entry else {}
        _same_object(meta, before)
        owners = copy.deepcopy(entry.owners) if entry else {}
        try:
            after = managed_fields.apply(
                before, _applied(kind, body, subresource), owners, (manager, "Apply", subresource or ""), force=force
            )
        except managed_fields.Taken as error:
            raise Conflict(409, "Conflict", f"Apply failed: {error}") from error
        if not before:
            after["metadata"] = {k: v for k, v in meta.items() if k not in SERVER_FIELDS} | after.get("metadata", {})
        return _decode(kind, self._store(kind, after, None, owners=owners, dry_run=dry_run))

    async def patch(
        self,
        kind: Kind[T],
        name: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        namespace: str | None = None,
        style: str = "merge",
        subresource: str | None = None,
        manager: str | None = None,
        dry_run: bool = False,
    ) -> T:
        await self._called("patch", kind, name, subresource, body)
        before = self._need(kind, name, namespace).body
        if isinstance(body, Mapping):
            if style == "json":
                raise ApiError(400, "BadRequest", "a JSON patch is a list")
            _same_object(body.get("metadata", {}), before)
            after = merge_patch(before, {k: v for k, v in body.items() if k not in {"apiVersion", "kind"}})
        else:
            after = _json_patch(before, body)
        after = _limited(kind, before, after, subresource)
        return _decode(
            kind, self._store(kind, after, (manager or "unknown", "Update", subresource or ""), dry_run=dry_run)
        )

    async def replace(
        self,
        kind: Kind[T],
        name: str,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> T:
        await self._called("replace", kind, name, subresource, body)
        before = self._need(kind, name, namespace).body
        _same_object(body.get("metadata", {}), before)
        after = _limited(kind, before, copy.deepcopy(dict(body)), subresource)
        return _decode(kind, self._store(kind, after, ("unknown", "Update", subresource or "")))

    async def delete(
        self,
        kind: Kind[Any],
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_period: int | None = None,
    ) -> None:
        await self._called("delete", kind, name, body={"gracePeriodSeconds": grace_period})
        entry = self._need(kind, name, namespace)
        _preconditions({"uid": uid, "resourceVersion": resource_version}, entry.body)
        if entry.body["metadata"].get("finalizers"):
            body = copy.deepcopy(entry.body)
            body["metadata"].setdefault("deletionTimestamp", clock.rfc3339(clock.now()))
            self._store(kind, body, None, owners=entry.owners)
        else:
            self._drop(kind, (namespace or "", name))

    async def get_raw(self, path: str) -> bytes:
        await self._called("get_raw", None, path)
        return self._answer(path, None)

    async def create_raw(self, path: str, body: Mapping[str, Any]) -> bytes:
        await self._called("create_raw", None, path, body=body)
        return self._answer(path, body)

    async def close(self) -> None:
        self.closed = True

    # --- inside

    def _answer(self, path: str, body: Any) -> bytes:
        if path not in self.raw:
            raise NotFound(404, "NotFound", f"the server could not find {path}")
        answer = self.raw[path]
        return json.dumps(answer(body) if callable(answer) else answer).encode()

    async def _called(
        self, verb: str, kind: Kind[Any] | None, name: str, subresource: str | None = None, body: Any = None
    ) -> None:
        call = Call(verb, "" if kind is None else str(kind), name, subresource, copy.deepcopy(body))
        self.calls.append(call)
        waiting = self.before(call)
        if waiting is not None:
            await waiting
        if self.down:
            raise Unavailable(0, "Unreachable", "the API server does not answer")
        for number, (error, wanted_verb, wanted_kind) in enumerate(self._failures):
            if wanted_verb in {None, verb} and wanted_kind in {None, call.kind}:
                del self._failures[number]
                raise error

    def _entry(self, kind: Kind[Any], name: str, namespace: str | None) -> _Entry | None:
        return self._entries.get(str(kind), {}).get((namespace or "", name))

    def _need(self, kind: Kind[Any], name: str, namespace: str | None) -> _Entry:
        entry = self._entry(kind, name, namespace)
        if entry is None:
            raise NotFound(404, "NotFound", f"{kind} {name!r} not found")
        return entry

    def _store(
        self,
        kind: Kind[Any],
        body: dict[str, Any],
        who: tuple[str, str, str] | None,
        *,
        owners: managed_fields.Owners | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        meta = body["metadata"]
        key = (meta.get("namespace") or "", meta["name"])
        entries = self._entries.setdefault(str(kind), {})
        old = entries.get(key)
        before = old.body if old else {}
        body["apiVersion"], body["kind"] = kind.api_version, kind.kind
        for field in ("uid", "creationTimestamp", "generation", "resourceVersion"):
            if field in before.get("metadata", {}):
                # only `put` gives a uid of its own: the object was deleted and made anew
                meta[field] = (
                    meta.get(field, before["metadata"][field]) if field == "uid" else before["metadata"][field]
                )
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", clock.rfc3339(clock.now()))
        if kind.kind == "ResourceSlice":
            self._check_slice(body)
        if kind.kind == "ResourceClaim":
            _check_claim(before, body)
        if before.get("spec") != body.get("spec"):
            meta["generation"] = before.get("metadata", {}).get("generation", 0) + 1
        if before == body or dry_run:
            return copy.deepcopy(body)  # an update that changes nothing makes no event, as in etcd3 storage
        owned = owners if owners is not None else copy.deepcopy(old.owners) if old else {}
        if who is not None:
            managed_fields.note_update(_unserved(before), _unserved(body), owned, who)
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        entry = _Entry(copy.deepcopy(body))
        entry.owners = owned
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            entries[key] = entry
            self._drop(kind, key)
            return body
        entries[key] = entry
        self._tell(str(kind), "MODIFIED" if old else "ADDED", body, before or None)
        return copy.deepcopy(body)

    def _drop(self, kind: Kind[Any], key: Key) -> None:
        old = self._entries[str(kind)].pop(key).body
        self.version += 1
        last = copy.deepcopy(old)
        last["metadata"]["resourceVersion"] = str(self.version)
        self._tell(str(kind), "DELETED", last, old)

    def _tell(self, kind: str, type_: str, body: dict[str, Any], old: dict[str, Any] | None) -> None:
        self._log.append(_Record(self.version, kind, type_, copy.deepcopy(body), copy.deepcopy(old)))
        if len(self._log) > self._history:
            self._oldest = self._log.pop(0).version
        self._wake()

    def _wake(self) -> None:
        for event in self._watches:
            event.set()

    def _check_slice(self, body: dict[str, Any]) -> None:
        devices = body["spec"].get("devices", [])
        for device in devices:
            for field in self.drop:
                device.pop(field, None)
        limit = SLICE_LIMIT_TAINTED if any(device.get("taints") for device in devices) else SLICE_LIMIT
        if len(devices) > limit:
            raise Invalid(422, "Invalid", f"spec.devices: Too many: {len(devices)}: must have at most {limit} items")


def _decode(kind: Kind[T], body: Mapping[str, Any]) -> T:
    return msgspec.convert(copy.deepcopy(body), kind.type)


def _unserved(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without what the server itself writes: nobody owns that."""
    meta = {k: v for k, v in body.get("metadata", {}).items() if k not in {*SERVER_FIELDS, "name", "namespace"}}
    rest = {k: v for k, v in body.items() if k not in {"apiVersion", "kind", "metadata"}}
    return {**rest, "metadata": meta} if meta else rest


def _applied(kind: Kind[Any], body: Mapping[str, Any], subresource: str | None) -> dict[str, Any]:
    whole = _unserved(body)
    if subresource:
        return {"status": whole["status"]} if "status" in whole else {}
    if kind.kind in STATUS_KINDS:
        whole.pop("status", None)
    return whole


def _limited(
    kind: Kind[Any], before: Mapping[str, Any], after: dict[str, Any], subresource: str | None
) -> dict[str, Any]:
    """Keep a write to its side of the object: the status, or everything else."""
    if subresource:
        return {**copy.deepcopy(dict(before)), "status": after.get("status", {})}
    if kind.kind in STATUS_KINDS:
        after.pop("status", None)
        if "status" in before:
            after["status"] = copy.deepcopy(before["status"])
    return after


def _same_object(meta: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Check uid and resourceVersion in the body of a write: the first one is a matter of validation."""
    there = before.get("metadata", {})
    if there and meta.get("uid", there["uid"]) != there["uid"]:
        raise Invalid(422, "Invalid", f'metadata.uid: Invalid value: "{meta["uid"]}": field is immutable')
    if meta.get("resourceVersion") not in {None, there.get("resourceVersion")}:
        raise Conflict(409, "Conflict", "the object has been modified")


def _preconditions(wanted: Mapping[str, str | None], before: Mapping[str, Any]) -> None:
    """Check the preconditions of a delete."""
    for field, value in wanted.items():
        there = before["metadata"][field]
        if value not in {None, there}:
            raise Conflict(409, "Conflict", f"the {field} in the precondition ({value}) is not {there}")


def _identity(item: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in managed_fields.SHARE_KEYS)


def _check_claim(before: Mapping[str, Any], body: dict[str, Any]) -> None:
    status = body.get("status") or {}
    results = ((status.get("allocation") or {}).get("devices") or {}).get("results", [])
    allocated = {_identity(result) for result in results}
    known = {_identity(device) for device in (before.get("status") or {}).get("devices", [])}
    kept = []
    for number, device in enumerate(status.get("devices", [])):
        if _identity(device) in allocated:
            kept.append(device)
        elif _identity(device) not in known:
            path = f"status.devices[{number}]"
            raise Invalid(422, "Invalid", f"{path}: Invalid value: must be an allocated device in the claim")
        for condition in device.get("conditions", []):
            for field in ("reason", "lastTransitionTime"):
                if not condition.get(field):
                    raise Invalid(422, "Invalid", f"status.devices[{number}].conditions: {field}: Required value")
    if "devices" in status:
        status["devices"] = kept


def _event(record: _Record, wanted: Callable[[Mapping[str, Any]], bool]) -> str | None:
    """Return the type of event as a watch with a selector sees the change."""
    now = record.type != "DELETED" and wanted(record.body)
    was = record.old is not None and wanted(record.old)
    return {(True, True): "MODIFIED", (True, False): "ADDED", (False, True): "DELETED"}.get((now, was))


def _selector(namespace: str | None, labels: str | None, fields: str | None) -> Callable[[Mapping[str, Any]], bool]:
    def field(body: Mapping[str, Any], path: str) -> str:
        value: Any = body
        for step in path.split("."):
            value = value.get(step, {}) if isinstance(value, Mapping) else {}
        return "" if value == {} else str(value)

    def matches(body: Mapping[str, Any]) -> bool:
        meta = body["metadata"]
        if namespace and meta.get("namespace", "") != namespace:
            return False
        own = meta.get("labels", {})
        return all(_term(term, own.get) for term in _terms(labels)) and all(
            _term(term, lambda path: field(body, path)) for term in _terms(fields)
        )

    return matches


def _terms(text: str | None) -> list[str]:
    return [term for term in (text or "").split(",") if term]


def _term(term: str, value: Callable[[str], str | None]) -> bool:
    if "!=" in term:
        name, _, wanted = term.partition("!=")
        return value(name) != wanted
    if "=" in term:
        name, _, wanted = term.partition("=")
        return value(name) == wanted.removeprefix("=")
    return value(term) is not None if not term.startswith("!") else value(term[1:]) is None


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` after a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = copy.deepcopy(dict(target)) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _json_patch(target: Mapping[str, Any], operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return `target` after a JSON patch (RFC 6902) of add, remove, replace and test."""
    result = copy.deepcopy(dict(target))
    for operation in operations:
        *steps, last = [
            step.replace("~1", "/").replace("~0", "~") for step in operation["path"].removeprefix("/").split("/")
        ]
        where: Any = result
        try:
            for step in steps:
                where = where[int(step)] if isinstance(where, list) else where[step]
            _operate(where, last, operation)
        except (KeyError, IndexError, ValueError) as error:
            raise Invalid(422, "Invalid", f"the patch does not fit at {operation['path']}: {error!r}") from error
    return result


def _operate(where: Any, last: str, operation: Mapping[str, Any]) -> None:
    verb = operation["op"]
    place: Any = last
    if isinstance(where, list):
        place = len(where) if last == "-" else int(last)
    if verb == "test":
        if where[place] != operation["value"]:
            raise ValueError("test failed")
    elif verb == "remove":
        del where[place]
    elif verb == "add" and isinstance(where, list):
        where.insert(place, copy.deepcopy(operation["value"]))
    else:
        if verb == "replace":
            with contextlib.suppress(TypeError):
                where[place]  # must be there
        where[place] = copy.deepcopy(operation["value"])
