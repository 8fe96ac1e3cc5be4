# SPDX-License-Identifier: Apache-2.0
"""What a driver needs of an API server, and the users of a claim: scheduler, claim controller, kubelet's garbage.

Writes go through what the real one does to them as far as a driver can tell: server-side apply of a status replaces
what the manager said before, a uid that differs is a conflict, a device that is not allocated is invalid.
"""

from __future__ import annotations

import asyncio
import collections
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from tests.unit.driver.conftest import allocation

from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.kube.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound, Unavailable
from dynamic_memory.kube.interface import ObjectList, WatchEvent


class ApiServer:
    """A `Kube` in memory; `down` makes every call fail, `before` is called with each one."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.version = 0
        self.watchers: list[tuple[str, asyncio.Queue[tuple[str, dict[str, Any]]]]] = []
        self.down = False
        self.calls: list[tuple[str, str, str]] = []
        self.before: Callable[[str, str, str], None] = lambda *_: None
        self.put("nodes", {"metadata": {"name": "n1", "uid": "node-uid"}})

    # --- the test's side

    def put(self, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create or replace an object."""
        body = copy.deepcopy(body)
        meta = body["metadata"]
        key = (plural, meta.get("namespace", ""), meta["name"])
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = body
        self._tell(plural, kind, body)
        return body

    def remove(self, plural: str, name: str, namespace: str = "") -> None:
        """Delete an object."""
        body = self.objects.pop((plural, namespace, name))
        self.version += 1
        self._tell(plural, "DELETED", body)

    def claim(self, name: str = "far") -> ResourceClaim:
        return msgspec.convert(self.objects["resourceclaims", "app", name], ResourceClaim)

    def deallocate(self, name: str = "far") -> None:
        """What the claim controller does when the pod is gone."""
        body = copy.deepcopy(self.objects["resourceclaims", "app", name])
        body["status"] = {}
        self.put("resourceclaims", body)

    def allocate(self, name: str = "far", **how: Any) -> None:
        """What the scheduler does."""
        body = copy.deepcopy(self.objects["resourceclaims", "app", name])
        body["status"] = allocation(**how)
        self.put("resourceclaims", body)

    def reserve(self, *pods: str, name: str = "far") -> None:
        body = copy.deepcopy(self.objects["resourceclaims", "app", name])
        body["status"]["reservedFor"] = [{"resource": "pods", "name": p, "uid": f"uid-{p}"} for p in pods]
        self.put("resourceclaims", body)

    def conditions(self, name: str = "far") -> dict[str, tuple[str, str]]:
        """Status and reason by the short name of the type."""
        devices = self.objects["resourceclaims", "app", name]["status"].get("devices", [])
        found = {
            c["type"].partition("/")[2]: (c["status"], c["reason"]) for device in devices for c in device["conditions"]
        }
        return collections.defaultdict(lambda: ("", ""), found)

    def slices(self) -> list[dict[str, Any]]:
        return [body for (plural, _, _), body in sorted(self.objects.items()) if plural == "resourceslices"]

    def events(self) -> list[tuple[str, str, str]]:
        """Kind of the object, reason, message."""
        return [
            (body["involvedObject"]["kind"], body["reason"], body["message"])
            for (plural, _, _), body in self.objects.items()
            if plural == "events"
        ]

    # --- Kube

    async def get(self, kind, name, namespace=None):
        self._called("get", kind.plural, name)
        return self._decode(kind, self._find(kind.plural, name, namespace))

    async def list(self, kind, *, namespace=None, labels=None, fields=None, consistent=True):
        self._called("list", kind.plural, "")
        items = [self._decode(kind, b) for (plural, _, _), b in self.objects.items() if plural == kind.plural]
        return ObjectList(items, str(self.version))

    async def watch(
        self, kind, *, resource_version, namespace=None, labels=None, fields=None, timeout
    ) -> AsyncIterator[WatchEvent]:
        self._called("watch", kind.plural, "")
        queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        for (plural, _, _), body in list(self.objects.items()):
            if plural == kind.plural and int(body["metadata"]["resourceVersion"]) > int(resource_version):
                queue.put_nowait(("MODIFIED", body))
        self.watchers.append((kind.plural, queue))
        try:
            while True:
                type_, body = await queue.get()
                yield WatchEvent(type_, self._decode(kind, body), body["metadata"]["resourceVersion"])
        finally:
            self.watchers = [w for w in self.watchers if w[1] is not queue]

    async def create(self, kind, body, *, namespace=None, dry_run=False):
        self._called("create", kind.plural, body["metadata"].get("name", ""))
        meta = {**body["metadata"], "namespace": namespace or body["metadata"].get("namespace", "")}
        meta.setdefault("name", f"{meta.get('generateName', '')}{self.version}")
        if (kind.plural, meta["namespace"], meta["name"]) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", "exists")
        return self._decode(kind, self.put(kind.plural, {**body, "metadata": meta}))

    async def apply(self, kind, body, *, manager, subresource=None, force=True, dry_run=False):
        meta = body["metadata"]
        self._called("apply", kind.plural, meta["name"])
        if subresource is None:
            return self._decode(kind, self.put(kind.plural, {**body, "metadata": dict(meta)}))
        current = copy.deepcopy(self._find(kind.plural, meta["name"], meta.get("namespace", "")))
        if meta.get("uid", current["metadata"]["uid"]) != current["metadata"]["uid"]:
            raise Conflict(409, "Conflict", "uid differs")
        results = current["status"].get("allocation", {}).get("devices", {}).get("results", [])
        allocated = {(r["driver"], r["pool"], r["device"], r.get("shareID")) for r in results}
        for device in body["status"]["devices"]:
            if (device["driver"], device["pool"], device["device"], device.get("shareID")) not in allocated:
                raise Invalid(422, "Invalid", "must be an allocated device in the claim")
            for condition in device["conditions"]:
                assert condition["reason"]
                assert condition["lastTransitionTime"]
        current["status"]["devices"] = copy.deepcopy(list(body["status"]["devices"]))
        return self._decode(kind, self.put(kind.plural, current))

    async def patch(
        self, kind, name, body, *, namespace=None, style="merge", subresource=None, manager=None, dry_run=False
    ):
        self._called("patch", kind.plural, name)
        current = copy.deepcopy(self._find(kind.plural, name, namespace))
        current.update({k: v for k, v in body.items() if k != "metadata"})
        return self._decode(kind, self.put(kind.plural, current))

    async def delete(self, kind, name, namespace=None, *, uid=None, resource_version=None, grace_period=None):
        self._called("delete", kind.plural, name)
        self._find(kind.plural, name, namespace)
        self.remove(kind.plural, name, namespace or "")

    async def close(self):
        return

    def _called(self, verb: str, plural: str, name: str) -> None:
        self.calls.append((verb, plural, name))
        self.before(verb, plural, name)
        if self.down:
            raise Unavailable(0, "", "connection refused")

    def _find(self, plural: str, name: str, namespace: str | None) -> dict[str, Any]:
        try:
            return self.objects[plural, namespace or "", name]
        except KeyError:
            raise NotFound(404, "NotFound", f"{plural} {name} not found") from None

    @staticmethod
    def _decode(kind, body):
        try:
            return msgspec.convert(copy.deepcopy(body), kind.type)
        except msgspec.ValidationError as error:
            raise ApiError(500, "Decode", str(error)) from error

    def _tell(self, plural: str, type_: str, body: dict[str, Any]) -> None:
        for watched, queue in self.watchers:
            if watched == plural:
                queue.put_nowait((type_, copy.deepcopy(body)))
