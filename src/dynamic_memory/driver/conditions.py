# SPDX-License-Identifier: Apache-2.0
"""The conditions of a claim's devices, as one body for one server-side apply.

The API server takes an apply as *all* that this field manager says: an entry that is left out is deleted. So there is
one body a claim, always with every pool device of the claim and both conditions, and with the claim's UID, so that it
cannot land in a claim of the same name made later. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from dynamic_memory.api import names
from dynamic_memory.api.kinds import RESOURCE_CLAIMS
from dynamic_memory.api.meta import Condition
from dynamic_memory.api.resource import DeviceRequestAllocationResult, ResourceClaim
from dynamic_memory.driver.planner import Reported
from dynamic_memory.kube import conditions

__all__ = ["Report", "body", "reported", "says"]

MAX_MESSAGE = 1024


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be said of a share.

    Attributes:
        attached: the bytes are online on the node.
        failed: they will not be: the scheduler shall take the claim away from this node.
        reason: one of `names.Reason`.
        message: a sentence for people.

    """

    attached: bool
    failed: bool = False
    reason: str
    message: str

    def conditions(self) -> list[Condition]:
        """Return both conditions, without times."""
        message = self.message if len(self.message) <= MAX_MESSAGE else f"{self.message[: MAX_MESSAGE - 3]}..."
        return [
            Condition(type=type_, status="True" if status else "False", reason=self.reason, message=message)
            for type_, status in ((names.ATTACHED, self.attached), (names.ATTACH_FAILED, self.failed))
        ]


def reported(claim: ResourceClaim, tag: str) -> Reported:
    """Return what the claim says of the share with this tag."""
    existing = _existing(claim, tag)
    if _is_true(existing, names.ATTACH_FAILED):
        return Reported.FAILED
    return Reported.ATTACHED if _is_true(existing, names.ATTACHED) else Reported.NOTHING


def says(claim: ResourceClaim, tag: str, report: Report) -> bool:
    """Tell whether the claim says exactly this of the share already."""
    existing = {
        c.type: (c.status, c.reason, c.message)
        for c in _existing(claim, tag)
        if c.type in (names.ATTACHED, names.ATTACH_FAILED)
    }
    return existing == {c.type: (c.status, c.reason, c.message) for c in report.conditions()}


def body(
    claim: ResourceClaim, devices: Iterable[DeviceRequestAllocationResult], report: Report, *, now: str
) -> Mapping[str, Any]:
    """Return the body of the server-side apply on the claim's status.

    Args:
        claim: the claim as last read; its transition times are carried over.
        devices: all pool devices of the claim.
        report: what to say of them.
        now: time of a transition, RFC 3339.

    """
    return {
        "apiVersion": RESOURCE_CLAIMS.api_version,
        "kind": RESOURCE_CLAIMS.kind,
        "metadata": {
            "name": claim.metadata.name,
            "namespace": claim.metadata.namespace,
            "uid": claim.metadata.uid,
        },
        "status": {"devices": [_entry(claim, device, report, now) for device in devices]},
    }


def _entry(claim: ResourceClaim, device: DeviceRequestAllocationResult, report: Report, now: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"driver": device.driver, "pool": device.pool, "device": device.device}
    if device.share_id is not None:
        entry["shareID"] = device.share_id
    existing = _existing(claim, device.share_id)
    wanted = report.conditions()
    merged = existing
    for condition in wanted:
        merged = conditions.merge(merged, condition, now)
    types = {c.type for c in wanted}
    entry["conditions"] = [
        {
            "type": c.type,
            "status": c.status,
            "reason": c.reason,
            "message": c.message,
            "lastTransitionTime": c.last_transition_time,
        }
        for c in merged
        if c.type in types
    ]
    return entry


def _existing(claim: ResourceClaim, tag: str | None) -> list[Condition]:
    for device in claim.status.devices:
        if device.driver == names.DRIVER and device.share_id == tag:
            return list(device.conditions)
    return []


def _is_true(existing: Iterable[Condition], type_: str) -> bool:
    return any(c.type == type_ and c.status == "True" for c in existing)
