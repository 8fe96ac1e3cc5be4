# SPDX-License-Identifier: Apache-2.0
"""The pipeline of a request, without HTTP: route, authorize, decode, write or read, answer.

Everything that a client can send ends in an answer: what is refused is a Status, and a fault of the server is one too,
with its traceback in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from dynamic_memory.embedded.apiserver import bodies
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.deleting import Deleting, options_of
from dynamic_memory.embedded.apiserver.errors import (
    Cause,
    StatusError,
    bad_request,
    internal,
    invalid,
    method_not_allowed,
    no_such_method,
)
from dynamic_memory.embedded.apiserver.monitoring import labels_of
from dynamic_memory.embedded.apiserver.patching import APPLY, Patching
from dynamic_memory.embedded.apiserver.reading import BOOKMARK_SECONDS, Reading
from dynamic_memory.embedded.apiserver.records import Object, encode
from dynamic_memory.embedded.apiserver.request import Request, Response, Stream, UserInfo, failure, json_response
from dynamic_memory.embedded.apiserver.routes import Route, route
from dynamic_memory.embedded.apiserver.selectors import parse_fields
from dynamic_memory.embedded.apiserver.subresources import COMMON, Subresources, success
from dynamic_memory.embedded.apiserver.targets import target_of
from dynamic_memory.embedded.apiserver.writing import Writing
from dynamic_memory.process import clock

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.discovery import Discovery
    from dynamic_memory.embedded.apiserver.documents import Document
    from dynamic_memory.embedded.apiserver.exposition import Exposition
    from dynamic_memory.embedded.apiserver.openapi import OpenApi

__all__ = ["Api", "Authorizer"]

_log = logging.getLogger(__name__)
_PROBES = frozenset({"/healthz", "/livez", "/readyz"})
_SELECTING = frozenset({"list", "watch", "deletecollection"})
_RETURNED = frozenset(
    {
        ("", "pods"),
        ("", "persistentvolumes"),
        ("", "persistentvolumeclaims"),
        ("", "podtemplates"),
        ("", "resourcequotas"),
        ("", "serviceaccounts"),
        ("", "services"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "storageclasses"),
        ("storage.k8s.io", "volumeattachments"),
        ("resource.k8s.io", "deviceclasses"),
        ("resource.k8s.io", "resourceclaims"),
        ("resource.k8s.io", "resourceclaimtemplates"),
        ("resource.k8s.io", "resourceslices"),
    }
)
"""Kinds whose deletion is answered with the object; that of others with a Status."""


class Authorizer(Protocol):
    """Says who may do what."""

    def authorize(
        self,
        user: UserInfo,
        verb: str,
        *,
        group: str = "",
        resource: str = "",
        subresource: str = "",
        namespace: str = "",
        name: str = "",
        path: str = "",
        fields: str = "",
    ) -> str | None:
        """Return None if it is allowed, else why it is not."""


Answer = Response | Stream
Special = Callable[[Request, Route], Awaitable[Answer]]


class Api:
    """See the module.

    Args:
        core: shared parts.
        bookmark_seconds: how often watches say how far they are, when nothing happens.

    """

    def __init__(self, core: Core, *, bookmark_seconds: float = BOOKMARK_SECONDS) -> None:
        self.core = core
        self.authorizer: Authorizer | None = None
        """None allows everything."""
        self.audit: Callable[[Request, int, float], None] | None = None
        """Told of requests within the process with their code and duration in seconds."""
        self.writing = Writing(core)
        self.deleting = Deleting(core)
        self.patching = Patching(core, self.writing)
        self.reading = Reading(core, bookmark_seconds=bookmark_seconds)
        self._reads: dict[str, Callable[[Request, Route], Answer]] = {
            "get": self.reading.get,
            "list": self.reading.list,
            "watch": self.reading.watch,
        }
        self._writes: dict[str, Special] = {
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        self.subresources = Subresources(core, self.writing, self.deleting, self.decode)
        self.address = ""
        """`host:port` that clients reach the server by."""
        self.unstored: dict[tuple[str, str], Special] = {}
        """Answers for resources that are not stored (reviews, metrics), by group and plural."""
        self._exposition: Exposition | None = None
        self._documents: tuple[Discovery, OpenApi] | None = None

    async def handle(self, request: Request) -> Answer:
        """Answer a request, and count it; never raises but when cancelled."""
        monitoring, begin = self.core.monitoring, clock.monotonic()
        monitoring.enter(request.method, begin)
        try:
            answer = await self._answer(request)
        finally:
            end = clock.monotonic()
            monitoring.leave(request.method, end)
        if not isinstance(answer, Stream):  # a watch counts when it ends
            monitoring.done(labels_of(request), answer.code, end - begin)
        return answer

    async def _answer(self, request: Request) -> Answer:
        try:
            answer = await self._handle(request)
        except StatusError as error:
            answer = failure(error)
        except RecursionError:
            answer = failure(bad_request("the object is nested too deep"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            _log.exception("a request failed", extra={"method": request.method, "path": request.path})
            answer = failure(internal(f"{type(error).__name__}: {error}"))
        if request.warnings:
            answer.headers += [("Warning", f"299 - {_quoted(text)}") for text in dict.fromkeys(request.warnings)]
        return answer

    async def _handle(self, request: Request) -> Answer:
        watch = bool(request.query) and request.method == "GET" and request.flag("watch")
        found = route(self.core.registry, request.method, request.path, watch=watch)
        if found is None:
            return self._other(request)
        request.audit.update(
            verb=found.verb,
            group=found.resource.group,
            version=found.resource.version,
            resource=found.resource.plural,
            subresource=found.subresource,
            namespace=found.namespace,
            name=found.name,
        )
        self.authorize(request, found)
        resource = found.resource
        if resource.deprecated:
            request.warnings.append(resource.deprecated)
        if not resource.stored:
            return await self._unstored(request, found)
        if found.subresource not in COMMON:
            return await self.subresources.handle(request, found)
        read = self._reads.get(found.verb)
        if read is not None:
            return read(request, found)
        return await self._writes[found.verb](request, found)

    # --- what is not a resource

    def _other(self, request: Request) -> Answer:
        path = request.path.rstrip("/") or "/"
        request.audit.update(verb=request.method.lower(), path=path)
        if self.authorizer is not None:
            verb = request.method.lower()
            why = self.authorizer.authorize(request.user, verb, path=path)
            if why is not None:
                user = request.user.name
                text = f'forbidden: User "{user}" cannot {verb} path "{path}"' + (f": {why}" if why else "")
                raise StatusError(403, "Forbidden", text)
        if request.method not in {"GET", "HEAD"}:
            if self._document(request, path) is not None:
                raise no_such_method()
            return _nowhere()
        if path in _PROBES or path.rpartition("/")[0] in _PROBES:
            return self._probe(path)
        if path == "/metrics":
            return self._numbers().answer(request.headers.get("accept", ""))
        document = self._document(request, path)
        if document is None:
            return _nowhere()
        if request.method == "HEAD" and path != "/apis" and not path.startswith("/openapi/"):
            raise no_such_method()
        return Response(document.code, document.body, document.content_type, list(document.headers.items()))

    def _probe(self, path: str) -> Response:
        failure = self.core.store.failure
        if not failure:
            return Response(200, b"ok", "text/plain; charset=utf-8")
        check = path.strip("/").partition("/")[0]
        return Response(
            500, f"[-]store failed: {failure}\n{check} check failed\n".encode(), "text/plain; charset=utf-8"
        )

    def _numbers(self) -> Exposition:
        if self._exposition is None:
            from dynamic_memory.embedded.apiserver.exposition import Exposition  # noqa: PLC0415 - few ask for it

            self._exposition = Exposition(self.core.monitoring, self.core.store)
        return self._exposition

    def _document(self, request: Request, path: str) -> Document | None:
        if self._documents is None:
            from dynamic_memory.embedded.apiserver.discovery import Discovery  # noqa: PLC0415 - a server starts faster
            from dynamic_memory.embedded.apiserver.openapi import OpenApi  # noqa: PLC0415

            self._documents = Discovery(self.core.registry, self.address), OpenApi(self.core.registry)
        discovery, openapi = self._documents
        accept, known = request.headers.get("accept", ""), request.headers.get("if-none-match", "")
        return openapi.get(path, accept, request.first("hash"), known) or discovery.get(path, accept, known)

    def authorize(self, request: Request, found: Route) -> None:
        """Refuse what a user may not do.

        Raises:
            StatusError: 403.

        """
        if self.authorizer is None:
            return
        resource = found.resource
        fields = request.first("fieldSelector") if request.query and found.verb in _SELECTING else ""
        if fields and not found.name and found.verb != "deletecollection":
            found = found._replace(name=_named(fields))
        why = self.authorizer.authorize(
            request.user,
            found.verb,
            group=resource.group,
            resource=resource.plural,
            subresource=found.subresource,
            namespace=found.namespace,
            name=found.name,
            fields=fields,
        )
        if why is not None:
            raise _forbidden(request, found, why)

    async def _unstored(self, request: Request, found: Route) -> Answer:
        special = self.unstored.get((found.resource.group, found.resource.plural))
        if special is None and found.resource.plural == "bindings" and found.verb == "create":
            binding = self.decode(request, "Binding")
            pods = self.core.registry.find("", "v1", "pods")
            name = str((binding.get("metadata") or {}).get("name") or "")
            if pods is None or not name:
                raise bad_request("name must be provided")
            return await self.subresources.bind(request, Route(pods, "create", found.namespace, name, "", ""), binding)
        if special is None:
            raise method_not_allowed(found.resource, found.verb)
        return await special(request, found)

    # --- writes

    def decode(self, request: Request, kind: str) -> Object:
        """Return the object of a body."""
        return bodies.decode_object(request.body, request.media_type, kind, _protobuf)

    async def _create(self, request: Request, found: Route) -> Response:
        if found.name:
            raise no_such_method() if found.resource.builtin else method_not_allowed(found.resource, "create")
        target = target_of(request, found, "CreateOptions")
        obj = self.decode(request, found.resource.kind)
        metadata = obj.get("metadata")
        target.name = str(metadata.get("name") or "") if isinstance(metadata, dict) else ""
        request.audit["name"] = target.name
        written = await self.writing.create(target, obj, raw=request.body)
        request.audit["name"] = written.record.key[1]
        return self.reading.answer(request, found.resource, written.record, 201)

    async def _update(self, request: Request, found: Route) -> Response:
        target = target_of(request, found, "UpdateOptions")
        obj = self.decode(request, found.resource.kind)
        written = await self.writing.replace(target, obj, raw=request.body)
        return self.reading.answer(request, found.resource, written.record)

    async def _patch(self, request: Request, found: Route) -> Response:
        target = target_of(request, found, "PatchOptions")
        if request.flag("force") and request.media_type != APPLY:
            raise _force()
        written = await self.patching.patch(target, request)
        return self.reading.answer(request, found.resource, written.record, 201 if written.created else 200)

    async def _delete(self, request: Request, found: Route) -> Response:
        if found.subresource:
            raise method_not_allowed(found.resource, "delete")
        options = options_of(request, self._options(request))
        resource = found.resource
        outcome = await self.deleting.delete(resource, found.namespace, found.name, options, request)
        if outcome.gone and resource.storage not in _RETURNED:
            return json_response(200, success(resource, found.name, outcome.record.uid))
        return self.reading.answer(request, resource, outcome.record)

    def _options(self, request: Request) -> Object:
        return self.decode(request, "DeleteOptions") if request.body else {}

    async def _delete_collection(self, request: Request, found: Route) -> Response:
        options = options_of(request, self._options(request))
        options.collection = True
        selection = self.reading.selection(request, found)
        page = self.reading.page(request, found, selection)
        for number, record in enumerate(page.records):
            if number % 50 == 49:  # noqa: PLR2004 - others want to be served meanwhile
                await clock.sleep(0)
            try:
                await self.deleting.delete(found.resource, *record.key, options, request)
            except StatusError as error:
                if error.reason != "NotFound":
                    raise
        return self.reading.answer_list(request, found.resource, page)


def _nowhere() -> Response:
    """Return the answer where nothing is served, not even a group of the API."""
    return Response(404, b"404 page not found\n", "text/plain; charset=utf-8")


def _protobuf(body: bytes) -> Object:
    from dynamic_memory.embedded.apiserver.protobuf import decode  # noqa: PLC0415 - few clients send it

    return decode(body)


def _quoted(text: str) -> str:
    """Return a text as HTTP headers quote it, on one line."""
    # JSON leaves the last control character as it is, which no header may have
    return encode(" ".join(text.split())).decode().replace("\x7f", r"\u007f")


def _forbidden(request: Request, found: Route, why: str) -> StatusError:
    resource = found.resource
    what = f"{resource.plural}/{found.subresource}" if found.subresource else resource.plural
    where = f' in the namespace "{found.namespace}"' if found.namespace else " at the cluster scope"
    text = (
        f'User "{request.user.name}" cannot {found.verb} resource "{what}" in API group "{resource.group}"{where}'
        + (f": {why}" if why else "")
    )
    qualified = resource.qualified
    shown = f'{qualified} "{found.name}" is forbidden: {text}' if found.name else f"{qualified} is forbidden: {text}"
    return StatusError(403, "Forbidden", shown, group=resource.group, kind=resource.plural, name=found.name)


def _named(fields: str) -> str:
    """Return the name of the only object that a list or watch is about by its field selector, empty if it has none."""
    try:
        terms = parse_fields(fields)
    except StatusError:
        return ""  # whoever may read is told of it
    return next((term.value for term in terms if term.path == "metadata.name" and term.equal), "")


def _force() -> StatusError:
    text = "Forbidden: may not be specified for non-apply patch"
    return invalid("meta.k8s.io", "PatchOptions", "", [Cause("FieldValueForbidden", text, "force")])
