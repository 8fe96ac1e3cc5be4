# SPDX-License-Identifier: Apache-2.0
"""Which requests a policy or a binding is about: rules, selectors, scope, equivalent versions.

The part that depends on nothing but operation, resource and subresource is worked out once (`Constraints.candidate`);
names, namespaces and labels are looked at for each request.

Source: k8s.io/apiserver, pkg/admission/plugin/policy/matching and pkg/admission/plugin/webhook/predicates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynamic_memory.embedded.apiserver.core import AdmissionRequest
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.selectors import labels_match

__all__ = ["Candidate", "Constraints"]

Labels = Mapping[str, str]
_NAMESPACES = ("", "namespaces")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way in which constraints may match.

    Attributes:
        resource: the version of the kind that the rule names, and in which expressions see the object.
        names: that the rule is limited to; empty = all.

    """

    resource: Resource
    names: frozenset[str]


class Constraints:
    """`matchConstraints` of a policy, or `matchResources` of a binding (None: everything matches)."""

    def __init__(self, source: Mapping[str, Any] | None) -> None:
        source = source or {}
        self._rules: Sequence[Mapping[str, Any]] = source.get("resourceRules") or ()
        self._excludes: Sequence[Mapping[str, Any]] = source.get("excludeResourceRules") or ()
        self._equivalent = (source.get("matchPolicy") or "Equivalent") == "Equivalent"
        self._namespaces: Mapping[str, Any] = source.get("namespaceSelector") or {}
        self._objects: Mapping[str, Any] = source.get("objectSelector") or {}

    def candidates(
        self, operation: str, resource: Resource, subresource: str, *, namespaced: bool, versions: Iterable[Resource]
    ) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
        """Return the ways in which such requests match, and those in which they are excluded.

        Args:
            operation: CREATE, UPDATE, DELETE or CONNECT.
            resource: of the request.
            subresource: of the request.
            namespaced: whether the request is in a namespace.
            versions: resources that share a store with this one.

        """

        def found(rules: Sequence[Mapping[str, Any]]) -> tuple[Candidate, ...]:
            def those(other: Resource) -> list[Candidate]:
                return [
                    Candidate(other, frozenset(rule.get("resourceNames") or ()))
                    for rule in rules
                    if _matches(rule, operation, other, subresource, namespaced=namespaced)
                ]

            here = those(resource)
            if self._equivalent:
                here += [candidate for other in versions if other is not resource for candidate in those(other)]
            return tuple(here)

        rules = found(self._rules) if self._rules else (Candidate(resource, frozenset()),)
        return rules, found(self._excludes)

    def matches(self, request: AdmissionRequest, namespace_labels: Callable[[], Labels]) -> bool:
        """Say whether the selectors take a request."""
        resource = request.resource
        is_namespace = (resource.group, resource.plural) == _NAMESPACES
        if _asks(self._namespaces) and (request.namespace or is_namespace):
            found: Labels
            if is_namespace and not request.subresource and request.operation in {"CREATE", "UPDATE"}:
                found = _labels(request.object)
            else:
                found = namespace_labels()
            if not labels_match(self._namespaces, found):
                return False
        if not _asks(self._objects):
            return True
        seen = (obj for obj in (request.object, request.old_object) if obj is not None)
        return any(labels_match(self._objects, _labels(obj)) for obj in seen)


def _asks(selector: Mapping[str, Any]) -> bool:
    return bool(selector.get("matchLabels") or selector.get("matchExpressions"))


def _labels(obj: Mapping[str, Any] | None) -> Labels:
    return ((obj or {}).get("metadata") or {}).get("labels") or {}


def named(candidates: Iterable[Candidate], name: str) -> Candidate | None:
    """Return the first candidate that takes a name."""
    return next((candidate for candidate in candidates if not candidate.names or name in candidate.names), None)


def _matches(
    rule: Mapping[str, Any], operation: str, resource: Resource, subresource: str, *, namespaced: bool
) -> bool:
    return (
        _in_scope(rule.get("scope") or "*", resource, namespaced=namespaced)
        and _listed(rule.get("operations"), operation)
        and _listed(rule.get("apiGroups"), resource.group)
        and _listed(rule.get("apiVersions"), resource.version)
        and any(_resource_matches(entry, resource.plural, subresource) for entry in rule.get("resources") or ())
    )


def _in_scope(scope: str, resource: Resource, *, namespaced: bool) -> bool:
    in_namespace = namespaced and (resource.group, resource.plural) != _NAMESPACES
    return scope == "*" or (scope == "Namespaced") == in_namespace


def _listed(entries: Sequence[str] | None, wanted: str) -> bool:
    return any(entry in {"*", wanted} for entry in entries or ())


def _resource_matches(entry: str, plural: str, subresource: str) -> bool:
    name, _, sub = entry.partition("/")
    return name in {"*", plural} and sub in {"*", subresource}
