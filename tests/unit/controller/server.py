# SPDX-License-Identifier: Apache-2.0
"""A `Kube` in memory, with what the controller leans on: watches, server-side apply with owners of fields, merge patch.

Lists are values to server-side apply, as they are in the objects that are written here.
"""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from dynamic_memory.api.wire import Kind
from dynamic_memory.kube.errors import AlreadyExists, Conflict, NotFound, Unavailable
from dynamic_memory.kube.interface import ObjectList, WatchEvent

__all__ = ["Server"]

Key = tuple[str, str, str]
Path = tuple[str, ...]


class Server:
    """Objects by (plural, namespace, name). `down` makes every call fail; `username` and `node` are the caller's."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.owned: dict[Key, dict[str, set[Path]]] = {}
        self.version = 0
        self.queues: list[tuple[str, asyncio.Queue[tuple[str, dict[str, Any]]]]] = []
        self.down = False
        self.username, self.node = "", ""
        self.calls: list[tuple[str, str, str]] = []
        self.before: Callable[[str, str, str], None] = lambda *_: None

    def put(self, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create or replace an object, as somebody else."""
        body = copy.deepcopy(body)
        meta = body.setdefault("metadata", {})
        key = (plural, meta.get("namespace", ""), meta["name"])
        old = self.objects.get(key)
        meta.setdefault("uid", old["metadata"]["uid"] if old else str(uuid.uuid4()))
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self.objects[key] = body
        self._tell(plural, "MODIFIED" if old else "ADDED", body)
        return body

    def change(self, plural: str, name: str, namespace: str = "", **fields: Any) -> None:
        """Merge fields into an object, as somebody else."""
        self.put(plural, _merged(self.find(plural, name, namespace), fields))

    def remove(self, plural: str, name: str, namespace: str = "") -> None:
        """Delete an object, as somebody else."""
        body = self.objects.pop((plural, namespace, name))
        self.owned.pop((plural, namespace, name), None)
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self._tell(plural, "DELETED", body)

    def find(self, plural: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Return an object as the server has it."""
        try:
            return self.objects[plural, namespace or "", name]
        except KeyError:
            raise NotFound(404, "NotFound", f"{plural} {name} not found") from None

    def all(self, plural: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        return [body for (found, _, _), body in sorted(self.objects.items()) if found == plural]

    async def get(self, kind, name, namespace=None):
        self._called("get", kind, name)
        return _decoded(kind, self.find(kind.plural, name, namespace))

    async def list(self, kind, *, namespace=None, labels=None, fields=None, consistent=True):
        self._called("list", kind, "")
        return ObjectList([_decoded(kind, body) for body in self.all(kind.plural)], str(self.version))

    async def watch(
        self, kind, *, resource_version, namespace=None, labels=None, fields=None, timeout
    ) -> AsyncIterator[WatchEvent]:
        self._called("watch", kind, "")
        queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        for body in self.all(kind.plural):
            if int(body["metadata"]["resourceVersion"]) > int(resource_version):
                queue.put_nowait(("MODIFIED", body))
        entry = (kind.plural, queue)
        self.queues.append(entry)
        try:
            while True:
                type_, body = await queue.get()
                yield WatchEvent(type_, _decoded(kind, body), body["metadata"]["resourceVersion"])
        finally:
            self.queues.remove(entry)

    async def create(self, kind, body, *, namespace=None, dry_run=False):
        self._called("create", kind, body["metadata"].get("name", ""))
        body = copy.deepcopy(dict(body))
        meta = body["metadata"] = {**body["metadata"]}
        if namespace:
            meta["namespace"] = namespace
        meta.setdefault("name", f"{meta.pop('generateName', '')}{self.version}")
        if (kind.plural, meta.get("namespace", ""), meta["name"]) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", f"{meta['name']} exists")
        if kind.plural == "certificatesigningrequests":
            body["spec"]["username"] = self.username
            body["spec"]["extra"] = {"authentication.kubernetes.io/node-name": [self.node]} if self.node else {}
        return _decoded(kind, self.put(kind.plural, body))

    async def apply(self, kind, body, *, manager, subresource=None, force=True, dry_run=False):
        meta = body["metadata"]
        self._called("apply", kind, meta["name"])
        key = (kind.plural, meta.get("namespace", ""), meta["name"])
        old = self.objects.get(key)
        if "uid" in meta and (old is None or old["metadata"]["uid"] != meta["uid"]):
            raise Conflict(409, "Conflict", "Precondition failed: UID in precondition")
        leaves = _leaves(json.loads(json.dumps(body)))
        managers = self.owned.setdefault(key, {})
        new = copy.deepcopy(old) if old else {"metadata": {"name": meta["name"]}}
        for path in managers.get(manager, set()) - leaves.keys():
            if not any(path in paths for other, paths in managers.items() if other != manager):
                _drop(new, path)
        managers[manager] = set(leaves)
        for path, value in leaves.items():
            _set(new, path, value)
        if old == new:
            return _decoded(kind, old)
        return _decoded(kind, self.put(kind.plural, new))

    async def patch(
        self, kind, name, body, *, namespace=None, style="merge", subresource=None, manager=None, dry_run=False
    ):
        self._called(f"patch {subresource}" if subresource else "patch", kind, name)
        assert style == "merge"
        return _decoded(kind, self.put(kind.plural, _merged(self.find(kind.plural, name, namespace), body)))

    async def delete(self, kind, name, namespace=None, *, uid=None, resource_version=None, grace_period=None):
        self._called("delete", kind, name)
        self.find(kind.plural, name, namespace)
        self.remove(kind.plural, name, namespace or "")

    async def close(self):
        return

    def _called(self, verb: str, kind: Kind[Any], name: str) -> None:
        self.calls.append((verb, kind.plural, name))
        self.before(verb, kind.plural, name)
        if self.down:
            raise Unavailable(0, "", "connection refused")

    def _tell(self, plural: str, type_: str, body: dict[str, Any]) -> None:
        for watched, queue in self.queues:
            if watched == plural:
                queue.put_nowait((type_, copy.deepcopy(body)))


def _decoded(kind, body):
    return msgspec.convert(copy.deepcopy(body), kind.type)


def _merged(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    new = copy.deepcopy(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = _merged(new.get(key, {}), value)
        else:
            new[key] = copy.deepcopy(value)
    return new


def _leaves(body: dict[str, Any], at: Path = ()) -> dict[Path, Any]:
    found: dict[Path, Any] = {}
    for key, value in body.items():
        found |= _leaves(value, (*at, key)) if isinstance(value, dict) and value else {(*at, key): value}
    return found


def _set(body: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        body = body.setdefault(key, {})
    body[path[-1]] = copy.deepcopy(value)


def _drop(body: dict[str, Any], path: Path) -> None:
    for key in path[:-1]:
        body = body.get(key, {})
    body.pop(path[-1], None)
