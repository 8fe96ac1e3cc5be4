# SPDX-License-Identifier: Apache-2.0
"""What goes into the API and what comes out of it, without HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.records import encode

__all__ = [
    "ANONYMOUS",
    "INTERNAL",
    "JSON_TYPE",
    "Request",
    "Response",
    "Stream",
    "UserInfo",
    "clean",
    "failure",
    "json_response",
]

JSON_TYPE = "application/json"
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Return a text of a header or path with what is not UTF-8 replaced: it could not be encoded again."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


ANONYMOUS = UserInfo("system:anonymous", ("system:unauthenticated",))
INTERNAL = UserInfo("system:apiserver", ("system:masters", "system:authenticated"))


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        method: HTTP method.
        path: decoded path, without the query.
        query: all values of each parameter.
        headers: with lower-case names.
        body: as it came, decompressed.
        user: who asks, or is acted as.
        impersonator: who asks in truth, when that is another.
        warnings: texts of Warning headers that the answer gets.
        audit: what the pipeline found out about the request, for the audit log (verb, resource, names).

    """

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    user: UserInfo = INTERNAL
    impersonator: UserInfo | None = None
    warnings: list[str] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)

    def first(self, name: str, default: str = "") -> str:
        """Return the first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str) -> bool:
        """Return a boolean parameter, read as Kubernetes does: present and neither `false` nor `0` is true."""
        return name in self.query and self.first(name).lower() not in {"false", "0"}

    @property
    def media_type(self) -> str:
        """The media type of the body, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(slots=True)
class Response:
    """An answer that is whole."""

    code: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Stream:
    """An answer that goes on: whole lines, several a chunk."""

    chunks: AsyncIterator[bytes]
    content_type: str = JSON_TYPE
    headers: list[tuple[str, str]] = field(default_factory=list)
    code: int = 200
    abort: Callable[[], None] | None = None
    """Set by who sends it: breaks the connection of a client that does not read."""
    send: Callable[[bytes], bool] | None = None
    """Set by who sends it: sends a chunk while the next one is waited for, or says that the client does not read."""


def json_response(code: int, obj: Any) -> Response:
    """Return an answer of one object."""
    return Response(code, encode(obj))


def failure(error: StatusError) -> Response:
    """Return the answer for an error."""
    response = json_response(error.code, error.status())
    if error.retry_after is not None:
        response.headers.append(("Retry-After", str(error.retry_after)))
    return response
