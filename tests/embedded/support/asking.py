# SPDX-License-Identifier: Apache-2.0
"""The API of the embedded server in process, asked by any user: for tests of admission."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.request import INTERNAL, Request, Response, UserInfo

__all__ = ["ROOT", "Asking", "Refused", "refused"]

ROOT = Path(__file__).parents[3]
STYLES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
Refused = StatusError


class Asking:
    """Requests by one user; raises Refused with what the Status says."""

    def __init__(self, api: Api, user: UserInfo = INTERNAL) -> None:
        self.api = api
        self.user = user
        self.warnings: list[str] = []
        self.audit: dict[str, Any] = {}

    def as_(self, name: str, *groups: str, node: str | None = None) -> Asking:
        """Return the same API asked by another user; `node` is the one that the token of an account is bound to."""
        extra = {"authentication.kubernetes.io/credential-id": ("JTI=1",)}
        if node is not None:
            extra["authentication.kubernetes.io/node-name"] = (node,)
        return Asking(self.api, UserInfo(name, (*groups, "system:authenticated"), "", extra))

    async def call(
        self, method: str, path: str, body: Any = None, *, media: str = "application/json", **query: str
    ) -> Any:
        request = Request(
            method,
            path,
            {name: [value] for name, value in query.items()},
            {"content-type": media, "user-agent": "test/1"},
            b"" if body is None else json.dumps(body).encode(),
            self.user,
        )
        answer = await self.api.handle(request)
        self.warnings = list(request.warnings)
        self.audit = request.audit
        assert isinstance(answer, Response)
        found = json.loads(answer.body)
        if answer.code >= 400:
            raise StatusError(answer.code, found.get("reason", ""), found["message"])
        return found

    def path(self, obj: dict[str, Any], namespace: str = "", name: str = "", sub: str = "") -> str:
        group, _, version = obj["apiVersion"].rpartition("/")
        resource = self.api.core.registry.find_kind(group, version, obj["kind"])
        assert resource is not None, f"no kind {obj['kind']} of {obj['apiVersion']}"
        root = f"/apis/{group}/{version}" if group else f"/api/{version}"
        inside = f"/namespaces/{namespace}" if resource.namespaced and namespace else ""
        return f"{root}{inside}/{resource.plural}" + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")

    async def create(self, obj: dict[str, Any], namespace: str = "", **query: str) -> Any:
        return await self.call("POST", self.path(obj, namespace), obj, **query)

    async def patch(
        self, obj: dict[str, Any], patch: Any, namespace: str = "", *, style: str = "merge", sub: str = "", **query: str
    ) -> Any:
        """Patch the object of this kind and name."""
        path = self.path(obj, namespace, obj["metadata"]["name"], sub)
        return await self.call("PATCH", path, patch, media=STYLES[style], **query)

    async def delete(self, obj: dict[str, Any], namespace: str = "", options: Any = None) -> Any:
        return await self.call("DELETE", self.path(obj, namespace, obj["metadata"]["name"]), options)

    async def load(self, *patterns: str) -> None:
        """Create everything in files of deploy/."""
        for pattern in patterns:
            for file in sorted(ROOT.glob(pattern)):
                for obj in yaml.safe_load_all(file.read_text()):
                    await self.create(obj, obj["metadata"].get("namespace", ""))


async def refused(asking: Asking, method: str, path: str, body: Any = None) -> StatusError:
    """Call what has to be refused; return how."""
    with pytest.raises(Refused) as caught:
        await asking.call(method, path, body)
    return caught.value
