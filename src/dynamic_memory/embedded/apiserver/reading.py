# SPDX-License-Identifier: Apache-2.0
"""Get, list and watch.

What is answered is put together from encodings that records keep; only tables and other transformations are made anew.
Source of the rules on resourceVersion, resourceVersionMatch and sendInitialEvents: k8s.io/apimachinery
`pkg/apis/meta/internalversion/validation`.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from dynamic_memory.embedded.apiserver import forms
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.errors import (
    Cause,
    StatusError,
    bad_request,
    expired,
    invalid,
    not_found,
    too_large_version,
)
from dynamic_memory.embedded.apiserver.monitoring import labels_of
from dynamic_memory.embedded.apiserver.paging import NEWEST, Page, decode_token
from dynamic_memory.embedded.apiserver.records import ADDED, Object, Record, encode
from dynamic_memory.embedded.apiserver.request import Request, Response, Stream
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.routes import Route
from dynamic_memory.embedded.apiserver.selectors import parse_fields, parse_labels
from dynamic_memory.embedded.apiserver.watch import Selection, Watcher
from dynamic_memory.process import clock

__all__ = ["Reading", "selection_of"]

BOOKMARK_SECONDS = 55.0
DEFAULT_TIMEOUT = 1800.0


def selection_of(resource: Resource, namespace: str, labels: str, fields: str) -> Selection:
    """Return what selectors select.

    Raises:
        StatusError: 400, a selector cannot be read or names a field that is not for selecting.

    """
    if not labels and not fields:
        return Selection(namespace)
    terms = parse_fields(fields) if fields else []
    for term in terms:
        if resource.select({}, term.path) is None:
            raise bad_request(_no_label(resource, term.path))
    if terms and not forms.as_stored(resource):
        return Selection(namespace, parse_labels(labels), terms, _converted(resource))
    return Selection(namespace, parse_labels(labels), terms, resource.select)


def _no_label(resource: Resource, path: str) -> str:
    if resource.builtin and not resource.selectable_fields:
        return f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    return f"field label not supported: {path}"


def _converted(resource: Resource) -> Callable[[Object, str], str | None]:
    return lambda obj, path: resource.select(resource.from_storage(obj), path)


class Reading:
    """Answers to GET requests of objects."""

    def __init__(self, core: Core, *, bookmark_seconds: float = BOOKMARK_SECONDS) -> None:
        self._core = core
        self._bookmark_seconds = bookmark_seconds
        self._forms = forms.Forms(core)

    # --- one object

    def get(self, request: Request, route: Route) -> Response:
        """Answer with one object."""
        if request.first("resourceVersion"):
            self._version(request, "resourceVersion")
        record = self._core.store.get(route.resource.storage, (route.namespace, route.name))
        if record is None:
            raise not_found(route.resource, route.name)
        return self.answer(request, route.resource, record)

    def answer(self, request: Request, resource: Resource, record: Record, code: int = 200) -> Response:
        """Answer with an object in the form that the client asked for."""
        return self._forms.one(request, resource, record, code)

    def answer_list(self, request: Request, resource: Resource, page: Page) -> Response:
        """Answer with some objects."""
        return self._forms.many(request, resource, page, filtered=True)

    # --- lists

    def list(self, request: Request, route: Route) -> Response:
        """Answer with a list or a page of one."""
        selection = self.selection(request, route)
        page = self.page(request, route, selection)
        return self._forms.many(request, route.resource, page, filtered=not selection.everything)

    def selection(self, request: Request, route: Route) -> Selection:
        """Return what a list or watch is about."""
        labels, fields = request.first("labelSelector"), request.first("fieldSelector")
        if route.name:  # a watch of one object by its path
            fields = f"metadata.name={route.name}" + (f",{fields}" if fields else "")
        return selection_of(route.resource, route.namespace, labels, fields)

    def page(self, request: Request, route: Route, selection: Selection) -> Page:
        """Return what a list is to show.

        Raises:
            StatusError: 400, 410, 422 or 504, its options cannot be.

        """
        store, resource = self._core.store, route.resource
        limit = self._number(request, "limit")
        self._number(request, "timeoutSeconds")
        if request.first("sendInitialEvents"):
            raise _options("sendInitialEvents", "sendInitialEvents is forbidden for list")
        match = request.first("resourceVersionMatch")
        text = request.first("resourceVersion")
        name = (resource.storage, route.namespace, request.first("labelSelector"), request.first("fieldSelector"))
        if token_text := request.first("continue"):
            if match:
                raise _options("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
            token = decode_token(token_text)
            if text not in {"", "0"} and token.version != NEWEST:
                raise bad_request("specifying resource version is not allowed when using continue")
            if token.version != NEWEST:
                return self._core.snapshots.more(name, token, limit)
            found = store.select(resource.storage, selection, token.after)
            return self._core.snapshots.first(name, found, store.version, limit)
        version = self._version(request, "resourceVersion") if text else 0
        if match:
            _check_match(match, text)
        if match == "Exact":
            kept = store.at(resource.storage, selection, version)
            if kept is None:
                raise expired(f"The provided resource version {version} is no longer kept")
            return self._core.snapshots.first(name, kept, version, limit)
        found = store.select(resource.storage, selection)
        if text == "0":  # from the cache of a real server, which knows no pages
            limit = 0
        return self._core.snapshots.first(name, found, store.version, limit)

    def _number(self, request: Request, name: str) -> int:
        text = request.first(name)
        if not text:
            return 0
        try:
            return int(text)
        except ValueError:
            raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None

    def _version(self, request: Request, name: str) -> int:
        text = request.first(name)
        if not (text.isascii() and text.isdecimal()):
            why = f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
            raise bad_request(f"invalid resource version: {name}: {why}")
        version = int(text)
        if version > self._core.store.version:
            raise too_large_version(version, self._core.store.version)
        return version

    # --- watches

    def watch(self, request: Request, route: Route) -> Stream:
        """Answer with the changes from now on, after a resource version, or after all objects."""
        store, resource = self._core.store, route.resource
        selection = self.selection(request, route)
        text = request.first("resourceVersion")
        initial = self._initial(request, text)
        bookmarks = request.flag("allowWatchBookmarks")
        seconds = float(self._number(request, "timeoutSeconds"))
        if seconds <= 0:
            seconds = DEFAULT_TIMEOUT * (1 + random.random())  # noqa: S311 - spreads load
        line = self._forms.line(request, resource)
        version = self._version(request, "resourceVersion") if text else 0

        async def chunks() -> AsyncGenerator[bytes, None]:
            records = store.select(resource.storage, selection) if initial else ()
            end = b""
            if initial and bookmarks and request.first("sendInitialEvents"):
                end = self._forms.bookmark(request, resource, store.version, initial_end=True)
            try:
                watcher = store.watch(resource.storage, selection, None if initial else version or None)
            except StatusError as error:
                yield forms.event_line("ERROR", encode(error.status()))
                return
            watcher.too_slow = stream.abort
            send = stream.send
            try:
                for start in range(0, len(records), 500):
                    yield b"".join([line(ADDED, record) for record in records[start : start + 500]])
                records = ()
                if end:
                    yield end
                until = clock.monotonic() + seconds
                if send is not None:
                    watcher.forward = lambda seen: send(b"".join([line(type_, record) for type_, record in seen]))
                async for chunk in self._follow(request, resource, line, watcher, until, bookmarks=bookmarks):
                    yield chunk
            finally:
                store.unwatch(resource.storage, watcher)

        stream = Stream(self._counted(request, chunks()))
        return stream

    async def _counted(self, request: Request, chunks: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        """Count a watch while it is open."""
        with self._core.monitoring.watching(labels_of(request), clock.monotonic()):
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    yield chunk

    async def _follow(
        self, request: Request, resource: Resource, line: forms.Line, watcher: Watcher, until: float, *, bookmarks: bool
    ) -> AsyncIterator[bytes]:
        mark = clock.monotonic() + self._bookmark_seconds
        while not watcher.cut:
            now = clock.monotonic()
            if now >= until:
                return
            seen = await watcher.take(max(0.0, min(until, mark if bookmarks else until) - now))
            if seen:
                yield b"".join([line(type_, record) for type_, record in seen])
            elif bookmarks and clock.monotonic() >= mark:
                yield self._forms.bookmark(request, resource, self._core.store.version, initial_end=False)
            if bookmarks and clock.monotonic() >= mark:
                mark = clock.monotonic() + self._bookmark_seconds

    def _initial(self, request: Request, version: str) -> bool:
        """Say whether a watch begins with the objects that there are."""
        match = request.first("resourceVersionMatch")
        said = request.first("sendInitialEvents")
        if not said:
            if match:
                raise _options(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                )
            return version in {"", "0"}
        if match != "NotOlderThan":
            if match:
                raise _unsupported("resourceVersionMatch", match, ("NotOlderThan",))
            raise _options(
                "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
        return request.flag("sendInitialEvents")


def _check_match(match: str, version: str) -> None:
    if not version:
        raise _options("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
    if match not in {"Exact", "NotOlderThan"}:
        raise _unsupported("resourceVersionMatch", match, ("Exact", "NotOlderThan", ""))
    if match == "Exact" and version == "0":
        raise _options("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')


def _options(field: str, why: str) -> StatusError:
    return invalid("meta.k8s.io", "ListOptions", "", [Cause("FieldValueForbidden", f"Forbidden: {why}", field)])


def _unsupported(field: str, value: str, known: tuple[str, ...]) -> StatusError:
    shown = ", ".join(f'"{item}"' for item in known)
    text = f'Unsupported value: "{value}": supported values: {shown}'
    return invalid("meta.k8s.io", "ListOptions", "", [Cause("FieldValueNotSupported", text, field)])
