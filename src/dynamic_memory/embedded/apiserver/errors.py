# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses: errors that are Status objects, with the texts of Kubernetes word for word.

Clients show these texts and decide by `reason`, so both are part of the interface. Source: k8s.io/apimachinery,
`pkg/api/errors`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dynamic_memory.errors import DynamicMemoryError

__all__ = [
    "Cause",
    "StatusError",
    "already_exists",
    "bad_request",
    "conflict",
    "expired",
    "forbidden",
    "gone",
    "internal",
    "invalid",
    "method_not_allowed",
    "no_such_method",
    "no_such_path",
    "not_acceptable",
    "not_found",
    "not_implemented",
    "qualified",
    "too_large",
    "too_large_version",
    "too_many_requests",
    "unauthorized",
    "unsupported_media_type",
]


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong.

    Args:
        reason: kind of error, such as `FieldValueInvalid`, `FieldValueRequired`, `FieldValueNotSupported`.
        message: text without the field (`Invalid value: "x": must be …`).
        field: path of the field (`spec.devices.requests[0].name`).

    """

    reason: str
    message: str
    field: str


class Named(Protocol):
    """What a message names of a resource."""

    @property
    def group(self) -> str:
        """The API group; empty for the core."""

    @property
    def plural(self) -> str:
        """The resource as in a URL."""


class StatusError(DynamicMemoryError):
    """An error answer.

    Args:
        code: HTTP status.
        reason: machine-readable reason; empty if there is none.
        message: text for people.
        group: API group of what it is about.
        kind: kind or, as Kubernetes has it in most texts, resource.
        name: of the object.
        uid: of the object.
        causes: what is wrong, each with its field.
        retry_after: seconds after which to try again.
        generic: nothing is known but the code: then the details are there, and empty.

    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        group: str = "",
        kind: str = "",
        name: str = "",
        uid: str = "",
        causes: Sequence[Cause] = (),
        retry_after: int | None = None,
        generic: bool = False,
    ) -> None:
        self.code = code
        self.reason = reason
        self.message = message
        self.group = group
        self.resource_kind = kind
        self.name = name
        self.uid = uid
        self.causes = tuple(causes)
        self.retry_after = retry_after
        self.generic = generic
        super().__init__(code, reason, message)

    def __str__(self) -> str:
        return self.message

    def status(self) -> dict[str, Any]:
        """Return the Status object."""
        details: dict[str, Any] = {}
        if self.name:
            details["name"] = self.name
        if self.group:
            details["group"] = self.group
        if self.resource_kind:
            details["kind"] = self.resource_kind
        if self.uid:
            details["uid"] = self.uid
        if self.causes:
            details["causes"] = [_cause(cause) for cause in self.causes]
        if self.retry_after is not None:
            details["retryAfterSeconds"] = self.retry_after
        found: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        found["message"] = self.message
        if self.reason:
            found["reason"] = self.reason
        if details or self.generic:
            found["details"] = details
        found["code"] = self.code
        return found


def _cause(cause: Cause) -> dict[str, str]:
    named = (("reason", cause.reason), ("message", cause.message), ("field", cause.field))
    return {key: value for key, value in named if value}


def qualified(name: str, group: str) -> str:
    """Return a resource or kind with its group: `deployments.apps`, `pods`."""
    return f"{name}.{group}" if group else name


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def not_found(resource: Named, name: str) -> StatusError:
    """404: there is no such object."""
    text = f"{qualified(resource.plural, resource.group)} {_quoted(name)} not found"
    return StatusError(404, "NotFound", text, group=resource.group, kind=resource.plural, name=name)


def no_such_path() -> StatusError:
    """404: nothing is served there."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", generic=True)


def no_such_method() -> StatusError:
    """405: nothing is served there for this method."""
    text = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", text, generic=True)


def already_exists(resource: Named, name: str) -> StatusError:
    """409: the name is taken."""
    text = f"{qualified(resource.plural, resource.group)} {_quoted(name)} already exists"
    return StatusError(409, "AlreadyExists", text, group=resource.group, kind=resource.plural, name=name)


def conflict(resource: Named, name: str, why: str) -> StatusError:
    """409: the object is not what the caller thinks it is."""
    text = f"Operation cannot be fulfilled on {qualified(resource.plural, resource.group)} {_quoted(name)}: {why}"
    return StatusError(409, "Conflict", text, group=resource.group, kind=resource.plural, name=name)


def invalid(group: str, kind: str, name: str, causes: Iterable[Cause]) -> StatusError:
    """422: the object, as it would become, is not valid."""
    causes = list(causes)
    texts = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    texts = list(dict.fromkeys(texts))
    said = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else "<nil>"
    text = f"{qualified(kind, group)} {_quoted(name)} is invalid: {said}"
    return StatusError(422, "Invalid", text, group=group, kind=kind, name=name, causes=causes)


def bad_request(message: str) -> StatusError:
    """400: the request cannot be understood."""
    return StatusError(400, "BadRequest", message)


def forbidden(resource: Named, name: str, why: str, *, causes: Sequence[Cause] = ()) -> StatusError:
    """403: not within the caller's rights, or refused by admission."""
    what = qualified(resource.plural, resource.group)
    text = f"{what} {_quoted(name)} is forbidden: {why}" if name else f"{what} is forbidden: {why}"
    return StatusError(403, "Forbidden", text, group=resource.group, kind=resource.plural, name=name, causes=causes)


def unauthorized() -> StatusError:
    """401: nobody is known by these credentials."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def expired(message: str) -> StatusError:
    """410: the resource version or page is no longer kept."""
    return StatusError(410, "Expired", message)


def gone(message: str) -> StatusError:
    """410: what was asked for is no longer served."""
    return StatusError(410, "Gone", message)


def method_not_allowed(resource: Named, action: str) -> StatusError:
    """405: there is such a resource, but not to do this with it."""
    text = f"{action} is not supported on resources of kind {_quoted(qualified(resource.plural, resource.group))}"
    return StatusError(405, "MethodNotAllowed", text, group=resource.group, kind=resource.plural)


def too_large(message: str) -> StatusError:
    """413: the body is larger than the server reads."""
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: {message}")


def unsupported_media_type(accepted: Iterable[str]) -> StatusError:
    """415: the body is in a format that is not known here."""
    text = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return StatusError(415, "UnsupportedMediaType", text)


def not_acceptable(accepted: Iterable[str]) -> StatusError:
    """406: the answer does not come in the form that was asked for."""
    return StatusError(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(accepted)}")


def too_many_requests(message: str, seconds: int) -> StatusError:
    """429: try again later."""
    return StatusError(429, "TooManyRequests", message, retry_after=seconds)


def too_large_version(asked: int, current: int) -> StatusError:
    """504: a version that the server has not come to yet."""
    cause = Cause("ResourceVersionTooLarge", "Too large resource version", "")
    text = f"Timeout: Too large resource version: {asked}, current: {current}"
    return StatusError(504, "Timeout", text, causes=[cause], retry_after=1)


def not_implemented(message: str) -> StatusError:
    """501: known, but not here."""
    return StatusError(501, "NotImplemented", message)


def internal(why: str) -> StatusError:
    """500: a fault of the server."""
    return StatusError(500, "InternalError", f"Internal error occurred: {why}", causes=[Cause("", why, "")])
