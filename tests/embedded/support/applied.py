# SPDX-License-Identifier: Apache-2.0
"""An object under server-side apply, with the times and names that a server would give."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.embedded.support.schemas import CONFIG_MAP, CUSTOM, DEPLOYMENT

from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.patch import managed_fields
from dynamic_memory.embedded.apiserver.patch.apply import apply
from dynamic_memory.embedded.apiserver.schema import Schema

__all__ = ["Object", "data"]

KINDS = {
    id(DEPLOYMENT): ("apps/v1", "Deployment"),
    id(CUSTOM): ("example.com/v1", "Thing"),
    id(CONFIG_MAP): ("v1", "ConfigMap"),
}


class Object:
    """An object as a server keeps it: by applies and updates, each with a time of its own."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.version, self.kind = KINDS[id(schema)]
        self.live: dict[str, Any] | None = None
        self.clock = 0

    def config(self, **fields: Any) -> dict[str, Any]:
        metadata = {"name": "x", "namespace": "n", **fields.pop("metadata", {})}
        return {"apiVersion": self.version, "kind": self.kind, "metadata": metadata, **fields}

    def _time(self) -> str:
        self.clock += 1
        return f"2026-01-01T00:00:{self.clock:02}Z"

    def _keep(self, obj: dict[str, Any]) -> dict[str, Any]:
        obj = {**obj, "metadata": {"uid": "u", **obj["metadata"]}}
        self.live = obj if self.live is None else managed_fields.settle(self.live, obj)
        return self.live

    def apply(self, manager: str, *, force: bool = False, **fields: Any) -> dict[str, Any]:
        subresource, version = fields.pop("subresource", None), fields.pop("version", self.version)
        config = {**self.config(**fields), "apiVersion": version}
        return self._keep(
            apply(
                self.schema,
                self.live,
                config,
                manager=manager,
                force=force,
                subresource=subresource,
                api_version=version,
                time=self._time(),
                kind=self.kind,
                reset=managed_fields.reset_fields("", self.kind, subresource, has_status=True),
            )
        )

    def update(self, manager: str, *, subresource: str | None = None, **fields: Any) -> dict[str, Any]:
        """Replace fields; None removes one."""
        new = {k: v for k, v in {**(self.live or self.config()), **fields}.items() if v is not None}
        new["metadata"] = {**(self.live or self.config())["metadata"], **fields.get("metadata", {})}
        return self._keep(
            managed_fields.update(
                self.schema,
                self.live,
                new,
                manager=manager,
                subresource=subresource,
                api_version=self.version,
                time=self._time(),
                reset=managed_fields.reset_fields("", self.kind, subresource, has_status=True),
            )
        )

    @property
    def entries(self) -> list[dict[str, Any]]:
        assert self.live is not None
        return self.live["metadata"].get("managedFields", [])

    def owned(self, manager: str, operation: str = "Apply") -> Any:
        found = [e["fieldsV1"] for e in self.entries if e["manager"] == manager and e["operation"] == operation]
        assert len(found) <= 1
        return found[0] if found else None

    def refused(self, manager: str, **fields: Any) -> dict[str, Any]:
        before = json.dumps(self.live)
        with pytest.raises(StatusError) as caught:
            self.apply(manager, **fields)
        assert json.dumps(self.live) == before
        return caught.value.status()


def data(**fields: str) -> Any:
    """Owned fields of these names."""
    return {f"f:{name}": {} for name in fields}
