# SPDX-License-Identifier: Apache-2.0
"""Nobody gives rights that they do not have.

A role may hold only rules that its author has, a binding may name only such a role, unless the author may `escalate`
roles or `bind` that role.

Source: k8s.io/kubernetes, `pkg/registry/rbac/{clusterrole,clusterrolebinding}/policybased`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence

from dynamic_memory.embedded.apiserver.authorization import MASTERS, RbacAuthorizer
from dynamic_memory.embedded.apiserver.core import Admission, AdmissionRequest
from dynamic_memory.embedded.apiserver.errors import forbidden
from dynamic_memory.embedded.apiserver.rbac import GROUP, Attributes, allows
from dynamic_memory.embedded.apiserver.records import Object

__all__ = ["RoleRights"]

ROLES = ("roles", "clusterroles")
BINDINGS = ("rolebindings", "clusterrolebindings")
EVERYTHING: Sequence[Object] = (
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
)


def _single(rule: Object) -> Iterator[tuple[Object, Attributes]]:
    """Yield the rule cut into rules of one verb, group, resource and name each, with what each allows."""
    for verb in rule.get("verbs") or ():
        for url in rule.get("nonResourceURLs") or ():
            yield {"nonResourceURLs": [url], "verbs": [verb]}, Attributes(verb, path=url)
        for group, resource in itertools.product(rule.get("apiGroups") or (), rule.get("resources") or ()):
            plural, _, subresource = resource.partition("/")
            for name in rule.get("resourceNames") or ("",):
                part: Object = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                if name:
                    part["resourceNames"] = [name]
                yield part, Attributes(verb, group, plural, subresource, "", name)


def _shown(rule: Object) -> str:
    parts = {
        "APIGroups": rule.get("apiGroups"),
        "Resources": rule.get("resources"),
        "NonResourceURLs": rule.get("nonResourceURLs"),
        "ResourceNames": rule.get("resourceNames"),
        "Verbs": rule.get("verbs"),
    }
    texts = [f"{key}:[{' '.join(json.dumps(v) for v in values)}]" for key, values in parts.items() if values]
    return "{" + ", ".join(texts) + "}"


def _joined(rules: list[Object]) -> list[Object]:
    """Put the verbs of missing rules that are otherwise the same into one."""
    found: dict[str, Object] = {}
    for rule in rules:
        key = json.dumps({name: value for name, value in rule.items() if name != "verbs"}, sort_keys=True)
        known = found.setdefault(key, {**rule, "verbs": []})
        known["verbs"] = [*known["verbs"], *rule["verbs"]]
    return list(found.values())


class RoleRights:
    """Admission with these rules in front of the policies.

    Args:
        inner: what admits writes otherwise.
        authorizer: knows everybody's rules.

    """

    def __init__(self, inner: Admission, authorizer: RbacAuthorizer) -> None:
        self._inner = inner
        self._authorizer = authorizer

    async def mutate(self, request: AdmissionRequest) -> Object:
        """Leave changes to the policies."""
        return await self._inner.mutate(request)

    async def validate(self, request: AdmissionRequest) -> None:
        """Refuse to give rights away that the caller does not have.

        Raises:
            StatusError: 403, or what the policies raise.

        """
        resource = request.resource
        if resource.group == GROUP and request.object is not None and MASTERS not in request.user.groups:
            if resource.plural in ROLES:
                self._check_role(request, request.object)
            elif resource.plural in BINDINGS:
                self._check_binding(request, request.object)
        await self._inner.validate(request)

    def _may(self, request: AdmissionRequest, verb: str, resource: str, name: str) -> bool:
        wanted = Attributes(verb, GROUP, resource, "", request.namespace, name)
        return self._authorizer.decide(request.user, wanted).allowed

    def _check_role(self, request: AdmissionRequest, role: Object) -> None:
        if self._may(request, "escalate", request.resource.plural, request.name):
            return
        self._check(request, role.get("rules") or ())
        old = request.old_object or {}
        if any((entry.get("aggregationRule") or {}).get("clusterRoleSelectors") for entry in (role, old)):
            own = self._authorizer.rules_of(request.user, request.namespace)
            if _missing(EVERYTHING, own):
                why = "must have cluster-admin privileges to use the aggregationRule"
                raise forbidden(request.resource, request.shown_name, why)

    def _check_binding(self, request: AdmissionRequest, binding: Object) -> None:
        reference = binding.get("roleRef") or {}
        kind, name = str(reference.get("kind", "")), str(reference.get("name", ""))
        if self._may(request, "bind", "clusterroles" if kind == "ClusterRole" else "roles", name):
            return
        rules = self._authorizer.rbac.rules(kind, name, request.namespace)
        if rules is None:
            why = f'{"clusterroles" if kind == "ClusterRole" else "roles"}.{GROUP} "{name}" not found'
            raise forbidden(request.resource, request.shown_name, why)
        self._check(request, [dict(rule) for rule in rules])

    def _check(self, request: AdmissionRequest, rules: Sequence[Object]) -> None:
        missing = _missing(rules, self._authorizer.rules_of(request.user, request.namespace))
        if not missing:
            return
        groups = " ".join(json.dumps(group) for group in request.user.groups)
        shown = "\n".join(sorted(_shown(rule) for rule in _joined(missing)))
        what = "is attempting to grant RBAC permissions not currently held:"
        why = f'user "{request.user.name}" (groups=[{groups}]) {what}\n{shown}'
        raise forbidden(request.resource, request.shown_name, why)


def _missing(rules: Sequence[Object], own: Sequence[Object]) -> list[Object]:
    return [part for rule in rules for part, wanted in _single(rule) if not any(allows(o, wanted) for o in own)]
