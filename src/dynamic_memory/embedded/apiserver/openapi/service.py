# SPDX-License-Identifier: Apache-2.0
"""`/openapi/v3`, `/openapi/v3/<group version>` and `/openapi/v2`: documents made when first asked for.

The index names each document with a hash of what it is made of, and clients keep documents by that hash; so it is
computed from the kinds and the sources of their schemas, without making the document.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from typing import Any

import msgspec.json

from dynamic_memory import __version__
from dynamic_memory.embedded.apiserver.documents import Document, json_document
from dynamic_memory.embedded.apiserver.negotiation import JSON, strict_match
from dynamic_memory.embedded.apiserver.openapi.components import Components
from dynamic_memory.embedded.apiserver.openapi.paths import resource_paths
from dynamic_memory.embedded.apiserver.openapi.v2 import to_v2
from dynamic_memory.embedded.apiserver.resource import Registry, Resource

__all__ = ["OpenApi"]

Json = dict[str, Any]

V2 = "/openapi/v2"
V3 = "/openapi/v3"
INFO = {"title": "Kubernetes", "version": "unversioned"}
FOREVER = "public, immutable"


class OpenApi:
    """The OpenAPI documents of a Registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._generation = -1
        self._hashes: dict[str, str] = {}
        self._groups: dict[str, list[Resource]] = {}
        self._made: dict[str, tuple[str, bytes]] = {}
        self._basis = f"{__version__} {importlib.metadata.version('lightkube-models')}"

    def get(self, path: str, accept: str = "", query_hash: str = "", if_none_match: str = "") -> Document | None:
        """Return the document at a path, None when there is none.

        Args:
            path: `/openapi/v2`, `/openapi/v3` or `/openapi/v3/<api/v1 or apis/group/version>`.
            accept: the Accept header; only JSON is served, anything else is 406.
            query_hash: the parameter `hash`; a wrong one is sent on to the right one.
            if_none_match: the header of that name.

        """
        path = path.rstrip("/")
        if path not in {V2, V3} and not path.startswith(f"{V3}/"):
            return None
        self._refresh()
        if strict_match(accept, (JSON,)) is None:
            return Document(b"", "text/plain", {"Vary": "Accept"}, 406)
        if path == V3:
            return self._index().unless(if_none_match)
        name = path.removeprefix(f"{V3}/")
        if path == V2:
            etag = self._hash_all()
            body = self._kept(path, etag, self._v2)
        elif name in self._groups:
            etag = self._hashes[name]
            if query_hash and query_hash != etag:
                return Document(b"", JSON, {"Location": self._url(name)}, 301)
            body = self._kept(name, etag, lambda: self._document(self._groups[name]))
        else:
            return None
        headers = {"ETag": f'"{etag}"', "Vary": "Accept"}
        if query_hash:
            headers["Cache-Control"] = FOREVER
        return Document(body, JSON, headers).unless(if_none_match)

    def _refresh(self) -> None:
        if self._generation == self._registry.generation:
            return
        self._groups.clear()
        for resource in self._registry.resources():
            name = f"apis/{resource.group}/{resource.version}" if resource.group else f"api/{resource.version}"
            self._groups.setdefault(name, []).append(resource)
        for resources in self._groups.values():
            resources.sort(key=lambda resource: resource.plural)
        self._hashes = {name: self._hash(resources) for name, resources in self._groups.items()}
        self._made = {name: made for name, made in self._made.items() if self._hashes.get(name) == made[0]}
        self._generation = self._registry.generation

    def _hash(self, resources: list[Resource]) -> str:
        content = [self._basis, [_basis(resource) for resource in resources]]
        return hashlib.sha512(msgspec.json.encode(content)).hexdigest().upper()

    def _hash_all(self) -> str:
        return hashlib.sha512("".join(sorted(self._hashes.values())).encode()).hexdigest().upper()

    def _url(self, name: str) -> str:
        return f"{V3}/{name}?hash={self._hashes[name]}"

    def _index(self) -> Document:
        paths = {name: {"serverRelativeURL": self._url(name)} for name in sorted(self._groups)}
        return json_document({"paths": paths}, tagged=True)

    def _kept(self, name: str, etag: str, make: Any) -> bytes:
        made = self._made.get(name)
        if made is None or made[0] != etag:
            made = self._made[name] = etag, msgspec.json.encode(make())
        return made[1]

    @staticmethod
    def _document(resources: list[Resource]) -> Json:
        components = Components()
        paths: dict[str, Json] = {}
        for resource in resources:
            paths |= resource_paths(resource, components)
        return {
            "openapi": "3.0.0",
            "info": INFO,
            "paths": dict(sorted(paths.items())),
            "components": {"schemas": components.finish()},
        }

    def _v2(self) -> Json:
        return to_v2((self._document(resources) for resources in self._groups.values()), INFO)


def _basis(resource: Resource) -> Json:
    """Return what the document of a kind depends on; builtin types depend on the versions of two packages."""
    subresources = {name: [sub.group, sub.version, sub.kind, sub.verbs] for name, sub in resource.subresources.items()}
    names = [resource.group, resource.version, resource.kind, resource.plural, resource.list_kind]
    custom = None if resource.builtin else resource.schema.source
    return {"n": names, "ns": resource.namespaced, "v": resource.verbs, "s": subresources, "c": custom}
