# SPDX-License-Identifier: Apache-2.0
"""Documents that the server publishes about itself: made once, served many times, and not sent again when unchanged."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import msgspec.json

from dynamic_memory.embedded.apiserver.negotiation import JSON

__all__ = ["Document", "json_document"]


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """An answer with its headers."""

    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    code: int = 200

    def unless(self, if_none_match: str) -> Document:
        """Return 304 without a body when the client says that it has this one already."""
        etag = self.headers.get("ETag")
        if etag and if_none_match == etag:
            return Document(b"", self.content_type, self.headers, 304)
        return self


def json_document(content: Any, content_type: str = JSON, *, tagged: bool = False, **headers: str) -> Document:
    """Return a document of JSON; `tagged` adds an ETag made of the content."""
    body = msgspec.json.encode(content)
    if tagged:
        headers["ETag"] = f'"{hashlib.sha512(body).hexdigest().upper()}"'
    return Document(body, content_type, headers)
