# SPDX-License-Identifier: Apache-2.0
"""A `Kube` that calls the API server in its own process: no sockets, no HTTP, the same rules.

What runs beside the server (scheduler, controllers, kubelets of an embedded cluster) uses it. Objects are decoded once
per version and type, however many read them: wire types are immutable.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs

import msgspec

from dynamic_memory.api.wire import Kind
from dynamic_memory.embedded.apiserver import forms
from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.deleting import DeleteOptions
from dynamic_memory.embedded.apiserver.errors import StatusError, expired, no_such_path, not_found
from dynamic_memory.embedded.apiserver.monitoring import VERBS, Labels, scope_of
from dynamic_memory.embedded.apiserver.patching import STYLES
from dynamic_memory.embedded.apiserver.reading import BOOKMARK_SECONDS, selection_of
from dynamic_memory.embedded.apiserver.records import Object, Record, encode
from dynamic_memory.embedded.apiserver.request import INTERNAL, Request, Response, UserInfo
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.routes import Route
from dynamic_memory.embedded.apiserver.targets import Target
from dynamic_memory.kube.errors import from_status
from dynamic_memory.kube.interface import Body, ObjectList, PatchStyle, WatchEvent
from dynamic_memory.process import clock

__all__ = ["LocalKube"]

T = TypeVar("T")
Query = Mapping[str, list[str]]
_ERRORS_FROM = 400
_METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}


def _own(body: Body | Sequence[Body]) -> Any:
    """Return a copy as it would come over the wire: what is a subclass here (an enum) is plain text there."""
    return msgspec.json.decode(msgspec.json.encode(body))


def _selecting(labels: str | None, fields: str | None) -> dict[str, list[str]]:
    """Return the query of a request with selectors."""
    selectors = {"labelSelector": labels, "fieldSelector": fields}
    return {name: [text] for name, text in selectors.items() if text}


def _labels(
    kind: Kind[Any],
    verb: str,
    namespace: str | None,
    name: str = "",
    subresource: str | None = None,
    *,
    shown: str = "",
    dry_run: bool = False,
) -> Labels:
    """Return the labels of a request, as it would have over HTTP; `shown` is its verb there if it has another."""
    scope, dry = scope_of(verb, namespace or "", name), "All" if dry_run else ""
    return Labels(shown or VERBS[verb], dry, kind.group, kind.version, kind.plural, subresource or "", scope)


class LocalKube:
    """See the module.

    Args:
        api: the server.
        user: who asks; its rights count if the server has an authorizer.
        manager: who owns the fields that it writes, where a call does not say.

    """

    def __init__(self, api: Api, user: UserInfo = INTERNAL, manager: str = "embedded") -> None:
        self._api = api
        self._core = api.core
        self._user = user
        self._manager = manager
        self._decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}

    # --- reading

    async def get(self, kind: Kind[T], name: str, namespace: str | None = None) -> T:
        """Read one object."""
        with self._asked(kind, "get", namespace, name) as resource:
            record = self._core.store.get(resource.storage, (namespace or "", name))
            if record is None:
                raise not_found(resource, name)
        return self._decoded(kind, resource, record)

    async def list(
        self,
        kind: Kind[T],
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        consistent: bool = True,
    ) -> ObjectList[T]:
        """Read all objects."""
        del consistent  # what is here is always the newest
        with self._asked(kind, "list", namespace, query=_selecting(labels, fields)) as resource:
            selection = selection_of(resource, namespace or "", labels or "", fields or "")
            records = self._core.store.select(resource.storage, selection)
            version = self._core.store.version
        return ObjectList([self._decoded(kind, resource, record) for record in records], str(version))

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
        """Follow changes after `resource_version` for at most `timeout` seconds."""
        store, begin = self._core.store, clock.monotonic()
        with self._asked(kind, "watch", namespace, query=_selecting(labels, fields)) as resource:
            selection = selection_of(resource, namespace or "", labels or "", fields or "")
            if int(resource_version) > store.version:
                raise expired(f"too new resource version: {resource_version} ({store.version})")
            watcher = store.watch(resource.storage, selection, int(resource_version))
        with self._core.monitoring.watching(_labels(kind, "watch", namespace), begin):
            try:
                until = clock.monotonic() + timeout
                while not watcher.cut and (rest := until - clock.monotonic()) > 0:
                    seen = await watcher.take(min(rest, BOOKMARK_SECONDS))
                    for type_, record in seen:
                        yield WatchEvent(type_, self._decoded(kind, resource, record), str(record.version))
                    if not seen and not watcher.cut:
                        yield WatchEvent("BOOKMARK", None, str(store.version))
            finally:
                store.unwatch(resource.storage, watcher)

    # --- writing

    async def create(self, kind: Kind[T], body: Body, *, namespace: str | None = None, dry_run: bool = False) -> T:
        """Create an object; unknown fields are refused."""
        metadata = body.get("metadata") or {}
        place = (namespace or metadata.get("namespace") or "") if kind.namespaced else ""
        audit: Object = {}
        with self._asked(kind, "create", place, metadata.get("name") or "", audit=audit, dry_run=dry_run) as resource:
            target = self._target(resource, place, metadata.get("name") or "", dry_run=dry_run, audit=audit)
            written = await self._api.writing.create(target, _own(body))
            audit["name"] = written.record.key[1]
        return self._decoded(kind, resource, written.record)

    async def apply(
        self,
        kind: Kind[T],
        body: Body,
        *,
        manager: str,
        subresource: str | None = None,
        force: bool = True,
        dry_run: bool = False,
    ) -> T:
        """Server-side apply; name and namespace are those of `body`."""
        metadata = body["metadata"]
        place = (metadata.get("namespace") or "") if kind.namespaced else ""
        audit: Object = {}
        name = metadata["name"]
        with self._asked(
            kind, "patch", place, name, subresource, audit=audit, shown="APPLY", dry_run=dry_run
        ) as resource:
            target = self._target(resource, place, name, subresource, manager, dry_run=dry_run, audit=audit)
            target.force = force
            config = _own({"apiVersion": kind.api_version, "kind": kind.kind, **body})
            written = await self._api.patching.apply(target, config)
        return self._decoded(kind, resource, written.record)

    async def patch(
        self,
        kind: Kind[T],
        name: str,
        body: Body | Sequence[Body],
        *,
        namespace: str | None = None,
        style: PatchStyle = "merge",
        subresource: str | None = None,
        manager: str | None = None,
        dry_run: bool = False,
    ) -> T:
        """Change fields of an object."""
        audit: Object = {}
        with self._asked(kind, "patch", namespace, name, subresource, audit=audit, dry_run=dry_run) as resource:
            target = self._target(resource, namespace, name, subresource, manager, dry_run=dry_run, audit=audit)
            patch = _own(body)
            written = await self._api.patching.change(target, STYLES[style], patch)
        return self._decoded(kind, resource, written.record)

    async def replace(
        self, kind: Kind[T], name: str, body: Body, *, namespace: str | None = None, subresource: str | None = None
    ) -> T:
        """PUT a body that was made whole."""
        audit: Object = {}
        with self._asked(kind, "update", namespace, name, subresource, audit=audit) as resource:
            target = self._target(resource, namespace, name, subresource, audit=audit)
            written = await self._api.writing.replace(target, _own(body))
        return self._decoded(kind, resource, written.record)

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
        """Delete an object, with preconditions."""
        audit: Object = {}
        with self._asked(kind, "delete", namespace, name, audit=audit) as resource:
            options = DeleteOptions(grace_period, uid or "", resource_version or "")
            by = Request("DELETE", "", user=self._user, audit=audit)
            await self._api.deleting.delete(resource, namespace or "", name, options, by)

    # --- any path

    async def get_raw(self, path: str) -> bytes:
        """GET any path."""
        return await self._raw("GET", path, b"")

    async def create_raw(self, path: str, body: Body) -> bytes:
        """POST to any path."""
        return await self._raw("POST", path, encode(body))

    async def _raw(self, method: str, path: str, body: bytes) -> bytes:
        path, _, query = path.partition("?")
        request = Request(method, path, parse_qs(query, keep_blank_values=True), {}, body, self._user)
        answer = await self._api.handle(request)
        if not isinstance(answer, Response):
            await cast("Any", answer.chunks).aclose()
            raise from_status(_ERRORS_FROM, b"a watch cannot be read as one answer")
        if answer.code >= _ERRORS_FROM:
            raise from_status(answer.code, answer.body)
        return answer.body

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    # --- inside

    @contextlib.contextmanager
    def _asked(
        self,
        kind: Kind[Any],
        verb: str,
        namespace: str | None = None,
        name: str = "",
        subresource: str | None = None,
        *,
        query: Query | None = None,
        audit: Object | None = None,
        shown: str = "",
        dry_run: bool = False,
    ) -> Iterator[Resource]:
        """Check rights, raise what a client raises, and tell the audit log, with what is in `audit` by the end."""
        begin = clock.monotonic()
        code = 201 if verb == "create" else 200
        request = self._request(kind, verb, namespace, name, subresource)
        request.query = {**(query or {}), **({"dryRun": ["All"]} if dry_run else {})}
        try:
            yield self._resource(kind, request)
        except StatusError as error:
            code = error.code
            raise from_status(code, encode(error.status())) from error
        except BaseException:
            code = 500
            raise
        finally:
            seconds = clock.monotonic() - begin
            if verb != "watch" or code >= _ERRORS_FROM:  # one that was begun counts when it ends
                labels = _labels(kind, verb, namespace, name, subresource, shown=shown, dry_run=dry_run)
                self._core.monitoring.done(labels, code, seconds)
            if self._api.audit is not None:
                request.audit |= audit or {}
                self._api.audit(request, code, seconds)

    def _request(
        self, kind: Kind[Any], verb: str, namespace: str | None, name: str, subresource: str | None
    ) -> Request:
        """Return the request as it would have come over HTTP, for rights and the audit log."""
        parts = ["/apis", kind.group, kind.version] if kind.group else ["/api", kind.version]
        parts += ["namespaces", namespace] if kind.namespaced and namespace else []
        parts += [part for part in (kind.plural, "" if verb == "create" else name, subresource) if part]
        request = Request(_METHODS.get(verb, "GET"), "/".join(parts), headers={"user-agent": self._manager})
        request.user = self._user
        request.audit.update(
            verb=verb,
            group=kind.group,
            version=kind.version,
            resource=kind.plural,
            subresource=subresource or "",
            namespace=namespace or "",
            name=name,
        )
        return request

    def _resource(self, kind: Kind[Any], request: Request) -> Resource:
        found = self._core.registry.find(kind.group, kind.version, kind.plural)
        if found is None:
            raise no_such_path()
        if self._api.authorizer is not None:
            known = request.audit
            route = Route(found, known["verb"], known["namespace"], known["name"], known["subresource"], "")
            self._api.authorize(request, route)
        return found

    def _target(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        subresource: str | None = None,
        manager: str | None = None,
        *,
        audit: Object,
        dry_run: bool = False,
    ) -> Target:
        return Target(
            resource,
            namespace or "",
            name,
            self._user,
            [],
            subresource=subresource or "",
            manager=manager or self._manager,
            validation="Strict",
            dry_run=dry_run,
            audit=audit,
        )

    def _decoded(self, kind: Kind[T], resource: Resource, record: Record) -> T:
        found = record.kept(cast("Any", kind.type), lambda: self._decoder(kind).decode(forms.plain(resource, record)))
        return cast("T", found)

    def _decoder(self, kind: Kind[T]) -> msgspec.json.Decoder[T]:
        decoder = self._decoders.get(kind.type)
        if decoder is None:
            decoder = self._decoders[kind.type] = msgspec.json.Decoder(kind.type)
        return decoder
