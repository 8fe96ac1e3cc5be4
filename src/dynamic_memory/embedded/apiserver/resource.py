# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002 - hooks get what any kind needs
"""What is served: a Resource per group, version and plural, and the Registry of them all.

A builtin kind is a CustomResourceDefinition that ships with the server: both end as a Resource, and everything after
that (pipeline, discovery, OpenAPI, merging) reads Resources. What is special about a kind is its Strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dynamic_memory.embedded.apiserver.schema import ANYTHING, Schema

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.errors import Cause

__all__ = [
    "ALL_VERBS",
    "Column",
    "Context",
    "Registry",
    "Resource",
    "StorageKey",
    "Strategy",
    "Subresource",
    "World",
    "version_order",
]

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
"""The verbs of an ordinary resource, in the order of discovery."""


class StorageKey(NamedTuple):
    """Names the store of a kind: all of its versions share one."""

    group: str
    plural: str


@dataclass(frozen=True, slots=True)
class Subresource:
    """A subresource: what kind its bodies are, and its verbs."""

    kind: str
    group: str
    version: str
    verbs: tuple[str, ...]
    schema: Callable[[], Schema] | None = None
    """None where bodies are the parent's."""


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column of a CRD."""

    name: str
    type: str
    json_path: str
    format: str = ""
    description: str = ""
    priority: int = 0


class World(Protocol):
    """What strategies may read of other objects (Service addresses, PriorityClasses); never writes."""

    def get(self, group: str, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object in its storage version, or None."""

    def list(self, group: str, plural: str, namespace: str | None = None) -> Collection[dict[str, Any]]:
        """Return the objects in their storage version."""


@dataclass(slots=True)
class Context:
    """The circumstances of a write: strategies know neither clock nor store by themselves."""

    now: str = ""
    """RFC 3339, seconds."""
    user: str = ""
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the authenticator says beside, such as the node that a token is bound to."""
    world: World | None = None
    resource: Resource | None = None


class Strategy:
    """What is special about a kind; this one does nothing special. Objects are in the version of the request.

    Every method gets objects that it may change and returns them, or new ones.

    Attributes:
        asks_for_required: whether it says itself which required fields are absent; otherwise the schema does.
        keeps_status: whether a new object may come with a status (nodes register with one).

    """

    asks_for_required = False
    keeps_status = False

    def admit(self, obj: dict[str, Any], ctx: Context, subresource: str, old: dict[str, Any] | None) -> dict[str, Any]:
        """Fill in what admission plugins of the real server do, before policies; `old` is None for a new object."""
        return obj

    def prepare_create(self, obj: dict[str, Any], ctx: Context) -> dict[str, Any]:
        """Reset what clients may not set and fill in what depends on other objects, after mutating admission."""
        return obj

    def prepare_update(
        self, new: dict[str, Any], old: dict[str, Any], ctx: Context, subresource: str | None
    ) -> dict[str, Any]:
        """Keep what this request may not change, after mutating admission."""
        return new

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Fill in defaults that a schema cannot say; called after decoding of every body and of merged patches."""
        return obj

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Return what is wrong with a new object."""
        return []

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Return what is wrong with a changed object."""
        return []

    def warnings(self, obj: dict[str, Any]) -> list[str]:
        """Return the texts of Warning headers."""
        return []


DEFAULT_STRATEGY = Strategy()


def _same(obj: dict[str, Any]) -> dict[str, Any]:
    return obj


