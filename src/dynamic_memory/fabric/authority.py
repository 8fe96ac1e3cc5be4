# SPDX-License-Identifier: Apache-2.0
"""Who may do what (I6). Pure, and the only place that decides it.

A node adds and removes its own memory, and sees nothing else. Controller and operator see all of their cluster, and
may ask for a release; the controller may have it done for a host that is off, the operator in any case. Nobody sees,
or learns of, anything of another owner.
"""

from __future__ import annotations

import enum

from dynamic_memory.fabric.errors import BadArgument, Denied
from dynamic_memory.fabric.identity import CONTROLLER, OPERATOR, Identity
from dynamic_memory.fabric.model import Share

__all__ = ["Removal", "check_add", "check_reader", "host_scope", "removal", "sees"]


class Removal(enum.Enum):
    """What a RemoveMemory may lead to."""

    DO = "do"
    """Release now."""
    REQUEST = "request"
    """Ask the node."""
    DO_IF_LAPSED = "do-if-lapsed"
    """Ask the node, and release if its session has lapsed."""


def check_reader(caller: Identity) -> None:
    """Refuse who has nothing to see here.

    Raises:
        Denied: the caller is neither node, controller nor operator.

    """
    if not (caller.is_node or _is_manager(caller)):
        raise Denied(f"{caller} is no caller of this service")


def check_add(caller: Identity, node: str) -> None:
    """Refuse an AddMemory of anyone but the node itself.

    Raises:
        Denied: it is for another node, or by a role.

    """
    if not caller.is_node or caller.name != node:
        raise Denied(f"{caller} may not add memory to node {node!r}")


def removal(caller: Identity, share: Share | None, *, host_off: bool, force: bool) -> Removal:
    """What this caller's RemoveMemory of a share means; None stands for a share that is not there, or another owner's.

    Raises:
        Denied: not for this caller.
        BadArgument: a node says of itself that it is off.

    """
    check_reader(caller)
    if force and not caller.has_role(OPERATOR):
        raise Denied("only an operator may force a release")
    if caller.is_node:
        if host_off:
            raise BadArgument("host_off", "false from a node, which cannot be off when it calls")
        if share is not None and not sees(caller, share):
            raise Denied(f"{caller} does not hold {share.tag}")
        return Removal.DO
    if force:
        return Removal.DO
    return Removal.DO_IF_LAPSED if host_off else Removal.REQUEST


def sees(caller: Identity, share: Share) -> bool:
    """Whether a share is one that the caller may know of."""
    return share.owner == caller.owner and (not caller.is_node or share.node == caller.name)


def host_scope(caller: Identity, node: str | None) -> str | None:
    """The node whose host a GetCapacity shows; None for all.

    Raises:
        Denied: a node asks for another one.

    """
    check_reader(caller)
    if not caller.is_node:
        return node
    if node not in {None, caller.name}:
        raise Denied(f"{caller} may not see node {node!r}")
    return caller.name


def _is_manager(caller: Identity) -> bool:
    return caller.has_role(CONTROLLER) or caller.has_role(OPERATOR)
