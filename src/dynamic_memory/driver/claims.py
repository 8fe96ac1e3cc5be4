# SPDX-License-Identifier: Apache-2.0
"""What a claim asks of one node: its share of a pool device, or the sentence why this driver refuses it.

Admission policies refuse bad claims where they are written; what slips through them (a cluster without the policies, a
claim older than they are) is refused here, before anything is attached. Pure.
"""

from __future__ import annotations

import re

import msgspec

from dynamic_memory import quantity
from dynamic_memory.api import names
from dynamic_memory.api.resource import (
    DeviceConstraint,
    DeviceRequest,
    DeviceRequestAllocationResult,
    ExactDeviceRequest,
    ResourceClaim,
)
from dynamic_memory.errors import InvalidInput, NeverError

__all__ = [
    "ClaimShare",
    "Pod",
    "RefusedClaim",
    "fabric_results",
    "node_of",
    "our_results",
    "pods_of",
    "share_of",
]

WINDOW_SUFFIX = "-window"
MAX_REQUEST_NAME = 63
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class RefusedClaim(NeverError):
    """The claim is not one that this driver accepts.

    Args:
        why: a sentence for the one who wrote the claim.

    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return self.why


class Pod(msgspec.Struct, frozen=True):
    """A pod that may use a claim; it is in the claim's namespace."""

    name: str
    uid: str


class ClaimShare(msgspec.Struct, frozen=True, kw_only=True):
    """The one share of fabric memory of a claim.

    Attributes:
        tag: shareID of the pool device's result, which is also the tag of the extents.
        pool: name of the pool (`fabric/<domain>`).
        device: the pool device that the scheduler charged.
        size: bytes.
        request: name of the claim's request.
        window: the node's window device that the scheduler charged.
        window_request: name of the request for it.
        window_share_id: shareID of the window's result.

    """

    tag: str
    pool: str
    device: str
    size: int
    request: str
    window: str
    window_request: str
    window_share_id: str


def our_results(claim: ResourceClaim) -> list[DeviceRequestAllocationResult]:
    """Return the allocated devices of the claim that are this driver's."""
    allocation = claim.status.allocation
    return [] if allocation is None else [r for r in allocation.devices.results if r.driver == names.DRIVER]


def fabric_results(claim: ResourceClaim) -> list[DeviceRequestAllocationResult]:
    """Return the allocated pool devices of the claim: the ones that carry conditions."""
    return [r for r in our_results(claim) if names.fabric_domain_of(r.pool) is not None]


def node_of(claim: ResourceClaim) -> str | None:
    """Return the node that the claim is allocated to, or None.

    A claim with a device that binds to its node, or comes from a node's slice, gets exactly this selector from the
    scheduler (KEP-5007).
    """
    allocation = claim.status.allocation
    if allocation is None or allocation.node_selector is None:
        return None
    terms = allocation.node_selector.node_selector_terms
    fields = terms[0].match_fields if len(terms) == 1 else []
    if len(fields) != 1 or fields[0].key != "metadata.name" or fields[0].operator != "In":
        return None
    return fields[0].values[0] if len(fields[0].values) == 1 else None


def pods_of(claim: ResourceClaim) -> list[Pod]:
    """Return the pods that the claim is reserved for."""
    return [Pod(name=c.name, uid=c.uid) for c in claim.status.reserved_for if c.resource == "pods" and not c.api_group]


def share_of(claim: ResourceClaim, node: str) -> ClaimShare | None:
    """Return the share that the claim holds on this node; None if it asks nothing of this driver there.

    Raises:
        RefusedClaim: it asks in a way that this driver does not serve.

    """
    # the node's own memory is another matter, in the same claim or without fabric memory: see `local_claims`
    ours = [result for result in our_results(claim) if result.pool != names.memory_pool(node)]
    if not ours or node_of(claim) != node:
        return None
    fabric = fabric_results(claim)
    windows = [r for r in ours if r.pool == names.windows_pool(node)]
    for result in ours:
        if result not in fabric and result not in windows:
            raise RefusedClaim(f"device {result.device} of pool {result.pool} is not one of this node's driver")
    if len(fabric) != 1 or len(windows) != 1:
        raise RefusedClaim(
            f"the claim holds {len(fabric)} shares of fabric memory and {len(windows)} of the node's windows; "
            "one of each is served: use one claim for each fabric request"
        )
    share, window = fabric[0], windows[0]
    size, window_size = _size(share), _size(window)
    if size != window_size:
        raise RefusedClaim(
            f"request {share.request} has {size} bytes, its window {window.request} has {window_size}: "
            "both must have the same size"
        )
    _check_requests(claim, share.request, window.request)
    return ClaimShare(
        tag=_tag(share),
        pool=share.pool,
        device=share.device,
        size=size,
        request=share.request,
        window=window.device,
        window_request=window.request,
        window_share_id=_tag(window),
    )


def _tag(result: DeviceRequestAllocationResult) -> str:
    if result.share_id is None or not UUID.fullmatch(result.share_id):
        raise RefusedClaim(f"device {result.device} of pool {result.pool} was allocated without a shareID")
    return result.share_id


def _size(result: DeviceRequestAllocationResult) -> int:
    text = result.consumed_capacity.get(names.CAPACITY_SIZE)
    if text is None:
        raise RefusedClaim(f"request {result.request} was allocated without the capacity {names.CAPACITY_SIZE!r}")
    try:
        size = quantity.parse_bytes(text)
    except InvalidInput as error:
        raise RefusedClaim(f"request {result.request}: {error}") from error
    if size <= 0:
        raise RefusedClaim(f"request {result.request} was allocated {text} bytes")
    return size


def _check_requests(claim: ResourceClaim, share: str, window: str) -> None:
    """Refuse forms of request that the driver, or the rules around it, cannot follow."""
    by_name = {request.name: request for request in claim.spec.devices.requests}
    for name in (share, window):
        if "/" in name:
            raise RefusedClaim(f"request {name} is an alternative (firstAvailable): ask for fabric memory exactly")
        exactly = _exactly(by_name.get(name), name)
        if exactly.admin_access:
            raise RefusedClaim(f"request {name} asks for adminAccess, which fabric memory does not have")
        if exactly.allocation_mode not in ("", "ExactCount") or exactly.count not in (0, 1):
            raise RefusedClaim(f"request {name} must ask for one device (ExactCount, count 1)")
    if len(share) + len(WINDOW_SUFFIX) > MAX_REQUEST_NAME:
        raise RefusedClaim(f"request name {share} is too long: {MAX_REQUEST_NAME - len(WINDOW_SUFFIX)} characters")
    if not any(_ties(constraint, share, window) for constraint in claim.spec.devices.constraints):
        raise RefusedClaim(
            f"requests {share} and {window} must be tied by matchAttribute "
            f"{names.DRIVER}/{names.FABRIC_DOMAIN_ATTRIBUTE}"
        )


def _exactly(request: DeviceRequest | None, name: str) -> ExactDeviceRequest:
    if request is None or request.exactly is None:
        raise RefusedClaim(f"request {name} is not an exact request of the claim")
    return request.exactly


def _ties(constraint: DeviceConstraint, share: str, window: str) -> bool:
    if constraint.match_attribute != f"{names.DRIVER}/{names.FABRIC_DOMAIN_ATTRIBUTE}":
        return False
    return not constraint.requests or {share, window} <= set(constraint.requests)