@dataclass(eq=False, slots=True)
class Resource:
    """One served group, version and plural.

    Attributes:
        make_schema: builds the schema when it is first asked for: most kinds are never used in one run.
        to_storage, from_storage: conversion of objects between this version and the stored one.
        served: whether clients may use it; a version that is only stored is not.
        columns: printer columns of a CRD; tables of builtin kinds are functions.
        selectable_fields: paths (`spec.nodeName`) beside metadata.name and metadata.namespace.
        builtin: of Kubernetes itself. Only such kinds take strategic merge patches; all others, also those of the
            prototype, are handled as kinds of CRDs (pruned, validated by their schema).

    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    list_kind: str = ""
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: dict[str, Subresource] = field(default_factory=dict)
    storage: StorageKey = field(default_factory=lambda: StorageKey("", ""))
    storage_version: str = ""
    to_storage: Callable[[dict[str, Any]], dict[str, Any]] = _same
    from_storage: Callable[[dict[str, Any]], dict[str, Any]] = _same
    columns: tuple[Column, ...] = ()
    selectable_fields: frozenset[str] = frozenset()
    field_value: Callable[[Mapping[str, Any], str], str | None] | None = None
    """Values of selectable fields where they are not simply what stands at the path."""
    make_schema: Callable[[], Schema] = lambda: ANYTHING
    make_strategy: Callable[[], Strategy] = lambda: DEFAULT_STRATEGY
    builtin: bool = True
    stored: bool = True
    """False for requests that are answered and forgotten (SelfSubjectAccessReview)."""
    scale_paths: Mapping[str, str] | None = None
    """specReplicasPath, statusReplicasPath, labelSelectorPath of the scale subresource of a CRD."""
    deprecated: str = ""
    """The text of the Warning header for each use of this version."""
    _schema: Schema | None = None
    _strategy: Strategy | None = None

    def __post_init__(self) -> None:
        self.list_kind = self.list_kind or f"{self.kind}List"
        self.singular = self.singular or self.kind.lower()
        if not self.storage.plural:
            self.storage = StorageKey(self.group, self.plural)
        self.storage_version = self.storage_version or self.version

    @property
    def schema(self) -> Schema:
        """The schema of whole objects, with apiVersion, kind and metadata."""
        if self._schema is None:
            self._schema = self.make_schema()
        return self._schema

    @property
    def strategy(self) -> Strategy:
        """What is special about the kind."""
        if self._strategy is None:
            self._strategy = self.make_strategy()
        return self._strategy

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`plural.group`, as texts of errors name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def select(self, obj: Mapping[str, Any], path: str) -> str | None:
        """Return the value of a field for field selectors, "" if the object has none; None: no such field label."""
        if path == "metadata.name" or (path == "metadata.namespace" and self.namespaced):
            return str(obj.get("metadata", {}).get(path[9:], ""))
        if path not in self.selectable_fields:
            return None
        if self.field_value is not None:
            return self.field_value(obj, path)
        value: Any = obj
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            return ""
        return str(value).lower() if isinstance(value, bool) else str(value)


class Registry:
    """All Resources; CRDs come and go.

    Attributes:
        generation: changes whenever the content does.

    """

    def __init__(self, resources: Collection[Resource] = ()) -> None:
        self.generation = 0
        self._by_plural: dict[tuple[str, str, str], Resource] = {}
        self._by_kind: dict[tuple[str, str, str], Resource] = {}
        for resource in resources:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Serve a resource, instead of one with the same group, version and plural if there is one."""
        key = resource.group, resource.version, resource.plural
        before = self._by_plural.get(key)
        if before is not None:
            self._by_kind.pop((before.group, before.version, before.kind), None)
        self._by_plural[key] = resource
        self._by_kind[resource.group, resource.version, resource.kind] = resource
        self.generation += 1

    def remove(self, resource: Resource) -> None:
        """Stop serving a resource; nothing happens if it is not served."""
        key = resource.group, resource.version, resource.plural
        if self._by_plural.get(key) is resource:
            del self._by_plural[key]
            self._by_kind.pop((resource.group, resource.version, resource.kind), None)
            self.generation += 1

    def resources(self) -> Iterator[Resource]:
        """Return every resource, in order of registration."""
        return iter(tuple(self._by_plural.values()))

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return the resource of a path."""
        return self._by_plural.get((group, version, plural))

    def serves(self, group: str) -> bool:
        """Say whether anything of a group is served."""
        return any(known == group for known, _, _ in self._by_plural)

    def knows(self, group: str, version: str, kind: str) -> bool:
        """Say whether there is a kind, also of subresources, lists and options."""
        if kind == "DeleteOptions" or (group, version, kind) == ("policy", "v1beta1", "Eviction"):
            return True
        if self.find_kind(group, version, kind) is not None:
            return True
        if kind.endswith("List"):
            return self.find_kind(group, version, kind.removesuffix("List")) is not None
        return any(
            (sub.group, sub.version, sub.kind) == (group, version, kind)
            for resource in self._by_plural.values()
            for sub in resource.subresources.values()
        )

    def find_kind(self, group: str, version: str, kind: str) -> Resource | None:
        """Return the resource of an apiVersion and kind."""
        return self._by_kind.get((group, version, kind))

    def versions(self, storage: StorageKey) -> tuple[Resource, ...]:
        """Return the resources that share a store."""
        return tuple(resource for resource in self._by_plural.values() if resource.storage == storage)

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Return the versions of each group, the preferred one first."""
        found: dict[str, list[str]] = {}
        for group, version, _ in self._by_plural:
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        return {group: tuple(sorted(versions, key=version_order)) for group, versions in found.items()}


def version_order(version: str) -> tuple[Any, ...]:
    """Sort versions as Kubernetes does: v2, v1, v1beta2, v1beta1, v1alpha1, then other names by the alphabet."""
    stable, sep, rest = version[1:].partition("beta")
    level = 1 if sep else 0
    if not sep:
        stable, sep, rest = version[1:].partition("alpha")
        level = 2 if sep else 0
    if version[:1] != "v" or not stable.isdecimal() or (sep and not rest.isdecimal()):
        return (1, version)
    return (0, level, -int(stable), -int(rest or 0))
