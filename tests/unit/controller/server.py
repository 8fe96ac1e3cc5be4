# SPDX-License-Identifier: Apache-2.0
"""The API server of these tests: the shared fake, with kinds by their plural, and a requester for certificates."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tests.support.fake_kube import FakeKube, merge_patch

from dynamic_memory.api import kinds
from dynamic_memory.api.wire import Kind
from dynamic_memory.kube.events import EVENTS

__all__ = ["Server"]

_KINDS: dict[str, Kind[Any]] = {
    kind.plural: kind for kind in (*(v for v in vars(kinds).values() if isinstance(v, Kind)), EVENTS)
}


class Server(FakeKube):
    """An API server that says of every certificate request that `username` made it, from `node`."""

    def __init__(self) -> None:
        super().__init__()
        self.username, self.node = "", ""

    def have(self, plural: str, body: Mapping[str, Any]) -> None:
        """Create or replace an object, as somebody else."""
        self.put(_KINDS[plural], body)

    def lose(self, plural: str, name: str, namespace: str = "") -> None:
        """Delete an object, as somebody else."""
        self.remove(_KINDS[plural], name, namespace)

    def change(self, plural: str, name: str, namespace: str = "", **fields: Any) -> None:
        """Merge fields into an object, as somebody else."""
        self.put(_KINDS[plural], merge_patch(self.find(plural, name, namespace), fields))

    def find(self, plural: str, name: str, namespace: str = "") -> dict[str, Any]:
        """Return an object."""
        body = self.body(_KINDS[plural], name, namespace)
        assert body is not None, f"no {plural} {name}"
        return body

    def all(self, plural: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        return self.bodies(_KINDS[plural])

    async def create(
        self, kind: Kind[Any], body: Mapping[str, Any], *, namespace: str | None = None, dry_run: bool = False
    ) -> Any:
        if kind is kinds.CSRS:
            body = copy.deepcopy(dict(body))
            body["spec"]["username"] = self.username
            body["spec"]["extra"] = {"authentication.kubernetes.io/node-name": [self.node]} if self.node else {}
        return await super().create(kind, body, namespace=namespace, dry_run=dry_run)
