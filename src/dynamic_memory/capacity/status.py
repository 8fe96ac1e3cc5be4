# SPDX-License-Identifier: Apache-2.0
"""What the Node object shall say, as the body of one server-side apply to its status; nothing, if it says it. Pure.

In the view `extended` that is the extended resource (which the kubelet leaves alone and copies to allocatable by
itself) and our condition. In the view `status` it is `memory` as well: on nodes whose kubelet does not write that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from dynamic_memory.api import names
from dynamic_memory.api.core import Node, NodeStatus
from dynamic_memory.api.wire import QuantityText
from dynamic_memory.capacity.preflight import Check, Finding
from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.interface import Memory
from dynamic_memory.quantity import format_bytes, parse_bytes

__all__ = ["READY", "View", "Wanted", "body", "counted", "wanted"]

View = Literal["extended", "status"]
READY = "MemoryUsable"
"""Reason of a condition without findings; with some it is the `Check` of the worst."""
MAX_MESSAGE = 1024


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the status shall hold.

    Attributes:
        capacity: bytes by resource.
        allocatable: bytes by resource.
        status: of the condition.
        reason: of the condition.
        message: of the condition.

    """

    capacity: dict[str, int]
    allocatable: dict[str, int]
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


def wanted(
    memory: Memory | None, findings: Sequence[Finding], node: NodeStatus, *, view: View, simulated: bool
) -> Wanted:
    """Return what the status shall hold.

    Args:
        memory: of the host; None if it cannot be read: then what the Node object says of it is kept.
        findings: what is missing, the worst first.
        node: the status as it is.
        view: which fields are ours.
        simulated: the host is simulated, which the message says.

    """
    capacity: dict[str, int] = {}
    allocatable: dict[str, int] = {}
    if memory is not None:
        capacity[names.EXTENDED_RESOURCE] = memory.fabric_online
        if view == "status":
            reserved = max(0, (_bytes(node.capacity, "memory") or 0) - (_bytes(node.allocatable, "memory") or 0))
            capacity["memory"] = memory.total
            allocatable["memory"] = max(0, memory.total - reserved)
            allocatable[names.EXTENDED_RESOURCE] = memory.fabric_online
    else:
        capacity[names.EXTENDED_RESOURCE] = _bytes(node.capacity, names.EXTENDED_RESOURCE) or 0
        if view == "status":
            allocatable[names.EXTENDED_RESOURCE] = _bytes(node.allocatable, names.EXTENDED_RESOURCE) or 0
            for values, held in ((capacity, node.capacity), (allocatable, node.allocatable)):
                if (known := _bytes(held, "memory")) is not None:
                    values["memory"] = known
    worst = findings[0].check if findings else None
    online = "" if memory is None else f"{format_bytes(memory.fabric_online)} of fabric memory online"
    parts = [part for part in ("simulated host" if simulated else "", online, *map(str, findings)) if part]
    return Wanted(
        capacity=capacity,
        allocatable=allocatable,
        status="Unknown" if worst is Check.HOST else "False" if worst is not None and worst.blocks else "True",
        reason=READY if worst is None else worst.value,
        message="; ".join(parts)[:MAX_MESSAGE],
    )


def body(wanted: Wanted, node: Node, now: str) -> dict[str, Any] | None:
    """Return the body to apply to the status, or None if nothing is different.

    All fields of ours are in it: what an apply leaves out, it takes away. The uid keeps it from a Node object that was
    registered anew meanwhile, whose status has to be looked at first.

    Args:
        wanted: what the status shall hold.
        node: the object as it is.
        now: RFC 3339 time.

    """
    status = node.status
    condition = next((entry for entry in status.conditions if entry.type == names.NODE_CONDITION), None)
    said = condition and (condition.status, condition.reason, condition.message)
    if (
        said == (wanted.status, wanted.reason, wanted.message)
        and all(_bytes(status.capacity, name) == value for name, value in wanted.capacity.items())
        and all(_bytes(status.allocatable, name) == value for name, value in wanted.allocatable.items())
    ):
        return None
    since = condition.last_transition_time if condition is not None and condition.status == wanted.status else now
    fields: dict[str, Any] = {
        "capacity": {name: format_bytes(value) for name, value in wanted.capacity.items()},
        "conditions": [
            {
                "type": names.NODE_CONDITION,
                "status": wanted.status,
                "reason": wanted.reason,
                "message": wanted.message,
                "lastTransitionTime": since or now,
                "lastHeartbeatTime": now,
            }
        ],
    }
    if wanted.allocatable:
        fields["allocatable"] = {name: format_bytes(value) for name, value in wanted.allocatable.items()}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.metadata.name, "uid": node.metadata.uid},
        "status": fields,
    }


def counted(node: Node | None) -> int | None:
    """Return the bytes of memory that the kubelet tells of."""
    return None if node is None else _bytes(node.status.capacity, "memory")


def _bytes(resources: dict[str, QuantityText], name: str) -> int | None:
    try:
        return parse_bytes(resources[name])
    except (KeyError, InvalidInput):
        return None
