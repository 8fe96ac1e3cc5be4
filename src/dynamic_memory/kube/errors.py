# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses, as exceptions: one class a reason that callers react to.

Source: `metav1.Status`, API conventions of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dynamic_memory.errors import DynamicMemoryError, Kind

__all__ = [
    "AlreadyExists",
    "ApiError",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "NotFound",
    "Unauthorized",
    "Unavailable",
    "from_status",
    "undecodable",
]


class ApiError(DynamicMemoryError):
    """The API server answered with an error.

    Args:
        code: HTTP status; 0 if there was no answer.
        reason: machine-readable reason (`NotFound`, `Conflict`, …).
        message: the server's text.
        details: `details` of the Status object.

    """

    kind = Kind.NEVER

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        super().__init__(code, reason, message)

    def __str__(self) -> str:
        return f"{self.message or self.reason} ({self.code})" if self.code else self.message


class NotFound(ApiError):
    """404: there is no such object."""


class AlreadyExists(ApiError):
    """409 on create: the name is taken."""


class Conflict(ApiError):
    """409: the object changed meanwhile, has another uid, or a field belongs to another manager."""

    kind = Kind.RETRY


class Gone(ApiError):
    """410: the resource version is too old to go on from; list again."""

    kind = Kind.RETRY


class Invalid(ApiError):
    """422: the object, as it would become, is not valid or not allowed."""


class Forbidden(ApiError):
    """403: not within the rights of this token, or refused by admission."""


class Unauthorized(ApiError):
    """401: the token is not accepted (any more)."""

    kind = Kind.RETRY


class Unavailable(ApiError):
    """No answer, 429 or 5xx: try again.

    `retry_after` is what the server asked to wait, in seconds, or None.
    """

    kind = Kind.RETRY
    retry_after: float | None = None


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    code: int = 0
    details: dict[str, Any] | None = None


_BY_CODE: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Unavailable,
}
_SERVER_ERROR = 500
_TOO_LARGE = "ResourceVersionTooLarge"


def from_status(code: int, body: bytes) -> ApiError:
    """Return the exception for an error answer (or for the object of a watch's ERROR event)."""
    try:
        status = msgspec.json.decode(body, type=_Status)
    except (msgspec.DecodeError, msgspec.ValidationError):
        status = _Status(message=body[:200].decode(errors="replace"))
    code = code or status.code
    type_: type[ApiError] = Unavailable if code >= _SERVER_ERROR else _BY_CODE.get(code, ApiError)
    if status.reason == "AlreadyExists":
        type_ = AlreadyExists
    causes = (status.details or {}).get("causes") or ()
    if any(isinstance(cause, Mapping) and cause.get("reason") == _TOO_LARGE for cause in causes):
        # the server was restored from an older state: what we know of is no version of its history
        type_ = Gone
    return type_(code, status.reason, status.message, status.details)


def undecodable(code: int, error: Exception) -> Unavailable:
    """Return the exception for an answer that is not what the API promises: a proxy's page, or a cut one."""
    return Unavailable(code, "Undecodable", f"the API server's answer cannot be read: {error}")
