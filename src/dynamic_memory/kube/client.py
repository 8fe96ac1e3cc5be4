# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes client: lightkube's configuration, credentials and HTTP; our own paths and types.

lightkube finds the cluster (kubeconfig or a pod's own token), does TLS and renews the token. Its generic client decodes
into full types, hides an expired resource version from a watch and knows no bookmarks, so requests are built here, on
its HTTP client: one GET, POST, PATCH, PUT or DELETE each, no state. This is the only module that knows lightkube.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import httpx2
import msgspec
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError as LightkubeConfigError

from dynamic_memory.api.meta import ObjectMeta
from dynamic_memory.api.wire import Kind
from dynamic_memory.errors import InvalidInput
from dynamic_memory.kube.connections import close_when_cancelled
from dynamic_memory.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Unauthorized,
    Unavailable,
    from_status,
    undecodable,
)
from dynamic_memory.kube.interface import Body, Kube, ObjectList, PatchStyle, WatchEvent

__all__ = [
    "AlreadyExists",
    "ApiError",
    "Client",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "Kube",
    "NotFound",
    "ObjectList",
    "Unauthorized",
    "Unavailable",
    "WatchEvent",
]

T = TypeVar("T")

PAGE = 500
TIMEOUT = 10.0
"""Seconds for each step of a request: connecting, sending, waiting for the next bytes."""
DEADLINE = 60.0
"""Seconds for a whole request, so that a server that drips cannot hold a caller."""
# a watch is silent between events; bookmarks come about once a minute
WATCH_SLACK = 30.0
MAX_EVENT = 16 << 20
_ERRORS_FROM = 400
_EXEC_VERSIONS = tuple(f"client.authentication.k8s.io/{version}" for version in ("v1beta1", "v1alpha1"))
_FAILURES = (httpx2.HTTPError, LightkubeConfigError, OSError)  # TimeoutError is an OSError
_STYLES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Versioned(msgspec.Struct):
    metadata: ObjectMeta


