# SPDX-License-Identifier: Apache-2.0
"""Who a certificate says its holder is: `dynamic-memory://<owner>/node/<name>` or `…/role/<role>`.

The URI is a subject alternative name. The owner is a cluster; a node acts for itself alone; a role is one of the
programs that serve a whole cluster. Parsing is strict: one spelling per identity, nothing escaped, nothing ignored.
"""

from __future__ import annotations

import re

import msgspec

from dynamic_memory.errors import InvalidInput

__all__ = ["CONTROLLER", "NODE", "OPERATOR", "ROLE", "SCHEME", "SERVICE", "Identity", "is_identity", "is_name", "parse"]

SCHEME = "dynamic-memory"
NODE = "node"
ROLE = "role"
CONTROLLER = "controller"
OPERATOR = "operator"
SERVICE = "service"
_ROLES = frozenset({CONTROLLER, OPERATOR, SERVICE})
_MAX_NAME = 253
# A DNS subdomain (RFC 1123), which is what Kubernetes accepts as the name of a node.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Identity(msgspec.Struct, frozen=True):
    """A caller of the Dynamic Memory Service.

    Attributes:
        owner: the cluster that it acts for.
        kind: `node` or `role`.
        name: the node's name, or `controller`, `operator`, `service`.

    """

    owner: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{SCHEME}://{self.owner}/{self.kind}/{self.name}"

    @classmethod
    def node(cls, owner: str, name: str) -> Identity:
        """Driver and updater of a node."""
        return cls(owner, NODE, name)

    @classmethod
    def role(cls, owner: str, name: str) -> Identity:
        """One of the roles of a cluster."""
        return cls(owner, ROLE, name)

    @property
    def is_node(self) -> bool:
        """Whether it may act for one node only."""
        return self.kind == NODE

    def has_role(self, name: str) -> bool:
        """Whether it is this role of its cluster."""
        return self.kind == ROLE and self.name == name


def is_name(text: str) -> bool:
    """Whether a text can be the name of an owner or a node: a DNS subdomain of at most 253 characters."""
    return len(text) <= _MAX_NAME and _NAME.fullmatch(text) is not None


def is_identity(uri: str) -> bool:
    """Whether a URI claims to be an identity of ours, well-formed or not."""
    return uri.lower().startswith(f"{SCHEME}:")


def parse(uri: str) -> Identity:
    """Read an identity.

    Raises:
        InvalidInput: the URI is not exactly of the form that `str(Identity)` has.

    """
    prefix = f"{SCHEME}://"
    parts = uri.removeprefix(prefix).split("/")
    if uri.startswith(prefix) and len(parts) == 3:  # noqa: PLR2004 - owner, kind, name
        owner, kind, name = parts
        known = is_name(name) if kind == NODE else kind == ROLE and name in _ROLES
        if known and is_name(owner):
            return Identity(owner, kind, name)
    raise InvalidInput("identity", f"{prefix}<owner>/node/<name> or {prefix}<owner>/role/<role>", uri)
