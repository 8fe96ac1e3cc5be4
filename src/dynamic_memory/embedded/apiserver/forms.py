# SPDX-License-Identifier: Apache-2.0
"""The forms that objects are answered in: JSON or YAML, as they are, as Table, or as metadata alone.

Plain JSON, which nearly everybody asks for, is encoded once per version of an object and joined into lists and watch
events; the rest is made for each request.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.negotiation import JSON, Target, negotiate
from dynamic_memory.embedded.apiserver.paging import Page
from dynamic_memory.embedded.apiserver.records import Object, Record, encode
from dynamic_memory.embedded.apiserver.request import Request, Response
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.table.metadata import partial_list, partial_object

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.table.render import Tables

__all__ = ["Forms", "as_stored", "decoded", "event_line", "plain"]

Line = Callable[[str, Record], bytes]
INITIAL_END = "k8s.io/initial-events-end"

_negotiated = lru_cache(maxsize=512)(negotiate)


def as_stored(resource: Resource) -> bool:
    """Say whether objects of a resource are answered as they are stored."""
    return resource.version == resource.storage_version and resource.group == resource.storage.group


def decoded(resource: Resource, record: Record) -> Object:
    """Return an object in the version of a resource; not to be changed."""
    if as_stored(resource):
        return record.object
    return resource.from_storage(record.object)


def plain(resource: Resource, record: Record) -> bytes:
    """Return an object in the version of a resource, as JSON."""
    if as_stored(resource):
        return record.data
    return record.form((resource.group, resource.version), lambda obj: encode(resource.from_storage(obj)))


class Forms:
    """See the module."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @cached_property
    def _tables(self) -> Tables:
        from dynamic_memory.embedded.apiserver.table.render import Tables  # noqa: PLC0415 - a server starts faster

        return Tables()

    def one(self, request: Request, resource: Resource, record: Record, code: int) -> Response:
        """Return the answer that is one object."""
        target = _target(request)
        if not target.kind and target.media_type == JSON and not target.pretty:
            return Response(code, plain(resource, record))
        return _written(target, code, self._object(request, target, resource, record))

    def any(self, request: Request, obj: Object, code: int = 200) -> Response:
        """Return the answer that is an object which is not stored (Status, Scale)."""
        return _written(Target(_target(request).media_type, pretty=_target(request).pretty), code, obj)

    def many(self, request: Request, resource: Resource, page: Page, *, filtered: bool) -> Response:
        """Return the answer that is a list."""
        target = _target(request)
        metadata: Object = {"resourceVersion": str(page.version)}
        if page.token:
            metadata["continue"] = page.token
            if not filtered:
                metadata["remainingItemCount"] = page.remaining
        if target.kind:
            items = [decoded(resource, record) for record in page.records]
            if target.table:
                include = self._tables.include(request.query)
                table = self._tables.render(
                    resource, items, metadata, now=self._core.clock.now(), include=include, version=target.version
                )
                return _written(target, 200, table)
            return _written(target, 200, partial_list(items, metadata, target.version))
        head = encode({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata})
        records = page.records
        texts = [r.data for r in records] if as_stored(resource) else [plain(resource, r) for r in records]
        body = b"".join([head[:-1], b',"items":[', b",".join(texts), b"]}"])
        if target.media_type == JSON and not target.pretty:
            return Response(200, body)
        return _written(target, 200, msgspec.json.decode(body))

    def _object(self, request: Request, target: Target, resource: Resource, record: Record) -> Object:
        obj = decoded(resource, record)
        if target.table:
            include = self._tables.include(request.query)
            now = self._core.clock.now()
            return self._tables.render_one(resource, obj, now=now, include=include, version=target.version)
        return partial_object(obj, target.version) if target.partial else obj

    # --- events

    def line(self, request: Request, resource: Resource) -> Line:
        """Return what makes lines of a watch."""
        target = _target(request)
        if not target.kind:

            def simple(type_: str, record: Record) -> bytes:
                name = (type_, resource.group, resource.version)
                return record.form(name, lambda _: event_line(type_, plain(resource, record)))

            return simple
        if target.partial:

            def partial(type_: str, record: Record) -> bytes:
                return record.form(
                    (type_, resource.group, resource.version, target.version),
                    lambda _: event_line(type_, encode(partial_object(decoded(resource, record), target.version))),
                )

            return partial
        include = self._tables.include(request.query)
        first = True

        def table(type_: str, record: Record) -> bytes:
            nonlocal first
            now, obj = self._core.clock.now(), decoded(resource, record)
            made = self._tables.render_one(
                resource, obj, now=now, include=include, version=target.version, headers=first
            )
            first = False
            return event_line(type_, encode(made))

        return table

    def bookmark(self, request: Request, resource: Resource, version: int, *, initial_end: bool) -> bytes:
        """Return the line that tells how far a watch has come."""
        target = _target(request)
        metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {INITIAL_END: "true"}
        obj: Object = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        if target.partial:
            obj = partial_object(obj, target.version)
        elif target.table:
            obj = self._tables.render_one(
                resource, obj, now=self._core.clock.now(), include="Metadata", version=target.version, headers=False
            )
        return event_line("BOOKMARK", encode(obj))


def _target(request: Request) -> Target:
    target = _negotiated(request.headers.get("accept", ""))
    if request.query and request.flag("pretty"):
        return Target(target.media_type, target.kind, target.version, pretty=True)
    return target


def event_line(type_: str, obj: bytes) -> bytes:
    """Return a line of a watch."""
    return b'{"type":"' + type_.encode() + b'","object":' + obj + b"}\n"


def _written(target: Target, code: int, obj: Object) -> Response:
    if target.media_type != JSON:
        import yaml  # noqa: PLC0415 - hardly anybody asks for it

        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.dump(obj, Dumper=dumper, sort_keys=True, default_flow_style=False, allow_unicode=True)
        return Response(code, text.encode(), target.media_type)
    body = encode(obj)
    return Response(code, msgspec.json.format(body, indent=2) if target.pretty else body)
