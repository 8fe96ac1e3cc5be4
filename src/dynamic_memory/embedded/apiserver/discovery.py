# SPDX-License-Identifier: Apache-2.0
"""What is served here, told in the four ways that clients ask: `/api` and `/apis`, each aggregated or one by one.

kubectl takes short names, scopes and verbs from these documents, and any client finds out from them which path a kind
has. Aggregated documents come in version v2 (kubectl from 1.30 on) and v2beta1 (older); an answer in a version that was
not asked for makes old clients believe that there is nothing, so the Accept header is matched exactly. The core group
is under `/api` alone. Documents are made when first asked for and kept until the Registry changes.
"""

from __future__ import annotations

import base64
import hashlib
import platform
from collections.abc import Callable
from typing import Any

from dynamic_memory.embedded.apiserver.documents import Document, json_document
from dynamic_memory.embedded.apiserver.negotiation import discovery_version
from dynamic_memory.embedded.apiserver.resource import Registry, Resource

__all__ = ["KUBERNETES", "Discovery", "version_info"]

KUBERNETES = (1, 37)
"""The version whose behaviour this server has."""

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"

# Earlier groups win where a name is ambiguous (events). The order is the real server's; custom groups follow by name.
ORDER = (
    "",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
)
LAST = "metrics.k8s.io"  # an extension: never preferred

PROBES = ("/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version")


def version_info() -> dict[str, str]:
    """Return the answer to `/version`; the suffix says that this is not the real server."""
    major, minor = KUBERNETES
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": str(major),
        "minor": str(minor),
        "emulationMajor": str(major),
        "emulationMinor": str(minor),
        "minCompatibilityMajor": str(major),
        "minCompatibilityMinor": str(minor - 1),
        "gitVersion": f"v{major}.{minor}.0+dynamic-memory",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": f"cpython{platform.python_version()}",
        "platform": f"{platform.system().lower()}/{machine}",
    }


def _group_order(group: str) -> tuple[int, str]:
    if group == LAST:
        return len(ORDER) + 1, group
    return (ORDER.index(group) if group in ORDER else len(ORDER)), group


def _storage_hash(resource: Resource) -> str:
    """Return what tells clients that two resources are the same objects."""
    stored = f"{resource.storage.group}/{resource.storage_version}, Kind={resource.kind}"
    return base64.b64encode(hashlib.sha256(stored.encode()).digest()[:8]).decode()


class Discovery:
    """Discovery documents of a Registry.

    Args:
        registry: what is served.
        address: `host:port` that clients reach the server by.

    """

    def __init__(self, registry: Registry, address: str = "127.0.0.1:55441") -> None:
        self._registry = registry
        self._address = address
        self._made: dict[tuple[str, str], Document | None] = {}
        self._generation = -1

    def get(self, path: str, accept: str = "", if_none_match: str = "") -> Document | None:
        """Return the document at a path, None when discovery has none there.

        Args:
            path: `/`, `/version`, `/api`, `/apis`, `/api/v1`, `/apis/<group>` or `/apis/<group>/<version>`.
            accept: the Accept header.
            if_none_match: the header of that name.

        """
        if self._generation != self._registry.generation:
            self._made.clear()
            self._generation = self._registry.generation
        path = path.rstrip("/") or "/"
        version = discovery_version(accept) if path in {"/api", "/apis"} else ""
        key = path, version
        if key not in self._made:
            found = self._make(path, version)
            if found is None:
                return None
            self._made[key] = found
        document = self._made[key]
        return document.unless(if_none_match) if document is not None else None

    def _make(self, path: str, version: str) -> Document | None:
        root: dict[str, Callable[[], Any]] = {
            "/": self._paths,
            "/version": version_info,
            "/api": self._api_versions,
            "/apis": self._api_groups,
        }
        if version:
            content = self._aggregated(path, version)
            kind = AGGREGATED.format(version)
            # The header names of HTTP have dashes, which keyword arguments cannot.
            return json_document(content, kind, tagged=True, **{"Vary": "Accept", "Cache-Control": "public"})
        if path in root:
            return json_document(root[path]())
        parts = path.strip("/").split("/")
        match parts:
            case ["api", version]:
                return self._resources("", version)
            case ["apis", group] if group:
                return self._group_document(group)
            case ["apis", group, version] if group:
                return self._resources(group, version)
        return None

    def _groups(self) -> list[tuple[str, tuple[str, ...]]]:
        return sorted(self._registry.groups().items(), key=lambda entry: _group_order(entry[0]))

    def _of(self, group: str, version: str) -> list[Resource]:
        found = [r for r in self._registry.resources() if (r.group, r.version) == (group, version)]
        return sorted(found, key=lambda resource: resource.plural)

    def _paths(self) -> dict[str, Any]:
        paths = ["/.well-known/openid-configuration", "/api", "/apis", *PROBES]
        for group, versions in self._groups():
            if group:
                paths.append(f"/apis/{group}")
            paths += [f"/apis/{group}/{version}" if group else f"/api/{version}" for version in versions]
        return {"paths": sorted(paths)}

    def _api_versions(self) -> dict[str, Any]:
        where = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}]
        versions = list(self._registry.groups().get("", ()))
        return {"kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": where}

    @staticmethod
    def _group(group: str, versions: tuple[str, ...]) -> dict[str, Any]:
        entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
        return {"name": group, "versions": entries, "preferredVersion": entries[0]}

    def _api_groups(self) -> dict[str, Any]:
        groups = [self._group(group, versions) for group, versions in self._groups() if group]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def _group_document(self, group: str) -> Document | None:
        versions = self._registry.groups().get(group)
        if not versions:
            return None
        return json_document({"kind": "APIGroup", "apiVersion": "v1", **self._group(group, versions)})

    def _resources(self, group: str, version: str) -> Document | None:
        resources = self._of(group, version)
        if not resources:
            return None
        entries: list[dict[str, Any]] = []
        for resource in resources:
            entry: dict[str, Any] = {
                "name": resource.plural,
                "singularName": resource.singular,
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": sorted(resource.verbs),
            }
            if resource.short_names:
                entry["shortNames"] = list(resource.short_names)
            if resource.categories:
                entry["categories"] = list(resource.categories)
            if resource.stored:
                entry["storageVersionHash"] = _storage_hash(resource)
            entries.append(entry)
            for name, sub in sorted(resource.subresources.items()):
                entry = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
                if (sub.group, sub.version) != (resource.group, resource.version):
                    entry |= {"group": sub.group, "version": sub.version} if sub.group else {"version": sub.version}
                entries.append({**entry, "kind": sub.kind, "verbs": sorted(sub.verbs)})
        head = {"kind": "APIResourceList", "apiVersion": "v1"} if group else {"kind": "APIResourceList"}
        return json_document({**head, "groupVersion": f"{group}/{version}" if group else version, "resources": entries})

    def _aggregated(self, path: str, version: str) -> dict[str, Any]:
        items = []
        for group, versions in self._groups():
            if bool(group) != (path == "/apis"):
                continue
            entries = [
                {
                    "version": name,
                    "resources": [_aggregated_resource(resource) for resource in self._of(group, name)],
                    "freshness": "Current",
                }
                for name in versions
            ]
            items.append({"metadata": {"name": group} if group else {}, "versions": entries})
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{version}",
            "metadata": {},
            "items": items,
        }


def _aggregated_resource(resource: Resource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": sorted(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    if resource.subresources:
        found["subresources"] = [
            {
                "subresource": name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": sorted(sub.verbs),
            }
            for name, sub in sorted(resource.subresources.items())
        ]
    return found