class Client:
    """A `Kube` over HTTP."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self._decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}

    @classmethod
    def from_environment(cls, kubeconfig: str | None = None, context: str | None = None) -> Client:
        """Connect by the named kubeconfig, else as a pod, else by $KUBECONFIG or ~/.kube/config.

        Raises:
            InvalidInput: there is no such file or context, no cluster to be found, or credentials that are not
                supported.

        """
        try:
            return cls(_connect(kubeconfig, context))
        except InvalidInput:
            raise
        except Exception as error:  # whatever lightkube stumbles over, it is what the file says
            what = f"a usable configuration of a cluster ({type(error).__name__}: {error})"
            raise InvalidInput("kubeconfig", what, kubeconfig) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def get(self, kind: Kind[T], name: str, namespace: str | None = None) -> T:
        """Read one object, from a quorum."""
        return self._decode(kind, await self._send("GET", _path(kind, namespace, name)))

    async def list(
        self,
        kind: Kind[T],
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        consistent: bool = True,
    ) -> ObjectList[T]:
        """Read all objects, page by page of one snapshot."""
        parameters = _selectors(labels, fields)
        # version 0 lets the server answer from its cache, in one piece
        parameters |= {"limit": str(PAGE)} if consistent else {"resourceVersion": "0"}
        items: list[T] = []
        decoder = self._decoder(kind)
        while True:
            answer = await self._send("GET", _path(kind, namespace), parameters)
            try:
                page = msgspec.json.decode(answer, type=_List)
                items.extend(decoder.decode(item) for item in page.items or ())
            except msgspec.DecodeError as error:
                raise undecodable(200, error) from error
            if not page.metadata.continue_:
                return ObjectList(items, page.metadata.resource_version)
            parameters["continue"] = page.metadata.continue_

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
        parameters = _selectors(labels, fields) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(timeout))),
        }
        request = self._http.build_request(
            "GET",
            _target(_path(kind, namespace), parameters),
            timeout=httpx2.Timeout(TIMEOUT, read=timeout + WATCH_SLACK),
        )
        decoder = self._decoder(kind)
        async with contextlib.aclosing(self._lines(request)) as lines:
            async for line in lines:
                yield _event(line, decoder)

    async def _lines(self, request: httpx2.Request) -> AsyncGenerator[bytes, None]:
        try:
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code >= _ERRORS_FROM:
                    raise from_status(response.status_code, await response.aread())
                rest = b""
                async for chunk in response.aiter_bytes():
                    *lines, rest = (rest + chunk).split(b"\n")
                    if len(rest) > MAX_EVENT:
                        raise Unavailable(0, "TooLarge", f"a watch event is larger than {MAX_EVENT} bytes")
                    for line in lines:
                        if line:
                            yield line
            finally:
                await response.aclose()
        except _FAILURES as error:
            raise _unreachable(error) from error

    async def create(self, kind: Kind[T], body: Body, *, namespace: str | None = None, dry_run: bool = False) -> T:
        """Create an object; unknown fields are refused."""
        namespace = namespace or body.get("metadata", {}).get("namespace")
        parameters = {"fieldValidation": "Strict"} | _dry(dry_run)
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        return self._decode(kind, await self._send("POST", _path(kind, namespace), parameters, whole))

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
        parameters = {"fieldManager": manager, "fieldValidation": "Strict"} | _dry(dry_run)
        if force:
            parameters["force"] = "true"
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        path = _path(kind, metadata.get("namespace"), metadata["name"], subresource)
        return self._decode(
            kind, await self._send("PATCH", path, parameters, whole, content_type="application/apply-patch+yaml")
        )

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
        parameters = {"fieldValidation": "Strict"} | _dry(dry_run)
        if manager is not None:
            parameters["fieldManager"] = manager
        path = _path(kind, namespace, name, subresource)
        return self._decode(kind, await self._send("PATCH", path, parameters, body, content_type=_STYLES[style]))

    async def replace(
        self, kind: Kind[T], name: str, body: Body, *, namespace: str | None = None, subresource: str | None = None
    ) -> T:
        """PUT a body that was made whole."""
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        path = _path(kind, namespace, name, subresource)
        return self._decode(kind, await self._send("PUT", path, {"fieldValidation": "Strict"}, whole))

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
        conditions = {"uid": uid, "resourceVersion": resource_version}
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if wanted := {key: value for key, value in conditions.items() if value is not None}:
            options["preconditions"] = wanted
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        await self._send("DELETE", _path(kind, namespace, name), None, options)

    async def get_raw(self, path: str) -> bytes:
        """GET any path."""
        return await self._send("GET", path)

    async def create_raw(self, path: str, body: Body) -> bytes:
        """POST to any path."""
        return await self._send("POST", path, None, body)

    async def _send(
        self,
        method: str,
        path: str,
        parameters: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> bytes:
        content = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type} if content is not None else None
        try:
            async with asyncio.timeout(DEADLINE):
                target = _target(path, parameters)
                response = await self._http.request(method, target, content=content, headers=headers)
        except _FAILURES as error:
            raise _unreachable(error) from error
        if response.status_code >= _ERRORS_FROM:
            failure = from_status(response.status_code, response.content)
            if isinstance(failure, Unavailable):
                after = response.headers.get("Retry-After", "")
                failure.retry_after = float(after) if after.isdecimal() else None
            raise failure
        return response.content

    def _decoder(self, kind: Kind[T]) -> msgspec.json.Decoder[T]:
        decoder = self._decoders.get(kind.type)
        if decoder is None:
            decoder = self._decoders[kind.type] = msgspec.json.Decoder(kind.type)
        return decoder

    def _decode(self, kind: Kind[T], answer: bytes) -> T:
        try:
            return self._decoder(kind).decode(answer)
        except msgspec.DecodeError as error:
            raise undecodable(200, error) from error


def _connect(kubeconfig: str | None, context: str | None) -> httpx2.AsyncClient:
    config = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_env()
    single = config.get(context)
    if single is None:
        raise InvalidInput("kubeconfig", "a current context", kubeconfig)
    if single.user is not None and single.user.exec is not None:
        _check_exec(single.user.exec.apiVersion)
    client = AsyncClient(single, ConnectionParams(timeout=httpx2.Timeout(TIMEOUT, pool=None), trust_env=False))
    close_when_cancelled(client)
    return client


def _target(path: str, parameters: Mapping[str, str] | None) -> str:
    """Return a path with its query: httpx would parse and print the URL once more to add one."""
    return f"{path}?{urlencode(parameters, quote_via=quote)}" if parameters else path


def _path(kind: Kind[Any], namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
    parts = ["/apis", kind.group, kind.version] if kind.group else ["/api", kind.version]
    if kind.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts.append(kind.plural)
    if name is not None:
        parts.append(name)
    if subresource is not None:
        parts.append(subresource)
    return "/".join(parts)


def _selectors(labels: str | None, fields: str | None) -> dict[str, str]:
    named = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in named.items() if value is not None}


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _event(line: bytes, decoder: msgspec.json.Decoder[T]) -> WatchEvent[T]:
    try:
        event = msgspec.json.decode(line, type=_Event)
        if event.type == "ERROR":
            raise from_status(0, bytes(event.object))
        version = msgspec.json.decode(event.object, type=_Versioned).metadata.resource_version
        # a bookmark's object is an empty one of the kind, which need not be valid
        decoded = None if event.type == "BOOKMARK" else decoder.decode(event.object)
    except msgspec.DecodeError as error:
        raise undecodable(200, error) from error
    return WatchEvent(event.type, decoded, version)


def _check_exec(version: str) -> None:
    """Refuse at start what lightkube would refuse at the first request."""
    if version not in _EXEC_VERSIONS:
        raise InvalidInput("kubeconfig: users[].user.exec.apiVersion", " or ".join(_EXEC_VERSIONS), version)


def _unreachable(error: Exception) -> ApiError:
    text = str(error) or type(error).__name__
    if isinstance(error, LightkubeConfigError):
        # the token's file is gone, or the program that makes tokens failed
        return Unauthorized(0, "NoCredentials", f"there are no credentials for the API server: {text}")
    return Unavailable(0, "Unreachable", f"the API server does not answer: {text}")
