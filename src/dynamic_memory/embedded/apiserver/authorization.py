# SPDX-License-Identifier: Apache-2.0
"""Decisions about requests: everything is allowed, or RBAC and the rights of nodes decide.

`system:masters` may do all. Why something is not allowed is said with the name of who says it,
as 1.37 does. Decisions are remembered until a role, a binding, or what rights of
nodes follow from changes.
"""

from __future__ import annotations

import dataclasses
from contextvars import ContextVar
from typing import Any, Protocol

from dynamic_memory.embedded.apiserver.node_rights import node_name, node_opinion
from dynamic_memory.embedded.apiserver.rbac import GROUP, Attributes, Rbac, allows
from dynamic_memory.embedded.apiserver.records import Event
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.resource import World

__all__ = ["MASTERS", "AllowAll", "Decider", "Decision", "RbacAuthorizer", "request_verb"]

MASTERS = "system:masters"
KEPT = 20_000  # decisions that are remembered
RELATED = frozenset({"pods", "persistentvolumes", "resourceslices", "volumeattachments"})
"""Kinds that rights of nodes follow from."""

request_verb: ContextVar[str] = ContextVar("request_verb", default="update")
"""The verb of the request that is being answered: admission sees an update where the client sent a patch."""


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, and why (not)."""

    allowed: bool
    reason: str = ""


class Decider(Protocol):
    """What both ways of authorization have beside `authorize`."""

    def decide(self, user: UserInfo, wanted: Attributes) -> Decision:
        """Decide with a reason."""

    def rules_of(self, user: UserInfo, namespace: str) -> list[dict[str, Any]]:
        """Return every rule that a user has in a namespace."""


class AllowAll:
    """Without RBAC: whoever reaches the server may do everything."""

    def decide(self, user: UserInfo, wanted: Attributes) -> Decision:  # noqa: ARG002 - the form of a Decider
        """Allow."""
        return Decision(allowed=True)

    def rules_of(self, user: UserInfo, namespace: str) -> list[dict[str, Any]]:  # noqa: ARG002 - the same
        """Return the rules that allow everything."""
        return [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["*"], "nonResourceURLs": ["*"]},
        ]


class RbacAuthorizer:
    """RBAC over the stored roles and bindings.

    Args:
        world: the stored objects.

    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.rbac = Rbac(world)
        self._known: dict[tuple[str, tuple[str, ...], Attributes], Decision] = {}

    def heard(self, event: Event) -> None:
        """Forget decisions when what they rest on has changed; called for every change in the store."""
        storage = event.record.storage
        if storage.group == GROUP or storage.plural in RELATED:
            self._known.clear()

    def decide(self, user: UserInfo, wanted: Attributes) -> Decision:
        """Decide with a reason."""
        if MASTERS in user.groups:
            return Decision(allowed=True)
        if wanted.fields and node_name(user) is None:
            wanted = dataclasses.replace(wanted, fields="")  # rights of others do not depend on selectors
        key = (user.name, tuple(user.groups), wanted)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            found = self._known[key] = self._decide(user, wanted)
        return found

    def _decide(self, user: UserInfo, wanted: Attributes) -> Decision:
        reason = ""
        if (node := node_name(user)) is not None:
            opinion = node_opinion(node, wanted, self._world)
            if opinion is None:
                return Decision(allowed=True)
            reason = f"node: {opinion}" if opinion else ""
        missing: list[str] = []
        for grant in self.rbac.grants(user, wanted.namespace, missing):
            if allows(grant.rule, wanted):
                return Decision(allowed=True, reason=f"RBAC: allowed by {grant.source}")
        if missing:
            texts = list(dict.fromkeys(missing))
            rbac = f"rbac: RBAC: {texts[0]}" if len(texts) == 1 else f"rbac: RBAC: [{', '.join(texts)}]"
            reason = f"{reason}\n{rbac}" if reason else rbac
        return Decision(allowed=False, reason=reason)

    def authorize(
        self,
        user: UserInfo,
        verb: str,
        *,
        group: str = "",
        resource: str = "",
        subresource: str = "",
        namespace: str = "",
        name: str = "",
        path: str = "",
        fields: str = "",
    ) -> str | None:
        """Return None if it is allowed, else why it is not; empty when all to be said is that no rule allows it."""
        request_verb.set(verb)
        decision = self.decide(user, Attributes(verb, group, resource, subresource, namespace, name, path, fields))
        return None if decision.allowed else decision.reason

    def rules_of(self, user: UserInfo, namespace: str) -> list[dict[str, Any]]:
        """Return every rule that a user has in a namespace."""
        if MASTERS in user.groups:
            return AllowAll().rules_of(user, namespace)
        return [dict(grant.rule) for grant in self.rbac.grants(user, namespace, [])]
