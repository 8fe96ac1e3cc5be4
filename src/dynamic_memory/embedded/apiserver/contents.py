# SPDX-License-Identifier: Apache-2.0
"""What a write makes of an object's fields: unknown ones, defaults, owners, validity."""

from __future__ import annotations

from collections.abc import Collection

from dynamic_memory.embedded.apiserver.bodies import may_repeat
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.decoding import check_kind, decode, strict_error
from dynamic_memory.embedded.apiserver.duplicates import duplicate_fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.patch import managed_fields
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.resource import Resource, StorageKey
from dynamic_memory.embedded.apiserver.schema import Schema
from dynamic_memory.embedded.apiserver.targets import Target
from dynamic_memory.embedded.apiserver.validation import check_create, check_update, complete

__all__ = ["Contents", "reset_of"]


class Contents:
    """See the module."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._generation = -1
        self._single: dict[StorageKey, bool] = {}
        """Whether a kind has one version only."""

    def check(self, target: Target, obj: Object, raw: bytes = b"", found: Collection[str] = ()) -> Object:
        """Return what a client sent as an object of the kind; refuse, warn of, or ignore what is unknown in it.

        Args:
            target: of the write.
            obj: as sent, or as a patch made it.
            raw: the body, if it is JSON: names may be in it twice.
            found: what was found wrong in a patch.

        Raises:
            StatusError: 400, there are unknown fields, or some of the wrong type.

        """
        resource = target.resource
        if resource.builtin:
            check_kind(self._core.registry, obj, resource.group, resource.version, resource.kind)
        made, problems = decode(resource, obj)
        if target.validation == "Ignore":
            return made
        if raw.lstrip()[:1] == b"{" and may_repeat(raw, obj):
            problems += duplicate_fields(raw)
        problems = [*found, *problems]
        if problems and target.validation == "Strict":
            raise strict_error(resource.version, resource.kind, problems)
        target.warnings += problems
        return made

    def canonical(self, target: Target, obj: Object) -> Object:
        """Return an object with quantities and times in their canonical form."""
        return decode(target.resource, obj)[0]

    def default(self, target: Target, obj: Object) -> Object:
        """Fill in defaults."""
        return complete(target.resource, obj)

    def own(self, target: Target, old: Object | None, new: Object) -> Object:
        """Return the object with its managedFields."""
        resource = target.resource
        return managed_fields.update(
            resource.schema,
            old,
            new,
            manager=target.manager,
            subresource=target.subresource or None,
            api_version=resource.api_version,
            time=self._core.clock.stamp(),
            reset=reset_of(target),
            convert=self.convert(resource),
        )

    def validate(self, target: Target, new: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with an object."""
        if old is None:
            return check_create(target.resource, new)
        return check_update(target.resource, new, old, target.subresource or None)

    def convert(self, resource: Resource) -> managed_fields.Convert | None:
        """Return what gives objects in other versions of a kind; None if there is only one."""
        registry = self._core.registry
        if self._generation != registry.generation:
            self._generation = registry.generation
            self._single.clear()
        single = self._single.get(resource.storage)
        if single is None:
            single = self._single[resource.storage] = len(registry.versions(resource.storage)) == 1
        if single:
            return None

        def convert(obj: Object, version: str) -> tuple[Schema, Object] | None:
            if version == resource.api_version:
                return resource.schema, obj
            group, _, number = version.rpartition("/")
            other = registry.find(group, number, resource.plural)
            if other is None:
                return None
            return other.schema, other.from_storage(resource.to_storage(obj))

        return convert


def reset_of(target: Target) -> Collection[tuple[str, ...]]:
    """Return the fields that a write cannot change."""
    resource = target.resource
    return managed_fields.reset_fields(
        resource.group,
        resource.kind,
        target.subresource or None,
        has_status="status" in resource.subresources,
        builtin=resource.builtin,
    )
