# SPDX-License-Identifier: Apache-2.0
"""Who may do what, by roles and bindings: rules are only ever added up, nothing forbids.

A ClusterRole with an aggregationRule has the rules of the roles that it selects; they are looked up when it is asked,
not written into it. Source: k8s.io/kubernetes, `pkg/registry/rbac/validation/rule.go`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.resource import World

__all__ = ["GROUP", "Attributes", "Grant", "Rbac", "allows", "service_account"]

Object = Mapping[str, Any]

GROUP = "rbac.authorization.k8s.io"
ACCOUNT = "system:serviceaccount:"


@dataclasses.dataclass(frozen=True, slots=True)
class Attributes:
    """What somebody wants to do: to a resource, or, when `path` is given, to a path that is no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: str = ""
    """The field selector, where the rights on a collection depend on it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """One rule that a user has, and where it comes from (`ClusterRoleBinding "a" of ClusterRole "b" to User "c"`)."""

    rule: Object
    source: str


def service_account(name: str) -> tuple[str, str] | None:
    """Return namespace and name of the service account that a user is, None when it is none."""
    if not name.startswith(ACCOUNT):
        return None
    namespace, _, account = name.removeprefix(ACCOUNT).partition(":")
    return (namespace, account) if namespace and account and ":" not in account else None


def allows(rule: Object, wanted: Attributes) -> bool:
    """Return whether a rule allows something."""
    verbs = rule.get("verbs") or ()
    if wanted.verb not in verbs and "*" not in verbs:
        return False
    if wanted.path:
        return any(_path_matches(entry, wanted.path) for entry in rule.get("nonResourceURLs") or ())
    groups = rule.get("apiGroups") or ()
    if wanted.group not in groups and "*" not in groups:
        return False
    names = rule.get("resourceNames")
    if names and wanted.name not in names:
        return False
    return _resource_matches(rule.get("resources") or (), wanted)


def _resource_matches(resources: Sequence[str], wanted: Attributes) -> bool:
    if "*" in resources:
        return True
    if not wanted.subresource:
        return wanted.resource in resources
    return f"{wanted.resource}/{wanted.subresource}" in resources or f"*/{wanted.subresource}" in resources


def _path_matches(entry: str, path: str) -> bool:
    return entry in {"*", path} or (entry.endswith("*") and path.startswith(entry.rstrip("*")))


def _subject(subject: Object, user: UserInfo, namespace: str) -> bool:
    match subject.get("kind"):
        case "User":
            return user.name == subject.get("name")
        case "Group":
            return subject.get("name") in user.groups
        case "ServiceAccount":
            home = subject.get("namespace") or namespace
            return bool(home) and user.name == f"{ACCOUNT}{home}:{subject.get('name')}"
    return False


def _subject_text(subject: Object, namespace: str) -> str:
    name = subject.get("name", "")
    if subject.get("kind") == "ServiceAccount":
        name = f"{name}/{subject.get('namespace') or namespace}"
    return f'{subject.get("kind")} "{name}"'


def _selected(labels: Mapping[str, str], selectors: Sequence[Object]) -> bool:
    for selector in selectors:
        if all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
            _expression(entry, labels) for entry in selector.get("matchExpressions") or ()
        ):
            return True
    return False


def _expression(entry: Object, labels: Mapping[str, str]) -> bool:
    value = labels.get(entry.get("key", ""))
    values = entry.get("values") or ()
    match entry.get("operator"):
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False


class Rbac:
    """Rules of users, read from the stored objects.

    Args:
        world: the stored objects.

    """

    def __init__(self, world: World) -> None:
        self._world = world

    def rules(self, kind: str, name: str, namespace: str = "") -> Sequence[Object] | None:
        """Return the rules of a role, None when there is no such role."""
        plural = "clusterroles" if kind == "ClusterRole" else "roles"
        role = self._world.get(GROUP, plural, "" if kind == "ClusterRole" else namespace, name)
        if role is None:
            return None
        own: list[Object] = list(role.get("rules") or ())
        selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
        if selectors and kind == "ClusterRole":
            own += self._aggregated(selectors, {name})
        return own

    def _aggregated(self, selectors: Sequence[Object], seen: set[str]) -> list[Object]:
        """Return the rules of selected roles; a selected role may itself select others."""
        found: list[Object] = []
        for role in self._world.list(GROUP, "clusterroles"):
            metadata = role.get("metadata", {})
            if metadata.get("name") in seen or not _selected(metadata.get("labels") or {}, selectors):
                continue
            seen.add(metadata["name"])
            found += role.get("rules") or ()
            if more := (role.get("aggregationRule") or {}).get("clusterRoleSelectors"):
                found += self._aggregated(more, seen)
        return found

    def grants(self, user: UserInfo, namespace: str, missing: list[str]) -> Iterator[Grant]:
        """Yield each rule that a user has in a namespace (empty: in the whole cluster alone).

        Args:
            user: who.
            namespace: where.
            missing: gets a text for each role that is bound but does not exist.

        """
        yield from self._bound("clusterrolebindings", user, "", missing)
        if namespace:
            yield from self._bound("rolebindings", user, namespace, missing)

    def _bound(self, plural: str, user: UserInfo, namespace: str, missing: list[str]) -> Iterator[Grant]:
        for binding in self._world.list(GROUP, plural, namespace or None):
            subject = next((s for s in binding.get("subjects") or () if _subject(s, user, namespace)), None)
            if subject is None:
                continue
            role = binding.get("roleRef") or {}
            kind, name = str(role.get("kind", "")), str(role.get("name", ""))
            rules = self.rules(kind, name, namespace)
            if rules is None:
                missing.append(f'{kind.lower()}.{GROUP} "{name}" not found')
                continue
            own = binding.get("metadata", {}).get("name", "")
            what = f'RoleBinding "{own}/{namespace}"' if namespace else f'ClusterRoleBinding "{own}"'
            source = f'{what} of {kind} "{name}" to {_subject_text(subject, namespace)}'
            for rule in rules:
                yield Grant(rule, source)
