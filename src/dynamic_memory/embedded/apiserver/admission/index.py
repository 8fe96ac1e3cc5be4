# SPDX-License-Identifier: Apache-2.0
"""The policies that there are, compiled, and which of them a request may be about.

What is asked for once is remembered until policies, bindings or the registry change. A policy is compiled when a
request may match it, and again only when its spec is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dynamic_memory.embedded.apiserver.admission.matching import Candidate, Constraints
from dynamic_memory.embedded.apiserver.core import AdmissionRequest
from dynamic_memory.embedded.apiserver.records import Event
from dynamic_memory.embedded.apiserver.resource import Registry, StorageKey
from dynamic_memory.embedded.apiserver.store import Store

__all__ = ["GROUP", "Binding", "Hook", "Index", "Match"]

GROUP = "admissionregistration.k8s.io"
P = TypeVar("P")
_Candidates = tuple[tuple[Candidate, ...], tuple[Candidate, ...]]


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding, read once."""

    name: str
    spec: Mapping[str, Any]
    constraints: Constraints


class Hook(Generic[P]):
    """A policy with its bindings."""

    def __init__(self, name: str, obj: Mapping[str, Any], bindings: list[Binding], make: Callable[[Any], P]) -> None:
        self.name = name
        self.spec: Mapping[str, Any] = obj.get("spec") or {}
        self.constraints = Constraints(self.spec.get("matchConstraints"))
        self.bindings = bindings
        self._obj = obj
        self._make = make
        self._policy: P | None = None

    @property
    def policy(self) -> P:
        """The policy, compiled at its first use."""
        if self._policy is None:
            self._policy = self._make(self._obj)
        return self._policy

    def with_bindings(self, bindings: list[Binding]) -> Hook[P]:
        """Return the same policy with other bindings."""
        self.bindings = bindings
        return self


@dataclass(frozen=True, slots=True)
class Match(Generic[P]):
    """A policy that may be about requests of some operation and resource, and how."""

    hook: Hook[P]
    candidates: _Candidates
    bindings: tuple[tuple[Binding, _Candidates], ...]


class Index(Generic[P]):
    """See the module.

    Args:
        store: the objects.
        registry: what is served.
        plural: of the policies.
        make: compiles one.

    """

    def __init__(self, store: Store, registry: Registry, plural: str, make: Callable[[Any], P]) -> None:
        self._store = store
        self._registry = registry
        self._policies = StorageKey(GROUP, plural)
        self._bindings = StorageKey(GROUP, plural.removesuffix("policies") + "policybindings")
        self._make = make
        self._hooks: dict[str, Hook[P]] | None = None
        self._matches: dict[tuple[str, str, str, str, str, bool], tuple[Match[P], ...]] = {}
        self._generation = -1
        store.listen(self._changed)

    def _changed(self, event: Event) -> None:
        if event.record.storage in {self._policies, self._bindings}:
            self._stale = True

    _stale = True

    def matches(self, request: AdmissionRequest) -> tuple[Match[P], ...]:
        """Return the policies that may be about a request, by name."""
        if self._stale or self._generation != self._registry.generation:
            self._refresh()
        if not self._hooks:
            return ()
        resource = request.resource
        key = (
            request.operation,
            resource.group,
            resource.version,
            resource.plural,
            request.subresource,
            bool(request.namespace),
        )
        found = self._matches.get(key)
        if found is None:
            found = self._matches[key] = self._find(request)
        return found

    def _refresh(self) -> None:
        before = self._hooks or {}
        bindings: dict[str, list[Binding]] = {}
        for record in self._store.everything(self._bindings):
            spec = record.object.get("spec") or {}
            made = Binding(record.key[1], spec, Constraints(spec.get("matchResources")))
            bindings.setdefault(str(spec.get("policyName")), []).append(made)
        hooks: dict[str, Hook[P]] = {}
        for record in sorted(self._store.everything(self._policies), key=lambda record: record.key):
            name = record.key[1]
            bound = sorted(bindings.get(name, ()), key=lambda binding: binding.name)
            known = before.get(name)
            spec = record.object.get("spec") or {}
            if known is not None and known.spec == spec:
                hooks[name] = known.with_bindings(bound)
            else:
                hooks[name] = Hook(name, record.object, bound, self._make)
        self._hooks = hooks
        self._matches = {}
        self._generation = self._registry.generation
        self._stale = False

    def _find(self, request: AdmissionRequest) -> tuple[Match[P], ...]:
        resource = request.resource
        if resource.group == GROUP:
            return ()  # policies cannot lock people out of changing policies
        versions = self._registry.versions(resource.storage)

        def candidates(constraints: Constraints) -> _Candidates:
            return constraints.candidates(
                request.operation,
                resource,
                request.subresource,
                namespaced=bool(request.namespace),
                versions=versions,
            )

        found = []
        for hook in (self._hooks or {}).values():
            ways = candidates(hook.constraints)
            if not ways[0] or not hook.bindings:
                continue
            bound = [(binding, candidates(binding.constraints)) for binding in hook.bindings]
            bindings = tuple(pair for pair in bound if pair[1][0])
            if bindings:
                found.append(Match(hook, ways, bindings))
        return tuple(found)
