# SPDX-License-Identifier: Apache-2.0
"""What this project asks of an API server, as a Protocol: the real client and the tests' fake both are one.

Reads decode into our own wire types. Writes take plain dicts that name exactly the fields that are ours: server-side
applies, patches, creates.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

from dynamic_memory.api.wire import Kind

__all__ = ["Body", "Kube", "ObjectList", "PatchStyle", "WatchEvent"]

T = TypeVar("T")

Body = Mapping[str, Any]
PatchStyle = Literal["merge", "json", "strategic"]


class WatchEvent(msgspec.Struct, Generic[T], frozen=True):
    """A change: ADDED, MODIFIED or DELETED with the object; BOOKMARK has none, only its `resource_version`."""

    type: str
    object: T | None
    resource_version: str


class ObjectList(msgspec.Struct, Generic[T], frozen=True):
    """All objects as of one resource version."""

    items: list[T]
    resource_version: str


class Kube(Protocol):
    """An API server. Every call raises `ApiError` (kube/errors.py)."""

    async def get(self, kind: Kind[T], name: str, namespace: str | None = None) -> T:
        """Read one object, from a quorum."""
        ...

    async def list(
        self,
        kind: Kind[T],
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        consistent: bool = True,
    ) -> ObjectList[T]:
        """Read all objects; `consistent` = as they were after the call began, else maybe a little older."""
        ...

    def watch(
        self,
        kind: Kind[T],
        *,
        resource_version: str,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        timeout: float,
    ) -> AsyncIterator[WatchEvent[T]]:
        """Follow changes after `resource_version`; ends after `timeout` seconds. Raises Gone if that is too old."""
        ...

    async def create(self, kind: Kind[T], body: Body, *, namespace: str | None = None, dry_run: bool = False) -> T:
        """Create an object; unknown fields are refused."""
        ...

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
        ...

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
        ...

    async def replace(
        self, kind: Kind[T], name: str, body: Body, *, namespace: str | None = None, subresource: str | None = None
    ) -> T:
        """PUT; only for bodies that were made whole, never for what was decoded."""
        ...

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
        ...

    async def get_raw(self, path: str) -> bytes:
        """GET any path, for discovery."""
        ...

    async def create_raw(self, path: str, body: Body) -> bytes:
        """POST to any path, for reviews and tokens."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
