# SPDX-License-Identifier: Apache-2.0
"""What the parts of the pipeline share: store, registry, clock, and the hooks of admission."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from dynamic_memory.embedded.apiserver.clock import Clock
from dynamic_memory.embedded.apiserver.monitoring import Monitoring
from dynamic_memory.embedded.apiserver.paging import Snapshots
from dynamic_memory.embedded.apiserver.records import Object, Record
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.resource import Context, Registry, Resource, StorageKey
from dynamic_memory.embedded.apiserver.watch import Selection

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.store import Store

__all__ = ["DEFINITIONS", "NAMESPACES", "Admission", "AdmissionRequest", "Core", "OpenAdmission", "Operation"]

NAMESPACES: Final = StorageKey("", "namespaces")
DEFINITIONS: Final = StorageKey("apiextensions.k8s.io", "customresourcedefinitions")
Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@dataclass(slots=True)
class AdmissionRequest:
    """A write, as admission sees it. Objects are in the version of the request and not to be changed in place.

    `name` is that of the request: empty for what is deleted with its collection, and for a new object whose name is not
    generated yet.
    """

    operation: Operation
    resource: Resource
    subresource: str
    name: str
    namespace: str
    object: Object | None
    old_object: Object | None
    options: Object
    user: UserInfo
    dry_run: bool
    warnings: list[str] = field(default_factory=list)
    """Texts of Warning headers, added to by policies."""
    audit: Object = field(default_factory=dict)
    """What is found out about the request, for the audit log; policies add `annotations`."""

    @property
    def shown_name(self) -> str:
        """The name that a refusal tells."""
        if self.name:
            return self.name
        metadata = (self.object or {}).get("metadata") or {}
        return str(metadata.get("name") or metadata.get("generateName") or "Unknown")

    def annotate(self, key: str, value: str) -> None:
        """Have the audit log say something; what stands there already stays."""
        self.audit.setdefault("annotations", {}).setdefault(key, value)


class Admission(Protocol):
    """Policies that change or refuse writes."""

    async def mutate(self, request: AdmissionRequest) -> Object:
        """Return the object as it shall become; the same one if nothing changes it.

        Raises:
            StatusError: a policy cannot be applied.

        """

    async def validate(self, request: AdmissionRequest) -> None:
        """Refuse a write.

        Raises:
            StatusError: a policy does not allow it.

        """


class OpenAdmission:
    """Allows everything."""

    async def mutate(self, request: AdmissionRequest) -> Object:
        """Return the object as it is."""
        assert request.object is not None  # noqa: S101 - deletions are not mutated
        return request.object

    async def validate(self, request: AdmissionRequest) -> None:
        """Allow the write."""


class _World:
    """The read-only view that strategies have of other objects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, group: str, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        record = self._store.head(StorageKey(group, plural), (namespace, name))
        return None if record is None else record.object

    def list(self, group: str, plural: str, namespace: str | None = None) -> Collection[dict[str, Any]]:
        found = self._store.select(StorageKey(group, plural), Selection(namespace or ""))
        return [record.object for record in found]


class Core:
    """See the module.

    Args:
        store: the objects.
        registry: what is served.
        clock: the server's time.

    """

    def __init__(self, store: Store, registry: Registry, clock: Clock) -> None:
        self.store = store
        self.registry = registry
        self.clock = clock
        self.snapshots = Snapshots()
        self.monitoring = Monitoring()
        self.admission: Admission = OpenAdmission()
        self.finishers: dict[StorageKey, Callable[[Object], Object]] = {}
        """What the server itself says on objects of a kind, last of all before they are stored."""
        self.closed: set[StorageKey] = set()
        """Kinds of which nothing new may be made, because their definition is being deleted."""
        self._world = _World(store)

    def context(self, resource: Resource, user: UserInfo) -> Context:
        """Return the circumstances of a write, for strategies."""
        return Context(
            now=self.clock.stamp(),
            user=user.name,
            groups=tuple(user.groups),
            uid=user.uid,
            extra=user.extra,
            world=self._world,
            resource=resource,
        )

    def namespace(self, name: str) -> Record | None:
        """Return a namespace."""
        return self.store.head(NAMESPACES, ("", name))
