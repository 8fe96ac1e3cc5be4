# SPDX-License-Identifier: Apache-2.0
"""What an embedded cluster has of the manifests: namespace, rights, device classes, policies. Workloads run beside it.

The files are those of `deploy/`: in a source tree beside the package, in an installed one part of it.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from dynamic_memory.api.wire import Kind
from dynamic_memory.embedded.apiserver.resource import Registry, Resource
from dynamic_memory.errors import NeverError
from dynamic_memory.kube.interface import Kube

__all__ = ["MANAGER", "ManifestsMissing", "UnservedKind", "apply", "documents", "manifests"]

MANAGER = "dynamic-memory-up"
FIRST_WORKLOAD = "40"
"""Files from this number on are configuration and workloads of a real cluster."""


class ManifestsMissing(NeverError):
    """The package was built without its manifests."""

    def __str__(self) -> str:
        return "the manifests of deploy/ are not part of this installation"


class UnservedKind(NeverError):
    """A manifest is of a kind that the API server does not have.

    Args:
        api_version: of the manifest.
        kind: of the manifest.

    """

    def __init__(self, api_version: str, kind: str) -> None:
        self.api_version = api_version
        self.object_kind = kind
        super().__init__(api_version, kind)

    def __str__(self) -> str:
        return f"the API server does not have {self.api_version} {self.object_kind}"


def manifests() -> list[Traversable]:
    """Return the files, in order.

    Raises:
        ManifestsMissing: there are none.

    """
    packaged = importlib.resources.files("dynamic_memory") / "deploy"
    beside = Path(__file__).parents[4] / "deploy"
    for folder in (packaged, beside):
        if folder.is_dir():
            found = [each for each in folder.iterdir() if each.name.endswith(".yaml") and each.name < FIRST_WORKLOAD]
            if found:
                return sorted(found, key=lambda each: each.name)
    raise ManifestsMissing


def documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a YAML text."""
    yield from (document for document in yaml.safe_load_all(text) if document)


async def apply(kube: Kube, registry: Registry, text: str, *, manager: str = MANAGER) -> list[tuple[str, str]]:
    """Apply the objects of a YAML text on the server's side; return kind and name of each.

    Raises:
        UnservedKind: there is no such kind.
        ApiError: an object was refused.

    """
    done = []
    for document in documents(text):
        group, _, version = document["apiVersion"].rpartition("/")
        found = registry.find_kind(group, version, document["kind"])
        if found is None:
            raise UnservedKind(document["apiVersion"], document["kind"])
        await kube.apply(_kind(found), document, manager=manager, force=True)
        done.append((document["kind"], document["metadata"]["name"]))
    return done


def _kind(found: Resource) -> Kind[dict[str, Any]]:
    return Kind(
        group=found.group,
        version=found.version,
        kind=found.kind,
        plural=found.plural,
        namespaced=found.namespaced,
        type=dict,
    )
